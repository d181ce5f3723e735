// SPDX-License-Identifier: Apache-2.0
/*
 * block: 64 bytes of text as bit masks (bit i: byte i), the one place where vector instructions are named.
 * SSE2 is part of every x86-64; elsewhere the same masks are made byte by byte.
 */
#ifndef DF_WORKER_TEXT_BLOCK_H
#define DF_WORKER_TEXT_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DF_BLOCK 64U

#if defined(__SSE2__)
#include <emmintrin.h>

struct df_block {
	__m128i v[4];
};

static inline struct df_block df_block_load(const char *p)
{
	const __m128i *q = (const __m128i *)(const void *)p;
	return (struct df_block){
		{_mm_loadu_si128(q), _mm_loadu_si128(q + 1), _mm_loadu_si128(q + 2), _mm_loadu_si128(q + 3)}};
}

static inline uint64_t df_block_join(__m128i a, __m128i b, __m128i c, __m128i d)
{
	return (uint64_t)(uint32_t)_mm_movemask_epi8(a) | ((uint64_t)(uint32_t)_mm_movemask_epi8(b) << 16) |
	       ((uint64_t)(uint32_t)_mm_movemask_epi8(c) << 32) | ((uint64_t)(uint32_t)_mm_movemask_epi8(d) << 48);
}

/* Bytes >= 0x80. */
static inline uint64_t df_block_high(const struct df_block *b)
{
	return df_block_join(b->v[0], b->v[1], b->v[2], b->v[3]);
}

static inline uint64_t df_block_eq(const struct df_block *b, unsigned char c)
{
	__m128i k = _mm_set1_epi8((char)c);
	return df_block_join(_mm_cmpeq_epi8(b->v[0], k), _mm_cmpeq_epi8(b->v[1], k), _mm_cmpeq_epi8(b->v[2], k),
			     _mm_cmpeq_epi8(b->v[3], k));
}

static inline __m128i df_block_in16(__m128i v, unsigned char lo, unsigned char hi)
{
	__m128i x = _mm_sub_epi8(v, _mm_set1_epi8((char)lo));
	return _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8((char)(hi - lo))), x);
}

/* lo <= byte <= hi, unsigned. */
static inline uint64_t df_block_in(const struct df_block *b, unsigned char lo, unsigned char hi)
{
	return df_block_join(df_block_in16(b->v[0], lo, hi), df_block_in16(b->v[1], lo, hi),
			     df_block_in16(b->v[2], lo, hi), df_block_in16(b->v[3], lo, hi));
}

/* As df_word16 below, for 16 readable bytes. */
static inline unsigned df_word16_load(const char *p, bool lower, uint64_t key[2])
{
	static const unsigned char keep[32] = {255, 255, 255, 255, 255, 255, 255, 255,
					       255, 255, 255, 255, 255, 255, 255, 255};
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i upper = df_block_in16(x, 'A', 'Z'), low = _mm_or_si128(x, _mm_and_si128(upper, _mm_set1_epi8(0x20)));
	__m128i word = _mm_or_si128(df_block_in16(low, 'a', 'z'), df_block_in16(x, '0', '9'));
	unsigned n = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(word));
	__m128i mask = _mm_loadu_si128((const __m128i *)(const void *)(keep + 16 - n));
	_mm_storeu_si128((__m128i *)(void *)key, _mm_and_si128(lower ? low : x, mask));
	return n;
}
#else
struct df_block {
	unsigned char v[DF_BLOCK];
};

static inline struct df_block df_block_load(const char *p)
{
	struct df_block b;
	memcpy(b.v, p, DF_BLOCK);
	return b;
}

static inline uint64_t df_block_in(const struct df_block *b, unsigned char lo, unsigned char hi)
{
	uint64_t m = 0;
	for (unsigned i = 0; i < DF_BLOCK; i++)
		m |= (uint64_t)(b->v[i] >= lo && b->v[i] <= hi) << i;
	return m;
}

static inline uint64_t df_block_high(const struct df_block *b)
{
	return df_block_in(b, 0x80, 0xFF);
}

static inline uint64_t df_block_eq(const struct df_block *b, unsigned char c)
{
	return df_block_in(b, c, c);
}

static inline unsigned df_word16_load(const char *p, bool lower, uint64_t key[2])
{
	unsigned n = 0;
	char word[16] = {0};
	for (; n < 16; n++) {
		unsigned char c = (unsigned char)p[n], l = (unsigned char)(c | 0x20);
		if (!((l >= 'a' && l <= 'z') || (c >= '0' && c <= '9')))
			break;
		word[n] = (char)(lower && c < 0x80 && c >= 'A' ? l : c);
	}
	memcpy(key, word, sizeof(word));
	return n;
}
#endif

/*
 * The run of ASCII letters and digits that `p[n]` begins with, at most 16 bytes: its length, and in `key` its bytes,
 * lower-cased if asked, with zeros behind them.
 */
static inline unsigned df_word16(const char *p, size_t n, bool lower, uint64_t key[2])
{
	if (n >= 16)
		return df_word16_load(p, lower, key);
	char copy[16] = {0};
	memcpy(copy, p, n);
	return df_word16_load(copy, lower, key);
}

/* The last n < 64 bytes of a text, filled up with `fill`. */
static inline struct df_block df_block_load_tail(const char *p, size_t n, char fill)
{
	char copy[DF_BLOCK];
	memset(copy, fill, sizeof(copy));
	memcpy(copy, p, n);
	return df_block_load(copy);
}

/* Bits set, without the POPCNT instruction, which not every x86-64 has. */
static inline unsigned df_block_bits(uint64_t m)
{
	m -= (m >> 1) & UINT64_C(0x5555555555555555);
	m = (m & UINT64_C(0x3333333333333333)) + ((m >> 2) & UINT64_C(0x3333333333333333));
	m = (m + (m >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F);
	return (unsigned)((m * UINT64_C(0x0101010101010101)) >> 56);
}

#endif
