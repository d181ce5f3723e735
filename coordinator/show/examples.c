// SPDX-License-Identifier: Apache-2.0
/* examples: found among the totals, put in order, told. */
#include "coordinator/show/examples.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "proto/example.h"

static int by_kind(const void *a, const void *b)
{
	const struct df_example *x = a, *y = b;
	size_t n = x->kind.n < y->kind.n ? x->kind.n : y->kind.n;
	int order = n ? memcmp(x->kind.p, y->kind.p, n) : 0;
	return order ? order : x->kind.n < y->kind.n ? -1 : x->kind.n > y->kind.n;
}

void df_examples_tell(const struct df_map *totals)
{
	struct df_example e[DF_REJECT_EXAMPLES_MAX];
	size_t n = 0;
	for (size_t i = 0; i < totals->n_slot && n < DF_REJECT_EXAMPLES_MAX; i++)
		n += totals->slots[i].key.p && df_example_split(totals->slots[i].key, &e[n]);
	if (n)
		qsort(e, n, sizeof(e[0]), by_kind);
	for (size_t i = 0; i < n; i++)
		df_info("%.*s, e.g. '%.*s': %.*s", (int)e[i].kind.n, e[i].kind.p, (int)e[i].id.n, e[i].id.p,
			(int)e[i].message.n, e[i].message.p);
}
