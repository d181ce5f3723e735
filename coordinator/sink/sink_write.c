// SPDX-License-Identifier: Apache-2.0
/* sink_write: a complete result goes into the store, with what readers said of its cells. */
#include "coordinator/sink/sink_core.h"

#include <stdlib.h>

#include "base/array.h"
#include "base/limits.h"
#include "proto/cell_info.h"
#include "proto/example.h"

static const struct df_cell_note *note_at(const struct df_sink_source *src, uint64_t i)
{
	return &src->info[(src->info_first + i) & (src->cap_info - 1)];
}

/* The sum over a range of what the reader said of its cells; zeros for plain files. */
static struct df_cell_info info_of(const struct df_sink_source *src, struct df_cells c)
{
	struct df_cell_info sum = {0};
	uint64_t low = 0, high = src->n_info;
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		if (note_at(src, mid)->cell < c.first)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < src->n_info && note_at(src, low)->cell < c.first + c.n; low++) {
		const struct df_cell_note *one = note_at(src, low);
		df_cell_info_add(&sum, one->cell, &one->info);
	}
	return sum;
}

/* Forget what is written, oldest first; an empty ring is given back, since there may be 100,000 sources. */
void df_sink_forget_info(struct df_sink *s, uint32_t source)
{
	struct df_sink_source *src = &s->source[source];
	if (!src->info)
		return;
	while (src->n_info) {
		uint64_t cell = note_at(src, 0)->cell;
		bool written = s->config.ordered ? s->cursor.source > source ||
							   (s->cursor.source == source && cell < s->cursor.first)
						 : df_cellset_has(&src->taken, cell);
		if (!written)
			return;
		src->info_first++;
		src->n_info--;
	}
	free(src->info);
	src->info = NULL;
	src->cap_info = 0;
}

/* Of examples the run keeps the first of each kind: names that hold a document's must not add up over its millions. */
static bool is_wanted(const struct df_sink *s, struct df_str name)
{
	struct df_example fresh, known;
	size_t n = 0;
	if (!df_example_split(name, &fresh))
		return true;
	for (size_t i = 0; i < s->totals.n_slot; i++) {
		if (!s->totals.slots[i].key.p || !df_example_split(s->totals.slots[i].key, &known))
			continue;
		if (df_str_eq(known.kind, fresh.kind) || ++n == DF_REJECT_EXAMPLES_MAX)
			return false;
	}
	return true;
}

static enum df_err add_totals(struct df_sink *s, const struct df_staged *r)
{
	for (size_t i = 0; i < r->n_counter; i++) {
		uint64_t *value = NULL;
		if (!is_wanted(s, r->counter[i].name))
			continue;
		DF_TRY(df_map_put(&s->totals, r->counter[i].name, 0, &value));
		*value += r->counter[i].value;
	}
	return DF_OK;
}

static enum df_err write_rows(struct df_sink *s, struct df_staged *r, struct df_fail *fail)
{
	for (size_t i = 0; i < r->n_frame; i++) {
		struct df_blob *blob = NULL;
		DF_TRY(df_staged_take(&s->staging, &r->frame[i], &blob, fail));
		enum df_err err = df_store_append(s->config.store, r->frame[i].kind, blob, r->frame[i].rows, fail);
		df_blob_unref(&blob);
		DF_TRY(err);
	}
	return DF_OK;
}

/* Consumes the result. */
bool df_sink_write(struct df_sink *s, struct df_staged *r)
{
	struct df_fail fail = {0};
	bool ok = true;
	if (write_rows(s, r, &fail) != DF_OK) {
		df_sink_fatal(s, &fail);
		ok = false;
	}
	if (ok && s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	for (size_t i = 0; ok && i < r->n_cells; i++) {
		ok = df_sink_check(
			s, df_array_room((void **)&s->batch.item, s->batch.n, &s->batch.cap, sizeof(*s->batch.item)),
			"note cells");
		if (ok)
			s->batch.item[s->batch.n++] = (struct df_commit_cells){
				r->cells[i], info_of(&s->source[r->cells[i].source], r->cells[i])};
	}
	ok = ok && df_sink_check(s, add_totals(s, r), "count");
	for (size_t i = 0; i < r->n_cells && !s->config.ordered; i++) /* else when the cursor has passed them */
		df_sink_forget_info(s, r->cells[i].source);
	df_staged_destroy(&s->staging, &r);
	return ok;
}

void df_sink_note_info(struct df_sink *s, const struct df_order *o)
{
	struct df_sink_source *src = &s->source[o->source.source];
	df_sink_forget_info(s, o->source.source);
	if (src->n_info == src->cap_info) {
		uint64_t cap = src->cap_info ? src->cap_info * 2 : 64;
		struct df_cell_note *fresh = calloc(cap, sizeof(*fresh));
		if (!df_sink_check(s, fresh ? DF_OK : DF_ERR_NOMEM, "note a cell"))
			return;
		for (uint64_t i = 0; i < src->n_info; i++)
			fresh[i] = *note_at(src, i);
		free(src->info);
		src->info = fresh;
		src->info_first = 0;
		src->cap_info = cap;
	}
	/* control passes each cell on once, and every reader goes forwards: cells rise */
	src->info[(src->info_first + src->n_info++) & (src->cap_info - 1)] = (struct df_cell_note){o->cell, o->info};
}
