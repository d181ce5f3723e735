// SPDX-License-Identifier: Apache-2.0
/*
 * spool: copy stdin once, find it again.
 *
 * DESIGN. Three things can be in the folder: nothing, a part (NAME.part), the whole. The whole counts for a run that has its journal, or
 * for a later life of the coordinator that made it (life->spooled); anything else with this name is left from a run that is gone, and
 * stdin is read anew. While stdin is being read nobody may start the coordinator again (life->cannot_go_on): its bytes are gone.
 */
#include "coordinator/rundir/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/human.h"
#include "base/log.h"
#include "coordinator/rundir/inputs.h"
#include "coordinator/rundir/run_json.h"

#define COPY_BYTES ((size_t)1 << 20)
#define LOOK_MS 100 /* for signals, while stdin is silent */
#define SAY_AFTER_NS DF_SEC
#define SAY_EVERY_NS (10 * DF_SEC)

struct spooling {
	const struct df_run_options *o;
	struct df_ending *ending;
	struct df_spool *s;
	char part[PATH_MAX];
	struct df_fail *fail;
};

static bool reads_stdin(const struct df_run_options *o)
{
	for (size_t i = 0; i < o->n_input; i++)
		if (df_str_is(o->input[i], "-"))
			return true;
	return false;
}

/* The run directory's path without links, though it may not be there yet. */
static enum df_err absolute(const char *path, char ret_path[PATH_MAX], struct df_fail *fail)
{
	char parent[PATH_MAX], real[PATH_MAX];
	size_t n = strlen(path);
	if (realpath(path, ret_path))
		return DF_OK;
	while (n > 1 && path[n - 1] == '/')
		n--;
	size_t base = n;
	while (base > 0 && path[base - 1] != '/')
		base--;
	if (n >= sizeof(parent))
		return df_fail(fail, DF_ERR_LIMIT, "the run directory's path is too long");
	memcpy(parent, base ? path : ".", base ? base : 1);
	parent[base ? base : 1] = '\0';
	if (!realpath(parent, real))
		return df_fail_errno(fail, "cannot find the folder of '%s'", path);
	if (snprintf(ret_path, PATH_MAX, "%s/%.*s", real, (int)(n - base), path + base) >= PATH_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "the run directory's path is too long");
	return DF_OK;
}

static enum df_err name_files(struct spooling *g)
{
	char run[PATH_MAX], folder[PATH_MAX];
	DF_TRY(absolute(g->o->out.p, run, g->fail));
	if (!realpath(g->o->spool.p, folder))
		return df_fail_errno(g->fail, "cannot keep stdin in the folder '%s'", g->o->spool.p);
	uint64_t hash = df_hash64(run, strlen(run));
	int n = snprintf(g->s->path, sizeof(g->s->path), "%s/docflume-%016llx.stdin", folder, (unsigned long long)hash);
	if (n < 0 || n + 8 >= PATH_MAX)
		return df_fail(g->fail, DF_ERR_LIMIT, "the path of '--spool' is too long");
	memcpy(g->part, g->s->path, (size_t)n);
	memcpy(g->part + n, ".part", sizeof(".part"));
	return DF_OK;
}

/* ------------------------------------------------------------------ opening what is there */

static enum df_err lock(const struct spooling *g, int fd, const char *path)
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return df_fail(g->fail, DF_ERR_BUSY,
				       "'%s' is in use: another run with the same -o is at work; wait for it", path);
		if (errno != EINTR)
			return df_fail_errno(g->fail, "cannot lock '%s'", path);
	}
	return DF_OK;
}

/* A plain file of this user under this one name; links and what others put there are not followed. */
static enum df_err open_own(const struct spooling *g, const char *path, int flags, int *ret_fd, struct stat *ret_st)
{
	struct stat named;
	int fd = TEMP_FAILURE_RETRY(open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600));
	if (fd < 0)
		return df_fail_errno(g->fail, "cannot open '%s'", path);
	enum df_err err = DF_OK;
	if (fstat(fd, ret_st) < 0)
		err = df_fail_errno(g->fail, "cannot look at '%s'", path);
	else if (!S_ISREG(ret_st->st_mode) || ret_st->st_uid != geteuid() || ret_st->st_nlink > 1)
		err = df_fail(g->fail, DF_ERR_TYPE,
			      "'%s' is not a file that docflume made; remove it, or use another folder", path);
	else
		err = lock(g, fd, path);
	if (err == DF_OK && (stat(path, &named) < 0 || named.st_ino != ret_st->st_ino))
		err = df_fail(g->fail, DF_ERR_BUSY, "'%s' was moved meanwhile; run the same command again", path);
	if (err != DF_OK) {
		(void)close(fd);
		return err;
	}
	*ret_fd = fd;
	return DF_OK;
}

/* JSONL can be cut at once when it looks like it; what is compressed, or no JSON at all, begins otherwise. */
static bool looks_like_lines(const struct spooling *g, int fd)
{
	unsigned char c = '{';
	ssize_t n = TEMP_FAILURE_RETRY(pread(fd, &c, 1, 0));
	bool jsonl = g->o->input_format == DF_INPUT_AUTO || g->o->input_format == DF_INPUT_JSONL;
	return n >= 0 && jsonl && (c == '{' || c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == 0xef);
}

static enum df_err use_whole(struct spooling *g)
{
	struct stat st;
	DF_TRY(open_own(g, g->s->path, O_RDONLY, &g->s->fd, &st));
	df_file_id_of(&st, &g->s->id);
	g->s->lines = looks_like_lines(g, g->s->fd);
	return DF_OK;
}

/* ------------------------------------------------------------------ copying */

static bool asked_to_stop(const struct spooling *g)
{
	return df_ending_take(g->ending, df_clock_mono(&df_clock_real)) > 0 || df_ending_time_is_up(g->ending);
}

/* Bytes of stdin; DF_ERR_END. */
static enum df_err read_some(const struct spooling *g, char *p, size_t *ret_n)
{
	for (;;) {
		struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};
		if (asked_to_stop(g))
			return df_fail(
				g->fail, DF_ERR_INTERRUPTED,
				"%s while stdin was being copied: nothing is done yet, and the same command begins "
				"anew",
				df_ending_reason(g->ending));
		if (poll(&pfd, 1, LOOK_MS) == 0)
			continue;
		ssize_t n = read(STDIN_FILENO, p, COPY_BYTES);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return df_fail_errno(g->fail, "cannot read stdin");
		*ret_n = (size_t)n;
		return n ? DF_OK : DF_ERR_END;
	}
}

static enum df_err write_some(const struct spooling *g, int fd, const char *p, size_t n, uint64_t before)
{
	char z[32];
	while (n) {
		ssize_t done = TEMP_FAILURE_RETRY(write(fd, p, n));
		if (done < 0)
			return df_fail_errno(
				g->fail,
				"cannot keep stdin in '%s' (what was copied, %s, is removed; --spool names "
				"the folder)",
				g->part, df_human_bytes((double)before, z));
		p += done;
		n -= (size_t)done;
		before += (uint64_t)done;
	}
	return DF_OK;
}

static enum df_err copy(const struct spooling *g, int fd, uint64_t *ret_bytes)
{
	char z[32];
	uint64_t bytes = 0, say = df_clock_mono(&df_clock_real) + SAY_AFTER_NS;
	char *p = malloc(COPY_BYTES);
	enum df_err err = p ? DF_OK : df_fail(g->fail, DF_ERR_NOMEM, "no memory to copy stdin");
	while (err == DF_OK) {
		size_t n = 0;
		err = read_some(g, p, &n);
		if (err == DF_OK)
			err = write_some(g, fd, p, n, bytes);
		bytes += n;
		uint64_t now = df_clock_mono(&df_clock_real);
		if (now >= say) {
			df_info("copying stdin: %s so far", df_human_bytes((double)bytes, z));
			say = now + SAY_EVERY_NS;
		}
	}
	free(p);
	*ret_bytes = bytes;
	return err == DF_ERR_END ? DF_OK : err;
}

static enum df_err sync_folder(const struct spooling *g)
{
	int fd = TEMP_FAILURE_RETRY(open(g->o->spool.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd < 0)
		return DF_OK; /* may be written but not read: nothing more can be done */
	int r = fsync(fd), e = errno;
	(void)close(fd);
	errno = e;
	if (r < 0 && errno != EINVAL && errno != EROFS)
		return df_fail_errno(g->fail, "cannot sync the folder '%s'", g->o->spool.p);
	return DF_OK;
}

static enum df_err copy_into(struct spooling *g, int fd, uint64_t *ret_bytes)
{
	if (ftruncate(fd, 0) < 0 || fchmod(fd, 0600) < 0)
		return df_fail_errno(g->fail, "cannot empty '%s'", g->part);
	DF_TRY(copy(g, fd, ret_bytes));
	if (fsync(fd) < 0)
		return df_fail_errno(g->fail, "cannot sync '%s'", g->part);
	if (rename(g->part, g->s->path) < 0)
		return df_fail_errno(g->fail, "cannot rename '%s' to '%s'", g->part, g->s->path);
	return sync_folder(g);
}

/* The copy of an earlier run with this directory: nobody may take it for ours from here on. */
static enum df_err remove_old(const struct spooling *g)
{
	struct stat st;
	int fd = -1;
	if (lstat(g->s->path, &st) < 0 && errno == ENOENT)
		return DF_OK;
	DF_TRY(open_own(g, g->s->path, O_RDONLY, &fd, &st)); /* unless it is in use */
	(void)close(fd);
	return unlink(g->s->path) < 0 ? df_fail_errno(g->fail, "cannot remove the old '%s'", g->s->path) : DF_OK;
}

static enum df_err copy_stdin(struct spooling *g, struct df_life *life)
{
	struct stat st;
	uint64_t bytes = 0;
	char z[32];
	int fd = -1;
	DF_TRY(open_own(g, g->part, O_RDWR | O_CREAT, &fd, &st));
	enum df_err err = remove_old(g);
	if (err != DF_OK) {
		(void)close(fd);
		return err;
	}
	atomic_store(&life->cannot_go_on, true);
	err = copy_into(g, fd, &bytes);
	if (err != DF_OK) {
		(void)unlink(g->part);
		(void)close(fd);
		return err;
	}
	atomic_store(&life->spooled, true);
	atomic_store(&life->cannot_go_on, false);
	(void)close(fd);
	DF_TRY(use_whole(g));
	df_info("%s of stdin are kept in '%s' until the run is finished", df_human_bytes((double)bytes, z), g->s->path);
	return DF_OK;
}

/* ------------------------------------------------------------------ which of them */

static bool has(const char *folder, const char *name)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", folder, name);
	return n > 0 && n < PATH_MAX && stat(path, &st) == 0;
}

static enum df_err keep_stdin_entry(void *self, const struct df_input_entry *e)
{
	struct df_spool *s = self;
	if (df_str_is(e->name, "stdin")) {
		s->id = e->id;
		s->lines = e->kind == DF_SOURCE_JSONL;
		s->gone = true;
	}
	return DF_OK;
}

/* A finished run has removed its copy; what it was is in the list of inputs. */
static enum df_err find_finished(struct spooling *g)
{
	struct df_run_summary there = {0};
	struct df_arena arena;
	struct df_fail why;
	int dir = TEMP_FAILURE_RETRY(open(g->o->out.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (dir < 0)
		return df_fail_errno(g->fail, "cannot open the run directory '%s'", g->o->out.p);
	df_arena_init(&arena, DF_RUN_JSON_BYTES_MAX * 4, 0);
	bool finished = df_run_json_read(&df_io_real, dir, &arena, &there, &why) == DF_OK &&
			df_str_is(there.state, "finished") &&
			df_inputs_each(&df_io_real, dir, keep_stdin_entry, g->s, &why) == DF_OK && g->s->gone;
	df_arena_release(&arena);
	(void)close(dir);
	if (finished)
		return DF_OK;
	return df_fail(g->fail, DF_ERR_NOT_FOUND,
		       "the run in '%s' has no copy of stdin in '%s' and cannot go on; give the whole of stdin again "
		       "with --force-restart",
		       g->o->out.p, g->o->spool.p);
}

static enum df_err open_spool(struct spooling *g, struct df_life *life)
{
	struct stat st;
	char z[32];
	DF_TRY(name_files(g));
	bool was_run = !g->o->force_restart && (has(g->o->out.p, "journal") || has(g->o->out.p, "run.json"));
	if (!was_run && !atomic_load(&life->spooled))
		return copy_stdin(g, life);
	if (lstat(g->s->path, &st) < 0 && errno == ENOENT)
		return find_finished(g);
	DF_TRY(use_whole(g));
	df_info("stdin is not read: its %s are in '%s'", df_human_bytes((double)g->s->id.size, z), g->s->path);
	return DF_OK;
}

enum df_err df_spool_open(const struct df_run_options *options, struct df_life *life, struct df_ending *ending,
			  struct df_spool *ret_spool, struct df_fail *fail)
{
	*ret_spool = (struct df_spool){.fd = -1};
	struct spooling g = {.o = options, .ending = ending, .s = ret_spool, .fail = fail};
	if (!options->spool.n || !reads_stdin(options))
		return DF_OK;
	ret_spool->used = true;
	return open_spool(&g, life);
}

void df_spool_close(struct df_spool *s, bool finished)
{
	if (!s->used)
		return;
	if (finished && !s->gone && s->path[0])
		(void)unlink(s->path);
	if (s->fd >= 0)
		(void)close(s->fd);
	s->used = false;
}
