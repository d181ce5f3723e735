// SPDX-License-Identifier: Apache-2.0
/* escape: blocks of 64 bytes, a bit for each backslash, and a copy between two of them that never asks how long it is. */
#include "worker/read/escape.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ------------------------------------------------------------------ one escape */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hexadecimal digits at p, or -1. The caller knows that they are there: a string's end is not a digit. */
static int32_t hex4(const char *p)
{
	int32_t v = 0;
	for (int i = 0; i < 4; i++) {
		int d = hex_digit(p[i]);
		if (d < 0)
			return -1;
		v = v * 16 + d;
	}
	return v;
}

static size_t put_utf8(uint32_t c, char *d)
{
	if (c < 0x80) {
		d[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		d[0] = (char)(0xc0 | c >> 6);
		d[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		d[0] = (char)(0xe0 | c >> 12);
		d[1] = (char)(0x80 | (c >> 6 & 0x3f));
		d[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	d[0] = (char)(0xf0 | c >> 18);
	d[1] = (char)(0x80 | (c >> 12 & 0x3f));
	d[2] = (char)(0x80 | (c >> 6 & 0x3f));
	d[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* *s stands behind "\u"; moves it over the digits, of two escapes for a pair. */
static enum df_escape read_unicode(const char **s, uint32_t *c)
{
	int32_t high = hex4(*s);
	if (high < 0)
		return DF_ESCAPE_UNKNOWN;
	*s += 4;
	*c = (uint32_t)high;
	if ((*c & 0xf800) != 0xd800)
		return DF_ESCAPE_OK;
	if (*c >= 0xdc00 || (*s)[0] != '\\' || (*s)[1] != 'u')
		return DF_ESCAPE_SURROGATE;
	int32_t low = hex4(*s + 2);
	if (low < 0)
		return DF_ESCAPE_UNKNOWN;
	if ((low & 0xfc00) != 0xdc00)
		return DF_ESCAPE_SURROGATE;
	*s += 6;
	*c = 0x10000 + ((*c - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
	return DF_ESCAPE_OK;
}

/* What stands for each letter behind a backslash; 0: none, or 'u'. */
static const char meaning[256] = {
	['n'] = '\n', ['t'] = '\t', ['r'] = '\r', ['b'] = '\b', ['f'] = '\f', ['"'] = '"', ['\\'] = '\\', ['/'] = '/',
};

/* One escape sequence at *s (its backslash): moves *s behind it, writes its bytes to *d and moves *d. */
static inline enum df_escape read_escape(const char **s, char **d)
{
	unsigned char letter = (unsigned char)(*s)[1];
	*s += 2;
	if (meaning[letter]) {
		*(*d)++ = meaning[letter];
		return DF_ESCAPE_OK;
	}
	if (letter != 'u')
		return DF_ESCAPE_UNKNOWN;
	uint32_t c = 0;
	enum df_escape err = read_unicode(s, &c);
	if (err == DF_ESCAPE_OK)
		*d += put_utf8(c, *d);
	return err;
}

/* ------------------------------------------------------------------ a string */

/* Bit i: s[i] is a backslash, of 64 bytes. */
static inline uint64_t backslashes(const char *s)
{
	uint64_t mask = 0;
#ifdef __SSE2__
	const __m128i backslash = _mm_set1_epi8('\\');
	for (int i = 0; i < 4; i++) {
		__m128i x = _mm_loadu_si128((const __m128i *)(const void *)(s + 16 * i));
		unsigned part = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(x, backslash));
		mask |= (uint64_t)part << (16 * i);
	}
#else
	for (int i = 0; i < 64; i++)
		mask |= (uint64_t)(s[i] == '\\') << i;
#endif
	return mask;
}

/* The runs between escapes are copied as whole blocks of 64 bytes whatever their length, because a wrong guess of a branch costs more than the store: hence the slack. */
enum df_escape df_escape_copy(struct df_str inside, char *to, size_t *ret_n, const char **ret_fault)
{
	const char *s = inside.p, *end = s + inside.n;
	char *d = to;
	while (s < end) {
		const char *block = s;
		uint64_t mask = backslashes(block);
		size_t n_block = 64;
		if (end - block < 64) {
			n_block = (size_t)(end - block);
			mask &= (UINT64_C(1) << n_block) - 1;
		}
		while (mask) {
			const char *escape = block + __builtin_ctzll(mask);
			memcpy(d, s, 64);
			d += escape - s;
			s = escape;
			enum df_escape err = read_escape(&s, &d);
			if (err != DF_ESCAPE_OK) {
				*ret_fault = escape;
				return err;
			}
			size_t done = (size_t)(s - block);
			mask = done < 64 ? mask & (~UINT64_C(0) << done) : 0;
		}
		if (s < block + n_block) {
			memcpy(d, s, 64);
			d += block + n_block - s;
			s = block + n_block;
		}
	}
	*ret_n = (size_t)(d - to);
	return DF_ESCAPE_OK;
}

enum df_escape df_escape_check(struct df_str inside, const char **ret_fault)
{
	const char *s = inside.p, *end = s + inside.n;
	char scrap[4];
	while ((s = memchr(s, '\\', (size_t)(end - s))) != NULL) {
		char *d = scrap;
		*ret_fault = s;
		enum df_escape err = read_escape(&s, &d);
		if (err != DF_ESCAPE_OK)
			return err;
	}
	return DF_ESCAPE_OK;
}
