// SPDX-License-Identifier: Apache-2.0
/*
 * host: the first request to a host goes alone until it is connected; the others wait in its line. Otherwise a thousand requests at once would be
 * a thousand look-ups of one name, each on a thread (libcurl does not join them), and to an HTTP/2 server a thousand TLS handshakes where
 * one is enough. When the first one's look-up fails, it failed for all.
 *
 * Requests by plain HTTP to an address have nothing to wait for. A name is forgotten after DF_HTTP_NAME_SECONDS, and the first after that makes a
 * connection of its own, so that the look-up is made anew.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/net/http_core.h"

struct df_str df_url_origin(const char *url)
{
	struct df_str none = {NULL, 0};
	if (!url)
		return none;
	size_t scheme = strncasecmp(url, "http://", 7) == 0 ? 7 : strncasecmp(url, "https://", 8) == 0 ? 8 : 0;
	size_t n = scheme ? strcspn(url + scheme, "/?#") : 0;
	return n ? (struct df_str){url, scheme + n} : none;
}

/* Behind the scheme, a name and a password. */
struct df_str df_url_host(const char *url)
{
	struct df_str o = df_url_origin(url);
	if (!o.n)
		return o;
	size_t scheme = o.p[4] == 's' || o.p[4] == 'S' ? 8 : 7;
	struct df_str host = {o.p + scheme, o.n - scheme};
	const char *at = memrchr(host.p, '@', host.n);
	if (at)
		host = (struct df_str){at + 1, host.n - (size_t)(at + 1 - host.p)};
	return host;
}

/* An address, or what libcurl takes as one. */
static bool is_literal(struct df_str host)
{
	if (!host.n || host.p[0] == '[')
		return true;
	const char *colon = memchr(host.p, ':', host.n);
	if (colon)
		host.n = (size_t)(colon - host.p);
	for (size_t i = 0; i < host.n; i++) {
		if (!strchr("0123456789.", host.p[i]))
			return df_str_is(host, "localhost");
	}
	return true;
}

/* NULL: nothing to wait for, or no room to remember it. */
static struct df_host *find(struct df_http *h, const struct df_transfer *t)
{
	struct df_str origin = df_url_origin(t->url);
	for (size_t i = 0; i < h->n_host; i++) {
		if (df_str_eq(origin, (struct df_str){h->host[i].origin, h->host[i].n}))
			return &h->host[i];
	}
	bool literal = is_literal(df_url_host(t->url));
	if ((literal && !t->tls) || h->n_host == DF_HTTP_HOSTS_MAX)
		return NULL;
	char *copy = df_str_dup(origin);
	if (!copy)
		return NULL;
	h->host[h->n_host] = (struct df_host){.origin = copy, .n = origin.n, .tls = t->tls, .literal = literal};
	return &h->host[h->n_host++];
}

bool df_host_enter(struct df_transfer *t)
{
	struct df_http *h = t->http;
	struct df_host *host = t->host = find(h, t);
	if (!host || h->loop.now < host->known_until)
		return true;
	if (!host->leader) {
		host->leader = t;
		t->leads = true;
		return true;
	}
	t->state = DF_TRANSFER_WAITS;
	t->next = NULL;
	*(host->first ? &host->last->next : &host->first) = t;
	host->last = t;
	return false;
}

static struct df_transfer *next_waiting(struct df_host *host)
{
	struct df_transfer *t = host->first;
	if (t)
		host->first = t->next;
	return t;
}

void df_host_connected(struct df_transfer *t)
{
	struct df_host *host = t->host;
	if (!t->leads)
		return;
	t->leads = false;
	host->leader = NULL;
	host->known_until = host->literal ? UINT64_MAX : t->http->loop.now + DF_HTTP_NAME_SECONDS * DF_SEC;
	while ((t = next_waiting(host)))
		df_transfer_begin(t);
}

static void take_out(struct df_host *host, struct df_transfer *t)
{
	struct df_transfer *before = NULL;
	for (struct df_transfer *w = host->first; w; before = w, w = w->next) {
		if (w != t)
			continue;
		*(before ? &before->next : &host->first) = t->next;
		if (host->last == t)
			host->last = before;
		return;
	}
}

void df_host_leave(struct df_transfer *t, CURLcode code)
{
	struct df_host *host = t->host;
	if (!host)
		return;
	take_out(host, t);
	if (t->newer != host->newer && t->head_whole)
		host->newer = t->newer;
	if (!t->leads)
		return;
	t->leads = false;
	host->leader = NULL;
	if (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY) {
		/* Only those that wait now: what their on_done sends waits behind them, for a look-up of its own. */
		struct df_transfer *w;
		for (w = host->first; w; w = w->next) {
			w->stopped = DF_ERR_IO;
			(void)memcpy(w->error, t->error, sizeof(w->error));
		}
		while ((w = host->first) && w->stopped != DF_OK) {
			host->first = w->next;
			df_transfer_end(w, DF_ERR_IO, code);
		}
		return;
	}
	struct df_transfer *w = next_waiting(host);
	if (w) {
		host->leader = w;
		w->leads = true;
		df_transfer_begin(w);
	}
}

void df_hosts_free(struct df_http *h)
{
	for (size_t i = 0; i < h->n_host; i++)
		free(h->host[i].origin);
	h->n_host = 0;
}
