// SPDX-License-Identifier: Apache-2.0
/* cellset: a bitmap that grows by doubling; whole words at a time where ranges allow it. */
#include "coordinator/cells/cellset.h"

#include <stdlib.h>
#include <string.h>

void df_cellset_release(struct df_cellset *s)
{
	free(s->word);
	*s = (struct df_cellset){0};
}

static const uint64_t *words(const struct df_cellset *s, uint64_t *ret_n)
{
	*ret_n = s->word ? s->n_word : 1;
	return s->word ? s->word : &s->small;
}

static enum df_err grow(struct df_cellset *s, uint64_t n_word)
{
	uint64_t n_old = 0;
	const uint64_t *old = words(s, &n_old);
	if (n_word <= n_old)
		return DF_OK;
	uint64_t want = n_old * 2 > n_word ? n_old * 2 : n_word;
	if (want > SIZE_MAX / sizeof(uint64_t))
		return DF_ERR_NOMEM;
	uint64_t *fresh = calloc((size_t)want, sizeof(*fresh));
	if (!fresh)
		return DF_ERR_NOMEM;
	memcpy(fresh, old, (size_t)n_old * sizeof(*fresh));
	free(s->word);
	s->word = fresh;
	s->n_word = want;
	return DF_OK;
}

/* The bits of word `w` that lie in [first, end). */
static uint64_t mask_of(uint64_t w, uint64_t first, uint64_t end)
{
	uint64_t mask = UINT64_MAX;
	if (w == first / 64)
		mask &= UINT64_MAX << (first % 64);
	if (w == (end - 1) / 64 && end % 64)
		mask &= UINT64_MAX >> (64 - end % 64);
	return mask;
}

enum df_err df_cellset_add(struct df_cellset *s, uint64_t first, uint64_t n, uint64_t *ret_added)
{
	uint64_t added = 0, end = first + n;
	if (n) {
		DF_TRY(grow(s, (end - 1) / 64 + 1));
		uint64_t *word = s->word ? s->word : &s->small;
		for (uint64_t w = first / 64; w <= (end - 1) / 64; w++) {
			uint64_t mask = mask_of(w, first, end);
			added += (uint64_t)__builtin_popcountll(mask & ~word[w]);
			word[w] |= mask;
		}
	}
	s->n_set += added;
	if (ret_added)
		*ret_added = added;
	return DF_OK;
}

bool df_cellset_has(const struct df_cellset *s, uint64_t cell)
{
	uint64_t n = 0;
	const uint64_t *word = words(s, &n);
	return cell / 64 < n && (word[cell / 64] >> (cell % 64) & 1);
}

static uint64_t next(const struct df_cellset *s, uint64_t from, uint64_t end, uint64_t flip)
{
	uint64_t n = 0;
	const uint64_t *word = words(s, &n);
	if (from >= end)
		return end;
	for (uint64_t w = from / 64; w <= (end - 1) / 64; w++) {
		uint64_t bits = ((w < n ? word[w] : 0) ^ flip) & mask_of(w, from, end);
		if (bits)
			return w * 64 + (uint64_t)__builtin_ctzll(bits);
		if (w >= n && !flip)
			break;
	}
	return end;
}

uint64_t df_cellset_next_clear(const struct df_cellset *s, uint64_t from, uint64_t end)
{
	return next(s, from, end, UINT64_MAX);
}

uint64_t df_cellset_next_set(const struct df_cellset *s, uint64_t from, uint64_t end)
{
	return next(s, from, end, 0);
}

bool df_cellset_any(const struct df_cellset *s, uint64_t first, uint64_t n)
{
	return df_cellset_next_set(s, first, first + n) != first + n;
}
