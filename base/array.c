// SPDX-License-Identifier: Apache-2.0
/* array: growth by doubling. */
#include "base/array.h"

#include <stdint.h>
#include <stdlib.h>

enum df_err df_array_room(void **items, size_t n, size_t *cap, size_t item_bytes)
{
	if (n < *cap)
		return DF_OK;
	size_t want = *cap ? *cap * 2 : 8;
	if (want > SIZE_MAX / item_bytes)
		return DF_ERR_NOMEM;
	void *p = realloc(*items, want * item_bytes);
	if (!p)
		return DF_ERR_NOMEM;
	*items = p;
	*cap = want;
	return DF_OK;
}
