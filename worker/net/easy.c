// SPDX-License-Identifier: Apache-2.0
/*
 * easy: a libcurl handle. Most of its options are set once in its life; a request sets what differs and copies its strings into one block, from which
 * libcurl's header list is made too, so that a request costs one allocation here.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/net/http_core.h"

/* --- callbacks: inside libcurl --- */

static int on_connected(void *self, char *their_ip, char *our_ip, int their_port, int our_port)
{
	struct df_transfer *t = self;
	(void)their_ip, (void)our_ip, (void)their_port, (void)our_port;
	if (t->stopped != DF_OK || t->state == DF_TRANSFER_OVER)
		return CURL_PREREQFUNC_ABORT;
	/* libcurl is about to send it once more. Over HTTP/2 it mostly does since the server said that it has not looked at it (REFUSED_STREAM). */
	bool sent = t->phase == DF_HTTP_FIRST_BYTE && !t->again;
	if (t->no_repeat && sent && !t->newer && !(t->host && t->host->newer))
		return CURL_PREREQFUNC_ABORT;
	if (!t->connected)
		t->connected = df_clock_mono(&df_clock_real);
	df_host_connected(t);
	if (t->phase == DF_HTTP_CONNECT)
		df_transfer_phase(t, DF_HTTP_FIRST_BYTE);
	return CURL_PREREQFUNC_OK;
}

static size_t on_head(char *p, size_t size, size_t n, void *self)
{
	struct df_transfer *t = self;
	n *= size;
	if (t->stopped != DF_OK || t->state == DF_TRANSFER_OVER)
		return 0;
	t->last_byte = df_clock_mono(&df_clock_real);
	if (!t->first_byte) {
		t->first_byte = t->last_byte;
		df_transfer_phase(t, DF_HTTP_BODY);
	}
	t->n_head += n;
	if (t->n_head > DF_HTTP_HEAD_BYTES)
		t->stopped = DF_ERR_LIMIT;
	else
		df_answer_head_line(t, p, n);
	return t->stopped == DF_OK ? n : 0;
}

static size_t on_body(char *p, size_t size, size_t n, void *self)
{
	struct df_transfer *t = self;
	n *= size;
	if (t->stopped != DF_OK || t->state == DF_TRANSFER_OVER)
		return 0;
	t->last_byte = t->http->loop.now;
	if (n > t->body_max - t->n_body) {
		t->stopped = DF_ERR_LIMIT;
		return 0;
	}
	t->n_body += n;
	if (t->on_data && t->status >= 200 && t->status < 300) {
		bool go_on = t->on_data(t->self, p, n);
		if (t->state == DF_TRANSFER_OVER)
			return 0; /* it was cancelled in there: nothing of the caller's is there any more */
		if (!go_on)
			t->stopped = DF_ERR_INTERRUPTED;
	} else {
		t->stopped = df_buf_add(&t->body, p, n);
	}
	return t->stopped == DF_OK ? n : 0;
}

static size_t on_send(char *p, size_t size, size_t n, void *self)
{
	struct df_transfer *t = self;
	uint64_t left = t->body_size - t->body_at;
	n *= size;
	if (t->stopped != DF_OK || t->state == DF_TRANSFER_OVER)
		return CURL_READFUNC_ABORT;
	if (n > left)
		n = (size_t)left;
	size_t got = n ? t->read_body(t->self, t->body_at, p, n) : 0;
	if (n && (!got || got > n)) {
		t->stopped = DF_ERR_INTERRUPTED;
		return CURL_READFUNC_ABORT;
	}
	t->body_at += got;
	return got;
}

static int on_seek(void *self, curl_off_t at, int origin)
{
	struct df_transfer *t = self;
	if (origin != SEEK_SET || at < 0 || (uint64_t)at > t->body_size)
		return CURL_SEEKFUNC_FAIL;
	t->body_at = (uint64_t)at;
	return CURL_SEEKFUNC_OK;
}

/* The one way to learn what a connection speaks before it has answered: libcurl's own notes, which a host's first request asks for. */
static int on_note(CURL *easy, curl_infotype type, char *p, size_t n, void *self)
{
	struct df_transfer *t = self;
	(void)easy;
	if (type == CURLINFO_TEXT && t->host && !t->head_whole && memmem(p, n, "server accepted h2", 18))
		t->host->newer = t->newer = true;
	return 0;
}

/* --- options for life --- */

static CURLcode set_callbacks(struct df_transfer *t)
{
	CURLcode code = CURLE_OK;
#define SET(option, value)                                                                                             \
	do {                                                                                                           \
		if (code == CURLE_OK)                                                                                  \
			code = df_curl.easy_setopt(t->easy, option, value);                                            \
	} while (0)
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_PREREQFUNCTION, on_connected);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_HEADERFUNCTION, on_head);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_READFUNCTION, on_send);
	SET(CURLOPT_READDATA, t);
	SET(CURLOPT_SEEKFUNCTION, on_seek);
	SET(CURLOPT_SEEKDATA, t);
	SET(CURLOPT_DEBUGFUNCTION, on_note);
	SET(CURLOPT_DEBUGDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, df_http_socket);
	SET(CURLOPT_OPENSOCKETDATA, t->http);
	SET(CURLOPT_CLOSESOCKETFUNCTION, df_http_close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, t->http);
	return code;
}

static CURLcode set_manners(struct df_transfer *t)
{
	CURLcode code = CURLE_OK;
	SET(CURLOPT_SHARE, t->http->share);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NOPROGRESS, 1L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_ACCEPT_ENCODING, "");
	SET(CURLOPT_USERAGENT, "docflume/" DF_VERSION);
	SET(CURLOPT_PROXY, t->http->direct ? "" : NULL);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)DF_HTTP_UPLOAD_BYTES);
	SET(CURLOPT_BUFFERSIZE, (long)DF_HTTP_RECEIVE_BYTES);
	SET(CURLOPT_DNS_CACHE_TIMEOUT, (long)DF_HTTP_NAME_SECONDS);
	/* A request that ends while its name is looked up must not wait for that; the look-up's thread frees what it has by itself. */
	SET(CURLOPT_QUICK_EXIT, 1L);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_CAINFO, t->http->ca_file);
	SET(CURLOPT_CAPATH, t->http->ca_path);
	SET(CURLOPT_PROXY_CAINFO, t->http->ca_file);
	SET(CURLOPT_PROXY_CAPATH, t->http->ca_path);
	return code;
}

enum df_err df_easy_open(struct df_transfer *t)
{
	df_buf_init(&t->head, DF_HTTP_HEAD_BYTES);
	df_buf_init(&t->body, DF_HTTP_BODY_MAX);
	t->easy = df_curl.easy_init();
	if (!t->easy)
		return DF_ERR_NOMEM;
	CURLcode code = set_callbacks(t);
	if (code == CURLE_OK)
		code = set_manners(t);
	if (code == CURLE_OK)
		return DF_OK;
	df_curl.easy_cleanup(t->easy);
	t->easy = NULL;
	return code == CURLE_OUT_OF_MEMORY ? DF_ERR_NOMEM : DF_ERR_UNSUPPORTED;
}

/* --- options of a request --- */

static CURLcode set_method(struct df_transfer *t)
{
	CURLcode code = CURLE_OK;
	bool post = strcmp(t->method, "POST") == 0;
	if (post || t->up.n) {
		t->body_at = 0;
		SET(CURLOPT_POST, 1L);
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(t->read_body ? t->body_size : t->up.n));
		SET(CURLOPT_POSTFIELDS, t->read_body ? NULL : t->up.n ? t->up.p : "");
		SET(CURLOPT_CUSTOMREQUEST, post ? NULL : t->method);
	} else if (strcmp(t->method, "HEAD") == 0) {
		SET(CURLOPT_CUSTOMREQUEST, NULL);
		SET(CURLOPT_NOBODY, 1L);
	} else {
		SET(CURLOPT_HTTPGET, 1L);
		SET(CURLOPT_CUSTOMREQUEST, strcmp(t->method, "GET") == 0 ? NULL : t->method);
	}
	return code;
}

/* libcurl's own time-out for connecting divides the time between a host's addresses; ours comes first. */
static long connect_ms(const struct df_transfer *t)
{
	uint64_t ms = t->timeout.connect ? t->timeout.connect : t->timeout.total;
	return ms && ms < 86400000 ? (long)ms + 100 : 86400000L;
}

CURLcode df_easy_prepare(struct df_transfer *t)
{
	bool renew = t->leads && t->host && !t->host->literal && t->host->known_until;
	CURLcode code = set_method(t);
	SET(CURLOPT_URL, t->url);
	SET(CURLOPT_HTTPHEADER, t->header);
	SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms(t));
	SET(CURLOPT_HTTP_VERSION, (long)(t->tls ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	SET(CURLOPT_PIPEWAIT, t->host && t->host->newer ? 1L : 0L);
	SET(CURLOPT_FRESH_CONNECT, renew || t->again || t->once ? 1L : 0L);
	SET(CURLOPT_VERBOSE, t->leads && t->tls ? 1L : 0L);
	return code;
}
#undef SET

/* --- the block --- */

/* A line break in a header would be a header of somebody else's making. */
static bool is_clean(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)p[i] < ' ' && p[i] != '\t')
			return false;
	}
	return true;
}

static bool is_token(const char *z)
{
	return z && *z &&
	       strspn(z, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(z);
}

static enum df_err check(const struct df_http_request *r, size_t *ret_bytes, struct df_fail *fail)
{
	/* Two more lines: without "Expect:" nothing waits for a "100 Continue"; no content type is better than libcurl's guess. */
	size_t n = strlen(r->url) + 1 + (r->n_header + 2) * sizeof(struct curl_slist) + sizeof("Content-Type:") +
		   sizeof("Expect:");
	if (!is_token(r->method))
		return df_fail(fail, DF_ERR_USAGE, "a request's method must be a word");
	n += strlen(r->method) + 1;
	for (size_t i = 0; i < r->n_header; i++) {
		const struct df_http_header *h = &r->header[i];
		if (!is_token(h->name))
			return df_fail(fail, DF_ERR_USAGE, "header %zu of a request has no proper name", i);
		if (!is_clean(h->value.p, h->value.n))
			return df_fail(
				fail, DF_ERR_USAGE,
				"the value of header \"%s\" has a control character (a line break behind a key?)",
				h->name);
		n += strlen(h->name) + 2 + h->value.n + 1;
	}
	if (n > DF_HTTP_SEND_BYTES || r->body.n > DF_HTTP_SEND_BYTES - n)
		return df_fail(fail, DF_ERR_LIMIT, "a request of %zu bytes is longer than the %u allowed", r->body.n,
			       DF_HTTP_SEND_BYTES);
	*ret_bytes = n + r->body.n;
	return DF_OK;
}

struct packer {
	struct curl_slist *node;
	char *at;
};

static void pack(struct packer *p, const char *from, size_t n)
{
	p->at = n ? mempcpy(p->at, from, n) : p->at;
}

/* With its NUL; where it lies. */
static char *pack_string(struct packer *p, const char *z)
{
	char *here = p->at;
	pack(p, z, strlen(z) + 1);
	return here;
}

static void pack_line(struct packer *p, const char *name, const char *between, struct df_str value)
{
	p->node->data = p->at;
	pack(p, name, strlen(name));
	pack(p, between, strlen(between));
	pack(p, value.p, value.n);
	*p->at++ = '\0';
	p->node->next = p->node + 1;
	p->node++;
}

enum df_err df_easy_pack(struct df_transfer *t, const struct df_http_request *r, struct df_fail *fail)
{
	size_t n = 0;
	bool typed = false;
	DF_TRY(check(r, &n, fail));
	char *block = malloc(n);
	if (!block)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request of %zu bytes", n);
	struct packer p = {(struct curl_slist *)block, block + (r->n_header + 2) * sizeof(struct curl_slist)};
	t->header = p.node;
	for (size_t i = 0; i < r->n_header; i++) {
		/* In libcurl's words "name:" takes a header away, and "name;" sends it empty. */
		pack_line(&p, r->header[i].name, r->header[i].value.n ? ": " : ";", r->header[i].value);
		typed = typed || strcasecmp(r->header[i].name, "content-type") == 0;
	}
	pack_line(&p, "Expect", ":", (struct df_str){NULL, 0});
	if (!typed)
		pack_line(&p, "Content-Type", ":", (struct df_str){NULL, 0});
	(p.node - 1)->next = NULL;
	t->url = pack_string(&p, r->url);
	t->method = pack_string(&p, r->method);
	t->up = (struct df_str){p.at, r->body.n};
	pack(&p, r->body.p, r->body.n);
	t->block = block;
	t->n_block = n;
	t->tls = strncasecmp(r->url, "https:", 6) == 0;
	return DF_OK;
}
