// SPDX-License-Identifier: Apache-2.0
/* fake_text: words, and JSON that fits a schema. */
#include <inttypes.h>

#include "worker/provider/fake.h"

#define DEPTH_MAX 16
#define DEPTH_SHORT                                                                                                    \
	6 /* from here on only what must be there, so that schemas which refer to themselves come to an end */
#define ITEMS_MAX 64
#define LENGTH_WANTED_MAX (1U << 20) /* of a string that must be long */

static const char *const word[] = {"amber",  "basin", "cedar",  "delta",  "ember",  "fjord", "grove",  "harbor",
				   "island", "jade",  "kelp",   "lagoon", "meadow", "north", "ocean",  "pine",
				   "quartz", "river", "summit", "tundra", "umber",  "vale",  "willow", "zephyr"};

void df_fake_words(struct df_buf *b, uint64_t *random, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		(void)df_buf_addz(b, i ? " " : "");
		(void)df_buf_addz(b, word[df_fake_next(random) % (sizeof(word) / sizeof(word[0]))]);
	}
}

/* "#", "#/$defs/a": no other reference is followed. */
static const struct df_json *target(const struct df_json *root, struct df_str ref)
{
	const struct df_json *at = root;
	if (!df_str_starts(ref, "#"))
		return NULL;
	for (const char *p = ref.p + 1, *end = ref.p + ref.n; at && p < end;) {
		const char *from = p + 1, *slash = memchr(from, '/', (size_t)(end - from));
		struct df_str key = {from, (size_t)((slash ? slash : end) - from)};
		const struct df_json *found = NULL;
		for (const struct df_json *m = at->child; m; m = m->next)
			if (at->type == DF_JSON_OBJECT && df_str_eq(m->key, key))
				found = m;
		at = found;
		p = from + key.n;
	}
	return at;
}

static double number_of(const struct df_json *schema, const char *key, double otherwise)
{
	const struct df_json *v = df_json_get(schema, key);
	return v && v->type == DF_JSON_NUMBER ? v->number : otherwise;
}

static void add_number(struct df_buf *b, const struct df_json *schema, uint64_t *random, bool whole)
{
	double low = number_of(schema, "minimum", number_of(schema, "exclusiveMinimum", -1e300) + 1);
	double high = number_of(schema, "maximum", number_of(schema, "exclusiveMaximum", 1e300) - 1);
	if (low < -1e299)
		low = high > 1e299 ? 0 : high - 100;
	if (high > 1e299)
		high = low + 100;
	double v = low + (double)(df_fake_next(random) % 1000) / 1000 * (high - low);
	if (whole && v >= -9e15 && v <= 9e15)
		v = (double)(int64_t)v < low ? (double)(int64_t)v + 1 : (double)(int64_t)v;
	(void)df_json_add_double(b, v);
}

static void add_string(struct df_buf *b, const struct df_json *schema, uint64_t *random)
{
	uint64_t low = df_json_get_u64(schema, "minLength", 0), high = df_json_get_u64(schema, "maxLength", UINT64_MAX);
	struct df_buf text;
	df_buf_init(&text, 2U * LENGTH_WANTED_MAX);
	df_fake_words(&text, random, 2);
	while (text.n < low && text.n < LENGTH_WANTED_MAX && df_buf_err(&text) == DF_OK)
		(void)df_buf_addc(&text, 'x');
	struct df_str s = df_buf_str(&text);
	s.n = s.n > high ? high : s.n;
	(void)df_json_add_string(b, s);
	df_buf_release(&text);
}

static bool is_in(const struct df_json *list, struct df_str word_)
{
	for (const struct df_json *m = list ? list->child : NULL; m; m = m->next)
		if (m->type == DF_JSON_STRING && df_str_eq(m->string, word_))
			return true;
	return false;
}

static void add_object(struct df_buf *b, const struct df_json *schema, const struct df_json *root, uint64_t *random,
		       int depth)
{
	const struct df_json *properties = df_json_get(schema, "properties"), *needed = df_json_get(schema, "required");
	bool first = true;
	(void)df_buf_addc(b, '{');
	for (const struct df_json *p = properties ? properties->child : NULL; p; p = p->next) {
		if (depth >= DEPTH_SHORT && !is_in(needed, p->key))
			continue;
		(void)df_buf_addz(b, first ? "" : ",");
		first = false;
		(void)df_json_add_string(b, p->key);
		(void)df_buf_addc(b, ':');
		df_fake_instance(b, p, root, random, depth + 1);
	}
	(void)df_buf_addc(b, '}');
}

static void add_list(struct df_buf *b, const struct df_json *schema, const struct df_json *root, uint64_t *random,
		     int depth)
{
	uint64_t n = df_json_get_u64(schema, "minItems", depth < DEPTH_SHORT),
		 most = df_json_get_u64(schema, "maxItems", ITEMS_MAX);
	n = n > most ? most : n > ITEMS_MAX ? ITEMS_MAX : n;
	(void)df_buf_addc(b, '[');
	for (uint64_t i = 0; i < n; i++) {
		(void)df_buf_addz(b, i ? "," : "");
		df_fake_instance(b, df_json_get(schema, "items"), root, random, depth + 1);
	}
	(void)df_buf_addc(b, ']');
}

static const struct df_json *nth(const struct df_json *list, size_t i)
{
	const struct df_json *v = list->child;
	while (v && i--)
		v = v->next;
	return v;
}

/* Nothing below it: no reference, no members, no items. */
static bool is_leaf(const struct df_json *schema)
{
	static const char *const deeper[] = {"$ref", "properties", "items", "anyOf", "oneOf", "allOf"};
	for (size_t i = 0; i < sizeof(deeper) / sizeof(deeper[0]); i++)
		if (df_json_get(schema, deeper[i]))
			return false;
	return true;
}

/* Of alternatives the first, and deep down the first that ends there. */
static const struct df_json *chosen(const struct df_json *list, bool may_choose, int depth)
{
	for (const struct df_json *m = may_choose && depth >= DEPTH_SHORT ? list->child : NULL; m; m = m->next)
		if (is_leaf(m))
			return m;
	return list->child;
}

/* Of a type, or a list of them: the first, and deep down the last that has nothing below it. */
static struct df_str type_of(const struct df_json *type, int depth)
{
	const struct df_json *found = type;
	if (type && type->type == DF_JSON_ARRAY) {
		found = type->child;
		for (const struct df_json *m = type->child; m && depth >= DEPTH_SHORT; m = m->next)
			if (m->type == DF_JSON_STRING && !df_str_is(m->string, "object") &&
			    !df_str_is(m->string, "array"))
				found = m;
	}
	return found && found->type == DF_JSON_STRING ? found->string : DF_STR("string");
}

void df_fake_instance(struct df_buf *b, const struct df_json *schema, const struct df_json *root, uint64_t *random,
		      int depth)
{
	static const char *const choice[] = {"anyOf", "oneOf", "allOf"};
	const struct df_json *fixed = df_json_get(schema, "const"), *some = df_json_get(schema, "enum");
	const struct df_json *type = df_json_get(schema, "type"), *ref = df_json_get(schema, "$ref");
	if (depth > DEPTH_MAX) {
		(void)df_buf_addz(b, "null");
		return;
	}
	if (ref && ref->type == DF_JSON_STRING) {
		df_fake_instance(b, target(root, ref->string), root, random, depth + 1);
		return;
	}
	if (!fixed && some && some->type == DF_JSON_ARRAY && some->n)
		fixed = nth(some, df_fake_next(random) % some->n);
	if (fixed) {
		(void)df_buf_add_str(b, fixed->raw);
		return;
	}
	for (size_t i = 0; i < 3; i++) {
		const struct df_json *list = df_json_get(schema, choice[i]);
		if (!type && list && list->type == DF_JSON_ARRAY && list->n) {
			df_fake_instance(b, chosen(list, i < 2, depth), root, random, depth + 1);
			return;
		}
	}
	struct df_str t = type_of(type, depth);
	if (df_str_is(t, "object") || (!type && df_json_get(schema, "properties")))
		add_object(b, schema, root, random, depth);
	else if (df_str_is(t, "array"))
		add_list(b, schema, root, random, depth);
	else if (df_str_is(t, "number") || df_str_is(t, "integer"))
		add_number(b, schema, random, df_str_is(t, "integer"));
	else if (df_str_is(t, "boolean"))
		(void)df_buf_addz(b, df_fake_next(random) & 1 ? "true" : "false");
	else if (df_str_is(t, "null"))
		(void)df_buf_addz(b, "null");
	else
		add_string(b, schema, random);
}
