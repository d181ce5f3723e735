// SPDX-License-Identifier: Apache-2.0
/*
 * store: what was appended becomes durable in commits; what a crash left is brought back to the last one.
 *
 * DESIGN: the sink thread writes data files and encodes records; the committer syncs and appends them. A commit notes, for each file,
 * how far it reaches; bytes written behind that belong to the next. When a commit fills a set, the set goes with the job and
 * the sink thread writes into a new one at once, so that closing files costs it nothing.
 *
 * The order of a resume: cut the journal; cut and check open files, sync them and their names; sync the journal; finish renames that the
 * journal ordered; remove files that it does not name; record the epoch. Each step only relies on what the steps before made durable.
 */
#include "coordinator/sink/store.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/limits.h"
#include "coordinator/sink/committer.h"
#include "coordinator/sink/store_stdout.h"

struct df_store {
	struct df_store_config config;
	const struct df_io *io;
	bool is_stdout, over; /* over: finished, nothing more is taken */
	struct df_fail failed;
	uint64_t pending_bytes;

	struct df_store_stdout out;
	bool out_committing;

	struct df_parts_place place;
	struct df_parts parts; /* the set that is written */
	struct df_journal journal;
	struct df_counter_names names;
	struct df_committer *committer;
	struct df_commit_job job;
	struct df_commit_cells *cells; /* scratch of df_store_commit */
	size_t cap_cells;

	struct df_part_info *info; /* closed parts, and room for the open ones behind them */
	size_t n_info, cap_info;
};

static bool is_durable(const struct df_store *s)
{
	return s->config.fsync != DF_FSYNC_NEVER;
}

static enum df_err give_up(struct df_store *s, enum df_err err, const struct df_fail *why, struct df_fail *fail)
{
	if (s->failed.code == DF_OK) {
		s->failed = *why;
		s->failed.code = err;
	}
	return df_fail(fail, err, "%s", why->msg);
}

static enum df_err check_usable(const struct df_store *s, struct df_fail *fail)
{
	if (s->failed.code != DF_OK)
		return df_fail(fail, s->failed.code, "%s", s->failed.msg);
	if (s->over)
		return df_fail(fail, DF_ERR_CLOSED, "the run is finished: its files are closed");
	return DF_OK;
}

/* --- what is there --- */

static enum df_err add_info(struct df_store *s, const struct df_journal_file *file, bool open)
{
	if (s->n_info + 2 * DF_N_OUTPUT >= s->cap_info) {
		size_t cap = s->cap_info ? 2 * s->cap_info : 32;
		struct df_part_info *p = reallocarray(s->info, cap, sizeof(*p));
		if (!p)
			return DF_ERR_NOMEM;
		s->info = p;
		s->cap_info = cap;
	}
	struct df_part_info *info = &s->info[s->n_info];
	*info = (struct df_part_info){.kind = file->kind,
				      .no = file->no,
				      .open = open,
				      .bytes = file->end,
				      .rows = file->rows,
				      .hash = file->hash};
	df_part_name(info->name, &s->place, file->kind, file->no, open);
	s->n_info++;
	return DF_OK;
}

const struct df_part_info *df_store_parts(struct df_store *s, size_t *ret_n)
{
	if (s->is_stdout)
		return df_store_stdout_parts(&s->out, ret_n);
	size_t n_closed = s->n_info;
	if (df_committer_busy(s->committer) && s->job.rotate.n)
		for (size_t i = 0; i < s->job.n_file; i++)
			(void)add_info(s, &s->job.file[i], true);
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		struct df_journal_file now = s->parts.part[k].now;
		if (s->parts.part[k].fd < 0)
			continue;
		now.hash = df_hasher_value(s->parts.part[k].hasher);
		(void)add_info(s, &now, true);
	}
	*ret_n = s->n_info;
	s->n_info = n_closed;
	return s->info;
}

/* --- open --- */

static uint32_t want_bits(const struct df_store_config *config)
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
	enum df_err err = df_journal_put_epoch(b, epoch);
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
						 .want = want_bits(&s->config),
						 .zstd = s->config.zstd,
						 .npy_item_bytes = s->config.npy_item_bytes,
						 .version = df_str_from(DF_VERSION)};
	DF_TRY(df_parts_sweep(&s->parts, fail)); /* a part without its journal is refused */
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
	if (h->want != want_bits(&s->config) || h->zstd != s->config.zstd ||
	    h->npy_item_bytes != s->config.npy_item_bytes)
		return df_fail(fail, DF_ERR_CHANGED,
			       "the run in this directory writes other files (output format, compression or number "
			       "type); run it as before, use "
			       "another directory, or --force-restart");
	return DF_OK;
}

static enum df_err reopen_parts(struct df_store *s, const struct df_replay *r, struct df_fail *fail)
{
	struct df_journal_file file[DF_N_OUTPUT];
	for (int k = 0; k < DF_N_OUTPUT; k++)
		if (r->open[k].end)
			DF_TRY(df_parts_reopen(&s->parts, &r->open[k], r->mark[k], r->n_mark[k], fail));
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
		bool changed = false;
		DF_TRY(df_parts_complete(&s->place, &r->closed[i], is_durable(s), &changed, fail));
		if (r->closed[i].dim)
			s->parts.dim = r->closed[i].dim;
		any |= changed;
		if (add_info(s, &r->closed[i], false) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the list of parts");
	}
	return any ? sync_directory(s, fail) : DF_OK;
}

static enum df_err go_on(struct df_store *s, const struct df_replay *r, struct df_fail *fail)
{
	DF_TRY(check_header(s, &r->header, fail));
	s->journal.end = r->good_bytes;
	s->journal.seq = r->seq;
	s->journal.chain = r->chain;
	df_parts_release(&s->parts);
	df_parts_init(&s->parts, &s->place, r->no);
	for (size_t i = 0; i < r->n_counter; i++) {
		uint64_t *id = NULL;
		if (df_map_put(&s->names.ids, r->counter[i].name, i, &id) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for counters");
	}
	if (r->finished) { /* left alone, but what it says must be there */
		s->over = true;
		return complete_parts(s, r, fail);
	}
	if (r->torn_bytes && s->io->truncate(s->io->self, s->journal.fd, r->good_bytes) < 0)
		return df_fail_errno(fail, "cannot cut '%s'", DF_JOURNAL_NAME);
	DF_TRY(reopen_parts(s, r, fail));
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
	struct df_recovered out = {.fresh = !r->has_header,
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

static enum df_err open_directory(struct df_store *s, struct df_arena *arena, struct df_recovered *ret_recovered,
				  struct df_fail *fail)
{
	struct df_replay r;
	struct df_recovered recovered;
	int fd = s->io->open(s->io->self, s->config.dir_fd, DF_JOURNAL_NAME, O_RDWR | O_CREAT, 0666);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", DF_JOURNAL_NAME);
	s->journal.fd = fd;
	df_replay_init(&r);
	enum df_err err = df_journal_replay(s->io, fd, &r, fail);
	if (err == DF_OK)
		err = r.has_header ? go_on(s, &r, fail) : begin(s, fail);
	if (err == DF_OK) {
		err = report(s, &r, arena, &recovered);
		if (err != DF_OK)
			(void)df_fail(fail, err, "no memory for what the journal says");
	}
	df_replay_release(&r);
	df_buf_reset(&s->job.commit);
	if (err == DF_OK)
		err = df_committer_open(&s->journal, s->config.fsync, !s->config.inline_sync, &s->committer, fail);
	if (err == DF_OK)
		*ret_recovered = recovered;
	return err;
}

enum df_err df_store_open(const struct df_store_config *config, const struct df_io *io, struct df_arena *arena,
			  struct df_store **ret_store, struct df_recovered *ret_recovered, struct df_fail *fail)
{
	struct df_store *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the store");
	s->config = *config;
	s->io = io;
	s->is_stdout = config->dir_fd < 0;
	s->place = (struct df_parts_place){io, config->dir_fd, config->zstd, config->npy_item_bytes};
	df_parts_init(&s->parts, &s->place, 0);
	df_journal_init(&s->journal, io, -1);
	df_counter_names_init(&s->names);
	df_commit_job_init(&s->job);
	enum df_err err;
	if (s->is_stdout) {
		df_store_stdout_init(&s->out, config);
		err = df_committer_open(&s->journal, DF_FSYNC_NEVER, !config->inline_sync, &s->committer, fail);
		if (err == DF_OK)
			*ret_recovered = (struct df_recovered){.fresh = true, .epoch = 1, .run_id = config->run_id};
	} else {
		err = open_directory(s, arena, ret_recovered, fail);
	}
	if (err != DF_OK) {
		df_store_close(&s);
		return err;
	}
	*ret_store = s;
	return DF_OK;
}

void df_store_close(struct df_store **store)
{
	struct df_store *s = *store;
	if (!s)
		return;
	bool rotating = s->committer && df_committer_busy(s->committer) && s->job.rotate.n;
	df_committer_close(&s->committer);
	if (rotating) /* never reaped: with a thread the set is closed by now, without one it is still ours */
		df_parts_release(&s->job.closing);
	df_parts_release(&s->parts);
	if (s->journal.fd >= 0)
		(void)s->io->close(s->io->self, s->journal.fd);
	df_journal_release(&s->journal);
	df_counter_names_release(&s->names);
	df_commit_job_release(&s->job);
	free(s->cells);
	free(s->info);
	free(s);
	*store = NULL;
}

/* --- writing --- */

enum df_err df_store_append(struct df_store *s, enum df_output_kind kind, const struct df_blob *frame, uint64_t rows,
			    struct df_fail *fail)
{
	DF_TRY(check_usable(s, fail));
	struct df_fail why = {0};
	enum df_err err = DF_OK;
	if ((unsigned)kind >= DF_N_OUTPUT)
		err = df_fail(&why, DF_ERR_BUG, "a frame of unknown kind %u", (unsigned)kind);
	else if (s->is_stdout)
		err = df_store_stdout_append(&s->out, kind, frame, rows, &why);
	else if (!(want_bits(&s->config) & 1U << kind))
		err = df_fail(&why, DF_ERR_BUG, "a frame of kind %u came, but the run writes none", (unsigned)kind);
	else
		err = df_parts_append(&s->parts, kind, frame->p, frame->n, rows, &why);
	if (err != DF_OK)
		return give_up(s, err, &why, fail);
	s->pending_bytes += frame->n;
	return DF_OK;
}

/* A sorted and joined copy of the commit's ranges in s->cells. */
static enum df_err merge_cells(struct df_store *s, const struct df_commit *commit, size_t *ret_n, struct df_fail *fail)
{
	bool overlap = false;
	if (commit->n_cells > s->cap_cells) {
		struct df_commit_cells *p = reallocarray(s->cells, commit->n_cells, sizeof(*p));
		if (!p)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu cell ranges", commit->n_cells);
		s->cells = p;
		s->cap_cells = commit->n_cells;
	}
	if (commit->n_cells == 0) {
		*ret_n = 0;
		return DF_OK;
	}
	memcpy(s->cells, commit->cells, commit->n_cells * sizeof(*s->cells));
	*ret_n = df_commit_cells_merge(s->cells, commit->n_cells, &overlap);
	return overlap ? df_fail(fail, DF_ERR_BUG, "a cell is committed twice") : DF_OK;
}

bool df_store_part_full(const struct df_store *s)
{
	if (s->is_stdout || !s->config.part_bytes)
		return false;
	for (int k = 0; k < DF_N_OUTPUT; k++) /* all files rotate together, so the largest decides */
		if (s->parts.part[k].now.end >= s->config.part_bytes)
			return true;
	return false;
}

/* The set goes with the job; the next one is written from now on. */
static enum df_err hand_over_set(struct df_store *s, struct df_fail *fail)
{
	struct df_commit_job *job = &s->job;
	job->n_file = df_parts_kept(&s->parts, job->file);
	enum df_err err = df_journal_put_rotate(&job->rotate, job->file, job->n_file);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a journal record");
	job->closing = s->parts;
	job->parts = &job->closing;
	df_parts_init(&s->parts, &s->place, job->closing.no + 1);
	s->parts.dim = job->closing.dim;
	return DF_OK;
}

static enum df_err prepare_job(struct df_store *s, const struct df_commit *commit, struct df_fail *fail)
{
	struct df_commit_job *job = &s->job;
	struct df_commit merged = *commit;
	DF_TRY(merge_cells(s, commit, &merged.n_cells, fail));
	merged.cells = s->cells;
	df_commit_job_reset(job);
	job->parts = &s->parts;
	job->n_file = df_parts_changed(&s->parts, job->file);
	job->sync_dir = s->parts.created;
	s->parts.created = false;
	enum df_err err = df_journal_put_commit(&job->commit, &s->names, &merged, job->file, job->n_file);
	if (err != DF_OK)
		return df_fail(fail, err,
			       err == DF_ERR_LIMIT ? "a commit is larger than a journal record may be"
						   : "no memory for a journal record");
	return df_store_part_full(s) ? hand_over_set(s, fail) : DF_OK;
}

enum df_err df_store_commit(struct df_store *s, const struct df_commit *commit, struct df_fail *fail)
{
	DF_TRY(check_usable(s, fail));
	if (df_committer_busy(s->committer))
		return df_fail(fail, DF_ERR_BUSY, "a commit is in flight");
	struct df_fail why = {0};
	if (s->is_stdout) {
		df_commit_job_reset(&s->job); /* nothing to do, but the answer comes by the same way */
	} else {
		enum df_err err = prepare_job(s, commit, &why);
		if (err != DF_OK)
			return give_up(s, err, &why, fail);
	}
	s->pending_bytes = 0;
	df_committer_submit(s->committer, &s->job);
	return DF_OK;
}

bool df_store_committing(const struct df_store *s)
{
	return df_committer_busy(s->committer);
}

int df_store_event_fd(const struct df_store *s)
{
	return df_committer_event_fd(s->committer);
}

static enum df_err settle_job(struct df_store *s, struct df_fail *fail)
{
	struct df_commit_job *job = &s->job;
	if (job->err != DF_OK) {
		if (job->rotate.n)
			df_parts_release(&job->closing);
		return give_up(s, job->err, &job->fail, fail);
	}
	if (job->sync_dir && !job->did_sync_dir && !job->rotate.n)
		s->parts.created = true; /* the policy put it off */
	for (size_t i = 0; i < job->n_file && job->rotate.n; i++)
		if (add_info(s, &job->file[i], false) != DF_OK)
			return give_up(s, DF_ERR_NOMEM, &(struct df_fail){.msg = "no memory for the list of parts"},
				       fail);
	return DF_OK;
}

enum df_err df_store_reap(struct df_store *s, bool *ret_done, struct df_fail *fail)
{
	bool done = df_committer_take(s->committer);
	if (done)
		DF_TRY(settle_job(s, fail));
	else if (s->failed.code != DF_OK)
		return df_fail(fail, s->failed.code, "%s", s->failed.msg);
	*ret_done = done;
	return DF_OK;
}

static enum df_err close_files(struct df_store *s, bool finished, struct df_fail *why)
{
	struct df_commit_job *job = &s->job;
	struct df_journal_file file[DF_N_OUTPUT];
	df_commit_job_reset(job);
	DF_TRY(df_parts_cut(&s->parts, why));
	job->sync_dir = s->parts.created;
	if (df_parts_kept(&s->parts, file))
		DF_TRY(hand_over_set(s, why));
	else
		job->parts = &s->parts;
	job->finish = finished;
	job->err = df_commit_job_run(job, &s->journal, s->config.fsync);
	return job->err;
}

enum df_err df_store_finish(struct df_store *s, bool finished, struct df_fail *fail)
{
	if (s->over)
		return DF_OK;
	DF_TRY(check_usable(s, fail));
	if (df_committer_busy(s->committer))
		return df_fail(fail, DF_ERR_BUSY, "a commit is in flight");
	if (finished && s->pending_bytes)
		return df_fail(fail, DF_ERR_BUG, "%llu bytes were never committed",
			       (unsigned long long)s->pending_bytes);
	if (!s->is_stdout) {
		struct df_fail why = {0};
		enum df_err err = close_files(s, finished, &why);
		if (err != DF_OK && s->job.err == DF_OK)
			return give_up(s, err, &why, fail);
		DF_TRY(settle_job(s, fail));
	}
	s->over = true;
	return DF_OK;
}

uint64_t df_store_pending_bytes(const struct df_store *s)
{
	return s->pending_bytes;
}
