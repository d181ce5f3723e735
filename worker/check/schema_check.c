// SPDX-License-Identifier: Apache-2.0
/*
 * schema_check: a value against a compiled schema.
 *
 * DESIGN: the walk is silent first and stops at the first error: most answers are valid, and then nothing is written. An invalid one is walked again,
 * loudly, going on behind errors. Alternatives (anyOf, oneOf) are tried silently; told is the one that failed deepest inside the value.
 * What unevaluatedItems and unevaluatedProperties need to know is a bit for each child of the value; a schema hands its bits up only
 * when it holds. All work is paid for from one account, so that no schema and no value runs for ever.
 */
#include <stdio.h>

#include "worker/check/schema_run.h"

#define LEAF                                                                                                           \
	__attribute__((noinline)) /* its words lie not in the frames of the walk, which is 320 deep on small stacks */

struct seen { /* children that some schema has looked at */
	unsigned char *is;
	size_t n;
};

struct visit { /* one schema on one value */
	const struct df_node *node;
	const struct df_json *v;
	const struct df_check_place *at;
	const struct df_check_scope *scope;
	struct seen *seen; /* NULL: nobody asks */
};

static bool check(struct df_check_run *r, const struct df_node *n, const struct df_json *v,
		  const struct df_check_place *at, const struct df_check_scope *scope, struct seen *seen);

/* Without words, whatever comes of it. */
static bool quietly(struct df_check_run *r, const struct visit *t, const struct df_node *n, const struct df_json *v,
		    struct seen *seen)
{
	bool loud = r->loud;
	r->loud = false;
	bool ok = check(r, n, v, t->at, t->scope, seen);
	r->loud = loud;
	return ok;
}

static void mark(const struct visit *t, size_t no)
{
	if (t->seen)
		t->seen->is[no] = 1;
}

/* --- strings and numbers --- */

static bool in_range(const struct df_node_range *range, uint64_t n)
{
	return n >= range->min && n <= range->max;
}

static LEAF bool wrong_count(struct df_check_run *r, const struct visit *t, const struct df_node_range *range,
			     uint64_t n, const char *what)
{
	bool few = n < range->min;
	return df_check_say(r, t->at, "%llu %s; %s %llu %s required", (unsigned long long)n, what,
			    few ? "at least" : "at most", (unsigned long long)(few ? range->min : range->max),
			    few ? "are" : "may be there, no more are");
}

static bool matches(struct df_check_run *r, const struct df_pattern *p, struct df_str s)
{
	bool found = false;
	enum df_err err = r->err == DF_OK ? df_pattern_match(p, s, &r->work, &found) : r->err;
	r->err = err;
	return err == DF_OK && found;
}

static LEAF bool strings(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	bool ok = true;
	if (n->length.min || n->length.max != UINT64_MAX) {
		uint64_t length = df_check_characters(t->v->string);
		if (!df_check_pay(r, t->v->string.n / 64))
			return false;
		if (!in_range(&n->length, length))
			ok = df_check_say(r, t->at, "%s has %llu characters; %s %llu are allowed",
					  df_check_short(t->v, z), (unsigned long long)length,
					  length < n->length.min ? "at least" : "at most",
					  (unsigned long long)(length < n->length.min ? n->length.min : n->length.max));
	}
	if (n->pattern && !matches(r, n->pattern, t->v->string))
		ok = df_check_say(r, t->at, "%s does not match the pattern %s", df_check_short(t->v, z),
				  df_check_short_key(n->pattern_text, y));
	return ok;
}

static LEAF bool bound(struct df_check_run *r, const struct visit *t, const struct df_json *limit, int sign, bool equal,
		       const char *words)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	if (!limit)
		return true;
	struct df_decimal a = df_decimal_of(t->v->string), b = df_decimal_of(limit->string);
	int order = df_decimal_compare(&a, &b) * sign;
	if (order > 0 || (order == 0 && equal))
		return true;
	return df_check_say(r, t->at, "%s is %s %s", df_check_short(t->v, z), words, df_check_short(limit, y));
}

static LEAF bool numbers(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	if (!df_check_pay(r, t->v->string.n / 8))
		return false;
	bool ok = bound(r, t, n->minimum, 1, true, "less than the minimum of");
	ok = bound(r, t, n->maximum, -1, true, "more than the maximum of") && ok;
	ok = bound(r, t, n->above, 1, false, "not more than") && ok;
	ok = bound(r, t, n->below, -1, false, "not less than") && ok;
	if (n->multiple) {
		struct df_decimal a = df_decimal_of(t->v->string), b = df_decimal_of(n->multiple->string);
		if (!df_decimal_is_multiple(&a, &b))
			ok = df_check_say(r, t->at, "%s is not a multiple of %s", df_check_short(t->v, z),
					  df_check_short(n->multiple, y));
	}
	return ok;
}

/* --- any value --- */

static LEAF bool type_ok(struct df_check_run *r, const struct visit *t)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	uint32_t types = t->node->types;
	if (!types || types & 1U << t->v->type)
		return true;
	if (types & DF_TYPE_INTEGER && t->v->type == DF_JSON_NUMBER) {
		struct df_decimal d = df_decimal_of(t->v->string);
		if (df_decimal_is_integer(&d))
			return true;
	}
	return df_check_say(r, t->at, "%s is not of type %s", df_check_short(t->v, z), df_check_types(types, y));
}

static LEAF bool values(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	char z[DF_CHECK_SHORT], list[300];
	bool ok = true, found = false;
	int used = 0;
	if (n->const_ && !df_check_equal(r, t->v, n->const_)) {
		(void)df_check_short(n->const_, list);
		ok = df_check_say(r, t->at, "%s is not %s, the only value allowed", df_check_short(t->v, z), list);
	}
	for (const struct df_json *e = n->enum_ ? n->enum_->child : NULL; e && !found; e = e->next)
		found = df_check_equal(r, t->v, e);
	if (!n->enum_ || found)
		return ok;
	list[0] = '\0';
	for (const struct df_json *e = n->enum_->child; r->loud && e && used < (int)sizeof(list) - DF_CHECK_SHORT - 8;
	     e = e->next) {
		char y[DF_CHECK_SHORT];
		used += snprintf(list + used, sizeof(list) - (size_t)used, "%s%s", used ? ", " : "",
				 df_check_short(e, y));
		if (e->next && used >= (int)sizeof(list) - DF_CHECK_SHORT - 8)
			(void)snprintf(list + used, sizeof(list) - (size_t)used, ", ...");
	}
	return df_check_say(r, t->at, "%s is not one of %s", df_check_short(t->v, z), list);
}

/* --- arrays --- */

static bool contains(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	uint64_t found = 0;
	size_t no = 0;
	if (!n->contains)
		return true;
	for (const struct df_json *m = t->v->child; m && r->err == DF_OK; m = m->next, no++)
		if (quietly(r, t, n->contains, m, NULL)) {
			found++;
			mark(t, no);
		}
	if (in_range(&n->contains_n, found))
		return true;
	return wrong_count(r, t, &n->contains_n, found, "items fit what 'contains' asks for");
}

static bool item(struct df_check_run *r, const struct visit *t, const struct df_node *n, const struct df_json *m,
		 size_t no)
{
	struct df_check_place at = {t->at, {NULL, 0}, no, t->at->depth + 1};
	mark(t, no);
	return check(r, n, m, &at, t->scope, NULL);
}

static bool arrays(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	size_t no = 0, first = 0, second = 0;
	bool ok = in_range(&n->items_n, t->v->n) || wrong_count(r, t, &n->items_n, t->v->n, "items");
	if (n->unique && df_check_twins(r, t->v, &first, &second))
		ok = df_check_say(r, t->at, "items %zu and %zu are the same; each must be different", first, second);
	for (const struct df_json *m = t->v->child; m && (ok || r->loud) && r->err == DF_OK; m = m->next, no++) {
		if (no < n->prefix.n)
			ok = item(r, t, n->prefix.item[no], m, no) && ok;
		else if (n->items)
			ok = item(r, t, n->items, m, no) && ok;
		else
			break;
	}
	return (ok || r->loud) && contains(r, t) && ok;
}

/* --- objects --- */

static const struct df_node_member *find(const struct df_node_members *all, struct df_str key)
{
	size_t low = 0, high = all->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		struct df_str other = all->item[mid].key;
		size_t n = key.n < other.n ? key.n : other.n;
		int order = n ? memcmp(key.p, other.p, n) : 0;
		if (order == 0 && key.n == other.n)
			return &all->item[mid];
		if (order < 0 || (order == 0 && key.n < other.n))
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool has(struct df_check_run *r, const struct df_json *object, struct df_str key)
{
	for (const struct df_json *m = object->child; m; m = m->next)
		if (!df_check_pay(r, 1) || df_str_eq(m->key, key))
			return true; /* when it is paid out, the walk is over anyway */
	return false;
}

static LEAF bool required(struct df_check_run *r, const struct visit *t, const struct df_json *names,
			  struct df_str because)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	bool ok = true;
	for (const struct df_json *k = names ? names->child : NULL; k && (ok || r->loud); k = k->next) {
		if (has(r, t->v, k->string))
			continue;
		if (because.p)
			ok = df_check_say(r, t->at, "the property %s is missing; it is required beside %s",
					  df_check_short_key(k->string, z), df_check_short_key(because, y));
		else
			ok = df_check_say(r, t->at, "the required property %s is missing",
					  df_check_short_key(k->string, z));
	}
	return ok;
}

static LEAF bool not_allowed(struct df_check_run *r, const struct visit *t, struct df_str key)
{
	char z[DF_CHECK_SHORT];
	return df_check_say(r, t->at, "the property %s is not allowed; leave it out", df_check_short_key(key, z));
}

static LEAF bool wrong_name(struct df_check_run *r, const struct visit *t, struct df_str key)
{
	char z[DF_CHECK_SHORT];
	return df_check_say(r, t->at, "a property may not be called %s", df_check_short_key(key, z));
}

/* The schemas that a member's name leads to. */
static bool property(struct df_check_run *r, const struct visit *t, const struct df_json *m, size_t no)
{
	const struct df_node *n = t->node;
	struct df_check_place at = {t->at, m->key, 0, t->at->depth + 1};
	const struct df_node_member *own = find(&n->properties, m->key);
	bool named = own, ok = true;
	at.key.p = at.key.p ? at.key.p : "";
	if (own)
		ok = check(r, own->node, m, &at, t->scope, NULL);
	for (size_t i = 0; i < n->patterns.n && (ok || r->loud) && r->err == DF_OK; i++)
		if (matches(r, n->patterns.item[i].pattern, m->key)) {
			named = true;
			ok = check(r, n->patterns.item[i].node, m, &at, t->scope, NULL) && ok;
		}
	if (!named && n->additional && n->additional->is_bool && !n->additional->allows)
		ok = not_allowed(r, t, m->key);
	else if (!named && n->additional)
		ok = check(r, n->additional, m, &at, t->scope, NULL);
	if (named || n->additional)
		mark(t, no);
	return ok;
}

static bool property_name(struct df_check_run *r, const struct visit *t, struct df_str key)
{
	struct df_json name = {.type = DF_JSON_STRING, .string = key, .raw = key};
	struct df_check_place at = {t->at, key, 0, t->at->depth + 1};
	at.key.p = at.key.p ? at.key.p : "";
	if (check(r, t->node->names, &name, &at, t->scope, NULL))
		return true;
	return wrong_name(r, t, key);
}

static bool objects(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	size_t no = 0;
	bool ok = in_range(&n->members_n, t->v->n) || wrong_count(r, t, &n->members_n, t->v->n, "properties");
	bool looks = n->properties.n || n->patterns.n || n->additional;
	ok = required(r, t, n->required, (struct df_str){NULL, 0}) && ok;
	for (size_t i = 0; i < n->needs.n && (ok || r->loud); i++)
		if (has(r, t->v, n->needs.item[i].key))
			ok = required(r, t, n->needs.item[i].needed, n->needs.item[i].key) && ok;
	for (const struct df_json *m = t->v->child; m && (ok || r->loud) && r->err == DF_OK; m = m->next, no++) {
		ok = (!looks || property(r, t, m, no)) && ok;
		ok = (!n->names || property_name(r, t, m->key)) && ok;
	}
	return ok;
}

/* --- schemas on the same value --- */

static bool same(struct df_check_run *r, const struct visit *t, const struct df_node *n)
{
	return check(r, n, t->v, t->at, t->scope, t->seen);
}

/* How many of them hold; told, when none does, is what the nearest says. */
static uint64_t count(struct df_check_run *r, const struct visit *t, const struct df_node_list *all, size_t enough,
		      size_t *ret_nearest)
{
	uint64_t held = 0;
	unsigned best = 0, before = r->deepest;
	*ret_nearest = 0;
	for (size_t i = 0; i < all->n && held < enough && r->err == DF_OK; i++) {
		r->deepest = 0;
		if (quietly(r, t, all->item[i], t->v, t->seen)) {
			held++;
		} else if (r->deepest > best) {
			best = r->deepest;
			*ret_nearest = i;
		}
	}
	r->deepest = best > before ? best : before;
	return held;
}

static bool alternatives(struct df_check_run *r, const struct visit *t, const struct df_node_list *all, bool one)
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

static bool conditions(struct df_check_run *r, const struct visit *t)
{
	const struct df_node *n = t->node;
	bool ok = true;
	if (n->if_) {
		const struct df_node *then = quietly(r, t, n->if_, t->v, t->seen) ? n->then_ : n->else_;
		ok = !then || same(r, t, then);
	}
	if (n->not_ && quietly(r, t, n->not_, t->v, NULL))
		ok = df_check_say(r, t->at, "it fits what 'not' rules out");
	for (size_t i = 0; t->v->type == DF_JSON_OBJECT && i < n->dependents.n && (ok || r->loud); i++)
		if (has(r, t->v, n->dependents.item[i].key))
			ok = same(r, t, n->dependents.item[i].node) && ok;
	return ok;
}

/* $dynamicRef: the outermost resource on the way that has a dynamic anchor of that name. */
static const struct df_node *dynamic_target(const struct visit *t)
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

static bool in_place(struct df_check_run *r, const struct visit *t)
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

static bool unevaluated(struct df_check_run *r, const struct visit *t)
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
		mark(t, no);
		if (object && rule->is_bool && !rule->allows)
			ok = not_allowed(r, t, m->key);
		else
			ok = check(r, rule, m, &at, t->scope, NULL) && ok;
	}
	return ok;
}

/* --- the walk --- */

static bool kinds(struct df_check_run *r, const struct visit *t)
{
	switch (t->v->type) {
	case DF_JSON_STRING:
		return strings(r, t);
	case DF_JSON_NUMBER:
		return numbers(r, t);
	case DF_JSON_ARRAY:
		return arrays(r, t);
	case DF_JSON_OBJECT:
		return objects(r, t);
	default:
		return true;
	}
}

static bool node(struct df_check_run *r, const struct visit *t)
{
	bool ok = type_ok(r, t);
	if (ok || r->loud)
		ok = values(r, t) && ok;
	if (ok || r->loud)
		ok = kinds(r, t) && ok;
	if (ok || r->loud)
		ok = in_place(r, t) && ok;
	return ok && unevaluated(r, t);
}

/* Bits of its own when somebody asks, or when the schema itself does. */
static bool own_bits(struct df_check_run *r, struct visit *t, struct seen *mine)
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

static bool check(struct df_check_run *r, const struct df_node *n, const struct df_json *v,
		  const struct df_check_place *at, const struct df_check_scope *scope, struct seen *seen)
{
	struct seen mine = {NULL, 0};
	struct df_check_scope inner = {scope, n->resource};
	struct visit t = {n, v, at, scope && scope->resource == n->resource ? scope : &inner, seen};
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
	if (check(&r, schema->root, v, &top, NULL, NULL))
		return DF_OK;
	DF_TRY(r.err);
	if (why) { /* the same again, with words */
		r = (struct df_check_run){.arena = arena, .why = why, .work = DF_SCHEMA_WORK, .loud = true};
		(void)check(&r, schema->root, v, &top, NULL, NULL);
	}
	return DF_ERR_TYPE;
}
