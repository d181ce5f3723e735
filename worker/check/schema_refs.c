// SPDX-License-Identifier: Apache-2.0
/*
 * schema_refs: names of schemas and what they stand for.
 *
 * DESIGN: while keywords are read, names are only noted; references are looked up afterwards, so that one may point forward. One that points at a
 * place that is no schema by its keyword (below "definitions", say) has it compiled then, which may bring new references: the list is worked off
 * until it is empty.
 */
#include "worker/check/schema_compiler.h"
#include "worker/check/uri.h"

static size_t seat_at(const struct df_schema_compiler *c, const struct df_json *json)
{
	size_t i = (size_t)((uintptr_t)json * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (c->cap_seat - 1);
	while (c->seat[i].json && c->seat[i].json != json)
		i = (i + 1) & (c->cap_seat - 1);
	return i;
}

struct df_node *df_schema_seat_of(const struct df_schema_compiler *c, const struct df_json *json)
{
	return c->cap_seat ? c->seat[seat_at(c, json)].node : NULL;
}

enum df_err df_schema_take_seat(struct df_schema_compiler *c, const struct df_json *json, struct df_node *node)
{
	if (c->n_seat * 2 >= c->cap_seat) {
		struct df_schema_seat *old = c->seat;
		size_t n = c->cap_seat, cap = n ? n * 2 : 64;
		struct df_schema_seat *more = df_arena_zalloc(&c->schema->arena, cap * sizeof(*more));
		if (!more)
			return df_schema_no_memory(c);
		c->seat = more;
		c->cap_seat = cap;
		for (size_t i = 0; i < n; i++)
			if (old[i].json)
				c->seat[seat_at(c, old[i].json)] = old[i];
	}
	size_t i = seat_at(c, json);
	c->n_seat += !c->seat[i].json;
	c->seat[i] = (struct df_schema_seat){json, node};
	return DF_OK;
}

static struct df_schema_resource *known(const struct df_schema_compiler *c, struct df_str uri)
{
	for (struct df_schema_resource *r = c->schema->resource; r; r = r->next)
		if (df_str_eq(r->uri, uri) || (r->alias.p && df_str_eq(r->alias, uri)))
			return r;
	return NULL;
}

enum df_err df_schema_add_resource(struct df_schema_compiler *c, struct df_str uri, const struct df_json *root,
				   struct df_schema_resource **ret_resource)
{
	if (known(c, uri))
		return df_schema_bad(c, "two schemas are called '%.*s'", (int)(uri.n < 200 ? uri.n : 200), uri.p);
	struct df_schema_resource *r = df_arena_zalloc(&c->schema->arena, sizeof(*r));
	if (!r)
		return df_schema_no_memory(c);
	r->uri = uri;
	r->root = root;
	r->next = c->schema->resource;
	c->schema->resource = r;
	*ret_resource = r;
	return DF_OK;
}

static struct df_schema_anchor *anchor(const struct df_schema_resource *r, struct df_str name)
{
	struct df_schema_anchor *a = r->anchor;
	while (a && !df_str_eq(a->name, name))
		a = a->next;
	return a;
}

enum df_err df_schema_add_anchor(struct df_schema_compiler *c, struct df_node *node, struct df_str name, bool dynamic)
{
	struct df_schema_anchor *a = anchor(node->resource, name);
	if (a && a->node != node)
		return df_schema_bad(c, "the anchor '%.*s' is there twice", (int)(name.n < 200 ? name.n : 200), name.p);
	if (a) {
		a->dynamic |= dynamic;
		return DF_OK;
	}
	a = df_arena_zalloc(&c->schema->arena, sizeof(*a));
	if (!a)
		return df_schema_no_memory(c);
	*a = (struct df_schema_anchor){name, node, dynamic, node->resource->anchor};
	node->resource->anchor = a;
	return DF_OK;
}

enum df_err df_schema_add_reference(struct df_schema_compiler *c, struct df_node *from, struct df_str reference,
				    bool dynamic)
{
	struct df_schema_pending *p = df_arena_zalloc(&c->schema->arena, sizeof(*p));
	if (!p)
		return df_schema_no_memory(c);
	p->from = from;
	p->dynamic = dynamic;
	p->uri = df_uri_resolve(from->base, reference, &c->schema->arena);
	p->place = df_arena_copy(&c->schema->arena, df_buf_str(&c->place));
	if (!p->uri.p || !p->place.p)
		return df_schema_no_memory(c);
	*c->tail = p;
	c->tail = &p->next;
	return DF_OK;
}

/* A document that was given along. */
static enum df_err bring_in(struct df_schema_compiler *c, const struct df_schema_doc *doc,
			    struct df_schema_resource **ret)
{
	struct df_json *json = NULL;
	struct df_node *node = NULL;
	struct df_schema_resource *r = NULL;
	struct df_str text = df_arena_copy(&c->schema->arena, doc->text);
	struct df_str uri = df_arena_copy(&c->schema->arena, doc->uri);
	if (!text.p || !uri.p)
		return df_schema_no_memory(c);
	DF_TRY(df_json_parse(text, &c->schema->arena, &json, c->fail));
	DF_TRY(df_schema_add_resource(c, uri, json, &r));
	DF_TRY(df_schema_walk(c, json, uri, r, &node));
	r->node = node;
	*ret = node->resource; /* its own $id, when it has one */
	return DF_OK;
}

static enum df_err find_resource(struct df_schema_compiler *c, const struct df_schema_pending *p, struct df_str uri,
				 struct df_schema_resource **ret)
{
	struct df_schema_resource *r = known(c, uri);
	for (size_t i = 0; !r && i < c->n_doc; i++)
		if (df_str_eq(c->doc[i].uri, uri))
			DF_TRY(bring_in(c, &c->doc[i], &r));
	if (!r)
		return df_schema_bad(c, "it refers to '%.*s', which is not in this document; nothing is fetched",
				     (int)(uri.n < 200 ? uri.n : 200), uri.p);
	(void)p;
	*ret = r;
	return DF_OK;
}

/* One step of a JSON pointer (already decoded from %), with ~0 and ~1. */
static bool step_is(struct df_str key, struct df_str step)
{
	size_t k = 0;
	for (size_t i = 0; i < step.n; i++, k++) {
		char c = step.p[i];
		if (c == '~' && i + 1 < step.n && (step.p[i + 1] == '0' || step.p[i + 1] == '1'))
			c = step.p[++i] == '0' ? '~' : '/';
		if (k >= key.n || key.p[k] != c)
			return false;
	}
	return k == key.n;
}

static const struct df_json *step_into(const struct df_json *v, struct df_str step)
{
	const struct df_json *found = NULL;
	if (v->type != DF_JSON_OBJECT)
		return df_json_item(v, step);
	for (const struct df_json *m = v->child; m; m = m->next)
		if (step_is(m->key, step))
			found = m;
	return found;
}

static enum df_err by_pointer(struct df_schema_compiler *c, struct df_schema_resource *r, struct df_str pointer,
			      struct df_node **ret)
{
	const struct df_json *v = r->root;
	struct df_node *holder = r->node ? r->node : df_schema_seat_of(c, v);
	for (size_t i = 0; i < pointer.n;) {
		size_t end = ++i;
		while (end < pointer.n && pointer.p[end] != '/')
			end++;
		v = step_into(v, (struct df_str){pointer.p + i, end - i});
		if (!v)
			return df_schema_bad(c, "it refers to '#%.*s', where nothing is",
					     (int)(pointer.n < 200 ? pointer.n : 200), pointer.p);
		struct df_node *here = df_schema_seat_of(c, v);
		holder = here ? here : holder;
		i = end;
	}
	return df_schema_walk(c, v, holder->base, holder->resource, ret);
}

static enum df_err look_up(struct df_schema_compiler *c, const struct df_schema_pending *p)
{
	struct df_str main, fragment;
	struct df_schema_resource *r = NULL;
	struct df_node *to = NULL;
	struct df_str dynamic_name = {NULL, 0};
	df_uri_split(p->uri, &main, &fragment);
	DF_TRY(find_resource(c, p, main, &r));
	if (fragment.n) {
		fragment = df_uri_decode(fragment, &c->schema->arena);
		if (!fragment.p)
			return df_schema_no_memory(c);
	}
	if (fragment.n && fragment.p[0] != '/') {
		struct df_schema_anchor *a = anchor(r, fragment);
		if (!a)
			return df_schema_bad(c, "it refers to '#%.*s', which nothing is called",
					     (int)(fragment.n < 200 ? fragment.n : 200), fragment.p);
		to = a->node;
		if (a->dynamic)
			dynamic_name = a->name;
	} else {
		DF_TRY(by_pointer(c, r, fragment, &to));
	}
	if (p->dynamic) {
		p->from->dynamic = to;
		p->from->dynamic_name = dynamic_name;
	} else {
		p->from->ref = to;
	}
	return DF_OK;
}

enum df_err df_schema_link(struct df_schema_compiler *c)
{
	for (struct df_schema_pending *p = c->pending; p; p = p->next) {
		df_buf_reset(&c->place);
		(void)df_buf_add_str(&c->place, p->place);
		DF_TRY(look_up(c, p));
	}
	return DF_OK;
}
