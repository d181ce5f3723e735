// SPDX-License-Identifier: Apache-2.0
/*
 * trace_chrome: the trace as events of chrome://tracing and Perfetto.
 *
 * DESIGN. A viewer nests the events of a thread by time alone, so two calls at once in one thread would look like one inside the other. Spans are laid into lanes
 * in order of their start: a span goes into its parent's lane when the parent is the innermost thing open there and contains it, else into a lane of its
 * process where nothing is open any more (the one that is free longest), else into a new one.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "worker/trace/trace_export.h"

#define OUT_BYTES ((size_t)1 << 20)
#define DEPTH 8 /* open spans of a lane; deeper ones get a lane of their own */

struct lane {
	int32_t pid;
	uint32_t number; /* within its process, from 1 */
	uint32_t n_open;
	uint64_t end_ns; /* of the outermost */
	uint64_t open_id[DEPTH], open_end[DEPTH];
};

struct process {
	int32_t pid;
	uint32_t n_lane;
	size_t *heap; /* its lanes by end_ns, the earliest first */
	size_t n_heap, cap_heap;
};

struct plan {
	struct lane *lane;
	size_t n_lane, cap_lane;
	struct process *process;
	size_t n_process, cap_process;
	uint32_t *lane_of; /* of each node: index of its lane */
};

static void *grow(void *p, size_t n, size_t *cap, size_t size)
{
	if (n < *cap)
		return p;
	size_t more = *cap ? *cap * 2 : 16;
	void *q = reallocarray(p, more, size);
	if (q)
		*cap = more;
	return q;
}

static struct process *process_of(struct plan *p, int32_t pid)
{
	for (size_t i = p->n_process; i-- > 0;)
		if (p->process[i].pid == pid)
			return &p->process[i];
	void *q = grow(p->process, p->n_process, &p->cap_process, sizeof(*p->process));
	if (!q)
		return NULL;
	p->process = q;
	p->process[p->n_process] = (struct process){.pid = pid};
	return &p->process[p->n_process++];
}

/* ------------------------------------------------------------------ the lane that is free longest */

static void sift_down(struct plan *p, struct process *c, size_t i)
{
	for (;;) {
		size_t least = i;
		for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < c->n_heap; k++)
			if (p->lane[c->heap[k]].end_ns < p->lane[c->heap[least]].end_ns)
				least = k;
		if (least == i)
			return;
		size_t x = c->heap[i];
		c->heap[i] = c->heap[least];
		c->heap[least] = x;
		i = least;
	}
}

static void sift_up(struct plan *p, struct process *c, size_t i)
{
	for (; i && p->lane[c->heap[i]].end_ns < p->lane[c->heap[(i - 1) / 2]].end_ns; i = (i - 1) / 2) {
		size_t x = c->heap[i];
		c->heap[i] = c->heap[(i - 1) / 2];
		c->heap[(i - 1) / 2] = x;
	}
}

static enum df_err new_lane(struct plan *p, struct process *c, const struct df_trace_node *n, size_t *ret_lane)
{
	void *q = grow(p->lane, p->n_lane, &p->cap_lane, sizeof(*p->lane));
	if (!q)
		return DF_ERR_NOMEM;
	p->lane = q;
	q = grow(c->heap, c->n_heap, &c->cap_heap, sizeof(*c->heap));
	if (!q)
		return DF_ERR_NOMEM;
	c->heap = q;
	p->lane[p->n_lane] = (struct lane){.pid = n->pid, .number = ++c->n_lane, .end_ns = n->end_ns};
	c->heap[c->n_heap] = p->n_lane;
	*ret_lane = p->n_lane++;
	sift_up(p, c, c->n_heap++);
	return DF_OK;
}

/* ------------------------------------------------------------------ laying */

static void close_ended(struct lane *l, uint64_t now_ns)
{
	while (l->n_open && l->open_end[l->n_open - 1] <= now_ns)
		l->n_open--;
}

static void open_in(struct lane *l, const struct df_trace_node *n)
{
	l->open_id[l->n_open] = n->id;
	l->open_end[l->n_open++] = n->end_ns;
}

/* The parent's lane, when the parent is innermost there and holds all of it. */
static bool fits_parent(struct plan *p, const struct df_trace_tree *t, const struct df_trace_node *n, size_t *ret_lane)
{
	const struct df_trace_node *parent = n->parent ? df_trace_find(t, n->parent) : NULL;
	if (!parent || parent->pid != n->pid || parent >= n || !p->lane)
		return false;
	size_t at = p->lane_of[parent - t->node];
	struct lane *l = &p->lane[at];
	close_ended(l, n->start_ns);
	if (l->n_open == 0 || l->n_open == DEPTH || l->open_id[l->n_open - 1] != parent->id ||
	    l->open_end[l->n_open - 1] < n->end_ns)
		return false;
	*ret_lane = at;
	return true;
}

static enum df_err lay(struct plan *p, struct df_trace_tree *t, struct df_trace_node *n)
{
	size_t at = 0;
	if (!fits_parent(p, t, n, &at)) {
		struct process *c = process_of(p, n->pid);
		if (!c)
			return DF_ERR_NOMEM;
		if (c->n_heap && p->lane[c->heap[0]].end_ns <= n->start_ns) {
			at = c->heap[0];
			p->lane[at].n_open = 0;
			p->lane[at].end_ns = n->end_ns;
			sift_down(p, c, 0);
		} else {
			DF_TRY(new_lane(p, c, n, &at));
		}
	}
	open_in(&p->lane[at], n);
	p->lane_of[n - t->node] = (uint32_t)at;
	n->lane = p->lane[at].number;
	return DF_OK;
}

static void release(struct plan *p)
{
	for (size_t i = 0; i < p->n_process; i++)
		free(p->process[i].heap);
	free(p->process);
	free(p->lane);
	free(p->lane_of);
}

/* ------------------------------------------------------------------ events */

/* Three events for each call, so without printf. */
static void add_key(struct df_buf *b, const char *key)
{
	(void)df_buf_add(b, ",\"", 2);
	(void)df_buf_addz(b, key);
	(void)df_buf_add(b, "\":", 2);
}

static void add_number(struct df_buf *b, const char *key, uint64_t v)
{
	if (v == 0)
		return;
	add_key(b, key);
	(void)df_buf_add_u64(b, v);
}

/* v / unit with as many digits behind the point as unit has noughts. */
static void add_fixed(struct df_buf *b, const char *key, uint64_t v, uint64_t unit)
{
	add_key(b, key);
	(void)df_buf_add_u64(b, v / unit);
	(void)df_buf_addc(b, '.');
	for (uint64_t digit = unit / 10; digit; digit /= 10)
		(void)df_buf_addc(b, (char)('0' + v / digit % 10));
}

static void add_ms(struct df_buf *b, const char *key, uint64_t ns)
{
	if (ns)
		add_fixed(b, key, ns, 1000000);
}

static void add_word(struct df_buf *b, const char *key, struct df_str v)
{
	if (!v.n)
		return;
	add_key(b, key);
	(void)df_json_add_string(b, v);
}

static void add_event(struct df_buf *b, const struct df_trace_node *n, const struct df_span *s, uint64_t zero_ns)
{
	(void)df_buf_addz(b, ",\n{\"ph\":\"X\",\"pid\":");
	(void)df_buf_add_u64(b, (uint32_t)n->pid);
	add_key(b, "tid");
	(void)df_buf_add_u64(b, n->lane);
	add_fixed(b, "ts", n->start_ns - zero_ns, 1000);
	add_fixed(b, "dur", s->duration_ns, 1000);
	add_word(b, "cat", df_str_from(df_span_kind_name(s->kind)));
	add_word(b, "name", s->name.n ? s->name : df_str_from(df_span_kind_name(s->kind)));
	(void)df_buf_addz(b, ",\"args\":{\"span\":\"");
	for (int shift = 60; shift >= 0; shift -= 4)
		(void)df_buf_addc(b, "0123456789abcdef"[n->id >> shift & 15]);
	(void)df_buf_addc(b, '"');
	add_word(b, "class", df_str_from(df_call_class_name(s->class)));
	add_word(b, "document", s->doc_id);
	add_word(b, "stage", s->stage);
	add_word(b, "model", s->model);
	add_word(b, "provider", s->provider);
	add_ms(b, "queue_ms", s->queue_ns);
	add_ms(b, "first_token_ms", s->first_token_ns);
	add_number(b, s->kind == DF_SPAN_ATTEMPT ? "attempt" : "attempts", s->attempt);
	add_number(b, "status", s->status);
	add_number(b, "inputs", s->inputs);
	add_number(b, "tokens_in", s->usage.in);
	add_number(b, "tokens_cached_in", s->usage.cached_in);
	add_number(b, "tokens_out", s->usage.out);
	if (s->usd != 0) {
		add_key(b, "usd");
		(void)df_json_add_usd(b, s->usd);
	}
	if (s->cached)
		(void)df_buf_addz(b, ",\"cached\":true");
	(void)df_buf_addz(b, "}}");
}

static void add_names(struct df_buf *b, const struct plan *p)
{
	for (size_t i = 0; i < p->n_process; i++) {
		const struct process *c = &p->process[i];
		(void)df_buf_addf(b,
				  "%s{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_name\",\"args\":{\"name\":\"%s %d\"}}",
				  i ? ",\n" : "", c->pid, c->pid ? "worker" : "run", c->pid);
		(void)df_buf_addf(
			b, ",\n{\"ph\":\"M\",\"pid\":%d,\"name\":\"process_sort_index\",\"args\":{\"sort_index\":%zu}}",
			c->pid, i);
	}
	for (size_t i = 0; i < p->n_lane; i++)
		(void)df_buf_addf(b,
				  ",\n{\"ph\":\"M\",\"pid\":%d,\"tid\":%u,\"name\":\"thread_name\",\"args\":{\"name\":"
				  "\"lane %u\"}}",
				  p->lane[i].pid, p->lane[i].number, p->lane[i].number);
}

static enum df_err write_out(struct df_buf *b, int fd, struct df_fail *fail)
{
	DF_TRY(df_buf_err(b));
	for (size_t at = 0; at < b->n;) {
		ssize_t n = TEMP_FAILURE_RETRY(write(fd, b->p + at, b->n - at));
		if (n < 0)
			return df_fail_errno(fail, "cannot write the trace");
		at += (size_t)n;
	}
	df_buf_reset(b);
	return DF_OK;
}

static enum df_err write_all(struct df_trace_tree *t, const struct plan *p, struct df_buf *b, int fd,
			     struct df_fail *fail)
{
	struct df_span s;
	(void)df_buf_addz(b, "{\"displayTimeUnit\":\"ms\",\"otherData\":{\"program\":\"docflume " DF_VERSION
			     "\"},\"traceEvents\":[\n");
	add_names(b, p);
	for (size_t i = 0; i < t->n; i++) {
		DF_TRY(df_trace_span(t, &t->node[i], &s));
		add_event(b, &t->node[i], &s, t->node[0].start_ns);
		if (b->n > OUT_BYTES / 4)
			DF_TRY(write_out(b, fd, fail));
	}
	(void)df_buf_addz(b, "\n]}\n");
	return write_out(b, fd, fail);
}

enum df_err df_trace_chrome(struct df_trace_tree *t, int fd, struct df_fail *fail)
{
	struct plan p = {.n_lane = 0};
	struct df_buf b;
	enum df_err err = DF_OK;
	df_buf_init(&b, (size_t)1 << 30);
	p.lane_of = calloc(t->n + 1, sizeof(*p.lane_of));
	if (!p.lane_of)
		err = DF_ERR_NOMEM;
	for (size_t i = 0; i < t->n && err == DF_OK; i++)
		err = lay(&p, t, &t->node[i]);
	if (err == DF_OK)
		err = write_all(t, &p, &b, fd, fail);
	if (err == DF_ERR_NOMEM || err == DF_ERR_LIMIT)
		err = df_fail(fail, err, "out of memory for the trace");
	if (err == DF_ERR_CORRUPT)
		err = df_fail(fail, err, "the trace was changed while it was read");
	df_buf_release(&b);
	release(&p);
	return err;
}
