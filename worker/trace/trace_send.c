// SPDX-License-Identifier: Apache-2.0
/*
 * trace_send: a trace to an OpenTelemetry receiver, request by request.
 *
 * DESIGN. Who waits here is a person whose run is over, so that every wait has an end and a signal ends it at once: the thread that sends polls two
 * descriptors, one that on_done (on the network thread) writes, and a signalfd. Patience counts from the last request that was taken: a receiver that works
 * on is waited for, one that is silent is not.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/url.h"
#include "worker/trace/trace_export.h"
#include "worker/net/http.h"
#include "worker/provider/wire/wire.h"

#define BODY_BYTES ((size_t)64 << 20)
#define ANSWER_BYTES ((uint64_t)1 << 20)
#define URL_BYTES 2048
#define HEADERS_MAX 16
#define PATH "/v1/traces"
#define PAUSE_MS 500 /* before the first retry, doubled to ... */
#define PAUSE_MAX_MS 8000

static const int ending_signal[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

struct sender {
	struct df_http *http;
	char url[URL_BYTES];
	char shown[URL_BYTES]; /* for people: without a user's name and password, and without a query */
	struct df_http_header header[HEADERS_MAX + 1];
	size_t n_header;
	struct df_arena arena;
	struct df_trace_patience patience;
	uint64_t begun_ns, taken_ns; /* the export; the last request that was taken, or the beginning */
	int signal_fd;               /* -1: signals have their usual effect */
	/* one request */
	struct df_str body;
	int done_fd;
	pthread_mutex_t lock;
	enum df_err err;
	bool unreachable; /* no connection came about */
	long status;
	uint64_t retry_after_ms;
	uint64_t rejected;
	char message[256];
};

/* ------------------------------------------------------------------ where to, with which headers */

/* Where `c` is, or the end. */
static size_t find(struct df_str s, char c)
{
	const char *p = s.n ? memchr(s.p, c, s.n) : NULL;
	return p ? (size_t)(p - s.p) : s.n;
}

/* No message repeats more of the address than its host: the rest may be a secret. */
static enum df_err set_url(struct sender *s, const char *url, struct df_fail *fail)
{
	struct df_str u = df_str_from(url);
	size_t scheme = df_str_starts(u, "https://") ? 8 : df_str_starts(u, "http://") ? 7 : 0;
	size_t authority = strcspn(url + scheme, "/?#");
	struct df_str host = {url + scheme, authority};
	if (!scheme || u.n > URL_BYTES - sizeof(PATH))
		return df_fail(fail, DF_ERR_USAGE,
			       "an OTLP receiver's address begins with http:// or https://, e.g. "
			       "http://localhost:4318");
	if (authority && memchr(host.p, '@', host.n))
		return df_fail(fail, DF_ERR_USAGE,
			       "the OTLP receiver's address holds a name or a password, which everybody sees who lists "
			       "processes: put them into OTEL_EXPORTER_OTLP_HEADERS (authorization=...)");
	/* a query is the receiver's business */
	DF_TRY(df_url_check("the OTLP receiver's address", (struct df_str){u.p, find(u, '?')}, fail));
	for (size_t i = find(u, '?'); i < u.n; i++)
		if ((unsigned char)u.p[i] <= ' ' || u.p[i] == 127)
			return df_fail(fail, DF_ERR_USAGE, "the OTLP receiver's address has a blank in it");
	bool query = memchr(u.p, '?', u.n) != NULL;
	while (!query && u.n && u.p[u.n - 1] == '/')
		u.n--;
	(void)snprintf(s->url, sizeof(s->url), DF_STR_FMT "%s", DF_STR_ARG(u),
		       df_str_ends(u, PATH) || query ? "" : PATH);
	(void)snprintf(s->shown, sizeof(s->shown), "%.*s", (int)strcspn(url, "?#"), url);
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

/* A stranger's words on somebody's terminal: no control characters, C1 neither. */
static void set_message(struct sender *s, struct df_str words)
{
	size_t n = words.n < sizeof(s->message) ? words.n : sizeof(s->message) - 1;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)words.p[i];
		bool c1 = c == 0xc2 && i + 1 < n && (unsigned char)words.p[i + 1] < 0xa0;
		s->message[i] = c < 32 || c == 127 || c1 ? ' ' : (char)c;
		if (c1)
			s->message[++i] = ' ';
	}
	s->message[n] = '\0';
	df_str_make_utf8(s->message);
}

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
		set_message(s, df_json_get_str(part, "errorMessage"));
	}
	df_arena_release(&arena);
}

static void on_done(void *self, const struct df_http_response *r)
{
	struct sender *s = self;
	int64_t after_ms = r->header ? df_wire_retry_after(r) : -1;
	(void)pthread_mutex_lock(&s->lock);
	s->err = r->err;
	s->unreachable = r->err != DF_OK && r->err != DF_ERR_TIMEOUT && r->phase == DF_HTTP_CONNECT;
	s->status = r->status;
	s->retry_after_ms = after_ms > 0 ? (uint64_t)after_ms : 0;
	s->rejected = 0;
	(void)snprintf(s->message, sizeof(s->message), "%s", r->err != DF_OK ? r->message : "");
	if (r->err == DF_OK && r->status / 100 == 2)
		read_answer(s, r->body);
	(void)pthread_mutex_unlock(&s->lock);
	(void)eventfd_write(s->done_fd, 1); /* cannot fail: the counter is far from its end */
}

/* ms that are left until `end_ns`. */
static uint64_t left_ms(uint64_t end_ns)
{
	uint64_t now = df_clock_mono(&df_clock_real);
	return end_ns > now ? (end_ns - now + DF_MS - 1) / DF_MS : 0;
}

/* What is left of the patience. Who cannot even be reached is given up sooner. */
static uint64_t patience_ms(const struct sender *s)
{
	uint64_t quiet = s->patience.quiet_ms, whole = s->patience.total_ms;
	if (s->unreachable && quiet > DF_TRACE_UNREACHABLE_MS)
		quiet = DF_TRACE_UNREACHABLE_MS;
	uint64_t left = left_ms(s->taken_ns + quiet * DF_MS);
	uint64_t in_all = whole ? left_ms(s->begun_ns + whole * DF_MS) : left;
	return left < in_all ? left : in_all;
}

/* Until `fd` can be read (-1: nothing is waited for) or the time is over, whichever is first; false: a signal came. */
static bool wait_for(const struct sender *s, int fd, uint64_t ms)
{
	uint64_t end = df_clock_mono(&df_clock_real) + ms * DF_MS;
	for (;;) {
		struct pollfd p[2] = {{.fd = s->signal_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
		uint64_t left = left_ms(end);
		int n = poll(p, 2, left < 60000 ? (int)left : 60000);
		if (n > 0 && (p[0].revents & POLLIN))
			return false;
		if ((n > 0 && p[1].revents) || (n == 0 && left == 0))
			return true;
	}
}

/* On the network thread. */
static void send_now(void *self)
{
	struct sender *s = self;
	uint64_t id, left = patience_ms(s);
	struct df_fail fail = {.msg = ""};
	struct df_http_request request = {
		.method = "POST",
		.url = s->url,
		.header = s->header,
		.n_header = s->n_header,
		.body = s->body,
		.timeout = {.connect = left < DF_TRACE_EXPORT_MS / 3 ? left : DF_TRACE_EXPORT_MS / 3,
			    .total = left < DF_TRACE_EXPORT_MS ? left : DF_TRACE_EXPORT_MS},
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

static enum df_err interrupted(const struct sender *s, struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_INTERRUPTED, "a signal ended the sending to '%s'", s->shown);
}

/* The request's own time-out ends it before the patience does, or together with it. */
static enum df_err send_once(struct sender *s, struct df_fail *fail)
{
	eventfd_t n;
	if (df_http_post(s->http, send_now, s) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "cannot send the trace: out of memory");
	if (!wait_for(s, s->done_fd, 2 * (uint64_t)DF_TRACE_EXPORT_MS))
		return interrupted(s, fail);
	(void)eventfd_read(s->done_fd, &n);
	return DF_OK;
}

static bool may_retry(const struct sender *s)
{
	if (s->err != DF_OK)
		return s->err == DF_ERR_CLOSED || s->err == DF_ERR_IO || s->err == DF_ERR_TIMEOUT;
	return s->status == 429 || s->status == 502 || s->status == 503 || s->status == 504;
}

static uint64_t pause_ms(const struct sender *s, unsigned n_retry)
{
	uint64_t ms = PAUSE_MS << (n_retry < 5 ? n_retry : 5);
	ms = ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : ms;
	ms = ms / 2 + df_rand_real.next(df_rand_real.self) % (ms / 2);
	return s->retry_after_ms > ms ? s->retry_after_ms : ms;
}

/* What to do about a status that is no success. */
static enum df_err refused(const struct sender *s, const struct df_trace_sent *sent, struct df_fail *fail)
{
	char more[160] = "";
	if (s->retry_after_ms)
		(void)snprintf(more, sizeof(more), " and wants to be asked again in %" PRIu64 " s",
			       (s->retry_after_ms + 999) / 1000);
	else if (s->status / 100 == 3)
		(void)snprintf(more, sizeof(more), ", a redirect: give the address that it leads to");
	else if (s->status == 401 || s->status == 403)
		(void)snprintf(more, sizeof(more), ": what it wants goes into OTEL_EXPORTER_OTLP_HEADERS");
	else if (s->status == 404 || s->status == 405)
		(void)snprintf(more, sizeof(more), ": is '" PATH "' below this address?");
	if (sent->spans)
		(void)snprintf(more + strlen(more), sizeof(more) - strlen(more), "; %" PRIu64 " spans are sent",
			       sent->spans);
	return df_fail(fail, DF_ERR_UNSUPPORTED, "the receiver of traces at '%s' answered with status %ld%s", s->shown,
		       s->status, more);
}

static enum df_err send_batch(struct sender *s, struct df_str body, struct df_trace_sent *sent, struct df_fail *fail)
{
	s->body = body;
	for (unsigned attempt = 1;; attempt++) {
		DF_TRY(send_once(s, fail));
		sent->requests++;
		if (s->err == DF_OK && s->status / 100 == 2) {
			s->taken_ns = df_clock_mono(&df_clock_real);
			return DF_OK;
		}
		uint64_t pause = pause_ms(s, attempt - 1);
		if (!may_retry(s) || attempt == DF_TRACE_EXPORT_ATTEMPTS || pause >= patience_ms(s))
			break;
		sent->retries++;
		if (!wait_for(s, -1, pause))
			return interrupted(s, fail);
	}
	if (s->err != DF_OK && sent->spans)
		return df_fail(fail, s->err, "cannot send the trace to '%s': %s; %" PRIu64 " spans are sent", s->shown,
			       s->message, sent->spans);
	if (s->err != DF_OK)
		return df_fail(fail, s->err, "cannot send the trace to '%s': %s", s->shown, s->message);
	return refused(s, sent, fail);
}

/* ------------------------------------------------------------------ the whole */

static enum df_err send_all(struct sender *s, struct df_trace_tree *t, struct df_trace_sent *sent, struct df_fail *fail)
{
	struct df_buf body;
	enum df_err err = DF_OK;
	df_buf_init(&body, BODY_BYTES);
	for (size_t i = 0; i < t->n && err == DF_OK; i += DF_TRACE_BATCH) {
		size_t n = t->n - i < DF_TRACE_BATCH ? t->n - i : DF_TRACE_BATCH;
		if (patience_ms(s) == 0) {
			err = df_fail(fail, DF_ERR_TIMEOUT, "'%s' took %" PRIu64 " of %zu spans in %u s", s->shown,
				      sent->spans, t->n, (unsigned)(s->patience.total_ms / 1000));
			break;
		}
		df_buf_reset(&body);
		err = df_trace_otlp(t, i, n, &body);
		if (err != DF_OK) {
			(void)df_fail(fail, err, "cannot make the trace's export");
			break;
		}
		err = send_batch(s, df_buf_str(&body), sent, fail);
		sent->spans += err == DF_OK ? n : 0;
		sent->rejected += err == DF_OK ? s->rejected : 0;
		if (err == DF_OK && s->message[0])
			memcpy(sent->message, s->message, sizeof(sent->message));
	}
	df_buf_release(&body);
	return err;
}

static enum df_err open_and_send(struct sender *s, struct df_trace_tree *t, struct df_trace_sent *sent,
				 struct df_fail *fail)
{
	const struct df_http_config config = {.max_connections = 1};
	DF_TRY(df_http_open(&config, &s->http, fail));
	s->begun_ns = s->taken_ns = df_clock_mono(&df_clock_real);
	enum df_err err = send_all(s, t, sent, fail);
	df_http_close(&s->http);
	return err;
}

static void init(struct sender *s)
{
	s->signal_fd = s->done_fd = -1;
	df_arena_init(&s->arena, (size_t)1 << 20, 0);
	(void)pthread_mutex_init(&s->lock, NULL);
}

static void release(struct sender *s)
{
	if (s->signal_fd >= 0)
		(void)close(s->signal_fd);
	if (s->done_fd >= 0)
		(void)close(s->done_fd);
	df_arena_release(&s->arena);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}

/* OTEL_EXPORTER_OTLP_TIMEOUT, in milliseconds, in place of the caller's. */
static enum df_err set_patience(struct sender *s, const struct df_trace_patience *patience, struct df_fail *fail)
{
	const char *z = getenv("OTEL_EXPORTER_OTLP_TIMEOUT");
	uint64_t ms = 0;
	s->patience = *patience;
	if (!z || !*z)
		return DF_OK;
	if (df_str_to_u64(df_str_from(z), &ms) != DF_OK || ms == 0 || ms > DF_TRACE_QUIET_MAX_MS)
		return df_fail(fail, DF_ERR_USAGE,
			       "OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds from 1 to %u",
			       DF_TRACE_QUIET_MAX_MS);
	s->patience.quiet_ms = ms;
	return DF_OK;
}

static enum df_err prepare(struct sender *s, const char *url, const struct df_trace_patience *patience,
			   struct df_fail *fail)
{
	DF_TRY(set_url(s, url, fail));
	DF_TRY(set_headers(s, fail));
	DF_TRY(set_patience(s, patience, fail));
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->done_fd < 0 ? df_fail_errno(fail, "cannot send the trace") : DF_OK;
}

/* Blocked from here on, in this thread and in those that it starts. */
static enum df_err take_signals(struct sender *s, sigset_t *ret_before, struct df_fail *fail)
{
	sigset_t signals;
	(void)sigemptyset(&signals);
	for (size_t i = 0; i < sizeof(ending_signal) / sizeof(ending_signal[0]); i++)
		(void)sigaddset(&signals, ending_signal[i]);
	(void)pthread_sigmask(SIG_BLOCK, &signals, ret_before);
	s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? df_fail_errno(fail, "cannot send the trace") : DF_OK;
}

enum df_err df_trace_export_check(const char *url, struct df_fail *fail)
{
	struct sender *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the trace's export");
	init(s);
	enum df_err err = prepare(s, url, &(struct df_trace_patience){.quiet_ms = 1}, fail);
	release(s);
	return err;
}

enum df_err df_trace_export(const char *path, const char *url, const struct df_trace_patience *patience,
			    struct df_trace_sent *ret_sent, struct df_fail *fail)
{
	struct df_trace_tree tree;
	struct df_trace_sent sent = {.spans = 0};
	sigset_t before;
	struct sender *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the trace's export");
	init(s);
	enum df_err err = prepare(s, url, patience, fail);
	if (err == DF_OK)
		err = take_signals(s, &before, fail);
	bool taken = s->signal_fd >= 0;
	if (err == DF_OK)
		err = df_trace_load(path, &tree, fail);
	if (err == DF_OK) {
		err = open_and_send(s, &tree, &sent, fail);
		df_trace_release(&tree);
	}
	(void)snprintf(sent.to, sizeof(sent.to), "%.511s", s->shown);
	if (err == DF_OK && ret_sent)
		*ret_sent = sent;
	release(s);
	if (taken)
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}
