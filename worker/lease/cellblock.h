// SPDX-License-Identifier: Apache-2.0
/*
 * cellblock: a reader's cell as one payload frame: u32 n_record, u32 n_byte, the records' table (struct df_cell_record, 24 bytes
 * each), n_byte bytes, and DF_RECORD_PADDING zeros so that a worker can parse in place. Host byte order: readers and
 * workers of one run share a machine.
 */
#ifndef DF_WORKER_LEASE_CELLBLOCK_H
#define DF_WORKER_LEASE_CELLBLOCK_H

#include "proto/blob.h"
#include "worker/read/reader.h"

/* NULL when memory is out. */
struct df_blob *df_cellblock_pack(const struct df_cell_block *cell);

struct df_cellblock_view {
	uint32_t n_record;
	const char *table; /* n_record x 24 bytes, any alignment: read by df_cellblock_record */
	const char *payload;
	uint32_t n_payload;
};

/* Checks every length; DF_ERR_CORRUPT. */
enum df_err df_cellblock_view(const char *p, size_t n, struct df_cellblock_view *ret_view) DF_MUST_CHECK;
/* Record i with start and length checked against the payload; DF_ERR_CORRUPT. */
enum df_err df_cellblock_record(const struct df_cellblock_view *view, uint32_t i,
				struct df_cell_record *ret_record) DF_MUST_CHECK;

#endif
