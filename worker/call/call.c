// SPDX-License-Identifier: Apache-2.0
/* call: the engine's life, its one timer, and the way of calls in and out. call_own.h says how it is built. */
#include "worker/call/call_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/turn.h"

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

void df_host_dirty(struct df_caller *c, const struct df_host *h)
{
	(void)pthread_mutex_lock(&c->lock);
	for (struct df_route *r = c->routes; r; r = r->next)
		if (r->host == h && (r->tried.n || r->fresh.n))
			df_route_dirty(r);
	(void)pthread_mutex_unlock(&c->lock);
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

/* Of what is asked: a measure of what the call's document holds while it waits. */
static uint64_t bytes_of(const struct df_call *call)
{
	uint64_t n = 0;
	for (size_t i = 0; i < call->ask.n_turn; i++)
		n += call->ask.turn[i].text.n;
	for (size_t i = 0; i < call->ask.n_input; i++)
		n += call->ask.input[i].n;
	return n;
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

static void own_free(struct df_own *o)
{
	free(o->row_key);
	free(o->twin);
	free(o->row_state);
	free(o->input);
	free(o->index);
	free(o);
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
		own_free(o);
		atomic_fetch_sub_explicit(&c->out, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&c->bytes_out, bytes_of(call), memory_order_relaxed);
		call->on_done(call);
		o = next;
	}
}

/* ------------------------------------------------------------------ calls come in */

void df_own_begin(struct df_own *o)
{
	struct df_caller *c = o->caller;
	if (o->hit) {
		df_own_finish(o);
		return;
	}
	if (c->ending) {
		df_own_failed(o, c->ending, c->ending_message);
		return;
	}
	if (df_own_share(o)) {
		if (o->hit)
			df_own_finish(o);
		return;
	}
	if (df_own_cut(o) != DF_OK) {
		while (o->pieces && o->pieces->sibling)
			df_piece_failed(o->pieces->sibling, DF_ERR_NOMEM, DF_CALL_RETRY, "no memory for a call");
		if (o->pieces)
			df_piece_failed(o->pieces, DF_ERR_NOMEM, DF_CALL_RETRY, "no memory for a call");
		else
			df_own_failed(o, DF_ERR_NOMEM, "no memory for a call");
		return;
	}
	for (struct df_piece *p = o->pieces, *next; p; p = next) {
		next = p->sibling;
		df_piece_queue(p);
	}
}

static void take_in(void *self)
{
	struct df_caller *c = self;
	(void)pthread_mutex_lock(&c->lock);
	struct df_own *o = c->in;
	c->in = NULL;
	c->in_tail = &c->in;
	(void)pthread_mutex_unlock(&c->lock);
	df_engine_enter(c);
	while (o) {
		struct df_own *next = o->next;
		o->next = NULL;
		o->older = c->newest;
		if (c->newest)
			c->newest->newer = o;
		c->newest = o;
		if (c->trace)
			o->span = df_trace_id(c->trace);
		atomic_fetch_add_explicit(&c->n_calls, 1, memory_order_relaxed);
		df_own_begin(o);
		o = next;
	}
	df_engine_leave(c);
}

static struct df_own *own_make(struct df_caller *c, struct df_call *call)
{
	struct df_own *o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	o->caller = c;
	o->call = call;
	o->first.own = o;
	o->start_ns = df_clock_mono(&df_clock_real);
	o->start_wall_ns = df_clock_real.wall_ns(df_clock_real.self);
	call->own = o;
	call->err = DF_OK;
	call->message[0] = '\0';
	call->answer = (struct df_answer){.retry_after_ms = -1};
	call->input_err = NULL;
	call->usd = 0;
	call->attempts = 0;
	call->cached = false;
	if (df_own_look_up(o) != DF_OK) {
		own_free(o);
		return NULL;
	}
	return o;
}

enum df_err df_caller_submit(struct df_caller *c, struct df_call *call)
{
	DF_ASSERT(call->n_route > 0 && call->arena && call->on_done);
	struct df_own *o = own_make(c, call);
	if (!o)
		return DF_ERR_NOMEM;
	enum df_err err = DF_OK;
	(void)pthread_mutex_lock(&c->lock);
	if (!c->in) /* else somebody posted already, and take_in has not begun */
		err = df_http_post(c->http, take_in, c);
	if (err == DF_OK) {
		atomic_fetch_add_explicit(&c->out, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->bytes_out, bytes_of(call), memory_order_relaxed);
		*c->in_tail = o;
		c->in_tail = &o->next;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (err != DF_OK)
		own_free(o);
	return err;
}

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t done;
	size_t left;
};

static void one_done(struct df_call *call)
{
	struct waiter *w = call->self;
	(void)pthread_mutex_lock(&w->lock);
	if (--w->left == 0)
		(void)pthread_cond_signal(&w->done);
	(void)pthread_mutex_unlock(&w->lock);
}

enum df_err df_caller_run(struct df_caller *c, struct df_call *call, size_t n, struct df_compute_turn *turn)
{
	struct waiter w = {.left = n};
	struct df_turn_pause pause;
	enum df_err err = DF_OK;
	for (size_t i = 0; c->instead && i < n; i++)
		c->instead(c->instead_self, &call[i]);
	if (c->instead)
		return DF_OK;
	(void)pthread_mutex_init(&w.lock, NULL);
	(void)pthread_cond_init(&w.done, NULL);
	if (c->cache)
		df_cache_look_begin(c->cache);
	for (size_t i = 0; i < n; i++) {
		call[i].on_done = one_done;
		call[i].self = &w;
		err = df_caller_submit(c, &call[i]);
		if (err == DF_OK)
			continue;
		(void)pthread_mutex_lock(&w.lock);
		w.left -= n - i; /* those that are in are waited for */
		(void)pthread_mutex_unlock(&w.lock);
		break;
	}
	if (c->cache)
		df_cache_look_end(c->cache);
	if (turn)
		df_turn_leave(turn, &pause);
	(void)pthread_mutex_lock(&w.lock);
	while (w.left)
		(void)pthread_cond_wait(&w.done, &w.lock);
	(void)pthread_mutex_unlock(&w.lock);
	if (turn)
		df_turn_take(turn, &pause);
	(void)pthread_cond_destroy(&w.done);
	(void)pthread_mutex_destroy(&w.lock);
	return err;
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
	df_engine_end(c, DF_ERR_INTERRUPTED, "the run is being stopped");
	c->ending = DF_ERR_INTERRUPTED;
	uint64_t at_ns = grace_ns < UINT64_MAX - now_ns ? now_ns + grace_ns : UINT64_MAX - 1;
	if (!c->grace.place || at_ns < c->grace.at_ns)
		df_alarm_set(&c->alarms, &c->grace, at_ns);
	df_engine_leave(c);
}

/* What must not fail: memory that is out now is there again a moment later, when calls have ended. */
static void post(struct df_caller *c, void (*fn)(void *self), void *self)
{
	while (df_http_post(c->http, fn, self) != DF_OK)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
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
	struct waiter wait;
};

static void last_words(void *self)
{
	struct last *l = self;
	if (l->caller->timer)
		df_http_unset(l->caller->http, l->caller->timer);
	(void)pthread_mutex_lock(&l->wait.lock);
	l->wait.left = 0;
	(void)pthread_cond_signal(&l->wait.done);
	(void)pthread_mutex_unlock(&l->wait.lock);
}

void df_caller_destroy(struct df_caller **caller)
{
	struct df_caller *c = *caller;
	if (!c)
		return;
	struct last l = {.caller = c, .wait.left = 1};
	(void)pthread_mutex_init(&l.wait.lock, NULL);
	(void)pthread_cond_init(&l.wait.done, NULL);
	post(c, last_words, &l);
	(void)pthread_mutex_lock(&l.wait.lock);
	while (l.wait.left)
		(void)pthread_cond_wait(&l.wait.done, &l.wait.lock);
	(void)pthread_mutex_unlock(&l.wait.lock);
	(void)pthread_cond_destroy(&l.wait.done);
	(void)pthread_mutex_destroy(&l.wait.lock);

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
