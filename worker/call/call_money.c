// SPDX-License-Identifier: Apache-2.0
/*
 * call_money: what an attempt may cost before it is sent, and what is booked for it afterwards.
 *
 * DESIGN. What is booked is never less than what the provider may bill, so that a budget holds whatever becomes of a request. What is known to have been
 * used is booked as that; what may have been used, though no answer says it, is booked beside it as "maybe paid" (df_purse_settle_maybe). Which is
 * which, by class, stands in docs/CALLS.md.
 */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ before */

static void no_money(struct df_caller *c, const struct df_purse_view *v, double worst_usd)
{
	char message[sizeof(c->ending_message)], budget[32], worst[32];
	/* what is spent is told at the run's end, when no call is in flight any more */
	(void)snprintf(message, sizeof(message),
		       "the budget of %s is used up: the next call may cost %s; give a larger --budget to go on",
		       df_human_usd(v->budget, budget), df_human_usd(worst_usd, worst));
	df_engine_end(c, DF_ERR_QUOTA, message);
}

static double worst_of(const struct df_piece *p, const struct df_route *r)
{
	struct df_ask ask = df_piece_ask(p, r);
	double usd = df_price_worst(&r->info, &ask);
	if (isfinite(usd) || df_purse_is_capped(r->caller->purse) || ask.kind != DF_ASK_CHAT || ask.max_tokens > 0)
		return usd;
	/* How long an answer may be is not known, and no budget hangs on it: the price may be known all the same, and then so is what was spent. */
	ask.max_tokens = DF_CALL_ANSWER_TOKENS;
	return df_price_worst(&r->info, &ask);
}

/* false: the purse refuses; *ret_worst_usd is NAN when the price is unknown under a budget. */
static bool may_pay(struct df_flight *f, double *ret_worst_usd)
{
	struct df_caller *c = f->route->caller;
	*ret_worst_usd = 0;
	if (!c->purse)
		return true;
	double worst_usd = worst_of(f->piece, f->route);
	*ret_worst_usd = worst_usd;
	if (!isfinite(worst_usd)) { /* under a budget the route was refused when it was opened */
		f->unpriced = !df_purse_is_capped(c->purse);
		return f->unpriced;
	}
	if (df_purse_reserve(c->purse, worst_usd) != DF_OK)
		return false;
	f->worst_usd = worst_usd;
	f->has_money = true;
	return true;
}

bool df_flight_may_pay(struct df_flight *f)
{
	double worst_usd = 0;
	return may_pay(f, &worst_usd);
}

/* The first in the queue that so much suffices for, among those that are looked at; NULL: none. */
static struct df_piece *affordable(const struct df_route *r, double usd)
{
	size_t looks = 0;
	if (r->over)
		return NULL;
	for (int tried = 1; tried >= 0; tried--) {
		for (struct df_piece *p = tried ? r->tried.head : r->fresh.head; p; p = p->next) {
			if (worst_of(p, r) <= usd)
				return p;
			if (++looks == DF_CALL_PURSE_LOOKS)
				return NULL;
		}
	}
	return NULL;
}

static bool others_can(struct df_route *r, double usd)
{
	struct df_caller *c = r->caller;
	bool can = false;
	(void)pthread_mutex_lock(&c->lock);
	for (struct df_route *other = c->routes; other && !can; other = other->next)
		can = other != r && affordable(other, usd);
	(void)pthread_mutex_unlock(&c->lock);
	return can;
}

/* What is reserved comes back: by those who live and hold it, however long their calls take. What nobody is known to hold may have moved a moment ago. */
static bool comes_back(struct df_route *r, const struct df_purse_view *v)
{
	struct df_caller *c = r->caller;
	uint64_t now_ns = df_http_now(c->http);
	bool moved = v->spent != r->purse.spent || v->reserved != r->purse.reserved || v->calls != r->purse.calls;
	if (moved || !r->purse_ns)
		r->purse_ns = now_ns;
	r->purse = *v;
	return v->held > 0 || atomic_load(&c->in_flight) > 0 ||
	       now_ns - r->purse_ns < DF_CALL_PURSE_PATIENCE_MS * DF_MS;
}

enum df_err df_flight_pay(struct df_flight *f)
{
	struct df_route *r = f->route;
	struct df_caller *c = r->caller;
	double worst_usd = 0;
	if (may_pay(f, &worst_usd)) {
		r->purse_ns = 0;
		return DF_OK;
	}
	if (!isfinite(worst_usd)) {
		df_engine_end(
			c, DF_ERR_QUOTA,
			"how long an answer may be is not known, so that a budget cannot be kept: give max_tokens=, "
			"or max_output in models.yaml");
		return DF_ERR_QUOTA;
	}
	/* Is the money spent, or only reserved for what will cost less? */
	struct df_purse_view v = df_purse_look(c->purse);
	double left_usd = v.budget - v.spent;
	if (worst_usd <= left_usd && comes_back(r, &v))
		return DF_ERR_AGAIN;
	struct df_piece *smaller = worst_usd > left_usd ? affordable(r, left_usd) : NULL;
	if (smaller) {
		df_piece_first(smaller);
		return DF_ERR_AGAIN;
	}
	if (worst_usd > left_usd && others_can(r, left_usd))
		return DF_ERR_AGAIN;
	no_money(c, &v, worst_usd);
	return DF_ERR_QUOTA;
}

/* ------------------------------------------------------------------ afterwards */

struct bill {
	double usd, maybe; /* maybe: of usd */
};

/* As much as it can have been, and not known to be more than some. */
static struct bill at_most(const struct df_flight *f, double surely_usd)
{
	double surely = isfinite(surely_usd) ? surely_usd : 0, usd = fmax(f->worst_usd, surely);
	return (struct bill){usd, usd - surely};
}

/* Not of a success. What came of it was made, and more may have been. */
static struct bill of_stream(const struct df_flight *f, const struct df_outcome *o)
{
	const struct df_stream *s = &f->stream->stream;
	struct df_answer came = {.retry_after_ms = -1};
	struct df_ask ask = df_piece_ask(f->piece, f->route);
	if (!s->text.n && !s->usage.known)
		return o->answer && s->failed ? (struct bill){0, 0} : at_most(f, 0);
	df_stream_answer(&ask, s, &f->route->caller->scratch, &came);
	double usd = df_price_of(&f->route->info, &came.usage);
	return (s->ended || s->finished) && came.usage.known ? (struct bill){usd, 0} : at_most(f, usd);
}

/* A server before the provider's that has waited too long for it: the request had been passed on. */
static bool is_given_up(long status)
{
	return status == 504 || status == 524;
}

static struct bill bill_of(const struct df_flight *f, const struct df_outcome *o)
{
	const struct df_answer *a = o->answer;
	bool success = a && a->class == DF_CALL_OK, is_error = o->status >= 300;
	if (o->never_sent || !f->went_out)
		return (struct bill){0, 0};
	double usd = a ? df_price_of(&f->route->info, &a->usage) : 0;
	if (success && !a->usage.known && f->has_money && df_purse_is_capped(f->route->caller->purse))
		return at_most(f, usd); /* what it cost is not known, and a budget is kept all the same */
	if (success)
		return (struct bill){usd, 0};
	if (f->stream && !is_error)
		return of_stream(f, o);
	if (a && a->usage.known)
		return (struct bill){usd, 0};
	return is_error && !is_given_up(o->status) ? (struct bill){0, 0} : at_most(f, 0);
}

double df_flight_bill(struct df_flight *f, const struct df_outcome *o)
{
	struct df_purse *purse = f->route->caller->purse;
	struct bill bill = bill_of(f, o);
	bool is_sent = f->went_out && !o->never_sent;
	if (f->has_money && is_sent)
		df_purse_settle_maybe(purse, f->worst_usd, isfinite(bill.usd) ? bill.usd : f->worst_usd, bill.maybe);
	else if (f->has_money)
		df_purse_cancel(purse, f->worst_usd);
	f->has_money = false;
	return bill.usd;
}
