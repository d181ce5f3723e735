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
 * Refusals that contradict a bucket's lower bound are no limit's: then the search is given up (noise.c).
 * Afterwards the rate rises by 1 % a minute, and for ten minutes not up to what was refused. Limits change, and other programs use the same key.
 */
#include "worker/limit/state.h"

#include <math.h>

#include "base/clock.h"

#define PER_MILLE UINT64_C(1000)
#define RATE_MIN 100                 /* thousandths a minute: one in ten minutes */
#define FOUND 1030                   /* per mille: upper over lower end */
#define LONG_ENOUGH (50 * DF_SEC)    /* of a minute, to take its count for the minute's */
#define WINDOW_WAIT (3 * DF_SEC)     /* who refuses for longer counts over a window */
#define REMEMBER (10 * DF_MINUTE_NS) /* a rate that was refused */
#define ENOUGH 20                    /* requests between two refusals: known to 5 % */
#define BACKOFF_MIN (50 * DF_MS)     /* who says nothing is left alone for four requests' time ... */
#define BACKOFF_MAX DF_SEC
#define BACKOFF_LONGEST (32 * DF_SEC) /* ... and twice as long each time it refuses again */
#define BACKOFF_KNOWN (4 * DF_SEC)
#define EDGE_STEP 94   /* per cent */
#define PROOF_EDGE 150 /* requests */
#define PROOF_NOISY 8
#define IMPOSSIBLE 95   /* per cent of what dripped in */
#define SEARCH_ENDS 100 /* requests, or two minutes */
#define KNOWN 15        /* n_blocked of a server that counts over a window, which has been reckoned with */

static uint64_t clamp(uint64_t v, uint64_t low, uint64_t high)
{
	return v < low ? low : v > high ? high : v;
}

bool df_learn_is_blocked(const struct df_cell *c)
{
	return c->refused_at && c->rate_requests && c->n_after == 0;
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

static uint64_t proof_of(const struct df_cell *c)
{
	if (c->rate_low > c->rate_requests)
		return PROOF_EDGE;
	uint64_t n = proof(c->rate_requests, c->rate_high);
	return c->noisy_at ? n * PROOF_NOISY : n; /* chance needs longer to be told from a limit */
}

void df_learn_rise(struct df_cell *c, uint64_t configured, uint64_t now)
{
	uint64_t rate = c->rate_requests, high = c->rate_high;
	if (high > rate && high * PER_MILLE > rate * FOUND && c->n_since >= proof_of(c)) {
		if (!df_noise_is_usual(c))
			return;
		df_noise_measure(c);
		set_rate(c, rate + (high - rate) / 2, rate, high, now);
		return;
	}
	if (now < c->rate_since + DF_MINUTE_NS || !c->refused_at || !df_noise_is_usual(c))
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
	uint64_t backoff = clamp(4 * (DF_MINUTE_NS * PER_MILLE / clamp(c->rate_requests, RATE_MIN, UINT64_MAX)),
				 BACKOFF_MIN, BACKOFF_MAX);
	backoff = c->n_blocked == KNOWN ? BACKOFF_KNOWN : clamp(backoff << c->n_blocked, 0, BACKOFF_LONGEST);
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

/* A rate that went well does not any more. */
static bool is_edge(const struct df_cell *c, uint64_t rate)
{
	return c->rate_low * FOUND > rate * PER_MILLE;
}

/* Where an upper and a lower end are far apart, it is their ratio that is halved. */
static uint64_t between(uint64_t low, uint64_t high)
{
	return high / 4 > low ? (uint64_t)sqrt((double)low * (double)high) : low + (high - low) / 2;
}

static void halve(struct df_cell *c, const struct df_refusal *r, uint64_t rate, bool was_window)
{
	uint64_t since = c->refused_at ? r->now - c->refused_at : 0, n = c->n_after, low = c->rate_low;
	uint64_t at_least = n ? dripped(n - 1, since) : 0, most = rate / 100 * 98;
	bool edge = is_edge(c, rate);
	if (edge)
		low = 0;
	/* Far less has dripped in: it was only guessed, and the limit may lie below it. A search that kept it would come down to it in ever smaller steps. */
	if (at_least && at_least < low / 2)
		low = 0;
	low = at_least > low ? at_least : low;
	if (c->noisy_at &&
	    r->active_ns > LONG_ENOUGH) { /* it was refused for a while by now: a minute's count is good */
		uint64_t counted = r->accepted_minute * 980, here = dripped(n, since) / 100 * 98;
		counted = clamp(counted > here ? counted : here, RATE_MIN, most);
		set_rate(c, counted, counted, counted / 100 * 108 < rate ? counted / 100 * 108 : rate, r->now);
	} else if (since > LONG_ENOUGH || (was_window && r->active_ns > LONG_ENOUGH)) { /* its count is exact */
		uint64_t all = was_window ? r->accepted_minute * 1000 : dripped(n, since);
		uint64_t counted = clamp(all / 100 * 98, RATE_MIN, most);
		set_rate(c, counted, counted, counted / PER_MILLE * FOUND, r->now);
	} else if (edge && !c->noisy_at && n < ENOUGH) {
		/* A limit a little lower, or none at all: below what is proven the next refusal tells. */
		uint64_t sure = c->proven && c->proven < rate ? c->proven : rate;
		uint64_t at_most = dripped(n + 3, since);
		set_rate(c, sure / 100 * EDGE_STEP, c->rate_low, at_most > sure && at_most < rate ? at_most : rate,
			 r->now);
	} else if (since && n >= ENOUGH && at_least >= low) { /* its count is good */
		uint64_t good = clamp(dripped(n, since) / 1000 * 985, RATE_MIN, most);
		bool sure = c->noisy_at && n >= 2 * ENOUGH && good / 100 * 108 < rate;
		set_rate(c, good, low < most ? low : most, sure ? good / 100 * 108 : rate, r->now);
	} else {
		/* At full speed most of what counts as accepted is not answered yet. */
		low = clamp(low ? low : rate / (r->configured || c->rate_requests ? 4 : 16), 0, rate / 100 * 96);
		set_rate(c, between(low, rate), low, rate, r->now);
	}
}

/* A bucket that was empty cannot refuse a rate below what has dripped in since, whether since the last refusal or on average since the first of this
 * search. Chance does. */
static bool is_impossible(struct df_cell *c, const struct df_refusal *r, uint64_t rate)
{
	uint64_t ends = clamp(SEARCH_ENDS * (DF_MINUTE_NS * PER_MILLE / rate), 2 * DF_MINUTE_NS, 60 * DF_MINUTE_NS);
	if (!c->search_at || r->now > c->refused_at + ends) {
		c->search_at = r->now;
		c->search_n = c->proven = 0;
		c->search_rate = c->rate_requests;
		c->noise_n = (uint32_t)clamp(c->n_after, 0, ENOUGH); /* of this search alone */
		c->noise_refused = 1;
		return false;
	}
	c->search_n += c->n_after;
	uint64_t all = c->search_n ? dripped(c->search_n - 1, r->now - c->search_at) : 0;
	uint64_t last = c->n_after ? dripped(c->n_after - 1, r->now - c->refused_at) : 0;
	all = all > last ? all : last;
	if (c->proven / 100 * IMPOSSIBLE > rate)
		return true;
	c->proven = all > c->proven ? all : c->proven;
	return false;
}

bool df_learn_refused(struct df_cell *c, const struct df_refusal *r)
{
	uint64_t rate = rate_until_now(c, r);
	rate = rate > RATE_MIN ? rate : RATE_MIN;
	uint64_t patience = 5 * (DF_MINUTE_NS * PER_MILLE / rate);
	patience = patience > WINDOW_WAIT ? patience : WINDOW_WAIT;
	bool blocked = df_learn_is_blocked(c), was_window = c->n_blocked == KNOWN;
	if (!blocked && r->told <= 0 && is_impossible(c, r, rate)) {
		df_noise_found(c, r->now);
		return false;
	}
	if (!blocked)
		c->blocked_since = c->n_blocked = 0;
	else if (!c->blocked_since)
		c->blocked_since = c->refused_at;
	bool few = r->accepted_minute < ENOUGH && r->active_ns < LONG_ENOUGH; /* hardly a window's number */
	bool is_window = (!blocked && r->wait_ms >= 0 && (uint64_t)r->wait_ms * DF_MS >= patience) ||
			 (blocked && c->n_blocked < KNOWN && c->n_blocked >= (few ? 4 : 1) &&
			  r->now - c->blocked_since >= patience);
	uint64_t counted =
		clamp(r->accepted_minute * 980, few && rate / 8 > RATE_MIN ? rate / 8 : RATE_MIN, rate / 100 * 98);
	if (r->told > 0 && (uint64_t)r->told * 995 < rate)
		set_rate(c, (uint64_t)r->told * 995, 0, 0, r->now);
	else if (is_window)
		set_rate(c, counted, counted, counted / PER_MILLE * FOUND, r->now);
	else if (!blocked)
		halve(c, r, rate, was_window);
	c->proven /= is_window ? 2 : 1; /* what a window lets through comes all at once */
	c->n_blocked = is_window ? KNOWN : blocked ? c->n_blocked + (c->n_blocked < KNOWN) : 0;
	c->n_since = c->n_after = 0;
	c->refused_at = c->rate_since = r->now;
	wait_for(c, r, is_window);
	if (c->noisy_at)
		df_noise_slower(c);
	return true;
}
