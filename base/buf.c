// SPDX-License-Identifier: Apache-2.0
/* buf: growth by half again, never beyond the maximum it was born with. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void df_buf_init(struct df_buf *b, size_t max_bytes)
{
	*b = (struct df_buf){.max = max_bytes};
}

void df_buf_release(struct df_buf *b)
{
	free(b->p);
	*b = (struct df_buf){.max = b->max};
}

void df_buf_reset(struct df_buf *b)
{
	b->n = 0;
	b->err = DF_OK;
}

enum df_err df_buf_reserve(struct df_buf *b, size_t more)
{
	if (b->err != DF_OK)
		return b->err;
	if (more > b->max - b->n)
		return b->err = DF_ERR_LIMIT;
	if (more <= b->cap - b->n)
		return DF_OK;
	size_t want = b->cap + b->cap / 2;
	if (want < b->n + more)
		want = b->n + more;
	if (want < 64)
		want = 64;
	if (want > b->max)
		want = b->max;
	char *p = realloc(b->p, want);
	if (!p)
		return b->err = DF_ERR_NOMEM;
	b->p = p;
	b->cap = want;
	return DF_OK;
}

enum df_err df_buf_add(struct df_buf *b, const void *p, size_t n)
{
	if (n == 0)
		return b->err;
	DF_TRY(df_buf_reserve(b, n));
	memcpy(b->p + b->n, p, n);
	b->n += n;
	return DF_OK;
}

enum df_err df_buf_add_str(struct df_buf *b, struct df_str s)
{
	return df_buf_add(b, s.p, s.n);
}

enum df_err df_buf_addz(struct df_buf *b, const char *z)
{
	return df_buf_add(b, z, strlen(z));
}

enum df_err df_buf_addc(struct df_buf *b, char c)
{
	return df_buf_add(b, &c, 1);
}

enum df_err df_buf_addf(struct df_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	size_t room = b->err == DF_OK ? b->cap - b->n : 0;
	enum df_err err = DF_OK;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(room ? b->p + b->n : NULL, room, fmt, ap);
	if (n < 0)
		err = b->err = DF_ERR_BUG;
	else if ((size_t)n >= room && (err = df_buf_reserve(b, (size_t)n + 1)) == DF_OK)
		(void)vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
	if (err == DF_OK)
		b->n += (size_t)n;
	va_end(again);
	va_end(ap);
	return err;
}

enum df_err df_buf_add_u64(struct df_buf *b, uint64_t v)
{
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return df_buf_add(b, digits + at, sizeof(digits) - at);
}

const char *df_buf_z(struct df_buf *b)
{
	if (b->n == b->cap && df_buf_reserve(b, 1) != DF_OK && b->n)
		b->n--; /* its place is the only one that is certain */
	if (!b->p)
		return "";
	b->p[b->n] = '\0';
	return b->p;
}
