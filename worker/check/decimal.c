// SPDX-License-Identifier: Apache-2.0
/* decimal: exact comparisons of JSON numbers, digit by digit. */
#include "worker/check/decimal.h"

#define EXPONENT_MAX (INT64_C(1) << 40)
#define DIGITS_U64 19U

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* "e+12" behind the digits. */
static int64_t written_exponent(const char *p, const char *end)
{
	int64_t v = 0;
	bool minus = false;
	if (p < end && (*p == 'e' || *p == 'E'))
		p++;
	if (p < end && (*p == '+' || *p == '-'))
		minus = *p++ == '-';
	for (; p < end && digit(*p); p++)
		v = v < EXPONENT_MAX ? v * 10 + (*p - '0') : v;
	v = v < EXPONENT_MAX ? v : EXPONENT_MAX;
	return minus ? -v : v;
}

struct df_decimal df_decimal_of(struct df_str text)
{
	struct df_decimal d = {.negative = false};
	const char *p = text.p, *end = text.p + text.n;
	size_t n = 0, last = 0; /* digits from the first that is not 0; those up to the last that is not */
	int64_t behind = 0;     /* digits behind the point */
	bool point = false;
	if (p < end && *p == '-') {
		d.negative = true;
		p++;
	}
	for (; p < end && (digit(*p) || *p == '.'); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		behind += point;
		if (*p != '0' && n == 0)
			d.p = p;
		n += *p != '0' || n > 0;
		last = *p != '0' ? n : last;
	}
	if (n == 0)
		return (struct df_decimal){.negative = false};
	d.n = last;
	d.exponent = written_exponent(p, end) - behind + (int64_t)(n - last);
	return d;
}

/* The next digit; 0 behind the last. */
static char next(const char **p, size_t *left)
{
	if (*left == 0)
		return '0';
	if (**p == '.')
		(*p)++;
	(*left)--;
	return *(*p)++;
}

static int compare_size(const struct df_decimal *a, const struct df_decimal *b)
{
	int64_t high_a = a->exponent + (int64_t)a->n, high_b = b->exponent + (int64_t)b->n;
	if (a->n == 0 || b->n == 0)
		return (a->n != 0) - (b->n != 0);
	if (high_a != high_b)
		return high_a < high_b ? -1 : 1;
	const char *p = a->p, *q = b->p;
	for (size_t i = a->n, k = b->n; i || k;) {
		char x = next(&p, &i), y = next(&q, &k);
		if (x != y)
			return x < y ? -1 : 1;
	}
	return 0;
}

int df_decimal_compare(const struct df_decimal *a, const struct df_decimal *b)
{
	if (a->negative != b->negative)
		return a->negative ? -1 : 1;
	return a->negative ? -compare_size(a, b) : compare_size(a, b);
}

bool df_decimal_is_integer(const struct df_decimal *d)
{
	return d->n == 0 || d->exponent >= 0;
}

uint64_t df_decimal_u64(const struct df_decimal *d)
{
	uint64_t v = 0;
	const char *p = d->p;
	size_t left = d->n, all = d->n;
	if (d->n == 0)
		return 0;
	if ((int64_t)d->n + d->exponent > (int64_t)DIGITS_U64)
		return UINT64_MAX;
	for (all += (size_t)d->exponent; all; all--)
		v = v * 10 + (uint64_t)(next(&p, &left) - '0');
	return v;
}

static uint64_t times(uint64_t a, uint64_t b, uint64_t m)
{
	__extension__ typedef unsigned __int128 wide;
	return (uint64_t)((wide)a * b % m);
}

static uint64_t ten_to(int64_t e, uint64_t m)
{
	uint64_t v = 1 % m, base = 10 % m;
	for (; e > 0; e >>= 1) {
		if (e & 1)
			v = times(v, base, m);
		base = times(base, base, m);
	}
	return v;
}

/* d = A x 10^x and by = B x 10^y, neither A nor B ending in 0. With x < y a whole quotient would make A end in 0. */
bool df_decimal_is_multiple(const struct df_decimal *d, const struct df_decimal *by)
{
	uint64_t b = 0, rest = 0;
	const char *p = by->p, *q = d->p;
	size_t used = by->n < DIGITS_U64 ? by->n : DIGITS_U64, left = by->n;
	if (d->n == 0)
		return true;
	for (size_t i = 0; i < used; i++)
		b = b * 10 + (uint64_t)(next(&p, &left) - '0');
	int64_t y = by->exponent + (int64_t)(by->n - used);
	if (b == 0 || d->exponent < y)
		return false;
	for (size_t i = d->n; i;)
		rest = (uint64_t)(times(rest, 10, b) + (uint64_t)(next(&q, &i) - '0')) % b;
	return times(rest, ten_to(d->exponent - y, b), b) == 0;
}

uint64_t df_decimal_hash(const struct df_decimal *d)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)d->exponent ^ (d->negative ? UINT64_MAX : 0);
	const char *p = d->p;
	for (size_t left = d->n; left;)
		h = (h ^ (unsigned char)next(&p, &left)) * UINT64_C(0x100000001b3);
	return h;
}
