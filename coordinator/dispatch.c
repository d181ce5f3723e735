// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch: from pending cells to leases and back.
 *
 * DESIGN. Three queues of work feed a lease in this order: `alone` (suspects; one cell, an empty lane), `redo`, `ready` (readers' cells),
 * then the fresh cursor. Work in the queues is a run of cells of one source, or one reader's cell with its bytes. The number
 * of lanes and leases is small (tens), so they live in arrays that are searched from the front; cells by the million
 * are never touched one by one.
 */
#include "coordinator/dispatch.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"

struct work {
	struct df_cells cells;
	struct df_blob *blob; /* readers' cells: one cell, its bytes */
	uint32_t attempts;
};

/* A FIFO that also takes at the front. */
struct queue {
	struct work *item;
	size_t first, n, cap; /* cap is a power of two */
};

struct lane {
	uint64_t id;
	uint32_t held;
	bool alone; /* holds a suspect */
};

struct df_dispatch {
	struct df_dispatch_config config;
	struct lane *lane;
	size_t n_lane, cap_lane;
	struct df_lease **lease; /* all that are out */
	size_t n_lease, cap_lease;
	struct df_lease *spare; /* one kept for reuse */
	uint64_t next_lease;
	struct queue alone, redo, ready;
	uint32_t fresh_source; /* sources before it have no fresh cells left */
	double ns_per_byte;    /* running mean of results; 0: nothing known yet */
	uint64_t fresh_bytes;  /* plain bytes still behind the cursor, for the tail */
	uint64_t window_used;  /* -k: bytes leased and not written */
	uint64_t held_bytes;
	uint64_t reader_bytes;
	struct df_strike *strike; /* records with one or more */
	size_t n_strike, cap_strike;
	size_t n_poison; /* of them */
	uint64_t strikes;
	uint32_t crashes; /* outside of documents, over one cell at most */
};

/* ------------------------------------------------------------------ queues */

static enum df_err queue_grow(struct queue *q)
{
	if (q->n < q->cap)
		return DF_OK;
	size_t cap = q->cap ? q->cap * 2 : 16;
	struct work *item = malloc(cap * sizeof(*item));
	if (!item)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < q->n; i++)
		item[i] = q->item[(q->first + i) & (q->cap - 1)];
	free(q->item);
	*q = (struct queue){item, 0, q->n, cap};
	return DF_OK;
}

static enum df_err queue_put(struct queue *q, struct work w)
{
	DF_TRY(queue_grow(q));
	q->item[(q->first + q->n++) & (q->cap - 1)] = w;
	return DF_OK;
}

static struct work *queue_head(struct queue *q)
{
	return q->n ? &q->item[q->first] : NULL;
}

static void queue_drop_head(struct queue *q)
{
	q->first = (q->first + 1) & (q->cap - 1);
	q->n--;
}

static uint64_t cells_bytes(const struct df_dispatch *d, struct df_cells cells)
{
	uint64_t start = 0, end = 0;
	df_grid_bytes(d->config.grid, cells, &start, &end);
	return end - start;
}

static void window_release(struct df_dispatch *d, uint64_t bytes)
{
	d->window_used -= bytes < d->window_used ? bytes : d->window_used;
}

/* `leased_before`: what is in this queue was charged to the window, and will now never be written. */
static void queue_drop_source(struct df_dispatch *d, struct queue *q, uint32_t source, bool leased_before)
{
	size_t n = q->n;
	for (size_t i = 0; i < n; i++) {
		struct work w = *queue_head(q);
		queue_drop_head(q);
		if (w.cells.source == source) {
			d->reader_bytes -= w.blob ? w.blob->n : 0;
			window_release(d, leased_before ? cells_bytes(d, w.cells) : 0);
			df_blob_unref(&w.blob);
		} else {
			q->item[(q->first + q->n++) & (q->cap - 1)] = w; /* room was just made */
		}
	}
}

static void queue_release(struct queue *q)
{
	for (; q->n; queue_drop_head(q))
		df_blob_unref(&queue_head(q)->blob);
	free(q->item);
}

/* ------------------------------------------------------------------ life */

static void lease_free(struct df_lease *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_blob; i++)
		df_blob_unref(&l->blob[i]);
	free(l->blob);
	free(l->cells);
	free(l);
}

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
		lease_free(d->lease[i]);
	lease_free(d->spare);
	free(d->lease);
	queue_release(&d->alone);
	queue_release(&d->redo);
	queue_release(&d->ready);
	free(d->lane);
	free(d->strike);
	free(d);
	*dispatch = NULL;
}

enum df_err df_dispatch_add_lane(struct df_dispatch *d, uint64_t lane)
{
	if (d->n_lane == DF_LANES_MAX)
		return DF_ERR_LIMIT;
	DF_TRY(df_array_room((void **)&d->lane, d->n_lane, &d->cap_lane, sizeof(*d->lane)));
	d->lane[d->n_lane++] = (struct lane){.id = lane};
	return DF_OK;
}

static struct lane *find_lane(const struct df_dispatch *d, uint64_t lane)
{
	for (size_t i = 0; i < d->n_lane; i++)
		if (d->lane[i].id == lane)
			return &d->lane[i];
	return NULL;
}

static size_t find_lease(const struct df_dispatch *d, uint64_t lane, uint64_t lease)
{
	for (size_t i = 0; i < d->n_lease; i++)
		if (d->lease[i]->id == lease && d->lease[i]->lane == lane)
			return i;
	return SIZE_MAX;
}

/* ------------------------------------------------------------------ building a lease */

static enum df_err lease_take(struct df_lease *l, struct df_cells cells, struct df_blob *blob, uint64_t bytes)
{
	struct df_cells *last = l->n_cells ? &l->cells[l->n_cells - 1] : NULL;
	if (blob) {
		DF_TRY(df_array_room((void **)&l->blob, l->n_blob, &l->cap_blob, sizeof(struct df_blob *)));
	}
	if (last && last->source == cells.source && last->first + last->n == cells.first) {
		last->n += cells.n;
	} else {
		DF_TRY(df_array_room((void **)&l->cells, l->n_cells, &l->cap_cells, sizeof(*l->cells)));
		l->cells[l->n_cells++] = cells;
	}
	if (blob)
		l->blob[l->n_blob++] = blob;
	l->bytes += bytes;
	return DF_OK;
}

/* Bytes that about target_ns of work hold; one cell until a first result says what work costs. */
static uint64_t lease_target(const struct df_dispatch *d)
{
	uint64_t target = d->config.grid->cell_bytes;
	if (d->ns_per_byte > 0) {
		double bytes = (double)d->config.target_ns / d->ns_per_byte;
		target = bytes > (double)d->config.lease_bytes_max ? d->config.lease_bytes_max : (uint64_t)bytes;
	}
	/* the tail is cut finer, so that all lanes end together; below 1/16 the messages would cost more than they save */
	uint64_t share = d->fresh_bytes / (4 * (uint64_t)(d->config.n_lane_hint ? d->config.n_lane_hint : 1));
	if (share < target / 16)
		share = target / 16;
	return d->fresh_bytes && target > share ? share : target;
}

static bool lease_full(const struct df_lease *l, uint64_t target)
{
	return l->n_cells >= DF_LEASE_SEGMENTS_MAX || l->n_blob >= DF_MESSAGE_FRAMES_MAX - 1 ||
	       (l->n_cells && l->bytes >= target);
}

static bool ordered(const struct df_dispatch *d)
{
	return d->config.window_bytes != 0;
}

static enum df_err take_queue(struct df_dispatch *d, struct queue *q, struct df_lease *l, uint64_t target, bool redo)
{
	while (q->n && !lease_full(l, target)) {
		struct work *w = queue_head(q);
		if (redo && l->n_cells && ordered(d))
			break; /* rows of one lease are written in one piece, so their cells must be neighbours */
		uint64_t bytes = w->blob ? w->blob->n : cells_bytes(d, w->cells);
		if (l->n_cells && l->bytes + bytes > d->config.lease_bytes_max)
			break;
		if (l->n_cells && (l->n_blob > 0) != (w->blob != NULL))
			break; /* readers' cells travel apart from plain ones: payload frames stay in step with segments */
		DF_TRY(lease_take(l, w->cells, w->blob, bytes));
		if (redo)
			l->flags |= DF_LEASE_REDO;
		if (w->attempts > l->attempts)
			l->attempts = w->attempts;
		queue_drop_head(q);
	}
	return DF_OK;
}

static bool window_full(const struct df_dispatch *d)
{
	return ordered(d) && (d->window_used >= d->config.window_bytes || d->held_bytes >= d->config.window_bytes);
}

static enum df_err take_fresh(struct df_dispatch *d, struct df_lease *l, uint64_t target)
{
	struct df_grid *g = d->config.grid;
	DF_ASSERT(g->cell_bytes > 0);
	while (d->fresh_source < g->n_source && !lease_full(l, target)) {
		struct df_grid_source *s = &g->source[d->fresh_source];
		if (ordered(d) && s->kind == DF_SOURCE_READER && !(s->ended && d->ready.n == 0))
			break; /* its turn: nothing behind it may be leased before its last cell */
		uint64_t want = (target - (l->bytes < target ? l->bytes : target)) / g->cell_bytes;
		struct df_cells cells = df_grid_next(g, d->fresh_source, s->fresh, want ? want : 1);
		if (cells.n == 0) {
			d->fresh_source++;
			continue;
		}
		uint64_t bytes = cells_bytes(d, cells);
		if (l->n_cells && l->bytes + bytes > d->config.lease_bytes_max)
			break;
		DF_TRY(lease_take(l, cells, NULL, bytes));
		s->fresh = cells.first + cells.n;
		d->fresh_bytes -= bytes < d->fresh_bytes ? bytes : d->fresh_bytes;
		d->window_used += bytes;
	}
	return DF_OK;
}

static enum df_err fill(struct df_dispatch *d, struct lane *lane, struct df_lease *l)
{
	uint64_t target = lease_target(d);
	if (d->alone.n) {
		if (lane->held)
			return d->redo.n ? take_queue(d, &d->redo, l, target, true) : DF_OK;
		struct work w = *queue_head(&d->alone);
		struct df_cells one = {w.cells.source, w.cells.first, 1};
		DF_TRY(lease_take(l, one, w.blob, w.blob ? w.blob->n : cells_bytes(d, one)));
		l->flags |= DF_LEASE_ALONE | DF_LEASE_REDO;
		l->attempts = w.attempts;
		lane->alone = true;
		if (w.cells.n == 1) {
			queue_drop_head(&d->alone);
		} else {
			queue_head(&d->alone)->cells.first++;
			queue_head(&d->alone)->cells.n--;
		}
		return DF_OK;
	}
	DF_TRY(take_queue(d, &d->redo, l, target, true));
	if (l->n_cells)
		return DF_OK;
	if (window_full(d))
		return DF_OK;
	size_t before = d->ready.n;
	DF_TRY(take_queue(d, &d->ready, l, target, false));
	if (before != d->ready.n) {
		d->window_used += l->n_blob * d->config.grid->cell_bytes; /* as df_dispatch_written will count them */
		return DF_OK;
	}
	return take_fresh(d, l, target);
}

static struct df_lease *lease_blank(struct df_dispatch *d)
{
	struct df_lease *l = d->spare;
	d->spare = NULL;
	if (!l)
		return calloc(1, sizeof(*l));
	l->flags = l->attempts = 0;
	l->n_cells = l->n_blob = 0;
	l->bytes = 0;
	return l;
}

static void lease_done_with(struct df_dispatch *d, struct df_lease *l)
{
	for (size_t i = 0; i < l->n_blob; i++) {
		d->reader_bytes -= l->blob[i] ? l->blob[i]->n : 0;
		df_blob_unref(&l->blob[i]);
	}
	l->n_blob = 0;
	if (d->spare)
		lease_free(l);
	else
		d->spare = l;
}

enum df_err df_dispatch_next(struct df_dispatch *d, uint64_t lane_id, uint64_t now_ns,
			     const struct df_lease **ret_lease)
{
	struct lane *lane = find_lane(d, lane_id);
	if (!lane || lane->held >= d->config.credits || lane->alone)
		return DF_ERR_AGAIN;
	DF_TRY(df_array_room((void **)&d->lease, d->n_lease, &d->cap_lease, sizeof(struct df_lease *)));
	struct df_lease *l = lease_blank(d);
	if (!l)
		return DF_ERR_NOMEM;
	enum df_err err = fill(d, lane, l);
	if (err != DF_OK || l->n_cells == 0) {
		lease_done_with(d, l);
		return err != DF_OK ? err : DF_ERR_AGAIN;
	}
	l->id = d->next_lease++;
	l->lane = lane_id;
	l->sent_ns = now_ns;
	d->lease[d->n_lease++] = l;
	lane->held++;
	*ret_lease = l;
	return DF_OK;
}

/* ------------------------------------------------------------------ answers */

static struct df_lease *lease_remove(struct df_dispatch *d, size_t at)
{
	struct df_lease *l = d->lease[at];
	d->lease[at] = d->lease[--d->n_lease];
	struct lane *lane = find_lane(d, l->lane);
	if (lane) {
		lane->held--;
		lane->alone = false;
	}
	return l;
}

void df_dispatch_seen(struct df_dispatch *d, uint64_t lane, uint64_t lease, uint64_t busy_ns)
{
	size_t at = find_lease(d, lane, lease);
	if (at == SIZE_MAX)
		return;
	struct df_lease *l = lease_remove(d, at);
	if (l->bytes && !(l->flags & DF_LEASE_ALONE)) {
		double now =
			(double)(busy_ns ? busy_ns : 1) / (double)l->bytes; /* 0 would mean that nothing is known */
		d->ns_per_byte = d->ns_per_byte > 0 ? 0.75 * d->ns_per_byte + 0.25 * now : now;
	}
	lease_done_with(d, l);
}

void df_dispatch_written(struct df_dispatch *d, struct df_cells cells)
{
	window_release(d, cells_bytes(d, cells));
}

void df_dispatch_set_held(struct df_dispatch *d, uint64_t held_bytes)
{
	d->held_bytes = held_bytes;
}

/* All cells of a lease become work again; blobs move with them. */
static enum df_err put_back(struct df_dispatch *d, struct df_lease *l, struct queue *q, uint32_t attempts)
{
	size_t blob = 0;
	for (size_t i = 0; i < l->n_cells; i++) {
		struct df_cells c = l->cells[i];
		const struct df_grid_source *s = &d->config.grid->source[c.source];
		if (s->kind != DF_SOURCE_READER) {
			if (!s->failed)
				DF_TRY(queue_put(q, (struct work){c, NULL, attempts}));
			else
				window_release(d, cells_bytes(d, c)); /* never written now */
			continue;
		}
		for (uint64_t k = 0; k < c.n; k++, blob++) {
			struct work w = {{c.source, c.first + k, 1}, l->blob[blob], attempts};
			DF_TRY(queue_put(q, w));
			l->blob[blob] = NULL;
		}
	}
	return DF_OK;
}

enum df_err df_dispatch_failed(struct df_dispatch *d, uint64_t lane, uint64_t lease, bool counts,
			       uint32_t *ret_attempts)
{
	size_t at = find_lease(d, lane, lease);
	if (at == SIZE_MAX)
		return DF_ERR_NOT_FOUND;
	struct df_lease *l = lease_remove(d, at);
	uint32_t attempts = l->attempts + counts;
	DF_TRY(put_back(d, l, &d->redo, attempts));
	lease_done_with(d, l);
	*ret_attempts = attempts;
	return DF_OK;
}

void df_dispatch_drop_source(struct df_dispatch *d, uint32_t source)
{
	queue_drop_source(d, &d->alone, source, true);
	queue_drop_source(d, &d->redo, source, true);
	queue_drop_source(d, &d->ready, source, false);
}

bool df_dispatch_source_out(const struct df_dispatch *d, uint32_t source)
{
	for (size_t i = 0; i < d->n_lease; i++)
		for (size_t k = 0; k < d->lease[i]->n_cells; k++)
			if (d->lease[i]->cells[k].source == source)
				return true;
	return false;
}

/* ------------------------------------------------------------------ blame */

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

enum df_err df_dispatch_retire(struct df_dispatch *d, uint64_t lane, const struct df_blame *blame,
			       struct df_strike *ret_strike)
{
	struct df_strike struck = {.n = 0};
	bool crashed = blame->cause != DF_CAUSE_STRANGER;
	for (size_t i = 0; i < d->n_lease;) {
		struct df_lease *l = d->lease[i];
		if (l->lane != lane) {
			i++;
			continue;
		}
		lease_remove(d, i);
		bool blamed = blame->computing && blame->lease == l->id;
		if (blamed && crashed && blame->alone)
			DF_TRY(strike(d, blame, &struck));
		uint32_t attempts = l->attempts + (crashed && !blame->computing);
		if (attempts > l->attempts && attempts > d->crashes)
			d->crashes = attempts;
		DF_TRY(put_back(d, l, blamed ? &d->alone : &d->redo, attempts));
		lease_done_with(d, l);
	}
	for (size_t i = 0; i < d->n_lane; i++)
		if (d->lane[i].id == lane) {
			d->lane[i] = d->lane[--d->n_lane];
			break;
		}
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

/* ------------------------------------------------------------------ readers' cells, and questions */

enum df_err df_dispatch_cell(struct df_dispatch *d, uint32_t source, uint64_t cell, struct df_blob *blob)
{
	DF_TRY(queue_put(&d->ready, (struct work){{source, cell, 1}, blob, 0}));
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
	const struct lane *l = find_lane(d, lane);
	return l ? l->held : 0;
}

uint32_t df_dispatch_n_leased(const struct df_dispatch *d)
{
	return (uint32_t)d->n_lease;
}

bool df_dispatch_idle(const struct df_dispatch *d)
{
	const struct df_grid *g = d->config.grid;
	if (d->n_lease || d->alone.n || d->redo.n || d->ready.n)
		return false;
	for (uint32_t s = d->fresh_source; s < g->n_source; s++)
		if (df_grid_next(g, s, g->source[s].fresh, 1).n)
			return false;
	return true;
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
