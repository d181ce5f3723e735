// SPDX-License-Identifier: Apache-2.0
/*
 * fake_json: JSON that fits a schema, for the fake provider.
 *
 * DESIGN. A value is built against a view: the schema, what its $ref leads to, every member of its allOf and one of its alternatives, side by side, so that a word
 * is looked for in all of them and bounds are the tightest. From DEPTH_SHORT on only what must be there is built; beyond BYTES_SHORT or DEPTH_MAX nothing is,
 * so that schemas which nothing finite fits come to an end too.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/provider/fake.h"

#define DEPTH_MAX 63 /* answers of more than 64 levels are refused */
#define DEPTH_SHORT 6
#define BYTES_SHORT (1U << 20)
#define PARTS_MAX 24
#define NAMES_MAX 256
#define ITEMS_MAX 10000
#define TRIES_MAX 64 /* for an item that is unlike the others */
#define LENGTH_WANTED_MAX (1U << 20)

struct view {
	const struct df_json *part[PARTS_MAX];
	size_t n;
};

struct maker {
	struct df_buf *b;
	const struct df_json *root;
	uint64_t *random;
};

static void add_value(struct maker *m, const struct view *v, int depth);

/* ------------------------------------------------------------------ views */

static const struct df_json *named_below(const struct df_json *at, const char *key, struct df_str name, int depth)
{
	const struct df_json *found = NULL;
	if (!at || depth > 32)
		return NULL;
	if (at->type == DF_JSON_OBJECT && df_str_eq(df_json_get_str(at, key), name))
		return at;
	for (const struct df_json *c = at->child; c && !found; c = c->next)
		found = named_below(c, key, name, depth + 1);
	return found;
}

/* "#", "#/$defs/a" (with ~0 and ~1), "#anchor"; none leads elsewhere. */
static const struct df_json *target(const struct df_json *root, struct df_str ref)
{
	const struct df_json *at = root;
	if (!df_str_starts(ref, "#"))
		return NULL;
	if (ref.n > 1 && ref.p[1] != '/') {
		struct df_str name = {ref.p + 1, ref.n - 1};
		at = named_below(root, "$anchor", name, 0);
		return at ? at : named_below(root, "$dynamicAnchor", name, 0);
	}
	for (const char *p = ref.p + 1, *end = ref.p + ref.n; at && p < end;) {
		char key[256];
		size_t n = 0;
		for (p++; p < end && *p != '/' && n < sizeof(key); p++) {
			bool escaped = *p == '~' && p + 1 < end;
			p += escaped;
			key[n++] = (char)(!escaped ? *p : *p == '1' ? '/' : '~');
		}
		const struct df_json *found = at->child;
		while (found && !(at->type == DF_JSON_OBJECT && df_str_eq(found->key, (struct df_str){key, n})))
			found = found->next;
		at = found;
	}
	return at;
}

static bool is_leaf(const struct maker *m, const struct df_json *schema, int hops)
{
	static const char *const deeper[] = {"properties", "items", "prefixItems", "contains",
					     "anyOf",      "oneOf", "allOf",       "required"};
	struct df_str ref = df_json_get_str(schema, "$ref");
	if (ref.n)
		return hops < 8 && is_leaf(m, target(m->root, ref), hops + 1);
	for (size_t i = 0; i < sizeof(deeper) / sizeof(deeper[0]); i++)
		if (df_json_get(schema, deeper[i]))
			return false;
	return schema != NULL;
}

/* Of alternatives the first, and deep down the first that ends there. */
static const struct df_json *chosen(const struct maker *m, const struct df_json *list, int depth)
{
	for (const struct df_json *one = depth >= DEPTH_SHORT ? list->child : NULL; one; one = one->next)
		if (is_leaf(m, one, 0))
			return one;
	return list->child;
}

static void look_at(const struct maker *m, struct view *v, const struct df_json *schema, int depth)
{
	if (!schema || schema->type != DF_JSON_OBJECT || v->n == PARTS_MAX)
		return;
	for (size_t i = 0; i < v->n; i++)
		if (v->part[i] == schema)
			return;
	v->part[v->n++] = schema;
	struct df_str ref = df_json_get_str(schema, "$ref"), dynamic = df_json_get_str(schema, "$dynamicRef");
	if (ref.n || dynamic.n)
		look_at(m, v, target(m->root, ref.n ? ref : dynamic), depth);
	const struct df_json *all = df_json_get(schema, "allOf");
	for (const struct df_json *one = all ? all->child : NULL; one; one = one->next)
		look_at(m, v, one, depth);
	static const char *const choice[] = {"anyOf", "oneOf"};
	for (size_t i = 0; i < 2; i++) {
		const struct df_json *list = df_json_get(schema, choice[i]);
		if (list && list->type == DF_JSON_ARRAY && list->n)
			look_at(m, v, chosen(m, list, depth), depth);
	}
}

static const struct df_json *get(const struct view *v, const char *key)
{
	const struct df_json *found = NULL;
	for (size_t i = 0; i < v->n && !found; i++)
		found = df_json_get(v->part[i], key);
	return found;
}

/* The tightest of a bound; -INFINITY or INFINITY: there is none. */
static double bound(const struct view *v, const char *key, bool low)
{
	double found = low ? -INFINITY : INFINITY;
	for (size_t i = 0; i < v->n; i++) {
		const struct df_json *one = df_json_get(v->part[i], key);
		if (one && one->type == DF_JSON_NUMBER)
			found = low ? fmax(found, one->number) : fmin(found, one->number);
	}
	return found;
}

static uint64_t count_of(const struct view *v, const char *key, bool low, uint64_t otherwise)
{
	double n = bound(v, key, low);
	return isfinite(n) && n >= 0 ? (uint64_t)fmin(n, 1e15) : otherwise;
}

/* ------------------------------------------------------------------ numbers and strings */

static void add_number(struct maker *m, const struct view *v, bool whole)
{
	const struct df_json *least = get(v, "minimum");
	double low = bound(v, "minimum", true), high = bound(v, "maximum", false), step = bound(v, "multipleOf", false);
	double above = bound(v, "exclusiveMinimum", true), below = bound(v, "exclusiveMaximum", false);
	char z[64];
	if (whole && least && fabs(low) > 9e15 && above <= low) { /* beyond what a double tells apart */
		(void)df_buf_add_str(m->b, least->raw);
		return;
	}
	step = isfinite(step) && step > 0 ? step : whole ? 1 : 0;
	double grain = step > 0 ? step : 0.001;
	low = above >= low ? floor(above / grain + 1 + 1e-9) * grain : low;
	high = below <= high ? ceil(below / grain - 1 - 1e-9) * grain : high;
	low = isfinite(low) ? low : isfinite(high) ? high - 100 * grain : 0;
	high = isfinite(high) ? high : low + 100 * fmax(grain, 1);
	double value = low + (double)(df_fake_next(m->random) % 1000) / 1000 * (high - low);
	if (step > 0) {
		double from = ceil(low / step - 1e-9), n = floor(high / step + 1e-9) - from + 1;
		value = (from + (n > 1 ? (double)(df_fake_next(m->random) % (uint64_t)fmin(n, 1e15)) : 0)) * step;
	}
	(void)snprintf(z, sizeof(z), step > 0 ? "%.12g" : "%.15g", value);
	(void)df_buf_addz(m->b, whole && fabs(value) < 1e15 ? (snprintf(z, sizeof(z), "%.0f", value), z) : z);
}

static void add_format(struct maker *m, struct df_str format, struct df_buf *text)
{
	static const struct {
		const char *name, *pattern;
	} form[] = {{"date", "20[0-9]{2}-0[1-9]-1[0-9]"},
		    {"date-time", "20[0-9]{2}-0[1-9]-1[0-9]T1[0-9]:[0-5][0-9]:[0-5][0-9]Z"},
		    {"time", "1[0-9]:[0-5][0-9]:[0-5][0-9]Z"},
		    {"email", "[a-z]{6}@example\\.com"},
		    {"uri", "https://example\\.com/[a-z]{6}"},
		    {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"},
		    {"ipv4", "10\\.[1-9][0-9]\\.[1-9][0-9]\\.[1-9]"},
		    {"hostname", "[a-z]{6}\\.example\\.com"}};
	for (size_t i = 0; i < sizeof(form) / sizeof(form[0]); i++)
		if (df_str_is(format, form[i].name))
			df_fake_match(text, df_str_from(form[i].pattern), m->random);
}

static void add_string(struct maker *m, const struct view *v)
{
	uint64_t low = count_of(v, "minLength", true, 0), high = count_of(v, "maxLength", false, UINT64_MAX);
	const struct df_json *pattern = get(v, "pattern"), *format = get(v, "format");
	struct df_buf text;
	df_buf_init(&text, 2U * LENGTH_WANTED_MAX);
	if (pattern && pattern->type == DF_JSON_STRING) {
		df_fake_match(&text, pattern->string, m->random);
	} else {
		if (format && format->type == DF_JSON_STRING)
			add_format(m, format->string, &text);
		if (!text.n)
			df_fake_words(&text, m->random, 2);
		while (text.n < low && text.n < LENGTH_WANTED_MAX && df_buf_err(&text) == DF_OK)
			(void)df_buf_addc(&text, 'x');
		text.n = text.n > high ? high : text.n;
	}
	(void)df_json_add_string(m->b, df_buf_str(&text));
	df_buf_release(&text);
}

/* ------------------------------------------------------------------ objects */

struct names {
	struct df_str name[NAMES_MAX];
	size_t n;
};

static bool has_name(const struct names *names, struct df_str name)
{
	for (size_t i = 0; i < names->n; i++)
		if (df_str_eq(names->name[i], name))
			return true;
	return false;
}

static void want(struct names *names, struct df_str name)
{
	if (names->n < NAMES_MAX && !has_name(names, name))
		names->name[names->n++] = name;
}

/* Properties (deep down: those that must be there), what is required beside them, and what those ask for. */
static void gather(const struct view *v, int depth, struct names *names)
{
	for (size_t i = 0; i < v->n; i++) {
		const struct df_json *properties = df_json_get(v->part[i], "properties"),
				     *needed = df_json_get(v->part[i], "required");
		for (const struct df_json *p = properties && depth < DEPTH_SHORT ? properties->child : NULL; p;
		     p = p->next)
			if (p->type != DF_JSON_BOOL || p->boolean)
				want(names, p->key);
		for (const struct df_json *r = needed ? needed->child : NULL; r; r = r->next)
			if (r->type == DF_JSON_STRING)
				want(names, r->string);
	}
	for (size_t i = 0; i < v->n; i++) {
		const struct df_json *more = df_json_get(v->part[i], "dependentRequired");
		for (const struct df_json *d = more ? more->child : NULL; d; d = d->next)
			for (const struct df_json *r = has_name(names, d->key) ? d->child : NULL; r; r = r->next)
				if (r->type == DF_JSON_STRING)
					want(names, r->string);
	}
}

/* Of a property: what each part says of it, else of others. `pattern` may have named it. */
static struct view below(const struct maker *m, const struct view *v, struct df_str name, const struct df_json *pattern,
			 int depth)
{
	struct view found = {.n = 0};
	for (size_t i = 0; i < v->n; i++) {
		const struct df_json *p = df_json_get(v->part[i], "properties");
		for (p = p ? p->child : NULL; p && !df_str_eq(p->key, name);)
			p = p->next;
		look_at(m, &found,
			p         ? p
			: pattern ? pattern
				  : df_json_get(v->part[i], "additionalProperties"),
			depth + 1);
	}
	return found;
}

static void add_member(struct maker *m, const struct view *v, struct df_str name, const struct df_json *pattern,
		       int depth)
{
	struct view value = below(m, v, name, pattern, depth);
	(void)df_buf_addz(m->b, m->b->p[m->b->n - 1] == '{' ? "" : ",");
	(void)df_json_add_string(m->b, name);
	(void)df_buf_addc(m->b, ':');
	add_value(m, &value, depth + 1);
}

/* Names that nobody has given, until there are enough. */
static void add_more(struct maker *m, const struct view *v, size_t n, int depth)
{
	uint64_t wanted = count_of(v, "minProperties", true, 0);
	const struct df_json *patterns = get(v, "patternProperties"), *kind = patterns ? patterns->child : NULL;
	const struct df_json *named = df_json_get(get(v, "propertyNames"), "pattern");
	struct df_str form = kind                                     ? kind->key
			     : named && named->type == DF_JSON_STRING ? named->string
								      : (struct df_str){NULL, 0};
	for (size_t i = 0; n < wanted && i < NAMES_MAX; i++, n++) {
		struct df_buf name;
		df_buf_init(&name, 8192);
		if (form.n)
			df_fake_match(&name, form, m->random);
		for (size_t k = i + 1; !form.n || (kind && k > 1); k /= 26) { /* what a pattern begins may go on */
			(void)df_buf_addc(&name, (char)('a' + k % 26));
			if (k < 26)
				break;
		}
		add_member(m, v, df_buf_str(&name), kind, depth);
		df_buf_release(&name);
	}
}

static void add_object(struct maker *m, const struct view *v, int depth)
{
	struct names *names = calloc(1, sizeof(*names));
	(void)df_buf_addc(m->b, '{');
	if (names)
		gather(v, depth, names);
	size_t n = names ? names->n : 0;
	for (size_t i = 0; i < n; i++)
		add_member(m, v, names->name[i], NULL, depth);
	add_more(m, v, n, depth);
	(void)df_buf_addc(m->b, '}');
	free(names);
}

/* ------------------------------------------------------------------ lists */

/* Is what begins at `from` unlike every item between `first` and there? Items are compared as they are written. */
static bool is_new(const struct df_buf *b, size_t first, const size_t *start, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++) {
		size_t len = start[i + 1] - 1 - start[i], last = b->n - start[n - 1];
		if (start[i] >= first && len == last && memcmp(b->p + start[i], b->p + start[n - 1], len) == 0)
			return false;
	}
	return true;
}

static void add_items(struct maker *m, const struct view *v, uint64_t n, size_t *start, int depth)
{
	const struct df_json *prefix = get(v, "prefixItems"), *contained = get(v, "contains");
	uint64_t contains = contained ? count_of(v, "minContains", true, 1) : 0, n_prefix = prefix ? prefix->n : 0;
	const struct df_json *unique = get(v, "uniqueItems");
	size_t first = m->b->n;
	for (uint64_t i = 0; i < n && df_buf_err(m->b) == DF_OK; i++) {
		(void)df_buf_addz(m->b, i ? "," : "");
		struct view item = {.n = 0};
		look_at(m, &item, i < n_prefix ? df_json_nth(prefix, i) : get(v, "items"), depth + 1);
		if (i >= n_prefix && i < n_prefix + contains)
			look_at(m, &item, contained, depth + 1);
		start[i] = m->b->n;
		for (int tries = 0; tries < TRIES_MAX; tries++) {
			m->b->n = start[i];
			add_value(m, &item, depth + 1);
			if (!unique || !unique->boolean || is_new(m->b, first, start, i + 1))
				break;
		}
	}
}

static void add_list(struct maker *m, const struct view *v, int depth)
{
	const struct df_json *prefix = get(v, "prefixItems");
	uint64_t n = depth < DEPTH_SHORT, most = count_of(v, "maxItems", false, ITEMS_MAX),
		 least = count_of(v, "minItems", true, 0);
	if (prefix && (depth < DEPTH_SHORT))
		n = prefix->n;
	if (get(v, "contains"))
		n = (prefix ? prefix->n : 0) + count_of(v, "minContains", true, 1);
	n = n < least ? least : n;
	n = n > most ? most : n;
	n = n > ITEMS_MAX ? ITEMS_MAX : n;
	size_t *start = malloc((n + 1) * sizeof(*start));
	(void)df_buf_addc(m->b, '[');
	if (start)
		add_items(m, v, n, start, depth);
	(void)df_buf_addc(m->b, ']');
	free(start);
}

/* ------------------------------------------------------------------ values */

/* Of a type, or a list of them: the first, and deep down the last that has nothing below it. */
static struct df_str one_type(const struct df_json *type, int depth)
{
	const struct df_json *found = type;
	if (type && type->type == DF_JSON_ARRAY) {
		found = type->child;
		for (const struct df_json *t = type->child; t && depth >= DEPTH_SHORT; t = t->next)
			if (t->type == DF_JSON_STRING && !df_str_is(t->string, "object") &&
			    !df_str_is(t->string, "array"))
				found = t;
	}
	return found && found->type == DF_JSON_STRING ? found->string : (struct df_str){NULL, 0};
}

static bool has_any(const struct view *v, const char *const *key)
{
	for (; *key; key++)
		if (get(v, *key))
			return true;
	return false;
}

static struct df_str type_of(const struct view *v, int depth)
{
	static const char *const object[] = {
		"properties",           "required", "minProperties", "patternProperties", "propertyNames",
		"additionalProperties", NULL};
	static const char *const list[] = {"items", "prefixItems", "contains", "minItems", "uniqueItems", NULL};
	static const char *const number[] = {"minimum",          "maximum",    "exclusiveMinimum",
					     "exclusiveMaximum", "multipleOf", NULL};
	struct df_str found = {NULL, 0};
	for (size_t i = 0; i < v->n; i++) {
		struct df_str one = one_type(df_json_get(v->part[i], "type"), depth);
		bool narrower = df_str_is(found, "number") && df_str_is(one, "integer");
		found = !found.n || narrower ? one : found;
	}
	if (found.n)
		return found;
	return has_any(v, object)   ? DF_STR("object")
	       : has_any(v, list)   ? DF_STR("array")
	       : has_any(v, number) ? DF_STR("number")
				    : DF_STR("string");
}

static void add_value(struct maker *m, const struct view *v, int depth)
{
	const struct df_json *fixed = get(v, "const"), *some = get(v, "enum");
	if (depth > DEPTH_MAX || m->b->n > BYTES_SHORT) {
		(void)df_buf_addz(m->b, "null");
		return;
	}
	if (!fixed && some && some->type == DF_JSON_ARRAY && some->n)
		fixed = df_json_nth(some, df_fake_next(m->random) % some->n);
	struct df_str t = type_of(v, depth);
	if (fixed)
		(void)df_buf_add_str(m->b, fixed->raw);
	else if (df_str_is(t, "object"))
		add_object(m, v, depth);
	else if (df_str_is(t, "array"))
		add_list(m, v, depth);
	else if (df_str_is(t, "number") || df_str_is(t, "integer"))
		add_number(m, v, df_str_is(t, "integer"));
	else if (df_str_is(t, "boolean"))
		(void)df_buf_addz(m->b, df_fake_next(m->random) & 1 ? "true" : "false");
	else if (df_str_is(t, "null"))
		(void)df_buf_addz(m->b, "null");
	else
		add_string(m, v);
}

void df_fake_instance(struct df_buf *b, const struct df_json *schema, const struct df_json *root, uint64_t *random,
		      int depth)
{
	struct maker m = {.b = b, .root = root, .random = random};
	struct view v = {.n = 0};
	look_at(&m, &v, schema, depth);
	add_value(&m, &v, depth);
}
