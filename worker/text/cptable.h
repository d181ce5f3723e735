// SPDX-License-Identifier: Apache-2.0
/*
 * cptable: a number for each code point, asked of its maker once per page of 256 and then kept: slow properties become
 * one look-up. At most 4,352 pages of 1 KB; a text of one language touches a few. One table serves one thread.
 */
#ifndef DF_WORKER_TEXT_CPTABLE_H
#define DF_WORKER_TEXT_CPTABLE_H

#include <stdint.h>

#include "base/err.h"

#define DF_CPTABLE_PAGES 0x1100U

struct df_cptable {
	uint32_t *page[DF_CPTABLE_PAGES];
	/* value[256] for the code points from `first` on. DF_ERR_NOMEM. */
	enum df_err (*fill)(void *self, uint32_t first, uint32_t *value);
	void *self;
	enum df_err
		err; /* a page could not be made, and zeros were answered for it; the caller clears it, and the next get tries again */
};

void df_cptable_init(struct df_cptable *t, enum df_err (*fill)(void *, uint32_t, uint32_t *), void *self);
void df_cptable_release(struct df_cptable *t); /* accepts a zeroed struct */
const uint32_t *df_cptable_make_page(struct df_cptable *t, uint32_t page) __attribute__((cold));

/* cp <= U+10FFFF. */
static inline uint32_t df_cptable_get(struct df_cptable *t, uint32_t cp)
{
	const uint32_t *page = t->page[cp >> 8];
	if (!page)
		page = df_cptable_make_page(t, cp >> 8);
	return page[cp & 0xFF];
}

#endif
