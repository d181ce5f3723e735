// SPDX-License-Identifier: Apache-2.0
/*
 * chars: what BertNormalizer and BertPreTokenizer make of one code point of a text, as one number in a table.
 * Shared by the files of this folder only.
 *
 * Each code point is looked at alone. NFD would also sort the marks behind a letter by their class; nearly all of them
 * are dropped here, and the 30 or so that stay (Mc: Hangul tone marks, musical stems, some viramas) keep their order.
 */
#ifndef DF_WORKER_TOKEN_CHARS_H
#define DF_WORKER_TOKEN_CHARS_H

#include "worker/text/cptable.h"
#include "worker/token/wordpiece.h"

enum df_char_class {
	DF_CHAR_LETTER,   /* part of a word */
	DF_CHAR_DROP,     /* leaves nothing */
	DF_CHAR_SPACE,    /* ends a word */
	DF_CHAR_ISOLATED, /* a word of its own: punctuation, CJK ideographs */
	DF_CHAR_MULTI,    /* several characters: df_chars_sequence() */
};

static inline enum df_char_class df_char_class(uint32_t v)
{
	return (enum df_char_class)(v & 7U);
}

/* The character it becomes (LETTER, ISOLATED). */
static inline uint32_t df_char_value(uint32_t v)
{
	return v >> 8;
}

struct df_chars {
	struct df_wordpiece_options options;
	struct df_cptable table;
	uint32_t *pool; /* sequences: their length, then one number as above for each */
	size_t n_pool, cap_pool;
};

void df_chars_init(struct df_chars *c, struct df_wordpiece_options options);
void df_chars_release(struct df_chars *c);

static inline uint32_t df_chars_get(struct df_chars *c, uint32_t cp)
{
	return df_cptable_get(&c->table, cp);
}

/* The numbers of a MULTI. Valid until the next df_chars_get. */
static inline const uint32_t *df_chars_sequence(const struct df_chars *c, uint32_t v, size_t *ret_n)
{
	*ret_n = c->pool[v >> 8];
	return c->pool + (v >> 8) + 1;
}

#endif
