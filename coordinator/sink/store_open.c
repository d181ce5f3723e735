// SPDX-License-Identifier: Apache-2.0
/*
 * store_open: a run directory as a crash left it becomes one that is written on.
 *
 * DESIGN: first everything is looked at and nothing changed: closed parts are there with their sizes, the bytes of open ones have the
 * hashes that the journal tells. Bytes that are missing or differ are either damage, which is refused with its place, or what a power cut took
 * before it was synced: no later record knows that the commit which named them was durable. Then the run steps back to the commit before,
 * and the cells since are done again.
 *
 * Then, in this order: cut the journal; cut open files, sync them and their names; sync the journal; finish renames that it
 * ordered; remove files that it does not name; record the epoch. Each step only relies on what the steps before made durable.
 */
#include "coordinator/sink/store_core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static bool is_durable(const struct df_store *s)
{
	return s->config.fsync != DF_FSYNC_NEVER;
}

uint32_t df_store_want_bits(const struct df_store_config *config)
{
	uint32_t bits = 1U << DF_OUTPUT_REJECTS;
	for (unsigned k = 0; k < DF_N_OUTPUT; k++)
		bits |= config->want[k] ? 1U << k : 0;
	return bits;
}

static enum df_err append_epoch(struct df_store *s, uint32_t epoch, struct df_fail *fail)
{
	struct df_buf *b = &s->job.commit;
	df_buf_reset(b);
	enum df_err err = df_journal_put_epoch(b, epoch, s->config.boot_id);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a journal record");
	err = df_journal_append(&s->journal, DF_JOURNAL_EPOCH, df_buf_str(b), fail);
	df_buf_reset(b);
	return err;
}

static enum df_err sync_journal(struct df_store *s, struct df_fail *fail)
{
	return is_durable(s) ? df_journal_sync(&s->journal, fail) : DF_OK;
}

static enum df_err sync_directory(struct df_store *s, struct df_fail *fail)
{
	if (is_durable(s) && s->io->sync_dir(s->io->self, s->place.dir_fd) < 0)
		return df_fail_errno(fail, "cannot sync the run directory");
	return DF_OK;
}

static enum df_err begin(struct df_store *s, struct df_fail *fail)
{
	const struct df_journal_header header = {.run_id = s->config.run_id,
						 .fingerprint = s->config.fingerprint,
						 .want = df_store_want_bits(&s->config),
						 .zstd = s->config.zstd,
						 .npy_item_bytes = s->config.npy_item_bytes,
						 .version = df_str_from(DF_VERSION)};
	DF_TRY(df_parts_check_unnamed(&s->parts, true, fail)); /* of a journal without a record, too */
	DF_TRY(df_parts_sweep(&s->parts, fail));
	if (s->io->truncate(s->io->self, s->journal.fd, 0) < 0)
		return df_fail_errno(fail, "cannot cut '%s'", DF_JOURNAL_NAME);
	enum df_err err = df_journal_put_header(&s->job.commit, &header);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a journal record");
	DF_TRY(df_journal_append(&s->journal, DF_JOURNAL_HEADER, df_buf_str(&s->job.commit), fail));
	DF_TRY(append_epoch(s, 1, fail));
	DF_TRY(sync_journal(s, fail));
	return sync_directory(s, fail);
}

static enum df_err check_header(const struct df_store *s, const struct df_journal_header *h, struct df_fail *fail)
{
	if (h->fingerprint != s->config.fingerprint)
		return df_fail(fail, DF_ERR_CHANGED,
			       "the run in this directory was made with another pipeline, other options or other input "
			       "(fingerprint %016llx, now "
			       "%016llx); run it as before, use another directory, or --force-restart",
			       (unsigned long long)h->fingerprint, (unsigned long long)s->config.fingerprint);
	if (h->want != df_store_want_bits(&s->config) || h->zstd != s->config.zstd ||
	    h->npy_item_bytes != s->config.npy_item_bytes)
		return df_fail(fail, DF_ERR_CHANGED,
			       "the run in this directory writes other files (output format, compression or number "
			       "type); run it as before, use "
			       "another directory, or --force-restart");
	return DF_OK;
}

/* The oldest commit that a file does not hold any more. */
struct lost {
	bool any;
	uint64_t seq; /* its record */
	struct df_fail why;
};

/* Opens and checks the files of the open set. What was lost of them is told when no sync stands between: then the run can step back. */
static enum df_err reopen_parts(struct df_store *s, const struct df_replay *r, struct lost *ret_lost,
				struct df_fail *fail)
{
	*ret_lost = (struct lost){0};
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		size_t n_good = 0;
		struct df_fail why = {0};
		if (r->open[k].end == 0)
			continue;
		enum df_err err = df_parts_reopen(&s->parts, &r->open[k], r->mark[k], r->n_mark[k],
						  r->durable > r->mark[k][0].seq, &n_good, &why);
		uint64_t seq = err == DF_ERR_CORRUPT ? r->mark[k][n_good].seq : 0;
		if (err != DF_OK && (err != DF_ERR_CORRUPT || seq < r->durable))
			return df_fail(fail, err, "%s", why.msg);
		if (err != DF_OK && (!ret_lost->any || seq < ret_lost->seq))
			*ret_lost = (struct lost){true, seq, why};
	}
	return DF_OK;
}

/* Files that were synced are there with their size; the bytes of others are read unless the machine has been up since. */
static enum df_err check_closed(const struct df_store *s, const struct df_replay *r, struct df_fail *fail)
{
	bool was_off = r->boot_id == 0 || r->boot_id != s->config.boot_id;
	for (size_t i = 0; i < r->n_closed; i++) {
		bool synced = r->closed[i].seq < r->durable;
		DF_TRY(df_parts_check_closed(&s->place, &r->closed[i], synced, was_off && !synced, fail));
	}
	return DF_OK;
}

static uint64_t count_cells(const struct df_replay *r)
{
	uint64_t n = 0;
	for (size_t i = 0; i < r->n_cells; i++)
		n += r->cells[i].cells.n;
	return n;
}

/* The journal again, without the record `lost` and all behind it: what it named there is done once more. */
static enum df_err step_back(struct df_store *s, struct df_replay *r, const struct lost *lost,
			     struct df_recovered *recovered, struct df_fail *fail)
{
	uint64_t n_before = count_cells(r);
	uint32_t epoch = r->epoch;
	df_replay_release(r);
	df_replay_init(r);
	r->stop = lost->seq;
	DF_TRY(df_journal_replay(s->io, s->journal.fd, r, fail));
	r->epoch = epoch > r->epoch ? epoch : r->epoch; /* an epoch's number is never used again */
	recovered->lost = lost->why;
	char *way_out = strchr(recovered->lost.msg, ';'); /* nothing is to be done about it */
	if (way_out)
		*way_out = '\0';
	recovered->lost_cells = n_before - count_cells(r);
	return DF_OK;
}

static void start_set(struct df_store *s, const struct df_replay *r)
{
	s->journal.end = r->good_bytes;
	s->journal.seq = r->seq;
	s->journal.chain = r->chain;
	s->journal.durable = r->durable < r->seq ? r->durable : r->seq;
	df_parts_release(&s->parts);
	df_parts_init(&s->parts, &s->place, r->no);
}

/* Only looks. When this fails, the directory is as it was, so that a file can be put back. */
static enum df_err look(struct df_store *s, struct df_replay *r, struct df_recovered *recovered, struct df_fail *fail)
{
	struct lost lost;
	DF_TRY(check_header(s, &r->header, fail));
	start_set(s, r);
	DF_TRY(check_closed(s, r, fail));
	if (r->finished)
		return DF_OK;
	DF_TRY(df_parts_check_unnamed(&s->parts, r->durable > 0, fail));
	DF_TRY(reopen_parts(s, r, &lost, fail));
	if (!lost.any)
		return DF_OK;
	DF_TRY(step_back(s, r, &lost, recovered, fail));
	start_set(s, r);
	DF_TRY(reopen_parts(s, r, &lost, fail));
	return lost.any ? df_fail(fail, DF_ERR_CORRUPT, "%s", lost.why.msg) : DF_OK; /* changed under our eyes */
}

static enum df_err sync_parts(struct df_store *s, struct df_fail *fail)
{
	struct df_journal_file file[DF_N_OUTPUT];
	size_t n = df_parts_kept(&s->parts, file);
	if (!is_durable(s))
		return DF_OK;
	DF_TRY(df_parts_sync(&s->parts, file, n, fail));
	return sync_directory(s, fail);
}

static enum df_err complete_parts(struct df_store *s, const struct df_replay *r, struct df_fail *fail)
{
	bool any = false;
	for (size_t i = 0; i < r->n_closed; i++) {
		const struct df_journal_file *file = &r->closed[i];
		bool changed = false;
		DF_TRY(df_parts_complete(&s->place, file, is_durable(s), file->seq < r->durable, &changed, fail));
		if (file->dim)
			s->parts.dim = file->dim;
		any |= changed;
		if (df_store_add_info(s, file, false) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the list of parts");
	}
	return any ? sync_directory(s, fail) : DF_OK;
}

/* Left alone, but what it says must be there and stay: the process that wrote the last record may not have lived to sync it. */
static enum df_err leave_finished(struct df_store *s, const struct df_replay *r, struct df_fail *fail)
{
	s->over = true;
	DF_TRY(complete_parts(s, r, fail));
	DF_TRY(sync_journal(s, fail));
	return sync_directory(s, fail);
}

static enum df_err go_on(struct df_store *s, struct df_replay *r, struct df_recovered *recovered, struct df_fail *fail)
{
	DF_TRY(look(s, r, recovered, fail));
	for (size_t i = 0; i < r->n_counter; i++) {
		uint64_t *id = NULL;
		if (df_map_put(&s->names.ids, r->counter[i].name, i, &id) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for counters");
	}
	if (r->finished)
		return leave_finished(s, r, fail);
	if (r->torn_bytes && s->io->truncate(s->io->self, s->journal.fd, r->good_bytes) < 0)
		return df_fail_errno(fail, "cannot cut '%s'", DF_JOURNAL_NAME);
	DF_TRY(df_parts_trim(&s->parts, fail));
	DF_TRY(sync_parts(s, fail));
	DF_TRY(sync_journal(s, fail));
	DF_TRY(complete_parts(s, r, fail));
	DF_TRY(df_parts_sweep(&s->parts, fail));
	DF_TRY(sync_directory(s, fail));
	DF_TRY(append_epoch(s, r->epoch + 1, fail));
	return sync_journal(s, fail);
}

static void *copy_array(struct df_arena *arena, const void *p, size_t n, size_t size)
{
	void *copy = df_arena_array(arena, n, size);
	if (copy && n)
		memcpy(copy, p, n * size);
	return copy;
}

static enum df_err report(const struct df_store *s, const struct df_replay *r, struct df_arena *arena,
			  struct df_recovered *ret)
{
	struct df_recovered out = {.lost = ret->lost,
				   .lost_cells = ret->lost_cells,
				   .fresh = !r->has_header,
				   .finished = r->finished,
				   .epoch = r->epoch + 1,
				   .run_id = r->has_header ? r->header.run_id : s->config.run_id,
				   .n_cells = r->n_cells,
				   .n_counter = r->n_counter,
				   .n_strike = r->n_strike,
				   .n_source = r->n_source,
				   .torn_bytes = r->torn_bytes};
	out.cells = copy_array(arena, r->cells, r->n_cells, sizeof(*r->cells));
	out.counter = copy_array(arena, r->counter, r->n_counter, sizeof(*r->counter));
	out.strike = copy_array(arena, r->strike, r->n_strike, sizeof(*r->strike));
	out.source = copy_array(arena, r->source, r->n_source, sizeof(*r->source));
	if (!out.cells || !out.counter || !out.strike || !out.source)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < r->n_counter; i++)
		if (!(out.counter[i].name = df_arena_copy(arena, r->counter[i].name)).p)
			return DF_ERR_NOMEM;
	for (size_t i = 0; i < r->n_source; i++)
		if (!(out.source[i].message = df_arena_copy(arena, r->source[i].message)).p)
			return DF_ERR_NOMEM;
	*ret = out;
	return DF_OK;
}

enum df_err df_store_open_directory(struct df_store *s, struct df_arena *arena, struct df_recovered *ret_recovered,
				    struct df_fail *fail)
{
	struct df_replay r;
	struct df_recovered recovered = {0};
	int fd = s->io->open(s->io->self, s->config.dir_fd, DF_JOURNAL_NAME, O_RDWR, 0);
	if (fd < 0 && errno == ENOENT) {
		DF_TRY(df_parts_check_unnamed(&s->parts, true, fail)); /* a part without its journal is refused */
		fd = s->io->open(s->io->self, s->config.dir_fd, DF_JOURNAL_NAME, O_RDWR | O_CREAT, 0666);
	}
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", DF_JOURNAL_NAME);
	s->journal.fd = fd;
	df_replay_init(&r);
	enum df_err err = df_journal_replay(s->io, fd, &r, fail);
	if (err == DF_OK)
		err = r.has_header ? go_on(s, &r, &recovered, fail) : begin(s, fail);
	if (err == DF_OK) {
		err = report(s, &r, arena, &recovered);
		if (err != DF_OK)
			(void)df_fail(fail, err, "no memory for what the journal says");
	}
	df_replay_release(&r);
	df_buf_reset(&s->job.commit);
	if (err == DF_OK)
		*ret_recovered = recovered;
	return err;
}
