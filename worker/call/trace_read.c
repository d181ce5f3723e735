// SPDX-License-Identifier: Apache-2.0
/*
 * trace_read: lines become nodes, parents are made, all is sorted by time.
 *
 * DESIGN. A million calls are a few hundred megabytes of lines: so a node is 80 bytes with a place in the mapped text, and the ids' table is an array
 * of indices. The file only ever grows, so a mapping of what was there stays good while a run goes on.
 */
#include "worker/call/trace_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/limits.h"

#define LINE_ARENA ((size_t)1 << 20)
#define BEGIN "{\"span\":\""

/* ------------------------------------------------------------------ one line */

static uint64_t hex(struct df_str s)
{
	uint64_t v = 0;
	for (size_t i = 0; i < s.n && s.n <= 16; i++) {
		char c = s.p[i];
		unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
				 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
							: 16;
		if (digit == 16)
			return 0;
		v = v << 4 | digit;
	}
	return v;
}

static enum df_span_kind kind_of(struct df_str word)
{
	int k = 0;
	while (k < DF_N_SPAN_KIND && !df_str_is(word, df_span_kind_name((enum df_span_kind)k)))
		k++;
	return (enum df_span_kind)k;
}

static enum df_call_class class_of(struct df_str word)
{
	for (int c = 0; c < DF_N_CALL_CLASS; c++)
		if (df_str_is(word, df_call_class_name((enum df_call_class)c)))
			return (enum df_call_class)c;
	return DF_CALL_BAD_ANSWER;
}

static bool truth(const struct df_json *o, const char *key)
{
	const struct df_json *v = df_json_get(o, key);
	return v && v->type == DF_JSON_BOOL && v->boolean;
}

static double number(const struct df_json *o, const char *key)
{
	const struct df_json *v = df_json_get(o, key);
	return v && v->type == DF_JSON_NUMBER ? v->number : 0;
}

static struct df_span span_of(const struct df_json *o)
{
	bool attempt = df_json_get(o, "attempt") != NULL;
	return (struct df_span){
		.kind = kind_of(df_json_get_str(o, "kind")),
		.id = hex(df_json_get_str(o, "span")),
		.parent = hex(df_json_get_str(o, "parent")),
		.name = df_json_get_str(o, "name"),
		.doc_id = df_json_get_str(o, "doc"),
		.stage = df_json_get_str(o, "stage"),
		.model = df_json_get_str(o, "model"),
		.provider = df_json_get_str(o, "provider"),
		.start_wall_ns = df_json_get_u64(o, "start_ns", 0),
		.duration_ns = df_json_get_u64(o, "duration_ns", 0),
		.queue_ns = df_json_get_u64(o, "queue_ns", 0),
		.first_token_ns = df_json_get_u64(o, "first_token_ns", 0),
		.attempt = (uint32_t)df_json_get_u64(o, attempt ? "attempt" : "attempts", 0),
		.status = (uint32_t)df_json_get_u64(o, "status", 0),
		.inputs = (uint32_t)df_json_get_u64(o, "inputs", 0),
		.usage = {df_json_get_u64(o, "in", 0), df_json_get_u64(o, "cached_in", 0), df_json_get_u64(o, "out", 0),
			  !truth(o, "estimated")},
		.usd = number(o, "usd"),
		.cached = truth(o, "cached"),
		.class = class_of(df_json_get_str(o, "class")),
	};
}

static const struct df_json *parse(struct df_trace_tree *t, struct df_str line)
{
	struct df_json *root = NULL;
	df_arena_reset(&t->arena);
	return df_json_parse(line, &t->arena, &root, NULL) == DF_OK && root->type == DF_JSON_OBJECT ? root : NULL;
}

/* ------------------------------------------------------------------ nodes and their ids */

static size_t *slot_of(const struct df_trace_tree *t, uint64_t id)
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
	size_t *slot = calloc(n_slot, sizeof(*slot));
	if (!slot)
		return DF_ERR_NOMEM;
	free(t->slot);
	t->slot = slot;
	t->n_slot = n_slot;
	for (size_t i = 0; i < t->n; i++)
		*slot_of(t, t->node[i].id) = i + 1;
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
	size_t *slot = slot_of(t, node->id);
	if (*slot)
		return DF_OK;
	t->node[t->n] = *node;
	*slot = ++t->n;
	return DF_OK;
}

/* ------------------------------------------------------------------ lines */

static enum df_err add_line(struct df_trace_tree *t, struct df_str line)
{
	const struct df_json *o = parse(t, line);
	uint64_t left_out = df_json_get_u64(o, "left_out", 0);
	if (o && left_out) {
		t->left_out += left_out;
		return DF_OK;
	}
	struct df_span s = o ? span_of(o) : (struct df_span){.kind = DF_N_SPAN_KIND};
	if (s.kind == DF_N_SPAN_KIND || s.id == 0 || s.duration_ns > UINT64_MAX - s.start_wall_ns) {
		t->torn++;
		return DF_OK;
	}
	return add(t, &(struct df_trace_node){
			      .id = s.id,
			      .parent = s.parent == s.id ? 0 : s.parent,
			      .run_id = hex(df_json_get_str(o, "run")),
			      .start_ns = s.start_wall_ns,
			      .end_ns = s.start_wall_ns + s.duration_ns,
			      .line = (size_t)(line.p - t->text.p),
			      .line_bytes = line.n,
			      .pid = (int32_t)df_json_get_u64(o, "pid", 0),
			      .kind = (uint8_t)s.kind,
		      });
}

/* What a killed process left of its last line stands right before another's first: a line begins where it says so last. */
static struct df_str untorn(struct df_trace_tree *t, struct df_str line)
{
	size_t n = sizeof(BEGIN) - 1;
	for (size_t i = line.n; i-- > 1;)
		if (line.n - i >= n && memcmp(line.p + i, BEGIN, n) == 0) {
			t->torn++;
			return (struct df_str){line.p + i, line.n - i};
		}
	return line;
}

static enum df_err add_lines(struct df_trace_tree *t)
{
	const char *p = t->text.p, *end = t->text.n ? p + t->text.n : p;
	while (p < end) {
		const char *stop = memchr(p, '\n', (size_t)(end - p));
		struct df_str line = {p, (size_t)((stop ? stop : end) - p)};
		if (line.n)
			DF_TRY(add_line(t, untorn(t, line)));
		p = stop ? stop + 1 : end;
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ parents */

static struct df_trace_node parent_node(struct df_trace_tree *t, const struct df_trace_node *child)
{
	struct df_trace_node p = *child;
	const struct df_json *o = parse(t, (struct df_str){t->text.p + child->line, child->line_bytes});
	struct df_span s = span_of(o);
	p.made = true;
	p.id = child->parent;
	if (p.id == df_trace_run_id(child->run_id)) {
		p.kind = DF_SPAN_RUN;
		p.parent = 0;
	} else if (p.id == df_trace_stage_id(child->run_id, s.stage)) {
		p.kind = DF_SPAN_STAGE;
		p.parent = df_trace_run_id(child->run_id);
	} else if (child->kind == DF_SPAN_ATTEMPT) { /* its call was not over when its process was killed */
		p.kind = DF_SPAN_CALL;
		p.parent = s.doc_id.n ? df_trace_document_id(child->run_id, s.stage, s.doc_id)
				      : df_trace_stage_id(child->run_id, s.stage);
	} else {
		p.kind = DF_SPAN_DOCUMENT;
		p.parent = df_trace_stage_id(child->run_id, s.stage);
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

static enum df_err map_file(const char *path, struct df_str *ret_text, struct df_fail *fail)
{
	char name[4096 + 16];
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		(void)snprintf(name, sizeof(name), "%.4095s/trace.jsonl", path);
	else
		(void)snprintf(name, sizeof(name), "%.4095s", path);
	int fd = TEMP_FAILURE_RETRY(open(name, O_RDONLY | O_CLOEXEC));
	if (fd < 0 && errno == ENOENT)
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "there is no trace '%.500s': only runs whose stages call models have one", name);
	if (fd < 0 || fstat(fd, &st) != 0) {
		enum df_err err = df_fail_errno(fail, "cannot read the trace '%.500s'", name);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	void *p = st.st_size > 0 ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
	enum df_err err = p == MAP_FAILED ? df_fail_errno(fail, "cannot read the trace '%.500s'", name) : DF_OK;
	(void)close(fd);
	if (err == DF_OK)
		*ret_text = (struct df_str){p, st.st_size > 0 ? (size_t)st.st_size : 0};
	return err;
}

enum df_err df_trace_load(const char *path, struct df_trace_tree *ret_tree, struct df_fail *fail)
{
	struct df_trace_tree t = {.n = 0};
	DF_TRY(map_file(path, &t.text, fail));
	df_arena_init(&t.arena, LINE_ARENA, LINE_ARENA);
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
	if (t->text.n)
		(void)munmap((void *)(uintptr_t)t->text.p, t->text.n);
	free(t->node);
	free(t->slot);
	df_arena_release(&t->arena);
	*t = (struct df_trace_tree){.n = 0};
}

enum df_err df_trace_span(struct df_trace_tree *t, const struct df_trace_node *node, struct df_span *ret)
{
	const struct df_json *o = parse(t, (struct df_str){t->text.p + node->line, node->line_bytes});
	if (!o)
		return DF_ERR_CORRUPT; /* the file was changed under us */
	struct df_span s = span_of(o);
	if (node->made) {
		s = (struct df_span){.kind = (enum df_span_kind)node->kind, .doc_id = s.doc_id, .stage = s.stage};
		if (node->kind == DF_SPAN_RUN || node->kind == DF_SPAN_STAGE)
			s.doc_id = (struct df_str){NULL, 0};
		if (node->kind == DF_SPAN_RUN)
			s.stage = (struct df_str){NULL, 0};
		s.name = node->kind == DF_SPAN_STAGE ? s.stage : df_str_from(df_span_kind_name(s.kind));
		s.class = node->kind == DF_SPAN_CALL ? DF_CALL_RETRY : DF_CALL_OK;
	}
	s.id = node->id;
	s.parent = node->parent;
	s.start_wall_ns = node->start_ns;
	s.duration_ns = node->end_ns - node->start_ns;
	*ret = s;
	return DF_OK;
}
