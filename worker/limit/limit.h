// SPDX-License-Identifier: Apache-2.0
/*
 * limit: requests and tokens per minute and per day, and calls in flight, kept for one (key, model) by all processes of a machine in one
 * mapped file. No daemon: whoever asks does the arithmetic, in tens of nanoseconds.
 *
 * Rates are GCRA clocks (virtual scheduling): a theoretical arrival time in boot-time nanoseconds, moved by compare-and-swap; a
 * reservation answers *when* its call may be sent, and the caller sleeps until then (df_http_at), never polls. Tolerance 1 and a margin of 0.5 %, so
 * that a server's fixed window, sliding window or bucket never sees one too many. On 429 df_limit_push moves the clock forward and raises
 * `epoch`: reservations of an older epoch are void and are made again.
 *
 * Calls in flight are slots held by locks that die with their owner (open file description locks on the file), also across PID namespaces. Daily counts
 * live in the file across runs (UTC day, wall clock). After a reboot (boot id) the clocks begin anew, daily counts stay.
 *
 * Files: ${XDG_STATE_HOME:-~/.local/state}/docflume/limits/HASH (0600), or $DOCFLUME_LIMITS; HASH is of provider, base URL, model and a hash of the key: no
 * secret is in name or content. Refused on network file systems (DF_ERR_UNSUPPORTED), where mapping is not shared.
 */
#ifndef DF_WORKER_LIMIT_LIMIT_H
#define DF_WORKER_LIMIT_LIMIT_H

#include "base/err.h"
#include "worker/provider/ask.h"

struct df_limit;

struct df_limit_config {
	const char *dir;      /* NULL: as above */
	struct df_str name;   /* "openai https://api.openai.com/v1 gpt-4o-mini" */
	struct df_str key;    /* secret, hashed */
	uint64_t rpm, tpm;    /* 0: no limit known (learned from headers) */
	uint64_t rpd, tpd;    /* per UTC day; 0: none */
	uint32_t concurrency; /* 0: no limit */
	uint32_t burst;       /* requests that may go at once: tolerance of the GCRA; 1 */
	/* clocks for tests; NULL: CLOCK_BOOTTIME and the wall */
	uint64_t (*boot_ns)(void *self);
	uint64_t (*wall_ns)(void *self);
	void *self;
};

enum df_err df_limit_open(const struct df_limit_config *config, struct df_limit **ret_limit,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_limit_close(struct df_limit **limit);

struct df_reservation {
	uint64_t at_boot_ns; /* send no sooner */
	uint64_t tokens, day, epoch;
};

/* DF_OK; DF_ERR_LIMIT: it can never fit (more tokens than a minute has), with the reason; DF_ERR_NOSPACE: a daily limit is used up: `daily limit
 * hit for model "X"` with when it begins anew. */
enum df_err df_limit_reserve(struct df_limit *l, uint64_t tokens, struct df_reservation *ret,
			     struct df_fail *fail) DF_MUST_CHECK;
/* Before sending: false: a 429 came since, reserve again. */
bool df_limit_valid(const struct df_limit *l, const struct df_reservation *r);
/* It was not sent: gives requests and tokens of the day back (the minute's are let go). */
void df_limit_cancel(struct df_limit *l, const struct df_reservation *r);
/* After the answer: tokens that were really used (may be fewer or more). */
void df_limit_settle(struct df_limit *l, const struct df_reservation *r, uint64_t tokens_used);
/* 429: nothing before now + retry_after_ms; new epoch; the rate becomes what the headers say, or 0.98 x what was accepted in the last
 * minute; it probes up slowly (at most 1 % per minute without a 429), never above what was configured. */
void df_limit_push(struct df_limit *l, const struct df_limit_news *news, int64_t retry_after_ms);
/* Headers of any answer. */
void df_limit_learn(struct df_limit *l, const struct df_limit_news *news);

/* Calls in flight: DF_OK with a slot, or DF_ERR_AGAIN (ask again when one of yours ends, or in 10 ms). */
enum df_err df_limit_enter(struct df_limit *l, uint32_t *ret_slot) DF_MUST_CHECK;
void df_limit_leave(struct df_limit *l, uint32_t slot);

struct df_limit_view {
	uint64_t rpm, tpm, used_rpd, used_tpd, accepted_last_minute, in_flight, n_429;
};
struct df_limit_view df_limit_look(const struct df_limit *l);

#endif
