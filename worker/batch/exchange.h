// SPDX-License-Identifier: Apache-2.0
/* exchange: one HTTP request of batch mode, from a thread that waits for it, and may be told to stop waiting. */
#ifndef DF_WORKER_BATCH_EXCHANGE_H
#define DF_WORKER_BATCH_EXCHANGE_H

#include "base/arena.h"
#include "base/json.h"
#include "worker/batch/remote.h"

#define DF_REMOTE_PAGES_MAX 200 /* of a list of batches, 100 on each */

struct df_remote {
	struct df_http *http;
	int signal_fd, done_fd; /* done_fd: an eventfd */
	struct df_arena arena;  /* of the request in work and its answer */
};

struct df_exchange {
	const char *method;
	struct df_str path; /* behind the base URL; may hold a query */
	struct df_str type; /* of the body; empty: there is none */
	struct df_str body;
	/* an upload: head, bytes of a file, tail */
	int in_fd; /* with file_bytes */
	struct df_str head, tail;
	uint64_t file_bytes;
	bool as_list; /* the file's line breaks go as commas: its lines are the elements of a JSON array */
	int out_fd;   /* of a download, with to_file */
	bool to_file;
	bool once; /* it must not be sent twice, not even by the network's own repetition */
	/* the outcome */
	enum df_err err;   /* of HTTP: DF_OK when there is an answer of any status */
	bool went_out;     /* the server may have it */
	char message[400]; /* with an error or a status that is no success; no secret */
	long status;
	int64_t retry_after_ms; /* -1 */
	bool unproved;          /* the body's end is not proved to be its end */
	struct df_json *json;   /* of a success, unless it goes to a file; in the remote's arena. NULL: it is none */
	/* inside */
	struct df_remote *remote;
	const struct df_remote_place *at;
	struct df_http_request request;
	uint64_t id;
	int write_errno;
};

/* A request with nothing in it; the arena begins anew. */
struct df_exchange df_exchange_begin(struct df_remote *r, const char *method);
/* Its path, of three parts. DF_ERR_NOMEM. */
enum df_err df_exchange_path(struct df_remote *r, struct df_exchange *x, const char *start, const char *id,
			     const char *end, struct df_fail *fail) DF_MUST_CHECK;
/* Once. DF_ERR_INTERRUPTED, DF_ERR_NOMEM, DF_ERR_IO (the own disk); else DF_OK and the outcome in *x. */
enum df_err df_exchange_once(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			     struct df_fail *fail) DF_MUST_CHECK;
/* Until there is an answer that another try would not change. DF_OK: a success, with JSON or a file. DF_ERR_CLOSED: the server cannot be reached, or goes on
 * failing; DF_ERR_USAGE: the key is refused; DF_ERR_NOT_FOUND; DF_ERR_RANGE: refused for another reason. */
enum df_err df_exchange_done(struct df_remote *r, const struct df_remote_place *at, struct df_exchange *x,
			     const char *what, struct df_fail *fail) DF_MUST_CHECK;
/* What an outcome that is no success means, as an error of df_exchange_done. */
enum df_err df_exchange_fail(const struct df_exchange *x, const char *what, struct df_fail *fail) DF_MUST_CHECK;

/* requests-NO.jsonl as its file; it must have the size that was written. x->in_fd is the caller's to close, with an error too. */
enum df_err df_exchange_open(struct df_exchange *x, int dir_fd, const struct df_batch_file *file,
			     struct df_fail *fail) DF_MUST_CHECK;

/* remote_messages.c: the INLINE form of what remote.h promises. */
enum df_err df_messages_mark(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     struct df_fail *fail) DF_MUST_CHECK;
/* The body of a creation; x->in_fd is the caller's to close. */
enum df_err df_messages_body(struct df_exchange *x, int dir_fd, const struct df_batch_file *file,
			     struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_messages_find(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     const struct df_batch_state *state, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_messages_look(struct df_remote *r, const struct df_remote_place *at, struct df_batch_file *file,
			     struct df_remote_view *ret, struct df_fail *fail) DF_MUST_CHECK;

#endif
