// SPDX-License-Identifier: Apache-2.0
/*
 * trace_summary: a table of calls by model and outcome, in one pass over the lines. Percentiles are of all values, by nearest rank: nothing is sampled.
 *
 * DESIGN. No tree is made for it: a call is two numbers in its group and its ids in two sets, 50 bytes or so, and pages that were read are given back. An
 * attempt with a line of its own is told before its call, mostly; so those whose call did not come yet wait in a small set, and what is left in it at the
 * end was not over.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "worker/trace/trace_export.h"
#include "worker/trace/trace_ids.h"

#define GROUPS_MAX 512
#define NAME_BYTES 64

struct group {
	char model[NAME_BYTES];
	size_t n_model;
	enum df_call_class class;
	uint64_t calls, cached, attempts, in, cached_in, out;
	double usd;
	uint64_t *latency, *queue; /* of calls that were sent */
	size_t n, cap;
};

struct table {
	struct group *group, *latest;
	size_t n;
	uint64_t attempts, torn, left_out;
	uint64_t begin_ns, end_ns;
	struct df_trace_ids calls, documents;
	struct df_trace_ids open; /* calls that have attempts and no line so far, with the documents that they are of */
};

static struct group *group_of(struct table *t, const struct df_span *s)
{
	struct df_str m = s->model.n ? s->model : DF_STR("-");
	if (m.n >= NAME_BYTES) {
		m.n = NAME_BYTES - 1;
		m.n = df_str_utf8_prefix(m);
	}
	struct group *g = t->latest;
	if (g && g->class == s->class && g->n_model == m.n && memcmp(g->model, m.p, m.n) == 0)
		return g;
	for (g = t->group; g < t->group + t->n; g++)
		if (g->class == s->class && g->n_model == m.n && memcmp(g->model, m.p, m.n) == 0)
			return t->latest = g;
	if (t->n == GROUPS_MAX)
		return &t->group[GROUPS_MAX - 1]; /* so many models are no table any more */
	g = &t->group[t->n++];
	*g = (struct group){.class = s->class, .n_model = m.n};
	memcpy(g->model, m.p, m.n);
	return t->latest = g;
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

/* Of a document, not of its part in one stage: several stages may ask about it. 0: the call is of none. */
static uint64_t document_of(const struct df_trace_line *l)
{
	return l->span.doc_id.n ? df_trace_document_id(l->run_id, (struct df_str){NULL, 0}, l->span.doc_id) : 0;
}

static enum df_err add_document(struct table *t, uint64_t id)
{
	return id ? df_trace_ids_add(&t->documents, id, 0, NULL) : DF_OK;
}

static enum df_err see_call(struct table *t, const struct df_trace_line *l)
{
	bool news = false;
	DF_TRY(df_trace_ids_add(&t->calls, l->span.id, 0, &news));
	if (!news)
		return DF_OK;
	df_trace_ids_drop(&t->open, l->span.id);
	t->attempts += l->has_last;
	DF_TRY(add_document(t, document_of(l)));
	return add_call(t, &l->span);
}

static enum df_err see_attempt(struct table *t, const struct df_trace_line *l)
{
	t->attempts++;
	if (!l->span.parent || df_trace_ids_has(&t->calls, l->span.parent))
		return DF_OK;
	return df_trace_ids_add(&t->open, l->span.parent, document_of(l), NULL);
}

static enum df_err see(struct table *t, const struct df_trace_line *l)
{
	uint64_t end_ns = l->span.start_wall_ns + l->span.duration_ns;
	t->begin_ns = l->span.start_wall_ns < t->begin_ns ? l->span.start_wall_ns : t->begin_ns;
	t->end_ns = end_ns > t->end_ns ? end_ns : t->end_ns;
	if (t->calls.n + t->documents.n + t->open.n > DF_TRACE_SPANS_MAX)
		return DF_ERR_LIMIT;
	switch (l->span.kind) {
	case DF_SPAN_CALL:
		return see_call(t, l);
	case DF_SPAN_ATTEMPT:
		return see_attempt(t, l);
	case DF_SPAN_DOCUMENT:
		return add_document(t, document_of(l));
	default:
		return DF_OK;
	}
}

static enum df_err collect(struct df_trace_file *f, struct table *t)
{
	struct df_trace_line l;
	struct df_str text;
	t->begin_ns = UINT64_MAX;
	while (df_trace_file_next(f, &l, &text))
		DF_TRY(see(t, &l));
	t->torn = f->torn;
	t->left_out = f->left_out;
	for (size_t i = 0; t->open.value && i < t->open.cap; i++)
		if (t->open.id[i] && t->open.value[i])
			DF_TRY(add_document(t, t->open.value[i]));
	return DF_OK;
}

static int by_model(const void *x, const void *y)
{
	const struct group *a = x, *b = y;
	int order = strcmp(a->model, b->model);
	return order ? order : (int)a->class - (int)b->class;
}

/* Nearest rank: the list is parted (quickselect) until its k-th smallest is in its place. */
static uint64_t rank(uint64_t *v, size_t n, unsigned percent)
{
	if (!n)
		return 0;
	size_t k = (n * percent + 99) / 100 - 1, low = 0, high = n - 1;
	while (low < high) {
		uint64_t pivot = v[low + (high - low) / 2];
		size_t i = low, j = high;
		for (;; i++, j--) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i >= j)
				break;
			uint64_t x = v[i];
			v[i] = v[j];
			v[j] = x;
		}
		if (k <= j)
			high = j;
		else
			low = j + 1;
	}
	return v[k];
}

static const char *time_text(uint64_t ns, char z[16])
{
	double s = (double)ns / 1e9;
	(void)snprintf(z, 16, s < 1 ? "%.1f ms" : s < 100 ? "%.2f s" : "%.0f s", s < 1 ? s * 1e3 : s);
	return z;
}

static void add_row(struct group *g, struct df_buf *out)
{
	char z[5][16];
	(void)df_buf_addf(out, "%-28s %-10s %8llu %7llu %9s %9s %9s %9s %9s %11llu %10llu %12.6f\n", g->model,
			  df_call_class_name(g->class), (unsigned long long)g->calls, (unsigned long long)g->cached,
			  time_text(rank(g->latency, g->n, 50), z[0]), time_text(rank(g->latency, g->n, 90), z[1]),
			  time_text(rank(g->latency, g->n, 99), z[2]), time_text(rank(g->queue, g->n, 50), z[3]),
			  time_text(rank(g->queue, g->n, 99), z[4]), (unsigned long long)g->in,
			  (unsigned long long)g->out, g->usd);
}

static void add_sum(const struct table *t, struct df_buf *out)
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
	(void)df_buf_addf(out,
			  "\n%llu calls of %zu documents in %s: %llu from the cache, %llu requests sent, %llu tokens "
			  "in, %llu out, "
			  "%.6f USD\n",
			  (unsigned long long)calls, t->documents.n,
			  time_text(t->end_ns > t->begin_ns ? t->end_ns - t->begin_ns : 0, z),
			  (unsigned long long)cached, (unsigned long long)t->attempts, (unsigned long long)in,
			  (unsigned long long)tokens_out, usd);
	if (t->open.n)
		(void)df_buf_addf(out, "%zu calls were not over when their process ended\n", t->open.n);
	if (t->torn)
		(void)df_buf_addf(out, "%llu lines of the trace are torn and were passed over\n",
				  (unsigned long long)t->torn);
	if (t->left_out)
		(void)df_buf_addf(out, "%llu spans are missing: there was no room for them\n",
				  (unsigned long long)t->left_out);
}

static void print(struct table *t, struct df_buf *out)
{
	if (t->n)
		qsort(t->group, t->n, sizeof(*t->group), by_model);
	(void)df_buf_addf(out, "%-28s %-10s %8s %7s %9s %9s %9s %9s %9s %11s %10s %12s\n", "MODEL", "CLASS", "CALLS",
			  "CACHED", "P50", "P90", "P99", "QUEUE P50", "P99", "TOKENS IN", "OUT", "USD");
	for (size_t i = 0; i < t->n; i++)
		add_row(&t->group[i], out);
	add_sum(t, out);
}

static void release(struct table *t)
{
	for (size_t i = 0; t->group && i < t->n; i++) {
		free(t->group[i].latency);
		free(t->group[i].queue);
	}
	free(t->group);
	df_trace_ids_release(&t->calls);
	df_trace_ids_release(&t->documents);
	df_trace_ids_release(&t->open);
}

enum df_err df_trace_summary(const char *path, struct df_buf *out, struct df_fail *fail)
{
	struct df_trace_file *f = malloc(sizeof(*f));
	struct table t = {.group = calloc(GROUPS_MAX, sizeof(struct group))};
	enum df_err err = t.group && f ? df_trace_file_open(path, true, f, fail)
				       : df_fail(fail, DF_ERR_NOMEM, "out of memory for the trace '%.500s'", path);
	if (err == DF_OK) {
		err = collect(f, &t);
		df_trace_file_close(f);
		if (err == DF_OK) {
			print(&t, out);
			err = df_buf_err(out);
		}
		if (err != DF_OK)
			(void)df_fail(fail, err,
				      err == DF_ERR_LIMIT ? "the trace '%.500s' has too many spans"
							  : "out of memory for the trace '%.500s'",
				      path);
	}
	release(&t);
	free(f);
	return err;
}
