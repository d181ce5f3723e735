// SPDX-License-Identifier: Apache-2.0
/*
 * call_queue: who is sent next on a route, and when: one queue, one alarm.
 *
 * DESIGN. A pump sends what has come to its time, then gives the head of the queue a flight (slot, money, reservation), and so on until one of these is
 * not to be had. Then the route's one alarm is set to when that may change; a slot or money of one's own that comes back makes the route dirty. What was sent
 * before (`tried`) goes before what never was.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ the queue */

static void enqueue(struct df_piece_queue *q, struct df_piece *p, bool at_head)
{
	struct df_piece **link = at_head || !q->head ? &q->head : q->tail;
	p->next = *link;
	if (p->next)
		p->next->link = &p->next;
	else
		q->tail = &p->next;
	p->link = link;
	*link = p;
	q->n++;
}

void df_piece_first(struct df_piece *p)
{
	struct df_route *r = df_piece_route(p);
	df_piece_unqueue(p);
	p->tried = true; /* else one that was tried would still go before it */
	enqueue(&r->tried, p, true);
}

void df_piece_unqueue(struct df_piece *p)
{
	if (!p->link)
		return;
	struct df_route *r = df_piece_route(p);
	struct df_piece_queue *q = p->tried ? &r->tried : &r->fresh;
	*p->link = p->next;
	if (p->next)
		p->next->link = p->link;
	else
		q->tail = p->link;
	p->link = NULL;
	p->next = NULL;
	q->n--;
}

static struct df_piece *first_of(const struct df_route *r)
{
	return r->tried.head ? r->tried.head : r->fresh.head;
}

bool df_route_waits(const struct df_route *r)
{
	return r->tried.head || r->fresh.head;
}

/* May this call be answered there? Vectors of two models are never mixed. */
static bool fits(const struct df_call *call, uint32_t i)
{
	const struct df_route *r = call->route[i];
	if (r->over)
		return false;
	return i == 0 || call->ask.kind != DF_ASK_EMBED || df_str_eq(r->model, call->route[0]->model);
}

uint64_t df_route_wait(const struct df_route *r, uint64_t now_ns)
{
	return df_breakers_wait(&r->host->breaker, &r->breaker, now_ns);
}

/* One that has given 429 alone for long is asked by one call at a time, until it has an answer. */
static bool has_its_probe(const struct df_route *r)
{
	return r->n_rates >= DF_RATE_ALONE && r->refuses_until_ns && (r->in_flight || r->n_ready || df_route_waits(r));
}

/* The first from `from` on that may be asked now; else the first that may be asked at all; n_route: none. */
static uint32_t choose(const struct df_call *call, uint32_t from, uint64_t now_ns)
{
	uint32_t second = (uint32_t)call->n_route;
	for (uint32_t i = from; i < call->n_route; i++) {
		const struct df_route *r = call->route[i];
		if (!fits(call, i))
			continue;
		if (r->cool_until_ns <= now_ns && df_route_wait(r, now_ns) == 0 && !has_its_probe(r))
			return i;
		if (second == call->n_route)
			second = i;
	}
	return second;
}

bool df_piece_elsewhere(const struct df_piece *p)
{
	const struct df_call *call = p->own->call;
	uint64_t now_ns = df_http_now(p->own->caller->http);
	const struct df_route *r = df_piece_route(p);
	if (p->route + 1 == call->n_route || p->own->text_passed ||
	    (df_route_wait(r, now_ns) == 0 && r->refuses_until_ns <= now_ns))
		return false;
	return choose(call, p->route, now_ns) != p->route;
}

bool df_piece_has_fallback(const struct df_piece *p)
{
	const struct df_call *call = p->own->call;
	return !p->own->text_passed && choose(call, p->route + 1, df_http_now(p->own->caller->http)) != call->n_route;
}

/* true: the fall-back's answer was in the cache, and the piece is over. */
static bool move_to(struct df_piece *p, uint32_t i)
{
	if (p->route == i)
		return false;
	p->route = i;
	p->attempts = p->rates = p->cost = 0;
	p->once_used = false;
	if (!df_own_look_up_route(p->own, p->own->call->route[i]))
		return false;
	df_piece_done(p);
	return true;
}

void df_piece_queue(struct df_piece *p)
{
	struct df_call *call = p->own->call;
	struct df_caller *c = p->own->caller;
	uint64_t now_ns = df_http_now(c->http);
	if (c->ending) {
		df_piece_failed(p, c->ending, df_class_of_end(c), c->ending_message);
		return;
	}
	uint32_t i = choose(call, p->route, now_ns);
	if (i == call->n_route) {
		const struct df_route *r = df_piece_route(p);
		df_piece_failed(p, r->over ? r->over : DF_ERR_USAGE, r->over_class, r->over_message);
		return;
	}
	if (move_to(p, i))
		return;
	struct df_route *r = df_piece_route(p);
	p->since_ns = now_ns;
	enqueue(p->tried ? &r->tried : &r->fresh, p, false);
	df_route_dirty(r);
}

void df_route_rang(struct df_alarm *alarm)
{
	df_route_dirty(DF_CONTAINER(alarm, struct df_route, alarm));
}

void df_piece_woke(struct df_alarm *alarm)
{
	df_piece_queue(DF_CONTAINER(alarm, struct df_piece, alarm));
}

/* Nobody should learn from the bill that all was asked of another model. */
static void tell_replaced(struct df_route *r)
{
	char line[sizeof(r->over_message) + 64], about[160];
	if (!r->over || r->told_over)
		return;
	r->told_over = true;
	(void)snprintf(line, sizeof(line), "%s; fall-backs are asked from now on", r->over_message);
	(void)snprintf(about, sizeof(about), "over %.120s", r->label);
	df_engine_warn(r->caller, about, true, line);
}

void df_piece_fallback(struct df_piece *p, enum df_err err, enum df_call_class class, const char *message)
{
	const struct df_call *call = p->own->call;
	uint32_t i = choose(call, p->route + 1, df_http_now(p->own->caller->http));
	if (i == call->n_route || p->own->text_passed) {
		df_piece_failed(p, err, class, message);
		return;
	}
	tell_replaced(df_piece_route(p));
	if (!move_to(p, i))
		df_piece_queue(p);
}

struct df_ask df_piece_ask(const struct df_piece *p, const struct df_route *r)
{
	struct df_ask ask = p->own->call->ask;
	ask.model = r->model;
	ask.stream = ask.kind == DF_ASK_CHAT && (ask.stream || p->own->call->on_text);
	ask.tokens_in = p->tokens;
	if (ask.kind == DF_ASK_EMBED) {
		ask.input = p->input;
		ask.n_input = p->n_input;
		ask.tokens_exact &= p->n_input == p->own->call->ask.n_input; /* else it is a share by bytes */
	}
	return ask;
}

/* ------------------------------------------------------------------ the pump */

enum took { TOOK, WAIT, GONE }; /* GONE: the piece has left the queue otherwise */

static enum took refused(struct df_flight *f, enum df_err err, const char *message)
{
	struct df_piece *p = f->piece, *other = NULL;
	struct df_route *r = f->route;
	df_flight_free(f);
	switch (err) {
	case DF_ERR_LIMIT: /* it is too large for the limit: fewer inputs may fit */
		if (p->n_input > 1 && df_piece_halve(p, &other) == DF_OK) {
			p->tried = other->tried = true;
			df_piece_queue(p);
			df_piece_queue(other);
			return GONE;
		}
		df_piece_failed(p, DF_ERR_LIMIT, DF_CALL_BAD_INPUT, message);
		return GONE;
	case DF_ERR_QUOTA:
		df_route_over(r, DF_ERR_QUOTA, DF_CALL_QUOTA, message);
		break;
	default:
		df_route_over(r, DF_ERR_USAGE, DF_CALL_RETRY, message);
		break;
	}
	df_piece_fallback(p, r->over, r->over_class, message);
	return GONE;
}

static enum took take(struct df_route *r, struct df_piece *p, uint64_t *ret_again_ns)
{
	struct df_caller *c = r->caller;
	uint64_t now_ns = df_http_now(c->http), at_ns = 0;
	struct df_fail fail = {0};
	*ret_again_ns = UINT64_MAX;
	r->wait = DF_WAIT_ROOM;
	if (r->in_flight >= r->cap)
		return WAIT;
	struct df_flight *f = df_flight_make(p, r);
	if (!f) {
		df_piece_failed(p, DF_ERR_NOMEM, DF_CALL_RETRY, "no memory for a request");
		return GONE;
	}
	if (r->limit && df_limit_enter(r->limit, &f->slot) != DF_OK) {
		*ret_again_ns = now_ns + DF_CALL_SLOT_MS * DF_MS;
		df_flight_free(f);
		return WAIT;
	}
	f->has_slot = r->limit != NULL;
	enum df_err err = df_flight_pay(f);
	if (err != DF_OK) {
		r->wait = DF_WAIT_MONEY;
		*ret_again_ns = now_ns + DF_CALL_PURSE_MS * DF_MS;
		df_flight_free(f);
		/* a cheaper one may have been brought before it; without any money, the engine ends what waits */
		return first_of(r) == p ? WAIT : GONE;
	}
	err = df_flight_reserve(f, &at_ns, &fail);
	r->wait = DF_WAIT_LIMIT;
	if (err == DF_ERR_AGAIN) {
		*ret_again_ns = at_ns;
		df_flight_free(f);
		return WAIT;
	}
	if (err == DF_ERR_QUOTA && r->in_flight > 1) {
		/* The day is full with what is out: that is sent and answered first, and may give some of it back. */
		df_flight_free(f);
		return WAIT;
	}
	df_piece_unqueue(p);
	if (err != DF_OK)
		return refused(f, err, fail.msg);
	f->at_ns = at_ns;
	p->flight = f;
	df_flight_ready(r, f);
	return TOOK;
}

static void drain(struct df_route *r)
{
	struct df_piece *p;
	df_route_ready_again(r);
	while ((p = first_of(r))) {
		df_piece_unqueue(p);
		if (r->caller->ending)
			df_piece_failed(p, r->caller->ending, df_class_of_end(r->caller), r->caller->ending_message);
		else
			df_piece_fallback(p, r->over, r->over_class, r->over_message);
	}
}

/* Those that sleep in a back-off would come back to a route that nobody may ask. */
static void wake_for_elsewhere(struct df_route *r)
{
	struct df_caller *c = r->caller;
	for (struct df_own *o = c->newest, *older; o; o = older) {
		older = o->older; /* from new to old, as end_pieces */
		if (o->call->n_route < 2)
			continue;
		for (struct df_piece *p = o->pieces, *next; p; p = next) {
			next = p->sibling;
			if (!p->alarm.place || df_piece_route(p) != r || !df_piece_elsewhere(p))
				continue;
			df_alarm_clear(&c->alarms, &p->alarm);
			df_piece_queue(p);
		}
	}
}

/* A breaker has opened, or its probe is out or has failed: who has somewhere else to go goes. */
static void rescan(struct df_route *r)
{
	uint64_t now_ns = df_http_now(r->caller->http);
	r->rescan = false;
	if (r->caller->ending)
		return;
	if (r->refuses_until_ns > now_ns)
		df_route_ready_again(r); /* nobody has a place in the time to come */
	wake_for_elsewhere(r);
	for (int tried = 1; tried >= 0; tried--) {
		for (struct df_piece *p = tried ? r->tried.head : r->fresh.head, *next; p; p = next) {
			next = p->next;
			uint32_t i = choose(p->own->call, p->route, now_ns);
			if (i == p->route || i == p->own->call->n_route)
				continue;
			df_piece_unqueue(p);
			df_piece_queue(p);
		}
	}
}

/* When those who wait for a model that gives 429 alone go elsewhere, even if its next turn were hours away; UINT64_MAX: they do not. */
static uint64_t refusal_due(const struct df_route *r)
{
	const struct df_piece *p = r->ready ? r->ready->piece : first_of(r);
	uint64_t since_ns = r->refuses_until_ns > r->rates_ns ? r->refuses_until_ns : r->rates_ns;
	if (r->n_rates < DF_RATE_ALONE || !p || !df_piece_has_fallback(p))
		return UINT64_MAX;
	return since_ns + DF_RATE_ALONE_MS * DF_MS;
}

void df_route_pump(struct df_route *r)
{
	struct df_caller *c = r->caller;
	uint64_t again_ns = UINT64_MAX;
	struct df_piece *p;
	df_alarm_clear(&c->alarms, &r->alarm);
	if (refusal_due(r) <= df_http_now(c->http))
		df_route_refuses(r, df_retry_defaults.cool_down_ms);
	if (r->rescan)
		rescan(r);
	df_route_send_due(r);
	while (!r->over && !c->ending && (p = first_of(r))) {
		bool open = r->host->breaker.open || r->breaker.open;
		again_ns = df_route_wait(r, df_http_now(c->http));
		if (again_ns || (open && r->n_ready)) {
			/* while it is open, a probe goes alone */
			again_ns = again_ns ? again_ns : UINT64_MAX;
			r->wait = DF_WAIT_SERVER;
			break;
		}
		if (open && r->fresh_next && r->fresh.head)
			df_piece_first(p = r->fresh.head);
		r->fresh_next = false;
		if (take(r, p, &again_ns) == WAIT)
			break;
		df_route_send_due(r);
	}
	if (r->over || c->ending)
		drain(r);
	else if (c->hurried && again_ns != UINT64_MAX && df_route_wait(r, df_http_now(c->http)))
		while ((p = first_of(r)))
			df_piece_failed(p, DF_ERR_INTERRUPTED, DF_CALL_RETRY, DF_CALL_STOPPED);
	if (!first_of(r))
		again_ns = UINT64_MAX;
	if (r->ready && r->ready->at_ns < again_ns) {
		again_ns = r->ready->at_ns;
		r->wait = DF_WAIT_LIMIT;
	}
	if (refusal_due(r) < again_ns)
		again_ns = refusal_due(r);
	r->wait_until_ns = r->wait == DF_WAIT_ROOM || again_ns == UINT64_MAX ? 0 : again_ns;
	if (again_ns != UINT64_MAX)
		df_alarm_set(&c->alarms, &r->alarm, again_ns);
}

void df_route_over(struct df_route *r, enum df_err err, enum df_call_class class, const char *message)
{
	if (r->over)
		return;
	r->over = err;
	r->over_class = class;
	(void)snprintf(r->over_message, sizeof(r->over_message), "%.*s", (int)sizeof(r->over_message) - 1, message);
	df_route_dirty(r);
}
