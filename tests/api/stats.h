// SPDX-License-Identifier: Apache-2.0
/*
 * stats: what the server saw, for /stats: the truth that clients are held to. Pure: time comes in.
 *
 * A `text` is a document's identity: the first user message, or one input of an embedding. Its answers are counted, so that what was paid
 * twice shows. Every number of `struct stats` begins anew with /reset.
 */
#ifndef DF_TESTS_API_STATS_H
#define DF_TESTS_API_STATS_H

#include "tests/api/limit.h"

struct text {
	uint64_t hash; /* 0: free */
	uint32_t requests, paid, refused, invalid;
	uint64_t not_before_ns; /* of the last Retry-After */
	char head[32];          /* its first bytes */
};

/* The largest sum over any minute. */
struct window {
	struct taken *ring;
	size_t first, n, cap;
	uint64_t sum, max;
};

struct stats {
	uint64_t requests, connections, in_flight, max_in_flight, max_connections, n_connection;
	uint64_t status[600], fault[FAULT_N], violation[LIMIT_CONCURRENCY + 1];
	uint64_t early_retries, early_any, gone, unauthorized, streams, inputs;
	uint64_t tokens_in, tokens_out, tokens_gone;
	double usd;
	uint64_t first_arrival_ns, last_arrival_ns, last_answer_ns; /* CLOCK_MONOTONIC */
	uint64_t pause_until_ns;                                    /* of the last Retry-After for a limit */
	struct window requests_window, accepted_window, tokens_window;
	struct text *text;
	size_t n_text, cap_text;
	uint64_t batches, batch_lines, files;
};

struct text *stats_text(struct stats *s, struct span text, uint64_t salt);
void window_add(struct window *w, uint64_t now_ns, uint64_t minute_ns, uint64_t value);
void stats_reset(struct stats *s); /* in_flight and n_connection stay */
void stats_write(const struct stats *s, struct bytes *to);
/* [{"hash", "requests", "paid", "refused", "head"}, ...] of all texts, or of those paid more than once. */
void stats_texts(const struct stats *s, bool only_twice, struct bytes *to);

#endif
