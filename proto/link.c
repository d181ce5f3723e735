// SPDX-License-Identifier: Apache-2.0
/*
 * link: ZeroMQ sockets that never block and never send half a message.
 *
 * DESIGN. A multipart message goes through in one piece because of three facts of libzmq 4.3 (pipe.cpp, lb.cpp):
 * - a pipe counts messages, not frames, against the high-water mark, and counts a message when its last frame is written:
 *   once the first frame found room, the others find it too;
 * - frames become visible to the I/O thread only with the last one (ypipe flushes complete messages only), and a pipe that dies before
 *   that rolls them back; a receiver that loses its connection in the middle rolls back the same way;
 * - all that can still go wrong after the first frame is that the peer's pipe ends between two frames. Then either libzmq drops
 *   the rest by itself and says 0 (the message is lost as if it had been sent a moment before the peer went), or it answers
 *   EAGAIN to a later frame. That frame must not be sent again: the pipe of another peer would take it for a message.
 *   If the frame was not the last, libzmq goes on dropping until a last frame comes, hence the empty one in end_dropping().
 * Everything that can fail for lack of memory is done before the first frame is offered.
 *
 * A PUSH lingers for a moment when it is closed, though nothing depends on what it still sends: with linger 0 libzmq cuts the
 * pipe at once, and if the I/O thread stands in the middle of a multipart message and the peer goes in that moment too, it aborts the
 * process (session_base.cpp, clean_pipes; libzmq issue 3442). That is the case of every dead worker's lane. With a linger the pipe stays
 * readable until the peer has gone or has everything; only a peer that reads nothing for all that time and dies within
 * the few microseconds at its end could still meet it.
 *
 * A PUB without subscribers, or whose subscriber is full, drops and says 0: notices are state and repeated.
 */
#include "proto/link.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/limits.h"

#define COPY_BELOW 4096U /* smaller payloads are copied: cheaper than a shared count and a call from the I/O thread */
#define ENDPOINT_BYTES 512U
#define PUSH_LINGER_MS 300 /* see DESIGN */
#define RECONNECT_MS 5     /* doubles up to: */
#define RECONNECT_MAX_MS 100
#define HANDSHAKE_MS 5000 /* a stranger that connects and says nothing holds a descriptor this long */
#define WAIT_ON_STACK 32U

struct df_link {
	void *ctx;
	atomic_int n_open;
};

struct df_socket {
	void *zmq;
	struct df_link *link;
	zmq_msg_t *frames; /* of the message being sent; kept between messages */
	size_t cap;
	char endpoint[ENDPOINT_BYTES];
};

/* A received frame that is large enough to be worth keeping where ZeroMQ put it. */
struct zmq_blob {
	struct df_blob blob;
	zmq_msg_t msg;
};

/* --- context --- */

static enum df_err fail_zmq(struct df_fail *fail, const char *what, const char *endpoint)
{
	int e = zmq_errno();
	enum df_err code = DF_ERR_IO;
	if (e == EADDRINUSE)
		code = DF_ERR_BUSY;
	else if (e == ENOENT)
		code = DF_ERR_NOT_FOUND;
	else if (e == ENOMEM)
		code = DF_ERR_NOMEM;
	else if (e == EMFILE || e == ENFILE || e == ENAMETOOLONG)
		code = DF_ERR_LIMIT;
	else if (e == EINVAL || e == EPROTONOSUPPORT)
		code = DF_ERR_USAGE;
	return df_fail(fail, code, "%s '%s': %s", what, endpoint, zmq_strerror(e));
}

enum df_err df_link_open(int n_socket_max, struct df_link **ret_link, struct df_fail *fail)
{
	struct df_link *link = calloc(1, sizeof(*link));
	if (!link)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a message context");
	link->ctx = zmq_ctx_new();
	if (!link->ctx) {
		free(link);
		return fail_zmq(fail, "cannot start the message context", "zeromq");
	}
	if (zmq_ctx_set(link->ctx, ZMQ_MAX_SOCKETS, n_socket_max) != 0 ||
	    zmq_ctx_set(link->ctx, ZMQ_IO_THREADS, 1) != 0 || zmq_ctx_set(link->ctx, ZMQ_BLOCKY, 0) != 0) {
		df_link_close(&link);
		return df_fail(fail, DF_ERR_LIMIT, "a message context cannot hold %d sockets", n_socket_max);
	}
	*ret_link = link;
	return DF_OK;
}

void df_link_close(struct df_link **link)
{
	struct df_link *l = *link;
	*link = NULL;
	if (!l)
		return;
	DF_ASSERT(atomic_load(&l->n_open) == 0); /* zmq_ctx_term would wait for them for ever */
	while (zmq_ctx_term(l->ctx) != 0 && zmq_errno() == EINTR)
		continue;
	free(l);
}

/* --- sockets --- */

static enum df_err check_endpoint(const char *endpoint, struct df_fail *fail)
{
	size_t n = strlen(endpoint);
	if (n >= ENDPOINT_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "endpoint of %zu bytes is too long: '%.60s...'", n, endpoint);
	if (strncmp(endpoint, "tcp://", 6) == 0)
		return DF_OK;
	/* Not an abstract ipc://@name: it has no directory that keeps other users out. No wildcard: its place is unknown. */
	if (strncmp(endpoint, "ipc:///", 7) != 0)
		return df_fail(fail, DF_ERR_USAGE, "endpoint '%s' is neither ipc:///path nor tcp://host:port",
			       endpoint);
	if (n - 6 > DF_IPC_PATH_MAX)
		return df_fail(
			fail, DF_ERR_LIMIT,
			"socket path of %zu bytes is longer than the system's %d: '%s'; set TMPDIR to a shorter folder",
			n - 6, DF_IPC_PATH_MAX, endpoint + 6);
	return DF_OK;
}

static bool set_int(void *zmq, int option, int value)
{
	return zmq_setsockopt(zmq, option, &value, sizeof(value)) == 0;
}

static bool set_options(void *zmq, enum df_socket_kind kind, int hwm)
{
	int64_t max = DF_FRAME_BYTES_MAX;
	return set_int(zmq, ZMQ_LINGER, kind == DF_SOCKET_PUSH ? PUSH_LINGER_MS : 0) && set_int(zmq, ZMQ_SNDHWM, hwm) &&
	       set_int(zmq, ZMQ_RCVHWM, hwm) && set_int(zmq, ZMQ_IPV6, 0) &&
	       set_int(zmq, ZMQ_RECONNECT_IVL, RECONNECT_MS) && set_int(zmq, ZMQ_RECONNECT_IVL_MAX, RECONNECT_MAX_MS) &&
	       set_int(zmq, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
	       zmq_setsockopt(zmq, ZMQ_MAXMSGSIZE, &max, sizeof(max)) == 0 &&
	       (kind != DF_SOCKET_SUB || zmq_setsockopt(zmq, ZMQ_SUBSCRIBE, "", 0) == 0);
}

static int zmq_type_of(enum df_socket_kind kind)
{
	switch (kind) {
	case DF_SOCKET_PUSH:
		return ZMQ_PUSH;
	case DF_SOCKET_PULL:
		return ZMQ_PULL;
	case DF_SOCKET_PUB:
		return ZMQ_PUB;
	case DF_SOCKET_SUB:
		return ZMQ_SUB;
	}
	return -1;
}

static enum df_err open_zmq(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm,
			    struct df_socket **ret_socket, struct df_fail *fail)
{
	if (hwm <= 0) /* ZeroMQ takes 0 for "no limit" */
		return df_fail(fail, DF_ERR_RANGE, "a high-water mark of %d for '%s' is no bound", hwm, endpoint);
	struct df_socket *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a socket");
	s->link = link;
	s->zmq = zmq_socket(link->ctx, zmq_type_of(kind));
	if (!s->zmq) {
		free(s);
		if (zmq_errno() == EMFILE)
			return df_fail(fail, DF_ERR_LIMIT,
				       "no socket left for '%s': %d of them, or the limit of open files (ulimit -n)",
				       endpoint, zmq_ctx_get(link->ctx, ZMQ_MAX_SOCKETS));
		return fail_zmq(fail, "cannot make a socket for", endpoint);
	}
	atomic_fetch_add(&link->n_open, 1);
	if (!set_options(s->zmq, kind, hwm)) {
		enum df_err err = fail_zmq(fail, "cannot set the options of the socket", endpoint);
		df_socket_close(&s);
		return err;
	}
	*ret_socket = s;
	return DF_OK;
}

static enum df_err open_at(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm, bool listens,
			   struct df_socket **ret_socket, struct df_fail *fail)
{
	struct df_socket *s = NULL;
	DF_TRY(check_endpoint(endpoint, fail));
	DF_TRY(open_zmq(link, kind, endpoint, hwm, &s, fail));
	DF_ASSERT(s);
	size_t size = sizeof(s->endpoint);
	int rc = listens ? zmq_bind(s->zmq, endpoint) : zmq_connect(s->zmq, endpoint);
	if (rc != 0 || zmq_getsockopt(s->zmq, ZMQ_LAST_ENDPOINT, s->endpoint, &size) != 0) {
		enum df_err err = fail_zmq(fail, listens ? "cannot listen at" : "cannot connect to", endpoint);
		df_socket_close(&s);
		return err;
	}
	*ret_socket = s;
	return DF_OK;
}

enum df_err df_socket_listen(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm,
			     struct df_socket **ret_socket, struct df_fail *fail)
{
	return open_at(link, kind, endpoint, hwm, true, ret_socket, fail);
}

enum df_err df_socket_connect(struct df_link *link, enum df_socket_kind kind, const char *endpoint, int hwm,
			      struct df_socket **ret_socket, struct df_fail *fail)
{
	return open_at(link, kind, endpoint, hwm, false, ret_socket, fail);
}

void df_socket_close(struct df_socket **socket)
{
	struct df_socket *s = *socket;
	*socket = NULL;
	if (!s)
		return;
	(void)zmq_close(s->zmq);
	atomic_fetch_sub(&s->link->n_open, 1);
	free(s->frames);
	free(s);
}

const char *df_socket_endpoint(const struct df_socket *s)
{
	return s->endpoint;
}

/* --- send --- */

/* Runs in ZeroMQ's I/O thread. */
static void unref_sent(void *bytes, void *hint)
{
	struct df_blob *blob = hint;
	(void)bytes;
	df_blob_unref(&blob);
}

static bool fill_copy(zmq_msg_t *msg, const void *p, size_t n)
{
	if (zmq_msg_init_size(msg, n) != 0)
		return false;
	if (n)
		memcpy(zmq_msg_data(msg), p, n);
	return true;
}

static bool fill_frame(zmq_msg_t *msg, struct df_blob *blob)
{
	if (blob->n < COPY_BELOW)
		return fill_copy(msg, blob->p, blob->n);
	if (zmq_msg_init_data(msg, blob->p, blob->n, unref_sent, df_blob_ref(blob)) == 0)
		return true;
	df_blob_unref(&(struct df_blob *){blob}); /* the reference that the message did not take */
	return false;
}

static void close_frames(struct df_socket *s, size_t from, size_t n)
{
	for (size_t i = from; i < n; i++)
		(void)zmq_msg_close(&s->frames[i]);
}

static enum df_err fill_frames(struct df_socket *s, struct df_str header, struct df_blob *const *payload,
			       size_t n_payload)
{
	size_t n = 1 + n_payload;
	if (n > s->cap) {
		zmq_msg_t *more = realloc(s->frames, n * sizeof(*more)); /* no live message is in it between sends */
		if (!more)
			return DF_ERR_NOMEM;
		s->frames = more;
		s->cap = n;
	}
	if (!fill_copy(&s->frames[0], header.p, header.n))
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < n_payload; i++) {
		if (!fill_frame(&s->frames[1 + i], payload[i])) {
			close_frames(s, 0, 1 + i);
			return DF_ERR_NOMEM;
		}
	}
	return DF_OK;
}

static int send_frame(struct df_socket *s, zmq_msg_t *msg, bool more)
{
	int rc;
	do
		rc = zmq_msg_send(msg, s->zmq, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
	while (rc < 0 && zmq_errno() == EINTR);
	return rc;
}

/* See DESIGN: what is left of a refused message must not swallow the next one. */
static void end_dropping(struct df_socket *s)
{
	zmq_msg_t empty;
	(void)zmq_msg_init(&empty);
	(void)send_frame(s, &empty, false);
	(void)zmq_msg_close(&empty);
}

static enum df_err from_send_errno(int e)
{
	switch (e) {
	case EAGAIN:
		return DF_ERR_AGAIN;
	case ETERM:
		return DF_ERR_CLOSED;
	default:
		return DF_ERR_BUG; /* a PULL or SUB that sends */
	}
}

static enum df_err check_message(struct df_str header, struct df_blob *const *payload, size_t n_payload)
{
	if (header.n > DF_HEADER_BYTES_MAX || n_payload >= DF_MESSAGE_FRAMES_MAX)
		return DF_ERR_LIMIT;
	for (size_t i = 0; i < n_payload; i++) {
		if (payload[i]->n > DF_FRAME_BYTES_MAX)
			return DF_ERR_LIMIT;
	}
	return DF_OK;
}

enum df_err df_socket_send(struct df_socket *s, struct df_str header, struct df_blob *const *payload, size_t n_payload)
{
	size_t n = 1 + n_payload;
	DF_TRY(check_message(header, payload, n_payload));
	DF_TRY(fill_frames(s, header, payload, n_payload));
	for (size_t i = 0; i < n; i++) {
		if (send_frame(s, &s->frames[i], i + 1 < n) >= 0)
			continue;
		enum df_err err = from_send_errno(zmq_errno());
		close_frames(s, i, n);
		if (i > 0 && i + 1 < n)
			end_dropping(s);
		return err;
	}
	return DF_OK;
}

/* --- receive --- */

static void free_zmq_blob(struct df_blob *blob)
{
	struct zmq_blob *z = (struct zmq_blob *)blob;
	(void)zmq_msg_close(&z->msg);
	free(z);
}

/* The frame as a blob; msg is empty afterwards. Small frames are copied: ZeroMQ may have cut them from one larger read
 * buffer, which a kept frame of a few bytes would hold. */
static struct df_blob *take_frame(zmq_msg_t *msg)
{
	size_t n = zmq_msg_size(msg);
	if (n < COPY_BELOW)
		return df_blob_copy(zmq_msg_data(msg), n);
	struct zmq_blob *z = malloc(sizeof(*z));
	if (!z)
		return NULL;
	(void)zmq_msg_init(&z->msg);
	(void)zmq_msg_move(&z->msg, msg);
	atomic_init(&z->blob.refs, 1);
	z->blob.p = zmq_msg_data(&z->msg);
	z->blob.n = n;
	z->blob.free_bytes = free_zmq_blob;
	return &z->blob;
}

static enum df_err grow_frames(struct df_frames *f)
{
	if (f->n_payload < f->cap)
		return DF_OK;
	size_t cap = f->cap ? f->cap * 2 : 8;
	struct df_blob **more = realloc(f->payload, cap * sizeof(struct df_blob *));
	if (!more)
		return DF_ERR_NOMEM;
	f->payload = more;
	f->cap = cap;
	return DF_OK;
}

static enum df_err add_frame(struct df_frames *f, zmq_msg_t *msg)
{
	if (!f->header) {
		if (zmq_msg_size(msg) > DF_HEADER_BYTES_MAX)
			return DF_ERR_LIMIT;
		f->header = take_frame(msg);
		return f->header ? DF_OK : DF_ERR_NOMEM;
	}
	if (f->n_payload + 1 >= DF_MESSAGE_FRAMES_MAX)
		return DF_ERR_LIMIT;
	DF_TRY(grow_frames(f));
	struct df_blob *blob = take_frame(msg);
	if (!blob)
		return DF_ERR_NOMEM;
	f->payload[f->n_payload++] = blob;
	return DF_OK;
}

static int recv_frame(struct df_socket *s, zmq_msg_t *msg)
{
	int rc;
	do
		rc = zmq_msg_recv(msg, s->zmq, ZMQ_DONTWAIT);
	while (rc < 0 && zmq_errno() == EINTR);
	return rc;
}

enum df_err df_socket_recv(struct df_socket *s, struct df_frames *ret_frames)
{
	zmq_msg_t msg;
	enum df_err err = DF_OK;
	bool more = true;
	(void)zmq_msg_init(&msg);
	if (recv_frame(s, &msg) < 0)
		return from_send_errno(zmq_errno());
	df_frames_release(ret_frames);
	while (true) {
		more = zmq_msg_more(&msg) != 0;
		if (err == DF_OK)
			err = add_frame(ret_frames, &msg);
		if (!more)
			break;
		/* The rest of a refused message is taken off the queue too, or it would be the next message. A message arrives
		 * whole, so its later frames are there. */
		if (recv_frame(s, &msg) < 0) {
			err = err == DF_OK ? DF_ERR_CLOSED : err;
			break;
		}
	}
	(void)zmq_msg_close(&msg);
	if (err != DF_OK)
		df_frames_release(ret_frames);
	return err;
}

void df_frames_release(struct df_frames *frames)
{
	df_blob_unref(&frames->header);
	for (size_t i = 0; i < frames->n_payload; i++)
		df_blob_unref(&frames->payload[i]);
	frames->n_payload = 0;
}

void df_frames_free(struct df_frames *frames)
{
	df_frames_release(frames);
	free(frames->payload);
	*frames = (struct df_frames){0};
}

/* --- wait --- */

static enum df_err poll_items(struct df_wait *w, size_t n, int timeout_ms, zmq_pollitem_t *items)
{
	for (size_t i = 0; i < n; i++) {
		items[i] = (zmq_pollitem_t){.socket = w[i].socket ? w[i].socket->zmq : NULL,
					    .fd = w[i].fd,
					    .events = w[i].socket && w[i].want_send ? ZMQ_POLLOUT : ZMQ_POLLIN};
		w[i].ready = false;
	}
	if (zmq_poll(items, (int)n, timeout_ms) < 0)
		return zmq_errno() == EINTR ? DF_OK : zmq_errno() == ETERM ? DF_ERR_CLOSED : DF_ERR_BUG;
	for (size_t i = 0; i < n; i++)
		w[i].ready = items[i].revents != 0; /* a descriptor's error or end too: reading tells */
	return DF_OK;
}

enum df_err df_wait(struct df_wait *w, size_t n, int timeout_ms)
{
	zmq_pollitem_t few[WAIT_ON_STACK];
	if (n == 0 && timeout_ms < 0)
		return DF_ERR_BUG; /* nothing could ever end it */
	if (n <= WAIT_ON_STACK)
		return poll_items(w, n, timeout_ms, few);
	if (n > INT_MAX)
		return DF_ERR_LIMIT;
	zmq_pollitem_t *items = malloc(n * sizeof(*items));
	if (!items)
		return DF_ERR_NOMEM;
	enum df_err err = poll_items(w, n, timeout_ms, items);
	free(items);
	return err;
}
