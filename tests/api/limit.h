// SPDX-License-Identifier: Apache-2.0
/*
 * limit: rate limits as providers really have them, exact to the nanosecond and independent of the client's way of counting.
 *
 *   bucket   holds `burst` requests (and `token_burst` tokens), fills at rpm (tpm) evenly; a request takes one
 *   sliding  in no 60 s may more than rpm requests (tpm tokens) be accepted
 *   fixed    minutes begin with the server; each has rpm requests, tpm tokens
 * and beside each of them rpd and tpd, over days that begin with the server. Pure: time comes in.
 */
#ifndef DF_TESTS_API_LIMIT_H
#define DF_TESTS_API_LIMIT_H

#include "tests/api/options.h"

struct taken {
	uint64_t at_ns, tokens;
};

struct limit {
	struct span model; /* its own copy */
	struct limit *next;
	double requests, tokens; /* bucket: level; fixed: used in this window */
	uint64_t level_ns;       /* bucket: when the levels were right; fixed: the window's number */
	struct taken *taken;     /* sliding: a ring of what was accepted in the last minute */
	size_t first, n, cap;
	uint64_t window_tokens;
	uint64_t day, day_requests, day_tokens;
	uint64_t n_in_flight;
	bool begun;
};

enum limit_reason { LIMIT_OK, LIMIT_REQUESTS, LIMIT_TOKENS, LIMIT_DAY_REQUESTS, LIMIT_DAY_TOKENS, LIMIT_CONCURRENCY };

struct verdict {
	enum limit_reason reason;
	uint64_t wait_ns; /* until such a request would be accepted, if nobody else asks; UINT64_MAX: never */
	/* for headers; -1: no limit. Left after this request; ns until all of it is there again. */
	double requests_limit, requests_left, tokens_limit, tokens_left;
	uint64_t requests_reset_ns, tokens_reset_ns;
};

/* now_ns: since the server began. Takes from the limit when the request is accepted (or not enforced). */
struct verdict limit_take(struct limit *l, const struct options *o, uint64_t now_ns, uint64_t tokens);

#endif
