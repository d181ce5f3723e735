// SPDX-License-Identifier: Apache-2.0
/*
 * call_own: what the engine keeps, for its own files alone (call.c, call_*.c, route.c).
 *
 *   own      one df_call while it is out: its pieces, whom it answers too (followers), what it cost
 *   piece    one request's worth of it: a chat, or some inputs of an embedding. Stands in a route's queue, sleeps in a back-off, or has flights
 *   flight   one attempt: slot, money, reservation, then the request or a fake answer's timer. A piece has one, or two with a hedge
 *   route    one model: queue, flights that wait for their time, limits, provider
 *   host     of one or more routes. Whether it answers at all is its breaker's; whether with errors alone (5xx) is each route's
 *
 * DESIGN. All of it belongs to the network thread, but what is said to be otherwise. Each entry from outside (a timer, a posted function, an http
 * callback) is put between df_engine_enter and df_engine_leave. What happens inside marks routes dirty and puts calls that are over on a list; leave pumps
 * the one and delivers the other when the outermost entry ends. So nothing recurses, and the last thing that the engine does with a call and its
 * routes is on_done: whoever waits for it may free them at once.
 */
#ifndef DF_WORKER_CALL_CALL_OWN_H
#define DF_WORKER_CALL_CALL_OWN_H

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "worker/cache/cache.h"
#include "worker/call/call.h"
#include "worker/call/call_alarm.h"
#include "worker/call/call_retry.h"
#include "worker/trace/trace.h"
#include "worker/limit/limit.h"
#include "worker/net/sse.h"
#include "worker/provider/cassette.h"

#define DF_CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct df_flight;

struct df_piece {
	struct df_own *own;
	struct df_piece *next, **link; /* in a route's queue; link NULL: in none */
	struct df_piece *sibling;      /* of the same call */
	struct df_alarm alarm;         /* the back-off */
	struct df_flight *flight, *hedge;
	uint32_t route;                 /* of the call's */
	uint32_t attempts, rates, cost; /* on this route; cost: what its last retry took from the quota */
	bool lone;                      /* its last RATE answer was no limit's word */
	bool once_used, tried;          /* tried: it was sent before, and goes first */
	uint64_t first_ns;              /* when it was first sent on this route */
	uint64_t tokens, since_ns;      /* in; since when it waits */
	/* embed: its inputs, and where they stand in the call's: input i there is index[i], or with no index base + i. Slices: of the own's or the call's */
	size_t n_input, base;
	const struct df_str *input;
	const uint32_t *index;
};

struct df_piece_queue {
	struct df_piece *head, **tail;
	size_t n;
};

struct df_own {
	struct df_caller *caller;
	struct df_call *call;
	struct df_own *next;          /* handed in, or over */
	struct df_own *older, *newer; /* all that are out */
	struct df_piece first;
	struct df_piece *pieces;   /* all that are not over */
	bool first_used, row_done; /* row_done: a follower whose rows are all there */
	bool hit, text_passed, shared,
		answered; /* hit: all of it was in the cache; shared: it is in a list of the caller's; answered: a request had success */
	/* what lies in the cache under the key of the whole ask */
	struct df_cache_key key;
	struct df_own *bucket_next, *follower; /* followers: a list through `follower` */
	/* embed */
	struct df_cache_key *row_key; /* one per input; NULL without a cache */
	uint32_t *twin;               /* input i has the text of input twin[i] <= i */
	uint8_t *row_state;           /* enum df_row_state */
	struct df_str *input;         /* the missing ones, when not all are; and where they stand */
	uint32_t *index;
	uint32_t refused;    /* BAD_INPUT answers */
	enum df_err run_err; /* of the run, not of a document */
	/* for the trace */
	uint64_t span, start_ns, start_wall_ns, queue_ns, first_token_ns;
	enum df_call_class class;
	long status;
};

enum df_row_state { DF_ROW_MISSING, DF_ROW_HERE, DF_ROW_FAILED, DF_ROW_TWIN };

struct df_host {
	struct df_host *next;
	struct df_breaker breaker;
	uint64_t good_ns; /* its last good answer */
	bool met;         /* it was reached before, if only by a connection */
	bool told;        /* people know that it does not answer */
	uint64_t told_ns;
	char name[];
};

struct df_key {
	struct df_key *next;
	char *page; /* of its own, locked out of core dumps */
	size_t page_bytes, n;
	char variable[];
};

struct df_route {
	struct df_caller *caller;
	struct df_route *next; /* of the caller's; under its lock */
	const struct df_provider *provider;
	struct df_model_info info;
	struct df_endpoint to;
	struct df_str model;         /* as the provider knows it */
	char *id, *base_url, *label; /* owned: as the user wrote it; label: for messages */
	struct df_limit
		*limit; /* NULL: nothing is limited (a provider without a network whose record cannot be opened) */
	struct df_host *host;
	struct df_breaker breaker; /* answers of this model that are errors: 5xx, and such as broke */
	uint64_t good_ns;          /* its last good answer */
	uint64_t n_bad;            /* such errors since then */
	bool told;                 /* people know of them */
	uint64_t told_ns;
	bool fresh_next; /* the next probe is a call that was never sent, so that those which it always refuses do not speak for all */
	void *state; /* the provider's */
	uint32_t cap, in_flight;
	bool daily, told_unkept; /* it has limits of the day; people know that its answers are not kept */
	bool told_over;          /* people know that others are asked in its place */
	struct df_piece_queue tried, fresh;
	struct df_flight *ready, **ready_tail; /* with a reservation, in the order of its time */
	size_t n_ready;
	struct df_alarm alarm;
	uint64_t cool_until_ns;
	uint64_t rates_ns, n_rates; /* its 429 since the last good answer: since when, how many */
	uint64_t refuses_until_ns;  /* nothing else has come for long */
	/* money that was refused: what the purse looked like, and when it last looked otherwise */
	struct df_purse_view purse;
	uint64_t purse_ns;
	enum df_err over; /* this model is over for the run; under it what is told */
	enum df_call_class over_class;
	char over_message[512];
	enum df_calls_wait wait; /* what the head of the queue waited for when it was last looked at, and until when */
	uint64_t wait_until_ns;
	bool dirty, rescan; /* rescan: the breaker opened; whoever has a fall-back goes there */
	uint64_t tpm;
	struct df_route *next_dirty;
};

struct df_flight_stream {
	struct df_sse sse;
	struct df_buf line; /* DF_STREAM_LINES */
	struct df_stream stream;
	struct df_tape tape;     /* with a cassette */
	struct df_answer answer; /* of an event that said failed */
	struct df_str rest;      /* a fake stream's text that was not passed on yet */
	uint32_t pieces_left;
	uint64_t linger; /* the timer of a connection that stays open behind the end event; 0: none */
};

struct df_flight {
	struct df_piece *piece;
	struct df_route *route;
	struct df_flight *next; /* ready */
	struct df_alarm alarm;  /* a hedge's own time; a fake answer's delay */
	struct df_alarm silent; /* hedge_ms after sending */
	struct df_reservation reservation;
	uint64_t at_ns; /* of it, in the http's time; its real send time later */
	double worst_usd;
	uint32_t slot;
	bool dropped; /* its http callback only tells how far it came */
	bool went_out, has_slot, has_money, unpriced, has_reservation, sent, is_hedge, is_ready;
	bool probe, route_probe; /* of the host's breaker, of the route's */
	uint64_t http;           /* 0: none */
	uint64_t sent_ns, first_token_ns, step_ns, tokens;
	struct df_flight_stream *stream;
	struct df_answer *fake; /* its answer, when it is time; one block of memory */
};

#define DF_CALL_STOPPED "the run is being stopped"
#define DF_SHARE_BUCKETS 4096U /* identical asks are looked for in so many lists */

struct df_caller {
	void (*instead)(void *self, struct df_call *call);
	void *instead_self;
	struct df_http *http;
	const struct df_models *models;
	struct df_cache *cache;
	struct df_purse *purse;
	struct df_trace *trace;
	struct df_cassette *cassette;
	struct df_fail record_fail; /* the first time that an answer could not be recorded */
	const char *limits_dir;
	uint64_t (*random)(void *self);
	uint64_t (*boot_ns)(void *self);
	void (*warn)(void *self, const char *message);
	void *warn_self;
	void *self;

	pthread_mutex_t lock; /* of in, routes, hosts, keys */
	struct df_own *in, **in_tail;
	struct df_route *routes;
	struct df_host *hosts;
	struct df_key *keys;

	/* the network thread's */
	unsigned depth;
	struct df_route *dirty;
	struct df_own *done, **done_tail;
	struct df_own *newest; /* of those that are out */
	struct df_alarms alarms;
	size_t n_alarm;              /* that exist, set or not */
	uint64_t timer, timer_at_ns; /* 0: none */
	struct df_retry_quota quota;
	struct df_arena scratch;
	struct df_own *share[DF_SHARE_BUCKETS];
	uint64_t recent[DF_SHARE_BUCKETS]; /* keys that were put lately */
	struct df_alarm grace;
	enum df_err ending; /* nothing new is sent: DF_ERR_INTERRUPTED, _QUOTA (no money left), _NOMEM (no timer) */
	bool end_waiting;   /* what waits is to be ended */
	bool hurried;       /* df_caller_hurry: what waits for a breaker or a back-off is ended */
	char ending_message[256];

	_Atomic uint64_t grace_ns; /* of df_caller_stop; UINT64_MAX: not asked */
	_Atomic size_t n_routes;
	_Atomic uint64_t n_calls, n_requests, n_retries, n_rate, n_hits, n_failed, tokens_in, tokens_out, in_flight,
		out, bytes_out, nano_usd;
};

/* --- call_in.c --- */
void df_own_begin(struct df_own *o); /* on the network thread: it has come in */
void df_own_free(struct df_own *o);
/* Of the text that is asked: a measure of what the call's document holds while it waits. */
uint64_t df_call_bytes(const struct df_call *call);

/* --- call.c --- */
void df_engine_enter(struct df_caller *c);
void df_engine_leave(struct df_caller *c);
uint64_t df_engine_random(struct df_caller *c);
void df_route_dirty(struct df_route *r);
/* Each of its routes, under the caller's lock; and those that somebody waits for become dirty. */
void df_host_each(struct df_caller *c, const struct df_host *h, void (*fn)(struct df_route *r, void *self), void *self);
void df_host_dirty(struct df_caller *c, const struct df_host *h);
/* Room in the heap for so many more alarms, which then exist until df_engine_alarms_gone. */
enum df_err df_engine_alarms(struct df_caller *c, size_t n) DF_MUST_CHECK;
void df_engine_end(struct df_caller *c, enum df_err err, const char *message); /* ends what waits, and what comes */
void df_engine_alarms_gone(struct df_caller *c, size_t n);
static inline struct df_route *df_piece_route(const struct df_piece *p)
{
	return p->own->call->route[p->route];
}

/* --- call_cache.c --- */
/* In the thread that hands the call in: sets hit or row_state, twins. DF_ERR_NOMEM. */
enum df_err df_own_look_up(struct df_own *o) DF_MUST_CHECK;
bool df_own_look_up_route(struct df_own *o, const struct df_route *r); /* a chat, for a fall-back */
bool df_own_share(struct df_own *o);                                   /* true: it follows another's, or became a hit */
void df_own_unshare(struct df_own *o);                                 /* its followers get what it got */
void df_own_keep_chat(struct df_own *o, const struct df_route *r);
void df_own_keep_row(struct df_own *o, const struct df_answer *a, size_t row, size_t input);

/* --- call_embed.c --- */
enum df_err df_own_cut(struct df_own *o) DF_MUST_CHECK; /* makes the pieces for what is missing */
/* p keeps the first half; the other's is new. Neither is queued. */
enum df_err df_piece_halve(struct df_piece *p, struct df_piece **ret_other) DF_MUST_CHECK;
/* Rows of an answer to their places. DF_ERR_TYPE: it is not what was asked for; DF_ERR_NOMEM. */
enum df_err df_piece_merge(struct df_piece *p, const struct df_answer *a) DF_MUST_CHECK;
void df_piece_rows_failed(struct df_piece *p, enum df_err err);
enum df_err df_own_row(struct df_own *o, size_t i, const float *vector, uint32_t dim) DF_MUST_CHECK;
void df_own_embed_end(struct df_own *o); /* twins, and the call's err */
void df_piece_free(struct df_piece *p);
void df_piece_woke(struct df_alarm *alarm); /* call_queue.c: its back-off is over */

/* --- call_queue.c --- */
void df_piece_queue(struct df_piece *p); /* at its route, or the first of the call's that may be asked */
void df_piece_unqueue(struct df_piece *p);
void df_piece_first(struct df_piece *p); /* from where it stands in its queue to the head */
void df_piece_fallback(struct df_piece *p, enum df_err err, enum df_call_class class, const char *message);
void df_route_pump(struct df_route *r);
bool df_route_waits(const struct df_route *r); /* somebody stands in its queue */
bool df_piece_elsewhere(
	const struct df_piece *p); /* where it stands nothing is sent now, and a fall-back may be asked */
/* 0: it may be asked now; else as df_breaker_wait. */
uint64_t df_route_wait(const struct df_route *r, uint64_t now_ns);
bool df_piece_has_fallback(const struct df_piece *p); /* one that may be asked, sooner or later */
/* By 429 alone, for long: until it has cooled down, calls with fall-backs go there. */
void df_route_refuses(struct df_route *r, uint64_t cool_down_ms);
void df_route_over(struct df_route *r, enum df_err err, enum df_call_class class, const char *message);
struct df_ask df_piece_ask(const struct df_piece *p, const struct df_route *r);

/* --- call_ready.c --- */
/* As df_limit_reserve; *ret_at_ns in the http's time. */
enum df_err df_flight_reserve(struct df_flight *f, uint64_t *ret_at_ns, struct df_fail *fail);
void df_flight_ready(struct df_route *r, struct df_flight *f); /* it waits for at_ns */
void df_flight_unready(struct df_flight *f);
void df_route_send_due(struct df_route *r);    /* those whose time has come */
void df_route_ready_again(struct df_route *r); /* all go back to the head of the queue: reservations are void */

/* --- route.c --- */
/* Its answers lie nowhere but in this worker. Money and a day's calls are spent for good: then people are told, once. */
void df_route_unkept(struct df_route *r);
void df_keys_release(struct df_key **keys);
void df_route_rang(struct df_alarm *alarm); /* call_queue.c */

/* --- call_send.c --- */
struct df_flight *df_flight_make(struct df_piece *p, struct df_route *r);
void df_flight_send(struct df_flight *f);
enum df_err df_flight_stream(struct df_flight *f) DF_MUST_CHECK; /* what a stream needs */
void df_flight_unsent(struct df_flight *f, const char *message,
		      enum df_call_class class); /* it is over, and never was on its way */
void df_flight_hedge(struct df_flight *f);       /* a second one beside it, if limits and money have room */
void df_flight_drop(struct df_flight *f);        /* cancels what it is at, books what that may have cost, frees it */
void df_flight_free(struct df_flight *f); /* slot, money and reservation are given back as far as they are still held */

/* --- call_fake.c --- */
void df_flight_fake(struct df_flight *f, const struct df_ask *ask);
void df_flight_fake_time(struct df_flight *f); /* its alarm rang */

/* --- call_money.c --- */
/* The money of it. DF_ERR_AGAIN: what is reserved must be settled first, or a cheaper one has come to the head of the queue; DF_ERR_QUOTA: there is no money
 * for any, and the engine ends. */
enum df_err df_flight_pay(struct df_flight *f);
bool df_flight_may_pay(struct df_flight *f); /* the same for a hedge: false, and nothing else happens */
struct df_outcome;
/* What it cost, as it is booked (NAN: at no known price); its reservation is settled. */
double df_flight_bill(struct df_flight *f, const struct df_outcome *o);

/* --- call_end.c --- */
struct df_outcome {
	struct df_answer *answer; /* NULL: it was dropped */
	const struct df_limit_news *news;
	enum df_err http_err;
	long status;
	bool never_sent; /* it did not even come to the http */
};
void df_flight_over(struct df_flight *f, struct df_outcome *outcome);
void df_flight_settle(struct df_flight *f, const struct df_outcome *outcome); /* call_settle.c */
/* call_host.c. A line for people. One worker speaks for all of the run: `about` a host, a model or something else, which is so or is not any more. */
void df_engine_warn(const struct df_caller *c, const char *about, bool is, const char *message);
void df_flight_settle_breakers(struct df_flight *f, const struct df_outcome *outcome); /* call_host.c */
/* Both free it, whatever it is at is dropped; with its last piece the call is over. */
void df_piece_failed(struct df_piece *p, enum df_err err, enum df_call_class class, const char *message);
void df_piece_done(struct df_piece *p);
void df_own_failed(struct df_own *o, enum df_err err, const char *message); /* before it had a piece */
void df_own_finish(struct df_own *o);                                       /* it has no piece any more */

/* Of calls that end since the engine does. */
static inline enum df_call_class df_class_of_end(const struct df_caller *c)
{
	return c->ending == DF_ERR_QUOTA ? DF_CALL_QUOTA : DF_CALL_RETRY;
}

#endif
