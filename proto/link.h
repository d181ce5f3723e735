// SPDX-License-Identifier: Apache-2.0
/*
 * link: sockets of the protocol; the only file that includes zmq.h is link.c.
 *
 * A df_link owns one ZeroMQ context; a df_socket belongs to one thread at a time. Messages are a header buffer and
 * payload blobs. A live link must not cross fork(): children are exec'ed.
 * On close, unsent messages are dropped (the protocol loses nothing by it); a PUSH may go on sending them for up to 0.3 s to a peer
 * that is there and reads, and df_link_close waits for that (why: DESIGN in link.c). Reap a worker before its lane is closed.
 * Every descriptor of a link is close-on-exec (Debian 12's libzmq 4.3.4; a test looks at each), and its I/O thread blocks all signals.
 *
 * Before the peer is there: a PUSH that listens answers DF_ERR_AGAIN; a PUSH that connects queues up to hwm messages, and
 * they stay queued over a reconnect; a PUB drops.
 * A DF_OK of send means queued, not received: if the peer goes, whatever was queued for it is lost. A multipart message arrives
 * whole or not at all.
 */
#ifndef DF_PROTO_LINK_H
#define DF_PROTO_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "proto/blob.h"

struct df_link;
struct df_socket;

enum df_socket_kind { DF_SOCKET_PUSH, DF_SOCKET_PULL, DF_SOCKET_PUB, DF_SOCKET_SUB };

/* n_socket_max: sockets the context must be able to hold (ZMQ_MAX_SOCKETS); a closed one counts for a moment more,
 * a PUSH with unread messages for up to 0.3 s, so leave some to spare. */
enum df_err df_link_open(int n_socket_max, struct df_link **ret_link, struct df_fail *fail) DF_MUST_CHECK;
/* All sockets must be closed before. */
void df_link_close(struct df_link **link);

/* Listen (bind) or connect. hwm: messages queued on this side. Endpoint "ipc:///dir/name" (path <= DF_IPC_PATH_MAX) or "tcp://...". */
enum df_err df_socket_listen(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm,
			     struct df_socket **ret_socket, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_socket_connect(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm,
			      struct df_socket **ret_socket, struct df_fail *fail) DF_MUST_CHECK;
void df_socket_close(struct df_socket **socket);
/* Where it listens or connects to, with the port the system chose for "tcp://127.0.0.1:*"; valid until close. */
const char *df_socket_endpoint(const struct df_socket *s);

/* The frames of a message received; header and payload stay valid until df_frames_release. */
struct df_frames {
	struct df_blob *header;
	struct df_blob **payload; /* n_payload of them; take one by nulling its place */
	size_t n_payload, cap;
};

void df_frames_release(struct df_frames *frames); /* keeps the array's memory for the next receive */
void df_frames_free(struct df_frames *frames);    /* frees that too */

/* Never blocks. DF_ERR_AGAIN when the peer's queue is full or no peer is there (nothing was sent); DF_ERR_LIMIT beyond
 * DF_MESSAGE_FRAMES_MAX, DF_HEADER_BYTES_MAX or DF_FRAME_BYTES_MAX. Payload blobs get a reference of their own, which the
 * I/O thread gives back. */
enum df_err df_socket_send(struct df_socket *s, struct df_str header, struct df_blob *const *payload,
			   size_t n_payload) DF_MUST_CHECK;
/* Never blocks. DF_ERR_AGAIN when nothing is there; DF_ERR_LIMIT when a message broke a bound of base/limits.h (frames, bytes)
 * and was dropped. What ret_frames still held is released first, unless it is DF_ERR_AGAIN. */
enum df_err df_socket_recv(struct df_socket *s, struct df_frames *ret_frames) DF_MUST_CHECK;

/* Wait for sockets (to receive; to send when want_send) and plain descriptors (to read). */
struct df_wait {
	struct df_socket *socket; /* or NULL: */
	int fd;
	bool want_send;
	bool ready; /* out */
};

/* timeout_ms < 0 waits for ever (never used without another deadline). DF_OK also when nothing is ready (time-out) or a signal came. */
enum df_err df_wait(struct df_wait *w, size_t n, int timeout_ms) DF_MUST_CHECK;

#endif
