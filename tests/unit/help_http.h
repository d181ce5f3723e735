// SPDX-License-Identifier: Apache-2.0
/* A server of scripted bytes and a client that waits, for the tests of worker/net: every fault is exact. */
#ifndef DF_TESTS_HELP_HTTP_H
#define DF_TESTS_HELP_HTTP_H

#include <pthread.h>
#include <stdatomic.h>

#include "worker/net/http.h"

/* --- the server: one thread for each connection --- */

struct server;

struct conn {
	struct server *server;
	int fd;
	unsigned nth;   /* of the server's connections, from 0 */
	unsigned asked; /* requests read */
	struct df_buf in;
	struct df_str head, body; /* of the request read last */
	size_t used;
};

struct server {
	int fd, port;
	pthread_t thread;
	void (*serve)(struct conn *c); /* returns: the connection is closed */
	void *arg;
	atomic_uint n_conn, n_open, n_asked, step; /* step: for tests that take turns with their server */
	atomic_bool stop;
};

void server_open(struct server *s, void (*serve)(struct conn *c), void *arg);
void server_close(struct server *s); /* waits for all connections */

/* Reads one whole request; false: the client has gone. */
bool conn_read(struct conn *c);
struct df_str conn_header(const struct conn *c, const char *name); /* lower case */
bool conn_send(struct conn *c, const char *p, size_t n);
bool conn_say(struct conn *c, const char *z);
bool conn_answer(struct conn *c, int status, const char *body); /* with its length */
void conn_reset(struct conn *c);                                /* RST */
bool conn_wait_gone(struct conn *c);                            /* until the client closes */
void nap(unsigned ms);

/* --- the client --- */

struct ask {
	struct df_http *http;
	struct df_http_request request; /* on_done and self are set by ask_start */
	char url[200];
	uint64_t id;
	/* the outcome */
	int n_done; /* under the lock */
	enum df_err err;
	enum df_http_phase phase;
	char message[256];
	long status;
	char *body; /* NUL behind it */
	size_t n_body;
	bool close_ended, reused;
	uint64_t connect_ns, first_byte_ns, total_ns, up, down;
	struct df_str (*header)(const struct df_http_response *r, const char *name);
	char of_header[100]; /* of the one that `want_header` names */
	const char *want_header;
	void (*then)(struct ask *a); /* at the end of on_done */
	void *arg;
};

void ask_init(struct ask *a, struct df_http *http, const struct server *s, const char *path);
void ask_start(struct ask *a); /* from any thread */
void ask_send(struct ask *a);  /* on the network thread */
void ask_wait(struct ask *a);  /* fails the test after 60 s */
bool ask_is_done(struct ask *a);
void ask_release(struct ask *a);
void ask_run(struct ask *a); /* start and wait */

/* Runs fn(self) on the network thread and waits for its end. */
void on_network(struct df_http *http, void (*fn)(void *self), void *self);

#endif
