// SPDX-License-Identifier: Apache-2.0
/*
 * store: what was appended becomes durable in commits.
 *
 * DESIGN: the sink thread writes data files and encodes records; the committer syncs and appends them. A commit notes, for each file,
 * how far it reaches; bytes written behind that belong to the next. When a commit fills a set, the set goes with the job and
 * the sink thread writes into a new one at once, so that closing files costs it nothing.
 */
#include "coordinator/sink/store_core.h"

#include <stdlib.h>

#include "base/limits.h"

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

enum df_err df_store_add_info(struct df_store *s, const struct df_journal_file *file, bool open)
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
			(void)df_store_add_info(s, &s->job.file[i], true);
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		struct df_journal_file now = s->parts.part[k].now;
		if (s->parts.part[k].fd < 0)
			continue;
		now.hash = df_hasher_value(s->parts.part[k].hasher);
		(void)df_store_add_info(s, &now, true);
	}
	*ret_n = s->n_info;
	s->n_info = n_closed;
	return s->info;
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
		err = df_store_open_directory(s, arena, ret_recovered, fail);
		if (err == DF_OK)
			err = df_committer_open(&s->journal, config->fsync, !config->inline_sync, &s->committer, fail);
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
	else if (!(df_store_want_bits(&s->config) & 1U << kind))
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

/* The n-th row of the one is the n-th vector of the other: whoever breaks that is stopped before it is durable. */
static enum df_err check_rows(const struct df_store *s, struct df_fail *fail)
{
	uint64_t rows = s->parts.part[DF_OUTPUT_JSONL].now.rows, vectors = s->parts.part[DF_OUTPUT_NPY].now.rows;
	if (!s->config.want[DF_OUTPUT_JSONL] || !s->config.want[DF_OUTPUT_NPY] || rows == vectors)
		return DF_OK;
	return df_fail(fail, DF_ERR_BUG, "set %u of parts has %llu rows as JSONL, but %llu vectors as .npy",
		       (unsigned)s->parts.no, (unsigned long long)rows, (unsigned long long)vectors);
}

static enum df_err prepare_job(struct df_store *s, const struct df_commit *commit, struct df_fail *fail)
{
	struct df_commit_job *job = &s->job;
	struct df_commit merged = *commit;
	DF_TRY(check_rows(s, fail));
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
		if (df_store_add_info(s, &job->file[i], false) != DF_OK)
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

static enum df_err close_files(struct df_store *s, const struct df_grid_size *complete, struct df_fail *why)
{
	struct df_commit_job *job = &s->job;
	struct df_journal_file file[DF_N_OUTPUT];
	df_commit_job_reset(job);
	DF_TRY(df_parts_cut(&s->parts, why));
	job->sync_dir = s->parts.created;
	if (complete && df_journal_put_finish(&job->finish, complete) != DF_OK)
		return df_fail(why, DF_ERR_NOMEM, "no memory for a journal record");
	if (df_parts_kept(&s->parts, file)) /* last: from here on the set is the job's */
		DF_TRY(hand_over_set(s, why));
	else
		job->parts = &s->parts;
	job->err = df_commit_job_run(job, &s->journal, s->config.fsync);
	return job->err;
}

enum df_err df_store_finish(struct df_store *s, const struct df_grid_size *complete, struct df_fail *fail)
{
	if (s->over)
		return DF_OK;
	DF_TRY(check_usable(s, fail));
	if (df_committer_busy(s->committer))
		return df_fail(fail, DF_ERR_BUSY, "a commit is in flight");
	if (complete && s->pending_bytes)
		return df_fail(fail, DF_ERR_BUG, "%llu bytes were never committed",
			       (unsigned long long)s->pending_bytes);
	if (!s->is_stdout) {
		struct df_fail why = {0};
		enum df_err err = close_files(s, complete, &why);
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
