// SPDX-License-Identifier: Apache-2.0
/*
 * wire_schema: how much of a schema the providers' own modes take.
 *
 * DESIGN. Their modes are lists of what is allowed: one word beside them refuses the request, and with it every document. So a schema counts as strict only when
 * each of its words is known to be taken; else the provider is given it as a hint, or the model is told it in words. The answer is checked against the user's own
 * schema in every case.
 * Sources: OpenAI's guide to structured outputs ("supported schemas") and what its server refuses beside it (a root that is no object, minLength, default, words
 * beside $ref); Anthropic's page on structured outputs (no recursion, ranges or lengths) and its rules for tools' input_schema.
 */
#include "worker/provider/wire/wire.h"

#define DEPTH_MAX 10      /* OpenAI: levels of nesting */
#define ENUM_MAX 1000     /* OpenAI: values of enumerations */
#define UNIONS_MAX 16     /* Anthropic: parameters of more than one type */
#define NAME_BYTES_MAX 64 /* Anthropic: a property of a tool */

struct walk {
	size_t n_union, n_enum;
	bool in_defs, may_recur;
};

static bool is_one_of(struct df_str s, const char *const *word)
{
	for (; *word; word++)
		if (df_str_is(s, *word))
			return true;
	return false;
}

static bool lists(const struct df_json *required, struct df_str name)
{
	for (const struct df_json *r = required ? required->child : NULL; r; r = r->next)
		if (r->type == DF_JSON_STRING && df_str_eq(r->string, name))
			return true;
	return false;
}

static bool is_false(const struct df_json *v)
{
	return v && v->type == DF_JSON_BOOL && !v->boolean;
}

/* By its words alone. */
static enum df_schema_fit words_of(const struct df_json *schema)
{
	static const char *const plain[] = {
		"type",  "properties", "required", "additionalProperties", "items", "anyOf",       "enum",
		"const", "$ref",       "$defs",    "definitions",          "title", "description", NULL};
	static const char *const ranged[] = {"pattern",          "minimum",    "maximum",  "exclusiveMinimum",
					     "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
					     "$schema",          NULL};
	static const char *const format[] = {"date-time", "time", "date", "duration", "email",
					     "hostname",  "ipv4", "ipv6", "uuid",     NULL};
	enum df_schema_fit fit = DF_SCHEMA_PLAIN;
	for (const struct df_json *w = schema->child; w; w = w->next) {
		bool known_format =
			df_str_is(w->key, "format") && w->type == DF_JSON_STRING && is_one_of(w->string, format);
		if (is_one_of(w->key, plain))
			continue;
		if (!known_format && !is_one_of(w->key, ranged))
			return DF_SCHEMA_LOOSE;
		fit = DF_SCHEMA_RANGED;
	}
	return fit;
}

static bool is_closed(const struct df_json *schema)
{
	const struct df_json *properties = df_json_get(schema, "properties");
	if (!properties && !df_str_is(df_json_get_str(schema, "type"), "object"))
		return true;
	for (const struct df_json *p = properties ? properties->child : NULL; p; p = p->next)
		if (!lists(df_json_get(schema, "required"), p->key))
			return false;
	return is_false(df_json_get(schema, "additionalProperties"));
}

static enum df_schema_fit fit_of(const struct df_json *schema, struct walk *w, size_t depth);

static enum df_schema_fit least(enum df_schema_fit a, enum df_schema_fit b)
{
	return a < b ? a : b;
}

static enum df_schema_fit fit_of_all(const struct df_json *list, enum df_schema_fit fit, struct walk *w, size_t depth)
{
	for (const struct df_json *s = list ? list->child : NULL; s && fit > DF_SCHEMA_LOOSE; s = s->next)
		fit = least(fit, fit_of(s, w, depth));
	return fit;
}

/* A reference from one definition to another may lead back to it; from elsewhere only "#" does. */
static enum df_schema_fit fit_of_ref(const struct df_json *schema, struct walk *w)
{
	w->may_recur = w->may_recur || w->in_defs || df_str_is(df_json_get_str(schema, "$ref"), "#");
	return schema->n == 1 ? DF_SCHEMA_PLAIN : DF_SCHEMA_LOOSE;
}

/* Recursive, and bounded by DEPTH_MAX. */
static enum df_schema_fit fit_of(const struct df_json *schema, struct walk *w, size_t depth)
{
	if (schema->type != DF_JSON_OBJECT || depth > DEPTH_MAX)
		return DF_SCHEMA_LOOSE;
	if (df_json_get(schema, "$ref"))
		return fit_of_ref(schema, w);
	const struct df_json *type = df_json_get(schema, "type"), *any = df_json_get(schema, "anyOf"),
			     *values = df_json_get(schema, "enum"), *items = df_json_get(schema, "items");
	bool typed = type || any || values || df_json_get(schema, "const");
	w->n_union += any || (type && type->type == DF_JSON_ARRAY);
	w->n_enum += values ? values->n : 0;
	enum df_schema_fit fit = words_of(schema);
	if (!typed || !is_closed(schema) || (df_str_is(df_json_get_str(schema, "type"), "array") && !items))
		return DF_SCHEMA_LOOSE;
	fit = fit_of_all(df_json_get(schema, "properties"), fit, w, depth + 1);
	fit = fit_of_all(any, fit, w, depth + 1);
	if (items && fit > DF_SCHEMA_LOOSE)
		fit = least(fit, fit_of(items, w, depth + 1));
	w->in_defs = true;
	fit = fit_of_all(df_json_get(schema, "$defs"), fit, w, depth + 1);
	fit = fit_of_all(df_json_get(schema, "definitions"), fit, w, depth + 1);
	w->in_defs = false;
	return fit;
}

static enum df_schema_fit fit_of_root(const struct df_json *root, bool *ret_has_union)
{
	static const char *const not_there[] = {"anyOf", "oneOf", "allOf", "not", "enum", "$ref", NULL};
	struct walk w = {.n_union = 0};
	if (!df_str_is(df_json_get_str(root, "type"), "object"))
		return DF_SCHEMA_NO_OBJECT;
	for (const struct df_json *word = root->child; word; word = word->next)
		if (is_one_of(word->key, not_there))
			return DF_SCHEMA_NO_OBJECT;
	enum df_schema_fit fit = fit_of(root, &w, 0);
	*ret_has_union = w.n_union > 0;
	if (w.n_enum > ENUM_MAX)
		return DF_SCHEMA_LOOSE;
	return fit == DF_SCHEMA_PLAIN && (w.may_recur || w.n_union > UNIONS_MAX) ? DF_SCHEMA_RANGED : fit;
}

/* Of a tool: letters, digits, '_', '.' and '-'. */
static bool named_simply(const struct df_json *root)
{
	const struct df_json *properties = df_json_get(root, "properties");
	for (const struct df_json *p = properties ? properties->child : NULL; p; p = p->next) {
		if (p->key.n == 0 || p->key.n > NAME_BYTES_MAX)
			return false;
		for (size_t i = 0; i < p->key.n; i++) {
			char c = p->key.p[i];
			if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
			      c == '.' || c == '-'))
				return false;
		}
	}
	return true;
}

enum df_err df_wire_schema(const struct df_ask *ask, struct df_arena *arena, struct df_wire_schema *ret,
			   struct df_fail *fail)
{
	struct df_json *root = NULL;
	struct df_fail why = {.msg = ""};
	if (!ask->schema.n) {
		*ret = (struct df_wire_schema){.text = {NULL, 0}};
		return DF_OK;
	}
	enum df_err err = df_json_parse(ask->schema, arena, &root, &why);
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory for a schema");
	if (err != DF_OK)
		return df_fail(fail, DF_ERR_USAGE, "the schema is not JSON: %s", why.msg);
	if (root->type != DF_JSON_OBJECT)
		return df_fail(fail, DF_ERR_USAGE, "the schema is not a JSON object");
	const struct df_json *required = df_json_get(root, "required");
	*ret = (struct df_wire_schema){
		.text = root->raw, .named_simply = named_simply(root), .has_required = required && required->n > 0};
	ret->fit = fit_of_root(root, &ret->has_union);
	return DF_OK;
}

bool df_wire_holds_objects(const struct df_ask *ask, struct df_arena *arena)
{
	struct df_wire_schema schema;
	return df_wire_schema(ask, arena, &schema, NULL) == DF_OK && schema.fit > DF_SCHEMA_NO_OBJECT;
}
