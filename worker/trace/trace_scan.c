// SPDX-License-Identifier: Apache-2.0
/*
 * trace_scan: a line becomes a span again.
 *
 * DESIGN. A trace is read whole to be told of, a million lines and more; so our own lines (one flat object, no blanks, no escapes) are read in one pass that
 * copies nothing, 20 times as fast as by a JSON parser. Whatever is not so goes to that parser, which is also the judge of what is no line at all.
 */
#include "base/json.h"
#include "worker/trace/trace_line.h"

/* ------------------------------------------------------------------ values */

static uint64_t hex(struct df_str s)
{
	uint64_t v = 0;
	for (size_t i = 0; i < s.n && s.n <= 16; i++) {
		char c = s.p[i];
		unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
				 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
							: 16;
		if (digit == 16)
			return 0;
		v = v << 4 | digit;
	}
	return v;
}

static enum df_span_kind kind_of(struct df_str word)
{
	int k = 0;
	while (k < DF_N_SPAN_KIND && !df_str_is(word, df_span_kind_name((enum df_span_kind)k)))
		k++;
	return (enum df_span_kind)k;
}

static enum df_call_class class_of(struct df_str word)
{
	for (int c = 0; c < DF_N_CALL_CLASS; c++)
		if (df_str_is(word, df_call_class_name((enum df_call_class)c)))
			return (enum df_call_class)c;
	return DF_CALL_BAD_ANSWER;
}

/* ------------------------------------------------------------------ keys */

enum type { TEXT, ID, KIND, CLASS, COUNT, COUNT32, MONEY, TRUTH, FALSEHOOD, LAST };

static const struct key {
	const char *name;
	uint8_t n, type;
	uint16_t at; /* in struct df_trace_line */
} keys[] = {
#define ROW(name, type, member)                                                                                        \
	{                                                                                                              \
		name, sizeof(name) - 1, type, offsetof(struct df_trace_line, member)                                   \
	}
	ROW("span", ID, span.id),
	ROW("parent", ID, span.parent),
	ROW("run", ID, run_id),
	ROW("pid", COUNT32, pid),
	ROW("kind", KIND, span.kind),
	ROW("name", TEXT, span.name),
	ROW("doc", TEXT, span.doc_id),
	ROW("stage", TEXT, span.stage),
	ROW("model", TEXT, span.model),
	ROW("provider", TEXT, span.provider),
	ROW("start_ns", COUNT, span.start_wall_ns),
	ROW("duration_ns", COUNT, span.duration_ns),
	ROW("queue_ns", COUNT, span.queue_ns),
	ROW("first_token_ns", COUNT, span.first_token_ns),
	ROW("last_start_ns", LAST, last_start_ns),
	ROW("last_duration_ns", COUNT, last_duration_ns),
	ROW("last_first_token_ns", COUNT, last_first_token_ns),
	ROW("attempts", COUNT32, span.attempt),
	ROW("attempt", COUNT32, span.attempt),
	ROW("status", COUNT32, span.status),
	ROW("inputs", COUNT32, span.inputs),
	ROW("in", COUNT, span.usage.in),
	ROW("cached_in", COUNT, span.usage.cached_in),
	ROW("out", COUNT, span.usage.out),
	ROW("estimated", FALSEHOOD, span.usage.known),
	ROW("usd", MONEY, span.usd),
	ROW("cached", TRUTH, span.cached),
	ROW("class", CLASS, span.class),
	ROW("left_out", COUNT, left_out),
#undef ROW
};
#define N_KEY (sizeof(keys) / sizeof(keys[0]))

/* Our lines have their keys in the order of the table: the next one is looked at first. */
static const struct key *key_of(struct df_str name, size_t *next)
{
	for (size_t i = 0, k = *next; i < N_KEY; i++, k = k + 1 < N_KEY ? k + 1 : 0)
		if (keys[k].n == name.n && memcmp(keys[k].name, name.p, name.n) == 0) {
			*next = k + 1 < N_KEY ? k + 1 : 0;
			return &keys[k];
		}
	return NULL;
}

static bool set_text(struct df_trace_line *l, const struct key *k, struct df_str v)
{
	char *at = (char *)l + k->at;
	switch (k->type) {
	case TEXT:
		*(struct df_str *)(void *)at = v;
		return true;
	case ID:
		*(uint64_t *)(void *)at = hex(v);
		return true;
	case KIND:
		l->span.kind = kind_of(v);
		return true;
	case CLASS:
		l->span.class = class_of(v);
		return true;
	default:
		return false;
	}
}

static bool set_count(struct df_trace_line *l, const struct key *k, uint64_t v)
{
	char *at = (char *)l + k->at;
	l->has_last = l->has_last || k->type == LAST;
	if (k->type == COUNT || k->type == LAST)
		*(uint64_t *)(void *)at = v;
	else if (k->type == COUNT32)
		*(uint32_t *)(void *)at = (uint32_t)v;
	else if (k->type == MONEY)
		l->span.usd = (double)v;
	return k->type >= COUNT && k->type != TRUTH && k->type != FALSEHOOD;
}

static bool set_truth(struct df_trace_line *l, const struct key *k, bool v)
{
	bool *at = (bool *)(void *)((char *)l + k->at);
	if (k->type == TRUTH || k->type == FALSEHOOD)
		*at = v == (k->type == TRUTH);
	return k->type == TRUTH || k->type == FALSEHOOD;
}

static struct df_trace_line empty_line(void)
{
	return (struct df_trace_line){
		.span = {.kind = DF_N_SPAN_KIND, .usage.known = true, .class = DF_CALL_BAD_ANSWER}};
}

/* ------------------------------------------------------------------ a flat line */

struct cursor {
	const char *p, *end;
};

/* After its opening quote. */
static bool scan_string(struct cursor *c, struct df_str *ret)
{
	const char *begin = c->p, *p = c->p;
	unsigned char high = 0;
	for (; p < c->end && *p != '"'; p++) {
		if (*p == '\\' || (unsigned char)*p < 32)
			return false;
		high |= (unsigned char)*p;
	}
	if (p == c->end)
		return false;
	*ret = (struct df_str){begin, (size_t)(p - begin)};
	c->p = p + 1;
	return high < 128 || df_str_utf8_prefix(*ret) == ret->n;
}

static bool ends_value(const struct cursor *c)
{
	return c->p < c->end && (*c->p == ',' || *c->p == '}');
}

/* Some digits; false: none. */
static bool scan_digits(struct cursor *c)
{
	const char *begin = c->p;
	while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
		c->p++;
	return c->p > begin;
}

/* What may follow a number's first digits. */
static bool scan_fraction(struct cursor *c)
{
	if (c->p < c->end && *c->p == '.') {
		c->p++;
		if (!scan_digits(c))
			return false;
	}
	if (c->p < c->end && (*c->p | 32) == 'e') {
		c->p++;
		c->p += c->p < c->end && (*c->p == '-' || *c->p == '+');
		return scan_digits(c);
	}
	return true;
}

static bool scan_number(struct cursor *c, struct df_trace_line *l, const struct key *k)
{
	const char *begin = c->p;
	uint64_t v = 0;
	if (!scan_digits(c) || (*begin == '0' && c->p - begin > 1))
		return false;
	if (ends_value(c) && c->p - begin < 20) {
		for (const char *p = begin; p < c->p; p++)
			v = 10 * v + (uint64_t)(*p - '0');
		return !k || set_count(l, k, v);
	}
	return k && k->type == MONEY && scan_fraction(c) &&
	       df_str_to_double((struct df_str){begin, (size_t)(c->p - begin)}, &l->span.usd) == DF_OK;
}

static bool scan_truth(struct cursor *c, struct df_trace_line *l, const struct key *k)
{
	bool v = *c->p == 't';
	size_t n = v ? 4 : 5;
	if ((size_t)(c->end - c->p) < n || memcmp(c->p, v ? "true" : "false", n) != 0)
		return false;
	c->p += n;
	return !k || set_truth(l, k, v);
}

static bool scan_value(struct cursor *c, struct df_trace_line *l, const struct key *k)
{
	struct df_str text;
	if (c->p == c->end)
		return false;
	if (*c->p == '"') {
		c->p++;
		return scan_string(c, &text) && (!k || set_text(l, k, text));
	}
	return *c->p == 't' || *c->p == 'f' ? scan_truth(c, l, k) : scan_number(c, l, k);
}

static bool scan_flat(struct df_str text, struct df_trace_line *l)
{
	struct cursor c = {text.p, text.p + text.n};
	struct df_str name;
	size_t next = 0;
	if (text.n < 2 || *c.p != '{')
		return false;
	do {
		c.p++;
		if (c.p == c.end || *c.p++ != '"' || !scan_string(&c, &name) || c.p == c.end || *c.p++ != ':' ||
		    !scan_value(&c, l, key_of(name, &next)) || !ends_value(&c))
			return false;
	} while (*c.p == ',');
	return c.p + 1 == c.end;
}

/* ------------------------------------------------------------------ any line */

static void set_value(struct df_trace_line *l, const struct key *k, const struct df_json *v)
{
	if (v->type == DF_JSON_STRING)
		(void)set_text(l, k, v->string);
	else if (v->type == DF_JSON_BOOL)
		(void)set_truth(l, k, v->boolean);
	else if (v->type == DF_JSON_NUMBER && k->type == MONEY)
		l->span.usd = v->number;
	else if (v->type == DF_JSON_NUMBER)
		(void)set_count(l, k, v->u64);
}

static enum df_err checked(struct df_trace_line *l, struct df_trace_line *ret_line)
{
	struct df_span *s = &l->span;
	bool whole = s->kind != DF_N_SPAN_KIND && s->id && s->duration_ns <= UINT64_MAX - s->start_wall_ns &&
		     l->last_start_ns <= UINT64_MAX - s->start_wall_ns &&
		     l->last_duration_ns <= UINT64_MAX - s->start_wall_ns - l->last_start_ns;
	if (!whole && !l->left_out)
		return DF_ERR_PARSE;
	l->has_last = l->has_last && s->kind == DF_SPAN_CALL;
	*ret_line = *l;
	return DF_OK;
}

enum df_err df_trace_line_quick(struct df_str text, struct df_trace_line *ret_line)
{
	struct df_trace_line l = empty_line();
	return scan_flat(text, &l) ? checked(&l, ret_line) : DF_ERR_PARSE;
}

enum df_err df_trace_line_scan(struct df_str text, struct df_arena *arena, struct df_trace_line *ret_line)
{
	struct df_trace_line l = empty_line();
	struct df_json *o = NULL;
	if (df_trace_line_quick(text, ret_line) == DF_OK)
		return DF_OK;
	df_arena_reset(arena);
	if (df_json_parse(text, arena, &o, NULL) != DF_OK || o->type != DF_JSON_OBJECT)
		return DF_ERR_PARSE;
	for (size_t i = 0; i < N_KEY; i++) {
		const struct df_json *v = df_json_get(o, keys[i].name);
		if (v)
			set_value(&l, &keys[i], v);
	}
	return checked(&l, ret_line);
}
