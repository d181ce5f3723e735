// SPDX-License-Identifier: Apache-2.0
/* grid: from files to cells and back. */
#include "coordinator/cells/grid.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

enum df_err df_grid_init(struct df_grid *g, uint64_t cell_bytes)
{
	if (cell_bytes == 0 || cell_bytes > DF_CELL_BYTES_MAX)
		return DF_ERR_RANGE;
	*g = (struct df_grid){.cell_bytes = cell_bytes};
	return DF_OK;
}

void df_grid_release(struct df_grid *g)
{
	for (uint32_t i = 0; i < g->n_source; i++)
		df_cellset_release(&g->source[i].done);
	free(g->source);
	*g = (struct df_grid){0};
}

static bool unfinished(const struct df_grid_source *s)
{
	return !s->failed && (!s->ended || s->done.n_set < s->n_cell);
}

static uint64_t cells_of(enum df_source_kind kind, uint64_t size_bytes, uint64_t cell_bytes)
{
	switch (kind) {
	case DF_SOURCE_JSONL:
		return size_bytes / cell_bytes + (size_bytes % cell_bytes != 0);
	case DF_SOURCE_TEXT:
		return 1;
	default:
		return 0;
	}
}

enum df_err df_grid_add(struct df_grid *g, enum df_source_kind kind, uint64_t size_bytes)
{
	if (g->n_source == DF_MAX_SOURCES)
		return DF_ERR_LIMIT;
	if (g->n_source == g->cap) {
		uint32_t cap = g->cap ? g->cap * 2 : 16;
		struct df_grid_source *p = realloc(g->source, cap * sizeof(*p));
		if (!p)
			return DF_ERR_NOMEM;
		g->source = p;
		g->cap = cap;
	}
	struct df_grid_source *s = &g->source[g->n_source];
	memset(s, 0, sizeof(*s));
	s->kind = kind;
	s->size_bytes = size_bytes;
	s->n_cell = cells_of(kind, size_bytes, g->cell_bytes);
	s->ended = kind != DF_SOURCE_READER;
	if (s->n_cell > DF_MAX_CELLS)
		return DF_ERR_LIMIT;
	g->n_source++;
	g->n_unfinished += unfinished(s);
	return DF_OK;
}

void df_grid_bytes(const struct df_grid *g, struct df_cells cells, uint64_t *ret_start, uint64_t *ret_end)
{
	const struct df_grid_source *s = &g->source[cells.source];
	if (s->kind == DF_SOURCE_TEXT) {
		*ret_start = 0;
		*ret_end = s->size_bytes;
		return;
	}
	uint64_t end = (cells.first + cells.n) * g->cell_bytes;
	*ret_start = cells.first * g->cell_bytes;
	*ret_end = s->kind == DF_SOURCE_JSONL && end > s->size_bytes ? s->size_bytes : end;
}

enum df_err df_grid_mark_done(struct df_grid *g, struct df_cells cells)
{
	if (cells.source >= g->n_source || cells.n == 0 || cells.n > DF_MAX_CELLS || cells.first > DF_MAX_CELLS)
		return DF_ERR_RANGE;
	struct df_grid_source *s = &g->source[cells.source];
	if (s->ended && (cells.first >= s->n_cell || cells.n > s->n_cell - cells.first))
		return DF_ERR_RANGE;
	bool before = unfinished(s);
	uint64_t added = 0;
	DF_TRY(df_cellset_add(&s->done, cells.first, cells.n, &added));
	g->n_done += added;
	g->n_unfinished -= before && !unfinished(s);
	return DF_OK;
}

void df_grid_end(struct df_grid *g, uint32_t source, uint64_t n_cell)
{
	struct df_grid_source *s = &g->source[source];
	bool before = unfinished(s);
	s->ended = true;
	s->n_cell = n_cell;
	g->n_unfinished -= before && !unfinished(s);
}

void df_grid_fail(struct df_grid *g, uint32_t source)
{
	struct df_grid_source *s = &g->source[source];
	g->n_unfinished -= unfinished(s);
	s->failed = true;
	s->ended = true;
}

struct df_cells df_grid_next(const struct df_grid *g, uint32_t source, uint64_t from, uint64_t max)
{
	const struct df_grid_source *s = &g->source[source];
	struct df_cells none = {source, 0, 0};
	if (s->kind == DF_SOURCE_READER || s->failed)
		return none;
	uint64_t first = df_cellset_next_clear(&s->done, from, s->n_cell);
	if (first == s->n_cell)
		return none;
	uint64_t end = s->n_cell - first > max ? first + max : s->n_cell;
	return (struct df_cells){source, first, df_cellset_next_set(&s->done, first, end) - first};
}
