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
 * A place may be reserved DF_LIMIT_AHEAD_NS before its time and no sooner; who comes earlier is told when to come back. So a caller keeps its own
 * queue, and for its head does:
 *
 *	err = df_limit_reserve(l, tokens, &r, &fail);
 *	DF_OK          -> sleep until r.at_boot_ns; if df_limit_valid(l, &r): send, else df_limit_cancel(l, &r) and reserve again; if df_limit_is_void(l, &r),
 *	                  all others that are held likewise.
 *	                  Meanwhile the next of the queue may reserve, until DF_ERR_AGAIN.
 *	DF_ERR_AGAIN   -> nothing is reserved; one timer for r.at_boot_ns, then ask again.
 *	answer         -> df_limit_settle(l, &r, tokens), or for a 429 df_limit_push(l, &r, ...) and reserve again.
 *
 * What a killed process had reserved is therefore lost for DF_LIMIT_AHEAD_NS at most, and a charge that reaches further (many tokens, or few requests
 * a minute) is taken back when its owner is found dead before it was sent.
 *
 * Calls in flight are slots that belong to owners; an owner is a byte of the file that its process has locked (an open file description lock), which ends with
 * the process, also across PID namespaces. Daily counts live in the file across runs (UTC day, wall clock). After a reboot (boot id) the clocks begin anew,
 * daily counts stay.
 *
 * Files: ${XDG_STATE_HOME:-~/.local/state}/docflume/limits/HASH (0600), or in $DOCFLUME_LIMITS; HASH is of provider, base URL, model and the key: no
 * secret is in name or content. Refused on network file systems (DF_ERR_UNSUPPORTED), where mapping is not shared. docs/LIMITS.md is for users.
 *
 * A df_limit is used by one thread at a time, and not by a child after fork (a child that lives on keeps the owner's lock: open after forking). No descriptor
 * is opened and no path looked up after df_limit_open, so a process may confine itself.
 */
#ifndef DF_WORKER_LIMIT_LIMIT_H
#define DF_WORKER_LIMIT_LIMIT_H

#include "base/err.h"
#include "worker/provider/ask.h"

#define DF_LIMIT_AHEAD_NS UINT64_C(250000000)
#define DF_LIMIT_NO_SLOT UINT32_MAX /* the slot of whom no limit of calls in flight binds */

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

/* DF_OK with fail->msg not empty: a warning for people (a damaged file was put aside and begun anew). DF_ERR_UNSUPPORTED: a network file system.
 * DF_ERR_USAGE: file or folder belong to somebody else, or others may write there. DF_ERR_CORRUPT: damaged while others use it. DF_ERR_VERSION: another
 * docflume uses it. DF_ERR_BUSY: too many owners, or somebody is opening it and does not finish. DF_ERR_RANGE: concurrency or a rate is too large. */
enum df_err df_limit_open(const struct df_limit_config *config, struct df_limit **ret_limit,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_limit_close(struct df_limit **limit); /* accepts NULL; slots are left */

struct df_reservation {
	uint64_t at_boot_ns; /* send no sooner; with DF_ERR_AGAIN: ask no sooner */
	uint64_t tokens, day, epoch;
};

/* DF_OK. DF_ERR_AGAIN: the next place is further away than may be reserved; ret->at_boot_ns says when to ask again (always later than now,
 * and 5 s at most: a machine that slept wakes to a place that has come). DF_ERR_LIMIT: it
 * can never fit (more tokens than a minute or a day has), with the reason; DF_ERR_QUOTA: a daily limit is used up: `daily limit hit for model "X"` with when it
 * begins anew. DF_ERR_CORRUPT, DF_ERR_CHANGED: the file was damaged, or removed, while it is in use: nothing may be sent. */
enum df_err df_limit_reserve(struct df_limit *l, uint64_t tokens, struct df_reservation *ret,
			     struct df_fail *fail) DF_MUST_CHECK;
/* Just before sending. False: a 429 came since, or it is so late that this call would run into the next ones (half an interval, at least 25 and at
 * most 150 ms): cancel and reserve again. True marks it as sent. */
bool df_limit_valid(struct df_limit *l, const struct df_reservation *r);
/* A 429 came since: so are all reservations that are as old. Not void and not valid: only this one is late, and those for later are good; keep them, for a
 * place that is given back is lost once others have taken later ones. */
bool df_limit_is_void(const struct df_limit *l, const struct df_reservation *r);
/* It was not sent: gives requests and tokens of the day back, and its place when no later one was given away. */
void df_limit_cancel(struct df_limit *l, const struct df_reservation *r);
/* After any answer but a 429, or none: tokens that were really used (may be fewer or more). */
void df_limit_settle(struct df_limit *l, const struct df_reservation *r, uint64_t tokens_used);
/* A 429 to the call of reservation `r` (NULL: not known): it gives r's tokens and its place in the day back, so neither cancel nor settle follows. Nothing
 * before now + retry_after_ms (-1: not said; then 50 ms to 1 s, four requests' time, doubling to 32 s while nothing is accepted); new epoch; a slower rate: what the headers say when that is
 * less, else what learn.c finds out: 0.98 x what was accepted in the last minute where that tells it, else halving the gap between a rate that went well and
 * one that did not; then it probes up slowly (1 % per minute without a 429). Never above what was configured. An answer to a call of an older epoch only moves
 * the clock.
 * False: it was bad luck of this call alone (noise.c): no place of anybody has moved, and the call waits by itself, no sooner than Retry-After. So are taken
 * refusals that tell nothing (no wait of 3 s or more, nothing said to be used up) while no rate is known and fewer than about half of the answers are
 * refusals, or once refusals went on at rates that had gone well. */
bool df_limit_push(struct df_limit *l, const struct df_reservation *r, const struct df_limit_news *news,
		   int64_t retry_after_ms);
/* Headers of any answer. */
void df_limit_learn(struct df_limit *l, const struct df_limit_news *news);

/* Calls in flight: DF_OK with a slot, or DF_ERR_AGAIN (ask again when one of yours ends, or in 10 ms: the slots of dead processes come back then). */
enum df_err df_limit_enter(struct df_limit *l, uint32_t *ret_slot) DF_MUST_CHECK;
void df_limit_leave(struct df_limit *l, uint32_t slot);

struct df_limit_view {
	uint64_t rpm, tpm, used_rpd, used_tpd, accepted_last_minute, in_flight, n_429;
};
struct df_limit_view df_limit_look(const struct df_limit *l);

#endif
