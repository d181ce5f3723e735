// SPDX-License-Identifier: Apache-2.0
/* trace_send: a trace to an OpenTelemetry receiver, request by request. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "worker/call/trace_export.h"
#include "worker/net/http.h"

#define BODY_BYTES ((size_t)64 << 20)
#define ANSWER_BYTES ((uint64_t)1 << 20)
#define URL_BYTES 2048
#define HEADERS_MAX 16
#define PATH "/v1/traces"
#define PAUSE_MS 500 /* before the first retry, doubled to ... */
#define PAUSE_MAX_MS 8000
#define RETRY_AFTER_MAX_MS 60000

struct sender {
	struct df_http *http;
	char url[URL_BYTES];
	char shown[URL_BYTES]; /* for people: without a user's name and password, and without a query */
	struct df_http_header header[HEADERS_MAX + 1];
	size_t n_header;
	struct df_arena arena;
	/* one request */
	struct df_str body;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool is_done;
	enum df_err err;
	long status;
	uint64_t retry_after_ms;
	uint64_t rejected;
	char message[256];
};

/* ------------------------------------------------------------------ where to, with which headers */

static enum df_err set_url(struct sender *s, const char *url, struct df_fail *fail)
{
	struct df_str u = df_str_from(url);
	const char *host = strstr(url, "://");
	while (u.n && u.p[u.n - 1] == '/')
		u.n--;
	if (!host || (!df_str_starts(u, "http://") && !df_str_starts(u, "https://")) || u.n > URL_BYTES - sizeof(PATH))
		return df_fail(fail, DF_ERR_USAGE,
			       "an OTLP receiver's address begins with http:// or https://, e.g. "
			       "http://localhost:4318");
	(void)snprintf(s->url, sizeof(s->url), DF_STR_FMT "%s", DF_STR_ARG(u),
		       df_str_ends(u, PATH) || memchr(u.p, '?', u.n) ? "" : PATH);
	host += 3;
	size_t scheme = (size_t)(host - url), authority = strcspn(host, "/?#");
	const char *at = memrchr(host, '@', authority);
	size_t skip = at ? (size_t)(at + 1 - host) : 0;
	(void)snprintf(s->shown, sizeof(s->shown), "%.*s%.*s", (int)scheme, url, (int)strcspn(host + skip, "?#"),
		       host + skip);
	return DF_OK;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* %41 is A. NULL p: out of memory. */
static struct df_str decoded(struct sender *s, struct df_str v)
{
	struct df_str copy = df_arena_copy(&s->arena, v);
	char *out = (char *)(uintptr_t)copy.p;
	size_t n = 0;
	for (size_t i = 0; out && i < v.n; i++) {
		int high = v.p[i] == '%' && i + 2 < v.n ? digit(v.p[i + 1]) : -1;
		int low = high >= 0 ? digit(v.p[i + 2]) : -1;
		out[n++] = low >= 0 ? (char)(high << 4 | low) : v.p[i];
		i += low >= 0 ? 2 : 0;
	}
	return (struct df_str){copy.p, n};
}

/* What a header's name and value may be made of; the rest would be another header. */
static bool is_clean(struct df_str s, bool name)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < (name ? 33 : 32) || s.p[i] == 127 || (name && s.p[i] == ':'))
			return false;
	return s.n > 0 || !name;
}

static enum df_err add_header(struct sender *s, struct df_str pair, struct df_fail *fail)
{
	const char *equals = memchr(pair.p, '=', pair.n);
	size_t n = equals ? (size_t)(equals - pair.p) : 0;
	struct df_str name = df_str_trim((struct df_str){pair.p, n});
	if (!equals || s->n_header == HEADERS_MAX)
		return df_fail(fail, DF_ERR_USAGE,
			       "OTEL_EXPORTER_OTLP_HEADERS is a list of name=value, at most %d of them", HEADERS_MAX);
	struct df_str value = decoded(s, df_str_trim((struct df_str){equals + 1, pair.n - n - 1}));
	struct df_str copy = df_arena_copy(&s->arena, name);
	if (!value.p || !copy.p)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the trace's export");
	if (!is_clean(name, true) || !is_clean(value, false))
		return df_fail(fail, DF_ERR_USAGE,
			       "OTEL_EXPORTER_OTLP_HEADERS has a name or value that no header can have");
	s->header[s->n_header++] = (struct df_http_header){.name = copy.p, .value = value, .secret = true};
	return DF_OK;
}

static enum df_err set_headers(struct sender *s, struct df_fail *fail)
{
	const char *z = getenv("OTEL_EXPORTER_OTLP_HEADERS");
	s->header[s->n_header++] = (struct df_http_header){.name = "Content-Type", .value = DF_STR("application/json")};
	while (z && *z) {
		size_t n = strcspn(z, ",");
		struct df_str pair = df_str_trim((struct df_str){z, n});
		if (pair.n)
			DF_TRY(add_header(s, pair, fail));
		z += n + (z[n] == ',');
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ one request */

/* {"partialSuccess":{"rejectedSpans":"3","errorMessage":"..."}} of a receiver that took the others. */
static void read_answer(struct sender *s, struct df_str body)
{
	struct df_json *root = NULL;
	struct df_arena arena;
	df_arena_init(&arena, (size_t)4 << 20, 0);
	if (body.n && df_json_parse(body, &arena, &root, NULL) == DF_OK) {
		const struct df_json *part = df_json_get(root, "partialSuccess");
		const struct df_json *n = df_json_get(part, "rejectedSpans");
		uint64_t rejected = n && n->type == DF_JSON_NUMBER ? n->u64 : 0;
		if (n && n->type == DF_JSON_STRING && df_str_to_u64(n->string, &rejected) != DF_OK)
			rejected = 0;
		s->rejected = rejected;
		(void)snprintf(s->message, sizeof(s->message), DF_STR_FMT,
			       DF_STR_ARG(df_json_get_str(part, "errorMessage")));
	}
	df_arena_release(&arena);
}

static void on_done(void *self, const struct df_http_response *r)
{
	struct sender *s = self;
	struct df_str after = r->header ? r->header(r, "retry-after") : (struct df_str){NULL, 0};
	uint64_t seconds = 0;
	if (!after.n || df_str_to_u64(df_str_trim(after), &seconds) != DF_OK)
		seconds = 0; /* a date: the usual pause */
	(void)pthread_mutex_lock(&s->lock);
	s->err = r->err;
	s->status = r->status;
	s->retry_after_ms = seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
	s->rejected = 0;
	(void)snprintf(s->message, sizeof(s->message), "%s", r->err != DF_OK ? r->message : "");
	if (r->err == DF_OK && r->status / 100 == 2)
		read_answer(s, r->body);
	s->is_done = true;
	(void)pthread_cond_signal(&s->done);
	(void)pthread_mutex_unlock(&s->lock);
}

/* On the network thread. */
static void send_now(void *self)
{
	struct sender *s = self;
	uint64_t id;
	struct df_fail fail = {.msg = ""};
	struct df_http_request request = {
		.method = "POST",
		.url = s->url,
		.header = s->header,
		.n_header = s->n_header,
		.body = s->body,
		.timeout = {.connect = DF_TRACE_EXPORT_MS / 3, .total = DF_TRACE_EXPORT_MS},
		.body_max = ANSWER_BYTES,
		.on_done = on_done,
		.self = s,
	};
	enum df_err err = df_http_send(s->http, &request, &id, &fail);
	if (err == DF_OK)
		return;
	struct df_http_response none = {.err = err};
	(void)snprintf(none.message, sizeof(none.message), "%.250s", fail.msg);
	on_done(s, &none);
}

static enum df_err send_once(struct sender *s)
{
	s->is_done = false;
	enum df_err err = df_http_post(s->http, send_now, s);
	(void)pthread_mutex_lock(&s->lock);
	while (err == DF_OK && !s->is_done)
		(void)pthread_cond_wait(&s->done, &s->lock);
	(void)pthread_mutex_unlock(&s->lock);
	return err;
}

static bool may_retry(const struct sender *s)
{
	if (s->err != DF_OK)
		return s->err == DF_ERR_CLOSED || s->err == DF_ERR_IO || s->err == DF_ERR_TIMEOUT;
	return s->status == 429 || s->status == 502 || s->status == 503 || s->status == 504;
}

static void pause_before(const struct sender *s, unsigned n_retry)
{
	uint64_t ms = PAUSE_MS << (n_retry < 5 ? n_retry : 5);
	ms = ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : ms;
	ms = ms / 2 + df_rand_real.next(df_rand_real.self) % (ms / 2);
	ms = s->retry_after_ms > ms ? s->retry_after_ms : ms;
	struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
	(void)nanosleep(&t, NULL);
}

static enum df_err send_batch(struct sender *s, struct df_str body, struct df_trace_sent *sent, struct df_fail *fail)
{
	s->body = body;
	for (unsigned attempt = 1;; attempt++) {
		enum df_err err = send_once(s);
		if (err != DF_OK)
			return df_fail(fail, err, "cannot send the trace: out of memory");
		sent->requests++;
		if (s->err == DF_OK && s->status / 100 == 2)
			return DF_OK;
		if (!may_retry(s) || attempt == DF_TRACE_EXPORT_ATTEMPTS)
			break;
		sent->retries++;
		pause_before(s, attempt - 1);
	}
	if (s->err != DF_OK)
		return df_fail(fail, s->err, "cannot send the trace to '%s': %s", s->shown, s->message);
	return df_fail(fail, DF_ERR_UNSUPPORTED, "the receiver of traces at '%s' answered with status %ld", s->shown,
		       s->status);
}

/* ------------------------------------------------------------------ the whole */

static enum df_err send_all(struct sender *s, struct df_trace_tree *t, struct df_trace_sent *sent, struct df_fail *fail)
{
	struct df_buf body;
	enum df_err err = DF_OK;
	df_buf_init(&body, BODY_BYTES);
	for (size_t i = 0; i < t->n && err == DF_OK; i += DF_TRACE_BATCH) {
		size_t n = t->n - i < DF_TRACE_BATCH ? t->n - i : DF_TRACE_BATCH;
		df_buf_reset(&body);
		err = df_trace_otlp(t, i, n, &body);
		if (err != DF_OK) {
			(void)df_fail(fail, err, "cannot make the trace's export");
			break;
		}
		err = send_batch(s, df_buf_str(&body), sent, fail);
		sent->spans += err == DF_OK ? n : 0;
		sent->rejected += err == DF_OK ? s->rejected : 0;
		if (err == DF_OK && s->rejected)
			memcpy(sent->message, s->message, sizeof(sent->message));
	}
	df_buf_release(&body);
	return err;
}

enum df_err df_trace_export(const char *path, const char *url, struct df_trace_sent *ret_sent, struct df_fail *fail)
{
	struct df_trace_tree tree;
	struct df_trace_sent sent = {.spans = 0};
	struct df_http_config config = {.max_connections = 1};
	struct sender *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the trace's export");
	df_arena_init(&s->arena, (size_t)1 << 20, 0);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->done, NULL);
	enum df_err err = set_url(s, url, fail);
	if (err == DF_OK)
		err = set_headers(s, fail);
	if (err == DF_OK)
		err = df_trace_load(path, &tree, fail);
	if (err == DF_OK) {
		err = df_http_open(&config, &s->http, fail);
		if (err == DF_OK)
			err = send_all(s, &tree, &sent, fail);
		df_http_close(&s->http);
		df_trace_release(&tree);
	}
	(void)snprintf(sent.to, sizeof(sent.to), "%.511s", s->shown);
	if (err == DF_OK && ret_sent)
		*ret_sent = sent;
	df_arena_release(&s->arena);
	(void)pthread_cond_destroy(&s->done);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
	return err;
}
