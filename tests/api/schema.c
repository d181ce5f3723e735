// SPDX-License-Identifier: Apache-2.0
/* schema: the smallest value that a JSON schema allows. What it does not know it passes over, so such schemas get answers that break them. */
#include "tests/api/ask.h"

#include <math.h>

#define DEPTH_MAX 32

struct maker {
	const struct json_tree *t;
	struct span word;
	struct bytes *to;
	int depth;
};

static void make(struct maker *m, const struct json *schema);

static void json_back(const struct json_tree *t, const struct json *v, struct bytes *to)
{
	if (v->type == JSON_STRING) {
		bytes_json(to, v->text);
	} else if (v->type == JSON_ARRAY || v->type == JSON_OBJECT) {
		bytes_str(to, v->type == JSON_ARRAY ? "[" : "{");
		for (const struct json *c = json_child(t, v); c != NULL; c = json_next(t, c)) {
			if (c != json_child(t, v))
				bytes_str(to, ",");
			if (v->type == JSON_OBJECT) {
				bytes_json(to, c->key);
				bytes_str(to, ":");
			}
			json_back(t, c, to);
		}
		bytes_str(to, v->type == JSON_ARRAY ? "]" : "}");
	} else {
		bytes_span(to, v->text);
	}
}

static bool has(struct maker *m, const struct json *s, const char *key)
{
	return json_get(m->t, s, key)->type != JSON_NULL;
}

/* "#/$defs/name" */
static const struct json *resolve(struct maker *m, struct span ref)
{
	const struct json *at = NULL;
	/* The schema's own root is not known here: definitions are looked for in every object of the request. */
	const char *slash = memrchr(ref.p, '/', ref.n);
	if (slash == NULL)
		return NULL;
	struct span name = {slash + 1, ref.n - (size_t)(slash + 1 - ref.p)};
	for (uint32_t i = 1; i < m->t->n && at == NULL; i++) {
		const struct json *n = &m->t->node[i];
		if (!span_is(n->key, "$defs") && !span_is(n->key, "definitions"))
			continue;
		for (const struct json *d = json_child(m->t, n); d != NULL; d = json_next(m->t, d))
			at = d->key.n == name.n && memcmp(d->key.p, name.p, name.n) == 0 ? d : at;
	}
	return at;
}

static void object(struct maker *m, const struct json *s)
{
	const char *comma = "";
	bytes_str(m->to, "{");
	const struct json *p = json_child(m->t, json_get(m->t, s, "properties"));
	for (; p != NULL; p = json_next(m->t, p)) {
		bytes_str(m->to, comma);
		bytes_json(m->to, p->key);
		bytes_str(m->to, ":");
		make(m, p);
		comma = ",";
	}
	bytes_str(m->to, "}");
}

static void array(struct maker *m, const struct json *s)
{
	double min = json_get(m->t, s, "minItems")->number;
	size_t want = min > 1 && min < 1000 ? (size_t)min : 1, n = 0;
	const struct json *items = json_get(m->t, s, "items"), *max = json_get(m->t, s, "maxItems");
	if (max->type == JSON_NUMBER && max->number < 1)
		want = 0;
	bytes_str(m->to, "[");
	const struct json *first = json_child(m->t, json_get(m->t, s, "prefixItems"));
	for (; first != NULL; first = json_next(m->t, first)) {
		bytes_str(m->to, n++ ? "," : "");
		make(m, first);
	}
	for (; n < want; n++) {
		bytes_str(m->to, n ? "," : "");
		make(m, items);
	}
	bytes_str(m->to, "]");
}

static void number(struct maker *m, const struct json *s, bool integer)
{
	const struct json *low = json_get(m->t, s, "minimum"), *high = json_get(m->t, s, "maximum"),
			  *above = json_get(m->t, s, "exclusiveMinimum"),
			  *under = json_get(m->t, s, "exclusiveMaximum"), *step = json_get(m->t, s, "multipleOf");
	double v = 0;
	if (high->type == JSON_NUMBER && v > high->number)
		v = high->number;
	if (under->type == JSON_NUMBER && v >= under->number)
		v = integer ? under->number - 1 : under->number - fabs(under->number) * 0.01 - 0.01;
	if (low->type == JSON_NUMBER && v < low->number)
		v = low->number;
	if (above->type == JSON_NUMBER && v <= above->number)
		v = integer ? floor(above->number) + 1 : above->number + fabs(above->number) * 0.01 + 0.01;
	if (integer)
		v = ceil(v);
	if (step->type == JSON_NUMBER && step->number > 0)
		v = ceil(v / step->number) * step->number;
	bytes_fmt(m->to, "%.15g", v);
}

static void text(struct maker *m, const struct json *s)
{
	double min = json_get(m->t, s, "minLength")->number;
	const struct json *max = json_get(m->t, s, "maxLength");
	struct span word = m->word;
	if (max->type == JSON_NUMBER && max->number < (double)word.n)
		word.n = max->number > 0 ? (size_t)max->number : 0;
	bytes_json(m->to, word);
	if (min > (double)word.n && min < 1e6) {
		m->to->n--;
		for (size_t i = word.n; i < (size_t)min; i++)
			bytes_str(m->to, "x");
		bytes_str(m->to, "\"");
	}
}

static void by_type(struct maker *m, const struct json *s, struct span type)
{
	if (span_is(type, "object") || (type.n == 0 && has(m, s, "properties")))
		object(m, s);
	else if (span_is(type, "array") || (type.n == 0 && (has(m, s, "items") || has(m, s, "prefixItems"))))
		array(m, s);
	else if (span_is(type, "integer") || span_is(type, "number"))
		number(m, s, span_is(type, "integer"));
	else if (span_is(type, "boolean"))
		bytes_str(m->to, "true");
	else if (span_is(type, "null"))
		bytes_str(m->to, "null");
	else
		text(m, s);
}

static void make(struct maker *m, const struct json *s)
{
	static const char *const choices[] = {"allOf", "anyOf", "oneOf"};
	const struct json *found;
	if (++m->depth > DEPTH_MAX) {
		bytes_str(m->to, "null");
	} else if (has(m, s, "const")) {
		json_back(m->t, json_get(m->t, s, "const"), m->to);
	} else if ((found = json_child(m->t, json_get(m->t, s, "enum"))) != NULL) {
		json_back(m->t, found, m->to);
	} else if (has(m, s, "$ref") && (found = resolve(m, json_get(m->t, s, "$ref")->text)) != NULL) {
		make(m, found);
	} else {
		found = NULL;
		for (size_t i = 0; i < 3 && found == NULL && !has(m, s, "properties"); i++)
			found = json_child(m->t, json_get(m->t, s, choices[i]));
		const struct json *type = json_get(m->t, s, "type");
		if (found != NULL && type->type == JSON_NULL)
			make(m, found);
		else if (type->type == JSON_ARRAY && type->n > 0)
			by_type(m, s, json_child(m->t, type)->text);
		else
			by_type(m, s, type->type == JSON_STRING ? type->text : (struct span){0});
	}
	m->depth--;
}

void schema_value(const struct json_tree *t, const struct json *schema, struct span word, struct bytes *to)
{
	struct maker m = {t, word, to, 0};
	make(&m, schema);
}
