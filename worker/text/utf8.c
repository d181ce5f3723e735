// SPDX-License-Identifier: Apache-2.0
/* utf8: ASCII goes by in blocks of 64; runs of other text are checked one sequence at a time, by its length. */
#include "worker/text/utf8.h"

#include "worker/text/block.h"

/* Length of the valid sequence at s (left > 0 bytes remain), or 0. */
static size_t sequence(const unsigned char *s, size_t left)
{
	unsigned c = s[0];
	if (c < 0x80)
		return 1;
	if (c < 0xC2 || c > 0xF4)
		return 0;
	if (c < 0xE0)
		return left >= 2 && (s[1] & 0xC0) == 0x80 ? 2 : 0;
	if (c < 0xF0) {
		if (left < 3 || (s[1] & 0xC0) != 0x80 || (s[2] & 0xC0) != 0x80)
			return 0;
		return (c == 0xE0 && s[1] < 0xA0) || (c == 0xED && s[1] > 0x9F) ? 0 : 3;
	}
	if (left < 4 || (s[1] & 0xC0) != 0x80 || (s[2] & 0xC0) != 0x80 || (s[3] & 0xC0) != 0x80)
		return 0;
	return (c == 0xF0 && s[1] < 0x90) || (c == 0xF4 && s[1] > 0x8F) ? 0 : 4;
}

static uint32_t load32(const unsigned char *s)
{
	uint32_t w;
	memcpy(&w, s, sizeof(w));
	return w;
}

/* Three-byte sequences in a row (CJK, Indic), by one compare each; little-endian only, else simply none. */
static size_t three_byte_run(const unsigned char *s, size_t at, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	while (n - at >= 4) {
		uint32_t w = load32(s + at);
		if ((w & 0x00C0C0F0U) != 0x008080E0U)
			break;
		uint32_t lead = w & 0x200FU;            /* low bits of the lead, and bit 5 of the second byte */
		if (lead == 0x0000U || lead == 0x200DU) /* overlong, surrogate */
			break;
		at += 3;
	}
#else
	(void)s, (void)n, (void)load32;
#endif
	return at;
}

static size_t two_byte_run(const unsigned char *s, size_t at, size_t n)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	while (n - at >= 4) {
		uint32_t w = load32(s + at);
		if ((w & 0x0000C0E0U) != 0x000080C0U || (w & 0x1EU) == 0)
			break;
		at += 2;
	}
#else
	(void)s, (void)n;
#endif
	return at;
}

/* From a byte >= 0x80 on: stops at a block of pure ASCII, at the end, or at a bad byte (*ret_bad). */
static size_t check_mixed(const unsigned char *s, size_t at, size_t n, bool *ret_bad)
{
	size_t last_high = at;
	while (at < n) {
		if (s[at] < 0x80) {
			if (at - last_high >= DF_BLOCK)
				return at;
			at++;
			continue;
		}
		at = s[at] >= 0xE0 ? three_byte_run(s, at, n) : two_byte_run(s, at, n);
		if (at < n && s[at] >= 0x80) {
			size_t len = sequence(s + at, n - at);
			if (len == 0) {
				*ret_bad = true;
				return at;
			}
			at += len;
		}
		last_high = at;
	}
	return at;
}

size_t df_utf8_valid_prefix(struct df_str s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	size_t at = 0;
	bool bad = false;
	while (at < s.n && !bad) {
		if (s.n - at >= DF_BLOCK) {
			struct df_block b = df_block_load(s.p + at);
			uint64_t high = df_block_high(&b);
			if (high == 0) {
				at += DF_BLOCK;
				continue;
			}
			at += (unsigned)__builtin_ctzll(high);
		}
		at = check_mixed(p, at, s.n, &bad);
	}
	return at;
}

size_t df_utf8_count(struct df_str s)
{
	size_t n = 0, at = 0;
	for (; s.n - at >= DF_BLOCK; at += DF_BLOCK) {
		struct df_block b = df_block_load(s.p + at);
		n += DF_BLOCK;
		if (df_block_high(&b) != 0)
			n -= df_block_bits(df_block_in(&b, 0x80, 0xBF));
	}
	for (; at < s.n; at++)
		n += !df_utf8_is_tail(s.p[at]);
	return n;
}

size_t df_utf8_advance(struct df_str s, size_t from, size_t n)
{
	size_t at = from;
	while (n >= DF_BLOCK && s.n - at >= DF_BLOCK) {
		struct df_block b = df_block_load(s.p + at);
		n -= DF_BLOCK - df_block_bits(df_block_in(&b, 0x80, 0xBF));
		at += DF_BLOCK;
	}
	while (at < s.n && df_utf8_is_tail(s.p[at])) /* the rest of a code point that is counted already */
		at++;
	for (; n > 0 && at < s.n; n--)
		for (at++; at < s.n && df_utf8_is_tail(s.p[at]);)
			at++;
	return at;
}

size_t df_utf8_floor(struct df_str s, size_t at)
{
	if (at >= s.n)
		return s.n;
	while (at > 0 && df_utf8_is_tail(s.p[at]))
		at--;
	return at;
}

size_t df_utf8_put(char *out, uint32_t cp)
{
	if (cp < 0x80) {
		out[0] = (char)cp;
		return 1;
	}
	if (cp < 0x800) {
		out[0] = (char)(0xC0U | (cp >> 6));
		out[1] = (char)(0x80U | (cp & 0x3FU));
		return 2;
	}
	if (cp < 0x10000) {
		out[0] = (char)(0xE0U | (cp >> 12));
		out[1] = (char)(0x80U | ((cp >> 6) & 0x3FU));
		out[2] = (char)(0x80U | (cp & 0x3FU));
		return 3;
	}
	out[0] = (char)(0xF0U | (cp >> 18));
	out[1] = (char)(0x80U | ((cp >> 12) & 0x3FU));
	out[2] = (char)(0x80U | ((cp >> 6) & 0x3FU));
	out[3] = (char)(0x80U | (cp & 0x3FU));
	return 4;
}

uint32_t df_utf8_before(struct df_str s, size_t at, size_t *ret_at)
{
	size_t begin = at - 1;
	while (begin > 0 && at - begin < 4 && df_utf8_is_tail(s.p[begin]))
		begin--;
	size_t next = begin;
	uint32_t cp = df_utf8_decode(s.p, s.n, &next);
	*ret_at = begin;
	return cp;
}
