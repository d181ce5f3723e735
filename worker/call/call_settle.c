// SPDX-License-Identifier: Apache-2.0
/* call_settle: an attempt has ended: what that means for the limit, the host and the counts, before it is known what comes next. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

static uint64_t real_tokens(const struct df_flight *f, const struct df_outcome *o)
{
	const struct df_answer *a = o->answer;
	if (a && (a->class == DF_CALL_OK || a->usage.known))
		return a->usage.in + a->usage.out;
	return o->status >= 300 ? 0 : f->tokens;
}

static void settle_limit(struct df_flight *f, const struct df_outcome *o)
{
	struct df_limit *l = f->route->limit;
	bool is_rate = o->answer && o->answer->class == DF_CALL_RATE;
	f->piece->lone = is_rate && !l;
	if (!l)
		return;
	if (is_rate)
		f->piece->lone = !df_limit_push(l, f->has_reservation ? &f->reservation : NULL, o->news,
						o->answer->retry_after_ms);
	else if (o->never_sent || !f->went_out)
		df_limit_cancel(l, &f->reservation);
	else
		df_limit_settle(l, &f->reservation, real_tokens(f, o));
	if (o->news && o->status)
		df_limit_learn(l, o->news);
	f->has_reservation = false;
}

static void trace_attempt(const struct df_flight *f, const struct df_outcome *o, double usd)
{
	const struct df_own *own = f->piece->own;
	const struct df_caller *c = own->caller;
	if (!c->trace)
		return;
	/* by its call's two clocks, so that it begins and ends inside the call */
	uint64_t now_ns = df_http_now(c->http), from_ns = f->sent_ns > own->start_ns ? f->sent_ns : own->start_ns;
	struct df_span span = {
		.kind = DF_SPAN_ATTEMPT,
		.parent = own->span,
		.doc_id = own->call->doc_id,
		.stage = own->call->stage,
		.model = f->route->model,
		.provider = df_str_from(f->route->provider->name),
		.start_wall_ns = own->start_wall_ns + (from_ns - own->start_ns),
		.duration_ns = now_ns > from_ns ? now_ns - from_ns : 0,
		.first_token_ns = f->first_token_ns,
		.attempt = f->piece->attempts + f->piece->rates,
		.status = (uint32_t)o->status,
		.inputs = own->call->ask.kind == DF_ASK_EMBED ? (uint32_t)f->piece->n_input : 0,
		.usage = o->answer ? o->answer->usage : (struct df_usage){0},
		.usd = usd,
		.class = o->answer ? o->answer->class : DF_CALL_RETRY,
	};
	df_trace_put(c->trace, &span);
}

void df_flight_settle(struct df_flight *f, const struct df_outcome *o)
{
	struct df_own *own = f->piece->own;
	struct df_caller *c = own->caller;
	double usd = df_flight_bill(f, o);
	settle_limit(f, o);
	if (f->unpriced && f->went_out && !o->never_sent) {
		df_purse_unpriced(c->purse);
		own->call->unpriced = f->route->label;
	}
	f->unpriced = false;
	df_flight_settle_breakers(f, o);
	if (isfinite(usd)) {
		own->call->usd += usd;
		atomic_fetch_add_explicit(&c->nano_usd, (uint64_t)llround(usd * 1e9), memory_order_relaxed);
	}
	if (o->answer && o->answer->class == DF_CALL_RATE)
		atomic_fetch_add_explicit(&c->n_rate, 1, memory_order_relaxed);
	if (o->answer && (o->answer->class == DF_CALL_OK || o->answer->usage.known)) {
		atomic_fetch_add_explicit(&c->tokens_in, o->answer->usage.in, memory_order_relaxed);
		atomic_fetch_add_explicit(&c->tokens_out, o->answer->usage.out, memory_order_relaxed);
	}
	own->status = o->status;
	if (o->answer)
		own->class = o->answer->class;
	if (f->first_token_ns && !own->first_token_ns)
		own->first_token_ns = f->sent_ns + f->first_token_ns - own->start_ns;
	trace_attempt(f, o, usd);
}
