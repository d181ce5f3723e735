// SPDX-License-Identifier: Apache-2.0
/* sink_order: -k; a complete result waits until all cells before it are written. */
#include "coordinator/sink/sink_core.h"

#include <stdlib.h>
#include <string.h>

static int compare(struct df_cells a, struct df_cells b)
{
	if (a.source != b.source)
		return a.source < b.source ? -1 : 1;
	return a.first < b.first ? -1 : a.first > b.first;
}

/* Move the cursor over what earlier epochs wrote and over ends of sources. */
static void settle_cursor(struct df_sink *s)
{
	while (s->cursor.source < s->n_source) {
		const struct df_sink_source *src = &s->source[s->cursor.source];
		if (src->plain && src->failed) { /* what will ever come of it waits already */
			if (s->waiting && s->waiting->cells[0].source == s->cursor.source) {
				s->cursor.first = s->waiting->cells[0].first;
				return;
			}
			s->cursor.first = src->n_cell;
		}
		uint64_t end = src->n_cell == UINT64_MAX ? s->cursor.first + src->before.n_set + 1 : src->n_cell;
		if (s->cursor.first < end)
			s->cursor.first = df_cellset_next_clear(&src->before, s->cursor.first, end);
		if (src->n_cell == UINT64_MAX || s->cursor.first < src->n_cell)
			return;
		s->cursor = (struct df_cells){s->cursor.source + 1, 0, 0};
	}
}

void df_sink_write_waiting(struct df_sink *s)
{
	settle_cursor(s);
	while (s->waiting && !s->over && compare(s->waiting->cells[0], s->cursor) <= 0) {
		struct df_staged *r = s->waiting;
		s->waiting = r->next;
		struct df_cells *cells = r->cells;
		size_t n_cells = r->n_cells;
		struct df_cells last = cells[n_cells - 1];
		r->cells = calloc(n_cells, sizeof(*cells));
		if (!df_sink_check(s, r->cells ? DF_OK : DF_ERR_NOMEM, "write in order")) {
			free(cells);
			df_staged_destroy(&s->staging, &r);
			return;
		}
		memcpy(r->cells, cells, n_cells * sizeof(*cells));
		bool ok = df_sink_write(s, r);
		struct df_cells next = {last.source, last.first + last.n, 0};
		if (compare(next, s->cursor) > 0)
			s->cursor = next;
		for (size_t i = 0; ok && i < n_cells; i++) {
			df_sink_emit(s, (struct df_event){.type = DF_EVENT_WRITTEN, .cells = cells[i]});
			df_sink_forget_info(s, cells[i].source);
		}
		free(cells);
		settle_cursor(s);
	}
}

void df_sink_wait_turn(struct df_sink *s, struct df_staged *r)
{
	struct df_staged **at = &s->waiting;
	while (*at && compare((*at)->cells[0], r->cells[0]) < 0)
		at = &(*at)->next;
	r->next = *at;
	*at = r;
	df_sink_write_waiting(s);
}
