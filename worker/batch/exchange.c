// SPDX-License-Identifier: Apache-2.0
/* exchange: a request on the network thread, and the thread that waits for it. */
#include "worker/batch/exchange.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/url.h"

#define TRIES 6
#define BACK_OFF_MS 500U
#define BACK_OFF_MAX_MS 30000U
#define RETRY_AFTER_MAX_MS 120000
#define DOWNLOAD_BYTES_MAX (UINT64_C(64) << 30)
#define HEADERS_MAX 16

static const struct df_http_timeouts short_times = {
	.connect = 30000, .first_byte = 120000, .idle = 60000, .total = 300000};
static const struct df_http_timeouts long_times = {.connect = 30000, .first_byte = 3600000, .idle = 120000, .total = 0};

/* ------------------------------------------------------------------ on the network thread */

static size_t read_from(int fd, uint64_t at, char *p, size_t n)
{
	ssize_t got = TEMP_FAILURE_RETRY(pread(fd, p, n, (off_t)at));
	return got > 0 ? (size_t)got : 0;
}

/* No line break stands inside a line of ours (line.h), so that each is the end of one. */
static size_t read_part(const struct df_exchange *x, uint64_t at, char *p, size_t n)
{
	n = read_from(x->in_fd, at, p, n < x->file_bytes - at ? n : (size_t)(x->file_bytes - at));
	for (size_t i = 0; x->as_list && i < n; i++)
		if (p[i] == '\n')
			p[i] = at + i + 1 == x->file_bytes ? ' ' : ',';
	return n;
}

static size_t read_body(void *self, uint64_t at, char *p, size_t n)
{
	const struct df_exchange *x = self;
	const struct df_str *part = &x->head;
	if (at >= x->head.n) {
		at -= x->head.n;
		if (at < x->file_bytes)
			return read_part(x, at, p, n);
		at -= x->file_bytes;
		part = &x->tail;
	}
	if (at >= part->n)
		return 0;
	if (n > part->n - at)
		n = part->n - (size_t)at;
	memcpy(p, part->p + at, n);
	return n;
}

static bool on_data(void *self, const char *p, size_t n)
{
	struct df_exchange *x = self;
	while (n) {
		ssize_t w = write(x->out_fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			x->write_errno = w < 0 ? errno : EIO;
			return false;
		}
		p += w;
		n -= (size_t)w;
	}
	return true;
}

static int64_t retry_after(const struct df_http_response *response)
{
	uint64_t n = 0;
	if (df_str_to_u64(response->header(response, "retry-after-ms"), &n) == DF_OK && n < INT32_MAX)
		return (int64_t)n;
	if (df_str_to_u64(response->header(response, "retry-after"), &n) == DF_OK && n < INT32_MAX / 1000)
		return (int64_t)n * 1000;
	return -1;
}

/* The server's words, without the key. */
static void say_why(struct df_exchange *x, struct df_str body)
{
	struct df_json *root = NULL;
	struct df_answer said = {.class = DF_CALL_OK};
	struct df_str words = {NULL, 0};
	if (body.n && df_json_parse(body, &x->remote->arena, &root, NULL) == DF_OK)
		words = df_json_get_str(df_json_get(root, "error"), "message");
	if (!words.n)
		words = DF_STR("it says no more");
	words.n = df_str_utf8_prefix((struct df_str){words.p, words.n < 300 ? words.n : 300});
	(void)snprintf(said.message, sizeof(said.message), "%.*s", (int)words.n, words.p);
	df_answer_mask(&said, x->at->endpoint);
	(void)snprintf(x->message, sizeof(x->message), "the server answers %ld: %.350s", x->status, said.message);
}

static void tell(struct df_exchange *x)
{
	const uint64_t one = 1;
	x->id = 0;
	(void)!write(x->remote->done_fd, &one, sizeof(one));
}

static void on_done(void *self, const struct df_http_response *response)
{
	struct df_exchange *x = self;
	x->err = response->err;
	x->status = response->status;
	x->went_out = response->phase != DF_HTTP_CONNECT;
	x->unproved = response->close_ended;
	x->retry_after_ms = -1;
	if (response->err != DF_OK) {
		(void)snprintf(x->message, sizeof(x->message), "%.350s", response->message);
	} else {
		x->retry_after_ms = retry_after(response);
		struct df_str body = df_arena_copy(&x->remote->arena, response->body);
		if (response->status < 200 || response->status > 299)
			say_why(x, body);
		else if (!x->to_file && body.n && df_json_parse(body, &x->remote->arena, &x->json, NULL) != DF_OK)
			x->json = NULL;
	}
	tell(x);
}

static void send_now(void *self)
{
	struct df_exchange *x = self;
	struct df_fail why = {.msg = ""};
	x->err = df_http_send(x->remote->http, &x->request, &x->id, &why);
	if (x->err == DF_OK)
		return;
	(void)snprintf(x->message, sizeof(x->message), "%.390s", why.msg);
	x->went_out = false;
	tell(x);
}

static void cancel_now(void *self)
{
	struct df_exchange *x = self;
	struct df_remote *r = x->remote;
	const uint64_t one = 1;
	if (x->id)
		df_http_cancel(r->http, x->id);
	(void)!write(r->done_fd, &one, sizeof(one)); /* x is not used any more */
}

/* ------------------------------------------------------------------ on the thread that waits */

bool df_remote_stopped(struct df_remote *r)
{
	struct pollfd p = {.fd = r->signal_fd, .events = POLLIN};
	return r->signal_fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Until so many events have come. False: a signal came first. */
static bool wait_for_events(const struct df_remote *r, uint64_t many, bool heed_signals)
{
	struct pollfd p[2] = {{.fd = r->done_fd, .events = POLLIN}, {.fd = r->signal_fd, .events = POLLIN}};
	for (;;) {
		uint64_t n = 0;
		if (poll(p, heed_signals && r->signal_fd >= 0 ? 2 : 1, -1) < 0)
			continue;
		if (p[0].revents && read(r->done_fd, &n, sizeof(n)) == sizeof(n)) {
			if (n >= many)
				return true;
			many -= n;
		} else if (p[1].revents) {
			return false;
		}
	}
}

enum df_err df_remote_wait(struct df_remote *r, uint64_t ns)
{
	uint64_t end = df_clock_mono(&df_clock_real) + ns, now;
	while ((now = df_clock_mono(&df_clock_real)) < end) {
		struct pollfd p = {.fd = r->signal_fd, .events = POLLIN};
		uint64_t ms = (end - now) / DF_MS + 1;
		if (poll(&p, r->signal_fd >= 0 ? 1 : 0, ms < 60000 ? (int)ms : 60000) > 0)
			return DF_ERR_INTERRUPTED;
	}
	return DF_OK;
}

static enum df_err set_up(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			  struct df_http_header header[HEADERS_MAX])
{
	struct df_http_request *q = &x->request;
	char *url = df_arena_alloc(&r->arena, at->base.n + x->path.n + 1);
	size_t n = 0;
	if (!url)
		return DF_ERR_NOMEM;
	memcpy(url, at->base.p, at->base.n);
	memcpy(url + at->base.n, x->path.p, x->path.n);
	url[at->base.n + x->path.n] = '\0';
	for (size_t i = 0; i < at->n_header && n + 2 < HEADERS_MAX; i++)
		header[n++] = at->header[i];
	if (x->type.n)
		header[n++] = (struct df_http_header){"Content-Type", x->type, false};
	if (x->to_file)
		header[n++] = (struct df_http_header){"Accept-Encoding", DF_STR("identity"), false};
	*q = (struct df_http_request){.method = x->method,
				      .url = url,
				      .header = header,
				      .n_header = n,
				      .body = x->body,
				      .timeout = x->to_file || x->file_bytes ? long_times : short_times,
				      .body_max = x->to_file ? DOWNLOAD_BYTES_MAX : 0,
				      .on_data = x->to_file ? on_data : NULL,
				      .on_done = on_done,
				      .once = x->once,
				      .self = x};
	if (x->file_bytes) {
		q->read_body = read_body;
		q->body_size = x->head.n + x->file_bytes + x->tail.n;
	}
	x->remote = r;
	x->at = at;
	x->json = NULL;
	x->message[0] = '\0';
	x->status = 0;
	x->id = 0;
	x->write_errno = 0;
	return DF_OK;
}

enum df_err df_exchange_once(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			     struct df_fail *fail)
{
	struct df_http_header header[HEADERS_MAX];
	if (df_remote_stopped(r))
		return df_fail(fail, DF_ERR_INTERRUPTED, "stopped on request");
	if (set_up(r, at, x, header) != DF_OK || df_http_post(r->http, send_now, x) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	bool stopped = false;
	if (!wait_for_events(r, 1, true)) {
		stopped = true;
		/* Without memory for that, the request itself comes to its end. */
		uint64_t cancelled = df_http_post(r->http, cancel_now, x) == DF_OK;
		(void)wait_for_events(r, 1 + cancelled, false);
	}
	if (stopped && x->err != DF_OK)
		return df_fail(fail, DF_ERR_INTERRUPTED, "stopped on request");
	if (x->write_errno) {
		errno = x->write_errno;
		return df_fail_errno(fail, "write what was fetched");
	}
	return DF_OK;
}

static bool is_success(const struct df_exchange *x)
{
	return x->err == DF_OK && x->status >= 200 && x->status < 300 && (x->to_file || x->json);
}

static bool may_pass(const struct df_exchange *x)
{
	if (x->err != DF_OK)
		return x->err != DF_ERR_USAGE && x->err != DF_ERR_LIMIT;
	return x->status == 408 || x->status == 409 || x->status == 425 || x->status == 429 || x->status >= 500 ||
	       (x->status < 300 && !is_success(x));
}

enum df_err df_exchange_fail(const struct df_exchange *x, const char *what, struct df_fail *fail)
{
	const char *why = x->message[0] ? x->message : "the answer is not what it should be";
	const struct df_endpoint *to = x->at ? x->at->endpoint : NULL;
	enum df_err err = DF_ERR_RANGE;
	char advice[400] = "", url[200];
	if (may_pass(x))
		err = DF_ERR_CLOSED;
	else if (x->err != DF_OK)
		err = x->err;
	else if (x->status == 401 || x->status == 403)
		err = DF_ERR_IO;
	else if (x->status == 404)
		err = DF_ERR_NOT_FOUND;
	if (x->err == DF_OK && (x->status == 401 || x->status == 403) && to) {
		df_url_show(x->at->base, url, sizeof(url));
		(void)snprintf(advice, sizeof(advice), "; asked at '%s' with the key in %.*s: check both", url,
			       (int)(to->key_env.n < 100 ? to->key_env.n : 100), to->key_env.n ? to->key_env.p : "");
	}
	return df_fail(fail, err, "cannot %s: %s%s", what, why, advice);
}

enum df_err df_exchange_done(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			     const char *what, struct df_fail *fail)
{
	for (unsigned i = 0;; i++) {
		if (x->to_file && (ftruncate(x->out_fd, 0) != 0 || lseek(x->out_fd, 0, SEEK_SET) != 0))
			return df_fail_errno(fail, "write what was fetched");
		DF_TRY(df_exchange_once(r, at, x, fail));
		if (is_success(x))
			return DF_OK;
		if (!may_pass(x) || i + 1 == TRIES)
			return df_exchange_fail(x, what, fail);
		uint64_t most = BACK_OFF_MS << i, ms;
		most = most < BACK_OFF_MAX_MS ? most : BACK_OFF_MAX_MS;
		ms = most / 2 + df_rand_real.next(df_rand_real.self) % (most / 2);
		if (x->retry_after_ms > (int64_t)ms)
			ms = (uint64_t)(x->retry_after_ms < RETRY_AFTER_MAX_MS ? x->retry_after_ms
									       : RETRY_AFTER_MAX_MS);
		if (df_remote_wait(r, ms * DF_MS) != DF_OK)
			return df_fail(fail, DF_ERR_INTERRUPTED, "stopped on request");
	}
}
