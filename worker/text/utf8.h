// SPDX-License-Identifier: Apache-2.0
/*
 * utf8: validity, counting and cutting of UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF).
 * Only df_utf8_valid_prefix and df_utf8_decode accept any bytes; the others want valid text.
 */
#ifndef DF_WORKER_TEXT_UTF8_H
#define DF_WORKER_TEXT_UTF8_H

#include "base/str.h"

/* Bytes before the first that is not valid: s.n when all is. A cut sequence counts as bad from its first byte. */
size_t df_utf8_valid_prefix(struct df_str s);

/* Code points. */
size_t df_utf8_count(struct df_str s);

/* The byte behind `n` code points from byte `from`; s.n when there are fewer. */
size_t df_utf8_advance(struct df_str s, size_t from, size_t n);

/* The largest cut <= at that is between code points. */
size_t df_utf8_floor(struct df_str s, size_t at);

/* `cp` as 1 to 4 bytes at out[4]; their number. */
size_t df_utf8_put(char *out, uint32_t cp);

static inline bool df_utf8_is_tail(char c)
{
	return ((unsigned char)c & 0xC0U) == 0x80U;
}

/*
 * The code point at p[*at] (*at < n); *at moves behind it. Never reads at or behind n: a sequence that is cut or has a
 * wrong tail gives U+FFFD and moves one byte. Does not check for overlong forms.
 */
static inline uint32_t df_utf8_decode(const char *p, size_t n, size_t *at)
{
	const unsigned char *s = (const unsigned char *)p + *at;
	size_t left = n - *at;
	if (s[0] < 0x80) {
		*at += 1;
		return s[0];
	}
	if (s[0] >= 0xE0 && s[0] < 0xF0 && left >= 3 && df_utf8_is_tail((char)s[1]) && df_utf8_is_tail((char)s[2])) {
		*at += 3;
		return ((uint32_t)(s[0] & 0x0FU) << 12) | ((uint32_t)(s[1] & 0x3FU) << 6) | (s[2] & 0x3FU);
	}
	if (s[0] >= 0xC0 && s[0] < 0xE0 && left >= 2 && df_utf8_is_tail((char)s[1])) {
		*at += 2;
		return ((uint32_t)(s[0] & 0x1FU) << 6) | (s[1] & 0x3FU);
	}
	if (s[0] >= 0xF0 && s[0] < 0xF5 && left >= 4 && df_utf8_is_tail((char)s[1]) && df_utf8_is_tail((char)s[2]) &&
	    df_utf8_is_tail((char)s[3])) {
		*at += 4;
		uint32_t cp = ((uint32_t)(s[0] & 0x07U) << 18) | ((uint32_t)(s[1] & 0x3FU) << 12) |
			      ((uint32_t)(s[2] & 0x3FU) << 6) | (s[3] & 0x3FU);
		return cp <= 0x10FFFF ? cp : 0xFFFD;
	}
	*at += 1;
	return 0xFFFD;
}

/* The code point before byte `at` (> 0); *ret_at: where it begins. */
uint32_t df_utf8_before(struct df_str s, size_t at, size_t *ret_at);

#endif
