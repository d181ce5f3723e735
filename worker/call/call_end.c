// SPDX-License-Identifier: Apache-2.0
/* call_end: an attempt has ended: what it told, and what comes next; pieces and calls that are over. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

/* ------------------------------------------------------------------ a good answer */

static void add_usage(struct df_usage *sum, const struct df_usage *u, bool first)
{
	sum->in += u->in;
	sum->cached_in += u->cached_in;
	sum->out += u->out;
	sum->known = (first || sum->known) && u->known;
}

static enum df_err take_chat(struct df_own *o, const struct df_answer *a)
{
	struct df_call *call = o->call;
	if (a->text.n > call->arena->max / 2)
		return DF_ERR_LIMIT;
	struct df_str text = df_arena_copy(call->arena, a->text), model = df_arena_copy(call->arena, a->model);
	if (!text.p || !model.p)
		return DF_ERR_NOMEM;
	call->answer = *a;
	call->answer.text = text;
	call->answer.model = model;
	return DF_OK;
}

/* DF_OK; DF_ERR_TYPE: rows that do not fit what was asked for; DF_ERR_LIMIT: a longer text than a call may have; DF_ERR_NOMEM. */
static enum df_err take_answer(struct df_piece *p, const struct df_route *r, const struct df_answer *a)
{
	struct df_own *o = p->own;
	if (o->call->ask.kind == DF_ASK_CHAT) {
		DF_TRY(take_chat(o, a));
		df_own_keep_chat(o, r);
	} else {
		DF_TRY(df_piece_merge(p, a));
		add_usage(&o->call->answer.usage, &a->usage, !o->answered);
	}
	o->answered = true;
	return DF_OK;
}

/* ------------------------------------------------------------------ what next */

static const struct df_retry_options *options_of(const struct df_piece *p)
{
	return p->own->call->retry ? p->own->call->retry : &df_retry_defaults;
}

static void tell(const struct df_piece *p, const struct df_route *r, const struct df_outcome *o, char *out, size_t size)
{
	const struct df_answer *a = o->answer; /* its message names the status, or what there was instead of one */
	uint32_t n = p->own->call->attempts;
	struct df_str words = df_str_from(a->message[0] ? a->message : "no answer that can be used");
	words.n = df_str_utf8_prefix((struct df_str){words.p, words.n < 300 ? words.n : 300});
	(void)snprintf(out, size, "model \"%.120s\": %.*s", r->label, (int)words.n, words.p);
	df_str_make_utf8(out);
	size_t at = strlen(out);
	if (n > 1 && at < size)
		at += (size_t)snprintf(out + at, size - at, ", after %u requests", n);
	if (at < size)
		df_answer_advise(a->class, o->status, r->provider, &r->to, out + at, size - at);
}

static void back_off(struct df_piece *p, uint64_t wait_ns)
{
	struct df_caller *c = p->own->caller;
	p->since_ns = df_http_now(c->http);
	/* The loop's time is of the turn's begin, and the answer may be younger: what it asks for counts from now. */
	uint64_t now_ns = c->boot_ns ? p->since_ns : df_clock_mono(&df_clock_real);
	df_alarm_set(&c->alarms, &p->alarm, (now_ns > p->since_ns ? now_ns : p->since_ns) + wait_ns);
}

static void wait_and_retry(struct df_piece *p, const struct df_outcome *o)
{
	struct df_caller *c = p->own->caller;
	const struct df_retry_options *options = options_of(p);
	uint32_t cost = df_retry_cost(o->http_err == DF_ERR_TIMEOUT);
	int64_t floor_ms = o->answer->retry_after_ms;
	if (df_piece_elsewhere(p)) { /* nobody waits for a model that is shut while another may be asked */
		df_piece_queue(p);
		return;
	}
	p->once_used |= o->status == 408 || o->status == 409 || o->status == 425;
	p->cost = 0;
	if (df_retry_quota_take(&c->quota, cost))
		p->cost = cost;
	else if (floor_ms < (int64_t)options->cap_ms)
		floor_ms = (int64_t)options->cap_ms;
	back_off(p, df_backoff_ns(options, p->attempts, df_engine_random(c), floor_ms));
}

static void wait_for_rate(struct df_piece *p, const struct df_outcome *o)
{
	/* The shared clock has moved, so the queue is all the waiting there is, unless the limits are not those that bind. */
	if (!p->lone && p->rates <= DF_RATE_CALM) {
		df_piece_queue(p);
		return;
	}
	uint32_t n = p->rates > DF_RATE_CALM ? p->rates - DF_RATE_CALM : p->rates;
	back_off(p, df_backoff_ns(options_of(p), n, df_engine_random(p->own->caller), o->answer->retry_after_ms));
}

/* A request that is wrong as a whole is not cut down to its last input: after this many refusals and nothing else, all are told so. */
static bool hopeless(const struct df_own *o)
{
	uint32_t doublings = 0;
	while ((o->call->ask.n_input >> doublings) > 1)
		doublings++;
	return !o->answered && o->refused > 2 * doublings + 8;
}

static void cut(struct df_piece *p, const char *message)
{
	struct df_piece *other = NULL;
	p->own->refused++;
	if (hopeless(p->own)) {
		df_piece_failed(p, DF_ERR_RANGE, DF_CALL_BAD_INPUT, message);
		return;
	}
	if (df_piece_halve(p, &other) != DF_OK) {
		df_piece_failed(p, DF_ERR_NOMEM, DF_CALL_RETRY, "no memory to cut a batch in two");
		return;
	}
	df_piece_queue(p);
	df_piece_queue(other);
}

/* Limits are waited for; but a model that gives 429 and nothing else has no turn for anybody, and others may have. */
static bool rates_alone(const struct df_piece *p, const struct df_route *r)
{
	return r->n_rates >= DF_RATE_ALONE && df_http_now(r->caller->http) >= r->rates_ns + DF_RATE_ALONE_MS * DF_MS &&
	       df_piece_has_fallback(p);
}

static void act(struct df_piece *p, struct df_route *r, const struct df_outcome *o, enum df_next next)
{
	struct df_caller *c = p->own->caller;
	const struct df_answer *a = o->answer;
	enum df_err err = df_call_err(a->class, o->http_err);
	char message[sizeof(p->own->call->message)];
	tell(p, r, o, message, sizeof(message));
	if (c->ending == DF_ERR_INTERRUPTED && next != DF_NEXT_FAIL) {
		df_piece_failed(p, c->ending, df_class_of_end(c), c->ending_message);
		return;
	}
	if (c->hurried && next == DF_NEXT_WAIT) {
		df_piece_failed(p, DF_ERR_INTERRUPTED, DF_CALL_RETRY, DF_CALL_STOPPED);
		return;
	}
	switch (next) {
	case DF_NEXT_WAIT:
		wait_and_retry(p, o);
		return;
	case DF_NEXT_RESERVE:
		wait_for_rate(p, o);
		return;
	case DF_NEXT_CUT:
		cut(p, message);
		return;
	case DF_NEXT_FALLBACK:
		if (rates_alone(p, r))
			df_route_refuses(r, options_of(p)->cool_down_ms);
		else
			r->cool_until_ns = df_http_now(c->http) + options_of(p)->cool_down_ms * DF_MS;
		df_piece_fallback(p, err, a->class, message);
		return;
	case DF_NEXT_OVER:
		df_route_over(r, err, a->class, message);
		df_piece_fallback(p, err, a->class, message);
		return;
	case DF_NEXT_DONE:
	case DF_NEXT_FAIL:
		break;
	}
	if (a->class == DF_CALL_BAD_INPUT)
		p->own->refused++;
	df_piece_failed(p, err, a->class, message);
}

/* Who asks to be left alone for hours has said no: nobody waits for that without a word, and no other run does. */
static void judge_pause(struct df_answer *a)
{
	bool waits = a->class == DF_CALL_RETRY || a->class == DF_CALL_RATE;
	if (!waits || a->retry_after_ms <= DF_CALL_AWAY_MS)
		return;
	char said[sizeof(a->message)];
	memcpy(said, a->message, sizeof(said));
	a->class = DF_CALL_QUOTA;
	(void)snprintf(a->message, sizeof(a->message), "it asks to be left alone for %lld h: %.100s",
		       (long long)(a->retry_after_ms / 3600000), said);
}

void df_flight_over(struct df_flight *f, struct df_outcome *o)
{
	struct df_piece *p = f->piece;
	struct df_route *r = f->route;
	struct df_caller *c = r->caller;
	struct df_flight *other = p->flight == f ? p->hedge : p->flight;
	bool host_good = (o->status ? r->good_ns : r->host->good_ns) > p->first_ns;
	judge_pause(o->answer);
	df_flight_settle(f, o);
	df_route_dirty(r);
	if (o->answer->class == DF_CALL_RATE) {
		p->attempts--;
		p->rates++;
		if (!r->n_rates++)
			r->rates_ns = df_http_now(c->http);
	} else if (r->host->breaker.unknown && !f->went_out && o->http_err != DF_OK && !o->never_sent) {
		p->attempts--; /* nobody was asked yet: it is the run's, not this call's */
	}
	if (other && o->answer->class != DF_CALL_OK && other->sent) {
		df_flight_free(f); /* the other may still succeed, and decides */
		if (!p->flight) {
			p->flight = p->hedge;
			p->hedge = NULL;
		}
		return;
	}
	if (other)
		df_flight_drop(other);
	if (o->answer->class == DF_CALL_OK) {
		r->n_rates = r->refuses_until_ns = 0;
		enum df_err err = take_answer(p, r, o->answer);
		if (err == DF_OK) {
			df_retry_quota_give(&c->quota, p->cost ? p->cost : 1);
			df_flight_free(f);
			df_piece_done(p);
			return;
		}
		if (err == DF_ERR_NOMEM) {
			df_flight_free(f);
			df_piece_failed(p, err, DF_CALL_BAD_ANSWER, "no memory for an answer");
			return;
		}
		if (err == DF_ERR_LIMIT) { /* another would be no shorter, and would be paid for too */
			df_flight_free(f);
			df_piece_failed(p, err, DF_CALL_BAD_ANSWER, "the answer is longer than a call may have");
			return;
		}
		o->answer->class = DF_CALL_BAD_ANSWER;
		(void)snprintf(o->answer->message, sizeof(o->answer->message),
			       "%zu vectors of %u numbers do not fit what was asked for", o->answer->n_vector,
			       o->answer->dim);
	}
	struct df_attempt_facts facts = {
		.class = o->answer->class,
		.status = o->status,
		.attempts = p->attempts,
		.rates = p->rates,
		.once_used = p->once_used,
		.text_passed = p->own->text_passed,
		.host_good = host_good,
		.rates_alone = rates_alone(p, r),
		.n_input = p->n_input,
	};
	/* the answer may lie in the flight */
	struct df_answer kept = *o->answer;
	struct df_outcome outcome = *o;
	outcome.answer = &kept;
	df_flight_free(f);
	act(p, r, &outcome, df_next_after(options_of(p), &facts));
}

/* ------------------------------------------------------------------ the end of a piece, and of a call */

static bool of_the_run(enum df_err err)
{
	return err == DF_ERR_QUOTA || err == DF_ERR_USAGE || err == DF_ERR_INTERRUPTED;
}

static void remember(struct df_own *o, enum df_err err, enum df_call_class class, const char *message)
{
	bool first = !o->call->message[0];
	if (of_the_run(err) && !o->run_err) {
		o->run_err = err;
		first = true;
	}
	if (first) {
		(void)snprintf(o->call->message, sizeof(o->call->message), "%s", message);
		o->class = class;
	}
}

void df_piece_failed(struct df_piece *p, enum df_err err, enum df_call_class class, const char *message)
{
	struct df_own *o = p->own;
	remember(o, err, class, message);
	if (o->call->ask.kind == DF_ASK_EMBED)
		df_piece_rows_failed(p, err);
	else
		o->call->err = err;
	df_piece_done(p);
}

void df_piece_done(struct df_piece *p)
{
	struct df_own *o = p->own;
	struct df_caller *c = o->caller;
	if (p->link)
		df_route_dirty(df_piece_route(p)); /* its alarm may have been this piece's */
	df_piece_unqueue(p);
	df_alarm_clear(&c->alarms, &p->alarm);
	if (p->hedge)
		df_flight_drop(p->hedge);
	if (p->flight)
		df_flight_drop(p->flight);
	struct df_piece **at = &o->pieces;
	while (*at != p)
		at = &(*at)->sibling;
	*at = p->sibling;
	df_piece_free(p);
	if (!o->pieces)
		df_own_finish(o);
}

void df_own_failed(struct df_own *o, enum df_err err, const char *message)
{
	remember(o, err, DF_CALL_RETRY, message);
	o->call->err = err;
	df_own_finish(o);
}

static void trace_call(const struct df_own *o)
{
	const struct df_caller *c = o->caller;
	const struct df_call *call = o->call;
	if (!c->trace)
		return;
	const struct df_route *r = call->route[0];
	uint64_t now_ns = df_http_now(c->http);
	struct df_span span = {
		.kind = DF_SPAN_CALL,
		.id = o->span,
		.doc_id = call->doc_id,
		.stage = call->stage,
		.model = r->model,
		.provider = df_str_from(r->provider->name),
		.start_wall_ns = o->start_wall_ns,
		.duration_ns = now_ns > o->start_ns ? now_ns - o->start_ns : 0,
		.queue_ns = o->queue_ns,
		.first_token_ns = o->first_token_ns,
		.attempt = call->attempts,
		.status = (uint32_t)o->status,
		.inputs = call->ask.kind == DF_ASK_EMBED ? (uint32_t)call->ask.n_input : 0,
		.usage = call->cached ? (struct df_usage){0} : call->answer.usage,
		.usd = call->usd,
		.cached = call->cached,
		.class = call->err == DF_OK ? DF_CALL_OK : o->class,
	};
	df_trace_put(c->trace, &span);
}

void df_own_finish(struct df_own *o)
{
	struct df_caller *c = o->caller;
	struct df_call *call = o->call;
	if (call->ask.kind == DF_ASK_EMBED && call->err == DF_OK)
		df_own_embed_end(o);
	if (o->run_err)
		call->err = o->run_err;
	call->cached = call->err == DF_OK && !call->attempts;
	if (call->cached) {
		atomic_fetch_add_explicit(&c->n_hits, 1, memory_order_relaxed);
		if (call->on_text && call->ask.kind == DF_ASK_CHAT && call->answer.text.n)
			call->on_text(call->text_self ? call->text_self : call->self, call->answer.text);
	}
	if (call->err != DF_OK)
		atomic_fetch_add_explicit(&c->n_failed, 1, memory_order_relaxed);
	trace_call(o);
	if (o->newer)
		o->newer->older = o->older;
	else
		c->newest = o->older;
	if (o->older)
		o->older->newer = o->newer;
	o->older = o->newer = NULL;
	*c->done_tail = o;
	c->done_tail = &o->next;
	df_own_unshare(o);
}
