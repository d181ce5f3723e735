// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch_lease: leases that are out.
 *
 * DESIGN. A cell is held by one lease, or by two that are twins: the same cells in the same order, on different lanes. The first whole
 * result wins: the sink takes its cells, and drops the other's result when it comes. From that moment the other lease is
 * *void*: it holds no cell, so nothing comes back when it fails or its lane is retired; it still occupies its lane until the
 * worker has answered or is gone. A twin that ends in any other way leaves all cells, and what is held against them, to
 * the one that lives. Readers' bytes of twins are shared, and counted once.
 */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch_core.h"

void df_lease_free(struct df_lease *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_blob; i++)
		df_blob_unref(&l->blob[i]);
	free(l->blob);
	free(l->cells);
	free(l);
}

struct df_lease *df_lease_blank(struct df_dispatch *d)
{
	struct df_lease *l = d->spare;
	d->spare = NULL;
	if (!l)
		return calloc(1, sizeof(*l));
	*l = (struct df_lease){.cells = l->cells, .cap_cells = l->cap_cells, .blob = l->blob, .cap_blob = l->cap_blob};
	return l;
}

enum df_err df_lease_take(struct df_lease *l, struct df_cells cells, struct df_blob *blob, uint64_t bytes)
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

static void drop_blobs(struct df_lease *l)
{
	for (size_t i = 0; i < l->n_blob; i++)
		df_blob_unref(&l->blob[i]);
	l->n_blob = 0;
}

void df_lease_done_with(struct df_dispatch *d, struct df_lease *l)
{
	if (l->twin)
		l->twin->twin = NULL; /* which holds the bytes on */
	for (size_t i = 0; i < l->n_blob && !l->twin; i++)
		d->reader_bytes -= l->blob[i] ? l->blob[i]->n : 0;
	drop_blobs(l);
	l->twin = NULL;
	if (d->spare)
		df_lease_free(l);
	else
		d->spare = l;
}

static size_t find(const struct df_dispatch *d, uint64_t lane, uint64_t lease)
{
	for (size_t i = 0; i < d->n_lease; i++)
		if (d->lease[i]->id == lease && d->lease[i]->lane == lane)
			return i;
	return SIZE_MAX;
}

struct df_lease *df_lease_remove(struct df_dispatch *d, size_t at)
{
	struct df_lease *l = d->lease[at];
	d->lease[at] = d->lease[--d->n_lease];
	d->n_void -= l->is_void;
	struct df_lane *lane = df_dispatch_lane(d, l->lane);
	if (!lane)
		return l;
	lane->held--;
	lane->bytes -= l->bytes;
	lane->alone = false;
	if (lane->head == l->id)
		lane->since_ns = 0; /* the next look says when it was at its next one */
	return l;
}

/* ------------------------------------------------------------------ twins */

static bool may_have_twin(const struct df_dispatch *d, const struct df_lease *l, uint64_t now_ns)
{
	/* work that may have ended a process, or failed, is not given to two at a time */
	if (l->is_void || l->twin || l->suspect || l->attempts || l->kills)
		return false;
	const struct df_lane *its = df_dispatch_lane(d, l->lane);
	return its && !its->lost && df_pace_late(d, its, now_ns);
}

static enum df_err copy(struct df_lease *to, const struct df_lease *from)
{
	for (size_t i = 0; i < from->n_cells; i++)
		DF_TRY(df_lease_take(to, from->cells[i], NULL, 0));
	for (size_t i = 0; i < from->n_blob; i++) {
		DF_TRY(df_array_room((void **)&to->blob, to->n_blob, &to->cap_blob, sizeof(struct df_blob *)));
		to->blob[to->n_blob++] = df_blob_ref(from->blob[i]);
	}
	to->bytes = from->bytes;
	to->flags = from->flags;
	return DF_OK;
}

enum df_err df_lease_twin(struct df_dispatch *d, const struct df_lane *lane, struct df_lease *l, uint64_t now_ns)
{
	struct df_lease *oldest = NULL;
	bool any_late = false;
	for (size_t i = 0; i < d->n_lane && !any_late; i++)
		any_late = df_pace_late(d, &d->lane[i], now_ns);
	/* a slow lane would only keep a better one from it */
	if (!any_late || (lane->ns_per_byte > 0 && df_pace_cost(d, lane) > 3 * df_pace_typical(d)))
		return DF_OK;
	for (size_t i = 0; i < d->n_lease; i++)
		if ((!oldest || d->lease[i]->id < oldest->id) && may_have_twin(d, d->lease[i], now_ns))
			oldest = d->lease[i];
	if (!oldest)
		return DF_OK;
	enum df_err err = copy(l, oldest);
	if (err != DF_OK) {
		drop_blobs(l); /* counted with the other */
		l->n_cells = 0;
		return err;
	}
	l->twin = oldest;
	oldest->twin = l;
	d->n_twin++;
	return DF_OK;
}

/* The other of the two has won. */
static void make_void(struct df_dispatch *d, struct df_lease *l)
{
	l->is_void = true;
	l->twin = NULL;
	drop_blobs(l);
	d->n_void++;
}

bool df_dispatch_drop_void(struct df_dispatch *d, uint64_t lane, uint64_t lease)
{
	size_t at = find(d, lane, lease);
	if (at == SIZE_MAX || !d->lease[at]->is_void)
		return false;
	df_lease_done_with(d, df_lease_remove(d, at));
	return true;
}

uint64_t df_dispatch_n_twin(const struct df_dispatch *d)
{
	return d->n_twin;
}

/* ------------------------------------------------------------------ answers */

static void note_slow(struct df_dispatch *d, const struct df_lease *l, uint64_t busy_ns)
{
	size_t i = d->n_slow;
	if (i == DF_SLOWEST && d->slow[i - 1].busy_ns >= busy_ns)
		return;
	struct df_slow s = {l->cells[0].source, l->cells[0].first, 0, l->bytes, busy_ns, l->lane};
	for (size_t k = 0; k < l->n_cells; k++)
		s.n_cells += l->cells[k].n;
	if (i < DF_SLOWEST)
		d->n_slow++;
	else
		i--;
	for (; i > 0 && d->slow[i - 1].busy_ns < busy_ns; i--)
		d->slow[i] = d->slow[i - 1];
	d->slow[i] = s;
}

size_t df_dispatch_slowest(const struct df_dispatch *d, struct df_slow *ret, size_t max)
{
	size_t n = d->n_slow < max ? d->n_slow : max;
	memcpy(ret, d->slow, n * sizeof(*ret));
	return n;
}

void df_dispatch_seen(struct df_dispatch *d, uint64_t lane, uint64_t lease, uint64_t busy_ns)
{
	size_t at = find(d, lane, lease);
	if (at == SIZE_MAX)
		return;
	struct df_lease *l = df_lease_remove(d, at);
	df_pace_seen(d, df_dispatch_lane(d, lane), l, busy_ns);
	note_slow(d, l, busy_ns);
	if (l->twin)
		make_void(d, l->twin);
	l->twin = NULL;
	df_lease_done_with(d, l);
}

void df_dispatch_written(struct df_dispatch *d, struct df_cells cells)
{
	df_dispatch_window_release(d, df_dispatch_bytes(d, cells));
}

void df_dispatch_set_held(struct df_dispatch *d, uint64_t held_bytes)
{
	d->held_bytes = held_bytes;
}

/* All cells of a lease become work again; blobs move with them. */
static enum df_err make_pending(struct df_dispatch *d, struct df_lease *l, uint64_t lost_ns)
{
	struct df_work_queue *q = l->suspect ? &d->alone : &d->redo;
	size_t blob = 0;
	for (size_t i = 0; i < l->n_cells; i++) {
		struct df_work w = {l->cells[i], NULL, l->attempts, l->kills, lost_ns};
		const struct df_grid_source *s = &d->config.grid->source[w.cells.source];
		if (s->kind != DF_SOURCE_READER) {
			if (!s->failed)
				DF_TRY(df_work_queue_put(q, w));
			else
				df_dispatch_window_release(d, df_dispatch_bytes(d, w.cells)); /* never written now */
			continue;
		}
		uint64_t end = w.cells.first + w.cells.n;
		for (w.cells.n = 1; w.cells.first < end; w.cells.first++, blob++) {
			w.blob = l->blob[blob];
			DF_TRY(df_work_queue_put(q, w));
			l->blob[blob] = NULL;
		}
	}
	return DF_OK;
}

enum df_err df_lease_put_back(struct df_dispatch *d, struct df_lease *l, uint64_t lost_ns)
{
	enum df_err err = DF_OK;
	struct df_lease *other = l->twin;
	if (other) {
		other->attempts = l->attempts > other->attempts ? l->attempts : other->attempts;
		other->kills = l->kills > other->kills ? l->kills : other->kills;
		other->suspect = other->suspect || l->suspect;
	} else if (!l->is_void) {
		err = make_pending(d, l, lost_ns);
	}
	df_lease_done_with(d, l);
	return err;
}

enum df_err df_dispatch_failed(struct df_dispatch *d, uint64_t lane, uint64_t lease, bool counts,
			       uint32_t *ret_attempts)
{
	size_t at = find(d, lane, lease);
	if (at == SIZE_MAX)
		return DF_ERR_NOT_FOUND;
	struct df_lease *l = df_lease_remove(d, at);
	l->attempts += counts;
	uint32_t attempts = l->is_void || l->twin ? 0 : l->attempts;
	DF_TRY(df_lease_put_back(d, l, 0));
	*ret_attempts = attempts;
	return DF_OK;
}

bool df_dispatch_source_out(const struct df_dispatch *d, uint32_t source)
{
	for (size_t i = 0; i < d->n_lease; i++)
		for (size_t k = 0; k < d->lease[i]->n_cells && !d->lease[i]->is_void; k++)
			if (d->lease[i]->cells[k].source == source)
				return true;
	return false;
}
