// SPDX-License-Identifier: Apache-2.0
/*
 * server: what the parts of api_server share. One thread, one epoll; a connection does one request at a time, what comes meanwhile waits
 * in its buffer. Nothing here blocks but files.
 */
#ifndef DF_TESTS_API_SERVER_H
#define DF_TESTS_API_SERVER_H

#include <stdio.h>

#include "tests/api/form.h"
#include "tests/api/stats.h"

#define BODY_MAX (256U << 20)
#define HEAD_MAX (64U << 10)

/* One way to behave: options with their state. */
struct profile {
	uint64_t hash;
	struct profile *next;
	struct options o;
	char wrong[200]; /* its options are not right: every request is answered so */
	uint64_t n_request, random;
	struct limit *limit; /* one per model */
};

struct request {
	struct span method, target, path, query, prefix; /* path: without prefix */
	struct span key, type, test;
	struct span body;
	bool keep, gzip, expects;
	size_t n_head, total;
};

/* What the stats need to know when the answer is out (or its client gone). */
struct account {
	bool counts, paid;
	int status;
	struct fault fault;
	uint64_t tokens_in, tokens_out;
	double usd;
	uint64_t retry_ns; /* told; UINT64_MAX: none */
	bool retry_is_limit;
	struct limit *limit; /* in flight there */
	uint64_t *text;      /* hashes */
	size_t n_text, cap_text;
	struct span api;
	char head[32];
};

struct conn {
	int fd;
	bool busy, wants_out, close_after;
	struct bytes in;
	size_t used, need; /* of `in`: done with; there must be this much before it is worth a look */
	bool told_continue;
	struct reply reply;
	size_t sent, allowed, mark, fill_at;
	uint64_t slow_ns, arrive_ns, first_ns;
	uint64_t at_ns; /* the timer */
	size_t heap;    /* its place, from 1; 0: none */
	struct account account;
	struct conn *dead;
};

struct server {
	int epoll, listener, signal;
	uint64_t now_ns, start_ns, wall_minus_mono_ns;
	struct options base;
	struct profile *profile;
	struct stats stats;
	FILE *log;
	struct conn **heap;
	size_t n_heap, cap_heap;
	struct conn *dead; /* freed at the end of the turn */
	uint64_t serial;
	struct ask ask;
	struct json_tree tree;
	struct bytes body;
};

uint64_t clock_mono(void);

/* --- timers.c: one per connection --- */
void timer_set(struct server *s, struct conn *c, uint64_t at_ns);
void timer_unset(struct server *s, struct conn *c);

/* --- conn.c --- */
void conn_open(struct server *s, int fd);
void conn_event(struct server *s, struct conn *c, uint32_t events);
void conn_timer(struct server *s, struct conn *c);

/* --- http.c --- */
enum parsed { PARSED_MORE, PARSED_WHOLE, PARSED_BAD };
/* From in.p[used]; sets need. */
enum parsed request_parse(struct conn *c, struct request *ret);
/* Status line and headers; extra: whole lines. n_body SIZE_MAX: chunked. */
void http_head(struct bytes *to, int status, const char *type, const char *extra, size_t n_body, bool keep);
const char *http_status(int status);

/* --- gzip.c --- */
void gzip_stored(struct bytes *to, struct span s);
void gzip_bomb_head(struct bytes *to); /* zeros behind it are 1032 spaces a byte, for ever */

/* --- headers.c: limits as headers --- */
void headers_limits(struct bytes *to, const struct options *o, enum api api, const struct verdict *v, uint64_t wall_ns);
/* Returns the shortest wait that a client may read from them. */
uint64_t headers_retry(struct bytes *to, const struct options *o, enum api api, uint64_t wait_ns, uint64_t wall_ns);

/* --- serve.c: fills c->reply and c->account --- */
void serve(struct server *s, struct conn *c, struct request *r);
/* A whole answer. */
void serve_body(struct conn *c, const struct request *r, int status, const char *type, const char *extra,
		struct span body, uint64_t at_ns);
void serve_texts(struct server *s, struct account *a, const struct ask *ask);

/* --- batch.c: /v1/files and /v1/batches; false: not one of its paths --- */
bool batch_serve(struct server *s, struct conn *c, struct request *r, struct profile *p);
void batch_reset(void);

#endif
