// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch_spread: sizes and shares where work waits for the network.
 *
 * DESIGN. Such work takes as long as somebody else needs for it, so that the most should be out at once, in leases as small as makes that
 * possible: of one cell while all that is left fits into the lanes' credits, of more where there is plenty. No lane gets more than its share of what is
 * left and out together, so that the first worker to be ready does not take what four could ask for.
 */
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

static uint64_t n_lane(const struct df_dispatch *d)
{
	uint64_t n = d->n_lane > d->config.n_lane_hint ? d->n_lane : d->config.n_lane_hint;
	return n ? n : 1;
}

static uint64_t cells_left(const struct df_dispatch *d)
{
	return d->fresh_cells + d->ready.n + d->redo.n;
}

uint64_t df_spread_cells(const struct df_dispatch *d)
{
	uint64_t sure = d->config.credits < DF_NETWORK_LEASES_SURE ? d->config.credits : DF_NETWORK_LEASES_SURE;
	uint64_t n = cells_left(d) / (4 * n_lane(d) * sure);
	return n < 1 ? 1 : n > DF_NETWORK_CELLS_MAX ? DF_NETWORK_CELLS_MAX : n;
}

uint32_t df_spread_credits(const struct df_dispatch *d)
{
	uint64_t share = (cells_left(d) + d->n_lease + n_lane(d) - 1) / n_lane(d);
	if (!share)
		share = 1; /* nothing is known to be left: asking for it finds out what comes next (with -k: a reader's turn) */
	return share < d->config.credits ? (uint32_t)share : d->config.credits;
}

static bool may_have(const struct df_dispatch *d, const struct df_lane *lane)
{
	return !lane->alone && !lane->lost && lane->held < d->config.credits + DF_LANE_REDO_CREDITS;
}

/* The one with the least, for it is empty first. */
bool df_spread_clears(const struct df_dispatch *d, const struct df_lane *lane)
{
	const struct df_lane *least = NULL;
	if (!d->alone.n)
		return false;
	for (size_t i = 0; i < d->n_lane; i++)
		if (may_have(d, &d->lane[i]) && (!least || d->lane[i].held < least->held))
			least = &d->lane[i];
	return least == lane;
}

const struct df_lane *df_spread_least(const struct df_dispatch *d)
{
	const struct df_lane *least = NULL;
	for (size_t i = 0; i < d->n_lane; i++) {
		const struct df_lane *lane = &d->lane[i];
		if (may_have(d, lane) && !df_spread_clears(d, lane) && (!least || lane->held < least->held))
			least = lane;
	}
	return least;
}
