// SPDX-License-Identifier: Apache-2.0
/* trace_file: the mapped file, its lines, torn ones, and which run a process belongs to. */
#include "worker/trace/trace_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_ARENA ((size_t)1 << 20)
#define FORGET_BYTES ((size_t)8 << 20)
#define BEGIN "{\"span\":\""

static enum df_err map_file(const char *path, struct df_str *ret_text, struct df_fail *fail)
{
	char name[4096 + 16];
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		(void)snprintf(name, sizeof(name), "%.4095s/trace.jsonl", path);
	else
		(void)snprintf(name, sizeof(name), "%.4095s", path);
	int fd = TEMP_FAILURE_RETRY(open(name, O_RDONLY | O_CLOEXEC));
	if (fd < 0 && errno == ENOENT)
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "there is no trace '%.500s': only runs whose stages call models have one", name);
	if (fd < 0 || fstat(fd, &st) != 0) {
		enum df_err err = df_fail_errno(fail, "cannot read the trace '%.500s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	void *p = st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	enum df_err err = p == MAP_FAILED ? df_fail_errno(fail, "cannot read the trace '%.500s'", name) : DF_OK;
	(void)close(fd);
	if (err == DF_OK)
		*ret_text = (struct df_str){p, st.st_size > 0 ? (size_t)st.st_size : 0};
	return err;
}

enum df_err df_trace_file_open(const char *path, bool forgets, struct df_trace_file *ret_file, struct df_fail *fail)
{
	struct df_str text;
	DF_TRY(map_file(path, &text, fail));
	*ret_file = (struct df_trace_file){.text = text, .forgets = forgets};
	df_arena_init(&ret_file->arena, LINE_ARENA, LINE_ARENA);
	if (text.n && forgets)
		(void)madvise((void *)(uintptr_t)text.p, text.n, MADV_SEQUENTIAL);
	return DF_OK;
}

void df_trace_file_close(struct df_trace_file *f)
{
	if (f->text.n)
		(void)munmap((void *)(uintptr_t)f->text.p, f->text.n);
	df_arena_release(&f->arena);
	f->text = (struct df_str){NULL, 0};
}

static void forget(struct df_trace_file *f)
{
	if (!f->forgets || f->at - f->forgotten < 2 * FORGET_BYTES)
		return;
	(void)madvise((void *)(uintptr_t)(f->text.p + f->forgotten), FORGET_BYTES, MADV_DONTNEED);
	f->forgotten += FORGET_BYTES;
}

/* What a killed process left of its last line stands right before another's first: a line begins where it says so last. */
static struct df_str untorn(struct df_str line)
{
	size_t n = sizeof(BEGIN) - 1;
	for (size_t i = line.n; i-- > 1;)
		if (line.n - i >= n && memcmp(line.p + i, BEGIN, n) == 0)
			return (struct df_str){line.p + i, line.n - i};
	return line;
}

/* A whole line cannot hold the beginning of one: in its strings, quotes are escaped. */
static bool scan(struct df_trace_file *f, struct df_str *line, struct df_trace_line *ret_line)
{
	struct df_str rest = untorn(*line);
	bool torn = rest.p != line->p;
	f->torn += torn;
	if (df_trace_line_scan(rest, &f->arena, ret_line) != DF_OK) {
		f->torn++;
		return false;
	}
	*line = rest;
	return true;
}

static void put_back(struct df_trace_file *f, struct df_trace_line *l)
{
	size_t at = l->pid % DF_TRACE_FILE_RUNS;
	if (l->run_id) {
		f->run[at].pid = l->pid;
		f->last_run = f->run[at].run_id = l->run_id;
	} else {
		l->run_id = f->run[at].pid == l->pid && f->run[at].run_id ? f->run[at].run_id : f->last_run;
	}
	if (!l->span.parent)
		l->span.parent = df_trace_parent(l->run_id, &l->span);
	if (l->span.parent == l->span.id)
		l->span.parent = 0;
}

bool df_trace_file_next(struct df_trace_file *f, struct df_trace_line *ret_line, struct df_str *ret_text)
{
	while (f->at < f->text.n) {
		const char *p = f->text.p + f->at;
		const char *stop = memchr(p, '\n', f->text.n - f->at);
		struct df_str line = {p, stop ? (size_t)(stop - p) : f->text.n - f->at};
		f->at += line.n + (stop != NULL);
		forget(f);
		if (!line.n || (df_trace_line_quick(line, ret_line) != DF_OK && !scan(f, &line, ret_line)))
			continue;
		f->left_out += ret_line->left_out;
		if (ret_line->left_out)
			continue;
		put_back(f, ret_line);
		*ret_text = line;
		return true;
	}
	return false;
}
