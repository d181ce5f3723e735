// SPDX-License-Identifier: Apache-2.0
/* json: a writer for any JSON, and a small strict reader for docflume's own files. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

/* ------------------------------------------------------------------ writing */

static bool must_escape(unsigned char c)
{
	return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

/* Eight bytes at a time: true when none of them needs an escape (SWAR, no branches inside). */
static bool plain8(const char *p)
{
	uint64_t v;
	memcpy(&v, p, 8);
	const uint64_t ones = UINT64_C(0x0101010101010101), high = UINT64_C(0x8080808080808080);
	uint64_t low = (v - ones * 0x20) & ~v;
	uint64_t q = v ^ (ones * '"'), s = v ^ (ones * '\\'), d = v ^ (ones * 0x7f);
	uint64_t quote = (q - ones) & ~q, slash = (s - ones) & ~s, del = (d - ones) & ~d;
	return ((low | quote | slash | del) & high) == 0;
}

static size_t plain_run(const char *p, size_t n)
{
	size_t i = 0;
	while (i + 8 <= n && plain8(p + i))
		i += 8;
	while (i < n && !must_escape((unsigned char)p[i]))
		i++;
	return i;
}

static enum df_err add_escape(struct df_buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	static const char shorts[] = "\"\"\\\\\bb\ff\nn\rr\tt";
	for (const char *s = shorts; *s; s += 2)
		if ((unsigned char)*s == c) {
			char two[2] = {'\\', s[1]};
			return df_buf_add(b, two, 2);
		}
	char six[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
	return df_buf_add(b, six, 6);
}

enum df_err df_json_add_string(struct df_buf *b, struct df_str s)
{
	(void)df_buf_reserve(b, s.n + 2);
	(void)df_buf_addc(b, '"');
	for (size_t i = 0; i < s.n;) {
		size_t run = plain_run(s.p + i, s.n - i);
		(void)df_buf_add(b, s.p + i, run);
		i += run;
		if (i < s.n)
			(void)add_escape(b, (unsigned char)s.p[i++]);
	}
	return df_buf_addc(b, '"');
}

enum df_err df_json_add_f32(struct df_buf *b, float v)
{
	char z[32];
	if (!isfinite(v))
		return df_buf_addz(b, "null");
	for (int digits = 6; digits <= 9; digits++) {
		(void)snprintf(z, sizeof(z), "%.*g", digits, (double)v);
		if (strtof(z, NULL) == v)
			break;
	}
	return df_buf_addz(b, z);
}

enum df_err df_json_add_double(struct df_buf *b, double v)
{
	char z[40];
	if (!isfinite(v))
		return df_buf_addz(b, "null");
	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(z, sizeof(z), "%.*g", digits, v);
		if (strtod(z, NULL) == v)
			break;
	}
	return df_buf_addz(b, z);
}

enum df_err df_json_add_usd(struct df_buf *b, double usd)
{
	char z[340];
	if (!isfinite(usd))
		return df_buf_addz(b, "null");
	int n = snprintf(z, sizeof(z), "%.9f", usd);
	while (z[n - 1] == '0')
		n--;
	z[z[n - 1] == '.' ? n - 1 : n] = '\0';
	return df_buf_addz(b, strcmp(z, "-0") == 0 ? "0" : z);
}

/* ------------------------------------------------------------------ reading */

struct parser {
	const char *start, *at, *end;
	struct df_arena *arena;
	struct df_fail *fail;
};

static enum df_err bad(struct parser *p, enum df_err err, const char *what)
{
	size_t line = 1, column = 1;
	for (const char *c = p->start; c < p->at; c++) {
		column = *c == '\n' ? 1 : column + 1;
		line += *c == '\n';
	}
	return df_fail(p->fail, err, "%s at line %zu, column %zu", what, line, column);
}

static void skip_blank(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
		p->at++;
}

static bool take(struct parser *p, char c)
{
	if (p->at >= p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static enum df_err hex4(struct parser *p, uint32_t *ret)
{
	uint32_t v = 0;
	if (p->end - p->at < 4)
		return bad(p, DF_ERR_PARSE, "a \\u escape is cut short");
	for (int i = 0; i < 4; i++) {
		char c = *p->at++;
		uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
			     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
			     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
						    : 99U;
		if (d == 99U)
			return bad(p, DF_ERR_PARSE, "a \\u escape has a character that is no hex digit");
		v = v << 4 | d;
	}
	*ret = v;
	return DF_OK;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
	} else if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
		*out++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 63));
		*out++ = (char)(0x80 | (c & 63));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 63));
		*out++ = (char)(0x80 | (c >> 6 & 63));
		*out++ = (char)(0x80 | (c & 63));
	}
	return out;
}

static enum df_err unicode_escape(struct parser *p, char **out)
{
	uint32_t c = 0, low = 0;
	DF_TRY(hex4(p, &c));
	if (c >= 0xdc00 && c <= 0xdfff)
		return bad(p, DF_ERR_PARSE, "a lone low surrogate");
	if (c >= 0xd800 && c <= 0xdbff) {
		if (!take(p, '\\') || !take(p, 'u'))
			return bad(p, DF_ERR_PARSE, "a lone high surrogate");
		DF_TRY(hex4(p, &low));
		if (low < 0xdc00 || low > 0xdfff)
			return bad(p, DF_ERR_PARSE, "a lone high surrogate");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	*out = put_utf8(*out, c);
	return DF_OK;
}

static enum df_err string(struct parser *p, struct df_str *ret)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *close = p->at;
	while (close < p->end && *close != '"')
		close += *close == '\\' && p->end - close > 1 ? 2 : 1;
	if (close >= p->end)
		return bad(p, DF_ERR_PARSE, "a string is not closed");
	char *out = df_arena_alloc(p->arena, (size_t)(close - p->at) + 1), *start = out;
	if (!out)
		return bad(p, DF_ERR_NOMEM, "no memory");
	while (p->at < close) {
		char c = *p->at++;
		if ((unsigned char)c < 0x20)
			return bad(p, DF_ERR_PARSE, "a control character inside a string");
		if (c != '\\') {
			*out++ = c;
			continue;
		}
		char e = *p->at++;
		const char *known = e ? strchr(from, e) : NULL;
		if (known)
			*out++ = to[known - from];
		else if (e == 'u')
			DF_TRY(unicode_escape(p, &out));
		else
			return bad(p, DF_ERR_PARSE, "an unknown escape");
	}
	p->at = close + 1;
	*out = '\0';
	*ret = (struct df_str){start, (size_t)(out - start)};
	return DF_OK;
}

static bool digits(struct parser *p)
{
	const char *from = p->at;
	while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
		p->at++;
	return p->at > from;
}

/* RFC 8259, section 6: [ "-" ] ( "0" | 1-9 digits ) [ "." digits ] [ "e" [ "+" | "-" ] digits ] */
static bool number_grammar(struct parser *p)
{
	(void)take(p, '-');
	if (!take(p, '0') && !digits(p))
		return false;
	if (take(p, '.') && !digits(p))
		return false;
	if (!take(p, 'e') && !take(p, 'E'))
		return true;
	if (!take(p, '+'))
		(void)take(p, '-');
	return digits(p);
}

static enum df_err number(struct parser *p, struct df_json *v)
{
	const char *from = p->at;
	if (!number_grammar(p)) {
		p->at = from;
		return bad(p, DF_ERR_PARSE, from < p->end ? "not a JSON value" : "a value is missing");
	}
	v->type = DF_JSON_NUMBER;
	v->string = (struct df_str){from, (size_t)(p->at - from)};
	if (df_str_to_double(v->string, &v->number) != DF_OK) { /* longer than its buffer, or beyond its range */
		struct df_str z = df_arena_copy(p->arena, v->string);
		if (!z.p)
			return bad(p, DF_ERR_NOMEM, "no memory");
		v->number = strtod(z.p, NULL);
	}
	if (df_str_to_u64(v->string, &v->u64) != DF_OK)
		v->u64 = 0;
	return DF_OK;
}

static enum df_err value(struct parser *p, int depth, struct df_json **ret);

static enum df_err members(struct parser *p, int depth, struct df_json *v, char close)
{
	struct df_json **tail = &v->child;
	skip_blank(p);
	if (take(p, close))
		return DF_OK;
	for (;;) {
		struct df_str key = {NULL, 0};
		skip_blank(p);
		if (v->type == DF_JSON_OBJECT) {
			if (!take(p, '"'))
				return bad(p, DF_ERR_PARSE, "a key must be a string");
			DF_TRY(string(p, &key));
			skip_blank(p);
			if (!take(p, ':'))
				return bad(p, DF_ERR_PARSE, "':' is missing");
		}
		DF_TRY(value(p, depth + 1, tail));
		(*tail)->key = key;
		tail = &(*tail)->next;
		v->n++;
		skip_blank(p);
		if (take(p, close))
			return DF_OK;
		if (!take(p, ','))
			return bad(p, DF_ERR_PARSE, "',' is missing");
	}
}

static bool word(struct parser *p, const char *w)
{
	if (!df_str_starts((struct df_str){p->at, (size_t)(p->end - p->at)}, w))
		return false;
	p->at += strlen(w);
	return true;
}

static enum df_err any(struct parser *p, int depth, struct df_json *v)
{
	if (take(p, '{')) {
		v->type = DF_JSON_OBJECT;
		return members(p, depth, v, '}');
	}
	if (take(p, '[')) {
		v->type = DF_JSON_ARRAY;
		return members(p, depth, v, ']');
	}
	if (take(p, '"')) {
		v->type = DF_JSON_STRING;
		return string(p, &v->string);
	}
	if (word(p, "null"))
		return DF_OK;
	if (word(p, "true") || word(p, "false")) {
		v->type = DF_JSON_BOOL;
		v->boolean = p->at[-2] == 'u';
		return DF_OK;
	}
	return number(p, v);
}

static enum df_err value(struct parser *p, int depth, struct df_json **ret)
{
	if (depth > DF_JSON_DEPTH)
		return bad(p, DF_ERR_LIMIT, "nested too deeply");
	struct df_json *v = df_arena_zalloc(p->arena, sizeof(*v));
	if (!v)
		return bad(p, DF_ERR_NOMEM, "no memory");
	*ret = v;
	skip_blank(p);
	const char *from = p->at;
	DF_TRY(any(p, depth, v));
	v->raw = (struct df_str){from, (size_t)(p->at - from)};
	return DF_OK;
}

enum df_err df_json_parse(struct df_str text, struct df_arena *arena, struct df_json **ret_root, struct df_fail *fail)
{
	if (!text.p)
		text = DF_STR(""); /* an empty body may have no address to count from */
	struct parser p = {text.p, text.p, text.p + text.n, arena, fail};
	struct df_json *root = NULL;
	size_t valid = df_str_utf8_prefix(text);
	if (valid < text.n) {
		p.at += valid;
		return bad(&p, DF_ERR_UTF8, "not valid UTF-8");
	}
	DF_TRY(value(&p, 0, &root));
	skip_blank(&p);
	if (p.at != p.end)
		return bad(&p, DF_ERR_PARSE, "text after the end of the value");
	*ret_root = root;
	return DF_OK;
}

const struct df_json *df_json_member(const struct df_json *object, struct df_str key)
{
	const struct df_json *found = NULL;
	if (object && object->type == DF_JSON_OBJECT)
		for (const struct df_json *m = object->child; m; m = m->next)
			if (df_str_eq(m->key, key))
				found = m;
	return found;
}

const struct df_json *df_json_get(const struct df_json *object, const char *key)
{
	return df_json_member(object, df_str_from(key));
}

const struct df_json *df_json_item(const struct df_json *array, struct df_str no)
{
	uint64_t i = 0;
	return df_str_to_u64(no, &i) == DF_OK ? df_json_nth(array, i) : NULL;
}

const struct df_json *df_json_nth(const struct df_json *array, uint64_t i)
{
	if (!array || array->type != DF_JSON_ARRAY || i >= array->n)
		return NULL;
	const struct df_json *found = array->child;
	for (; i; i--)
		found = found->next;
	return found;
}

double df_json_get_double(const struct df_json *object, const char *key)
{
	const struct df_json *m = df_json_get(object, key);
	return m && m->type == DF_JSON_NUMBER ? m->number : 0;
}

uint64_t df_json_get_u64(const struct df_json *object, const char *key, uint64_t otherwise)
{
	const struct df_json *m = df_json_get(object, key);
	return m && m->type == DF_JSON_NUMBER ? m->u64 : otherwise;
}

struct df_str df_json_get_str(const struct df_json *object, const char *key)
{
	const struct df_json *m = df_json_get(object, key);
	return m && m->type == DF_JSON_STRING ? m->string : (struct df_str){"", 0};
}
