// SPDX-License-Identifier: Apache-2.0
/* schema_compile: a schema's keywords, each checked for its own form, into nodes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/check/schema_compiler.h"
#include "worker/check/uri.h"

#define BASE "json-schema:/" /* of a schema that does not say what it is called */
#define PLACE_BYTES (64U << 10)

enum df_err(df_schema_no_memory)(struct df_schema_compiler *c)
{
	return df_fail(c->fail, DF_ERR_NOMEM, "no memory for a schema");
}

enum df_err(df_schema_bad)(struct df_schema_compiler *c, const char *fmt, ...)
{
	char words[400];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	size_t n = c->place.n < 200 ? c->place.n : 200;
	return df_fail(c->fail, DF_ERR_USAGE, "no valid JSON schema: at '%.*s': %s", n ? (int)n : 1,
		       n ? c->place.p : "/", words);
}

/* --- places --- */

static size_t enter(struct df_schema_compiler *c, struct df_str key)
{
	size_t old = c->place.n;
	(void)df_buf_addc(&c->place, '/');
	(void)df_buf_add_str(&c->place, key);
	return old;
}

static size_t enter_no(struct df_schema_compiler *c, size_t no)
{
	size_t old = c->place.n;
	(void)df_buf_addf(&c->place, "/%zu", no);
	return old;
}

static void leave(struct df_schema_compiler *c, size_t old)
{
	c->place.n = old;
}

/* --- parts of keywords --- */

static enum df_err sub(struct df_schema_compiler *c, const struct df_node *n, const struct df_json *v,
		       struct df_node **ret)
{
	return df_schema_walk(c, v, n->base, n->resource, ret);
}

static enum df_err list(struct df_schema_compiler *c, const struct df_node *n, const struct df_json *v,
			struct df_node_list *ret)
{
	size_t no = 0;
	if (v->type != DF_JSON_ARRAY || v->n == 0)
		return df_schema_bad(c, "it must be a list of schemas with at least one");
	ret->item = df_arena_array(&c->schema->arena, v->n, sizeof(struct df_node *));
	if (!ret->item)
		return df_schema_no_memory(c);
	for (const struct df_json *m = v->child; m; m = m->next) {
		size_t old = enter_no(c, no);
		DF_TRY(sub(c, n, m, &ret->item[no++]));
		leave(c, old);
	}
	ret->n = no;
	return DF_OK;
}

static enum df_err pattern(struct df_schema_compiler *c, struct df_str text, struct df_pattern **ret)
{
	struct df_schema *s = c->schema;
	struct df_fail why = {.msg = ""};
	if (s->n_pattern == s->cap_pattern) {
		size_t cap = s->cap_pattern ? s->cap_pattern * 2 : 16;
		struct df_pattern **more = df_arena_array(&s->arena, cap, sizeof(struct df_pattern *));
		if (!more)
			return df_schema_no_memory(c);
		for (size_t i = 0; i < s->n_pattern; i++)
			more[i] = s->pattern[i];
		s->pattern = more;
		s->cap_pattern = cap;
	}
	enum df_err err = df_pattern_compile(text, ret, &why);
	if (err == DF_ERR_NOMEM)
		return df_schema_no_memory(c);
	if (err != DF_OK)
		return df_schema_bad(c, "%s", why.msg);
	s->pattern[s->n_pattern++] = *ret;
	return DF_OK;
}

enum member_kind { MEMBER_SCHEMA, MEMBER_PATTERN, MEMBER_NEEDED };

static enum df_err strings(struct df_schema_compiler *c, const struct df_json *v)
{
	if (v->type != DF_JSON_ARRAY)
		return df_schema_bad(c, "it must be a list of strings");
	for (const struct df_json *m = v->child; m; m = m->next)
		if (m->type != DF_JSON_STRING)
			return df_schema_bad(c, "it must be a list of strings");
	return DF_OK;
}

static int by_key(const void *a, const void *b)
{
	const struct df_node_member *x = a, *y = b;
	size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
	int order = n ? memcmp(x->key.p, y->key.p, n) : 0;
	return order ? order : x->key.n < y->key.n ? -1 : x->key.n > y->key.n;
}

static enum df_err members(struct df_schema_compiler *c, const struct df_node *n, const struct df_json *v,
			   enum member_kind kind, struct df_node_members *ret)
{
	if (v->type != DF_JSON_OBJECT)
		return df_schema_bad(c, "it must be an object");
	ret->n = 0; /* of keywords that are there twice the last counts */
	ret->item = df_arena_zalloc(&c->schema->arena, v->n * sizeof(*ret->item));
	if (!ret->item)
		return df_schema_no_memory(c);
	for (const struct df_json *m = v->child; m; m = m->next) {
		struct df_node_member *to = &ret->item[ret->n++];
		size_t old = enter(c, m->key);
		to->key = m->key;
		if (kind == MEMBER_PATTERN)
			DF_TRY(pattern(c, m->key, &to->pattern));
		if (kind == MEMBER_NEEDED)
			DF_TRY(strings(c, m));
		else
			DF_TRY(sub(c, n, m, &to->node));
		to->needed = m;
		leave(c, old);
	}
	if (kind == MEMBER_SCHEMA && ret->n)
		qsort(ret->item, ret->n, sizeof(*ret->item), by_key);
	return DF_OK;
}

static enum df_err count(struct df_schema_compiler *c, const struct df_json *v, uint64_t *ret)
{
	struct df_decimal d =
		v->type == DF_JSON_NUMBER ? df_decimal_of(v->string) : (struct df_decimal){.negative = true};
	if (d.negative || !df_decimal_is_integer(&d))
		return df_schema_bad(c, "it must be a whole number that is not negative");
	*ret = df_decimal_u64(&d);
	return DF_OK;
}

static enum df_err number(struct df_schema_compiler *c, const struct df_json *v, const struct df_json **ret)
{
	if (v->type != DF_JSON_NUMBER)
		return df_schema_bad(c, "it must be a number");
	*ret = v;
	return DF_OK;
}

static enum df_err above_zero(struct df_schema_compiler *c, const struct df_json *v, const struct df_json **ret)
{
	DF_TRY(number(c, v, ret));
	struct df_decimal d = df_decimal_of(v->string);
	if (d.negative || d.n == 0)
		return df_schema_bad(c, "it must be above 0");
	return DF_OK;
}

static enum df_err type_word(struct df_schema_compiler *c, const struct df_json *v, uint32_t *bits)
{
	static const char *const words[] = {"null", "boolean", "number", "string", "array", "object", "integer"};
	for (unsigned i = 0; v->type == DF_JSON_STRING && i < sizeof(words) / sizeof(words[0]); i++)
		if (df_str_is(v->string, words[i])) {
			*bits |= 1U << i;
			return DF_OK;
		}
	return df_schema_bad(c, "a type is one of null, boolean, number, string, array, object, integer");
}

static enum df_err types(struct df_schema_compiler *c, const struct df_json *v, uint32_t *bits)
{
	*bits = 0;
	if (v->type != DF_JSON_ARRAY)
		return type_word(c, v, bits);
	if (v->n == 0)
		return df_schema_bad(c, "an empty list of types");
	for (const struct df_json *m = v->child; m; m = m->next)
		DF_TRY(type_word(c, m, bits));
	return DF_OK;
}

/* "dependencies" of older drafts: each member a list of names, or a schema. */
static enum df_err dependencies(struct df_schema_compiler *c, struct df_node *n, const struct df_json *v)
{
	struct df_node_members all = {NULL, 0};
	if (v->type != DF_JSON_OBJECT)
		return df_schema_bad(c, "it must be an object");
	all.item = df_arena_zalloc(&c->schema->arena, 2 * v->n * sizeof(*all.item));
	if (!all.item)
		return df_schema_no_memory(c);
	struct df_node_members needs = {all.item, 0}, dependents = {all.item + v->n, 0};
	for (const struct df_json *m = v->child; m; m = m->next) {
		size_t old = enter(c, m->key);
		bool names = m->type == DF_JSON_ARRAY;
		struct df_node_member *to = names ? &needs.item[needs.n++] : &dependents.item[dependents.n++];
		to->key = m->key;
		to->needed = m;
		DF_TRY(names ? strings(c, m) : sub(c, n, m, &to->node));
		leave(c, old);
	}
	if (n->needs.n == 0)
		n->needs = needs;
	if (n->dependents.n == 0)
		n->dependents = dependents;
	return DF_OK;
}

/* --- keywords --- */

static enum df_err arrays(struct df_schema_compiler *c, struct df_node *n, struct df_str k, const struct df_json *v)
{
	if (df_str_is(k, "items") && v->type == DF_JSON_ARRAY)
		return df_schema_bad(c, "a list of schemas is 'prefixItems' since draft 2020-12");
	if (df_str_is(k, "items"))
		return sub(c, n, v, &n->items);
	if (df_str_is(k, "prefixItems"))
		return list(c, n, v, &n->prefix);
	if (df_str_is(k, "contains"))
		return sub(c, n, v, &n->contains);
	if (df_str_is(k, "minContains"))
		return count(c, v, &n->contains_n.min);
	if (df_str_is(k, "maxContains"))
		return count(c, v, &n->contains_n.max);
	if (df_str_is(k, "minItems"))
		return count(c, v, &n->items_n.min);
	if (df_str_is(k, "maxItems"))
		return count(c, v, &n->items_n.max);
	if (df_str_is(k, "uniqueItems") && v->type != DF_JSON_BOOL)
		return df_schema_bad(c, "it must be true or false");
	if (df_str_is(k, "uniqueItems"))
		n->unique = v->boolean;
	if (df_str_is(k, "unevaluatedItems")) {
		c->schema->tracks = true;
		return sub(c, n, v, &n->unevaluated_items);
	}
	return DF_OK;
}

static enum df_err objects(struct df_schema_compiler *c, struct df_node *n, struct df_str k, const struct df_json *v)
{
	if (df_str_is(k, "properties"))
		return members(c, n, v, MEMBER_SCHEMA, &n->properties);
	if (df_str_is(k, "patternProperties"))
		return members(c, n, v, MEMBER_PATTERN, &n->patterns);
	if (df_str_is(k, "additionalProperties"))
		return sub(c, n, v, &n->additional);
	if (df_str_is(k, "propertyNames"))
		return sub(c, n, v, &n->names);
	if (df_str_is(k, "minProperties"))
		return count(c, v, &n->members_n.min);
	if (df_str_is(k, "maxProperties"))
		return count(c, v, &n->members_n.max);
	if (df_str_is(k, "required")) {
		n->required = v;
		return strings(c, v);
	}
	if (df_str_is(k, "dependentRequired"))
		return members(c, n, v, MEMBER_NEEDED, &n->needs);
	if (df_str_is(k, "dependentSchemas"))
		return members(c, n, v, MEMBER_SCHEMA, &n->dependents);
	if (df_str_is(k, "dependencies"))
		return dependencies(c, n, v);
	if (df_str_is(k, "unevaluatedProperties")) {
		c->schema->tracks = true;
		return sub(c, n, v, &n->unevaluated);
	}
	return arrays(c, n, k, v);
}

static enum df_err scalars(struct df_schema_compiler *c, struct df_node *n, struct df_str k, const struct df_json *v)
{
	if (df_str_is(k, "minimum"))
		return number(c, v, &n->minimum);
	if (df_str_is(k, "maximum"))
		return number(c, v, &n->maximum);
	if (df_str_is(k, "exclusiveMinimum"))
		return number(c, v, &n->above);
	if (df_str_is(k, "exclusiveMaximum"))
		return number(c, v, &n->below);
	if (df_str_is(k, "multipleOf"))
		return above_zero(c, v, &n->multiple);
	if (df_str_is(k, "minLength"))
		return count(c, v, &n->length.min);
	if (df_str_is(k, "maxLength"))
		return count(c, v, &n->length.max);
	if (df_str_is(k, "pattern") && v->type != DF_JSON_STRING)
		return df_schema_bad(c, "it must be a string");
	if (df_str_is(k, "pattern")) {
		n->pattern_text = v->string;
		return pattern(c, v->string, &n->pattern);
	}
	return objects(c, n, k, v);
}

static enum df_err logic(struct df_schema_compiler *c, struct df_node *n, struct df_str k, const struct df_json *v)
{
	if (df_str_is(k, "allOf"))
		return list(c, n, v, &n->all);
	if (df_str_is(k, "anyOf"))
		return list(c, n, v, &n->any);
	if (df_str_is(k, "oneOf"))
		return list(c, n, v, &n->one);
	if (df_str_is(k, "not"))
		return sub(c, n, v, &n->not_);
	if (df_str_is(k, "if"))
		return sub(c, n, v, &n->if_);
	if (df_str_is(k, "then"))
		return sub(c, n, v, &n->then_);
	if (df_str_is(k, "else"))
		return sub(c, n, v, &n->else_);
	if (df_str_is(k, "type"))
		return types(c, v, &n->types);
	if (df_str_is(k, "const"))
		n->const_ = v;
	if (df_str_is(k, "enum") && v->type != DF_JSON_ARRAY)
		return df_schema_bad(c, "it must be a list of values");
	if (df_str_is(k, "enum"))
		n->enum_ = v;
	return scalars(c, n, k, v);
}

static enum df_err core(struct df_schema_compiler *c, struct df_node *n, struct df_str k, const struct df_json *v)
{
	struct df_node_members defs = {NULL, 0};
	if (df_str_is(k, "$defs"))
		return members(c, n, v, MEMBER_SCHEMA, &defs);
	bool known = df_str_is(k, "$ref") || df_str_is(k, "$dynamicRef") || df_str_is(k, "$anchor") ||
		     df_str_is(k, "$dynamicAnchor") || df_str_is(k, "$schema") || df_str_is(k, "$id");
	if (known && v->type != DF_JSON_STRING)
		return df_schema_bad(c, "it must be a string");
	if (df_str_is(k, "$ref"))
		return df_schema_add_reference(c, n, v->string, false);
	if (df_str_is(k, "$dynamicRef"))
		return df_schema_add_reference(c, n, v->string, true);
	if (df_str_is(k, "$anchor"))
		return df_schema_add_anchor(c, n, v->string, false);
	if (df_str_is(k, "$dynamicAnchor"))
		return df_schema_add_anchor(c, n, v->string, true);
	if (df_str_is(k, "$recursiveRef"))
		return df_schema_bad(c, "'$recursiveRef' is '$dynamicRef' since draft 2020-12");
	return DF_OK;
}

/* "$id": a new base and a new resource. */
static enum df_err take_id(struct df_schema_compiler *c, const struct df_json *v, struct df_node *n)
{
	struct df_str uri, fragment, id = df_json_get_str(v, "$id");
	if (!id.n)
		return DF_OK;
	df_uri_split(df_uri_resolve(n->base, id, &c->schema->arena), &uri, &fragment);
	if (!uri.p)
		return df_schema_no_memory(c);
	if (fragment.n)
		return df_schema_bad(c, "an '$id' has no '#name'; that is '$anchor' since draft 2019-09");
	n->base = uri;
	if (v == n->resource->root) { /* the document's own name */
		if (n->resource->uri.n && !df_str_eq(n->resource->uri, uri))
			n->resource->alias = n->resource->uri;
		n->resource->uri = uri;
		return DF_OK;
	}
	return df_schema_add_resource(c, uri, v, &n->resource);
}

static enum df_err object_node(struct df_schema_compiler *c, const struct df_json *v, struct df_node *n)
{
	DF_TRY(take_id(c, v, n));
	if (v == n->resource->root)
		n->resource->node = n;
	for (const struct df_json *m = v->child; m; m = m->next) {
		size_t old = enter(c, m->key);
		DF_TRY(m->key.n && m->key.p[0] == '$' ? core(c, n, m->key, m) : logic(c, n, m->key, m));
		leave(c, old);
	}
	return DF_OK;
}

enum df_err df_schema_walk(struct df_schema_compiler *c, const struct df_json *v, struct df_str base,
			   struct df_schema_resource *resource, struct df_node **ret_node)
{
	struct df_node *n = df_schema_seat_of(c, v);
	if (n) {
		*ret_node = n;
		return DF_OK;
	}
	if (v->type != DF_JSON_OBJECT && v->type != DF_JSON_BOOL)
		return df_schema_bad(c, "a schema is an object, true or false");
	n = df_arena_zalloc(&c->schema->arena, sizeof(*n));
	if (!n)
		return df_schema_no_memory(c);
	n->is_bool = v->type == DF_JSON_BOOL;
	n->allows = v->boolean;
	n->base = base;
	n->resource = resource;
	n->length.max = n->items_n.max = n->contains_n.max = n->members_n.max = UINT64_MAX;
	n->contains_n.min = 1;
	DF_TRY(df_schema_take_seat(c, v, n));
	if (!n->is_bool)
		DF_TRY(object_node(c, v, n));
	*ret_node = n;
	return DF_OK;
}

/* --- the whole --- */

static enum df_err compile(struct df_schema_compiler *c, struct df_str text)
{
	struct df_schema *s = c->schema;
	struct df_json *json = NULL;
	struct df_schema_resource *r = NULL;
	if (text.n > DF_SCHEMA_BYTES)
		return df_fail(c->fail, DF_ERR_LIMIT, "a JSON schema of %zu bytes; at most %u are taken", text.n,
			       DF_SCHEMA_BYTES);
	struct df_str copy = df_arena_copy(&s->arena, text);
	if (!copy.p)
		return df_schema_no_memory(c);
	DF_TRY(df_json_parse(copy, &s->arena, &json, c->fail));
	DF_TRY(df_schema_add_resource(c, DF_STR(BASE), json, &r));
	DF_TRY(df_schema_walk(c, json, r->uri, r, &s->root));
	r->node = s->root;
	DF_TRY(df_schema_link(c));
	return df_schema_find_loops(c);
}

enum df_err df_schema_compile_among(struct df_str text, const struct df_schema_doc *doc, size_t n_doc,
				    struct df_schema **ret_schema, struct df_fail *fail)
{
	struct df_schema *s = calloc(1, sizeof(*s));
	struct df_schema_compiler c = {.schema = s, .doc = doc, .n_doc = n_doc, .fail = fail};
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a schema");
	c.tail = &c.pending;
	df_arena_init(&s->arena, DF_SCHEMA_MEMORY_BYTES, 0);
	df_buf_init(&c.place, PLACE_BYTES);
	enum df_err err = compile(&c, text);
	df_buf_release(&c.place);
	if (err != DF_OK)
		df_schema_free(&s);
	else
		*ret_schema = s;
	return err;
}

enum df_err df_schema_compile(struct df_str text, struct df_schema **ret_schema, struct df_fail *fail)
{
	return df_schema_compile_among(text, NULL, 0, ret_schema, fail);
}

void df_schema_free(struct df_schema **schema)
{
	struct df_schema *s = schema ? *schema : NULL;
	if (!s)
		return;
	for (size_t i = 0; i < s->n_pattern; i++)
		df_pattern_free(&s->pattern[i]);
	df_arena_release(&s->arena);
	free(s);
	*schema = NULL;
}
