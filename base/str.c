// SPDX-License-Identifier: Apache-2.0
/* str: slices of bytes; numbers and names out of them. */
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

bool df_str_starts(struct df_str s, const char *prefix)
{
	size_t n = strlen(prefix);
	return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

bool df_str_ends(struct df_str s, const char *suffix)
{
	size_t n = strlen(suffix);
	return s.n >= n && memcmp(s.p + s.n - n, suffix, n) == 0;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct df_str df_str_trim(struct df_str s)
{
	while (s.n && blank(s.p[0]))
		s.p++, s.n--;
	while (s.n && blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

/* The bytes of the sequence at p (n >= 1 bytes left), or 0 when it is none. Table 3-7 of the Unicode Standard. */
static size_t sequence(const unsigned char *p, size_t n)
{
	unsigned char low = 0x80, high = 0xbf;
	size_t more;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		more = 1;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		more = 2;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		more = 3;
	else
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (more >= n || p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i <= more; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return more + 1;
}

size_t df_str_utf8_prefix(struct df_str s)
{
	size_t at = 0;
	while (at < s.n) {
		size_t step = sequence((const unsigned char *)s.p + at, s.n - at);
		if (step == 0)
			break;
		at += step;
	}
	return at;
}

#define MAX_NAME 64

static size_t min3(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;
	return m < c ? m : c;
}

void df_str_make_utf8(char *z)
{
	size_t n = strlen(z), at = 0;
	while ((at += df_str_utf8_prefix((struct df_str){z + at, n - at})) < n)
		z[at] = '?'; /* which the next turn takes along */
}

size_t df_str_distance(struct df_str a, struct df_str b)
{
	size_t row[3][MAX_NAME + 1];
	size_t na = a.n < MAX_NAME ? a.n : MAX_NAME;
	size_t nb = b.n < MAX_NAME ? b.n : MAX_NAME;
	size_t *before = row[0], *last = row[1], *now = row[2];
	memset(row, 0, sizeof(row));
	for (size_t j = 0; j <= nb; j++)
		last[j] = j;
	for (size_t i = 1; i <= na; i++) {
		now[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t cost = a.p[i - 1] != b.p[j - 1];
			now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + cost);
			bool swap = i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1];
			if (swap && before[j - 2] + 1 < now[j])
				now[j] = before[j - 2] + 1;
		}
		size_t *spare = before;
		before = last;
		last = now;
		now = spare;
	}
	return last[nb];
}

enum df_err df_str_to_u64(struct df_str s, uint64_t *ret_value)
{
	uint64_t v = 0;
	if (s.n == 0)
		return DF_ERR_PARSE;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return DF_ERR_PARSE;
		uint64_t d = (uint64_t)(s.p[i] - '0');
		if (v > (UINT64_MAX - d) / 10)
			return DF_ERR_RANGE;
		v = v * 10 + d;
	}
	*ret_value = v;
	return DF_OK;
}

enum df_err df_str_to_i64(struct df_str s, int64_t *ret_value)
{
	bool neg = s.n && s.p[0] == '-';
	if (neg)
		s.p++, s.n--;
	uint64_t v = 0;
	DF_TRY(df_str_to_u64(s, &v));
	if (v > (uint64_t)INT64_MAX + neg)
		return DF_ERR_RANGE;
	*ret_value = neg ? (int64_t)(0 - v) : (int64_t)v;
	return DF_OK;
}

enum df_err df_str_to_double(struct df_str s, double *ret_value)
{
	char z[64];
	uint64_t whole = 0;
	if (s.n <= 15 && df_str_to_u64(s, &whole) == DF_OK) { /* exact, and most numbers are such ones */
		*ret_value = (double)whole;
		return DF_OK;
	}
	if (s.n == 0 || s.n >= sizeof(z) || isspace((unsigned char)s.p[0]))
		return DF_ERR_PARSE;
	memcpy(z, s.p, s.n);
	z[s.n] = '\0';
	char *end = NULL;
	errno = 0;
	double v = strtod(z, &end);
	if (end != z + s.n || !isfinite(v))
		return DF_ERR_PARSE;
	*ret_value = v;
	return DF_OK;
}

enum df_err df_str_to_size(struct df_str s, uint64_t *ret_bytes)
{
	size_t digits = 0;
	while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	uint64_t v = 0;
	DF_TRY(df_str_to_u64((struct df_str){s.p, digits}, &v));
	struct df_str unit = {s.p + digits, s.n - digits};
	unsigned shift = 0;
	if (unit.n) {
		static const char letters[] = "kmgt";
		const char *at = strchr(letters, tolower((unsigned char)unit.p[0]));
		bool bytes = unit.n == 1 && (unit.p[0] == 'b' || unit.p[0] == 'B');
		if (!bytes) {
			if (!at || !*at)
				return DF_ERR_PARSE;
			shift = 10U * (unsigned)(at - letters + 1);
			struct df_str rest = {unit.p + 1, unit.n - 1};
			if (rest.n && !df_str_is(rest, "b") && !df_str_is(rest, "B") && !df_str_is(rest, "iB"))
				return DF_ERR_PARSE;
		}
	}
	if (shift && v > (UINT64_MAX >> shift))
		return DF_ERR_RANGE;
	*ret_bytes = v << shift;
	return DF_OK;
}

enum df_err df_str_to_time(struct df_str s, uint64_t *ret_ns)
{
	static const struct {
		const char *unit;
		double seconds;
	} unit[] = {{"", 1}, {"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}};
	size_t digits = 0;
	double v = 0;
	while (digits < s.n && (isdigit((unsigned char)s.p[digits]) || s.p[digits] == '.'))
		digits++;
	if (digits == 0)
		return DF_ERR_PARSE;
	DF_TRY(df_str_to_double((struct df_str){s.p, digits}, &v));
	struct df_str rest = {s.p + digits, s.n - digits};
	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++) {
		if (!df_str_is(rest, unit[i].unit))
			continue;
		v *= unit[i].seconds * 1e9;
		if (v >= 0x1p63)
			return DF_ERR_RANGE;
		*ret_ns = (uint64_t)(v + 0.5);
		return DF_OK;
	}
	return DF_ERR_PARSE;
}

char *df_str_dup(struct df_str s)
{
	char *z = malloc(s.n + 1);
	if (!z)
		return NULL;
	if (s.n)
		memcpy(z, s.p, s.n);
	z[s.n] = '\0';
	return z;
}

struct df_str df_str_copy(struct df_str s)
{
	char *z = df_str_dup(s);
	return (struct df_str){z, z ? s.n : 0};
}
