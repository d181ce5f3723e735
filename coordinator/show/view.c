// SPDX-License-Identifier: Apache-2.0
/* view: open, look, and keep hands off. */
#include "coordinator/show/view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "coordinator/rundir/retry.h"
#include "coordinator/show/status.h"

#define ARENA_BYTES ((size_t)64 << 20)

/* The lock's holder keeps it as long as it lives; asking for a shared one tells, and gives it back at once. */
static bool is_live(int dir_fd)
{
	int fd = openat(dir_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	bool live = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
	(void)close(fd);
	return live;
}

static enum df_err read_journal(struct df_view *v, struct df_fail *fail)
{
	int fd = openat(v->dir_fd, DF_JOURNAL_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return DF_OK;
	if (fd < 0)
		return df_fail_errno(fail, "cannot read '%s/%s'", v->path, DF_JOURNAL_NAME);
	enum df_err err = df_journal_replay(&df_io_real, fd, &v->journal, fail);
	(void)close(fd);
	v->has_journal = err == DF_OK && v->journal.has_header;
	return err;
}

/* A file that is half there or of another version is no news. */
static void read_news(struct df_view *v)
{
	char *p = NULL;
	size_t n = 0;
	struct df_json *root = NULL;
	if (!v->live ||
	    df_io_read_file(&df_io_real, v->dir_fd, DF_STATUS_NAME, DF_STATUS_BYTES_MAX, &p, &n, NULL) != DF_OK)
		return;
	v->news_text = df_arena_copy(&v->arena, (struct df_str){p, n});
	free(p);
	if (!v->news_text.p || df_json_parse(v->news_text, &v->arena, &root, NULL) != DF_OK)
		return;
	/* one of an earlier epoch tells of processes that are gone */
	bool mine = df_json_get_u64(root, "format_version", 0) == DF_STATUS_VERSION &&
		    (!v->has_journal || df_json_get_u64(root, "epoch", 0) >= v->journal.epoch);
	v->news = mine ? root : NULL;
}

/* Of a run that was killed: its purse survived, run.json was written when it began. */
static void read_costs(struct df_view *v)
{
	if (!v->live && !v->run.costs.known)
		v->run.costs = df_expenses_peek(v->dir_fd);
}

static enum df_err look(struct df_view *v, struct df_fail *fail)
{
	v->live = is_live(v->dir_fd);
	enum df_err err = df_run_json_read(&df_io_real, v->dir_fd, &v->arena, &v->run, fail);
	if (err != DF_OK && err != DF_ERR_NOT_FOUND)
		return err;
	v->has_run_json = err == DF_OK;
	DF_TRY(read_journal(v, fail));
	if (!v->has_run_json && !v->has_journal && !v->live)
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "'%s' is not a run directory: it has neither run.json nor a journal", v->path);
	read_news(v);
	read_costs(v);
	v->generations = df_retry_generations(v->path);
	return DF_OK;
}

enum df_err df_view_open(const char *path, struct df_view *ret_view, struct df_fail *fail)
{
	*ret_view = (struct df_view){.dir_fd = -1};
	if (strlen(path) >= sizeof(ret_view->path))
		return df_fail(fail, DF_ERR_LIMIT, "the path of the run directory is too long");
	(void)snprintf(ret_view->path, sizeof(ret_view->path), "%s", path);
	df_arena_init(&ret_view->arena, ARENA_BYTES, 0);
	df_replay_init(&ret_view->journal);
	ret_view->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	enum df_err err = ret_view->dir_fd < 0 ? df_fail_errno(fail, "cannot open the run directory '%s'", path)
					       : look(ret_view, fail);
	if (err != DF_OK)
		df_view_close(ret_view);
	return err;
}

void df_view_close(struct df_view *v)
{
	if (v->dir_fd > 0)
		(void)close(v->dir_fd);
	df_replay_release(&v->journal);
	df_arena_release(&v->arena);
	*v = (struct df_view){.dir_fd = -1};
}

const char *df_view_state(const struct df_view *v)
{
	static const char *const ended[] = {"finished", "stopped", "failed"};
	if (v->live)
		return v->has_journal ? "running" : "starting";
	if (v->has_journal && v->journal.finished)
		return "finished";
	for (size_t i = 0; v->has_run_json && i < sizeof(ended) / sizeof(ended[0]); i++)
		if (i > 0 && df_str_is(v->run.state, ended[i]))
			return ended[i];
	return "dead";
}
