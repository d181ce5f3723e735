// SPDX-License-Identifier: Apache-2.0
/* call_send: one attempt on its way: the request and its stream, and a hedge beside it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

static const struct df_retry_options *options_of(const struct df_flight *f)
{
	const struct df_retry_options *o = f->piece->own->call->retry;
	return o ? o : &df_retry_defaults;
}

/* ------------------------------------------------------------------ a stream */

static enum df_err on_event(void *self, struct df_str type, struct df_str data)
{
	struct df_flight *f = self;
	struct df_own *o = f->piece->own;
	struct df_caller *c = o->caller;
	struct df_flight_stream *s = f->stream;
	struct df_str text = {NULL, 0};
	struct df_ask ask = df_piece_ask(f->piece, f->route);
	df_arena_reset(&c->scratch);
	if (c->cassette)
		df_tape_add(&s->tape, type, data);
	f->route->provider->event(&ask, type, data, &s->stream, &text, &c->scratch, &s->answer);
	if (s->stream.failed)
		return DF_ERR_END; /* no more events are wanted */
	if (!text.n)
		return DF_OK;
	if (!f->first_token_ns)
		f->first_token_ns = df_clock_mono(&df_clock_real) - f->sent_ns;
	if (o->call->on_text) {
		o->text_passed = true;
		o->call->on_text(o->call->text_self ? o->call->text_self : o->call->self, text);
	}
	return DF_OK;
}

static bool on_lines(struct df_flight *f, const char *p, size_t n)
{
	struct df_buf *line = &f->stream->line;
	while (n) {
		const char *end = memchr(p, '\n', n);
		size_t part = end ? (size_t)(end - p) : n;
		if (df_buf_add(line, p, part) != DF_OK)
			return false;
		p += part + (end ? 1 : 0);
		n -= part + (end ? 1 : 0);
		struct df_str event = df_str_trim(df_buf_str(line));
		if (!end)
			break;
		enum df_err err = event.n ? on_event(f, (struct df_str){NULL, 0}, event) : DF_OK;
		df_buf_reset(line);
		if (err != DF_OK)
			return false;
	}
	return true;
}

/* Asked again, it would be as long. */
static void event_too_long(struct df_flight_stream *s)
{
	s->answer.class = DF_CALL_BAD_ANSWER;
	(void)snprintf(s->answer.message, sizeof(s->answer.message), "an event of the stream has more than %u MB",
		       DF_SSE_EVENT_MAX >> 20);
	s->stream.failed = true;
}

/* The answer is whole, and its server says no more but does not hang up: nobody waits for it till the time-out. */
static void linger_ends(void *self)
{
	struct df_flight *f = self;
	f->stream->linger = 0;
	if (f->http)
		df_http_cancel(f->route->caller->http, f->http);
}

static bool on_data(void *self, const char *p, size_t n)
{
	struct df_flight *f = self;
	struct df_caller *c = f->route->caller;
	bool more = true;
	df_engine_enter(c);
	if (df_stream_take(&f->stream->stream, f->route->provider->stream_form, p, n, &f->stream->answer))
		more = !f->stream->stream.failed;
	else if (f->route->provider->stream_form == DF_STREAM_LINES)
		more = on_lines(f, p, n);
	else
		more = df_sse_feed(&f->stream->sse, p, n, on_event, f) == DF_OK;
	if (!more && !f->stream->stream.failed)
		event_too_long(f->stream);
	if (f->stream->stream.ended && !f->stream->linger &&
	    df_http_at(c->http, df_http_now(c->http) + DF_STREAM_LINGER_MS * DF_MS, linger_ends, f,
		       &f->stream->linger) != DF_OK)
		f->stream->linger = 0; /* the request has its own time-out */
	df_engine_leave(c);
	return more;
}

enum df_err df_flight_stream(struct df_flight *f)
{
	struct df_flight_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return DF_ERR_NOMEM;
	df_sse_init(&s->sse, DF_SSE_EVENT_MAX);
	df_buf_init(&s->line, DF_SSE_EVENT_MAX);
	s->answer.retry_after_ms = -1;
	f->stream = s;
	return DF_OK;
}

static void stream_free(struct df_flight *f)
{
	if (!f->stream)
		return;
	if (f->stream->linger)
		df_http_unset(f->route->caller->http, f->stream->linger);
	df_sse_release(&f->stream->sse);
	df_buf_release(&f->stream->line);
	df_stream_release(&f->stream->stream);
	df_tape_release(&f->stream->tape);
	free(f->stream);
	f->stream = NULL;
}

/* ------------------------------------------------------------------ a request */

/* An end event makes a stream whole, however the connection ended behind it; nothing else does. */
static void read_stream(struct df_flight *f, const struct df_http_response *r, const struct df_ask *ask,
			struct df_answer *a, bool *ret_whole)
{
	struct df_flight_stream *s = f->stream;
	*ret_whole = s->stream.failed || s->stream.ended || r->err == DF_OK;
	if (*ret_whole && !df_stream_typed(&s->stream, f->route->provider->stream_form, r, a))
		return;
	if (s->stream.failed)
		*a = s->answer;
	else if (*ret_whole)
		df_stream_answer(ask, &s->stream, &f->route->caller->scratch, a);
}

/* A whole answer where a stream was asked for: it is shown in one piece. */
static void show_plain(struct df_flight *f, const struct df_answer *a)
{
	struct df_own *o = f->piece->own;
	if (a->class != DF_CALL_OK || !o->call->on_text || !a->text.n)
		return;
	o->text_passed = true;
	o->call->on_text(o->call->text_self ? o->call->text_self : o->call->self, a->text);
}

/* A recording that fails costs the recording, not the run. */
static void record(struct df_flight *f, const struct df_http_response *r, const struct df_ask *ask)
{
	struct df_caller *c = f->route->caller;
	bool streamed = f->stream && !f->stream->stream.plain && r->status >= 200 && r->status < 300;
	const struct df_tape *tape = streamed ? &f->stream->tape : NULL;
	if (c->cassette && c->record_fail.code == DF_OK)
		c->record_fail.code =
			df_cassette_put(c->cassette, f->route->provider, ask, &f->route->to, r, tape, &c->record_fail);
}

static void answered(void *self, const struct df_http_response *r)
{
	struct df_flight *f = self;
	struct df_caller *c = f->route->caller;
	f->http = 0;
	f->went_out = r->phase != DF_HTTP_CONNECT || r->status != 0;
	if (f->dropped)
		return;
	df_engine_enter(c);
	struct df_answer a = {.retry_after_ms = -1};
	struct df_ask ask = df_piece_ask(f->piece, f->route);
	struct df_limit_news news = {-1, -1, -1, -1, -1, -1, -1};
	struct df_outcome outcome = {.answer = &a, .http_err = r->err, .status = r->status, .news = &news};
	bool whole = false, plain = f->stream && f->stream->stream.plain && !f->stream->stream.failed;
	struct df_http_response as_one = *r;
	if (plain) {
		as_one.body = df_buf_str(&f->stream->stream.whole);
		r = &as_one;
	}
	df_arena_reset(&c->scratch);
	record(f, r, &ask);
	if (f->stream && !plain && r->status >= 200 && r->status < 300)
		read_stream(f, r, &ask, &a, &whole);
	if (whole)
		outcome.http_err = DF_OK;
	else
		f->route->provider->parse(&ask, r, &c->scratch, &a);
	if (!whole && r->err != DF_OK && !a.message[0])
		(void)snprintf(a.message, sizeof(a.message), "%s", r->message);
	if (plain)
		show_plain(f, &a);
	else if (f->stream && !whole && a.class == DF_CALL_OK)
		a.class = DF_CALL_BAD_ANSWER; /* a stream without its end is no answer, whatever its bytes say */
	df_answer_mask(&a, &f->route->to);
	if (f->route->provider->limits && r->status)
		f->route->provider->limits(r, &news);
	df_flight_over(f, &outcome);
	df_engine_leave(c);
}

void df_flight_unsent(struct df_flight *f, const char *message, enum df_call_class class)
{
	struct df_answer a = {.class = class, .retry_after_ms = -1};
	struct df_outcome outcome = {.answer = &a, .http_err = class == DF_CALL_RETRY ? DF_ERR_IO : DF_OK};
	(void)snprintf(a.message, sizeof(a.message), "%s", message);
	df_answer_mask(&a, &f->route->to);
	outcome.never_sent = true;
	df_flight_over(f, &outcome);
}

static void send_request(struct df_flight *f, const struct df_ask *ask)
{
	struct df_caller *c = f->route->caller;
	struct df_http_parts parts = {.method = "POST"};
	struct df_fail fail = {0};
	df_arena_reset(&c->scratch);
	if (f->route->provider->build(ask, &f->route->to, &c->scratch, &parts, &fail) != DF_OK) {
		df_flight_unsent(f, fail.msg, DF_CALL_BAD_INPUT);
		return;
	}
	if (ask->stream && df_flight_stream(f) != DF_OK) {
		df_flight_unsent(f, "no memory for a stream", DF_CALL_RETRY);
		return;
	}
	struct df_http_request request = {
		.method = parts.method,
		.url = parts.url,
		.header = parts.header,
		.n_header = parts.n_header,
		.body = parts.body,
		.timeout = options_of(f)->timeout,
		.no_repeat = true,
		.on_data = ask->stream ? on_data : NULL,
		.on_done = answered,
		.self = f,
	};
	if (df_http_send(c->http, &request, &f->http, &fail) != DF_OK)
		df_flight_unsent(f, fail.msg, DF_CALL_RETRY);
}

/* ------------------------------------------------------------------ a flight */

static void alarm_rang(struct df_alarm *alarm)
{
	struct df_flight *f = DF_CONTAINER(alarm, struct df_flight, alarm);
	if (f->sent) {
		df_flight_fake_time(f);
	} else if (f->route->caller->ending || (f->route->limit && !df_limit_valid(f->route->limit, &f->reservation))) {
		df_flight_drop(f); /* a hedge is not worth another place; and nothing new is sent at the end */
	} else {
		df_flight_send(f);
	}
}

static void silent_rang(struct df_alarm *alarm)
{
	df_flight_hedge(DF_CONTAINER(alarm, struct df_flight, silent));
}

struct df_flight *df_flight_make(struct df_piece *p, struct df_route *r)
{
	if (df_engine_alarms(r->caller, 2) != DF_OK)
		return NULL;
	struct df_flight *f = calloc(1, sizeof(*f));
	if (!f) {
		df_engine_alarms_gone(r->caller, 2);
		return NULL;
	}
	f->piece = p;
	f->route = r;
	f->slot = DF_LIMIT_NO_SLOT;
	f->alarm.ring = alarm_rang;
	f->silent.ring = silent_rang;
	r->in_flight++;
	return f;
}

void df_flight_send(struct df_flight *f)
{
	struct df_piece *p = f->piece;
	struct df_own *o = p->own;
	struct df_caller *c = o->caller;
	uint64_t now_ns = df_http_now(c->http);
	struct df_ask ask = df_piece_ask(p, f->route);
	f->sent = true;
	f->sent_ns = now_ns;
	f->probe = df_breaker_sent(&f->route->host->breaker);
	f->route_probe = df_breaker_sent(&f->route->breaker);
	if (f->probe || f->route_probe) { /* who came while it might be asked does not wait for what the probe brings */
		f->route->rescan = true;
		df_route_dirty(f->route);
	}
	o->queue_ns += now_ns - p->since_ns;
	o->call->attempts++;
	if (!p->attempts && !p->rates)
		p->first_ns = now_ns;
	p->attempts++;
	atomic_fetch_add_explicit(&c->n_requests, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&c->in_flight, 1, memory_order_relaxed);
	if (o->call->attempts > 1 && p->attempts + p->rates > 1)
		atomic_fetch_add_explicit(&c->n_retries, 1, memory_order_relaxed);
	p->tried = true;
	uint64_t hedge_ms = options_of(f)->hedge_ms;
	if (hedge_ms && !ask.stream && !f->is_hedge)
		df_alarm_set(&c->alarms, &f->silent, now_ns + hedge_ms * DF_MS);
	if (f->route->provider->answer)
		df_flight_fake(f, &ask);
	else
		send_request(f, &ask);
}

void df_flight_hedge(struct df_flight *f)
{
	struct df_piece *p = f->piece;
	struct df_route *r = f->route;
	struct df_caller *c = r->caller;
	struct df_fail fail = {0};
	if (p->hedge || c->ending || r->over || r->in_flight >= r->cap || r->host->breaker.open || r->breaker.open ||
	    df_route_waits(r))
		return;
	struct df_flight *h = df_flight_make(p, r);
	if (!h)
		return;
	h->is_hedge = true;
	if (r->limit && df_limit_enter(r->limit, &h->slot) != DF_OK) {
		df_flight_free(h);
		return;
	}
	h->has_slot = r->limit != NULL;
	if (!df_flight_may_pay(h) || df_flight_reserve(h, &h->at_ns, &fail) != DF_OK) {
		df_flight_free(h);
		return;
	}
	p->hedge = h;
	df_alarm_set(&c->alarms, &h->alarm, h->at_ns);
}

void df_flight_free(struct df_flight *f)
{
	struct df_route *r = f->route;
	struct df_caller *c = r->caller;
	struct df_piece *p = f->piece;
	df_flight_unready(f);
	df_alarm_clear(&c->alarms, &f->alarm);
	df_alarm_clear(&c->alarms, &f->silent);
	df_engine_alarms_gone(c, 2);
	if (f->has_reservation)
		df_limit_cancel(r->limit, &f->reservation);
	if (f->has_money)
		df_purse_cancel(c->purse, f->worst_usd);
	if (f->has_slot)
		df_limit_leave(r->limit, f->slot);
	if (f->sent)
		atomic_fetch_sub_explicit(&c->in_flight, 1, memory_order_relaxed);
	if (p->flight == f)
		p->flight = NULL;
	if (p->hedge == f)
		p->hedge = NULL;
	r->in_flight--;
	stream_free(f);
	free(f->fake);
	free(f);
}

void df_flight_drop(struct df_flight *f)
{
	struct df_outcome outcome = {.http_err = DF_ERR_INTERRUPTED};
	df_route_dirty(f->route);
	f->dropped = true;
	f->went_out = f->sent && f->fake;
	if (f->http)
		df_http_cancel(f->route->caller->http, f->http);
	if (f->sent)
		df_flight_settle(f, &outcome);
	df_flight_free(f);
}
