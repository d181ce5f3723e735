// SPDX-License-Identifier: Apache-2.0
/*
 * sse: server-sent events (WHATWG HTML, section 9.2.6) from bytes in any pieces: lines end in LF, CR or CRLF (also split between two
 * pieces), a BOM at the start is dropped, comments are passed over, `data` lines are joined by LF, an event ends with an empty
 * line; what is not ended by one never happened. An event without a data line is none; `data:` alone is one, of no bytes. `id` and `retry` serve
 * reconnection, which no API offers: they are passed over. Bytes that are no UTF-8 are handed on as they are. Pure: no I/O.
 */
#ifndef DF_WORKER_NET_SSE_H
#define DF_WORKER_NET_SSE_H

#include "base/buf.h"
#include "base/err.h"

struct df_sse {
	struct df_buf line, data, event;
	bool after_cr, begun, has_data;
	size_t max;
};

/* max: bytes of one event's data (DF_SSE_EVENT_MAX); a line may be 64 bytes longer, comments too. */
void df_sse_init(struct df_sse *s, size_t max);
void df_sse_release(struct df_sse *s);
/* on_event: type ("" is "message"), data; valid during the call; an error of its stops the feeding and is returned. DF_ERR_LIMIT, DF_ERR_NOMEM. After an
 * error the stream is over: what is left of it has no meaning. */
enum df_err df_sse_feed(struct df_sse *s, const char *p, size_t n,
			enum df_err (*on_event)(void *self, struct df_str type, struct df_str data),
			void *self) DF_MUST_CHECK;

#endif
