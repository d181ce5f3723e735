// SPDX-License-Identifier: Apache-2.0
/* schema_children: the rules that look at a value's children, and lead the walk to them: items of arrays, members of objects, how many there are, what they are called. */
#include "worker/check/schema_walk.h"

DF_CHECK_LEAF bool df_check_wrong_count(struct df_check_run *r, const struct df_check_visit *t,
					const struct df_node_range *range, uint64_t n, const char *what)
{
	bool few = n < range->min;
	return df_check_say(r, t->at, "%llu %s; %s %llu %s required", (unsigned long long)n, what,
			    few ? "at least" : "at most", (unsigned long long)(few ? range->min : range->max),
			    few ? "are" : "may be there, no more are");
}

/* --- arrays --- */

static bool contains(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	uint64_t found = 0;
	size_t no = 0;
	if (!n->contains)
		return true;
	for (const struct df_json *m = t->v->child; m && r->err == DF_OK; m = m->next, no++)
		if (df_check_quietly(r, t, n->contains, m, NULL)) {
			found++;
			df_check_mark(t, no);
		}
	if (df_check_in_range(&n->contains_n, found))
		return true;
	return df_check_wrong_count(r, t, &n->contains_n, found, "items fit what 'contains' asks for");
}

static bool item(struct df_check_run *r, const struct df_check_visit *t, const struct df_node *n,
		 const struct df_json *m, size_t no)
{
	struct df_check_place at = {t->at, {NULL, 0}, no, t->at->depth + 1};
	df_check_mark(t, no);
	return df_check_node(r, n, m, &at, t->scope, NULL);
}

bool df_check_arrays(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	size_t no = 0, first = 0, second = 0;
	bool ok = df_check_in_range(&n->items_n, t->v->n) || df_check_wrong_count(r, t, &n->items_n, t->v->n, "items");
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

bool df_check_has(struct df_check_run *r, const struct df_json *object, struct df_str key)
{
	for (const struct df_json *m = object->child; m; m = m->next)
		if (!df_check_pay(r, 1) || df_str_eq(m->key, key))
			return true; /* when it is paid out, the walk is over anyway */
	return false;
}

static DF_CHECK_LEAF bool required(struct df_check_run *r, const struct df_check_visit *t, const struct df_json *names,
				   struct df_str because)
{
	char z[DF_CHECK_SHORT], y[DF_CHECK_SHORT];
	bool ok = true;
	for (const struct df_json *k = names ? names->child : NULL; k && (ok || r->loud); k = k->next) {
		if (df_check_has(r, t->v, k->string))
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

DF_CHECK_LEAF bool df_check_not_allowed(struct df_check_run *r, const struct df_check_visit *t, struct df_str key)
{
	char z[DF_CHECK_SHORT];
	return df_check_say(r, t->at, "the property %s is not allowed; leave it out", df_check_short_key(key, z));
}

static DF_CHECK_LEAF bool wrong_name(struct df_check_run *r, const struct df_check_visit *t, struct df_str key)
{
	char z[DF_CHECK_SHORT];
	return df_check_say(r, t->at, "a property may not be called %s", df_check_short_key(key, z));
}

/* The schemas that a member's name leads to. */
static bool property(struct df_check_run *r, const struct df_check_visit *t, const struct df_json *m, size_t no)
{
	const struct df_node *n = t->node;
	struct df_check_place at = {t->at, m->key, 0, t->at->depth + 1};
	const struct df_node_member *own = find(&n->properties, m->key);
	bool named = own, ok = true;
	at.key.p = at.key.p ? at.key.p : "";
	if (own)
		ok = df_check_node(r, own->node, m, &at, t->scope, NULL);
	for (size_t i = 0; i < n->patterns.n && (ok || r->loud) && r->err == DF_OK; i++)
		if (df_check_matches(r, n->patterns.item[i].pattern, m->key)) {
			named = true;
			ok = df_check_node(r, n->patterns.item[i].node, m, &at, t->scope, NULL) && ok;
		}
	if (!named && n->additional && n->additional->is_bool && !n->additional->allows)
		ok = df_check_not_allowed(r, t, m->key);
	else if (!named && n->additional)
		ok = df_check_node(r, n->additional, m, &at, t->scope, NULL);
	if (named || n->additional)
		df_check_mark(t, no);
	return ok;
}

static bool property_name(struct df_check_run *r, const struct df_check_visit *t, struct df_str key)
{
	struct df_json name = {.type = DF_JSON_STRING, .string = key, .raw = key};
	struct df_check_place at = {t->at, key, 0, t->at->depth + 1};
	at.key.p = at.key.p ? at.key.p : "";
	if (df_check_node(r, t->node->names, &name, &at, t->scope, NULL))
		return true;
	return wrong_name(r, t, key);
}

bool df_check_objects(struct df_check_run *r, const struct df_check_visit *t)
{
	const struct df_node *n = t->node;
	size_t no = 0;
	bool ok = df_check_in_range(&n->members_n, t->v->n) ||
		  df_check_wrong_count(r, t, &n->members_n, t->v->n, "properties");
	bool looks = n->properties.n || n->patterns.n || n->additional;
	ok = required(r, t, n->required, (struct df_str){NULL, 0}) && ok;
	for (size_t i = 0; i < n->needs.n && (ok || r->loud); i++)
		if (df_check_has(r, t->v, n->needs.item[i].key))
			ok = required(r, t, n->needs.item[i].needed, n->needs.item[i].key) && ok;
	for (const struct df_json *m = t->v->child; m && (ok || r->loud) && r->err == DF_OK; m = m->next, no++) {
		ok = (!looks || property(r, t, m, no)) && ok;
		ok = (!n->names || property_name(r, t, m->key)) && ok;
	}
	return ok;
}
