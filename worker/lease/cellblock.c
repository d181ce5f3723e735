// SPDX-License-Identifier: Apache-2.0
/* cellblock: a reader's cell into one frame, and out of it with every length checked. */
#include "worker/lease/cellblock.h"

#include <string.h>

#define HEAD 8U

struct df_blob *df_cellblock_pack(const struct df_cell_block *cell)
{
	size_t table = cell->n_record * sizeof(struct df_cell_record);
	uint32_t head[2] = {(uint32_t)cell->n_record, (uint32_t)cell->n_payload};
	struct df_blob *blob = df_blob_create(HEAD + table + cell->n_payload + DF_RECORD_PADDING);
	if (!blob)
		return NULL;
	memcpy(blob->p, head, HEAD);
	memcpy(blob->p + HEAD, cell->record, table);
	if (cell->n_payload)
		memcpy(blob->p + HEAD + table, cell->payload, cell->n_payload);
	memset(blob->p + HEAD + table + cell->n_payload, 0, DF_RECORD_PADDING);
	return blob;
}

enum df_err df_cellblock_view(const char *p, size_t n, struct df_cellblock_view *ret_view)
{
	uint32_t head[2];
	if (n < HEAD + DF_RECORD_PADDING)
		return DF_ERR_CORRUPT;
	memcpy(head, p, HEAD);
	uint64_t table = (uint64_t)head[0] * sizeof(struct df_cell_record);
	if (HEAD + table + head[1] + DF_RECORD_PADDING != n)
		return DF_ERR_CORRUPT;
	*ret_view = (struct df_cellblock_view){head[0], p + HEAD, p + HEAD + table, head[1]};
	return DF_OK;
}

enum df_err df_cellblock_record(const struct df_cellblock_view *view, uint32_t i, struct df_cell_record *ret_record)
{
	struct df_cell_record r;
	memcpy(&r, view->table + (size_t)i * sizeof(r), sizeof(r));
	uint64_t end = (uint64_t)r.start + r.length + (r.err ? r.n_message : 0);
	if (end > view->n_payload || r.err >= DF_N_ERR)
		return DF_ERR_CORRUPT;
	*ret_record = r;
	return DF_OK;
}
