// SPDX-License-Identifier: Apache-2.0
/*
 * schema_loops: schemas that lead back to themselves on one and the same value, so that no answer could ever be checked.
 *
 * DESIGN: edges are the keywords whose schemas look at the value itself ($ref, allOf, not, if, ...), not those that step into it (properties, items, ...);
 * a tree of objects that refers to itself is no loop. JSON has no cycles, so each loop goes through a reference, and a walk from every reference finds
 * all of them, with a stack of its own since chains may be as long as a schema. A $dynamicRef that is bound while checking is no edge: its loops end by the
 * check's own bounds.
 */
#include "worker/check/schema_compiler.h"

#define SHOWN 4 /* references of a loop that are named */

enum { WHITE, GREY, BLACK };

struct frame {
	struct df_node *node;
	size_t next; /* edge */
};

struct walk {
	struct df_schema_compiler *c;
	struct frame *stack;
	size_t n;
};

/* Edge number i; false: there are no more. */
static bool in_list(const struct df_node_list *list, size_t *i, struct df_node **ret)
{
	bool found = *i < list->n;
	if (found)
		*ret = list->item[*i];
	else
		*i -= list->n;
	return found;
}

static bool edge(const struct df_node *n, size_t i, struct df_node **ret)
{
	struct df_node *const single[] = {n->ref,  n->dynamic_name.n ? NULL : n->dynamic, n->not_, n->if_, n->then_,
					  n->else_};
	const size_t n_single = sizeof(single) / sizeof(single[0]);
	if (i < n_single) {
		*ret = single[i];
		return true;
	}
	i -= n_single;
	if (in_list(&n->all, &i, ret) || in_list(&n->any, &i, ret) || in_list(&n->one, &i, ret))
		return true;
	if (i >= n->dependents.n)
		return false;
	*ret = n->dependents.item[i].node;
	return true;
}

static const struct df_schema_pending *reference_of(const struct df_schema_compiler *c, const struct df_node *n,
						    const struct df_node *to)
{
	for (const struct df_schema_pending *p = c->pending; p; p = p->next)
		if (p->from == n && (p->dynamic ? n->dynamic : n->ref) == to)
			return p;
	return NULL;
}

/* The stack from `node` on is a loop; its references in their order. */
static enum df_err tell(const struct walk *w, const struct df_node *node)
{
	struct df_buf names;
	size_t from = 0, n = 0;
	while (w->stack[from].node != node)
		from++;
	df_buf_init(&names, 4096);
	for (size_t i = from; i < w->n; i++) {
		const struct df_node *to = i + 1 < w->n ? w->stack[i + 1].node : node;
		const struct df_schema_pending *p = reference_of(w->c, w->stack[i].node, to);
		if (!p || ++n > SHOWN)
			continue;
		if (n == 1) {
			df_buf_reset(&w->c->place);
			(void)df_buf_add_str(&w->c->place, p->place);
		}
		(void)df_buf_addf(&names, "%s%.*s", n > 1 ? ", " : "", (int)(p->place.n < 80 ? p->place.n : 80),
				  p->place.p);
	}
	enum df_err err = df_schema_bad(
		w->c, "it leads back to itself without a step into the value, so that no check would end (%s%s)",
		df_buf_z(&names), n > SHOWN ? ", ..." : "");
	df_buf_release(&names);
	return err;
}

static void push(struct walk *w, struct df_node *node)
{
	node->colour = GREY;
	w->stack[w->n++] = (struct frame){node, 0};
}

static enum df_err walk_from(struct walk *w, struct df_node *start)
{
	if (start->colour == WHITE)
		push(w, start);
	while (w->n) {
		struct frame *top = &w->stack[w->n - 1];
		struct df_node *to = NULL;
		if (!edge(top->node, top->next++, &to)) {
			top->node->colour = BLACK;
			w->n--;
		} else if (to && to->colour == GREY) {
			return tell(w, to);
		} else if (to && to->colour == WHITE) {
			push(w, to);
		}
	}
	return DF_OK;
}

enum df_err df_schema_find_loops(struct df_schema_compiler *c)
{
	struct walk w = {.c = c};
	if (!c->pending)
		return DF_OK;
	w.stack = df_arena_array(&c->schema->arena, c->n_seat + 1, sizeof(*w.stack)); /* each node is on it once */
	if (!w.stack)
		return df_schema_no_memory(c);
	for (struct df_schema_pending *p = c->pending; p; p = p->next)
		DF_TRY(walk_from(&w, p->from));
	return DF_OK;
}
