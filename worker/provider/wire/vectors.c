// SPDX-License-Identifier: Apache-2.0
/*
 * vectors: lists of numbers lifted out of a JSON text, and rows of embeddings put in their places.
 *
 * DESIGN. lift() copies the text but for each list that holds only numbers (at least one), which becomes [k]: the k-th lifted list. No other list of
 * one number can be in what is left, so the mark cannot be mistaken; grammar and strictness stay df_json_parse's.
 */
#include "worker/provider/wire/vectors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ------------------------------------------------------------------ numbers */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

/* The end of a JSON number, of NaN, Infinity, -Infinity or null; NULL: none of them. */
static const char *number_end(const char *p, const char *end)
{
	static const char *const word[] = {"NaN", "Infinity", "-Infinity", "null"};
	for (size_t i = 0; i < sizeof(word) / sizeof(word[0]); i++)
		if (df_str_starts((struct df_str){p, (size_t)(end - p)}, word[i]))
			return p + strlen(word[i]);
	p += p < end && *p == '-';
	if (!digit(p, end) || (*p == '0' && digit(p + 1, end)))
		return NULL;
	while (digit(p, end))
		p++;
	if (p < end && *p == '.') {
		if (!digit(++p, end))
			return NULL;
		while (digit(p, end))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		p += p < end && (*p == '+' || *p == '-');
		if (!digit(p, end))
			return NULL;
		while (digit(p, end))
			p++;
	}
	return p;
}

/* Up to 19 digits and an exponent within +-22 are exact in one division or multiplication (Clinger); all else goes to strtod. */
static double number_value(const char *p, const char *end)
{
	static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
				     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
	char z[64];
	const char *at = p;
	uint64_t m = 0;
	int n = 0, scale = 0;
	bool negative = *at == '-';
	at += negative;
	for (bool dot = false; at < end && (*at == '.' || digit(at, end)); at++) {
		if (*at == '.') {
			dot = true;
			continue;
		}
		m = m * 10 + (uint64_t)(*at - '0');
		n += m > 0;
		scale -= dot;
		if (n > 18)
			break;
	}
	if (at < end && (*at == 'e' || *at == 'E') && end - at <= 5) {
		bool minus = at[1] == '-';
		int e = 0;
		for (at += 1 + (at[1] == '-' || at[1] == '+'); at < end; at++)
			e = e * 10 + (*at - '0');
		scale += minus ? -e : e;
	}
	if (at == end && m <= (UINT64_C(1) << 53) && scale >= -22 && scale <= 22 && digit(end - 1, end)) {
		double v = scale < 0 ? (double)m / ten[-scale] : (double)m * ten[scale];
		return negative ? -v : v;
	}
	if (!digit(end - 1, end) ||
	    (size_t)(end - p) >= sizeof(z)) /* NaN and its like; or a number of 64 digits, which nobody means */
		return (double)NAN;
	memcpy(z, p, (size_t)(end - p));
	z[end - p] = '\0';
	return strtod(z, NULL);
}

/* p is behind a '['. The list's end (behind its ']') when it holds numbers alone, and how many; else NULL. */
static const char *list_end(const char *p, const char *end, size_t *ret_n)
{
	for (size_t n = 1;; n++) {
		while (p < end && blank(*p))
			p++;
		p = p < end ? number_end(p, end) : NULL;
		if (!p)
			return NULL;
		while (p < end && blank(*p))
			p++;
		if (p >= end || (*p != ',' && *p != ']'))
			return NULL;
		if (*p++ == ']') {
			*ret_n = n;
			return p;
		}
	}
}

static void read_list(const char *p, size_t n, const char *end, struct df_lifted *to)
{
	to->n = n;
	to->finite = true;
	for (size_t i = 0; i < n; i++) {
		while (blank(*p))
			p++;
		const char *behind = number_end(p, end);
		to->p[i] = (float)number_value(p, behind);
		to->finite = to->finite && isfinite(to->p[i]);
		for (p = behind; blank(*p); p++)
			;
		p++;
	}
}

/* ------------------------------------------------------------------ lifting */

static const char *string_end(const char *p, const char *end)
{
	for (; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

static enum df_err grow(struct df_vectors *v)
{
	size_t n = v->n_lifted;
	if (n & (n - 1) || (n && n < 16)) /* 0, 16, 32, 64, ... are full */
		return DF_OK;
	struct df_lifted *more = df_arena_array(v->arena, n ? 2 * n : 16, sizeof(*more));
	if (!more)
		return DF_ERR_NOMEM;
	if (n)
		memcpy(more, v->lifted, n * sizeof(*more));
	v->lifted = more;
	return DF_OK;
}

static enum df_err lift_one(struct df_vectors *v, struct df_buf *out, const char *p, const char *end, size_t n)
{
	DF_TRY(grow(v));
	struct df_lifted *to = &v->lifted[v->n_lifted];
	to->p = df_arena_array(v->arena, n, sizeof(float));
	if (!to->p)
		return DF_ERR_NOMEM;
	read_list(p, n, end, to);
	return df_buf_addf(out, "[%zu]", v->n_lifted++);
}

static enum df_err lift(struct df_vectors *v, struct df_str text, struct df_buf *out)
{
	const char *p = text.p, *end = text.p + text.n, *from = p;
	while (p < end) {
		size_t n = 0;
		if (*p == '"') {
			p = string_end(p + 1, end);
			continue;
		}
		const char *behind = *p == '[' ? list_end(p + 1, end, &n) : NULL;
		if (!behind) {
			p++;
			continue;
		}
		DF_TRY(df_buf_add(out, from, (size_t)(p - from)));
		DF_TRY(lift_one(v, out, p + 1, behind, n));
		from = p = behind;
	}
	return df_buf_add(out, from, (size_t)(end - from));
}

static enum df_err parse(struct df_vectors *v, struct df_str body, struct df_json **ret_root, struct df_fail *fail)
{
	struct df_buf out;
	struct df_str text = {NULL, 0};
	df_buf_init(&out, 9 * body.n + 64);
	enum df_err err = body.n ? lift(v, body, &out) : DF_OK;
	if (err == DF_OK) {
		text = df_arena_copy(v->arena, df_buf_str(&out));
		err = text.p ? DF_OK : DF_ERR_NOMEM;
	}
	df_buf_release(&out);
	DF_TRY(err);
	return df_json_parse(text, v->arena, ret_root, fail);
}

bool df_vectors_open(struct df_vectors *v, const struct df_ask *ask, const struct df_http_response *response,
		     struct df_arena *arena, struct df_answer *answer)
{
	struct df_json *root = NULL;
	struct df_fail why = {.msg = ""};
	*v = (struct df_vectors){.ask = ask, .arena = arena, .answer = answer};
	if (!df_wire_status(response, arena, answer) || !df_wire_json_type(response, answer))
		return false;
	enum df_err err = parse(v, response->body, &root, &why);
	if (err != DF_OK) {
		df_wire_not_json(response, arena, &why, err, answer);
		return false;
	}
	const struct df_json *error = df_json_get(root, "error");
	if (error && error->type != DF_JSON_NULL) {
		df_wire_error(answer, 0, root, (struct df_str){"", 0});
		return false;
	}
	v->root = root;
	v->placed = df_arena_zalloc(arena, ask->n_input ? ask->n_input : 1);
	if (!v->placed)
		df_wire_fail(answer, DF_CALL_RETRY, "no memory for %zu vectors", ask->n_input);
	return v->placed != NULL;
}

/* ------------------------------------------------------------------ rows */

static bool bad(struct df_vectors *v, size_t index, const char *what)
{
	df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "the vector of input %zu of %zu %s", index, v->ask->n_input, what);
	return false;
}

static int sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* RFC 4648, with or without padding; false: not base64 of whole float32s. */
static bool unbase64(struct df_vectors *v, struct df_str s, struct df_lifted *ret)
{
	uint32_t bits = 0;
	size_t n = 0;
	while (s.n && s.p[s.n - 1] == '=')
		s.n--;
	size_t bytes = s.n / 4 * 3 + (s.n % 4 ? s.n % 4 - 1 : 0);
	if (s.n % 4 == 1 || bytes == 0 || bytes % sizeof(float))
		return false;
	unsigned char *p = df_arena_alloc(v->arena, bytes);
	if (!p) {
		df_wire_fail(v->answer, DF_CALL_RETRY, "no memory for a vector of %zu bytes", bytes);
		return false;
	}
	for (size_t i = 0; i < s.n; i++) {
		int six = sextet(s.p[i]);
		if (six < 0)
			return false;
		bits = bits << 6 | (uint32_t)six;
		if (i % 4)
			p[n++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
	}
	ret->p = (float *)(void *)
		p; /* little-endian, as every machine that docflume runs on; an arena's memory is aligned */
	ret->n = n / sizeof(float);
	ret->finite = true;
	for (size_t i = 0; i < ret->n; i++)
		ret->finite = ret->finite && isfinite(ret->p[i]);
	return true;
}

/* The numbers of a JSON value. */
static bool numbers(struct df_vectors *v, size_t index, const struct df_json *value, struct df_lifted *ret)
{
	char what[96];
	const struct df_json *one = value && value->type == DF_JSON_ARRAY && value->n == 1 ? value->child : NULL;
	if (one && one->type == DF_JSON_NUMBER) {
		if (one->u64 >= v->n_lifted)
			return bad(v, index, "is not a list of numbers");
		*ret = v->lifted[one->u64];
		return true;
	}
	if (value && value->type == DF_JSON_STRING)
		return unbase64(v, value->string, ret) ||
		       (v->answer->class == DF_CALL_OK &&
			bad(v, index, "is a string, but not base64 of float32 numbers"));
	if (value && value->type == DF_JSON_ARRAY && value->child && value->child->type == DF_JSON_ARRAY) {
		(void)snprintf(what, sizeof(what),
			       "is a list of %zu lists (one vector for each token? switch pooling on)", value->n);
		return bad(v, index, what);
	}
	return bad(v, index, value ? "is not a list of numbers" : "is missing");
}

static bool first_row(struct df_vectors *v, size_t dim)
{
	struct df_answer *a = v->answer;
	a->vector = dim <= UINT32_MAX && dim <= SIZE_MAX / sizeof(float) / v->ask->n_input
			    ? df_arena_alloc(v->arena, v->ask->n_input * dim * sizeof(float))
			    : NULL;
	if (!a->vector) {
		df_wire_fail(a, DF_CALL_RETRY, "no memory for %zu vectors of %zu numbers", v->ask->n_input, dim);
		return false;
	}
	a->dim = (uint32_t)dim;
	return true;
}

bool df_vectors_place(struct df_vectors *v, size_t index, const struct df_json *value)
{
	char what[128];
	struct df_lifted row = {NULL, 0, false};
	if (index >= v->ask->n_input) {
		df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "a vector with index %zu, but only %zu inputs were sent",
			     index, v->ask->n_input);
		return false;
	}
	if (v->placed[index])
		return bad(v, index, "came twice");
	if (!numbers(v, index, value, &row))
		return false;
	if (!row.finite)
		return bad(v, index, "has NaN, infinity or null in it");
	if (v->ask->dimensions > 0 && row.n != (size_t)v->ask->dimensions) {
		(void)snprintf(what, sizeof(what), "has %zu dimensions, not the %lld that were asked for", row.n,
			       (long long)v->ask->dimensions);
		return bad(v, index, what);
	}
	if (v->n_placed == 0 && !first_row(v, row.n))
		return false;
	if (row.n != v->answer->dim) {
		(void)snprintf(what, sizeof(what), "has %zu dimensions, others of the same answer %u", row.n,
			       v->answer->dim);
		return bad(v, index, what);
	}
	memcpy(v->answer->vector + index * row.n, row.p, row.n * sizeof(float));
	v->placed[index] = true;
	v->n_placed++;
	return true;
}

void df_vectors_list(struct df_vectors *v, const struct df_json *list, const char *name, const char *key)
{
	size_t i = 0;
	if (!list || list->type != DF_JSON_ARRAY) {
		df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "the answer has no list '%s'", name);
		return;
	}
	if (list->n == 1 &&
	    list->child->type == DF_JSON_NUMBER) { /* lifted: a vector where a list of vectors belongs */
		df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "'%s' is one list of numbers, not a list of vectors", name);
		return;
	}
	if (list->n != v->ask->n_input) {
		df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "%zu vectors for %zu inputs", list->n, v->ask->n_input);
		return;
	}
	for (const struct df_json *item = list->child; item; item = item->next)
		if (!df_vectors_place(v, i++, key ? df_json_get(item, key) : item))
			return;
	df_vectors_close(v);
}

void df_vectors_close(struct df_vectors *v)
{
	if (v->n_placed == v->ask->n_input && v->n_placed) {
		v->answer->n_vector = v->n_placed;
		return;
	}
	df_wire_fail(v->answer, DF_CALL_BAD_ANSWER, "%zu vectors for %zu inputs", v->n_placed, v->ask->n_input);
}
