// SPDX-License-Identifier: Apache-2.0
/* call_ready: flights that have slot, money and a place in the limits, and wait for its time. */
#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ its place */

static uint64_t tokens_of(const struct df_flight *f)
{
	const struct df_call *call = f->piece->own->call;
	uint64_t out = 0;
	if (call->ask.kind == DF_ASK_CHAT) {
		uint64_t most = f->route->info.max_output;
		out = DF_CALL_TOKENS_OUT;
		if (call->ask.max_tokens > 0)
			out = (uint64_t)call->ask.max_tokens;
		else if (most && most < out)
			out = most;
	}
	return f->piece->tokens + out;
}

enum df_err df_flight_reserve(struct df_flight *f, uint64_t *ret_at_ns, struct df_fail *fail)
{
	struct df_caller *c = f->route->caller;
	uint64_t now_ns = df_http_now(c->http);
	*ret_at_ns = now_ns;
	f->tokens = tokens_of(f);
	if (!f->route->limit)
		return DF_OK;
	enum df_err err = df_limit_reserve(f->route->limit, f->tokens, &f->reservation, fail);
	if (err != DF_OK && err != DF_ERR_AGAIN)
		return err;
	uint64_t boot_ns = c->boot_ns ? c->boot_ns(c->self) : df_clock_boot();
	if (f->reservation.at_boot_ns >
	    boot_ns) /* mono: the http's time is read once per turn and may be older than that */
		*ret_at_ns =
			(c->boot_ns ? now_ns : df_clock_mono(&df_clock_real)) + (f->reservation.at_boot_ns - boot_ns);
	f->has_reservation = err == DF_OK;
	return err;
}

/* ------------------------------------------------------------------ flights that wait for their time */

void df_flight_ready(struct df_route *r, struct df_flight *f)
{
	struct df_flight **at = &r->ready;
	/* nearly always the last: tokens may put a later one before it */
	if (r->ready && DF_CONTAINER(r->ready_tail, struct df_flight, next)->at_ns <= f->at_ns)
		at = r->ready_tail;
	while (*at && (*at)->at_ns <= f->at_ns)
		at = &(*at)->next;
	f->next = *at;
	*at = f;
	if (!f->next)
		r->ready_tail = &f->next;
	f->is_ready = true;
	r->n_ready++;
}

static void ready_take(struct df_flight *f)
{
	struct df_route *r = f->route;
	struct df_flight **at = &r->ready;
	while (*at && *at != f)
		at = &(*at)->next;
	DF_ASSERT(*at);
	*at = f->next;
	if (!f->next)
		r->ready_tail = at;
	f->next = NULL;
	f->is_ready = false;
	r->n_ready--;
}

void df_flight_unready(struct df_flight *f)
{
	if (f->is_ready)
		ready_take(f);
}

/* Flights without their places go back to the head of the queue, in their order. From the last on, so that places can be given back. */
static void queue_again(struct df_flight *reversed)
{
	while (reversed) {
		struct df_flight *f = reversed;
		struct df_piece *p = f->piece;
		reversed = f->next;
		df_flight_free(f);
		df_piece_first(p);
	}
}

/* Reservations are void: all that have one. */
void df_route_ready_again(struct df_route *r)
{
	struct df_flight *reversed = NULL;
	while (r->ready) {
		struct df_flight *f = r->ready;
		ready_take(f);
		f->next = reversed;
		reversed = f;
	}
	queue_again(reversed);
}

/* We were not let run for a moment: only those whose time has passed. The places of the others are good, and to give them back would lose them too, since
 * later ones are taken: a pause of 30 ms would cost all that this process has reserved. */
static void late_again(struct df_route *r)
{
	struct df_flight *reversed = NULL;
	uint64_t now_ns = df_http_now(r->caller->http);
	while (r->ready && r->ready->at_ns <= now_ns && !df_limit_valid(r->limit, &r->ready->reservation)) {
		struct df_flight *f = r->ready;
		ready_take(f);
		f->next = reversed;
		reversed = f;
	}
	queue_again(reversed);
}

void df_route_send_due(struct df_route *r)
{
	struct df_caller *c = r->caller;
	while (r->ready && r->ready->at_ns <= df_http_now(c->http)) {
		struct df_flight *f = r->ready;
		if (df_route_wait(r, df_http_now(c->http)) ||
		    (r->limit && df_limit_is_void(r->limit, &f->reservation))) {
			df_route_ready_again(r);
			return;
		}
		if (r->limit && !df_limit_valid(r->limit, &f->reservation)) {
			late_again(r);
			continue;
		}
		ready_take(f);
		df_flight_send(f);
	}
}
