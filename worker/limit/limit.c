// SPDX-License-Identifier: Apache-2.0
/*
 * limit: reservations.
 *
 * DESIGN. A call is sent at the latest of: now, the clock of requests, the clock of tokens, the floor that a 429 has set. Both clocks then stand at that time
 * plus the call's own share: unused time is never saved up (tolerance 1), so what goes out is evenly spaced, whoever sends it, and a process that begins after a
 * pause begins with one call. In any minute there are at most floor(0.995 n) + 1 <= n requests; tokens see window_room().
 *
 * Killed processes. A reservation is refused (DF_ERR_AGAIN) when its time is more than DF_LIMIT_AHEAD_NS away. So if another was made after that of a dead process, the
 * dead one's share ended at most DF_LIMIT_AHEAD_NS after that other's asking: it delays nobody by more. Only the newest reservation can reach further
 * (30 s worth of tokens; an interval of 20 s at 3 a minute). It is kept in the state with the clocks as they were before it, and its owner notes what it has
 * sent; who would have to wait for it asks again soon (PENDING_NS), and when the owner's lock is free by then and it was not sent,
 * the clocks go back. What was sent stays charged.
 *
 * Who holds a reservation already may reach half as far ahead, so that one with many waiting calls leaves places to others.
 */
#include "worker/limit/limit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "worker/limit/state.h"

#define DAY_NS (86400 * DF_SEC)
#define LOOK_NS DF_SEC
#define PENDING_NS (100 * DF_MS)
#define WAIT_NS                                                                                                        \
	(5 *                                                                                                           \
	 DF_SEC) /* timers stand still while the machine sleeps, boot time does not: nobody sleeps longer at a time */
#define TOKENS_WAIT_NS DF_SEC /* settling gives tokens back, so who waits for them looks again */
#define LATE_MIN_NS (25 * DF_MS)
#define LATE_MAX_NS (150 * DF_MS)
#define STALE_NS (10 * DF_MINUTE_NS) /* without any call: a limit that only headers told may be another now */
#define FOREVER (UINT64_C(1) << 62)

uint64_t df_limit_now(const struct df_limit *l)
{
	return l->config.boot_ns ? l->config.boot_ns(l->config.self) : df_clock_boot();
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* ------------------------------------------------------------------ life */

static enum df_err check_config(const struct df_limit_config *c, struct df_fail *fail)
{
	if (c->rpm > DF_LIMIT_RATE_MAX || c->tpm > DF_LIMIT_RATE_MAX || c->rpd > DF_LIMIT_RATE_MAX ||
	    c->tpd > DF_LIMIT_RATE_MAX)
		return df_fail(fail, DF_ERR_RANGE, "a limit above %" PRIu64 " is none: leave it out",
			       DF_LIMIT_RATE_MAX);
	if (c->concurrency > DF_LIMIT_SLOTS)
		return df_fail(fail, DF_ERR_RANGE, "%" PRIu32 " calls in flight are more than %d", c->concurrency,
			       DF_LIMIT_SLOTS);
	return DF_OK;
}

enum df_err df_limit_open(const struct df_limit_config *config, struct df_limit **ret_limit, struct df_fail *fail)
{
	if (fail)
		*fail = (struct df_fail){.code = DF_OK};
	DF_TRY(check_config(config, fail));
	struct df_limit *l = calloc(1, sizeof(*l));
	if (!l)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the limits of a model");
	l->config = *config;
	l->config.dir = NULL;
	l->config.key = (struct df_str){NULL, 0};
	l->config.burst = config->burst ? config->burst : 1;
	struct df_str model = config->name;
	for (size_t i = 0; i < config->name.n; i++) {
		if (config->name.p[i] == ' ')
			model = (struct df_str){config->name.p + i + 1, config->name.n - i - 1};
	}
	(void)snprintf(l->model, sizeof(l->model), DF_STR_FMT, DF_STR_ARG(model));
	l->config.name = df_str_from(l->model);
	if (config->rpm)
		l->interval = DF_MINUTE_NS * 1000 / (config->rpm * DF_LIMIT_MARGIN) + 1;
	if (config->tpm)
		l->token_ns = (double)DF_MINUTE_NS * 1000 / ((double)config->tpm * DF_LIMIT_MARGIN);
	enum df_err err = df_limit_map(config, l, fail);
	if (err != DF_OK)
		free(l);
	else
		*ret_limit = l;
	return err;
}

void df_limit_close(struct df_limit **limit)
{
	struct df_limit *l = *limit;
	*limit = NULL;
	if (!l)
		return;
	for (uint32_t i = 0; i < DF_LIMIT_SLOTS; i++) {
		uint32_t mine = l->owner + 1;
		if (atomic_load_explicit(&l->file->slot[i], memory_order_relaxed) == mine)
			(void)atomic_compare_exchange_strong(&l->file->slot[i], &mine, 0);
	}
	df_limit_unmap(l);
	free(l);
}

/* Once a second: where the wall stands, and whether the file is still the one that others open. */
static enum df_err look_around(struct df_limit *l, uint64_t now, struct df_fail *fail)
{
	struct stat st;
	uint64_t wall = l->config.wall_ns ? l->config.wall_ns(l->config.self) : df_clock_real.wall_ns(NULL);
	l->wall_minus_boot = wall - now; /* may wrap, and back */
	l->looked_at = now | 1;
	if (fstat(l->fd, &st) == 0 && st.st_nlink == 0)
		return df_fail(fail, DF_ERR_CHANGED,
			       "the limits in '%s' were removed while they are in use: nothing is sent, since others "
			       "would not know of it; start again",
			       l->path);
	return DF_OK;
}

/* ------------------------------------------------------------------ the arithmetic */

static enum df_err damaged(const struct df_limit *l, struct df_fail *fail)
{
	return df_fail(
		fail, DF_ERR_CORRUPT,
		"the limits in '%s' were damaged while they are in use: nothing is sent; end all that use it, then "
		"start again",
		l->path);
}

uint64_t df_limit_interval(struct df_limit *l, const struct df_cell *c)
{
	if (!c->rate_requests)
		return l->interval;
	if (c->rate_requests != l->cached_rate) {
		l->cached_rate = c->rate_requests;
		l->cached_interval = DF_MINUTE_NS * 1000 / c->rate_requests + 1;
	}
	return max_of(l->interval, l->cached_interval);
}

static double token_ns_of(const struct df_limit *l, const struct df_cell *c)
{
	double learned = c->rate_tokens ? (double)DF_MINUTE_NS / (double)c->rate_tokens : 0;
	return learned > l->token_ns ? learned : l->token_ns;
}

static uint64_t charge_of(const struct df_limit *l, const struct df_cell *c, uint64_t tokens)
{
	double ns = ((double)tokens * token_ns_of(l, c)) + 0.5;
	return ns < (double)FOREVER ? (uint64_t)ns : FOREVER;
}

/* Tokens of a minute; 0: no limit. */
static uint64_t tokens_a_minute(const struct df_limit *l, const struct df_cell *c)
{
	double ns = token_ns_of(l, c);
	return ns > 0 ? (uint64_t)((double)DF_MINUTE_NS / ns) : 0;
}

/*
 * The clock of tokens alone lets a minute have what it may have and the last call's tokens on top: small calls are within the margin, a large one would be too much
 * for a server that counts over a sliding or a fixed window. So a large call also waits until a minute's sum has room for it.
 */
static uint64_t window_room(const struct df_limit *l, const struct df_cell *c, uint64_t at, uint64_t tokens)
{
	uint64_t minute = tokens_a_minute(l, c);
	if (!minute || tokens < minute / 250)
		return at;
	uint64_t limit = minute / DF_LIMIT_MARGIN * 1000 + minute % DF_LIMIT_MARGIN;
	return df_ring_room(l->file->tokens, at, limit > tokens ? limit - tokens : 0);
}

/* The day of the wall; counts begin anew with it. A wall that was set back keeps the counts: the day of the state is never passed
 * twice. True: it is another day now. */
static bool roll_day(const struct df_limit *l, struct df_cell *c, uint64_t now)
{
	uint64_t today = (now + l->wall_minus_boot) / DAY_NS;
	if (today > c->day) {
		c->day = today;
		c->day_requests = c->day_tokens = 0;
		return true;
	}
	if (c->day > today + 1) {
		c->day = today; /* somebody's clock was far ahead: not a reason to wait for years */
		return true;
	}
	return false;
}

static enum df_err daily(const struct df_limit *l, const struct df_cell *c, uint64_t tokens, uint64_t now,
			 struct df_fail *fail)
{
	const struct df_limit_config *g = &l->config;
	bool requests = g->rpd && c->day_requests >= g->rpd;
	if (!requests && !(g->tpd && c->day_tokens + tokens > g->tpd))
		return DF_OK;
	uint64_t wall = now + l->wall_minus_boot, next = (c->day + 1) * DAY_NS, left = next > wall ? next - wall : 0;
	uint64_t minutes = left / DF_MINUTE_NS + 1;
	char next_call[64] = "";
	if (!requests && c->day_tokens < g->tpd)
		(void)snprintf(next_call, sizeof(next_call), " and the next call may take %" PRIu64, tokens);
	return df_fail(fail, DF_ERR_QUOTA,
		       "daily limit hit for model \"%s\": %" PRIu64 " of %" PRIu64
		       " %s are used%s; it begins anew at 00:00 "
		       "UTC, in %" PRIu64 " h %02" PRIu64 " min",
		       l->model, requests ? c->day_requests : c->day_tokens, requests ? g->rpd : g->tpd,
		       requests ? "requests" : "tokens", next_call, minutes / 60, minutes % 60);
}

/* What headers told some time ago, and nobody configured, may have been raised since: who is never asked never tells. */
static bool is_worth_a_try(const struct df_limit *l, const struct df_cell *c, uint64_t tokens, uint64_t now)
{
	if (l->token_ns > 0 && (double)tokens * l->token_ns > (double)DF_MINUTE_NS)
		return false;
	return now > max_of(max_of(c->tat_requests, c->tat_tokens), c->floor) + STALE_NS;
}

static enum df_err can_fit(const struct df_limit *l, const struct df_cell *c, uint64_t tokens, uint64_t now,
			   struct df_fail *fail)
{
	uint64_t minute = tokens_a_minute(l, c), day = l->config.tpd;
	if (minute && tokens > minute && !is_worth_a_try(l, c, tokens, now))
		return df_fail(fail, DF_ERR_LIMIT,
			       "a call of %" PRIu64 " tokens can never fit model \"%s\", which has %" PRIu64
			       " tokens a minute: send less text or ask for fewer tokens",
			       tokens, l->model, minute);
	if (day && tokens > day)
		return df_fail(fail, DF_ERR_LIMIT,
			       "a call of %" PRIu64 " tokens can never fit model \"%s\", which has %" PRIu64
			       " tokens a day: send less text or ask for fewer tokens",
			       tokens, l->model, day);
	return DF_OK;
}

/* ------------------------------------------------------------------ the newest reservation */

/* Made, and neither sent nor cancelled, as far as its owner says. */
bool df_limit_is_pending(const struct df_limit *l, const struct df_cell *c)
{
	return c->newest_owner != DF_NOBODY && c->newest_owner <= DF_LIMIT_OWNERS &&
	       atomic_load_explicit(&l->file->owner[c->newest_owner - 1].sent, memory_order_acquire) < c->newest_at;
}

void df_limit_take_back(const struct df_limit *l, struct df_cell *c)
{
	if (df_limit_is_pending(l, c)) {
		c->tat_requests = c->before_requests;
		c->tat_tokens = c->before_tokens;
	}
	c->newest_owner = DF_NOBODY;
}

/* A place far away because of somebody who died before using it? Then the clocks go back. */
static bool recover(struct df_limit *l, struct df_cell *c, uint64_t head)
{
	bool far = max_of(c->tat_requests, c->tat_tokens) > c->newest_at + DF_LIMIT_AHEAD_NS;
	uint32_t i = (uint32_t)c->newest_owner - 1;
	if (!far || !df_limit_is_pending(l, c) || i == l->owner || !df_limit_owner_lock(l->fd, i))
		return false;
	df_limit_take_back(l, c);
	(void)df_cell_publish(l, c, head);
	df_limit_owner_unlock(l->fd, i);
	return true;
}

/* When to ask again: in time for the place, or sooner where it may come nearer. */
static uint64_t ask_again(const struct df_limit *l, const struct df_cell *c, uint64_t now, uint64_t at, uint64_t ahead)
{
	uint64_t when = at - ahead;
	if (at > c->floor && df_limit_is_pending(l, c))
		when = min_of(when, max_of(c->newest_at, now) + PENDING_NS);
	if (at > c->floor && at > c->tat_requests)
		when = min_of(when, now + TOKENS_WAIT_NS);
	return max_of(min_of(when, now + WAIT_NS), now + 1);
}

/* ------------------------------------------------------------------ reservations */

static uint64_t place(struct df_limit *l, const struct df_cell *c, uint64_t now, uint64_t tokens)
{
	uint64_t slack = (l->config.burst - 1) * df_limit_interval(l, c);
	uint64_t at = max_of(now, c->tat_requests > slack ? c->tat_requests - slack : 0);
	at = max_of(max_of(at, c->tat_tokens), c->floor);
	return window_room(l, c, at, tokens);
}

static void take_place(struct df_limit *l, struct df_cell *c, uint64_t at, uint64_t tokens)
{
	uint64_t interval = df_limit_interval(l, c);
	if (c->n_after == 0)
		interval = max_of(interval, df_learn_trial_ns(c));
	c->newest_owner = (uint64_t)l->owner + 1;
	c->newest_at = at;
	c->before_requests = c->tat_requests;
	c->before_tokens = c->tat_tokens;
	c->tat_requests = max_of(c->tat_requests, at) + interval;
	c->tat_tokens = at + charge_of(l, c, tokens);
	c->day_requests++;
	c->day_tokens += tokens;
	c->n_since++;
	c->n_after++;
	c->noise_n++;
}

enum df_err df_limit_reserve(struct df_limit *l, uint64_t tokens, struct df_reservation *ret, struct df_fail *fail)
{
	struct df_cell c;
	uint64_t head, at, now = df_limit_now(l);
	if (now - l->looked_at >= LOOK_NS)
		DF_TRY(look_around(l, now, fail));
	do {
		if (df_cell_read(l, &c, &head) != DF_OK)
			return damaged(l, fail);
		DF_TRY(can_fit(l, &c, tokens, now, fail));
		bool rolled = roll_day(l, &c, now);
		enum df_err err = daily(l, &c, tokens, now, fail);
		if (err != DF_OK) {
			if (rolled)
				(void)df_cell_publish(l, &c, head);
			return err;
		}
		if (c.rate_requests)
			df_learn_rise(&c, l->config.rpm * DF_LIMIT_MARGIN, now);
		at = place(l, &c, now, tokens);
		uint64_t ahead = l->last_at > now ? DF_LIMIT_AHEAD_NS / 2 : DF_LIMIT_AHEAD_NS;
		if (at > now + ahead) {
			if (recover(l, &c, head))
				continue;
			ret->at_boot_ns = ask_again(l, &c, now, at, ahead);
			return DF_ERR_AGAIN;
		}
		take_place(l, &c, at, tokens);
		if (df_cell_publish(l, &c, head))
			break;
	} while (true);
	l->last_at = at;
	df_ring_add(l->file->requests, at, 1);
	if (l->config.tpm || c.rate_tokens)
		df_ring_add(l->file->tokens, at, (int64_t)min_of(tokens, INT64_MAX));
	*ret = (struct df_reservation){.at_boot_ns = at, .tokens = tokens, .day = c.day, .epoch = c.epoch};
	return DF_OK;
}

static void note_sent(struct df_limit *l, uint64_t at)
{
	_Atomic uint64_t *sent = &l->file->owner[l->owner].sent;
	if (atomic_load_explicit(sent, memory_order_relaxed) < at)
		atomic_store_explicit(sent, at, memory_order_release);
}

bool df_limit_valid(struct df_limit *l, const struct df_reservation *r)
{
	struct df_cell c;
	uint64_t head;
	if (df_cell_read(l, &c, &head) != DF_OK || c.epoch != r->epoch)
		return false;
	uint64_t interval = df_limit_interval(l, &c), late = min_of(max_of(interval / 2, LATE_MIN_NS), LATE_MAX_NS);
	if ((interval || token_ns_of(l, &c) > 0) && df_limit_now(l) > r->at_boot_ns + late)
		return false;
	note_sent(l, r->at_boot_ns);
	return true;
}

bool df_limit_is_void(const struct df_limit *l, const struct df_reservation *r)
{
	struct df_cell c;
	uint64_t head;
	return df_cell_read(l, &c, &head) != DF_OK || c.epoch != r->epoch;
}

/* The day's share of a reservation back, if it is still that day. */
void df_limit_return_day(struct df_cell *c, const struct df_reservation *r)
{
	if (c->day != r->day)
		return;
	c->day_requests -= c->day_requests > 0;
	c->day_tokens -= min_of(r->tokens, c->day_tokens);
}

void df_limit_uncount(struct df_cell *c)
{
	c->n_since -= c->n_since > 0;
	c->n_after -= c->n_after > 0;
}

void df_limit_return_ring(struct df_limit *l, const struct df_reservation *r)
{
	df_ring_add(l->file->requests, r->at_boot_ns, -1);
	df_ring_add(l->file->tokens, r->at_boot_ns, -(int64_t)min_of(r->tokens, INT64_MAX));
}

void df_limit_cancel(struct df_limit *l, const struct df_reservation *r)
{
	struct df_cell c;
	uint64_t head;
	do {
		if (df_cell_read(l, &c, &head) != DF_OK)
			return;
		if (c.newest_owner == (uint64_t)l->owner + 1 && c.newest_at == r->at_boot_ns && c.epoch == r->epoch) {
			c.tat_requests = c.before_requests;
			c.tat_tokens = c.before_tokens;
			c.newest_owner = DF_NOBODY;
		}
		if (c.epoch == r->epoch)
			df_limit_uncount(&c);
		df_limit_return_day(&c, r);
	} while (!df_cell_publish(l, &c, head));
	note_sent(l, r->at_boot_ns);
	df_limit_return_ring(l, r);
	if (l->last_at == r->at_boot_ns)
		l->last_at = 0;
}

static uint64_t moved(uint64_t t, bool back, uint64_t by)
{
	if (back)
		return t > by ? t - by : 0;
	return min_of(t + by, FOREVER);
}

void df_limit_settle(struct df_limit *l, const struct df_reservation *r, uint64_t tokens_used)
{
	struct df_cell c;
	uint64_t head;
	bool back = tokens_used <= r->tokens;
	uint64_t now = back ? 0 : df_limit_now(l);
	uint64_t n = back ? r->tokens - tokens_used : tokens_used - r->tokens;
	do {
		if (df_cell_read(l, &c, &head) != DF_OK || (!n && !c.suspicion))
			return;
		if (c.suspicion)
			df_noise_accepted(&c);
		uint64_t by = charge_of(l, &c, n);
		/* More than was reserved counts from now on; less moves the clock back. */
		c.tat_tokens = moved(back ? c.tat_tokens : max_of(c.tat_tokens, now), back, by);
		c.before_tokens = moved(back ? c.before_tokens : max_of(c.before_tokens, now), back, by);
		if (c.day == r->day)
			c.day_tokens = back ? c.day_tokens - min_of(n, c.day_tokens) : c.day_tokens + n;
	} while (!df_cell_publish(l, &c, head));
	if (n && (l->config.tpm || c.rate_tokens))
		df_ring_add(l->file->tokens, r->at_boot_ns,
			    back ? -(int64_t)min_of(n, INT64_MAX) : (int64_t)min_of(n, INT64_MAX));
}
