// SPDX-License-Identifier: Apache-2.0
/*
 * trace_read: lines become nodes, parents are made, all is sorted by time.
 *
 * DESIGN. A million calls are a few hundred megabytes of lines and three million spans: so a node is 64 bytes with a place in the mapped text, and the ids'
 * table is an array of indices. The file only ever grows, so a mapping of what was there stays good while a run goes on.
 */
#include "worker/trace/trace_read.h"

#include <stdlib.h>

#include "base/limits.h"

/* ------------------------------------------------------------------ nodes and their ids */

static uint32_t *slot_of(const struct df_trace_tree *t, uint64_t id)
{
	size_t i = (id * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & (t->n_slot - 1);
	while (t->slot[i] && t->node[t->slot[i] - 1].id != id)
		i = (i + 1) & (t->n_slot - 1);
	return &t->slot[i];
}

const struct df_trace_node *df_trace_find(const struct df_trace_tree *t, uint64_t id)
{
	size_t at = t->n_slot ? *slot_of(t, id) : 0;
	return at ? &t->node[at - 1] : NULL;
}

static enum df_err index_all(struct df_trace_tree *t, size_t n_slot)
{
	uint32_t *slot = calloc(n_slot, sizeof(*slot));
	if (!slot)
		return DF_ERR_NOMEM;
	free(t->slot);
	t->slot = slot;
	t->n_slot = n_slot;
	for (size_t i = 0; i < t->n; i++)
		*slot_of(t, t->node[i].id) = (uint32_t)(i + 1);
	return DF_OK;
}

/* An id that is there already (nobody's doing but a forger's) keeps its first node. */
static enum df_err add(struct df_trace_tree *t, const struct df_trace_node *node)
{
	if (t->n == t->cap) {
		size_t cap = t->cap ? t->cap * 2 : 1024;
		struct df_trace_node *p = cap > DF_TRACE_SPANS_MAX ? NULL : reallocarray(t->node, cap, sizeof(*p));
		if (!p)
			return cap > DF_TRACE_SPANS_MAX ? DF_ERR_LIMIT : DF_ERR_NOMEM;
		t->node = p;
		t->cap = cap;
	}
	if (2 * (t->n + 1) > t->n_slot)
		DF_TRY(index_all(t, t->n_slot ? t->n_slot * 2 : 4096));
	uint32_t *slot = slot_of(t, node->id);
	if (*slot)
		return DF_OK;
	t->node[t->n] = *node;
	*slot = (uint32_t)++t->n;
	return DF_OK;
}

/* ------------------------------------------------------------------ lines */

static enum df_err add_span(struct df_trace_tree *t, const struct df_trace_line *l, const struct df_span *s,
			    struct df_str text)
{
	return add(t, &(struct df_trace_node){
			      .id = s->id,
			      .parent = s->parent,
			      .run_id = l->run_id,
			      .start_ns = s->start_wall_ns,
			      .end_ns = s->start_wall_ns + s->duration_ns,
			      .line = (size_t)(text.p - t->file.text.p),
			      .line_bytes = (uint32_t)text.n,
			      .pid = (int32_t)l->pid,
			      .kind = (uint8_t)s->kind,
			      .last = s != &l->span,
		      });
}

static enum df_err add_lines(struct df_trace_tree *t)
{
	struct df_trace_line l;
	struct df_str text;
	while (df_trace_file_next(&t->file, &l, &text)) {
		if (text.n > UINT32_MAX) {
			t->file.torn++;
			continue;
		}
		DF_TRY(add_span(t, &l, &l.span, text));
		if (!l.has_last)
			continue;
		struct df_span last = df_trace_line_last(&l);
		DF_TRY(add_span(t, &l, &last, text));
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ parents */

static enum df_err line_at(struct df_trace_tree *t, const struct df_trace_node *n, struct df_trace_line *ret_line)
{
	struct df_str text = {t->file.text.p + n->line, n->line_bytes};
	if (t->latest_text.p != text.p) {
		t->latest_text = (struct df_str){NULL, 0};
		DF_TRY(df_trace_line_scan(text, &t->file.arena, &t->latest));
		t->latest_text = text;
	}
	*ret_line = t->latest;
	return DF_OK;
}

static struct df_trace_node parent_node(struct df_trace_tree *t, const struct df_trace_node *child)
{
	struct df_trace_node p = *child;
	struct df_trace_line l = {.pid = 0};
	(void)line_at(t, child, &l); /* it was one a moment ago */
	struct df_span *s = &l.span;
	p.made = true;
	p.last = false;
	p.id = child->parent;
	if (p.id == df_trace_run_id(child->run_id)) {
		p.kind = DF_SPAN_RUN;
		p.parent = 0;
	} else if (p.id == df_trace_stage_id(child->run_id, s->stage)) {
		p.kind = DF_SPAN_STAGE;
		p.parent = df_trace_run_id(child->run_id);
	} else if (child->kind == DF_SPAN_ATTEMPT) { /* its call was not over when its process was killed */
		p.kind = DF_SPAN_CALL;
		s->kind = DF_SPAN_CALL;
		p.parent = df_trace_parent(child->run_id, s);
	} else {
		p.kind = DF_SPAN_DOCUMENT;
		p.parent = df_trace_stage_id(child->run_id, s->stage);
	}
	if (p.kind == DF_SPAN_RUN || p.kind == DF_SPAN_STAGE)
		p.pid = 0;
	if (p.parent == p.id)
		p.parent = 0;
	return p;
}

/* Nodes that are made are at the end, so their parents are looked at too. */
static enum df_err make_parents(struct df_trace_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->node[i].parent == 0 || df_trace_find(t, t->node[i].parent))
			continue;
		struct df_trace_node p = parent_node(t, &t->node[i]);
		DF_TRY(add(t, &p));
	}
	return DF_OK;
}

/* A made node reaches as far as all below it. A circle of parents (a damaged file) ends after the depth that there can be. */
static void widen_made(struct df_trace_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		uint64_t up = t->node[i].parent;
		for (int depth = 0; up && depth < 2 * DF_N_SPAN_KIND; depth++) {
			size_t at = *slot_of(t, up);
			struct df_trace_node *p = at ? &t->node[at - 1] : NULL;
			if (!p)
				break;
			if (p->made && t->node[i].start_ns < p->start_ns)
				p->start_ns = t->node[i].start_ns;
			if (p->made && t->node[i].end_ns > p->end_ns)
				p->end_ns = t->node[i].end_ns;
			up = p->parent;
		}
	}
}

static int by_time(const void *x, const void *y)
{
	const struct df_trace_node *a = x, *b = y;
	if (a->start_ns != b->start_ns)
		return a->start_ns < b->start_ns ? -1 : 1;
	if (a->kind != b->kind) { /* outer kinds first: an attempt is in a call */
		static const uint8_t rank[DF_N_SPAN_KIND] = {3, 4, 2, 1, 0};
		return rank[a->kind] < rank[b->kind] ? -1 : 1;
	}
	return a->id < b->id ? -1 : a->id > b->id;
}

/* ------------------------------------------------------------------ the whole */

enum df_err df_trace_load(const char *path, struct df_trace_tree *ret_tree, struct df_fail *fail)
{
	struct df_trace_tree t = {.n = 0};
	DF_TRY(df_trace_file_open(path, false, &t.file, fail));
	enum df_err err = index_all(&t, 4096);
	if (err == DF_OK)
		err = add_lines(&t);
	if (err == DF_OK)
		err = make_parents(&t);
	if (err == DF_OK) {
		widen_made(&t);
		if (t.n)
			qsort(t.node, t.n, sizeof(*t.node), by_time);
		err = index_all(&t, t.n_slot);
	}
	if (err != DF_OK) {
		df_trace_release(&t);
		return df_fail(fail, err,
			       err == DF_ERR_LIMIT ? "the trace '%.500s' has too many spans"
						   : "out of memory for the trace '%.500s'",
			       path);
	}
	*ret_tree = t;
	return DF_OK;
}

void df_trace_release(struct df_trace_tree *t)
{
	df_trace_file_close(&t->file);
	free(t->node);
	free(t->slot);
	*t = (struct df_trace_tree){.n = 0};
}

enum df_err df_trace_span(struct df_trace_tree *t, const struct df_trace_node *node, struct df_span *ret)
{
	struct df_trace_line l;
	if (line_at(t, node, &l) != DF_OK)
		return DF_ERR_CORRUPT; /* the file was changed under us */
	struct df_span s = node->last ? df_trace_line_last(&l) : l.span;
	if (node->made) {
		const struct df_span below = s;
		s = (struct df_span){.kind = (enum df_span_kind)node->kind, .doc_id = s.doc_id, .stage = s.stage};
		if (node->kind == DF_SPAN_CALL) {
			s.model = below.model;
			s.provider = below.provider;
			s.inputs = below.inputs;
		}
		if (node->kind == DF_SPAN_RUN || node->kind == DF_SPAN_STAGE)
			s.doc_id = (struct df_str){NULL, 0};
		if (node->kind == DF_SPAN_RUN)
			s.stage = (struct df_str){NULL, 0};
		s.class = node->kind == DF_SPAN_CALL ? DF_CALL_RETRY : DF_CALL_OK;
	}
	if (!s.name.n)
		s.name = df_trace_span_name(&s, t->name);
	s.id = node->id;
	s.parent = node->parent;
	s.start_wall_ns = node->start_ns;
	s.duration_ns = node->end_ns - node->start_ns;
	*ret = s;
	return DF_OK;
}
