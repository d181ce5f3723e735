// SPDX-License-Identifier: Apache-2.0
/*
 * http_core: what the files of http share. http.c: the thread, libcurl's multi handle on the loop; transfer.c: a request's life;
 * easy.c: options and callbacks of its libcurl handle; answer.c: what became of it, in words; host.c: first come, then all.
 *
 * DESIGN: a transfer is a libcurl handle with all around it, kept for the next request when its own is done. libcurl must not be called from inside its
 * callbacks; so while it runs (`in_curl`: on_data may send and cancel) what is to begin waits in `queue`, and what has ended in `over`, until it
 * returns. For every request libcurl looks at all connections of a multi handle, twice; so there are several of them (shards), each with a few of the
 * transfers for life. Addresses and TLS sessions are shared between them. One more, the front, has what may be multiplexed. Each transfer has one timer, set for the time-out that comes next, moved only when it fires too early.
 */
#ifndef DF_WORKER_NET_HTTP_CORE_H
#define DF_WORKER_NET_HTTP_CORE_H

#include <pthread.h>

#include "base/limits.h"
#include "worker/net/http.h"
#include "worker/net/libcurl.h"
#include "worker/net/loop.h"

enum df_transfer_state {
	DF_TRANSFER_FREE,
	DF_TRANSFER_WAITS,  /* in its host's line */
	DF_TRANSFER_QUEUED, /* for libcurl */
	DF_TRANSFER_RUNS,
	DF_TRANSFER_OVER, /* on_done was called; libcurl may still have it */
};

struct df_shard {
	struct df_http *http;
	CURLM *multi;           /* NULL: not yet needed */
	uint64_t at;            /* when libcurl wants to be called */
	long n_flight, of_host; /* the front's: transfers in it; connections that one host may have */
};

struct df_transfer {
	struct df_http *http;
	struct df_shard *shard; /* that has it, or will */
	CURL *easy;
	uint64_t id; /* 0: nobody's any more */
	enum df_transfer_state state;
	bool in_multi;
	struct df_transfer *next; /* free, in a line, in the queue, or over */
	struct df_host *host;     /* NULL: not known, nothing to wait for */
	bool leads;               /* its host's others wait for it */
	/* the request; strings are in `block` */
	char *block;
	size_t n_block;
	const char *url, *method;
	struct curl_slist *header;
	struct df_str up;
	bool tls;
	struct df_http_timeouts timeout;
	uint64_t body_max;
	size_t (*read_body)(void *self, uint64_t at, char *p, size_t n);
	uint64_t body_size, body_at; /* of it; what is sent next */
	bool (*on_data)(void *self, const char *p, size_t n);
	void (*on_done)(void *self, const struct df_http_response *response);
	void *self;
	/* how far it is; times are CLOCK_MONOTONIC, 0: not yet */
	uint64_t start, connected, first_byte, last_byte;
	uint64_t timer, timer_at;
	enum df_http_phase phase;
	bool again; /* the one repetition was made */
	bool once, no_repeat;
	/* the answer */
	struct df_buf head, body;
	uint64_t n_head, n_body; /* bytes that came; of the body: decoded */
	curl_off_t down;         /* bytes on the wire when the idle timer last looked */
	long status;
	bool head_whole, framed, encoded, newer; /* framed: tells its end; newer: HTTP/2 and on */
	enum df_err stopped;                     /* by a callback, for this reason */
	char error[CURL_ERROR_SIZE];
};

struct df_host {
	char *origin; /* "https://host:port" as in the URL */
	size_t n;
	bool tls, literal;
	bool newer;           /* speaks HTTP/2: requests wait for a connection that is being made, and share it */
	uint64_t known_until; /* 0: never known */
	struct df_transfer *leader, *first, *last;
};

struct df_line { /* of transfers, by next */
	struct df_transfer *first, *last;
};

struct df_http {
	struct df_loop loop;
	pthread_t thread;
	bool started;
	atomic_bool stop;
	bool closing;
	enum df_err broken;     /* libcurl's multi handle gave up: nothing can be sent any more */
	struct df_shard *shard; /* n_shard, and the front behind them */
	size_t n_shard;
	size_t n_open; /* the first of them that were needed so far */
	long of_shard; /* connections of each */
	CURLSH *share;
	bool in_curl;
	struct df_transfer **transfer;
	size_t n_transfer, cap_transfer;
	struct df_transfer *free;
	struct df_line queue, over;
	uint64_t last_id; /* its low bits are the transfer */
	struct df_host host[DF_HTTP_HOSTS_MAX];
	size_t n_host;
	long max_connections;
	char *ca_file, *ca_path;
	bool direct; /* no variable names a proxy */
	_Atomic(uint64_t) n_request, n_connection, n_flight, up, down;
};

/* The i-th of those that may have something to do; the last one, i == n_open, is the front. */
static inline struct df_shard *df_shard_at(const struct df_http *h, size_t i)
{
	return &h->shard[i < h->n_open ? i : h->n_shard];
}

/* --- http.c --- */
bool df_http_own_thread(const struct df_http *h);
enum df_err df_http_shard_open(struct df_shard *s) DF_MUST_CHECK; /* when it is not */
curl_socket_t df_http_socket(void *self, curlsocktype purpose, struct curl_sockaddr *address);
int df_http_close_socket(void *self, curl_socket_t fd);
static inline void df_line_add(struct df_line *l, struct df_transfer *t)
{
	t->next = NULL;
	*(l->first ? &l->last->next : &l->first) = t;
	l->last = t;
}

/* --- transfer.c --- */
void df_transfer_begin(struct df_transfer *t);                                 /* hands it to libcurl, now or soon */
void df_transfer_end(struct df_transfer *t, enum df_err err, CURLcode code);   /* calls on_done */
void df_transfer_finished(struct df_transfer *t, CURLcode code);               /* libcurl says so */
void df_transfer_phase(struct df_transfer *t, enum df_http_phase phase);       /* its time-outs are others now */
void df_transfers_settle(struct df_http *h);                                   /* libcurl has returned */
void df_transfers_cancel(struct df_http *h, enum df_err err, const char *why); /* all */
void df_transfers_free(struct df_http *h);

/* --- easy.c --- */
enum df_err df_easy_open(struct df_transfer *t); /* what never changes. DF_ERR_NOMEM, DF_ERR_UNSUPPORTED */
CURLcode df_easy_prepare(struct df_transfer *t); /* what each request has */
enum df_err df_easy_pack(struct df_transfer *t, const struct df_http_request *r, struct df_fail *fail) DF_MUST_CHECK;

/* --- answer.c --- */
enum df_err df_answer_class(const struct df_transfer *t, CURLcode code);
/* Fills all of *r; `why` (may be NULL) stands for libcurl's words. */
void df_answer_fill(const struct df_transfer *t, enum df_err err, CURLcode code, const char *why,
		    struct df_http_response *r);
void df_answer_head_line(struct df_transfer *t, const char *p, size_t n);
struct df_str df_answer_header(struct df_str head, const char *name);
/* scheme://host:port of a URL: no name, no password, no query. */
struct df_str df_url_origin(const char *url);
struct df_str df_url_host(const char *url);

/* --- host.c --- */
/* Where a request to a host of which nothing is known yet is in flight, others wait. False: t waits. */
bool df_host_enter(struct df_transfer *t);
void df_host_connected(struct df_transfer *t);
void df_host_leave(struct df_transfer *t, CURLcode code); /* it has ended */
void df_hosts_free(struct df_http *h);

#endif
