// SPDX-License-Identifier: Apache-2.0
/*
 * noise: whether a refusal speaks of a limit, or is bad luck of one call.
 *
 * DESIGN. A limiter refuses nearly all above its rate and nothing below it. An overloaded server, or a proxy before it, refuses the same share of
 * requests at any rate, and who slows down for each of these never stops slowing down. So each answer is weighed: the logarithm of how much likelier it is when
 * a limiter refuses a large share than when chance refuses its usual one. The sum never falls below zero (Page's test), and at SURE, which
 * chance reaches once in a million answers, it was a limiter. What chance refuses is
 *   nothing, while a rate is believed in (configured, learned, told by headers): each refusal speaks of the rate, and is found out by learn.c ...
 *   ... until refusals go on at rates that went well before (df_noise_found): then the share that was seen meanwhile;
 *   a third, while no rate is known at all: nobody has promised anything, and a real limiter refuses nearly all of what comes at full speed.
 */
#include <math.h>

#include "worker/limit/state.h"

#define MILLI 1000.0
#define SURE 14000 /* thousandths of a nat */
#define NOBODY_KNOWS (1.0 / 3)
#define LEAST 0.02
#define MOST 0.5
#define ENOUGH 64 /* answers to count a share of */
#define TRIED 200
#define MEMORY 1024    /* then it is counted anew, also at the same rate */
#define SPOKEN_MS 3000 /* who refuses for so long speaks of a limit */
#define REMEMBER (10 * DF_MINUTE_NS)

struct weight {
	uint64_t refused, accepted; /* thousandths of a nat: for a limiter, against it */
};

static double share_of(const struct df_cell *c)
{
	if (!c->noisy_at)
		return NOBODY_KNOWS;
	return (double)c->noise_share / 1e6;
}

/* What a limiter refuses that is worth slowing down for: three times as much as chance does, a fifth at least. */
static struct weight weight_of(const struct df_cell *c)
{
	double p = share_of(c), q = fmin(fmax(3 * p, 0.2), fmax(0.65, (1 + p) / 2));
	return (struct weight){(uint64_t)(MILLI * log(q / p)), (uint64_t)(MILLI * log((1 - p) / (1 - q)))};
}

void df_noise_accepted(struct df_cell *c)
{
	uint64_t by = weight_of(c).accepted;
	c->suspicion -= by < c->suspicion ? (uint32_t)by : c->suspicion;
}

static uint32_t measured(const struct df_cell *c)
{
	double p = ((double)c->noise_refused + 1) / ((double)c->noise_n + 3);
	return (uint32_t)(1e6 * fmin(fmax(p, LEAST), MOST));
}

static uint32_t at_most(double a, uint32_t b)
{
	return a < (double)b ? (uint32_t)a : b;
}

bool df_noise_is_usual(const struct df_cell *c)
{
	return !c->noisy_at || (double)c->noise_refused <= 2 + 1.5e-6 * c->noise_share * (double)c->noise_n;
}

void df_noise_measure(struct df_cell *c)
{
	if (c->noise_n >= ENOUGH) /* it grows slowly, lest a limit's refusals be taken for it */
		c->noise_share = at_most(1.25 * c->noise_share, measured(c));
	c->noise_refused = c->noise_n = c->share_above = 0;
}

void df_noise_slower(struct df_cell *c)
{
	c->share_above = measured(c);
	c->noise_refused = c->noise_n = 0;
}

/* The rate is lower, and as many are refused as before: it was not the rate. */
static bool has_not_helped(const struct df_cell *c)
{
	return c->share_above && c->noise_n >= TRIED && measured(c) > c->share_above / 5 * 4;
}

bool df_noise_is_limit(struct df_cell *c, const struct df_refusal *r, bool says_so)
{
	bool known = r->configured || c->rate_requests;
	if (c->noisy_at && r->now > c->noisy_at + REMEMBER)
		c->noisy_at = 0;
	c->noise_refused++;
	if (known && c->noisy_at && has_not_helped(c)) {
		df_noise_found(c, r->now);
		return false;
	}
	if (c->noise_n >= MEMORY)
		df_noise_measure(c);
	if (says_so || r->wait_ms >= SPOKEN_MS || (known && (!c->noisy_at || df_learn_is_blocked(c)))) {
		c->suspicion = 0;
		return true;
	}
	if (c->noisy_at)
		c->noisy_at = r->now;
	c->suspicion += (uint32_t)weight_of(c).refused;
	if (c->suspicion < SURE)
		return false;
	c->suspicion = 0;
	return true;
}

void df_noise_found(struct df_cell *c, uint64_t now)
{
	uint32_t before = c->noisy_at ? c->noise_share : 0;
	c->noise_share = before > measured(c) ? before : measured(c);
	c->share_above = 0;
	c->noisy_at = now;
	c->noise_refused = c->noise_n = c->suspicion = 0;
	c->rate_requests = c->search_rate;
	c->rate_low = c->rate_high = 0;
	c->rate_since = now;
	c->n_since = 0;
	c->search_at = c->search_n = c->proven = 0;
	c->refused_at = now;
	c->n_after = 1; /* not blocked */
	c->blocked_since = c->n_blocked = 0;
}
