// SPDX-License-Identifier: Apache-2.0
/*
 * state: the mapped file of a limit, and how its state is changed as a whole. Private to this folder.
 *
 * DESIGN. All that must agree (clocks, counts of the day, what was learned) is one record of words, a df_cell, and it is only ever replaced: a writer
 * fills a cell that is its own, then moves `head`, (sequence, number of the cell), by one compare-and-swap. So neither clock is charged when the
 * other fails, a process that is killed or stopped at any instruction leaves the old state or the new one, and nobody waits for
 * anybody: there is no lock to be held. A reader copies the cell that head names and takes the copy when head has not moved meanwhile. Each owner has
 * two cells and writes the one that head does not name; the sequence never returns (52 bits). Each cell carries its
 * checksum, compared at every look: a flipped bit is DF_ERR_CORRUPT, never a rate without a limit.
 *
 * An owner is one df_limit: a number, held by a lock on byte DF_LOCK_OWNER + number of the file by an open file description of its own. Whoever gets
 * that lock knows that the owner is dead.
 *
 * Beside the cells, since they need no agreement: slots (who is in flight: the owner's number in a word, taken and left by one compare-and-swap), and a
 * ring of what was sent in each quarter of a second, for learning and for large calls.
 */
#ifndef DF_WORKER_LIMIT_STATE_H
#define DF_WORKER_LIMIT_STATE_H

#include <stdatomic.h>
#include <stdint.h>

#include "worker/limit/limit.h"

#define DF_LIMIT_MAGIC UINT64_C(0x74696d696c6664) /* "dflimit" */
#define DF_LIMIT_VERSION 2
#define DF_LIMIT_OWNERS 1024
#define DF_LIMIT_SLOTS 16384 /* calls in flight at most, of one (key, model) */
#define DF_LIMIT_RING 256
#define DF_LIMIT_RING_NS UINT64_C(250000000)
#define DF_LIMIT_RATE_MAX UINT64_C(1000000000000) /* a minute or a day */

#define DF_LIMIT_MARGIN 995 /* thousandths of a limit that are used */

#define DF_LOCK_CREATE 0 /* bytes that are locked; they need not exist */
#define DF_LOCK_OWNER 16

#define DF_MINUTE_NS (60 * UINT64_C(1000000000))
#define DF_NOBODY 0 /* as `newest_owner` */

/* Times are boot-time nanoseconds; rates are thousandths a minute. */
struct df_cell {
	uint64_t check; /* of the words below */
	uint64_t head;  /* that names it */
	uint64_t epoch;
	uint64_t tat_requests, tat_tokens; /* the earliest time of the next call */
	uint64_t floor;                    /* nothing is sent before: Retry-After */
	uint64_t day, day_requests, day_tokens;
	uint64_t newest_owner, newest_at; /* the reservation made last, and what the clocks were before it */
	uint64_t before_requests, before_tokens;
	uint64_t rate_requests, rate_tokens; /* learned; 0: nothing */
	uint64_t rate_low, rate_high;        /* of requests: went well for some while; was refused. 0: unknown */
	uint64_t rate_since, n_since;        /* when rate_requests was set or refused last, and requests since */
	uint64_t refused_at, n_after;        /* the last 429 that taught something, and requests since */
	uint64_t n_refused;                  /* all of them */
	uint64_t blocked_since;              /* refused with nothing accepted between: since when; 0: not */
	uint64_t n_blocked;
	uint64_t search_at, search_n;    /* the first of the refusals that are being learned from, and requests since */
	uint64_t search_rate;            /* rate_requests before it */
	uint64_t proven;                 /* what dripped in at least, as seen in this search */
	uint64_t noisy_at;               /* refusals at random were found, or seen last; 0: none (noise.c) */
	uint32_t noise_refused, noise_n; /* since the rate was changed */
	uint32_t share_above,
		pad; /* of answers that were refused at the higher rate before this one; as noise_share; 0: unknown */
	uint32_t suspicion;   /* that it is a limiter: thousandths of a nat */
	uint32_t noise_share; /* of answers that chance refuses, in a million; counted at lower rates than this one */
};
#define DF_CELL_WORDS (sizeof(struct df_cell) / sizeof(uint64_t))
/* Words that a cell has in the file: whole cache lines. */
#define DF_CELL_STRIDE 32
_Static_assert(DF_CELL_WORDS <= DF_CELL_STRIDE, "a cell has grown out of its lines");

struct df_limit_owner {
	_Atomic uint64_t sent;       /* everything that it reserved up to this time is sent or cancelled */
	_Atomic uint64_t unnumbered; /* calls in flight without a slot */
	_Atomic uint64_t pad[6];
};

struct df_limit_file {
	_Atomic uint64_t magic; /* written last: without it the file is half made */
	/* constants, and their checksum */
	uint64_t version, bytes, owners, slots, constants_check;
	_Atomic uint64_t boot; /* hash of the boot id in which the clocks were set */
	uint64_t pad0[57];     /* to 512 bytes */
	_Atomic uint64_t head; /* sequence << 12 | cell */
	uint64_t pad1[7];
	struct df_limit_owner owner[DF_LIMIT_OWNERS];
	_Atomic uint64_t cell[2 * DF_LIMIT_OWNERS][DF_CELL_STRIDE];
	_Atomic uint64_t requests[DF_LIMIT_RING]; /* quarter of a second << 40 | count */
	_Atomic uint64_t tokens[DF_LIMIT_RING];
	_Atomic uint32_t slot[DF_LIMIT_SLOTS]; /* number of the owner + 1; 0: free */
};

struct df_limit {
	struct df_limit_file *file;
	int fd;
	uint32_t owner;
	struct df_limit_config config; /* strings are not kept */
	char model[128];               /* for messages */
	char path[512];
	uint64_t interval;    /* of configured requests, ns; 0: none */
	double token_ns;      /* of a configured token; 0: none */
	uint64_t cached_rate; /* rate_requests, and its interval */
	uint64_t cached_interval;
	uint64_t last_at;                    /* of this owner's reservations */
	uint64_t wall_minus_boot, looked_at; /* read again each second */
	uint64_t swept_at;
	uint32_t slot_hint;
};

/* --- file.c --- */
enum df_err df_limit_map(const struct df_limit_config *config, struct df_limit *l, struct df_fail *fail) DF_MUST_CHECK;
void df_limit_unmap(struct df_limit *l);
/* In the file of `fd`: is owner `i` alive? When not, it is locked until df_limit_owner_unlock. */
bool df_limit_owner_lock(int fd, uint32_t i);
void df_limit_owner_unlock(int fd, uint32_t i);

/* --- cell.c --- */
/* A copy of the state; *ret_head is what df_cell_publish wants. DF_ERR_CORRUPT. */
enum df_err df_cell_read(const struct df_limit *l, struct df_cell *ret, uint64_t *ret_head) DF_MUST_CHECK;
/* False: somebody was first; read again. */
bool df_cell_publish(struct df_limit *l, struct df_cell *c, uint64_t head);
/* The first state of a file, by whoever makes it. */
void df_cell_first(struct df_limit_file *f, struct df_cell *c);

/* --- ring.c --- */
void df_ring_add(_Atomic uint64_t *ring, uint64_t at_ns, int64_t n);
/* What was noted in (from_ns, to_ns], to whole quarters of a second, rounded outwards. */
uint64_t df_ring_sum(const _Atomic uint64_t *ring, uint64_t from_ns, uint64_t to_ns);
/* When the sum over the minute before falls to `most`, also when calls arrive up to 150 ms late: at or after at_ns. */
uint64_t df_ring_room(const _Atomic uint64_t *ring, uint64_t at_ns, uint64_t most);
/* The first quarter of a second with something in it, in the minute before now; now: none. */
uint64_t df_ring_first(const _Atomic uint64_t *ring, uint64_t now_ns);

/* --- learn.c: pure functions of the state --- */
/* The rate is found out by and by: called at each reservation while a rate is learned. configured: thousandths a minute, 0: none. */
void df_learn_rise(struct df_cell *c, uint64_t configured, uint64_t now_ns);
struct df_refusal {
	uint64_t now, configured; /* thousandths a minute; 0: none */
	uint64_t accepted_minute; /* requests of the minute before ... */
	uint64_t active_ns;       /* ... in which there was traffic for so long */
	int64_t wait_ms;          /* Retry-After; -1: not said */
	int64_t told;             /* requests a minute, by headers; -1: not said */
};
/* A 429 to a call of this epoch that is a limit's word: sets rates, floor, and how long it is blocked. False: it cannot be one, since the same rate went well
 * before; nothing of that was a limit, and the rate is again what it was (df_noise_found). */
bool df_learn_refused(struct df_cell *c, const struct df_refusal *r);
/* What headers tell as a number a minute; -1: nothing, or they speak of another span of time (a limit of the day). */
int64_t df_learn_told(int64_t limit, int64_t left, int64_t reset_ms);
/* The first call after a refusal that was itself a trial goes alone for so long; 0: need not. */
uint64_t df_learn_trial_ns(const struct df_cell *c);

/* --- noise.c: pure functions of the state --- */
/* A 429 to a call of this epoch: is it a limit's word? says_so: nothing is left, by its headers. */
bool df_noise_is_limit(struct df_cell *c, const struct df_refusal *r, bool says_so);
/* What is refused at this rate is chance's share, as far as it is known: so a higher one may be tried. */
bool df_noise_is_usual(const struct df_cell *c);
void df_noise_measure(struct df_cell *c);
/* A limiter refused at this rate, and there will be a lower one. */
void df_noise_slower(struct df_cell *c);
/* Nothing was accepted since the last refusal that was learned from. */
bool df_learn_is_blocked(const struct df_cell *c);
/* Another answer, while there is suspicion. */
void df_noise_accepted(struct df_cell *c);
void df_noise_found(struct df_cell *c, uint64_t now);

/* --- limit.c, for its neighbours --- */
uint64_t df_limit_now(const struct df_limit *l);
/* The newest reservation was made by `owner` (number + 1), who is dead: if it was not sent, the clocks go back to what they were before it. */
void df_limit_take_back(const struct df_limit *l, struct df_cell *c);

uint64_t df_limit_interval(struct df_limit *l, const struct df_cell *c); /* between two requests; 0: no limit */
/* The newest reservation is neither sent nor cancelled, as far as its owner says. */
bool df_limit_is_pending(const struct df_limit *l, const struct df_cell *c);
/* A reservation that was not sent, or refused: no longer counted as one that went well; its share of the day; its place in the rings. */
void df_limit_uncount(struct df_cell *c);
void df_limit_return_day(struct df_cell *c, const struct df_reservation *r);
void df_limit_return_ring(struct df_limit *l, const struct df_reservation *r);

#endif
