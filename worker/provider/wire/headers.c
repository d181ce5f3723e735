// SPDX-License-Identifier: Apache-2.0
/* headers: what answers say beside their bodies: when to come again, and how much is left. */
#include <math.h>

#include "worker/provider/wire/wire.h"

#define LATER_MAX_MS (INT64_C(7) * 24 * 3600 * 1000) /* nobody means more */

struct df_str df_wire_get(const struct df_http_response *r, const char *name)
{
	struct df_str none = {NULL, 0};
	if (!r->header)
		return none;
	struct df_str s = r->header(r, name);
	return s.p ? df_str_trim(s) : none;
}

/* ------------------------------------------------------------------ durations */

static int64_t later(double ms)
{
	if (!(ms >= 0))
		return -1;
	return ms >= (double)LATER_MAX_MS ? LATER_MAX_MS : (int64_t)ceil(ms);
}

/* How many bytes of `s` are a plain decimal ("12", "3.5", ".5"). */
static size_t decimal(struct df_str s, double *ret)
{
	size_t i = 0, digits = 0;
	double v = 0, scale = 1;
	for (bool dot = false; i < s.n; i++) {
		if (s.p[i] == '.' && !dot) {
			dot = true;
		} else if (s.p[i] >= '0' && s.p[i] <= '9') {
			v = v * 10 + (s.p[i] - '0');
			scale *= dot ? 10 : 1;
			digits++;
		} else {
			break;
		}
	}
	*ret = v / scale;
	return digits && digits < 40 ? i : 0;
}

static double unit_ms(struct df_str s, size_t *ret_n)
{
	static const struct {
		const char *name;
		double ms;
	} unit[] = {{"ms", 1},    {"us", 1e-3},         {"\xc2\xb5s", 1e-3}, {"\xce\xbcs", 1e-3},
		    {"ns", 1e-6}, {"h", 3600.0 * 1000}, {"m", 60.0 * 1000},  {"s", 1000}};
	for (size_t i = 0; i < sizeof(unit) / sizeof(unit[0]); i++)
		if (df_str_starts(s, unit[i].name)) {
			*ret_n = strlen(unit[i].name);
			return unit[i].ms;
		}
	*ret_n = 0;
	return 0;
}

int64_t df_wire_duration(struct df_str s)
{
	double total = 0;
	s = df_str_trim(s);
	if (s.n == 0)
		return -1;
	for (bool first = true; s.n; first = false) {
		double v = 0;
		size_t n = decimal(s, &v), n_unit = 0;
		if (n == 0)
			return -1;
		s = (struct df_str){s.p + n, s.n - n};
		if (s.n == 0) /* seconds; Azure answers 0 when it means nothing by it */
			return first && v > 0 ? later(v * 1000) : -1;
		total += v * unit_ms(s, &n_unit);
		if (n_unit == 0)
			return -1;
		s = (struct df_str){s.p + n_unit, s.n - n_unit};
	}
	return later(total);
}

/* ------------------------------------------------------------------ dates */

/* Howard Hinnant's days_from_civil. */
static int64_t days(int64_t y, int64_t m, int64_t d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
	int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + doe - 719468;
}

struct fields {
	int64_t year, month, day, hour, minute, second;
};

/* `form` has y, m, d, H, M, S where a digit belongs; every other character stands for itself, '?' for any. */
static bool digits_of(struct df_str s, const char *form, struct fields *f)
{
	memset(f, 0, sizeof(*f));
	if (s.n < strlen(form))
		return false;
	for (size_t i = 0; form[i]; i++) {
		int64_t *to = form[i] == 'y'   ? &f->year
			      : form[i] == 'm' ? &f->month
			      : form[i] == 'd' ? &f->day
			      : form[i] == 'H' ? &f->hour
			      : form[i] == 'M' ? &f->minute
			      : form[i] == 'S' ? &f->second
					       : NULL;
		if (to && (s.p[i] < '0' || s.p[i] > '9'))
			return false;
		if (to)
			*to = *to * 10 + (s.p[i] - '0');
		else if (form[i] != '?' && form[i] != s.p[i])
			return false;
	}
	return true;
}

static int64_t ms_of(const struct fields *f)
{
	if (f->month < 1 || f->month > 12 || f->day < 1 || f->day > 31 || f->hour > 23 || f->minute > 59 ||
	    f->second > 60)
		return INT64_MIN;
	return (((days(f->year, f->month, f->day) * 24 + f->hour) * 60 + f->minute) * 60 + f->second) * 1000;
}

static int64_t rfc3339(struct df_str s)
{
	struct fields f, zone;
	double fraction = 0;
	int64_t sign;
	if (!digits_of(s, "yyyy-mm-dd?HH:MM:SS", &f) || ms_of(&f) == INT64_MIN)
		return INT64_MIN;
	s = (struct df_str){s.p + 19, s.n - 19};
	if (s.n && s.p[0] == '.') {
		size_t n = decimal(s, &fraction);
		s = (struct df_str){s.p + n, s.n - n};
		if (n == 0)
			return INT64_MIN;
	}
	if (df_str_is(s, "Z") || df_str_is(s, "z"))
		return ms_of(&f) + (int64_t)(fraction * 1000);
	if (s.n != 6 || !digits_of(s, "?HH:MM", &zone) || (s.p[0] != '+' && s.p[0] != '-'))
		return INT64_MIN;
	sign = s.p[0] == '+' ? -1 : 1;
	return ms_of(&f) + (int64_t)(fraction * 1000) + sign * (zone.hour * 60 + zone.minute) * 60000;
}

int64_t df_wire_date(struct df_str s)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct fields f;
	if (!df_str_ends(s, " GMT") || !digits_of(s, "???, dd ??? yyyy HH:MM:SS", &f))
		return rfc3339(s);
	for (int i = 0; i < 12; i++)
		if (memcmp(months + 3 * i, s.p + 8, 3) == 0)
			f.month = i + 1;
	return ms_of(&f);
}

/* Until `when`, by the clock of the server that said it; -1 when it did not tell its clock. A time that has passed is 0. */
static int64_t until(const struct df_http_response *r, struct df_str when)
{
	struct df_str date = df_wire_get(r, "date");
	int64_t then = when.p ? df_wire_date(when) : INT64_MIN, now = date.p ? df_wire_date(date) : INT64_MIN;
	if (then == INT64_MIN || now == INT64_MIN)
		return -1;
	return then <= now ? 0 : later((double)(then - now));
}

/* ------------------------------------------------------------------ what they say */

int64_t df_wire_retry_after(const struct df_http_response *r)
{
	struct df_str ms = df_wire_get(r, "retry-after-ms"), s = df_wire_get(r, "retry-after");
	double v = 0;
	if (ms.p && df_str_to_double(ms, &v) == DF_OK && v >= 0)
		return later(v);
	if (!s.p)
		return -1;
	return df_str_to_double(s, &v) == DF_OK ? later(v * 1000) : until(r, s);
}

static int64_t count_of(const struct df_http_response *r, const char *const *name)
{
	for (; *name; name++) {
		uint64_t v = 0;
		struct df_str s = df_wire_get(r, *name);
		if (s.p && df_str_to_u64(s, &v) == DF_OK && v <= INT64_MAX)
			return (int64_t)v;
	}
	return -1;
}

static int64_t reset_of(const struct df_http_response *r, const char *relative, const char *absolute)
{
	struct df_str s = df_wire_get(r, relative);
	if (s.p)
		return df_wire_duration(s);
	s = df_wire_get(r, absolute);
	return s.p ? until(r, s) : -1;
}

#define COUNT(...) count_of(r, (const char *const[]){__VA_ARGS__, NULL})

void df_wire_limits(const struct df_http_response *r, struct df_limit_news *ret)
{
	struct df_limit_news n = {
		.requests_limit = COUNT("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit",
					"x-ratelimit-limit-req-minute"),
		.requests_left = COUNT("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining",
				       "x-ratelimit-remaining-req-minute"),
		.tokens_limit = COUNT("x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit",
				      "anthropic-ratelimit-input-tokens-limit", "x-ratelimit-limit-tokens-minute"),
		.tokens_left =
			COUNT("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining",
			      "anthropic-ratelimit-input-tokens-remaining", "x-ratelimit-remaining-tokens-minute"),
		.requests_reset_ms = reset_of(r, "x-ratelimit-reset-requests", "anthropic-ratelimit-requests-reset"),
		.tokens_reset_ms = reset_of(r, "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"),
		.retry_after_ms = df_wire_retry_after(r)};
	if (n.tokens_reset_ms < 0)
		n.tokens_reset_ms = reset_of(r, "x-ratelimit-reset-tokens", "anthropic-ratelimit-input-tokens-reset");
	*ret = n;
}
