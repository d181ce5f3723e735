// SPDX-License-Identifier: Apache-2.0
/*
 * trace: spans become lines, lines wait in a buffer, a thread writes them.
 *
 * DESIGN. Who puts a span must never wait for a disk, so it only copies a line under a mutex; the thread takes the whole buffer and writes it in pieces of at
 * most DF_TRACE_WRITE_BYTES that end with a line. On a local file one write() with O_APPEND is made under the inode's lock: others' come before or
 * after it. What can be torn is the end of a write whose process was killed in it: the line is then followed at once by another process's, so
 * every line begins with the same bytes, which cannot be inside a JSON string, and a reader finds it again (trace_read.c).
 */
#include "worker/call/trace.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

#define STACK_BYTES ((size_t)128 << 10)
#define NAME_BYTES 160 /* of names, models, providers */
#define DOC_BYTES 1024 /* of document ids; escaped they may be six times as long, and a line still fits */
#define WAKE_BYTES DF_TRACE_WRITE_BYTES

struct df_trace {
	int fd;
	uint32_t pid;
	uint64_t run_id;
	_Atomic uint64_t next_id;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct df_buf waiting; /* lines */
	struct df_buf line;    /* the one that is made */
	uint64_t left_out;
	pthread_t writer;
	bool has_writer, stop;
	struct df_buf writing; /* the writer's */
	bool failed, told;
	int error;
};

static const char *const class_name[DF_N_CALL_CLASS] = {
	"ok", "retry", "rate", "quota", "auth", "bad_input", "not_found", "bad_answer",
};
static const char *const kind_name[DF_N_SPAN_KIND] = {"call", "attempt", "document", "stage", "run"};

const char *df_call_class_name(enum df_call_class class)
{
	return (unsigned)class < DF_N_CALL_CLASS ? class_name[class] : "unknown";
}

const char *df_span_kind_name(enum df_span_kind kind)
{
	return (unsigned)kind < DF_N_SPAN_KIND ? kind_name[kind] : "unknown";
}

/* ------------------------------------------------------------------ ids */

static uint64_t not_zero(uint64_t v)
{
	return v ? v : 1;
}

static uint64_t id_of(uint64_t run_id, const char *kind, struct df_str stage, struct df_str doc_id)
{
	uint64_t word[4] = {run_id, df_hash64(kind, strlen(kind)), df_hash64(stage.n ? stage.p : "", stage.n),
			    df_hash64(doc_id.n ? doc_id.p : "", doc_id.n)};
	return not_zero(df_hash64(word, sizeof(word)));
}

uint64_t df_trace_run_id(uint64_t run_id)
{
	return id_of(run_id, "run", (struct df_str){NULL, 0}, (struct df_str){NULL, 0});
}

uint64_t df_trace_stage_id(uint64_t run_id, struct df_str stage)
{
	return id_of(run_id, "stage", stage, (struct df_str){NULL, 0});
}

uint64_t df_trace_document_id(uint64_t run_id, struct df_str stage, struct df_str doc_id)
{
	return id_of(run_id, "document", stage, doc_id);
}

uint64_t df_trace_id(struct df_trace *t)
{
	uint64_t n = atomic_fetch_add(&t->next_id, 1);
	return not_zero(df_hash64(&n, sizeof(n)));
}

static uint64_t parent_of(const struct df_trace *t, const struct df_span *s)
{
	if (s->parent)
		return s->parent;
	switch (s->kind) {
	case DF_SPAN_RUN:
		return 0;
	case DF_SPAN_STAGE:
		return df_trace_run_id(t->run_id);
	case DF_SPAN_DOCUMENT:
		return df_trace_stage_id(t->run_id, s->stage);
	default:
		break;
	}
	if (s->doc_id.n)
		return df_trace_document_id(t->run_id, s->stage, s->doc_id);
	return s->stage.n ? df_trace_stage_id(t->run_id, s->stage) : df_trace_run_id(t->run_id);
}

/* ------------------------------------------------------------------ a line */

/* Lines are made on the network thread, two for each call: without printf, which took a tenth of that thread's time. */
static void add_key(struct df_buf *b, const char *key)
{
	(void)df_buf_add(b, ",\"", 2);
	(void)df_buf_addz(b, key);
	(void)df_buf_add(b, "\":", 2);
}

static void add_word(struct df_buf *b, const char *key, const char *word)
{
	add_key(b, key);
	(void)df_buf_addc(b, '"');
	(void)df_buf_addz(b, word);
	(void)df_buf_addc(b, '"');
}

static void add_str(struct df_buf *b, const char *key, struct df_str s, size_t max)
{
	if (!s.n)
		return;
	if (s.n > max)
		s.n = max;
	s.n = df_str_utf8_prefix(s);
	add_key(b, key);
	(void)df_json_add_string(b, s);
}

static void add_number(struct df_buf *b, const char *key, uint64_t v)
{
	add_key(b, key);
	(void)df_buf_add_u64(b, v);
}

static void add_u64(struct df_buf *b, const char *key, uint64_t v)
{
	if (v)
		add_number(b, key, v);
}

static void add_id(struct df_buf *b, uint64_t id)
{
	char z[18] = {'"'};
	for (int i = 16; i > 0; i--, id >>= 4)
		z[i] = "0123456789abcdef"[id & 15];
	z[17] = '"';
	(void)df_buf_add(b, z, sizeof(z));
}

static void add_usage(struct df_buf *b, const struct df_span *s)
{
	add_u64(b, "in", s->usage.in);
	add_u64(b, "cached_in", s->usage.cached_in);
	add_u64(b, "out", s->usage.out);
	if ((s->usage.in || s->usage.out) && !s->usage.known)
		(void)df_buf_addz(b, ",\"estimated\":true");
	if (s->usd != 0 && isfinite(s->usd)) {
		add_key(b, "usd");
		(void)df_json_add_double(b, s->usd);
	}
}

static void make_line(struct df_buf *b, const struct df_trace *t, const struct df_span *s, uint64_t id,
		      size_t doc_bytes)
{
	df_buf_reset(b);
	(void)df_buf_addz(b, "{\"span\":");
	add_id(b, id);
	add_key(b, "parent");
	add_id(b, parent_of(t, s));
	add_key(b, "run");
	add_id(b, t->run_id);
	add_number(b, "pid", t->pid);
	add_word(b, "kind", df_span_kind_name(s->kind));
	add_str(b, "name", s->name, NAME_BYTES);
	add_str(b, "doc", s->doc_id, doc_bytes);
	add_str(b, "stage", s->stage, NAME_BYTES);
	add_str(b, "model", s->model, NAME_BYTES);
	add_str(b, "provider", s->provider, NAME_BYTES);
	add_number(b, "start_ns", s->start_wall_ns);
	add_number(b, "duration_ns", s->duration_ns);
	add_u64(b, "queue_ns", s->queue_ns);
	add_u64(b, "first_token_ns", s->first_token_ns);
	add_u64(b, s->kind == DF_SPAN_ATTEMPT ? "attempt" : "attempts", s->attempt);
	add_u64(b, "status", s->status);
	add_u64(b, "inputs", s->inputs);
	add_usage(b, s);
	if (s->cached)
		(void)df_buf_addz(b, ",\"cached\":true");
	add_word(b, "class", df_call_class_name(s->class));
	(void)df_buf_add(b, "}\n", 2);
}

void df_trace_put(struct df_trace *t, const struct df_span *s)
{
	uint64_t id = s->id ? s->id : df_trace_id(t);
	(void)pthread_mutex_lock(&t->lock);
	make_line(&t->line, t, s, id, DOC_BYTES);
	if (df_buf_err(&t->line) == DF_ERR_LIMIT)
		make_line(&t->line, t, s, id, 64); /* escapes made it too long */
	bool empty = t->waiting.n == 0;
	if (t->failed) {
		/* told by df_trace_failed */
	} else if (df_buf_err(&t->line) != DF_OK || df_buf_add_str(&t->waiting, df_buf_str(&t->line)) != DF_OK) {
		t->waiting.err = DF_OK; /* there is room again when it has been written */
		t->left_out++;
	} else if (empty || t->waiting.n >= WAKE_BYTES) {
		(void)pthread_cond_signal(&t->wake);
	}
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
	while (!t->stop && t->waiting.n == 0)
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
	df_buf_init(&t->line, DF_TRACE_LINE_BYTES);
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
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->wake);
	free(t);
	*trace = NULL;
}
