// SPDX-License-Identifier: Apache-2.0
/*
 * news: what servers say of limits: refusals and headers.
 *
 * A refusal to a call of the present epoch teaches (learn.c), makes every reservation void by a new epoch, and sets both clocks to when
 * it goes on. Answers to calls that were already on their way then belong to the same event: they only move the floor.
 */
#include "base/clock.h"
#include "worker/limit/state.h"

static uint64_t max_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* What counts as accepted was sent before the refused call; places after it are not used or not answered yet. */
static void forget_later(struct df_limit *l, struct df_cell *c, uint64_t at)
{
	uint64_t interval = df_limit_interval(l, c), later = 0;
	if (interval && c->tat_requests > at + interval)
		later = (c->tat_requests - at) / interval - 1;
	c->n_since -= min_of(later, c->n_since);
	c->n_after -= min_of(later, c->n_after);
}

static struct df_refusal refusal_of(struct df_limit *l, const struct df_limit_news *news, int64_t wait_ms, uint64_t now)
{
	uint64_t minute_ago = now > DF_MINUTE_NS ? now - DF_MINUTE_NS : 0;
	return (struct df_refusal){
		.now = now,
		.configured = l->config.rpm * DF_LIMIT_MARGIN,
		.accepted_minute = df_ring_sum(l->file->requests, minute_ago, now),
		.active_ns = now - df_ring_first(l->file->requests, now),
		.wait_ms = wait_ms,
		.told = news ? df_learn_told(news->requests_limit, news->requests_left, news->requests_reset_ms) : -1,
	};
}

/* False: it was no limit's word after all. */
static bool refused(struct df_limit *l, struct df_cell *c, const struct df_refusal *r)
{
	uint64_t now = r->now;
	if (!df_learn_refused(c, r))
		return false;
	if (df_limit_is_pending(l, c))
		c->tat_tokens = c->before_tokens; /* it is void now */
	c->newest_owner = DF_NOBODY;
	c->tat_requests =
		max_of(now + df_limit_interval(l, c), c->floor) + (l->config.burst - 1) * df_limit_interval(l, c);
	c->epoch++;
	return true;
}

static bool nothing_left(const struct df_limit_news *news)
{
	return news && (news->requests_left == 0 || news->tokens_left == 0);
}

bool df_limit_push(struct df_limit *l, const struct df_reservation *r, const struct df_limit_news *news,
		   int64_t retry_after_ms)
{
	struct df_cell c;
	uint64_t head, now = df_limit_now(l);
	bool for_all;
	if (r)
		df_limit_return_ring(l, r);
	if (news && news->retry_after_ms > retry_after_ms)
		retry_after_ms = news->retry_after_ms;
	struct df_refusal refusal = refusal_of(l, news, retry_after_ms, now);
	do {
		for_all = true;
		if (df_cell_read(l, &c, &head) != DF_OK)
			return true;
		c.n_refused++;
		if (r)
			df_limit_return_day(&c, r);
		if (!r || r->epoch == c.epoch) {
			df_limit_uncount(&c);
			for_all = df_noise_is_limit(&c, &refusal, nothing_left(news));
			if (for_all) {
				forget_later(l, &c, r ? r->at_boot_ns : now);
				for_all = refused(l, &c, &refusal);
			}
		} else if (retry_after_ms > 0 && now + (uint64_t)retry_after_ms * DF_MS > c.floor) {
			c.floor = now + (uint64_t)retry_after_ms * DF_MS;
			c.tat_requests = max_of(c.tat_requests, c.floor);
			c.epoch++;
		}
	} while (!df_cell_publish(l, &c, head));
	return for_all;
}

void df_limit_learn(struct df_limit *l, const struct df_limit_news *news)
{
	struct df_cell c;
	uint64_t head;
	int64_t requests = df_learn_told(news->requests_limit, news->requests_left, news->requests_reset_ms);
	int64_t tokens = df_learn_told(news->tokens_limit, news->tokens_left, news->tokens_reset_ms);
	uint64_t rate = requests > 0 ? (uint64_t)requests * DF_LIMIT_MARGIN : 0;
	uint64_t token_rate = tokens > 0 ? (uint64_t)tokens * DF_LIMIT_MARGIN / 1000 : 0;
	/* Never above what was configured; but as much again, when less was told before. */
	bool all_requests = l->config.rpm && rate >= l->config.rpm * DF_LIMIT_MARGIN;
	bool all_tokens = l->config.tpm && token_rate >= l->config.tpm * DF_LIMIT_MARGIN / 1000;
	do {
		if (df_cell_read(l, &c, &head) != DF_OK)
			return;
		/* What a 429 has taught is lower than what headers promise; else they are followed. */
		uint64_t requests_now = all_requests ? 0 : rate, tokens_now = all_tokens ? 0 : token_rate;
		bool lower = !all_requests && (!c.rate_requests || rate < c.rate_requests);
		/* What was refused under a limit of the user's rises by itself, slowly: headers that promised too much once would again. */
		bool raise = !c.rate_high && !(l->config.rpm && c.refused_at);
		bool other = rate && requests_now != c.rate_requests && (lower || raise);
		bool other_tokens = token_rate && tokens_now != c.rate_tokens;
		if (!other && !other_tokens)
			return;
		if (other) {
			c.rate_requests = requests_now;
			c.rate_low = c.rate_high = 0;
			c.rate_since = df_limit_now(l);
		}
		if (other_tokens)
			c.rate_tokens = tokens_now;
	} while (!df_cell_publish(l, &c, head));
}
