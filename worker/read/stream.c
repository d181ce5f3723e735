// SPDX-License-Identifier: Apache-2.0
/* stream: descriptors, and a look ahead. */
#include "worker/read/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fd_stream {
	struct df_stream base;
	int fd;
	int idle_ms;
};

struct peek_stream {
	struct df_stream base;
	struct df_stream *in;
	uint8_t head[DF_PEEK_BYTES];
	size_t n, taken;
	bool peeked;
	enum df_err err; /* met while looking ahead: given after the bytes before it */
	struct df_fail fail;
};

enum df_err df_stream_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	size_t got = 0;
	enum df_err err = s->read(s, p, n, &got, fail);
	if (err != DF_OK)
		return err;
	s->offset += got;
	*ret_n = got;
	return DF_OK;
}

static void plain_destroy(struct df_stream *s)
{
	free(s);
}

static enum df_err wait_readable(const struct fd_stream *f, struct df_fail *fail)
{
	struct pollfd pfd = {.fd = f->fd, .events = POLLIN};
	int ready = poll(&pfd, 1, f->idle_ms);
	if (ready < 0 && errno != EINTR)
		return df_fail_errno(fail, "cannot wait for '%s'", f->base.name);
	return ready > 0 ? DF_OK : DF_ERR_AGAIN;
}

static enum df_err fd_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	const struct fd_stream *f = (const struct fd_stream *)s;
	for (;;) {
		if (f->idle_ms >= 0)
			DF_TRY(wait_readable(f, fail));
		ssize_t got = read(f->fd, p, n);
		if (got > 0) {
			*ret_n = (size_t)got;
			return DF_OK;
		}
		if (got == 0)
			return DF_ERR_END;
		if ((errno == EAGAIN || errno == EWOULDBLOCK) && f->idle_ms >= 0)
			return DF_ERR_AGAIN;
		if (errno == EAGAIN || errno == EWOULDBLOCK) { /* somebody made it non-blocking: wait for ever */
			struct pollfd pfd = {.fd = f->fd, .events = POLLIN};
			(void)poll(&pfd, 1, -1);
		} else if (errno != EINTR) {
			return df_fail_errno(fail, "cannot read '%s' at byte %llu", s->name,
					     (unsigned long long)s->offset);
		}
	}
}

enum df_err df_stream_of_fd(int fd, const char *name, int idle_ms, struct df_stream **ret_stream)
{
	struct fd_stream *f = calloc(1, sizeof(*f));
	if (!f)
		return DF_ERR_NOMEM;
	f->base = (struct df_stream){fd_read, plain_destroy, name, 0};
	f->fd = fd;
	f->idle_ms = idle_ms;
	*ret_stream = &f->base;
	return DF_OK;
}

static enum df_err peek_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct peek_stream *k = (struct peek_stream *)s;
	size_t left = k->n - k->taken;
	if (left) {
		size_t got = left < n ? left : n;
		memcpy(p, k->head + k->taken, got);
		k->taken += got;
		*ret_n = got;
		return DF_OK;
	}
	if (k->err == DF_OK)
		return df_stream_read(k->in, p, n, ret_n, fail);
	if (fail)
		*fail = k->fail;
	return k->err;
}

enum df_err df_stream_peekable(struct df_stream *in, struct df_stream **ret_stream)
{
	struct peek_stream *k = calloc(1, sizeof(*k));
	if (!k)
		return DF_ERR_NOMEM;
	k->base = (struct df_stream){peek_read, plain_destroy, in->name, 0};
	k->in = in;
	*ret_stream = &k->base;
	return DF_OK;
}

enum df_err df_stream_peek(struct df_stream *peekable, const uint8_t **ret_p, size_t *ret_n, struct df_fail *fail)
{
	struct peek_stream *k = (struct peek_stream *)peekable;
	while (!k->peeked && k->n < sizeof(k->head)) {
		size_t got = 0;
		enum df_err err = df_stream_read(k->in, k->head + k->n, sizeof(k->head) - k->n, &got, &k->fail);
		if (err == DF_ERR_AGAIN && k->n == 0)
			return df_fail(fail, err, "'%s' is silent", k->base.name);
		if (err == DF_ERR_AGAIN)
			break;
		if (err != DF_OK) {
			k->err = err;
			break;
		}
		k->n += got;
	}
	k->peeked = true;
	*ret_p = k->head;
	*ret_n = k->n;
	return DF_OK;
}
