// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch_blame: what a death does to the work of its lane.
 *
 * DESIGN. What the slot named is suspected after a crash at once. Kills by strangers mostly have nothing to do with a document
 * (but the kernel's out-of-memory killer is one of them), and work that runs record by record takes its time: what they hit
 * again goes out in halves, down to a single cell, and that is suspected. A suspect runs alone until it has its result. Only
 * a crash over a single record that was alone is a strike.
 */
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

static bool is_poison(const struct df_strike *s)
{
	return s->n >= DF_STRIKES_MAX;
}

/* The record's entry, a new one at the end when there is none. */
static enum df_err find_strike(struct df_dispatch *d, struct df_record_id record, struct df_strike **ret_strike)
{
	size_t i = 0;
	while (i < d->n_strike &&
	       (d->strike[i].record.source != record.source || d->strike[i].record.offset != record.offset))
		i++;
	if (i == d->n_strike) {
		DF_TRY(df_array_room((void **)&d->strike, d->n_strike, &d->cap_strike, sizeof(*d->strike)));
		d->strike[d->n_strike++] = (struct df_strike){.record = record};
	}
	*ret_strike = &d->strike[i];
	return DF_OK;
}

enum df_err df_dispatch_add_strike(struct df_dispatch *d, const struct df_strike *strike)
{
	struct df_strike *s = NULL;
	DF_TRY(find_strike(d, strike->record, &s));
	d->n_poison += is_poison(strike) - is_poison(s);
	*s = *strike;
	return DF_OK;
}

static enum df_err strike(struct df_dispatch *d, const struct df_blame *blame, struct df_strike *ret_strike)
{
	struct df_strike *s = NULL;
	DF_TRY(find_strike(d, blame->record, &s));
	d->strikes++;
	struct df_strike now = {blame->record, s->n + 1, blame->cause, blame->detail, blame->stage};
	DF_TRY(df_dispatch_add_strike(d, &now));
	*ret_strike = now;
	return DF_OK;
}

static bool single_cell(const struct df_lease *l)
{
	return l->n_cells == 1 && l->cells[0].n == 1;
}

/* What the death says about one lease of the lane. Nobody is blamed over a void one: its cells have their result. */
static enum df_err judge(struct df_dispatch *d, struct df_lease *l, const struct df_blame *blame,
			 struct df_strike *ret_strike)
{
	bool crashed = blame->cause != DF_CAUSE_STRANGER;
	bool blamed = blame->computing && blame->lease == l->id;
	if (l->is_void)
		return DF_OK;
	if (crashed && !blame->computing && ++l->attempts > d->crashes)
		d->crashes = l->attempts;
	if (!blamed)
		return DF_OK;
	l->kills += !crashed;
	l->suspect = l->suspect || crashed || (l->kills >= DF_SUSPECT_KILLS && single_cell(l));
	return crashed && blame->alone ? strike(d, blame, ret_strike) : DF_OK;
}

static void remove_lane(struct df_dispatch *d, uint64_t id)
{
	struct df_lane *lane = df_dispatch_lane(d, id);
	if (!lane)
		return;
	df_pace_forget(d, lane);
	d->n_lane--;
	memmove(lane, lane + 1, (size_t)(d->lane + d->n_lane - lane) * sizeof(*lane));
}

void df_dispatch_lost(struct df_dispatch *d, uint64_t id, uint64_t now_ns)
{
	struct df_lane *lane = df_dispatch_lane(d, id);
	if (!lane || lane->lost)
		return;
	lane->lost = true;
	lane->lost_ns = now_ns;
}

enum df_err df_dispatch_retire(struct df_dispatch *d, uint64_t lane, const struct df_blame *blame,
			       struct df_strike *ret_strike)
{
	struct df_strike struck = {.n = 0};
	const struct df_lane *gone = df_dispatch_lane(d, lane);
	uint64_t lost_ns = gone ? gone->lost_ns : 0;
	for (size_t i = 0; i < d->n_lease;) {
		if (d->lease[i]->lane != lane) {
			i++;
			continue;
		}
		struct df_lease *l = df_lease_remove(d, i);
		enum df_err err = judge(d, l, blame, &struck);
		enum df_err back = df_lease_put_back(d, l, lost_ns);
		DF_TRY(err);
		DF_TRY(back);
	}
	remove_lane(d, lane);
	*ret_strike = struck;
	return DF_OK;
}

/* Does the record lie in the lease, as far as the grid knows? A reader's source is one place. */
static bool holds(const struct df_dispatch *d, const struct df_lease *lease, struct df_record_id record)
{
	for (size_t k = 0; k < lease->n_cells; k++) {
		uint64_t start = 0, end = 0;
		const struct df_cells c = lease->cells[k];
		if (c.source != record.source)
			continue;
		df_grid_bytes(d->config.grid, c, &start, &end);
		if (d->config.grid->source[c.source].kind == DF_SOURCE_READER ||
		    (record.offset >= start && record.offset < end))
			return true;
	}
	return false;
}

size_t df_dispatch_poison(const struct df_dispatch *d, const struct df_lease *lease, struct df_strike *ret_poison)
{
	size_t n = 0;
	for (size_t i = 0; i < d->n_strike && n < DF_POISON_PER_LEASE && d->n_poison; i++)
		if (is_poison(&d->strike[i]) && holds(d, lease, d->strike[i].record))
			ret_poison[n++] = d->strike[i];
	return n;
}

uint32_t df_dispatch_crashes(const struct df_dispatch *d)
{
	return d->crashes;
}

size_t df_dispatch_n_poison(const struct df_dispatch *d)
{
	return d->n_poison;
}

uint64_t df_dispatch_strikes(const struct df_dispatch *d)
{
	return d->strikes;
}
