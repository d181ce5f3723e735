// SPDX-License-Identifier: Apache-2.0
/*
 * trace: spans become lines, lines wait in a buffer, a thread writes them.
 *
 * DESIGN. Who puts a span must never wait for a disk, so it only makes a line (trace_line.c) under a mutex; the thread takes the whole buffer and writes it in pieces of at
 * most DF_TRACE_WRITE_BYTES that end with a line. On a local file one write() with O_APPEND is made under the inode's lock: others' come before or
 * after it. What can be torn is the end of a write whose process was killed in it: the line is then followed at once by another process's, so
 * every line begins with the same bytes, which cannot be inside a JSON string, and a reader finds it again (trace_file.c).
 */
#include "worker/trace/trace.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "worker/trace/trace_line.h"

#define STACK_BYTES ((size_t)128 << 10)
#define DOC_BYTES 1024 /* of document ids; escaped they may be six times as long, and a line still fits */
#define WAKE_BYTES (4 * DF_TRACE_WRITE_BYTES)

struct df_trace {
	int fd;
	uint32_t pid;
	uint64_t run_id;
	_Atomic uint64_t next_id;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct df_buf waiting; /* lines */
	struct df_buf line;    /* the one that is made */
	struct df_span held;   /* an attempt whose call may come next, with its strings in: */
	struct df_buf held_text;
	bool holds;
	uint64_t left_out;
	pthread_t writer;
	bool has_writer, stop;
	struct df_buf writing; /* the writer's */
	bool failed, told;
	int error;
};

static uint64_t not_zero(uint64_t v)
{
	return v ? v : 1;
}

uint64_t df_trace_id(struct df_trace *t)
{
	uint64_t n = atomic_fetch_add(&t->next_id, 1);
	return not_zero(df_hash64(&n, sizeof(n)));
}

/* ------------------------------------------------------------------ spans in */

/* The first line of each write tells the run. */
static void add_line(struct df_trace *t, const struct df_trace_line *l)
{
	bool first = t->waiting.n == 0;
	enum df_err err = df_trace_line_make(&t->line, l, first, DOC_BYTES);
	if (err == DF_ERR_LIMIT)
		err = df_trace_line_make(&t->line, l, first, 64); /* escapes made it too long */
	if (err == DF_OK && df_buf_add_str(&t->waiting, df_buf_str(&t->line)) == DF_OK)
		return;
	t->waiting.err = DF_OK; /* there is room again when it has been written */
	t->left_out++;
}

static struct df_trace_line line_of(struct df_trace *t, const struct df_span *s)
{
	struct df_trace_line l = {.span = *s, .run_id = t->run_id, .pid = t->pid};
	l.span.id = s->id ? s->id : df_trace_id(t);
	return l;
}

static void release_held(struct df_trace *t)
{
	if (!t->holds)
		return;
	struct df_trace_line l = line_of(t, &t->held);
	t->holds = false;
	add_line(t, &l);
}

static struct df_str hold_str(struct df_trace *t, struct df_str s)
{
	char *p = t->held_text.p + t->held_text.n;
	(void)df_buf_add_str(&t->held_text, s);
	return (struct df_str){p, s.n};
}

/* Most attempts are followed by the call that they end: they wait for it, and need no line then. false: too long for that. */
static bool hold(struct df_trace *t, const struct df_span *s)
{
	df_buf_reset(&t->held_text);
	size_t need = s->doc_id.n + s->stage.n + s->model.n + s->provider.n + s->name.n;
	if (s->kind != DF_SPAN_ATTEMPT || df_buf_reserve(&t->held_text, need + 1) != DF_OK)
		return false;
	t->held = *s;
	t->held.name = hold_str(t, s->name);
	t->held.doc_id = hold_str(t, s->doc_id);
	t->held.stage = hold_str(t, s->stage);
	t->held.model = hold_str(t, s->model);
	t->held.provider = hold_str(t, s->provider);
	return t->holds = true;
}

void df_trace_put(struct df_trace *t, const struct df_span *s)
{
	struct df_trace_line l = line_of(t, s);
	(void)pthread_mutex_lock(&t->lock);
	bool empty = t->waiting.n == 0 && !t->holds;
	if (t->failed)
		goto out; /* told by df_trace_failed */
	if (t->holds && df_trace_line_joins(&l.span, &t->held, &l))
		t->holds = false;
	release_held(t);
	if (!hold(t, s))
		add_line(t, &l);
	if (empty || t->waiting.n >= WAKE_BYTES)
		(void)pthread_cond_signal(&t->wake);
out:
	(void)pthread_mutex_unlock(&t->lock);
}

/* ------------------------------------------------------------------ writing */

/* The longest piece of whole lines that one write takes. */
static size_t piece(const char *p, size_t n)
{
	if (n <= DF_TRACE_WRITE_BYTES)
		return n;
	const char *end = memrchr(p, '\n', DF_TRACE_WRITE_BYTES);
	return end ? (size_t)(end - p) + 1 : n;
}

/* 0, or errno. What a short write left is written behind it: the piece is in two then, which readers survive. */
static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		size_t want = piece(p, n);
		ssize_t done = TEMP_FAILURE_RETRY(write(fd, p, want));
		if (done < 0)
			return errno;
		p += done;
		n -= (size_t)done;
	}
	return 0;
}

static void wait_for_lines(struct df_trace *t)
{
	while (!t->stop && t->waiting.n == 0 && !t->holds)
		(void)pthread_cond_wait(&t->wake, &t->lock);
	uint64_t at = df_clock_mono(&df_clock_real) + DF_TRACE_FLUSH_MS * DF_MS;
	struct timespec end = {(time_t)(at / DF_SEC), (long)(at % DF_SEC)};
	while (!t->stop && t->waiting.n < WAKE_BYTES && pthread_cond_timedwait(&t->wake, &t->lock, &end) != ETIMEDOUT)
		;
}

static void *writer_main(void *self)
{
	struct df_trace *t = self;
	bool stop = false;
	(void)pthread_mutex_lock(&t->lock);
	while (!stop) {
		wait_for_lines(t);
		stop = t->stop;
		release_held(t);
		struct df_buf lines = t->waiting;
		t->waiting = t->writing;
		t->writing = lines;
		if (stop && t->left_out)
			(void)df_buf_addf(&t->writing, "{\"left_out\":%llu,\"pid\":%d}\n",
					  (unsigned long long)t->left_out, (int)getpid());
		(void)pthread_mutex_unlock(&t->lock);
		int e = write_all(t->fd, t->writing.p, t->writing.n);
		df_buf_reset(&t->writing);
		(void)pthread_mutex_lock(&t->lock);
		if (e && !t->failed) {
			t->failed = true;
			t->error = e;
		}
	}
	(void)pthread_mutex_unlock(&t->lock);
	return NULL;
}

bool df_trace_failed(struct df_trace *t, struct df_fail *ret_fail)
{
	(void)pthread_mutex_lock(&t->lock);
	bool news = t->failed && !t->told;
	t->told = t->told || news;
	int e = t->error;
	(void)pthread_mutex_unlock(&t->lock);
	if (!news)
		return false;
	errno = e;
	(void)df_fail_errno(ret_fail, "cannot write the trace, which ends here");
	return true;
}

/* ------------------------------------------------------------------ open and close */

static bool start(struct df_trace *t)
{
	pthread_attr_t small;
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_attr_init(&small);
	(void)pthread_attr_setstacksize(&small, STACK_BYTES);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	t->has_writer = pthread_create(&t->writer, &small, writer_main, t) == 0;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&small);
	return t->has_writer;
}

enum df_err df_trace_open(int fd, uint64_t run_id, struct df_trace **ret_trace, struct df_fail *fail)
{
	pthread_condattr_t monotonic;
	struct df_trace *t = calloc(1, sizeof(*t));
	if (!t)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a trace");
	t->fd = fd;
	t->pid = (uint32_t)getpid();
	t->run_id = run_id;
	uint64_t seed[2] = {(uint64_t)getpid(), df_clock_real.wall_ns(NULL)};
	atomic_init(&t->next_id, df_hash64(seed, sizeof(seed)) ^ run_id);
	df_buf_init(&t->waiting, DF_TRACE_BUFFER_BYTES);
	df_buf_init(&t->writing, DF_TRACE_BUFFER_BYTES);
	df_buf_init(&t->line, DF_TRACE_LINE_ROOM);
	df_buf_init(&t->held_text, DF_TRACE_LINE_BYTES);
	if (df_buf_reserve(&t->line, DF_TRACE_LINE_ROOM) != DF_OK) {
		free(t);
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a trace");
	}
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_cond_init(&t->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	if (!start(t)) {
		df_trace_close(&t);
		return df_fail(fail, DF_ERR_NOMEM, "cannot start a thread for the trace");
	}
	*ret_trace = t;
	return DF_OK;
}

void df_trace_close(struct df_trace **trace)
{
	struct df_trace *t = *trace;
	if (!t)
		return;
	(void)pthread_mutex_lock(&t->lock);
	t->stop = true;
	(void)pthread_cond_signal(&t->wake);
	(void)pthread_mutex_unlock(&t->lock);
	if (t->has_writer)
		(void)pthread_join(t->writer, NULL);
	df_buf_release(&t->waiting);
	df_buf_release(&t->writing);
	df_buf_release(&t->line);
	df_buf_release(&t->held_text);
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->wake);
	free(t);
	*trace = NULL;
}
