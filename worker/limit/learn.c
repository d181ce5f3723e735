// SPDX-License-Identifier: Apache-2.0
/*
 * learn: the rate that a server really allows, from when it refuses.
 *
 * DESIGN. Servers count differently, and few say how. Two kinds are told apart by how long they refuse:
 *   a window (fixed or sliding, of a minute) has let through exactly its number in the minute before, and then refuses for seconds: that number x 0.98;
 *   a bucket refuses until one token has dripped in. Its rate lies between what went well and what was refused; between two refusals (bucket empty at
 *   both) it has let through what dripped in, less what ran over while nobody asked: that is a lower bound, the rate itself the upper. The gap is halved: a rate
 *   that goes well for so many requests that a bucket would have run dry is the new lower end, a refused one the new upper end. At 3 % it is
 *   found: four to seven refusals. When a minute or more lay between two refusals, the count of it is exact.
 * Afterwards the rate rises by 1 % a minute, and for ten minutes not up to what was refused. Limits change, and other programs use the same key.
 */
#include "worker/limit/state.h"

#include "base/clock.h"

#define PER_MILLE UINT64_C(1000)
#define RATE_MIN 100                 /* thousandths a minute: one in ten minutes */
#define FOUND 1030                   /* per mille: upper over lower end */
#define LONG_ENOUGH (50 * DF_SEC)    /* of a minute, to take its count for the minute's */
#define WINDOW_WAIT (3 * DF_SEC)     /* who refuses for longer counts over a window */
#define REMEMBER (10 * DF_MINUTE_NS) /* a rate that was refused */
#define ENOUGH 20                    /* requests between two refusals: known to 5 % */
#define BACKOFF_MS UINT64_C(1000)
#define BACKOFF_DOUBLINGS 5
#define KNOWN 8 /* n_blocked of a server that counts over a window, which has been reckoned with */

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

static void set_rate(struct df_cell *c, uint64_t rate, uint64_t low, uint64_t high, uint64_t now)
{
	c->rate_requests = rate < RATE_MIN ? RATE_MIN : rate;
	c->rate_low = low;
	c->rate_high = high;
	c->rate_since = now;
	c->n_since = 0;
}

int64_t df_learn_told(int64_t limit, int64_t left, int64_t reset_ms)
{
	if (limit <= 0)
		return -1;
	if (left < 0 || left >= limit || reset_ms <= 0)
		return reset_ms > 120000 ? -1 : limit;
	/* Where the reset is the time to fill up what is missing, it tells of which span the limit is: 1 of 10,000 missing and 8.64 s are a day. */
	double span_ms = (double)reset_ms * (double)limit / (double)(limit - left);
	if (reset_ms > 120000 || (span_ms > 3600e3 && reset_ms > 1000))
		return -1;
	return limit;
}

uint64_t df_learn_trial_ns(const struct df_cell *c)
{
	return c->n_blocked ? clamp(c->n_blocked * 250 * DF_MS, 0, DF_SEC) : 0;
}

/* ------------------------------------------------------------------ upwards */

/* Requests after which a rate has gone well, when the one that was refused is `high`: a bucket of 4 would have run dry twice. */
static uint64_t proof(uint64_t rate, uint64_t high)
{
	uint64_t gap = (high - rate) * PER_MILLE / rate;
	return clamp(8 * PER_MILLE / (gap ? gap : 1), 16, 400);
}

void df_learn_rise(struct df_cell *c, uint64_t configured, uint64_t now)
{
	uint64_t rate = c->rate_requests, high = c->rate_high;
	if (high > rate && high * PER_MILLE > rate * FOUND && c->n_since >= proof(rate, high)) {
		set_rate(c, rate + (high - rate) / 2, rate, high, now);
		return;
	}
	if (now < c->rate_since + DF_MINUTE_NS || !c->refused_at)
		return;
	uint64_t more = rate + rate / 100 + 1;
	bool forgotten = now > c->refused_at + REMEMBER;
	if (high && !forgotten && more > high - high / 100)
		return;
	if (configured && more >= configured)
		c->rate_requests = c->rate_low = c->rate_high = 0; /* as configured again */
	else
		set_rate(c, more, rate, more < high ? high : 0, now);
}

/* ------------------------------------------------------------------ refused */

/* The rate at which it went until now: the allowed one, or what there was when that was less (and nothing was held up). */
static uint64_t rate_until_now(const struct df_cell *c, const struct df_refusal *r)
{
	uint64_t rate = c->rate_requests;
	if (!rate || (r->configured && r->configured < rate))
		rate = r->configured;
	if (rate && (r->active_ns < 2 * DF_SEC || (c->refused_at && r->now < c->refused_at + DF_MINUTE_NS)))
		return rate;
	uint64_t span = r->active_ns > DF_SEC ? r->active_ns : DF_SEC;
	double actual = (double)(r->accepted_minute + 1) * 1000 * (double)DF_MINUTE_NS / (double)span;
	return !rate || actual * 1.25 < (double)rate ? (uint64_t)actual : rate;
}

static void wait_for(struct df_cell *c, const struct df_refusal *r, bool is_window)
{
	uint64_t doublings = c->n_blocked == KNOWN ? 2 : clamp(c->n_blocked, 0, BACKOFF_DOUBLINGS);
	uint64_t backoff = (BACKOFF_MS << doublings) * DF_MS;
	uint64_t wait = r->wait_ms >= 0 ? (uint64_t)r->wait_ms * DF_MS : 0;
	/* What a server says is a floor. Nothing said, or proved too short: no more than that. */
	if (r->wait_ms < 0 || (c->n_blocked > 1 && wait < WINDOW_WAIT)) {
		uint64_t window = r->active_ns < DF_MINUTE_NS ? DF_MINUTE_NS - r->active_ns + DF_LIMIT_RING_NS : 0;
		if (is_window && window) /* it has room when the first call of its minute leaves */
			backoff = window;
		wait = wait > backoff ? wait : backoff;
	}
	uint64_t until = r->now + clamp(wait, DF_MS, 24 * 60 * DF_MINUTE_NS);
	c->floor = c->floor > until ? c->floor : until;
}

/* What dripped in since the last refusal, thousandths a minute: an empty bucket then and now. */
static uint64_t dripped(uint64_t n, uint64_t since_ns)
{
	return since_ns ? (uint64_t)((double)n * 1000 * (double)DF_MINUTE_NS / (double)since_ns) : 0;
}

static void halve(struct df_cell *c, const struct df_refusal *r, uint64_t rate)
{
	uint64_t since = c->refused_at ? r->now - c->refused_at : 0, n = c->n_after, low = c->rate_low;
	uint64_t at_least = n ? dripped(n - 1, since) : 0, most = rate / 100 * 98;
	if (low * FOUND > rate * PER_MILLE)
		low = 0; /* what went well does not any more */
	low = at_least > low ? at_least : low;
	if (since > LONG_ENOUGH) { /* its count is exact */
		uint64_t counted = clamp(dripped(n, since) / 100 * 98, RATE_MIN, most);
		set_rate(c, counted, counted, counted / PER_MILLE * FOUND, r->now);
	} else if (since && n >= ENOUGH && at_least >= low) { /* its count is good */
		set_rate(c, clamp(dripped(n, since) / 1000 * 985, RATE_MIN, most), low < most ? low : most, rate,
			 r->now);
	} else {
		low = clamp(low ? low : rate / 4, 0, rate / 100 * 96);
		set_rate(c, low + (rate - low) / 2, low, rate, r->now);
	}
}

void df_learn_refused(struct df_cell *c, const struct df_refusal *r)
{
	uint64_t rate = rate_until_now(c, r);
	uint64_t patience = rate ? 5 * (DF_MINUTE_NS * PER_MILLE / rate) : 0;
	patience = patience > WINDOW_WAIT ? patience : WINDOW_WAIT;
	bool blocked = c->refused_at && c->n_after == 0; /* nothing went well since the last one */
	if (!blocked)
		c->blocked_since = c->n_blocked = 0;
	else if (!c->blocked_since)
		c->blocked_since = c->refused_at;
	bool is_window = (!blocked && r->wait_ms >= 0 && (uint64_t)r->wait_ms * DF_MS >= patience) ||
			 (blocked && c->n_blocked < KNOWN && r->now - c->blocked_since >= patience);
	uint64_t counted = clamp(r->accepted_minute * 980, RATE_MIN, rate / 100 * 98);
	if (r->told > 0 && (uint64_t)r->told * 995 < rate)
		set_rate(c, (uint64_t)r->told * 995, 0, 0, r->now);
	else if (is_window)
		set_rate(c, counted, counted, counted / PER_MILLE * FOUND, r->now);
	else if (!blocked)
		halve(c, r, rate);
	c->n_blocked = is_window ? KNOWN : blocked ? c->n_blocked + (c->n_blocked < KNOWN) : 0;
	c->n_since = c->n_after = 0;
	c->refused_at = c->rate_since = r->now;
	wait_for(c, r, is_window);
}
