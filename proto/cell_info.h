// SPDX-License-Identifier: Apache-2.0
/*
 * cell_info: what a reader said of its cells, added up over ranges, so that a later reading can be compared with an earlier one.
 *
 * The info of a range: `start` of its first cell, sums of `bytes` and `records`, and as `hash` the sum (modulo 2^64) of each cell's
 * hash mixed with its ordinal. Sums can be joined: neighbouring ranges become one, and memory stays proportional to the holes. It finds
 * accidents, not forgers. All zero: nothing was said.
 */
#ifndef DF_PROTO_CELL_INFO_H
#define DF_PROTO_CELL_INFO_H

#include "proto/messages.h"

bool df_cell_info_said(const struct df_cell_info *info);
bool df_cell_info_eq(const struct df_cell_info *a, const struct df_cell_info *b);
/* One more cell behind a range (an empty one: begins it). */
void df_cell_info_add(struct df_cell_info *range, uint64_t ordinal, const struct df_cell_info *cell);
/* The range directly behind `range`; both said something. */
void df_cell_info_join(struct df_cell_info *range, const struct df_cell_info *behind);

#endif
