// SPDX-License-Identifier: Apache-2.0
/*
 * call_retry: what comes after an answer: functions of their arguments, a given time and a given random number. No I/O, no clock.
 */
#ifndef DF_WORKER_CALL_CALL_RETRY_H
#define DF_WORKER_CALL_CALL_RETRY_H

#include "worker/call/call.h"

/* --- back-off --- */

/* Nanoseconds to wait before try n + 1 (n from 1): below base * 2^(n-1) and cap by `random` (full jitter), at least retry_after_ms (-1: not said). */
uint64_t df_backoff_ns(const struct df_retry_options *o, uint32_t n, uint64_t random, int64_t retry_after_ms);

/* --- the quota of retries, one for all calls of a worker --- */

struct df_retry_quota {
	uint32_t left;
};
void df_retry_quota_init(struct df_retry_quota *q);
/* false: it is empty; nothing was taken. */
bool df_retry_quota_take(struct df_retry_quota *q, uint32_t cost);
void df_retry_quota_give(struct df_retry_quota *q, uint32_t n);
uint32_t df_retry_cost(bool was_timeout);

/* --- the breaker of a host, or of one model there --- */

struct df_breaker {
	uint32_t failures;  /* in a row; stragglers that end while it is open are not counted */
	bool open, probing; /* open: nothing is sent until `until_ns`; then one probe */
	bool unknown;       /* a host that was never reached: it opens sooner, and patience is shorter */
	uint64_t until_ns, pause_ns;
	uint64_t bad_ns;   /* the first of the failures */
	uint64_t since_ns; /* when it opened after the last answer */
};
#define DF_BREAKER_PROBE UINT64_MAX /* wait for the probe's end */

/* 0: send now; a time: not before it; DF_BREAKER_PROBE. */
uint64_t df_breaker_wait(const struct df_breaker *b, uint64_t now_ns);
/* A request goes out (df_breaker_wait said 0). true: it is the probe. */
bool df_breaker_sent(struct df_breaker *b);
void df_breaker_good(struct df_breaker *b); /* the host answered */
void df_breaker_bad(struct df_breaker *b, uint64_t now_ns, bool was_probe);
/* Open for DF_BREAKER_PATIENCE_MS; of a host that was never reached for DF_BREAKER_UNKNOWN_PATIENCE_MS. */
bool df_breaker_hopeless(const struct df_breaker *b, uint64_t now_ns);
void df_breaker_lost(struct df_breaker *b); /* the probe was cancelled: the next one is it */
/* The longer wait of two: both must let a request pass. */
uint64_t df_breakers_wait(const struct df_breaker *host, const struct df_breaker *route, uint64_t now_ns);

/* --- what next --- */

enum df_next {
	DF_NEXT_DONE,
	DF_NEXT_WAIT,    /* back-off, then again; costs an attempt */
	DF_NEXT_RESERVE, /* again as soon as the limits say */
	DF_NEXT_CUT,     /* in two */
	DF_NEXT_FALLBACK, /* this model has failed for this call: the next one, after which it is left alone for a while; else fail */
	DF_NEXT_OVER, /* this model is over for the run: the next one; else the run ends */
	DF_NEXT_FAIL  /* this input's error */
};

struct df_attempt_facts {
	enum df_call_class class;
	long status;
	uint32_t attempts; /* on this route, with the one that ended */
	uint32_t rates;    /* RATE answers so far, with this one */
	bool once_used;    /* a 408, 409 or 425 was tried again already */
	bool text_passed;  /* a stream's text was shown: it cannot be taken back */
	bool rates_alone;  /* the model answers 429 alone for long, and there is a fall-back */
	bool host_good; /* others had good answers there since this call was first sent: of the host, after a status of the model */
	size_t n_input; /* embed: inputs of the request; chat: 1 */
};

enum df_next df_next_after(const struct df_retry_options *o, const struct df_attempt_facts *f);

/* Who is to blame, if not the call? The host when it did not answer at all (refused, reset, timed out: status 0); the model there (its route) when it answered 5xx,
 * or began an answer that broke. */
enum df_blame { DF_BLAME_NOBODY, DF_BLAME_ROUTE, DF_BLAME_HOST };
enum df_blame df_blame_of(long status, enum df_err err);
/* The error of a document whose call failed with this. */
enum df_err df_call_err(enum df_call_class class, enum df_err http_err);

#endif
