// SPDX-License-Identifier: Apache-2.0
/*
 * cells: records gathered into the payload and table of one cell. What is added decides alone where a cell ends.
 */
#ifndef DF_WORKER_READ_CELLS_H
#define DF_WORKER_READ_CELLS_H

#include "base/buf.h"
#include "worker/read/reader.h"

struct df_cells {
	struct df_buf payload;
	struct df_cell_record *record; /* DF_BLOCK_RECORDS */
	size_t n_record;
	size_t cell_bytes, max_record;
	uint64_t ordinal;
	struct df_str id_key, text_key; /* borrowed */
};

enum df_err df_cells_init(struct df_cells *c, size_t cell_bytes, size_t max_record) DF_MUST_CHECK;
void df_cells_release(struct df_cells *c); /* accepts a zeroed struct */

/* A record that is JSON already. */
enum df_err df_cells_add(struct df_cells *c, uint64_t offset, struct df_str record) DF_MUST_CHECK;
/* A bad one; of `raw` at most DF_RAW_REJECT_BYTES are kept. */
enum df_err df_cells_add_bad(struct df_cells *c, uint64_t offset, enum df_err err, struct df_str raw,
			     const char *message) DF_MUST_CHECK;
/* {id_key: id, text_key: text}; text that is not UTF-8, or longer than max_record as JSON, is added as a bad one. */
enum df_err df_cells_add_text(struct df_cells *c, uint64_t offset, struct df_str id, struct df_str text) DF_MUST_CHECK;
/* {name[i]: field[i], ...}, all strings; `row`: its raw bytes, for a reject. */
enum df_err df_cells_add_row(struct df_cells *c, uint64_t offset, struct df_str row, const struct df_str *name,
			     const struct df_str *field, size_t n) DF_MUST_CHECK;

bool df_cells_full(const struct df_cells *c);
/* Hand out what is there (at least one record) and begin the next cell; valid until the next add. */
enum df_err df_cells_take(struct df_cells *c, struct df_cell_block *ret_block) DF_MUST_CHECK;

#endif
