// SPDX-License-Identifier: Apache-2.0
/*
 * call: one ask of a model until it has its answer: cache, limits, money, sending, retries, fall-backs, trace. The engine lives on
 * the network thread (worker/net/http.h), without locks; other threads hand calls in and wait.
 *
 * A call's life: cache look-up -> breaker of the host -> slot (calls in flight) -> money -> reservation (a timer until its time) -> send -> answer ->
 * settle -> done, or back-off and again. Waiting calls stand in one queue per route, first in first out; one that comes back goes before those that were
 * never sent. What may be tried again is decided by the answer's class (provider/ask.h, call_retry.h):
 *   RETRY       full jitter: a random time below base * 2^n, at most cap, never sooner than the answer's retry_after; `attempts` in all, and up to twice as
 *               many while the host gives good answers to others meanwhile. A quota of retries for the whole worker, as the AWS SDKs have (500; a retry
 *               costs 5, after a time-out 10; an answer at first try gives 1 back, one at a later try what its retry cost): when it is empty
 *               the call waits for the cap and goes on; it never fails for that. 408, 409, 425: once.
 *   RATE        costs no attempt, up to 20 of them. A limit's word moves the clock that all share (df_limit_push, which tells it from bad luck),
 *               and the call waits for its new reservation; else back-off of its own.
 *   QUOTA       this model is over for the run: fall-back, else the run ends (DF_ERR_QUOTA). So is one whose server asks for a pause of more than an hour.
 *   BAD_INPUT   a batch is cut in two until the culprit stands alone; that input alone has an error.
 *   BAD_ANSWER  as RETRY.   AUTH, NOT_FOUND: fall-back, else an error of the run (DF_ERR_USAGE), not of a document.
 * Breakers: one per host, for requests that had no answer at all (refused, reset, timed out), one per route (host and model), for answers that are errors
 * (5xx) or broke. After 10 such failures in a row nothing is sent for 1 s, doubling to 30 s; then one probe. Calls that have a fall-back which may be asked
 * go there at once, also out of a back-off; others wait. Probes are made in turn by calls that were sent before and by such that never were, so that
 * documents which a model always fails on do not speak for all; a probe costs its call an attempt. After 10 minutes the host's models are over, or the
 * model, and the words say which. A host that was never reached: 3 failures, one minute, and no attempt is counted.
 * Hedge: a second request beside one that is silent for hedge_ms, within the same limits and money;
 * the first answer wins, the other is cancelled. Identical asks in flight share one call when there is a cache. An embedding's fall-backs must be the same
 * model elsewhere: vectors of two models are never mixed.
 *
 * Money: the worst case is reserved before sending and settled by what the answer says was used. No answer says it when a request was cancelled, cut or
 * timed out after it was sent: the provider may have billed it, so the worst case is booked, and of it what is not known to have been used as "maybe paid"; under a
 * budget also for an answer that tells no usage (call_money.c; docs/CALLS.md has the table). Nothing is booked for what was never sent (no connection)
 * and for answers that are no success (4xx, 5xx, but 504 and 524). A budget that is out only because of reservations, this worker's or another's, makes calls wait until
 * those are settled.
 */
#ifndef DF_WORKER_CALL_CALL_H
#define DF_WORKER_CALL_CALL_H

#include "proto/heritage.h"
#include "proto/purse.h"
#include "worker/net/http.h"
#include "worker/provider/provider.h"

struct df_caller; /* the engine of one worker */
struct df_route;  /* one model with all that is needed to ask it */
struct df_cache;
struct df_trace;
struct df_cassette;
struct df_compute_turn;
struct df_call;

struct df_retry_options {
	uint64_t base_ms, cap_ms; /* 250, 8000 */
	uint32_t attempts;        /* 5 */
	uint64_t cool_down_ms;    /* a model that failed for good is left alone for so long, 30000 */
	uint64_t hedge_ms;        /* 0: never */
	struct df_http_timeouts timeout;
};
extern const struct df_retry_options df_retry_defaults;

struct df_caller_config {
	struct df_http *http; /* not owned, like all of these */
	const struct df_models *models;
	struct df_cache *cache;          /* NULL: none */
	struct df_purse *purse;          /* NULL: money is not counted */
	struct df_trace *trace;          /* NULL: none */
	struct df_cassette *cassette;    /* answers are recorded in it; NULL: they are not */
	const char *limits_dir;          /* NULL: the default */
	uint64_t (*random)(void *self);  /* 64 bits; NULL: the kernel's */
	uint64_t (*boot_ns)(void *self); /* for tests; NULL: CLOCK_BOOTTIME */
	void *self;
	/* In place of the engine: fills a call's outcome on the thread that runs it; nothing is looked up, limited, paid, sent or traced then, and
	 * df_caller_submit is not to be used (worker/batch). NULL: calls are made. */
	void (*instead)(void *self, struct df_call *call);
	void *instead_self;
	/* One line for people about a host or a model: that it does not answer, that it answers again. On the network thread; NULL: nobody is told. */
	void (*warn)(void *self, const char *message);
	void *warn_self;
};

enum df_err df_caller_create(const struct df_caller_config *config, struct df_caller **ret_caller,
			     struct df_fail *fail) DF_MUST_CHECK;
/* No call may be out, all routes are closed, and the http is still there. Not on the network thread. Accepts NULL. */
void df_caller_destroy(struct df_caller **caller);

/* How a stage wants a model to be asked; empty and 0: as the table of models and the environment say. */
struct df_route_options {
	struct df_str model;    /* "gpt-4o-mini", "openai/any", ... */
	struct df_str base_url; /* for this route alone */
	struct df_str key_env;  /* the variable that holds its key */
	uint64_t rpm, tpm, rpd, tpd;
	uint32_t concurrency;
};

/* Provider, endpoint (key from its variable, or from the file that VARIABLE_FILE names, which must be 0600), model, limit record. Done before the first byte of
 * input, since files are opened. DF_ERR_NOT_FOUND: unknown model, with the known ones; DF_ERR_USAGE: no key, or a price that a budget needs is unknown. */
enum df_err df_route_open(struct df_caller *c, const struct df_route_options *options, struct df_route **ret_route,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_route_close(struct df_route **route); /* no call may be out on it; accepts NULL */
const struct df_provider *df_route_provider(const struct df_route *r);
const struct df_model_info *df_route_model(const struct df_route *r);
const struct df_endpoint *df_route_endpoint(const struct df_route *r);
struct df_str df_route_id(const struct df_route *r);   /* the model as the user wrote it */
struct df_str df_route_name(const struct df_route *r); /* the model as the provider knows it: df_ask.model */
/* The routes that are open, the last one first; NULL: there are not so many. */
struct df_route *df_caller_route(struct df_caller *c, size_t i);

/* One ask. Set the first part; zero the rest. It and its strings outlive on_done. */
struct df_call {
	struct df_ask ask;             /* .model is set by the engine for each route tried */
	struct df_route *const *route; /* the first, then fall-backs */
	size_t n_route;
	const struct df_retry_options *retry; /* NULL: the defaults */
	struct df_str doc_id, stage;          /* for the trace */
	struct df_arena *arena;               /* of the answer; nobody else uses it until on_done */
	bool no_cache;
	bool fresh; /* a chat: what lies in the cache is not good enough; it is asked for, and its answer kept in place of that */
	/* A stream's text as it comes; on the network thread. NULL: none is asked for. Text of an attempt that failed cannot be taken back, so a call that has
	 * passed text on is not tried again. */
	void (*on_text)(void *self, struct df_str text);
	void *text_self; /* of on_text; NULL: `self` (which df_caller_run takes for itself) */
	/* Once, on the network thread. */
	void (*on_done)(struct df_call *call);
	void *self;
	/* --- the outcome --- */
	enum df_err
		err; /* DF_OK; DF_ERR_QUOTA (budget, daily limit, no money there: the run stops, exit 4); DF_ERR_USAGE (AUTH, NOT_FOUND: the run ends, 1);
				  * anything else: this document's reject */
	char message[512]; /* with err: one line, no secret */
	struct df_answer
		answer; /* chat: text, finish; embed: vectors of all inputs, row i for input i; usage: of all requests */
	/* embed: one per input, NULL when all are well; rows of failed inputs are zero. While at least one input has its vector, err is DF_OK and message is
	 * the first failed input's; when none has, err is that input's. */
	enum df_err *input_err;
	double usd; /* that this call cost, all attempts */
	uint32_t attempts;
	const char *
		unpriced; /* the model that was asked at a price that nobody knows, as the user wrote it; the route's. NULL: none was */
	bool cached; /* nothing was sent for it: from the cache, or from an identical call in flight */
	void *own;   /* the engine's */
};

/* From any thread; on_done comes later, always. */
enum df_err df_caller_submit(struct df_caller *c, struct df_call *call) DF_MUST_CHECK;
/* Submit all, leave the turn (worker/process/turn.h; NULL: there is none), wait until all are done, take the turn again. on_done of them is used. */
enum df_err df_caller_run(struct df_caller *c, struct df_call *call, size_t n,
			  struct df_compute_turn *turn) DF_MUST_CHECK;

/* Nothing new is sent; calls that wait end with DF_ERR_INTERRUPTED, those in flight are cancelled after grace_ns. From any thread. */
void df_caller_stop(struct df_caller *c, uint64_t grace_ns);

/* As before a stop without a cache: calls that wait for a host or a model that does not answer, or in a back-off, end with DF_ERR_INTERRUPTED, now and from now
 * on; all others go on. From any thread. */
void df_caller_hurry(struct df_caller *c);

/* true: an answer could not be recorded, nor were those after it; when no call is out. */
bool df_caller_record_failed(const struct df_caller *c, struct df_fail *ret_fail);

struct df_caller_stats {
	uint64_t calls, requests, retries, rate_answers, cache_hits, failed, tokens_in, tokens_out;
	uint64_t in_flight, waiting;
	uint64_t bytes_out; /* of text, in calls that are out */
	double usd;
};
struct df_caller_stats df_caller_stats(const struct df_caller *c); /* from any thread */
/* On the network thread: something will wake the engine by itself, a request that is out or a timer. Calls that are out while this is false would wait
 * for ever: there are none but for a fault of the engine, and then whoever watches must not take it for waiting on purpose. */
bool df_caller_due(const struct df_caller *c);
/* On the network thread: what most of the calls that are not in flight wait for, for people. *ret_until_ns: in the http's time; 0: nobody knows. */
enum df_calls_wait df_caller_waits(struct df_caller *c, uint64_t *ret_until_ns);

#endif
