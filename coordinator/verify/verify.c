// SPDX-License-Identifier: Apache-2.0
/* verify: opening a run directory without changing it, the journal, cells, counts and other files. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/array.h"
#include "coordinator/verify/verify_core.h"

#define ARENA_BYTES ((size_t)64 << 20)

const char *const df_verify_group_name[DF_N_VERIFY_GROUP] = {"journal", "parts", "rows",    "cells",
							     "counts",  "files", "run.json"};

/* --- what was found --- */

void df_verify_wrong(struct df_verify_job *job, enum df_verify_group group, const char *format, ...)
{
	struct df_verify *v = job->v;
	char text[2048];
	va_list ap;
	v->n_wrong++;
	if (v->wrong[group]++ >= DF_VERIFY_FINDINGS)
		return;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	char *copy = df_str_dup(df_str_from(text));
	if (!copy || df_array_room((void **)&v->finding, v->n_finding, &v->cap_finding, sizeof(*v->finding)) != DF_OK) {
		free(copy);
		job->no_memory = true;
		return;
	}
	v->finding[v->n_finding++] = (struct df_finding){group, copy};
}

void df_verify_say(struct df_verify_job *job, enum df_verify_group group, const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	free(job->v->summary[group]);
	job->v->summary[group] = df_str_dup(df_str_from(text));
	job->no_memory |= !job->v->summary[group];
}

/* --- the journal --- */

/* False: it cannot be read, and nothing else can be judged. */
static bool replay(struct df_verify_job *job, int fd, struct df_fail *fail, enum df_err *ret_err)
{
	struct df_replay *r = &job->journal;
	r->keep_marks = true;
	*ret_err = df_journal_replay(&df_io_real, fd, r, fail);
	if (*ret_err == DF_ERR_CORRUPT || (*ret_err == DF_OK && !r->has_header)) {
		df_verify_wrong(job, DF_VERIFY_JOURNAL, "%s",
				*ret_err == DF_OK ? "'journal' has no whole record" : fail->msg);
		*ret_err = DF_OK;
		return false;
	}
	return *ret_err == DF_OK;
}

static void judge_journal(struct df_verify_job *job)
{
	const struct df_replay *r = &job->journal;
	if (r->finished && r->torn_bytes)
		df_verify_wrong(job, DF_VERIFY_JOURNAL, "'journal' is finished at byte %llu, but %llu bytes follow",
				(unsigned long long)r->good_bytes, (unsigned long long)r->torn_bytes);
	df_verify_say(job, DF_VERIFY_JOURNAL, "%llu records of %u %s, %s%s", (unsigned long long)r->seq, r->epoch,
		      r->epoch == 1 ? "life" : "lives", r->finished ? "finished" : "not finished",
		      r->torn_bytes && !r->finished ? ", its last record is torn" : "");
}

/* --- rows --- */

static void judge_rows(struct df_verify_job *job)
{
	const struct df_verify_part *part = job->part;
	uint32_t both = 1U << DF_OUTPUT_JSONL | 1U << DF_OUTPUT_NPY;
	uint64_t rows = 0, vectors = 0;
	uint32_t dim = 0;
	for (size_t i = 0; i < job->n_part; i++) {
		const struct df_verify_part *other = NULL;
		rows += part[i].file.kind == DF_OUTPUT_JSONL ? part[i].file.rows : 0;
		vectors += part[i].file.kind == DF_OUTPUT_NPY ? part[i].file.rows : 0;
		if (part[i].file.kind == DF_OUTPUT_NPY && dim && part[i].file.dim != dim)
			df_verify_wrong(job, DF_VERIFY_ROWS, "%s: vectors of %u numbers, those before have %u",
					part[i].name, part[i].file.dim, dim);
		dim = part[i].file.dim ? part[i].file.dim : dim;
		if ((job->journal.header.want & both) != both || part[i].file.kind == DF_OUTPUT_REJECTS)
			continue;
		for (size_t j = 0; j < job->n_part; j++)
			if (part[j].file.no == part[i].file.no &&
			    part[j].file.kind == (part[i].file.kind ^ DF_OUTPUT_JSONL ^ DF_OUTPUT_NPY))
				other = &part[j];
		if ((!other || other->file.rows != part[i].file.rows) &&
		    (part[i].file.kind == DF_OUTPUT_JSONL || !other))
			df_verify_wrong(job, DF_VERIFY_ROWS, "%s: %llu rows, but %llu of %s", part[i].name,
					(unsigned long long)part[i].file.rows,
					(unsigned long long)(other ? other->file.rows : 0),
					part[i].file.kind == DF_OUTPUT_JSONL ? "vectors" : "JSONL");
	}
	if (vectors)
		df_verify_say(job, DF_VERIFY_ROWS, "%llu as JSONL, %llu vectors of %u numbers",
			      (unsigned long long)rows, (unsigned long long)vectors, dim);
	else
		df_verify_say(job, DF_VERIFY_ROWS, "%llu as JSONL", (unsigned long long)rows);
}

/* --- cells --- */

static const struct df_source_state *state_of(const struct df_replay *r, uint32_t source)
{
	size_t low = 0, high = r->n_source;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (r->source[mid].source < source)
			low = mid + 1;
		else
			high = mid;
	}
	return low < r->n_source && r->source[low].source == source ? &r->source[low] : NULL;
}

/* The cells of one source, in order and each once, are r->cells[from .. to). Of a finished run none may be missing. */
static uint64_t judge_source(struct df_verify_job *job, size_t from, size_t to)
{
	const struct df_replay *r = &job->journal;
	uint32_t source = r->cells[from].cells.source;
	const struct df_source_state *state = state_of(r, source);
	bool failed = state && state->err != DF_OK;
	uint64_t next = 0, n = 0;
	for (size_t i = from; i < to; i++) {
		const struct df_cells *c = &r->cells[i].cells;
		if (c->first != next && r->finished && !failed)
			df_verify_wrong(job, DF_VERIFY_CELLS, "input %u: cells %llu to %llu were never done", source,
					(unsigned long long)next, (unsigned long long)(c->first - 1));
		n += c->n;
		next = c->first + c->n;
	}
	if (state && state->ended && !failed && (next > state->n_cell || (r->finished && next < state->n_cell)))
		df_verify_wrong(job, DF_VERIFY_CELLS,
				"input %u: it has %llu cells, but the journal has them up to %llu", source,
				(unsigned long long)state->n_cell, (unsigned long long)next);
	return failed ? 0 : n;
}

static void judge_cells(struct df_verify_job *job)
{
	const struct df_replay *r = &job->journal;
	uint64_t n_cell = 0, n_input = 0, n_failed = 0;
	for (size_t i = 0; i < r->n_source; i++)
		n_failed += r->source[i].err != DF_OK;
	for (size_t from = 0, to; from < r->n_cells; from = to) {
		for (to = from + 1; to < r->n_cells && r->cells[to].cells.source == r->cells[from].cells.source; to++)
			;
		n_cell += judge_source(job, from, to);
		n_input++;
		if (r->has_size && r->cells[from].cells.source >= r->size.n_source)
			df_verify_wrong(job, DF_VERIFY_CELLS, "input %u: the run has only %llu inputs",
					r->cells[from].cells.source, (unsigned long long)r->size.n_source);
	}
	if (r->finished && !r->has_size)
		df_verify_wrong(job, DF_VERIFY_CELLS, "'journal' does not say how many cells there are");
	else if (r->finished && n_cell != r->size.n_cell)
		df_verify_wrong(job, DF_VERIFY_CELLS, "%llu cells were done, but the inputs have %llu",
				(unsigned long long)n_cell, (unsigned long long)r->size.n_cell);
	df_verify_say(job, DF_VERIFY_CELLS, "%llu of %llu inputs, each once%s", (unsigned long long)n_cell,
		      (unsigned long long)n_input,
		      r->finished ? n_failed ? "; none is missing but of inputs with an error" : "; none is missing"
				  : "");
}

/* --- counts --- */

static uint64_t sum_of(const struct df_verify_job *job, const char *prefix)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < job->journal.n_counter; i++)
		if (df_str_starts(job->journal.counter[i].name, prefix))
			sum += job->journal.counter[i].value;
	return sum;
}

static uint64_t rows_of(const struct df_verify_job *job, uint32_t kind)
{
	uint64_t n = 0;
	for (size_t i = 0; i < job->n_part; i++)
		n += job->part[i].file.kind == kind ? job->part[i].file.rows : 0;
	return n;
}

static void must_equal(struct df_verify_job *job, const char *what, uint64_t a, const char *other, uint64_t b)
{
	if (a != b)
		df_verify_wrong(job, DF_VERIFY_COUNTS, "%s are %llu, but %s %llu", what, (unsigned long long)a, other,
				(unsigned long long)b);
}

static void judge_counts(struct df_verify_job *job)
{
	uint64_t in = df_replay_count(&job->journal, "in"), out = df_replay_count(&job->journal, "out");
	uint64_t filtered = df_replay_count(&job->journal, "filtered"),
		 rejected = df_replay_count(&job->journal, "rejected");
	uint32_t want = job->journal.header.want;
	must_equal(job, "documents in", in, "out + filtered + rejected is", out + filtered + rejected);
	must_equal(job, "filtered documents", filtered, "their reasons add up to", sum_of(job, "filtered:"));
	must_equal(job, "rejected documents", rejected, "their classes add up to", sum_of(job, "rejected:"));
	must_equal(job, "rejected documents", rejected, "rows of rejects are", rows_of(job, DF_OUTPUT_REJECTS));
	if (want & 1U << DF_OUTPUT_JSONL)
		must_equal(job, "rows", df_replay_count(&job->journal, "rows"), "the parts have",
			   rows_of(job, DF_OUTPUT_JSONL));
	else if (want & 1U << DF_OUTPUT_NPY)
		must_equal(job, "rows", df_replay_count(&job->journal, "rows"), "the parts have",
			   rows_of(job, DF_OUTPUT_NPY));
	df_verify_say(job, DF_VERIFY_COUNTS, "%llu documents in = %llu out + %llu filtered + %llu rejected",
		      (unsigned long long)in, (unsigned long long)out, (unsigned long long)filtered,
		      (unsigned long long)rejected);
}

/* --- other files --- */

static bool is_known(const struct df_verify_job *job, const char *name)
{
	for (size_t i = 0; i < job->n_part; i++)
		if (strcmp(job->part[i].name, name) == 0)
			return true;
	return false;
}

static bool has_ending(const char *name, const char *ending)
{
	size_t n = strlen(name), m = strlen(ending);
	return n > m && strcmp(name + n - m, ending) == 0;
}

/* What looks like output but is none would be read as such by everybody. An unfinished run may have open files that no commit named yet: they are
 * removed when it goes on. */
static bool judge_name(void *arg, const char *name)
{
	struct df_verify_job *job = arg;
	bool finished = job->journal.finished, open = has_ending(name, ".open");
	bool output = strncmp(name, "part-", 5) == 0 || strncmp(name, "rejects-", 8) == 0;
	if (is_known(job, name))
		return true;
	if (output && !(open && !finished))
		df_verify_wrong(job, DF_VERIFY_FILES, "%s: is there, but the journal does not know it", name);
	else if (finished && (open || has_ending(name, ".tmp")))
		df_verify_wrong(job, DF_VERIFY_FILES, "%s: left over in a finished run", name);
	return true;
}

static enum df_err judge_files(struct df_verify_job *job, struct df_fail *fail)
{
	if (df_io_real.list(NULL, job->dir_fd, judge_name, job) < 0)
		return df_fail_errno(fail, "cannot list '%s'", job->config->path);
	df_verify_say(job, DF_VERIFY_FILES, "%zu %s, no other output", job->n_part,
		      job->n_part == 1 ? "part" : "parts");
	return DF_OK;
}

/* --- all --- */

/* Shared, so that no run can begin meanwhile, and several may verify. A directory without a lock file (a copy) is nobody's. */
static enum df_err lock(struct df_verify_job *job, struct df_fail *fail)
{
	char pid[24];
	job->lock_fd = openat(job->dir_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (job->lock_fd < 0 || flock(job->lock_fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return DF_OK;
	ssize_t n = pread(job->lock_fd, pid, sizeof(pid) - 1, 0);
	pid[n > 0 ? n : 0] = '\0';
	pid[strspn(pid, "0123456789")] = '\0';
	return df_fail(fail, DF_ERR_BUSY,
		       "'%s' is in use by process %s; verify it when that is over, or see 'docflume status'",
		       job->config->path, pid[0] ? pid : "(unknown)");
}

static enum df_err judge(struct df_verify_job *job, struct df_fail *fail)
{
	enum df_err err = DF_OK;
	int fd = openat(job->dir_fd, DF_JOURNAL_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return df_fail(fail, DF_ERR_NOT_FOUND, "'%s' has no journal: it is not a run directory",
			       job->config->path);
	if (fd < 0)
		return df_fail_errno(fail, "cannot read '%s/%s'", job->config->path, DF_JOURNAL_NAME);
	bool readable = replay(job, fd, fail, &err);
	(void)close(fd);
	if (!readable)
		return err;
	job->place = (struct df_parts_place){&df_io_real, job->dir_fd, job->journal.header.zstd,
					     job->journal.header.npy_item_bytes};
	job->v->finished = job->journal.finished;
	judge_journal(job);
	DF_TRY(df_verify_parts(job, fail));
	judge_rows(job);
	judge_cells(job);
	judge_counts(job);
	DF_TRY(judge_files(job, fail));
	df_verify_json(job);
	return DF_OK;
}

enum df_err df_verify_run(const struct df_verify_config *config, struct df_verify *ret_verify, struct df_fail *fail)
{
	struct df_verify v = {.n_wrong = 0};
	struct df_verify_job job = {.v = &v, .config = config, .lock_fd = -1};
	job.dir_fd = open(config->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (job.dir_fd < 0)
		return df_fail_errno(fail, "cannot open the run directory '%s'", config->path);
	df_arena_init(&job.arena, ARENA_BYTES, 0);
	df_replay_init(&job.journal);
	enum df_err err = lock(&job, fail);
	if (err == DF_OK)
		err = judge(&job, fail);
	if (err == DF_OK && job.no_memory)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for what was found");
	for (size_t i = 0; i < job.n_part; i++) {
		free(job.part[i].fault[0]);
		free(job.part[i].fault[1]);
	}
	free(job.part);
	df_replay_release(&job.journal);
	df_arena_release(&job.arena);
	if (job.lock_fd >= 0)
		(void)close(job.lock_fd);
	(void)close(job.dir_fd);
	if (err == DF_OK)
		*ret_verify = v;
	else
		df_verify_release(&v);
	return err;
}

void df_verify_release(struct df_verify *v)
{
	for (int i = 0; i < DF_N_VERIFY_GROUP; i++)
		free(v->summary[i]);
	for (size_t i = 0; i < v->n_finding; i++)
		free(v->finding[i].text);
	free(v->finding);
	*v = (struct df_verify){.n_wrong = 0};
}
