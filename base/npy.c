// SPDX-License-Identifier: Apache-2.0
/* npy: the header is a Python literal: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } in any order. */
#include "base/npy.h"

#include <stdio.h>
#include <string.h>

static const char magic[] = "\x93NUMPY";

#define MAGIC_BYTES 6U
#define PREFIX_BYTES 10U /* magic, version, 16-bit length */

void df_npy_header(char out[DF_NPY_HEADER_BYTES], enum df_npy_dtype dtype, uint64_t rows, uint64_t dim)
{
	const size_t text_bytes = DF_NPY_HEADER_BYTES - PREFIX_BYTES;
	char text[DF_NPY_HEADER_BYTES];
	int n = snprintf(text, sizeof(text), "{'descr': '%s', 'fortran_order': False, 'shape': (%llu, %llu), }",
			 dtype == DF_NPY_F32 ? "<f4" : "<f2", (unsigned long long)rows, (unsigned long long)dim);
	DF_ASSERT(n > 0 && (size_t)n < text_bytes); /* at most 103 with two numbers of 20 digits */
	memcpy(out, magic, MAGIC_BYTES);
	out[6] = 1;
	out[7] = 0;
	out[8] = (char)text_bytes;
	out[9] = 0;
	memset(out + PREFIX_BYTES, ' ', text_bytes);
	memcpy(out + PREFIX_BYTES, text, (size_t)n);
	out[DF_NPY_HEADER_BYTES - 1] = '\n';
}

/* ------------------------------------------------------------------ reading */

struct scan {
	const char *at, *end;
};

static void skip_blank(struct scan *s)
{
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t'))
		s->at++;
}

static bool take(struct scan *s, char c)
{
	skip_blank(s);
	if (s->at >= s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

/* 'word' or "word", without escapes. */
static bool quoted(struct scan *s, struct df_str *ret)
{
	skip_blank(s);
	if (s->at >= s->end || (*s->at != '\'' && *s->at != '"'))
		return false;
	char quote = *s->at++;
	const char *close = memchr(s->at, quote, (size_t)(s->end - s->at));
	if (!close)
		return false;
	*ret = (struct df_str){s->at, (size_t)(close - s->at)};
	s->at = close + 1;
	return true;
}

static bool word(struct scan *s, const char *w)
{
	size_t n = strlen(w);
	skip_blank(s);
	if ((size_t)(s->end - s->at) < n || memcmp(s->at, w, n) != 0)
		return false;
	s->at += n;
	return true;
}

static bool number(struct scan *s, uint64_t *ret)
{
	skip_blank(s);
	const char *from = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return df_str_to_u64((struct df_str){from, (size_t)(s->at - from)}, ret) == DF_OK;
}

/* (n, d) or (d,) */
static bool shape(struct scan *s, struct df_npy *npy)
{
	uint64_t first = 0;
	if (!take(s, '(') || !number(s, &first) || !take(s, ','))
		return false;
	if (take(s, ')')) {
		npy->rows = 1;
		npy->dim = first;
		return true;
	}
	npy->rows = first;
	if (!number(s, &npy->dim))
		return false;
	(void)take(s, ',');
	return take(s, ')');
}

static enum df_err read_dtype(struct df_str descr, struct df_npy *npy, struct df_fail *fail)
{
	if (df_str_is(descr, "<f4"))
		npy->dtype = DF_NPY_F32;
	else if (df_str_is(descr, "<f2"))
		npy->dtype = DF_NPY_F16;
	else
		return df_fail(fail, DF_ERR_UNSUPPORTED, "the numbers are neither '<f4' nor '<f2'");
	return DF_OK;
}

static enum df_err describe(struct scan s, struct df_npy *npy, struct df_fail *fail)
{
	unsigned seen = 0;
	if (!take(&s, '{'))
		return df_fail(fail, DF_ERR_CORRUPT, "the header is not a description of an array");
	while (!take(&s, '}')) {
		struct df_str key = {NULL, 0}, descr = {NULL, 0};
		if (!quoted(&s, &key) || !take(&s, ':'))
			return df_fail(fail, DF_ERR_CORRUPT, "the header is not a description of an array");
		if (df_str_is(key, "descr") && quoted(&s, &descr)) {
			DF_TRY(read_dtype(descr, npy, fail));
			seen |= 1U;
		} else if (df_str_is(key, "fortran_order") && word(&s, "False")) {
			seen |= 2U;
		} else if (df_str_is(key, "shape") && shape(&s, npy)) {
			seen |= 4U;
		} else {
			return df_fail(fail, DF_ERR_UNSUPPORTED, "not a two-dimensional array of numbers in C order");
		}
		(void)take(&s, ',');
	}
	return seen == 7U ? DF_OK : df_fail(fail, DF_ERR_CORRUPT, "the header lacks descr, fortran_order or shape");
}

/* Where the description lies. */
static enum df_err find_text(struct df_str file, struct scan *ret, struct df_fail *fail)
{
	const unsigned char *p = (const unsigned char *)file.p;
	if (file.n < PREFIX_BYTES || memcmp(p, magic, MAGIC_BYTES) != 0)
		return df_fail(fail, DF_ERR_CORRUPT, "not a .npy file");
	if (p[6] < 1 || p[6] > 3)
		return df_fail(fail, DF_ERR_VERSION, "a .npy file of version %u", p[6]);
	size_t prefix = p[6] == 1 ? PREFIX_BYTES : PREFIX_BYTES + 2, n = (size_t)p[8] | (size_t)p[9] << 8;
	if (file.n < prefix)
		return df_fail(fail, DF_ERR_CORRUPT, "the header is cut short");
	if (p[6] > 1)
		n |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
	if (n > DF_NPY_HEADER_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "a header of %zu bytes", n);
	if (n > file.n - prefix)
		return df_fail(fail, DF_ERR_CORRUPT, "the header is cut short");
	*ret = (struct scan){file.p + prefix, file.p + prefix + n};
	return DF_OK;
}

enum df_err df_npy_parse(struct df_str file, bool open_part, struct df_npy *ret_npy, struct df_fail *fail)
{
	struct scan text = {NULL, NULL};
	struct df_npy npy = {.dtype = DF_NPY_F32};
	uint64_t row_bytes = 0, all = 0;
	DF_TRY(find_text(file, &text, fail));
	DF_TRY(describe(text, &npy, fail));
	npy.data = text.end;
	npy.data_bytes = file.n - (size_t)(text.end - file.p);
	if (npy.dim == 0 || __builtin_mul_overflow(npy.dim, df_npy_item_bytes(npy.dtype), &row_bytes))
		return df_fail(fail, DF_ERR_UNSUPPORTED, "rows of no length");
	if (open_part)
		npy.rows = npy.data_bytes / row_bytes;
	else if (__builtin_mul_overflow(npy.rows, row_bytes, &all) || all > npy.data_bytes)
		return df_fail(fail, DF_ERR_CORRUPT, "the file is shorter than its header says");
	*ret_npy = npy;
	return DF_OK;
}
