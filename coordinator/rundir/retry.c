// SPDX-License-Identifier: Apache-2.0
/* retry: which generation, and its input. */
#include "coordinator/rundir/retry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/human.h"
#include "base/io.h"
#include "base/log.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/sink/journal.h"

#define PREFIX "rejects-"
#define SUMMARY_BYTES_MAX (8U * DF_RUN_JSON_BYTES_MAX)

/* ------------------------------------------------------------------ is it finished? */

static enum df_err journal_finished(int dir, const char *path, bool *ret_finished, struct df_fail *fail)
{
	struct df_replay r;
	int fd = TEMP_FAILURE_RETRY(openat(dir, DF_JOURNAL_NAME, O_RDONLY | O_CLOEXEC));
	if (fd < 0)
		return df_fail_errno(fail, "'%s' has no journal that can be read", path);
	df_replay_init(&r);
	enum df_err err = df_journal_replay(&df_io_real, fd, &r, fail);
	if (err == DF_OK)
		*ret_finished = r.finished;
	df_replay_release(&r);
	(void)close(fd);
	return err;
}

/* run.json says so, or else the journal: a run that ended with too many errors is complete too. */
static enum df_err is_finished(const char *path, bool *ret_finished, struct df_fail *fail)
{
	struct df_run_summary there = {0};
	struct df_arena arena;
	struct df_fail why;
	int dir = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (dir < 0)
		return df_fail_errno(fail, "cannot open the run directory '%s'", path);
	df_arena_init(&arena, SUMMARY_BYTES_MAX, 0);
	bool finished =
		df_run_json_read(&df_io_real, dir, &arena, &there, &why) == DF_OK && df_str_is(there.state, "finished");
	df_arena_release(&arena);
	enum df_err err = finished ? DF_OK : journal_finished(dir, path, &finished, fail);
	(void)close(dir);
	if (err == DF_OK)
		*ret_finished = finished;
	return err;
}

/* ------------------------------------------------------------------ its rejects */

static bool holds_rejects(int dir, const char *name)
{
	struct stat st;
	struct df_str s = df_str_from(name);
	return df_str_starts(s, PREFIX) && (df_str_ends(s, ".jsonl") || df_str_ends(s, ".jsonl.zst")) &&
	       fstatat(dir, name, &st, 0) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;
}

static int by_bytes(const void *a, const void *b)
{
	const struct df_str *x = a, *y = b;
	return strcmp(x->p, y->p);
}

static enum df_err add(struct df_arena *arena, const char *path, const char *name, struct df_str **list, size_t *n,
		       size_t *cap)
{
	char *whole = NULL;
	if (df_array_room((void **)list, *n, cap, sizeof(**list)) != DF_OK || asprintf(&whole, "%s/%s", path, name) < 0)
		return DF_ERR_NOMEM;
	struct df_str copy = df_arena_copy(arena, df_str_from(whole));
	free(whole);
	(*list)[(*n)++] = copy;
	return copy.p ? DF_OK : DF_ERR_NOMEM;
}

static enum df_err list_rejects(const char *path, struct df_arena *arena, struct df_str **ret_list, size_t *ret_n,
				struct df_fail *fail)
{
	struct df_str *list = NULL;
	size_t n = 0, cap = 0;
	enum df_err err = DF_OK;
	DIR *dir = opendir(path);
	if (!dir)
		return df_fail_errno(fail, "cannot read the run directory '%s'", path);
	for (const struct dirent *e = readdir(dir); e && err == DF_OK; e = readdir(dir))
		if (holds_rejects(dirfd(dir), e->d_name))
			err = add(arena, path, e->d_name, &list, &n, &cap);
	(void)closedir(dir);
	struct df_str *kept = err == DF_OK ? df_arena_array(arena, n, sizeof(*kept)) : NULL;
	if (kept && n) {
		qsort(list, n, sizeof(*list), by_bytes);
		memcpy(kept, list, n * sizeof(*kept));
	}
	free(list);
	if (!kept)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to list the rejects of '%s'", path);
	*ret_list = kept;
	*ret_n = n;
	return DF_OK;
}

/* ------------------------------------------------------------------ generations */

/* "DIR/retry-N"; DIR itself for 0. */
static enum df_err path_of(const struct df_run_options *o, uint32_t generation, struct df_arena *arena,
			   struct df_str *ret_path, struct df_fail *fail)
{
	char *z = NULL;
	struct df_str out = o->out;
	while (out.n > 1 && out.p[out.n - 1] == '/')
		out.n--;
	int n = generation ? asprintf(&z, DF_STR_FMT "/retry-%" PRIu32, DF_STR_ARG(out), generation)
			   : asprintf(&z, DF_STR_FMT, DF_STR_ARG(out));
	struct df_str copy = n < 0 ? (struct df_str){NULL, 0} : df_arena_copy(arena, df_str_from(z));
	if (n >= 0)
		free(z);
	if (!copy.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a path");
	*ret_path = copy;
	return DF_OK;
}

static bool is_there(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A generation that was killed before it had a journal is no more than an empty folder: it is begun again. */
static bool has_begun(const char *path)
{
	int dir = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct stat st;
	bool begun = dir >= 0 && fstatat(dir, DF_JOURNAL_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (dir >= 0)
		(void)close(dir);
	return begun;
}

/* The last generation that is there, and whether it is finished. */
static enum df_err find_last(const struct df_run_options *o, struct df_arena *arena, uint32_t *ret_last,
			     bool *ret_finished, struct df_fail *fail)
{
	struct df_str path;
	DF_TRY(path_of(o, 0, arena, &path, fail));
	if (!is_there(path.p))
		return df_fail(fail, DF_ERR_NOT_FOUND, "'--resume-failed': there is no run in '%s'", path.p);
	DF_TRY(is_finished(path.p, ret_finished, fail));
	if (!*ret_finished)
		return df_fail(fail, DF_ERR_BUSY,
			       "the run in '%s' is not finished; finish it first, with the same command without "
			       "--resume-failed",
			       path.p);
	uint32_t last = 0;
	for (; last < DF_RETRY_GENERATIONS_MAX; last++) {
		DF_TRY(path_of(o, last + 1, arena, &path, fail));
		if (!is_there(path.p))
			break;
		if (!*ret_finished)
			return df_fail(fail, DF_ERR_CORRUPT,
				       "'%s' is there, but the generation before it is not finished", path.p);
		*ret_finished = false;
		if (has_begun(path.p))
			DF_TRY(is_finished(path.p, ret_finished, fail));
	}
	*ret_last = last;
	return DF_OK;
}

enum df_err df_retry_plan(const struct df_run_options *o, struct df_arena *arena, struct df_run_options *ret_options,
			  struct df_retry *ret_retry, struct df_fail *fail)
{
	uint32_t last = 0;
	bool finished = false;
	struct df_str before, *input = NULL;
	size_t n_input = 0;
	DF_TRY(find_last(o, arena, &last, &finished, fail));
	uint32_t generation = finished ? last + 1 : last;
	if (generation > DF_RETRY_GENERATIONS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "'" DF_STR_FMT "' has been tried again %d times; remove some",
			       DF_STR_ARG(o->out), DF_RETRY_GENERATIONS_MAX);
	DF_TRY(path_of(o, generation - 1, arena, &before, fail));
	DF_TRY(list_rejects(before.p, arena, &input, &n_input, fail));
	if (n_input == 0) {
		*ret_retry = (struct df_retry){generation - 1, true};
		return DF_OK;
	}
	struct df_run_options r = *o;
	DF_TRY(path_of(o, generation, arena, &r.out, fail));
	r.input = input;
	r.n_input = n_input;
	r.input_format = DF_INPUT_JSONL;
	r.skip = 0;
	r.limit = -1;
	r.spool = (struct df_str){NULL, 0};
	*ret_options = r;
	*ret_retry = (struct df_retry){generation, false};
	return DF_OK;
}

/* ------------------------------------------------------------------ the end */

static const char *count(const struct df_map *totals, const char *name, char z[32])
{
	const uint64_t *v = totals ? df_map_get(totals, df_str_from(name)) : NULL;
	return df_human_count(v ? *v : 0, z);
}

uint32_t df_retry_generations(const char *dir)
{
	char path[PATH_MAX];
	struct stat st;
	uint32_t n = 0;
	while (n < DF_RETRY_GENERATIONS_MAX &&
	       snprintf(path, sizeof(path), "%s/retry-%" PRIu32, dir, n + 1) < (int)sizeof(path) &&
	       lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
		n++;
	return n;
}

void df_retry_tell(const struct df_run_options *o, const struct df_map *totals)
{
	char in[32], out[32], filtered[32], rejected[32];
	const char *slash = strrchr(o->out.p, '/');
	df_info("%s: %s retried = %s out + %s filtered + %s rejected again", slash ? slash + 1 : o->out.p,
		count(totals, "in", in), count(totals, "out", out), count(totals, "filtered", filtered),
		count(totals, "rejected", rejected));
}
