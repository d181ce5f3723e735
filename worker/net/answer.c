// SPDX-License-Identifier: Apache-2.0
/* answer: the head of an answer line by line, and how a transfer ended: one class, and one line for people without query, name or key. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "worker/net/http_core.h"

/* --- the head --- */

struct df_str df_answer_header(struct df_str head, const char *name)
{
	struct df_str found = {NULL, 0};
	size_t n_name = strlen(name);
	while (head.n) {
		const char *end = memchr(head.p, '\n', head.n);
		size_t n = end ? (size_t)(end - head.p) + 1 : head.n;
		if (n > n_name && head.p[n_name] == ':' && strncasecmp(head.p, name, n_name) == 0)
			found = df_str_trim((struct df_str){head.p + n_name + 1, n - n_name - 1});
		head = (struct df_str){head.p + n, head.n - n};
	}
	return found;
}

static struct df_str header(const struct df_http_response *r, const char *name)
{
	const struct df_transfer *t = r->own;
	return df_answer_header(df_buf_str(&t->head), name);
}

static long status_of(const char *p, size_t n)
{
	const char *blank = memchr(p, ' ', n);
	long status = 0;
	for (const char *d = blank ? blank + 1 : p + n; d < p + n && *d >= '0' && *d <= '9' && status < 1000; d++)
		status = 10 * status + (*d - '0');
	return status;
}

/* The empty line: how the body will tell its end. */
static void head_ends(struct df_transfer *t)
{
	struct df_str head = df_buf_str(&t->head);
	struct df_str coding = df_answer_header(head, "content-encoding");
	struct df_str length = df_answer_header(head, "content-length");
	uint64_t bytes = 0;
	t->head_whole = true;
	t->encoded = coding.n && !(coding.n == 8 && strncasecmp(coding.p, "identity", 8) == 0);
	bool counted = df_str_to_u64(length, &bytes) == DF_OK;
	/* libcurl passes over a length that no number can hold. */
	t->framed = t->newer || t->status == 204 || t->status == 304 || strcmp(t->method, "HEAD") == 0 || counted ||
		    df_answer_header(head, "transfer-encoding").n;
	if (t->encoded || !counted || strcmp(t->method, "HEAD") == 0)
		return;
	if (bytes > t->body_max)
		t->stopped = DF_ERR_LIMIT; /* it says so itself: nothing of it is read */
	else if (bytes && bytes <= (1U << 20) && !t->on_data)
		(void)df_buf_reserve(&t->body, bytes);
}

void df_answer_head_line(struct df_transfer *t, const char *p, size_t n)
{
	if (t->head_whole && t->status >= 200)
		return; /* trailers: nobody asks for them */
	if (n > 5 && memcmp(p, "HTTP/", 5) == 0 && (t->head.n == 0 || t->head_whole)) {
		df_buf_reset(&t->head); /* after a "100 Continue" or "103 Early Hints" */
		t->head_whole = false;
		t->status = status_of(p, n);
		t->newer = p[5] >= '2';
	}
	if (df_buf_add(&t->head, p, n) != DF_OK)
		t->stopped = df_buf_err(&t->head);
	else if (t->status < 200 && (p[0] == '\r' || p[0] == '\n')) {
		t->head_whole = true;
		if (t->status == 101)
			t->stopped = DF_ERR_CLOSED; /* what comes now is no HTTP: it would be waited for in vain */
	} else if (p[0] == '\r' || p[0] == '\n')
		head_ends(t);
}

/* --- the end --- */

/* The proxy lets nobody through without a user and a password: of a request, or of the tunnel for one. To ask again is of no use. */
static bool proxy_refuses(const struct df_transfer *t, CURLcode code)
{
	long tunnel = 0;
	if (t->http->direct)
		return false;
	if (code == CURLE_OK)
		return t->status == 407;
	return t->in_multi && df_curl.easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel) == CURLE_OK &&
	       tunnel == 407;
}

/* What the variable says is no proxy. libcurl's message repeats it, with its password. */
static bool proxy_is_malformed(const struct df_transfer *t)
{
	return !t->http->direct && strncmp(t->error, "Unsupported proxy", 17) == 0;
}

/* libcurl says whom it could not connect to, and that is not the URL's host. n 0: no. */
static struct df_str silent_proxy(const struct df_transfer *t, CURLcode code)
{
	static const char begin[] = "Failed to connect to ";
	struct df_str host = df_url_host(t->url);
	const char *name = t->error + sizeof(begin) - 1, *end;
	if (t->http->direct || code != CURLE_COULDNT_CONNECT || strncmp(t->error, begin, sizeof(begin) - 1) != 0)
		return (struct df_str){NULL, 0};
	end = strstr(name, " after ");
	size_t n_name = strcspn(name, " "), bracket = host.n && host.p[0] == '[';
	if (!end || (host.n >= n_name + bracket && memcmp(host.p + bracket, name, n_name) == 0))
		return (struct df_str){NULL, 0};
	return (struct df_str){name, (size_t)(end - name)};
}

enum df_err df_answer_class(const struct df_transfer *t, CURLcode code)
{
	if (t->stopped != DF_OK)
		return t->stopped;
	if (proxy_refuses(t, code) || proxy_is_malformed(t))
		return DF_ERR_USAGE;
	switch (code) {
	case CURLE_OK:
		return t->head_whole && t->status >= 200 ? DF_OK : DF_ERR_CLOSED;
	case CURLE_OUT_OF_MEMORY: /* also its word for a line of more than 100 KB in the head */
		return t->connected && !t->head_whole ? DF_ERR_LIMIT : DF_ERR_NOMEM;
	case CURLE_OPERATION_TIMEDOUT:
		return DF_ERR_TIMEOUT;
	case CURLE_URL_MALFORMAT:
	case CURLE_PEER_FAILED_VERIFICATION: /* nobody vouches for its certificate, or it is another host's */
	case CURLE_SSL_CACERT_BADFILE:
		return DF_ERR_USAGE;
	case CURLE_FILESIZE_EXCEEDED:
		return DF_ERR_LIMIT;
	default:
		return t->phase == DF_HTTP_CONNECT ? DF_ERR_IO : DF_ERR_CLOSED;
	}
}

static void say_timeout(const struct df_transfer *t, struct df_str where, char *to, size_t n)
{
	static const char *const what[] = {
		[DF_HTTP_CONNECT] = "no connection",
		[DF_HTTP_FIRST_BYTE] = "connected, but no answer",
		[DF_HTTP_BODY] = "the answer stalled, nothing came",
	};
	const uint64_t of_phase[] = {[DF_HTTP_CONNECT] = t->timeout.connect,
				     [DF_HTTP_FIRST_BYTE] = t->timeout.first_byte,
				     [DF_HTTP_BODY] = t->timeout.idle};
	uint64_t now = t->http->loop.now, total = t->timeout.total;
	if (total && now >= t->start && (now - t->start) / 1000000 >= total)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": not done within %llu ms (%s)", DF_STR_ARG(where),
			       (unsigned long long)total,
			       t->phase == DF_HTTP_BODY ? "its answer had begun" : what[t->phase]);
	else
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": %s within %llu ms", DF_STR_ARG(where), what[t->phase],
			       (unsigned long long)of_phase[t->phase]);
}

/* libcurl's words for these name the host again, and its own time. */
static const char *words_of(const struct df_transfer *t, CURLcode code)
{
	long number = 0;
	if (code == CURLE_COULDNT_RESOLVE_HOST)
		return "its name is not known to the resolver";
	if (code == CURLE_COULDNT_RESOLVE_PROXY)
		return "the name of its proxy is not known to the resolver";
	if (code == CURLE_COULDNT_CONNECT && t->in_multi)
		(void)df_curl.easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
	if (number)
		return strerror((int)number);
	return t->error[0] ? t->error : df_curl.easy_strerror(code);
}

static void say(const struct df_transfer *t, enum df_err err, CURLcode code, const char *why, char *to, size_t n)
{
	struct df_str host = df_url_host(t->url);
	struct df_str where = {host.p, host.n < 100 ? host.n : 100};
	const char *words = why ? why : words_of(t, code);
	struct df_str proxy = silent_proxy(t, code);
	to[0] = '\0';
	if (err == DF_OK)
		return;
	if (err == DF_ERR_TIMEOUT && !why)
		say_timeout(t, where, to, n);
	else if (err == DF_ERR_INTERRUPTED && !why)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": ended by its reader", DF_STR_ARG(where));
	else if (err == DF_ERR_LIMIT && t->head_whole && t->status >= 200)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": its answer is longer than the %llu bytes allowed",
			       DF_STR_ARG(where), (unsigned long long)t->body_max);
	else if (err == DF_ERR_LIMIT)
		(void)snprintf(to, n,
			       "\"" DF_STR_FMT "\": the headers of its answer are longer than the %u bytes allowed",
			       DF_STR_ARG(where), DF_HTTP_HEAD_BYTES);
	else if (err == DF_ERR_CLOSED && t->status == 101)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": it changes the protocol (101), which nobody asked for",
			       DF_STR_ARG(where));
	else if (err == DF_ERR_CLOSED && !t->first_byte)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": closed without an answer: %.120s", DF_STR_ARG(where), words);
	else if (err == DF_ERR_CLOSED && !t->head_whole)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": closed inside the headers of its answer", DF_STR_ARG(where));
	else if (err == DF_ERR_CLOSED)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": its answer is not whole: %llu bytes, then: %.120s",
			       DF_STR_ARG(where), (unsigned long long)t->n_body, words);
	else if (err == DF_ERR_USAGE && proxy_refuses(t, code))
		(void)snprintf(to, n,
			       "\"" DF_STR_FMT
			       "\": the proxy wants a user and a password, or others (407): give them in "
			       "http_proxy and https_proxy, as http://USER:PASSWORD@HOST:PORT",
			       DF_STR_ARG(where));
	else if (err == DF_ERR_USAGE && proxy_is_malformed(t))
		(void)snprintf(to, n,
			       "\"" DF_STR_FMT
			       "\": the proxy that http_proxy, https_proxy or all_proxy names is none: it is written "
			       "as http://USER:PASSWORD@HOST:PORT",
			       DF_STR_ARG(where));
	else if (proxy.n && proxy.n < 100 && !why)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": its proxy " DF_STR_FMT ": %.120s", DF_STR_ARG(where),
			       DF_STR_ARG(proxy), words);
	else if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": %.140s; SSL_CERT_FILE=FILE names whom to trust",
			       DF_STR_ARG(where), words);
	else
		(void)snprintf(to, n, "\"" DF_STR_FMT "\": %.140s", DF_STR_ARG(where), words);
}

static void measure(const struct df_transfer *t, struct df_http_response *r)
{
	curl_off_t up = 0, down = 0;
	long sent = 0, fresh = 0;
	if (!t->in_multi)
		return; /* the handle may tell of the request before */
	(void)df_curl.easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	(void)df_curl.easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
	(void)df_curl.easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &sent);
	(void)df_curl.easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &fresh);
	r->bytes_up = (uint64_t)(up > sent ? up : sent);
	r->bytes_down = (uint64_t)down + t->n_head;
	r->reused = t->connected && fresh == 0;
}

void df_answer_fill(const struct df_transfer *t, enum df_err err, CURLcode code, const char *why,
		    struct df_http_response *r)
{
	uint64_t now = t->http->loop.now > t->start ? t->http->loop.now : t->start;
	*r = (struct df_http_response){
		.err = err,
		.phase = err == DF_OK ? DF_HTTP_DONE : t->phase,
		.status = t->head_whole && t->status >= 200 ? t->status : 0,
		.body = df_buf_str(&t->body),
		.close_ended = t->head_whole && (!t->framed || t->encoded),
		.connect_ns = t->connected ? t->connected - t->start : 0,
		.first_byte_ns = t->first_byte ? t->first_byte - t->start : 0,
		.header = header,
		.own = t,
	};
	measure(t, r);
	if (t->last_byte > now)
		now = t->last_byte;
	r->total_ns = now - t->start;
	say(t, err, code, why, r->message, sizeof(r->message));
}
