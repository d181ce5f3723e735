// SPDX-License-Identifier: Apache-2.0
/* cell_info: sums over ranges of cells. */
#include "proto/cell_info.h"

#include "base/hash.h"

bool df_cell_info_said(const struct df_cell_info *info)
{
	return (info->start | info->bytes | info->records | info->hash) != 0;
}

bool df_cell_info_eq(const struct df_cell_info *a, const struct df_cell_info *b)
{
	return a->start == b->start && a->bytes == b->bytes && a->records == b->records && a->hash == b->hash;
}

void df_cell_info_add(struct df_cell_info *range, uint64_t ordinal, const struct df_cell_info *cell)
{
	struct df_cell_info one = *cell;
	one.hash = df_hash64_seed(&cell->hash, sizeof(cell->hash), ordinal);
	if (df_cell_info_said(range))
		df_cell_info_join(range, &one);
	else
		*range = one;
}

void df_cell_info_join(struct df_cell_info *range, const struct df_cell_info *behind)
{
	range->bytes += behind->bytes;
	range->records += behind->records;
	range->hash += behind->hash;
}
