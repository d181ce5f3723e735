// SPDX-License-Identifier: Apache-2.0
/* call_fake: one attempt at a provider without a network: its answer is made at once, and given when it is time, in pieces if it is a stream. */
#include <stdlib.h>

#include "worker/call/call_own.h"

/* The answer in one block, to lie until it is time. */
static struct df_answer *keep(const struct df_answer *a)
{
	size_t vectors = (size_t)a->n_vector * a->dim * sizeof(float);
	struct df_answer *k = malloc(sizeof(*k) + vectors + a->text.n + a->model.n);
	if (!k)
		return NULL;
	char *at = (char *)(k + 1);
	*k = *a;
	if (vectors) {
		k->vector = (float *)(void *)at;
		memcpy(at, a->vector, vectors);
		at += vectors;
	}
	if (a->text.n)
		memcpy(at, a->text.p, a->text.n);
	k->text.p = at;
	if (a->model.n)
		memcpy(at + a->text.n, a->model.p, a->model.n);
	k->model.p = at + a->text.n;
	return k;
}

/* As a server would have put it. */
static long status_of(const struct df_answer *a)
{
	static const long status[DF_N_CALL_CLASS] = {
		[DF_CALL_OK] = 200,   [DF_CALL_RETRY] = 500,     [DF_CALL_RATE] = 429,      [DF_CALL_QUOTA] = 429,
		[DF_CALL_AUTH] = 401, [DF_CALL_BAD_INPUT] = 400, [DF_CALL_NOT_FOUND] = 404, [DF_CALL_BAD_ANSWER] = 200};
	return a->class < DF_N_CALL_CLASS ? status[a->class] : 0;
}

static void pass_piece(struct df_flight *f)
{
	struct df_flight_stream *s = f->stream;
	struct df_own *o = f->piece->own;
	size_t n = s->rest.n / s->pieces_left;
	while (n < s->rest.n && ((unsigned char)s->rest.p[n] & 0xc0U) == 0x80U)
		n++; /* between two code points */
	struct df_str text = {s->rest.p, n};
	s->rest = (struct df_str){s->rest.p + n, s->rest.n - n};
	s->pieces_left--;
	if (!f->first_token_ns)
		f->first_token_ns = df_http_now(o->caller->http) - f->sent_ns;
	if (o->call->on_text && n) {
		o->text_passed = true;
		o->call->on_text(o->call->text_self ? o->call->text_self : o->call->self, text);
	}
}

void df_flight_fake_time(struct df_flight *f)
{
	struct df_caller *c = f->route->caller;
	if (f->stream && f->fake->class == DF_CALL_OK && f->stream->pieces_left) {
		pass_piece(f);
		if (f->stream->pieces_left) {
			df_alarm_set(&c->alarms, &f->alarm, f->alarm.at_ns + f->step_ns);
			return;
		}
	}
	struct df_limit_news news = {-1, -1, -1, -1, -1, -1, -1};
	struct df_outcome outcome = {.answer = f->fake, .status = status_of(f->fake), .news = &news};
	f->went_out = true;
	df_flight_over(f, &outcome);
}

void df_flight_fake(struct df_flight *f, const struct df_ask *ask)
{
	struct df_caller *c = f->route->caller;
	struct df_answer a = {.retry_after_ms = -1};
	uint64_t delay_ns = 0;
	uint32_t pieces = 1;
	df_arena_reset(&c->scratch);
	f->route->provider->answer(f->route->state, ask, &c->scratch, &a, &delay_ns, &pieces);
	f->fake = keep(&a);
	if (!f->fake || (ask->stream && df_flight_stream(f) != DF_OK)) {
		df_flight_unsent(f, "no memory for an answer", DF_CALL_RETRY);
		return;
	}
	if (f->stream) {
		f->stream->rest = f->fake->text;
		f->stream->pieces_left = pieces ? pieces : 1;
		delay_ns /= f->stream->pieces_left;
		f->step_ns = delay_ns;
	}
	df_alarm_set(&c->alarms, &f->alarm, f->sent_ns + delay_ns);
}
