// SPDX-License-Identifier: Apache-2.0
/*
 * array: room for one more element in a heap array that grows by doubling. The array, its length and its capacity stay the owner's
 * own members; a zeroed triple is an empty array, free() releases it.
 */
#ifndef DF_BASE_ARRAY_H
#define DF_BASE_ARRAY_H

#include <stddef.h>

#include "base/err.h"

/* Makes *cap > n; *items may move. DF_ERR_NOMEM leaves everything as it was. */
enum df_err df_array_room(void **items, size_t n, size_t *cap, size_t item_bytes) DF_MUST_CHECK;

#endif
