// SPDX-License-Identifier: Apache-2.0
/*
 * cellset: a growing set of cell numbers of one source, as a bitmap. Up to 64 cells need no heap memory, so that a
 * hundred thousand one-cell files stay small.
 */
#ifndef DF_COORDINATOR_CELLS_CELLSET_H
#define DF_COORDINATOR_CELLS_CELLSET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct df_cellset {
	uint64_t small;  /* cells 0..63 while word is NULL */
	uint64_t *word;  /* owned */
	uint64_t n_word; /* allocated */
	uint64_t n_set;
};

void df_cellset_release(struct df_cellset *s); /* a zeroed struct is an empty set */

/* Add first .. first+n-1; members already there are no error. *ret_added (may be NULL): how many were new. */
enum df_err df_cellset_add(struct df_cellset *s, uint64_t first, uint64_t n, uint64_t *ret_added) DF_MUST_CHECK;
bool df_cellset_has(const struct df_cellset *s, uint64_t cell);
bool df_cellset_any(const struct df_cellset *s, uint64_t first, uint64_t n);
/* The first cell >= from that is (not) in the set; `end` when there is none before end. */
uint64_t df_cellset_next_clear(const struct df_cellset *s, uint64_t from, uint64_t end);
uint64_t df_cellset_next_set(const struct df_cellset *s, uint64_t from, uint64_t end);

#endif
