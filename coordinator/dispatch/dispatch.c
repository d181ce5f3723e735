// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch: lanes, and what each gets next.
 *
 * DESIGN. Three queues of work feed a lease in this order: `alone` (suspects; one cell, an empty lane), `redo`, `ready` (readers' cells),
 * then the fresh cursor; an idle lane for which there is nothing may get a twin of what is late elsewhere. What was lost
 * with a lane goes to the one that will come to it soonest, even above its credits. The number of lanes and leases is small
 * (tens), so they live in arrays that are searched from the front; cells by the million are never touched one by one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

uint64_t df_dispatch_bytes(const struct df_dispatch *d, struct df_cells cells)
{
	uint64_t start = 0, end = 0;
	df_grid_bytes(d->config.grid, cells, &start, &end);
	return end - start;
}

void df_dispatch_window_release(struct df_dispatch *d, uint64_t bytes)
{
	d->window_used -= bytes < d->window_used ? bytes : d->window_used;
}

/* `leased_before`: what is in this queue was charged to the window, and will now never be written. */
static void queue_drop_source(struct df_dispatch *d, struct df_work_queue *q, uint32_t source, bool leased_before)
{
	size_t n = q->n;
	for (size_t i = 0; i < n; i++) {
		struct df_work *w = df_work_queue_head(q);
		if (w->cells.source != source) {
			df_work_queue_turn(q);
			continue;
		}
		d->reader_bytes -= w->blob ? w->blob->n : 0;
		df_dispatch_window_release(d, leased_before ? df_dispatch_bytes(d, w->cells) : 0);
		df_blob_unref(&w->blob);
		df_work_queue_drop_head(q);
	}
}

void df_dispatch_drop_source(struct df_dispatch *d, uint32_t source)
{
	queue_drop_source(d, &d->alone, source, true);
	queue_drop_source(d, &d->redo, source, true);
	queue_drop_source(d, &d->ready, source, false);
}

/* ------------------------------------------------------------------ life */

enum df_err df_dispatch_create(const struct df_dispatch_config *config, struct df_dispatch **ret_dispatch)
{
	struct df_dispatch *d = calloc(1, sizeof(*d));
	if (!d)
		return DF_ERR_NOMEM;
	d->config = *config;
	d->next_lease = 1;
	for (uint32_t i = 0; i < config->grid->n_source; i++) {
		const struct df_grid_source *s = &config->grid->source[i];
		uint64_t left = s->n_cell - s->done.n_set;
		d->fresh_cells += s->kind == DF_SOURCE_READER ? 0 : left;
		if (s->kind == DF_SOURCE_JSONL)
			d->fresh_bytes += left * config->grid->cell_bytes;
		else if (s->kind == DF_SOURCE_TEXT)
			d->fresh_bytes += left * s->size_bytes;
	}
	*ret_dispatch = d;
	return DF_OK;
}

void df_dispatch_destroy(struct df_dispatch **dispatch)
{
	struct df_dispatch *d = *dispatch;
	if (!d)
		return;
	for (size_t i = 0; i < d->n_lease; i++)
		df_lease_free(d->lease[i]);
	df_lease_free(d->spare);
	free(d->lease);
	df_work_queue_release(&d->alone);
	df_work_queue_release(&d->redo);
	df_work_queue_release(&d->ready);
	free(d->lane);
	free(d->strike);
	free(d);
	*dispatch = NULL;
}

/* The first lane that is not below `lane`: they are in order, since with a thousand of them each event asks for a thousand. */
static size_t lane_at(const struct df_dispatch *d, uint64_t lane)
{
	size_t low = 0, high = d->n_lane;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (d->lane[mid].id < lane)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

enum df_err df_dispatch_add_lane(struct df_dispatch *d, uint64_t lane)
{
	if (d->n_lane == DF_LANES_MAX)
		return DF_ERR_LIMIT;
	DF_TRY(df_array_room((void **)&d->lane, d->n_lane, &d->cap_lane, sizeof(*d->lane)));
	size_t at = lane_at(d, lane);
	memmove(&d->lane[at + 1], &d->lane[at], (d->n_lane - at) * sizeof(*d->lane));
	d->lane[at] = (struct df_lane){.id = lane};
	d->n_lane++;
	return DF_OK;
}

struct df_lane *df_dispatch_lane(const struct df_dispatch *d, uint64_t lane)
{
	size_t at = lane_at(d, lane);
	return at < d->n_lane && d->lane[at].id == lane ? &d->lane[at] : NULL;
}

/* ------------------------------------------------------------------ filling a lease */

/* Where work waits for the network, what a lease has of a second place would wait behind the first. */
static bool lease_full(const struct df_dispatch *d, const struct df_lease *l, uint64_t target)
{
	if (d->config.waits)
		return l->n_cells > 0;
	return l->n_cells >= DF_LEASE_SEGMENTS_MAX || l->n_blob >= DF_MESSAGE_FRAMES_MAX - 1 ||
	       (l->n_cells && l->bytes >= target);
}

static bool ordered(const struct df_dispatch *d)
{
	return d->config.window_bytes != 0;
}

/* Bytes of the next lease of this lane. */
static uint64_t target_of(const struct df_dispatch *d, const struct df_lane *lane)
{
	return d->config.waits ? df_spread_cells(d) * d->config.grid->cell_bytes : df_pace_target(d, lane);
}

/* Work over which strangers killed again is halved each time. */
static uint64_t redo_target(struct df_dispatch *d, const struct df_lane *lane)
{
	const struct df_work *w = df_work_queue_head(&d->redo);
	uint32_t halves = w->kills > 1 ? w->kills - 1 : 0;
	return target_of(d, lane) >> (halves < 63 ? halves : 63);
}

/* As much of a run of plain cells as one lease of this lane should have: what a fast lane lost may be much for a slow one. */
static struct df_cells piece_of(const struct df_dispatch *d, const struct df_work *w, uint64_t target)
{
	struct df_cells piece = w->cells;
	uint64_t cell_bytes = d->config.grid->cell_bytes;
	if (!w->blob && piece.n > 1 && piece.n * cell_bytes > target + target / 2)
		piece.n = target > cell_bytes ? target / cell_bytes : 1;
	return piece;
}

static void queue_take(struct df_work_queue *q, struct df_cells taken)
{
	struct df_work *w = df_work_queue_head(q);
	if (w->cells.n == taken.n) {
		df_work_queue_drop_head(q);
		return;
	}
	w->cells.first += taken.n;
	w->cells.n -= taken.n;
}

static void inherit(struct df_lease *l, const struct df_work *w)
{
	l->attempts = w->attempts > l->attempts ? w->attempts : l->attempts;
	l->kills = w->kills > l->kills ? w->kills : l->kills;
	if (w->lost_ns && (!l->lost_ns || w->lost_ns < l->lost_ns))
		l->lost_ns = w->lost_ns;
}

static enum df_err take_queue(struct df_dispatch *d, struct df_work_queue *q, struct df_lease *l, uint64_t target,
			      bool redo)
{
	while (q->n && !lease_full(d, l, target)) {
		struct df_work *w = df_work_queue_head(q);
		if (redo && l->n_cells && ordered(d))
			break; /* rows of one lease are written in one piece, so their cells must be neighbours */
		if (l->n_cells && w->kills != l->kills)
			break; /* what is half suspected draws nothing else into it */
		struct df_cells piece = redo ? piece_of(d, w, target) : w->cells;
		uint64_t bytes = w->blob ? w->blob->n : df_dispatch_bytes(d, piece);
		if (l->n_cells && l->bytes + bytes > d->config.lease_bytes_max)
			break;
		if (l->n_cells && (l->n_blob > 0) != (w->blob != NULL))
			break; /* readers' cells travel apart from plain ones: payload frames stay in step with segments */
		DF_TRY(df_lease_take(l, piece, w->blob, bytes));
		if (redo)
			l->flags |= DF_LEASE_REDO;
		inherit(l, w);
		queue_take(q, piece);
	}
	return DF_OK;
}

static enum df_err take_suspect(struct df_dispatch *d, struct df_lane *lane, struct df_lease *l)
{
	const struct df_work *w = df_work_queue_head(&d->alone);
	struct df_cells one = {w->cells.source, w->cells.first, 1};
	DF_TRY(df_lease_take(l, one, w->blob, w->blob ? w->blob->n : df_dispatch_bytes(d, one)));
	l->flags |= DF_LEASE_ALONE | DF_LEASE_REDO;
	l->suspect = true;
	inherit(l, w);
	lane->alone = true;
	queue_take(&d->alone, one);
	return DF_OK;
}

/* To the lane that comes to it soonest: for another one this is no time. */
static enum df_err take_redo(struct df_dispatch *d, const struct df_lane *lane, struct df_lease *l, uint64_t now_ns)
{
	const struct df_work *w = df_work_queue_head(&d->redo);
	if (!w)
		return DF_OK;
	uint64_t bytes = w->blob ? w->blob->n : df_dispatch_bytes(d, w->cells);
	if (bytes > d->config.lease_bytes_max)
		bytes = d->config.lease_bytes_max;
	if ((d->config.waits ? df_spread_least(d) : df_pace_soonest(d, bytes, now_ns)) != lane)
		return DF_OK;
	return take_queue(d, &d->redo, l, redo_target(d, lane), true);
}

static bool window_full(const struct df_dispatch *d)
{
	return ordered(d) && (d->window_used >= d->config.window_bytes || d->held_bytes >= d->config.window_bytes);
}

static enum df_err take_fresh(struct df_dispatch *d, struct df_lease *l, uint64_t target)
{
	struct df_grid *g = d->config.grid;
	DF_ASSERT(g->cell_bytes > 0);
	while (d->fresh_source < g->n_source && !lease_full(d, l, target)) {
		struct df_grid_source *s = &g->source[d->fresh_source];
		if (ordered(d) && s->kind == DF_SOURCE_READER && !(s->ended && d->ready.n == 0))
			break; /* its turn: nothing behind it may be leased before its last cell */
		uint64_t want = (target - (l->bytes < target ? l->bytes : target)) / g->cell_bytes;
		struct df_cells cells = df_grid_next(g, d->fresh_source, s->fresh, want ? want : 1);
		if (cells.n == 0) {
			d->fresh_source++;
			continue;
		}
		uint64_t bytes = df_dispatch_bytes(d, cells);
		if (l->n_cells && l->bytes + bytes > d->config.lease_bytes_max)
			break;
		DF_TRY(df_lease_take(l, cells, NULL, bytes));
		s->fresh = cells.first + cells.n;
		d->fresh_cells -= cells.n < d->fresh_cells ? cells.n : d->fresh_cells;
		d->fresh_bytes -= bytes < d->fresh_bytes ? bytes : d->fresh_bytes;
		d->window_used += bytes;
	}
	return DF_OK;
}

/* What nobody has had yet, or an idle lane's twin. */
static enum df_err take_new(struct df_dispatch *d, const struct df_lane *lane, struct df_lease *l, uint64_t now_ns)
{
	uint64_t target = target_of(d, lane);
	if (!window_full(d)) {
		size_t before = d->ready.n;
		DF_TRY(take_queue(d, &d->ready, l, target, false));
		if (before != d->ready.n)
			d->window_used +=
				l->n_blob * d->config.grid->cell_bytes; /* as df_dispatch_written will count them */
		else if (d->config.waits || !df_pace_hinders(d, lane, now_ns))
			DF_TRY(take_fresh(d, l, target));
	}
	if (!l->n_cells && !lane->held && d->config.tail_redo && !d->config.waits && !d->redo.n)
		return df_lease_twin(d, lane, l, now_ns);
	return DF_OK;
}

static enum df_err fill(struct df_dispatch *d, struct df_lane *lane, struct df_lease *l, uint64_t now_ns)
{
	if (d->alone.n && !lane->held)
		return take_suspect(d, lane, l);
	DF_TRY(take_redo(d, lane, l, now_ns));
	if (d->config.waits) {
		bool enough = lane->held >= df_spread_credits(d) || df_spread_clears(d, lane);
		return l->n_cells || enough ? DF_OK : take_new(d, lane, l, now_ns);
	}
	/* while suspects wait for an empty lane, nothing new keeps lanes from becoming empty; a lane that is late has enough */
	if (l->n_cells || d->alone.n || lane->held >= d->config.credits || df_pace_late(d, lane, now_ns))
		return DF_OK;
	return take_new(d, lane, l, now_ns);
}

static bool may_have_more(const struct df_dispatch *d, const struct df_lane *lane)
{
	uint32_t most = d->config.credits + (d->redo.n ? DF_LANE_REDO_CREDITS : 0);
	return !lane->alone && !lane->lost && lane->held < most;
}

enum df_err df_dispatch_next(struct df_dispatch *d, uint64_t lane_id, uint64_t now_ns,
			     const struct df_lease **ret_lease)
{
	struct df_lane *lane = df_dispatch_lane(d, lane_id);
	if (!lane)
		return DF_ERR_AGAIN;
	df_pace_look(d, lane, now_ns);
	if (!may_have_more(d, lane))
		return DF_ERR_AGAIN;
	DF_TRY(df_array_room((void **)&d->lease, d->n_lease, &d->cap_lease, sizeof(struct df_lease *)));
	struct df_lease *l = df_lease_blank(d);
	if (!l)
		return DF_ERR_NOMEM;
	enum df_err err = fill(d, lane, l, now_ns);
	if (err != DF_OK || l->n_cells == 0) {
		df_lease_done_with(d, l);
		return err != DF_OK ? err : DF_ERR_AGAIN;
	}
	l->id = d->next_lease++;
	l->lane = lane_id;
	l->sent_ns = now_ns;
	d->lease[d->n_lease++] = l;
	lane->held++;
	lane->bytes += l->bytes;
	df_pace_look(d, lane, now_ns);
	*ret_lease = l;
	return DF_OK;
}

/* ------------------------------------------------------------------ readers' cells, and questions */

enum df_err df_dispatch_cell(struct df_dispatch *d, uint32_t source, uint64_t cell, struct df_blob *blob)
{
	DF_TRY(df_work_queue_put(&d->ready, (struct df_work){.cells = {source, cell, 1}, .blob = blob}));
	d->reader_bytes += blob->n;
	return DF_OK;
}

uint32_t df_dispatch_turn(const struct df_dispatch *d)
{
	return ordered(d) ? d->fresh_source : UINT32_MAX;
}

uint64_t df_dispatch_reader_bytes(const struct df_dispatch *d)
{
	return d->reader_bytes;
}

uint32_t df_dispatch_held(const struct df_dispatch *d, uint64_t lane)
{
	const struct df_lane *l = df_dispatch_lane(d, lane);
	return l ? l->held : 0;
}

uint32_t df_dispatch_n_leased(const struct df_dispatch *d)
{
	return (uint32_t)(d->n_lease - d->n_void);
}

bool df_dispatch_idle(const struct df_dispatch *d)
{
	const struct df_grid *g = d->config.grid;
	if (d->n_lease > d->n_void || d->alone.n || d->redo.n || d->ready.n)
		return false;
	for (uint32_t s = d->fresh_source; s < g->n_source; s++)
		if (df_grid_next(g, s, g->source[s].fresh, 1).n)
			return false;
	return true;
}

bool df_dispatch_redo_waits(const struct df_dispatch *d)
{
	return d->redo.n != 0;
}
