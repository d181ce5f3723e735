// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch_pace: what work costs, lane by lane.
 *
 * DESIGN. Each lane has a running mean of its own, so that one slow worker neither gets leases of a size for fast ones nor spoils the
 * mean of others; a new lane starts from what is typical, the mean rate of all lanes (which one slow lane hardly moves).
 * A lane is *late* when the lease that it must be at has been there for longer than twice the target and three times what its
 * bytes typically take. Then all that it holds is late, since it works in order.
 */
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

#define SLOW_TIMES 3       /* a lane with a mean above this many typical ones is slow; a lease likewise */
#define UNKNOWN_TARGETS 10 /* targets that a first result may take before anybody wonders */

double df_pace_typical(const struct df_dispatch *d)
{
	return d->n_rate ? (double)d->n_rate / d->rate : d->last_cost;
}

double df_pace_cost(const struct df_dispatch *d, const struct df_lane *lane)
{
	return lane->ns_per_byte > 0 ? lane->ns_per_byte : df_pace_typical(d);
}

/* The lane is about to leave. */
void df_pace_forget(struct df_dispatch *d, const struct df_lane *lane)
{
	if (lane->ns_per_byte <= 0)
		return;
	d->last_cost = df_pace_typical(d);
	d->n_rate--;
	d->rate = 0; /* added up afresh: sums and differences of large and small numbers wear off */
	for (size_t i = 0; i < d->n_lane; i++)
		if (&d->lane[i] != lane && d->lane[i].ns_per_byte > 0)
			d->rate += 1 / d->lane[i].ns_per_byte;
}

void df_pace_seen(struct df_dispatch *d, struct df_lane *lane, const struct df_lease *l, uint64_t busy_ns)
{
	if (!lane || !l->bytes || (l->flags & DF_LEASE_ALONE))
		return;
	double now = (double)(busy_ns ? busy_ns : 1) / (double)l->bytes; /* 0 would mean that nothing is known */
	double before = df_pace_cost(d, lane);
	double mean = before > 0 ? 0.75 * before + 0.25 * now : now;
	d->rate += 1 / mean - (lane->ns_per_byte > 0 ? 1 / lane->ns_per_byte : 0);
	d->n_rate += lane->ns_per_byte <= 0;
	lane->ns_per_byte = mean;
}

uint64_t df_pace_target(const struct df_dispatch *d, const struct df_lane *lane)
{
	uint64_t target = d->config.grid->cell_bytes; /* until a first result says what work costs */
	double cost = df_pace_cost(d, lane);
	if (cost > 0) {
		double bytes = (double)d->config.target_ns / cost;
		target = bytes > (double)d->config.lease_bytes_max ? d->config.lease_bytes_max : (uint64_t)bytes;
	}
	/* the tail is cut finer, so that all lanes end together; below 1/16 the messages would cost more than they save */
	uint64_t share = d->fresh_bytes / (4 * (uint64_t)(d->config.n_lane_hint ? d->config.n_lane_hint : 1));
	if (share < target / 16)
		share = target / 16;
	return d->fresh_bytes && target > share ? share : target;
}

/* ------------------------------------------------------------------ late */

void df_pace_look(struct df_dispatch *d, struct df_lane *lane, uint64_t now_ns)
{
	const struct df_lease *head = NULL;
	if (!lane->held || lane->since_ns || d->config.waits)
		return;
	for (size_t i = 0; i < d->n_lease; i++)
		if (d->lease[i]->lane == lane->id && (!head || d->lease[i]->id < head->id))
			head = d->lease[i];
	if (!head)
		return;
	lane->head = head->id;
	lane->head_bytes = head->bytes;
	lane->since_ns = now_ns ? now_ns : 1;
}

bool df_pace_late(const struct df_dispatch *d, const struct df_lane *lane, uint64_t now_ns)
{
	if (!lane->held || !lane->since_ns || now_ns <= lane->since_ns)
		return false;
	double typical = df_pace_typical(d), spent = (double)(now_ns - lane->since_ns);
	double target = (double)d->config.target_ns;
	if (typical <= 0)
		return spent > UNKNOWN_TARGETS * target;
	return spent > 2 * target && spent > SLOW_TIMES * typical * (double)lane->head_bytes;
}

/* Until it is through with what it holds. */
static double wait_ns(const struct df_lane *lane, double cost, uint64_t now_ns)
{
	double queued = cost * (double)lane->bytes;
	double spent = lane->since_ns && now_ns > lane->since_ns ? (double)(now_ns - lane->since_ns) : 0;
	return queued > spent ? queued - spent : 0;
}

bool df_pace_hinders(const struct df_dispatch *d, const struct df_lane *lane, uint64_t now_ns)
{
	double cost = df_pace_cost(d, lane), rate = 0;
	if (cost <= SLOW_TIMES * df_pace_typical(d))
		return false;
	for (size_t i = 0; i < d->n_lane; i++) {
		const struct df_lane *other = &d->lane[i];
		double its = df_pace_cost(d, other);
		if (its > 0 && !other->lost && (other == lane || !df_pace_late(d, other, now_ns)))
			rate += 1 / its;
	}
	uint64_t cell = d->config.grid->cell_bytes < d->fresh_bytes ? d->config.grid->cell_bytes : d->fresh_bytes;
	return wait_ns(lane, cost, now_ns) + cost * (double)cell > 1.01 * (double)d->fresh_bytes / rate;
}

/* Without a late one among them when there is any other. An idle lane that has a suspect to take first is no candidate. */
const struct df_lane *df_pace_soonest(const struct df_dispatch *d, uint64_t bytes, uint64_t now_ns)
{
	const struct df_lane *best = NULL;
	double best_ns = 0;
	bool best_late = false;
	for (size_t i = 0; i < d->n_lane; i++) {
		const struct df_lane *lane = &d->lane[i];
		if (lane->alone || lane->lost || lane->held >= d->config.credits + DF_LANE_REDO_CREDITS ||
		    (d->alone.n && !lane->held))
			continue;
		double cost = df_pace_cost(d, lane);
		if (cost <= 0)
			cost = 1; /* nothing is known: by bytes */
		double ns = wait_ns(lane, cost, now_ns) + cost * (double)bytes;
		bool late = df_pace_late(d, lane, now_ns);
		if (!best || late < best_late || (late == best_late && ns < best_ns)) {
			best = lane;
			best_ns = ns;
			best_late = late;
		}
	}
	return best;
}
