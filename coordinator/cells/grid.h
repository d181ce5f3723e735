// SPDX-License-Identifier: Apache-2.0
/*
 * grid: sources laid out as cells; pure arithmetic and one bitmap per source, owned by the control thread.
 *
 * A JSONL file of S bytes has ceil(S / cell_bytes) cells, whatever the number of workers; a text file is one cell; a
 * reader's source has as many cells as its reader says at its end.
 */
#ifndef DF_COORDINATOR_CELLS_GRID_H
#define DF_COORDINATOR_CELLS_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "coordinator/cells/cellset.h"
#include "proto/messages.h"

struct df_grid_source {
	enum df_source_kind kind;
	uint64_t size_bytes;
	uint64_t n_cell; /* final when ended */
	bool ended;
	bool failed;            /* a source error: no more of its cells are leased */
	uint64_t fresh;         /* first cell that was never leased in this epoch */
	struct df_cellset done; /* durable */
};

struct df_grid {
	struct df_grid_source *source;
	uint32_t n_source, cap;
	uint64_t cell_bytes;
	uint64_t n_done;       /* cells durable, all sources */
	uint32_t n_unfinished; /* sources not yet ended or with cells not done, failed ones excepted */
};

enum df_err df_grid_init(struct df_grid *g, uint64_t cell_bytes) DF_MUST_CHECK;
void df_grid_release(struct df_grid *g);

enum df_err df_grid_add(struct df_grid *g, enum df_source_kind kind, uint64_t size_bytes) DF_MUST_CHECK;

/* The bytes [start, end) of a range of cells of a JSONL or text source. */
void df_grid_bytes(const struct df_grid *g, struct df_cells cells, uint64_t *ret_start, uint64_t *ret_end);

/* Cells became durable (a commit, or the journal at resume). DF_ERR_RANGE for a source or cell that cannot be. */
enum df_err df_grid_mark_done(struct df_grid *g, struct df_cells cells) DF_MUST_CHECK;
/* A reader's source ends with n_cell cells. */
void df_grid_end(struct df_grid *g, uint32_t source, uint64_t n_cell);
/* A source error closes the source: what is not done will not be. */
void df_grid_fail(struct df_grid *g, uint32_t source);

/* The next run of at most `max` cells of plain source `s` at or after `from` that are not done; n = 0 when there is none. */
struct df_cells df_grid_next(const struct df_grid *g, uint32_t s, uint64_t from, uint64_t max);

static inline bool df_grid_complete(const struct df_grid *g)
{
	return g->n_unfinished == 0;
}

#endif
