// SPDX-License-Identifier: Apache-2.0
/*
 * trace_summary: a table of calls by model and outcome. Percentiles are of all values, by nearest rank: nothing is sampled.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "worker/call/trace_export.h"

#define GROUPS_MAX 512
#define NAME_BYTES 64

struct group {
	char model[NAME_BYTES];
	enum df_call_class class;
	uint64_t calls, cached, attempts, in, cached_in, out;
	double usd;
	uint64_t *latency, *queue; /* of calls that were sent */
	size_t n, cap;
};

struct table {
	struct group *group;
	size_t n;
	uint64_t attempts, unfinished, documents;
};

static struct group *group_of(struct table *t, const struct df_span *s)
{
	char model[NAME_BYTES];
	struct df_str m = s->model.n ? s->model : DF_STR("-");
	if (m.n >= NAME_BYTES)
		m.n = NAME_BYTES - 1;
	m.n = df_str_utf8_prefix(m);
	(void)snprintf(model, sizeof(model), DF_STR_FMT, DF_STR_ARG(m));
	for (size_t i = 0; i < t->n; i++)
		if (t->group[i].class == s->class && strcmp(t->group[i].model, model) == 0)
			return &t->group[i];
	if (t->n == GROUPS_MAX)
		return &t->group[GROUPS_MAX - 1]; /* so many models are no table any more */
	struct group *g = &t->group[t->n++];
	*g = (struct group){.class = s->class};
	memcpy(g->model, model, sizeof(model));
	return g;
}

static enum df_err add_times(struct group *g, const struct df_span *s)
{
	if (g->n == g->cap) {
		size_t cap = g->cap ? g->cap * 2 : 64;
		uint64_t *latency = reallocarray(g->latency, cap, sizeof(*latency));
		if (latency)
			g->latency = latency;
		uint64_t *queue = reallocarray(g->queue, cap, sizeof(*queue));
		if (queue)
			g->queue = queue;
		if (!latency || !queue)
			return DF_ERR_NOMEM;
		g->cap = cap;
	}
	g->latency[g->n] = s->duration_ns;
	g->queue[g->n++] = s->queue_ns;
	return DF_OK;
}

static enum df_err add_call(struct table *t, const struct df_span *s)
{
	struct group *g = group_of(t, s);
	g->calls++;
	g->cached += s->cached;
	g->attempts += s->attempt;
	g->in += s->cached ? 0 : s->usage.in;
	g->cached_in += s->cached ? 0 : s->usage.cached_in;
	g->out += s->cached ? 0 : s->usage.out;
	g->usd += isfinite(s->usd) ? s->usd : 0;
	return s->cached ? DF_OK : add_times(g, s);
}

static enum df_err collect(struct df_trace_tree *tree, struct table *t)
{
	for (size_t i = 0; i < tree->n; i++) {
		const struct df_trace_node *n = &tree->node[i];
		struct df_span s;
		t->attempts += n->kind == DF_SPAN_ATTEMPT;
		t->documents += n->kind == DF_SPAN_DOCUMENT;
		t->unfinished += n->kind == DF_SPAN_CALL && n->made;
		if (n->kind != DF_SPAN_CALL || n->made)
			continue;
		DF_TRY(df_trace_span(tree, n, &s));
		DF_TRY(add_call(t, &s));
	}
	return DF_OK;
}

static int by_value(const void *x, const void *y)
{
	const uint64_t *a = x, *b = y;
	return *a < *b ? -1 : *a > *b;
}

static int by_model(const void *x, const void *y)
{
	const struct group *a = x, *b = y;
	int order = strcmp(a->model, b->model);
	return order ? order : (int)a->class - (int)b->class;
}

/* Nearest rank of a sorted list. */
static uint64_t rank(const uint64_t *v, size_t n, unsigned percent)
{
	return n ? v[(n * percent + 99) / 100 - 1] : 0;
}

static const char *time_text(uint64_t ns, char z[16])
{
	double s = (double)ns / 1e9;
	(void)snprintf(z, 16, s < 1 ? "%.1f ms" : s < 100 ? "%.2f s" : "%.0f s", s < 1 ? s * 1e3 : s);
	return z;
}

static void add_row(const struct group *g, struct df_buf *out)
{
	char z[5][16];
	(void)df_buf_addf(out, "%-28s %-10s %8llu %7llu %9s %9s %9s %9s %9s %11llu %10llu %12.6f\n", g->model,
			  df_call_class_name(g->class), (unsigned long long)g->calls, (unsigned long long)g->cached,
			  time_text(rank(g->latency, g->n, 50), z[0]), time_text(rank(g->latency, g->n, 90), z[1]),
			  time_text(rank(g->latency, g->n, 99), z[2]), time_text(rank(g->queue, g->n, 50), z[3]),
			  time_text(rank(g->queue, g->n, 99), z[4]), (unsigned long long)g->in,
			  (unsigned long long)g->out, g->usd);
}

static void add_sum(const struct df_trace_tree *tree, const struct table *t, struct df_buf *out)
{
	uint64_t calls = 0, cached = 0, in = 0, tokens_out = 0;
	double usd = 0;
	char z[16];
	for (size_t i = 0; i < t->n; i++) {
		calls += t->group[i].calls;
		cached += t->group[i].cached;
		in += t->group[i].in;
		tokens_out += t->group[i].out;
		usd += t->group[i].usd;
	}
	uint64_t end = 0;
	for (size_t i = 0; i < tree->n; i++)
		end = tree->node[i].end_ns > end ? tree->node[i].end_ns : end;
	(void)df_buf_addf(out,
			  "\n%llu calls of %llu documents in %s: %llu from the cache, %llu requests sent, %llu tokens "
			  "in, %llu out, "
			  "%.6f USD\n",
			  (unsigned long long)calls, (unsigned long long)t->documents,
			  time_text(tree->n ? end - tree->node[0].start_ns : 0, z), (unsigned long long)cached,
			  (unsigned long long)t->attempts, (unsigned long long)in, (unsigned long long)tokens_out, usd);
	if (t->unfinished)
		(void)df_buf_addf(out, "%llu calls were not over when their process ended\n",
				  (unsigned long long)t->unfinished);
	if (tree->torn)
		(void)df_buf_addf(out, "%llu lines of the trace are torn and were passed over\n",
				  (unsigned long long)tree->torn);
	if (tree->left_out)
		(void)df_buf_addf(out, "%llu spans are missing: there was no room for them\n",
				  (unsigned long long)tree->left_out);
}

static void print(const struct df_trace_tree *tree, struct table *t, struct df_buf *out)
{
	qsort(t->group, t->n, sizeof(*t->group), by_model);
	(void)df_buf_addf(out, "%-28s %-10s %8s %7s %9s %9s %9s %9s %9s %11s %10s %12s\n", "MODEL", "CLASS", "CALLS",
			  "CACHED", "P50", "P90", "P99", "QUEUE P50", "P99", "TOKENS IN", "OUT", "USD");
	for (size_t i = 0; i < t->n; i++) {
		struct group *g = &t->group[i];
		if (g->n) {
			qsort(g->latency, g->n, sizeof(*g->latency), by_value);
			qsort(g->queue, g->n, sizeof(*g->queue), by_value);
		}
		add_row(g, out);
	}
	add_sum(tree, t, out);
}

enum df_err df_trace_summary(struct df_trace_tree *tree, struct df_buf *out)
{
	struct table t = {.group = calloc(GROUPS_MAX, sizeof(struct group))};
	enum df_err err = t.group ? collect(tree, &t) : DF_ERR_NOMEM;
	if (err == DF_OK)
		print(tree, &t, out);
	for (size_t i = 0; t.group && i < t.n; i++) {
		free(t.group[i].latency);
		free(t.group[i].queue);
	}
	free(t.group);
	return err == DF_OK ? df_buf_err(out) : err;
}
