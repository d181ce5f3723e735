// SPDX-License-Identifier: Apache-2.0
/* json: a recursive walk (depth 128) over bytes that it may write to. */
#include "tests/api/json.h"

#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX 128

static uint32_t node_new(struct json_tree *t)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		struct json *node = realloc(t->node, t->cap * sizeof *node);
		if (node == NULL) {
			perror("api_server: memory");
			abort();
		}
		t->node = node;
	}
	t->node[t->n] = (struct json){0};
	return t->n++;
}

static void space(struct json_tree *t)
{
	while (t->at < t->end && (*t->at == ' ' || *t->at == '\n' || *t->at == '\r' || *t->at == '\t'))
		t->at++;
}

static int hex4(const char *p, uint32_t *ret)
{
	uint32_t v = 0;
	for (int i = 0; i < 4; i++) {
		char c = p[i];
		uint32_t d = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
			     : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10)
								  : 16;
		if (d > 15)
			return -1;
		v = v << 4 | d;
	}
	*ret = v;
	return 0;
}

static char *put_utf8(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 63));
		*to++ = (char)(0x80 | (c >> 6 & 63));
		*to++ = (char)(0x80 | (c & 63));
	}
	return to;
}

/* at: behind the backslash. */
static bool escape(struct json_tree *t, char **to)
{
	static const char from[] = "\"\\/bfnrt", is[] = "\"\\/\b\f\n\r\t";
	if (t->at >= t->end)
		return false;
	char c = *t->at++;
	const char *known = memchr(from, c, sizeof from - 1);
	if (known != NULL) {
		*(*to)++ = is[known - from];
		return true;
	}
	uint32_t unit, low;
	if (c != 'u' || t->end - t->at < 4 || hex4(t->at, &unit) != 0)
		return false;
	t->at += 4;
	if (unit >= 0xd800 && unit < 0xdc00 && t->end - t->at >= 6 && t->at[0] == '\\' && t->at[1] == 'u' &&
	    hex4(t->at + 2, &low) == 0 && low >= 0xdc00 && low < 0xe000) {
		t->at += 6;
		unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
	}
	*to = put_utf8(*to, unit);
	return true;
}

/* at: behind the opening quote. */
static bool string(struct json_tree *t, struct span *ret)
{
	const char *start = t->at;
	char *to = NULL;
	while (t->at < t->end && *t->at != '"') {
		if ((unsigned char)*t->at < 0x20)
			return false;
		if (*t->at == '\\') {
			if (to == NULL)
				to = (char *)start + (t->at - start);
			t->at++;
			if (!escape(t, &to))
				return false;
		} else if (to != NULL) {
			*to++ = *t->at++;
		} else {
			t->at++;
		}
	}
	if (t->at >= t->end)
		return false;
	*ret = (struct span){start, (size_t)((to ? to : t->at) - start)};
	t->at++;
	return true;
}

static uint32_t value(struct json_tree *t);

/* at: behind the bracket. */
static bool members(struct json_tree *t, uint32_t parent, char close)
{
	uint32_t last = 0;
	space(t);
	if (t->at < t->end && *t->at == close) {
		t->at++;
		return true;
	}
	for (;;) {
		struct span key = {0};
		space(t);
		if (close == '}') {
			if (t->at >= t->end || *t->at++ != '"' || !string(t, &key))
				return false;
			space(t);
			if (t->at >= t->end || *t->at++ != ':')
				return false;
		}
		uint32_t node = value(t);
		if (node == 0)
			return false;
		t->node[node].key = key;
		if (last == 0)
			t->node[parent].child = node;
		else
			t->node[last].next = node;
		last = node;
		t->node[parent].n++;
		space(t);
		if (t->at >= t->end)
			return false;
		char c = *t->at++;
		if (c == close)
			return true;
		if (c != ',')
			return false;
	}
}

static bool word(struct json_tree *t, const char *w)
{
	size_t n = strlen(w);
	if ((size_t)(t->end - t->at) < n || memcmp(t->at, w, n) != 0)
		return false;
	t->at += n;
	return true;
}

static bool content(struct json_tree *t, uint32_t node)
{
	char c = *t->at;
	if (c == '{' || c == '[') {
		t->at++;
		t->node[node].type = c == '{' ? JSON_OBJECT : JSON_ARRAY;
		return ++t->depth < DEPTH_MAX && members(t, node, c == '{' ? '}' : ']') && t->depth-- > 0;
	}
	if (c == '"') {
		t->at++;
		t->node[node].type = JSON_STRING;
		return string(t, &t->node[node].text);
	}
	if (c == 't' || c == 'f' || c == 'n') {
		t->node[node].type = c == 't' ? JSON_TRUE : c == 'f' ? JSON_FALSE : JSON_NULL;
		return word(t, c == 't' ? "true" : c == 'f' ? "false" : "null");
	}
	char *behind;
	t->node[node].type = JSON_NUMBER;
	t->node[node].number = strtod(t->at, &behind);
	if (behind == t->at || behind > t->end)
		return false;
	t->at = behind;
	return true;
}

static uint32_t value(struct json_tree *t)
{
	space(t);
	if (t->at >= t->end)
		return 0;
	const char *start = t->at;
	uint32_t node = node_new(t);
	if (!content(t, node))
		return 0;
	if (t->node[node].type != JSON_STRING)
		t->node[node].text = (struct span){start, (size_t)(t->at - start)};
	return node;
}

bool json_parse(struct json_tree *t, char *p, size_t n)
{
	t->n = 0;
	t->depth = 0;
	node_new(t);
	t->at = p;
	t->end = p + n;
	if (value(t) == 0)
		return false;
	space(t);
	return t->at == t->end;
}

void json_free(struct json_tree *t)
{
	free(t->node);
	*t = (struct json_tree){0};
}

const struct json *json_get(const struct json_tree *t, const struct json *object, const char *key)
{
	if (object->type == JSON_OBJECT) {
		for (const struct json *m = json_child(t, object); m != NULL; m = json_next(t, m)) {
			if (span_is(m->key, key))
				return m;
		}
	}
	return &t->node[0];
}
