// SPDX-License-Identifier: Apache-2.0
/* call_in: the way of calls in, from any thread to the network's, and waiting for them. */
#include <stdlib.h>

#include "base/clock.h"
#include "worker/call/call_own.h"
#include "worker/process/turn.h"

uint64_t df_call_bytes(const struct df_call *call)
{
	uint64_t n = 0;
	for (size_t i = 0; i < call->ask.n_turn; i++)
		n += call->ask.turn[i].text.n;
	for (size_t i = 0; i < call->ask.n_input; i++)
		n += call->ask.input[i].n;
	return n;
}

void df_own_free(struct df_own *o)
{
	free(o->row_key);
	free(o->twin);
	free(o->row_state);
	free(o->input);
	free(o->index);
	free(o);
}

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
	if (o->call->no_cache)
		df_route_unkept(o->call->route[0]);
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
		df_own_free(o);
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
		atomic_fetch_add_explicit(&c->bytes_out, df_call_bytes(call), memory_order_relaxed);
		*c->in_tail = o;
		c->in_tail = &o->next;
	}
	(void)pthread_mutex_unlock(&c->lock);
	if (err != DF_OK)
		df_own_free(o);
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
