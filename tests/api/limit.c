// SPDX-License-Identifier: Apache-2.0
/* limit: the three models and the days. */
#include "tests/api/limit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define EPSILON 1e-6 /* of a request: sums of doubles are not exact */

static uint64_t minute_ns(const struct options *o)
{
	return (uint64_t)(60e9 / o->scale);
}

static uint64_t day_ns(const struct options *o)
{
	return (uint64_t)(86400e9 / o->scale);
}

static double bucket_size(double burst, double rate, double share)
{
	return burst > 0 ? burst : fmax(1, rate * share);
}

/* ns until `level` has grown to `want`; UINT64_MAX when the bucket is too small for it. */
static uint64_t bucket_wait(double level, double want, double size, double per_ns)
{
	if (want > size + EPSILON)
		return UINT64_MAX;
	return want <= level + EPSILON ? 0 : (uint64_t)ceil((want - level) / per_ns);
}

static void bucket_look(struct limit *l, const struct options *o, uint64_t now, double tokens, struct verdict *v)
{
	double size = bucket_size(o->burst, o->rpm, 1.0 / 60), token_size = bucket_size(o->token_burst, o->tpm, 1);
	double per_ns = o->rpm / (double)minute_ns(o), tokens_per_ns = o->tpm / (double)minute_ns(o);
	double passed = (double)(now - l->level_ns);
	l->requests = l->begun ? fmin(size, l->requests + passed * per_ns) : size;
	l->tokens = l->begun ? fmin(token_size, l->tokens + passed * tokens_per_ns) : token_size;
	l->level_ns = now;
	uint64_t wait = o->rpm > 0 ? bucket_wait(l->requests, 1, size, per_ns) : 0;
	uint64_t token_wait = o->tpm > 0 ? bucket_wait(l->tokens, tokens, token_size, tokens_per_ns) : 0;
	v->reason = wait > 0 ? LIMIT_REQUESTS : token_wait > 0 ? LIMIT_TOKENS : LIMIT_OK;
	v->wait_ns = wait > token_wait ? wait : token_wait;
	v->requests_left = l->requests;
	v->tokens_left = l->tokens;
	v->requests_reset_ns = o->rpm > 0 ? (uint64_t)((size - l->requests) / per_ns) : 0;
	v->tokens_reset_ns = o->tpm > 0 ? (uint64_t)((token_size - l->tokens) / tokens_per_ns) : 0;
}

static void sliding_forget(struct limit *l, const struct options *o, uint64_t now)
{
	while (l->n > 0 && l->taken[l->first].at_ns + minute_ns(o) <= now) {
		l->window_tokens -= l->taken[l->first].tokens;
		l->first = (l->first + 1) % l->cap;
		l->n--;
	}
}

static void sliding_add(struct limit *l, uint64_t now, uint64_t tokens)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct taken *ring = malloc(cap * sizeof *ring);
		if (ring == NULL) {
			perror("api_server: memory");
			abort();
		}
		for (size_t i = 0; i < l->n; i++)
			ring[i] = l->taken[(l->first + i) % l->cap];
		free(l->taken);
		l->taken = ring;
		l->first = 0;
		l->cap = cap;
	}
	l->taken[(l->first + l->n++) % l->cap] = (struct taken){now, tokens};
	l->window_tokens += tokens;
}

/* ns until `requests` more and `tokens` more fit: the window must lose its oldest. */
static uint64_t sliding_wait(const struct limit *l, const struct options *o, uint64_t now, double requests,
			     double tokens)
{
	double n = (double)l->n, t = (double)l->window_tokens;
	uint64_t at = now;
	for (size_t i = 0; i < l->n; i++) {
		if ((o->rpm <= 0 || n + requests <= o->rpm) && (o->tpm <= 0 || t + tokens <= o->tpm))
			break;
		const struct taken *oldest = &l->taken[(l->first + i) % l->cap];
		n--;
		t -= (double)oldest->tokens;
		at = oldest->at_ns + minute_ns(o);
	}
	if ((o->rpm > 0 && n + requests > o->rpm) || (o->tpm > 0 && t + tokens > o->tpm))
		return UINT64_MAX;
	return at - now;
}

static void sliding_look(struct limit *l, const struct options *o, uint64_t now, double tokens, struct verdict *v)
{
	sliding_forget(l, o, now);
	if (o->rpm > 0 && (double)l->n + 1 > o->rpm)
		v->reason = LIMIT_REQUESTS;
	else if (o->tpm > 0 && (double)l->window_tokens + tokens > o->tpm)
		v->reason = LIMIT_TOKENS;
	v->wait_ns = v->reason == LIMIT_OK ? 0 : sliding_wait(l, o, now, 1, tokens);
	v->requests_left = o->rpm - (double)l->n;
	v->tokens_left = o->tpm - (double)l->window_tokens;
	uint64_t all = l->n > 0 ? l->taken[(l->first + l->n - 1) % l->cap].at_ns + minute_ns(o) - now : 0;
	v->requests_reset_ns = v->tokens_reset_ns = all;
}

static void fixed_look(struct limit *l, const struct options *o, uint64_t now, double tokens, struct verdict *v)
{
	uint64_t window = now / minute_ns(o);
	if (!l->begun || window != l->level_ns)
		l->requests = l->tokens = 0;
	l->level_ns = window;
	if (o->rpm > 0 && l->requests + 1 > o->rpm)
		v->reason = LIMIT_REQUESTS;
	else if (o->tpm > 0 && l->tokens + tokens > o->tpm)
		v->reason = LIMIT_TOKENS;
	uint64_t rest = (window + 1) * minute_ns(o) - now;
	bool never = (o->rpm > 0 && o->rpm < 1) || (o->tpm > 0 && tokens > o->tpm);
	v->wait_ns = v->reason == LIMIT_OK ? 0 : never ? UINT64_MAX : rest;
	v->requests_left = o->rpm - l->requests;
	v->tokens_left = o->tpm - l->tokens;
	v->requests_reset_ns = v->tokens_reset_ns = rest;
}

static void day_look(struct limit *l, const struct options *o, uint64_t now, double tokens, struct verdict *v)
{
	uint64_t day = now / day_ns(o);
	if (day != l->day)
		l->day_requests = l->day_tokens = 0;
	l->day = day;
	enum limit_reason reason = LIMIT_OK;
	if (o->rpd > 0 && (double)l->day_requests + 1 > o->rpd)
		reason = LIMIT_DAY_REQUESTS;
	else if (o->tpd > 0 && (double)l->day_tokens + tokens > o->tpd)
		reason = LIMIT_DAY_TOKENS;
	if (reason != LIMIT_OK) {
		uint64_t rest = (day + 1) * day_ns(o) - now;
		v->reason = reason;
		v->wait_ns = v->wait_ns > rest ? v->wait_ns : rest;
	}
}

/* After limit_look of its model: the levels are of now. */
static void take(struct limit *l, const struct options *o, uint64_t now, uint64_t tokens)
{
	if (o->limit == LIMIT_SLIDING) {
		if (o->rpm > 0 || o->tpm > 0)
			sliding_add(l, now, tokens);
	} else {
		double sign = o->limit == LIMIT_BUCKET ? -1 : 1;
		l->requests += sign;
		l->tokens += sign * (double)tokens;
	}
	l->day_requests++;
	l->day_tokens += tokens;
}

struct verdict limit_take(struct limit *l, const struct options *o, uint64_t now, uint64_t tokens)
{
	static void (*const look[])(struct limit *, const struct options *, uint64_t, double, struct verdict *) = {
		[LIMIT_BUCKET] = bucket_look, [LIMIT_SLIDING] = sliding_look, [LIMIT_FIXED] = fixed_look};
	struct verdict v = {.requests_limit = -1, .tokens_limit = -1};
	look[o->limit](l, o, now, (double)tokens, &v);
	day_look(l, o, now, (double)tokens, &v);
	l->begun = true;
	if (v.reason == LIMIT_OK && o->concurrency > 0 && l->n_in_flight >= o->concurrency) {
		v.reason = LIMIT_CONCURRENCY;
		v.wait_ns = 1000000;
	}
	if (v.reason == LIMIT_OK || !o->enforce || (o->count_refused && v.reason <= LIMIT_TOKENS)) {
		take(l, o, now, tokens);
		v.requests_left -= 1;
		v.tokens_left -= (double)tokens;
	}
	v.requests_left = fmax(0, v.requests_left);
	v.tokens_left = fmax(0, v.tokens_left);
	if (o->rpm > 0)
		v.requests_limit = o->told_rpm > 0 ? o->told_rpm : o->rpm * o->scale;
	if (o->tpm > 0)
		v.tokens_limit = o->told_tpm > 0 ? o->told_tpm : o->tpm * o->scale;
	return v;
}
