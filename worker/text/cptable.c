// SPDX-License-Identifier: Apache-2.0
/* cptable: pages made on first use. */
#include "worker/text/cptable.h"

#include <stdlib.h>
#include <string.h>

void df_cptable_init(struct df_cptable *t, enum df_err (*fill)(void *, uint32_t, uint32_t *), void *self)
{
	memset(t, 0, sizeof(*t));
	t->fill = fill;
	t->self = self;
}

void df_cptable_release(struct df_cptable *t)
{
	for (size_t i = 0; i < DF_CPTABLE_PAGES; i++)
		free(t->page[i]);
	memset(t->page, 0, sizeof(t->page));
}

const uint32_t *df_cptable_make_page(struct df_cptable *t, uint32_t page)
{
	static const uint32_t zeros[256];
	uint32_t *value = calloc(256, sizeof(*value));
	enum df_err err = value ? t->fill(t->self, page << 8, value) : DF_ERR_NOMEM;
	if (err != DF_OK) {
		free(value);
		t->err = err;
		return zeros;
	}
	t->page[page] = value;
	return value;
}
