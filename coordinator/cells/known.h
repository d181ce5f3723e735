// SPDX-License-Identifier: Apache-2.0
/*
 * known: cells of one source that are known, and what a reader said of them, as ranges in order. Neighbours are joined up to
 * DF_INFO_CELLS_MAX cells, so that memory is proportional to the holes; a zeroed struct is empty.
 */
#ifndef DF_COORDINATOR_CELLS_KNOWN_H
#define DF_COORDINATOR_CELLS_KNOWN_H

#include "base/err.h"
#include "proto/cell_info.h"

struct df_known {
	struct df_range *item;
	size_t n, cap;
};

void df_known_release(struct df_known *k);
/* Cells first .. first+n-1, none of which is known; `info` of the range, or zeros. DF_ERR_NOMEM. */
enum df_err df_known_add(struct df_known *k, uint64_t first, uint64_t n, const struct df_cell_info *info) DF_MUST_CHECK;
/* The ranges as READ takes them: with more than `max`, neighbours are joined further; what even then does not fit is left out.
 * *ret_range has room for k->n. */
size_t df_known_list(const struct df_known *k, size_t max, struct df_range *ret_range);

#endif
