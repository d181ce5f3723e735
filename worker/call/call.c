// SPDX-License-Identifier: Apache-2.0
/* call: the engine's life, its one timer, and the way of calls out. call_own.h says how it is built. */
#include "worker/call/call_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"

/* ------------------------------------------------------------------ the inside of an entry */

uint64_t df_engine_random(struct df_caller *c)
{
	return c->random ? c->random(c->self) : df_rand_real.next(df_rand_real.self);
}

enum df_err df_engine_alarms(struct df_caller *c, size_t n)
{
	DF_TRY(df_alarms_room(&c->alarms, c->n_alarm + n + atomic_load(&c->n_routes) + 1));
	c->n_alarm += n;
	return DF_OK;
}

void df_engine_alarms_gone(struct df_caller *c, size_t n)
{
	c->n_alarm -= n;
}

void df_route_dirty(struct df_route *r)
{
	if (r->dirty)
		return;
	r->dirty = true;
	r->next_dirty = r->caller->dirty;
	r->caller->dirty = r;
}

void df_host_each(struct df_caller *c, const struct df_host *h, void (*fn)(struct df_route *r, void *self), void *self)
{
	(void)pthread_mutex_lock(&c->lock);
	for (struct df_route *r = c->routes; r; r = r->next)
		if (r->host == h)
			fn(r, self);
	(void)pthread_mutex_unlock(&c->lock);
}

static void dirty_if_it_waits(struct df_route *r, void *self)
{
	(void)self;
	if (df_route_waits(r))
		df_route_dirty(r);
}

void df_host_dirty(struct df_caller *c, const struct df_host *h)
{
	df_host_each(c, h, dirty_if_it_waits, NULL);
}

void df_engine_end(struct df_caller *c, enum df_err err, const char *message)
{
	if (c->ending == DF_ERR_INTERRUPTED || c->ending == err)
		return;
	c->ending = err;
	c->end_waiting = true;
	(void)snprintf(c->ending_message, sizeof(c->ending_message), "%s", message);
}

/* All pieces, or only those that are not with a provider now. */
static void end_pieces(struct df_caller *c, bool all)
{
	for (struct df_own *o = c->newest, *older; o; o = older) {
		older = o->older;
		/* The last piece takes the call along: so look at the next one first. */
		for (struct df_piece *p = o->pieces, *next; p; p = next) {
			next = p->sibling;
			if (all || !p->flight || !p->flight->sent)
				df_piece_failed(p, c->ending, DF_CALL_RETRY, c->ending_message);
		}
	}
}

static void ring(void *self)
{
	struct df_caller *c = self;
	struct df_alarm *alarm;
	c->timer = 0;
	df_engine_enter(c);
	while ((alarm = df_alarm_due(&c->alarms, df_http_now(c->http))))
		alarm->ring(alarm);
	df_engine_leave(c);
}

static void set_timer(struct df_caller *c)
{
	uint64_t next_ns = df_alarm_next(&c->alarms), id = 0;
	if (next_ns == UINT64_MAX || (c->timer && c->timer_at_ns <= next_ns))
		return; /* one that rings too soon is cheaper than one that is set anew each time */
	if (df_http_at(c->http, next_ns, ring, c, &id) != DF_OK) {
		if (!c->timer)
			df_engine_end(c, DF_ERR_NOMEM, "no memory for a timer");
		return;
	}
	if (c->timer)
		df_http_unset(c->http, c->timer);
	c->timer = id;
	c->timer_at_ns = next_ns;
}

void df_engine_enter(struct df_caller *c)
{
	c->depth++;
}

static void settle_down(struct df_caller *c)
{
	do {
		while (c->dirty || c->end_waiting) {
			if (c->end_waiting) {
				c->end_waiting = false;
				end_pieces(c, false);
				if (c->ending == DF_ERR_NOMEM) /* memory may be there again for the next call */
					c->ending = DF_OK;
				continue;
			}
			struct df_route *r = c->dirty;
			c->dirty = r->next_dirty;
			r->dirty = false;
			df_route_pump(r);
		}
		set_timer(c);
	} while (c->dirty || c->end_waiting);
}

void df_engine_leave(struct df_caller *c)
{
	if (c->depth > 1) {
		c->depth--;
		return;
	}
	settle_down(c);
	struct df_own *o = c->done;
	c->done = NULL;
	c->done_tail = &c->done;
	c->depth--;
	while (o) {
		struct df_own *next = o->next;
		struct df_call *call = o->call;
		call->own = NULL;
		df_own_free(o);
		atomic_fetch_sub_explicit(&c->out, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&c->bytes_out, df_call_bytes(call), memory_order_relaxed);
		call->on_done(call);
		o = next;
	}
}

/* ------------------------------------------------------------------ the end */

static void grace_over(struct df_alarm *alarm)
{
	end_pieces(DF_CONTAINER(alarm, struct df_caller, grace), true);
}

static void stop_now(void *self)
{
	struct df_caller *c = self;
	uint64_t grace_ns = atomic_load(&c->grace_ns), now_ns = df_http_now(c->http);
	df_engine_enter(c);
	df_engine_end(c, DF_ERR_INTERRUPTED, DF_CALL_STOPPED);
	c->ending = DF_ERR_INTERRUPTED;
	uint64_t at_ns = grace_ns < UINT64_MAX - now_ns ? now_ns + grace_ns : UINT64_MAX - 1;
	if (!c->grace.place || at_ns < c->grace.at_ns)
		df_alarm_set(&c->alarms, &c->grace, at_ns);
	df_engine_leave(c);
}

static void hurry_now(void *self)
{
	struct df_caller *c = self;
	df_engine_enter(c);
	c->hurried = true;
	for (struct df_own *o = c->newest, *older; o; o = older) {
		older = o->older; /* as end_pieces */
		for (struct df_piece *p = o->pieces, *next; p; p = next) {
			next = p->sibling;
			if (p->alarm.place || (p->link && df_route_wait(df_piece_route(p), df_http_now(c->http))))
				df_piece_failed(p, DF_ERR_INTERRUPTED, DF_CALL_RETRY, DF_CALL_STOPPED);
		}
	}
	df_engine_leave(c);
}

/* What must not fail: memory that is out now is there again a moment later, when calls have ended. */
static void post(struct df_caller *c, void (*fn)(void *self), void *self)
{
	while (df_http_post(c->http, fn, self) != DF_OK)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

void df_caller_hurry(struct df_caller *c)
{
	post(c, hurry_now, c);
}

void df_caller_stop(struct df_caller *c, uint64_t grace_ns)
{
	uint64_t before = atomic_load(&c->grace_ns);
	while (grace_ns < before && !atomic_compare_exchange_weak(&c->grace_ns, &before, grace_ns))
		;
	post(c, stop_now, c);
}

enum df_err df_caller_create(const struct df_caller_config *config, struct df_caller **ret_caller, struct df_fail *fail)
{
	struct df_caller *c = calloc(1, sizeof(*c));
	if (!c)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the engine of API calls");
	c->http = config->http;
	c->models = config->models;
	c->cache = config->cache;
	c->purse = config->purse;
	c->trace = config->trace;
	c->cassette = config->cassette;
	c->limits_dir = config->limits_dir;
	c->random = config->random;
	c->boot_ns = config->boot_ns;
	c->warn = config->warn;
	c->warn_self = config->warn_self;
	c->self = config->self;
	c->instead = config->instead;
	c->instead_self = config->instead_self;
	c->in_tail = &c->in;
	c->done_tail = &c->done;
	c->grace.ring = grace_over;
	atomic_store(&c->grace_ns, UINT64_MAX);
	df_retry_quota_init(&c->quota);
	df_arena_init(&c->scratch, DF_CALL_SCRATCH_BYTES, DF_CALL_SCRATCH_KEEP);
	if (df_alarms_room(&c->alarms, 1) != DF_OK) {
		free(c);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the engine of API calls");
	}
	(void)pthread_mutex_init(&c->lock, NULL);
	*ret_caller = c;
	return DF_OK;
}

struct last {
	struct df_caller *caller;
	pthread_mutex_t lock;
	pthread_cond_t done;
	bool over;
};

static void last_words(void *self)
{
	struct last *l = self;
	if (l->caller->timer)
		df_http_unset(l->caller->http, l->caller->timer);
	(void)pthread_mutex_lock(&l->lock);
	l->over = true;
	(void)pthread_cond_signal(&l->done);
	(void)pthread_mutex_unlock(&l->lock);
}

void df_caller_destroy(struct df_caller **caller)
{
	struct df_caller *c = *caller;
	if (!c)
		return;
	struct last l = {.caller = c};
	(void)pthread_mutex_init(&l.lock, NULL);
	(void)pthread_cond_init(&l.done, NULL);
	post(c, last_words, &l);
	(void)pthread_mutex_lock(&l.lock);
	while (!l.over)
		(void)pthread_cond_wait(&l.done, &l.lock);
	(void)pthread_mutex_unlock(&l.lock);
	(void)pthread_cond_destroy(&l.done);
	(void)pthread_mutex_destroy(&l.lock);

	DF_ASSERT(!c->newest && !c->in && !c->routes);
	for (struct df_host *h = c->hosts, *next; h; h = next) {
		next = h->next;
		free(h);
	}
	df_keys_release(&c->keys);
	df_alarms_release(&c->alarms);
	df_arena_release(&c->scratch);
	(void)pthread_mutex_destroy(&c->lock);
	free(c);
	*caller = NULL;
}

bool df_caller_record_failed(const struct df_caller *c, struct df_fail *ret_fail)
{
	*ret_fail = c->record_fail;
	return c->record_fail.code != DF_OK;
}

bool df_caller_due(const struct df_caller *c)
{
	return atomic_load(&c->in_flight) > 0 || df_alarm_next(&c->alarms) != UINT64_MAX;
}

enum df_calls_wait df_caller_waits(struct df_caller *c, uint64_t *ret_until_ns)
{
	const struct df_route *most = NULL;
	size_t n_most = 0, n_waiting = (size_t)df_caller_stats(c).waiting;
	(void)pthread_mutex_lock(&c->lock);
	for (const struct df_route *r = c->routes; r; r = r->next) {
		size_t n = r->tried.n + r->fresh.n + r->n_ready;
		if (n > n_most) {
			n_most = n;
			most = r;
		}
	}
	*ret_until_ns = most ? most->wait_until_ns : 0;
	enum df_calls_wait wait = most ? most->wait : n_waiting ? DF_WAIT_AGAIN : DF_WAIT_NONE;
	(void)pthread_mutex_unlock(&c->lock);
	return wait;
}

struct df_caller_stats df_caller_stats(const struct df_caller *c)
{
	uint64_t out = atomic_load(&c->out), in_flight = atomic_load(&c->in_flight);
	return (struct df_caller_stats){
		.calls = atomic_load(&c->n_calls),
		.requests = atomic_load(&c->n_requests),
		.retries = atomic_load(&c->n_retries),
		.rate_answers = atomic_load(&c->n_rate),
		.cache_hits = atomic_load(&c->n_hits),
		.failed = atomic_load(&c->n_failed),
		.tokens_in = atomic_load(&c->tokens_in),
		.tokens_out = atomic_load(&c->tokens_out),
		.in_flight = in_flight,
		.waiting = out > in_flight ? out - in_flight : 0,
		.bytes_out = atomic_load(&c->bytes_out),
		.usd = (double)atomic_load(&c->nano_usd) * 1e-9,
	};
}
