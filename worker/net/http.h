// SPDX-License-Identifier: Apache-2.0
/*
 * http: thousands of HTTP requests at once on one thread: libcurl's multi interface on epoll.
 *
 * df_http_open starts the network thread. Everything that belongs to it (timers, posted functions, callbacks of requests) runs there,
 * one after the other, so what is built on it (call.h) needs no locks. Other threads only df_http_post.
 *
 * Success means that the whole body is here: a body shorter than its Content-Length, a chunked body without its end, a reset, or a
 * reply cut inside its headers (libcurl answers CURLE_OK with status 200 and 0 bytes then) is DF_ERR_CLOSED. A body that ends by
 * close alone cannot be proved whole here (`close_ended`), nor one that came compressed, whose own end libcurl does not look at: who parses it decides
 * (complete JSON, or the end event).
 *
 * TLS is always verified, and spoken from 1.2 on; HTTP/2 by ALPN. No redirect is followed (an API makes none; a key must not travel on). A request whose
 * open connection turned out dead before a byte of its answer came is sent again, whole, on another one, unless that is not wanted (no_repeat). Messages name host and port, never a path,
 * query, password or header; a request's strings are wiped when it is done.
 *
 * The first request to a host that is not known goes ahead alone until it is connected (one look-up, one handshake), its time-outs and theirs running.
 */
#ifndef DF_WORKER_NET_HTTP_H
#define DF_WORKER_NET_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct df_http;

struct df_http_config {
	/* Open at once; more requests wait for one. 0: DF_HTTP_CONNECTIONS. The soft limit of descriptors is raised for it; where the hard limit is too low,
	 * it is less. */
	long max_connections;
	const char *ca_file, *ca_path; /* NULL: SSL_CERT_FILE, CURL_CA_BUNDLE, SSL_CERT_DIR, then the system's */
	/* proxies: the usual variables (https_proxy, no_proxy, ...), as libcurl reads them */
};

struct df_http_header {
	const char *name;
	struct df_str value;
	bool secret;
};

/* ms; 0: none. connect: from df_http_send to a connection that is ready (name, TCP, TLS, and waiting for one); first_byte: from there to the first line of
 * the answer, sending included; idle: between two bytes of it (a line of its head counts when it is whole). */
struct df_http_timeouts {
	uint64_t connect, first_byte, idle, total;
};

enum df_http_phase { DF_HTTP_CONNECT, DF_HTTP_FIRST_BYTE, DF_HTTP_BODY, DF_HTTP_DONE };

struct df_http_response {
	enum df_err
		err; /* OK, TIMEOUT, CLOSED (not a whole answer, or no HTTP), IO (resolve, connect, TLS), LIMIT (body or headers too long),
		      * INTERRUPTED (cancelled), USAGE (malformed URL, a certificate that nobody vouches for), NOMEM */
	char message[256];                            /* with an error, for people; holds no secret */
	enum df_http_phase phase;                     /* how far it came */
	long status;                                  /* 0: none came */
	struct df_str body;                           /* whole and decoded; of a streamed one: empty */
	bool close_ended;                             /* nothing here proves that the body is whole */
	uint64_t connect_ns, first_byte_ns, total_ns; /* since it was handed to libcurl */
	uint64_t bytes_up, bytes_down;                /* on the wire, headers included, TLS's own not */
	bool reused;                                  /* an open connection served */
	/* Value of a header, by its name in lower case; the last one when it came often. p NULL: none. */
	struct df_str (*header)(const struct df_http_response *r, const char *name);
	const void *own;
};

struct df_http_request {
	const char *method; /* "POST", "GET" */
	const char *url;
	const struct df_http_header *header;
	size_t n_header;
	struct df_str body; /* empty: none. Everything above is copied by df_http_send */
	/* In place of `body`, for one that is too long for memory: puts bytes from `at` on to p, at most n, and says how many (0: it cannot be read, which
	 * ends the request: INTERRUPTED). body_size of them in all. On the network thread; bytes may be asked for again. NULL: none. */
	size_t (*read_body)(void *self, uint64_t at, char *p, size_t n);
	uint64_t body_size;
	struct df_http_timeouts timeout;
	/* A connection of its own: over one that is used again, a request whose connection dies before an answer is sent once more by libcurl, although the
	 * server may have had it. For what must not be done twice. */
	bool once;
	/* Such a request is not sent once more but ends (CLOSED), for whoever counts and pays for each; over HTTP/1. */
	bool no_repeat;
	uint64_t body_max; /* bytes of an answer, after decoding; more is DF_ERR_LIMIT. 0: DF_HTTP_BODY_MAX */
	/* Streamed: bytes as they come; false ends the request (INTERRUPTED). NULL: the whole body is kept for on_done. Called for status 2xx
	 * only; other bodies are kept. It may send and cancel, this one too. */
	bool (*on_data)(void *self, const char *p, size_t n);
	/* Exactly once for each request that was sent; the response is valid during the call. It may send others. */
	void (*on_done)(void *self, const struct df_http_response *response);
	void *self;
};

/* Loads libcurl; df_http_open does it too, but in a process that gives up its rights to open files this comes before. Any thread, any number of times.
 * DF_ERR_UNSUPPORTED: it is not on this machine. */
enum df_err df_http_load(struct df_fail *fail) DF_MUST_CHECK;

enum df_err df_http_open(const struct df_http_config *config, struct df_http **ret_http,
			 struct df_fail *fail) DF_MUST_CHECK;
/* Runs what was posted, cancels what is in flight (each on_done is called), drops timers, joins the thread. What is sent meanwhile is refused
 * (DF_ERR_CLOSED). Nobody posts any more; not on the network thread. Accepts NULL. */
void df_http_close(struct df_http **http);

/* From any thread: run fn(self) on the network thread, in order. DF_ERR_NOMEM. */
enum df_err df_http_post(struct df_http *http, void (*fn)(void *self), void *self) DF_MUST_CHECK;

/* --- on the network thread only --- */

/* *ret_id is never 0 and stays unique for the life of the http. on_done never comes before this returns. Refused: DF_ERR_USAGE (no http(s) URL, a header with a
 * control character), DF_ERR_LIMIT (DF_HTTP_SEND_BYTES), DF_ERR_CLOSED, DF_ERR_NOMEM. */
enum df_err df_http_send(struct df_http *http, const struct df_http_request *request, uint64_t *ret_id,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_http_cancel(struct df_http *http, uint64_t id); /* on_done is called with INTERRUPTED before it returns */

/* A timer: fn(self) once at CLOCK_MONOTONIC `at_ns` (precise to < 1 ms), equal times in the order of setting. *ret_id for df_http_unset, never 0. */
enum df_err df_http_at(struct df_http *http, uint64_t at_ns, void (*fn)(void *self), void *self,
		       uint64_t *ret_id) DF_MUST_CHECK;
void df_http_unset(struct df_http *http, uint64_t id);
uint64_t df_http_now(const struct df_http *http); /* CLOCK_MONOTONIC, read once per turn of the loop */

struct df_http_stats {
	uint64_t requests, connections, in_flight, bytes_up, bytes_down, cpu_ns;
};
/* connections: opened so far; cpu_ns: of the network thread. From any thread. */
struct df_http_stats df_http_stats(const struct df_http *http);

#endif
