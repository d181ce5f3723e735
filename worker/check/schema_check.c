// SPDX-License-Identifier: Apache-2.0
/*
 * schema_check: a value against a compiled schema.
 *
 * DESIGN: the walk is silent first and stops at the first error: most answers are valid, and then nothing is written. An invalid one is walked again,
 * loudly, going on behind errors. Alternatives (anyOf, oneOf) are tried silently; told is the one that failed deepest inside the value.
 * What unevaluatedItems and unevaluatedProperties need to know is a bit for each child of the value; a schema hands its bits up only
 * when it holds. All work is paid for from one account, so that no schema and no value runs for ever.
 */
#include "worker/check/schema_walk.h"

bool df_check_quietly(struct df_check_run *r, const struct df_check_visit *t, const struct df_node *n,
		      const struct df_json *v, struct df_check_seen *seen)
{
	bool loud = r->loud;
	r->loud = false;
	bool ok = df_check_node(r, n, v, t->at, t->scope, seen);
	r->loud = loud;
	return ok;
}

/* --- schemas on the same value --- */

static bool same(struct df_check_run *r, const struct df_check_visit *t, const struct df_node *n)
{
	return df_check_node(r, n, t->v, t->at, t->scope, t->seen);
}

/* How many of them hold; told, when none does, is what the nearest says. */
static uint64_t count(struct df_check_run *r, const struct df_check_visit *t, const struct df_node_list *all,
		      size_t enough, size_t *ret_nearest)
{
	uint64_t held = 0;
	unsigned best = 0, before = r->deepest;
	*ret_nearest = 0;
	for (size_t i = 0; i < all->n && held < enough && r->err == DF_OK; i++) {
		r->deepest = 0;
		if (df_check_quietly(r, t, all->item[i], t->v, t->seen)) {
			held++;
		} else if (r->deepest > best) {
			best = r->deepest;
			*ret_nearest = i;
		}
	}
	r->deepest = best > before ? best : before;
	return held;
}

static bool alternatives(struct df_check_run *r, const struct df_check_visit *t, const struct df_node_list *all,
			 bool one)
{
	size_t nearest = 0;
	if (!all->n)
		return true;
	/* with bits asked for, every alternative that holds gives its own */
	uint64_t held = count(r, t, all, one ? 2 : t->seen ? SIZE_MAX : 1, &nearest);
	if (held == 1 || (held && !one))
		return true;
	if (held)
		return df_check_say(r, t->at, "more than one of the %zu alternatives of 'oneOf' fits; exactly one must",
				    all->n);
	(void)df_check_say(r, t->at, "none of the %zu alternatives of '%s' fits; the nearest is number %zu:", all->n,
			   one ? "oneOf" : "anyOf", nearest + 1);
	if (r->loud)
		(void)same(r, t, all->item[nearest]);
	return false;
}

static bool conditions(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	bool ok = true;
	if (n->if_) {
		const struct df_node *then = df_check_quietly(r, t, n->if_, t->v, t->seen) ? n->then_ : n->else_;
		ok = !then || same(r, t, then);
	}
	if (n->not_ && df_check_quietly(r, t, n->not_, t->v, NULL))
		ok = df_check_say(r, t->at, "it fits what 'not' rules out");
	for (size_t i = 0; t->v->type == DF_JSON_OBJECT && i < n->dependents.n && (ok || r->loud); i++)
		if (df_check_has(r, t->v, n->dependents.item[i].key))
			ok = same(r, t, n->dependents.item[i].node) && ok;
	return ok;
}

/* $dynamicRef: the outermost resource on the way that has a dynamic anchor of that name. */
static const struct df_node *dynamic_target(const struct df_check_visit *t)
{
	const struct df_node *to = t->node->dynamic;
	if (!t->node->dynamic_name.n)
		return to;
	for (const struct df_check_scope *s = t->scope; s; s = s->outer)
		for (const struct df_schema_anchor *a = s->resource->anchor; a; a = a->next)
			if (a->dynamic && df_str_eq(a->name, t->node->dynamic_name))
				to = a->node;
	return to;
}

static bool in_place(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	bool ok = !n->ref || same(r, t, n->ref);
	if ((ok || r->loud) && n->dynamic)
		ok = same(r, t, dynamic_target(t)) && ok;
	for (size_t i = 0; i < n->all.n && (ok || r->loud); i++)
		ok = same(r, t, n->all.item[i]) && ok;
	if (ok || r->loud)
		ok = alternatives(r, t, &n->any, false) && ok;
	if (ok || r->loud)
		ok = alternatives(r, t, &n->one, true) && ok;
	return (ok || r->loud) && conditions(r, t) && ok;
}

/* --- what nobody has looked at --- */

static bool unevaluated(struct df_check_run *r, const struct df_check_visit *t)
{
	bool object = t->v->type == DF_JSON_OBJECT;
	const struct df_node *rule = object ? t->node->unevaluated : t->node->unevaluated_items;
	size_t no = 0;
	bool ok = true;
	if (!rule || (!object && t->v->type != DF_JSON_ARRAY))
		return true;
	for (const struct df_json *m = t->v->child; m && (ok || r->loud) && r->err == DF_OK; m = m->next, no++) {
		if (t->seen->is[no])
			continue;
		struct df_check_place at = {t->at, m->key, no, t->at->depth + 1};
		df_check_mark(t, no);
		if (object && rule->is_bool && !rule->allows)
			ok = df_check_not_allowed(r, t, m->key);
		else
			ok = df_check_node(r, rule, m, &at, t->scope, NULL) && ok;
	}
	return ok;
}

/* --- the walk --- */

static bool kinds(struct df_check_run *r, const struct df_check_visit *t)
{
	switch (t->v->type) {
	case DF_JSON_STRING:
		return df_check_strings(r, t);
	case DF_JSON_NUMBER:
		return df_check_numbers(r, t);
	case DF_JSON_ARRAY:
		return df_check_arrays(r, t);
	case DF_JSON_OBJECT:
		return df_check_objects(r, t);
	default:
		return true;
	}
}

static bool node(struct df_check_run *r, const struct df_check_visit *t)
{
	bool ok = df_check_type(r, t);
	if (ok || r->loud)
		ok = df_check_values(r, t) && ok;
	if (ok || r->loud)
		ok = kinds(r, t) && ok;
	if (ok || r->loud)
		ok = in_place(r, t) && ok;
	return ok && unevaluated(r, t);
}

/* Bits of its own when somebody asks, or when the schema itself does. */
static bool own_bits(struct df_check_run *r, struct df_check_visit *t, struct df_check_seen *mine)
{
	if (!t->seen && !t->node->unevaluated && !t->node->unevaluated_items)
		return true;
	mine->n = t->v->n;
	mine->is = df_arena_zalloc(r->arena, t->v->n + 1);
	if (!mine->is) {
		r->err = DF_ERR_NOMEM;
		return false;
	}
	t->seen = mine;
	return df_check_pay(r, t->v->n / 8);
}

bool df_check_node(struct df_check_run *r, const struct df_node *n, const struct df_json *v,
		   const struct df_check_place *at, const struct df_check_scope *scope, struct df_check_seen *seen)
{
	struct df_check_seen mine = {NULL, 0};
	struct df_check_scope inner = {scope, n->resource};
	struct df_check_visit t = {n, v, at, scope && scope->resource == n->resource ? scope : &inner, seen};
	if (!df_check_pay(r, 4))
		return false;
	if (n->is_bool)
		return n->allows || df_check_say(r, at, "nothing is allowed here");
	if (r->depth >= DF_SCHEMA_DEPTH) {
		r->err = DF_ERR_LIMIT;
		return false;
	}
	if (!own_bits(r, &t, &mine))
		return false;
	r->depth++;
	bool ok = node(r, &t);
	r->depth--;
	for (size_t i = 0; ok && seen && i < mine.n; i++)
		seen->is[i] |= mine.is[i];
	return ok && r->err == DF_OK;
}

enum df_err df_schema_check(const struct df_schema *schema, struct df_str json, struct df_arena *arena,
			    struct df_buf *why)
{
	struct df_json *v = NULL;
	struct df_fail fail = {.msg = ""};
	const struct df_check_place top = {.up = NULL};
	struct df_check_run r = {.arena = arena, .why = why, .work = DF_SCHEMA_WORK};
	enum df_err err = df_json_parse(json, arena, &v, &fail);
	if (err == DF_ERR_PARSE || err == DF_ERR_UTF8) {
		if (why)
			(void)df_buf_addf(why, "/: it is not JSON: %s\n", fail.msg);
		return DF_ERR_PARSE;
	}
	DF_TRY(err);
	if (df_check_node(&r, schema->root, v, &top, NULL, NULL))
		return DF_OK;
	DF_TRY(r.err);
	if (why) { /* the same again, with words */
		r = (struct df_check_run){.arena = arena, .why = why, .work = DF_SCHEMA_WORK, .loud = true};
		(void)df_check_node(&r, schema->root, v, &top, NULL, NULL);
	}
	return DF_ERR_TYPE;
}
