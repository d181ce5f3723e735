// SPDX-License-Identifier: Apache-2.0
/*
 * form: answers as each API writes them.
 *
 * A reply is made whole when its request comes: its bytes, and marks that say which of them may be sent when. Delays, streams and most
 * faults are nothing but marks and shortened bytes.
 */
#ifndef DF_TESTS_API_FORM_H
#define DF_TESTS_API_FORM_H

#include "tests/api/ask.h"

struct mark {
	size_t end;     /* of the bytes that may be sent */
	uint64_t at_ns; /* from then on, CLOCK_MONOTONIC */
	size_t stamp;   /* 0, or where 19 digits of the time of sending belong */
};

enum reply_end { END_KEEP, END_CLOSE, END_RESET, END_HOLD };

struct reply {
	struct bytes out;
	struct mark *mark;
	size_t n_mark, cap_mark;
	enum reply_end end;
	/* behind `out`: this many bytes more, of `fill` again and again */
	uint64_t more;
	struct span fill;
};

void reply_mark(struct reply *r, uint64_t at_ns, size_t stamp); /* up to the end of what is there now */
void reply_clear(struct reply *r);
void reply_free(struct reply *r);

/* The body of a chat answer or of vectors; `fewer`: the last vector is missing. */
void form_chat(struct bytes *to, const struct ask *a, const struct options *o);
void form_vectors(struct bytes *to, const struct ask *a, const struct options *o, bool fewer);
/* code: of OpenAI, NULL for none. */
void form_error(struct bytes *to, enum api api, int status, const char *code, const char *message);
const char *form_finish(enum api api, bool cut);

/* A stream's HTTP headers are in `r` already; its chunks and marks are added. `fault`: what of FAULT_BADSSE to FAULT_STREAMERROR it has. */
void form_stream(struct reply *r, const struct ask *a, const struct options *o, enum fault_kind fault, uint64_t at_ns,
		 uint64_t *random);
const char *form_stream_type(enum api api);

#endif
