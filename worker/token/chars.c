// SPDX-License-Identifier: Apache-2.0
/* chars: the steps of BertNormalizer (clean, CJK, accents, lower case) and BertPreTokenizer for one code point. */
#include "worker/token/chars.h"

#include <stdlib.h>
#include <string.h>

#include "worker/text/unicode.h"

static bool is_ideograph(uint32_t cp)
{
	static const uint32_t range[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF},
					    {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},
					    {0x2F800, 0x2FA1F}};
	for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++)
		if (cp >= range[i][0] && cp <= range[i][1])
			return true;
	return false;
}

/* As Unicode 8.0 has it; a few characters have changed their category since. */
static enum df_uc_kind kind_of(uint32_t cp)
{
	switch (cp) {
	case 0x166D:
	case 0x111C9:
		return DF_UC_PUNCTUATION;
	case 0x1734:
		return DF_UC_MARK;
	case 0x1885:
	case 0x1886:
	case 0xA9BD:
		return DF_UC_OTHER;
	default:
		return df_uc_kind_unicode8(cp);
	}
}

static bool is_dropped(uint32_t cp)
{
	if (cp == '\t' || cp == '\n' || cp == '\r')
		return false;
	return cp == 0 || cp == 0xFFFD || kind_of(cp) == DF_UC_CONTROL;
}

static bool is_punctuation(uint32_t cp)
{
	if (cp < 0x80)
		return cp > ' ' && cp < 0x7F && !(cp >= '0' && cp <= '9') &&
		       !((cp | 0x20) >= 'a' && (cp | 0x20) <= 'z');
	return kind_of(cp) == DF_UC_PUNCTUATION;
}

/* out[DF_UC_DECOMPOSED_MAX + 2]: without accents, in lower case. */
static size_t normalize(const struct df_wordpiece_options *o, uint32_t cp, uint32_t *out)
{
	uint32_t part[DF_UC_DECOMPOSED_MAX] = {cp};
	size_t n_part = o->strip_accents ? df_uc_decompose(cp, part) : 1, n = 0;
	for (size_t i = 0; i < n_part; i++) {
		if (o->strip_accents && kind_of(part[i]) == DF_UC_MARK)
			continue;
		if (o->lower_case && part[i] == 0x130) { /* only when accents stay */
			out[n++] = 'i';
			out[n++] = 0x307;
			continue;
		}
		out[n++] = o->lower_case ? df_uc_lower(part[i]) : part[i];
	}
	return n;
}

static uint32_t number_of(uint32_t cp, bool isolated)
{
	uint32_t v = cp << 8;
	if (isolated || is_punctuation(cp))
		v |= DF_CHAR_ISOLATED;
	else if (df_uc_is_space(cp))
		v |= DF_CHAR_SPACE;
	return v;
}

static enum df_err add_sequence(struct df_chars *c, const uint32_t *cp, size_t n, bool isolated, uint32_t *ret_v)
{
	if (c->cap_pool - c->n_pool < n + 1) {
		size_t cap = c->cap_pool * 2 + 256;
		uint32_t *pool = realloc(c->pool, cap * sizeof(*pool));
		if (!pool)
			return DF_ERR_NOMEM;
		c->pool = pool;
		c->cap_pool = cap;
	}
	*ret_v = (uint32_t)(c->n_pool << 8) | DF_CHAR_MULTI;
	c->pool[c->n_pool++] = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		c->pool[c->n_pool++] = number_of(cp[i], isolated);
	return DF_OK;
}

static enum df_err fill(void *self, uint32_t first, uint32_t *value)
{
	struct df_chars *c = self;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t cp = first + i, part[DF_UC_DECOMPOSED_MAX + 2];
		if (is_dropped(cp)) {
			value[i] = DF_CHAR_DROP;
			continue;
		}
		if (df_uc_is_space(cp)) {
			value[i] = DF_CHAR_SPACE;
			continue;
		}
		bool isolated = c->options.split_cjk && is_ideograph(cp);
		size_t n = normalize(&c->options, cp, part);
		if (n == 0)
			value[i] = DF_CHAR_DROP;
		else if (n == 1)
			value[i] = number_of(part[0], isolated);
		else
			DF_TRY(add_sequence(c, part, n, isolated, &value[i]));
	}
	return DF_OK;
}

void df_chars_init(struct df_chars *c, struct df_wordpiece_options options)
{
	memset(c, 0, sizeof(*c));
	c->options = options;
	df_cptable_init(&c->table, fill, c);
}

void df_chars_release(struct df_chars *c)
{
	df_cptable_release(&c->table);
	free(c->pool);
	c->pool = NULL;
}
