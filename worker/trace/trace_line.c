// SPDX-License-Identifier: Apache-2.0
/*
 * trace_line: a span becomes a line.
 *
 * DESIGN. Lines are made on the network thread, one for most calls: without printf, which took a tenth of that thread's time, and into memory that is
 * there, so that a key is one comparison and one short copy.
 */
#include "worker/trace/trace_line.h"

#include <math.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/json.h"

#define NAME_BYTES 160 /* of names, models, providers */

static const char *const class_name[DF_N_CALL_CLASS] = {
	"ok", "retry", "rate", "quota", "auth", "bad_input", "not_found", "bad_answer",
};
static const char *const kind_name[DF_N_SPAN_KIND] = {"call", "attempt", "document", "stage", "run"};

const char *df_call_class_name(enum df_call_class class)
{
	return (unsigned)class < DF_N_CALL_CLASS ? class_name[class] : "unknown";
}

const char *df_span_kind_name(enum df_span_kind kind)
{
	return (unsigned)kind < DF_N_SPAN_KIND ? kind_name[kind] : "unknown";
}

struct df_str df_trace_span_name(const struct df_span *s, char z[192])
{
	if (s->kind == DF_SPAN_STAGE)
		return s->stage;
	if (s->kind != DF_SPAN_CALL || !s->model.n)
		return df_str_from(df_span_kind_name(s->kind));
	struct df_str model = {s->model.p, s->model.n < NAME_BYTES ? s->model.n : NAME_BYTES};
	model.n = df_str_utf8_prefix(model);
	(void)snprintf(z, 192, "%s " DF_STR_FMT, s->inputs ? "embeddings" : "chat", DF_STR_ARG(model));
	return df_str_from(z);
}

/* ------------------------------------------------------------------ ids */

static uint64_t not_zero(uint64_t v)
{
	return v ? v : 1;
}

static uint64_t id_of(uint64_t run_id, const char *kind, struct df_str stage, struct df_str doc_id)
{
	uint64_t word[4] = {run_id, df_hash64(kind, strlen(kind)), df_hash64(stage.n ? stage.p : "", stage.n),
			    df_hash64(doc_id.n ? doc_id.p : "", doc_id.n)};
	return not_zero(df_hash64(word, sizeof(word)));
}

uint64_t df_trace_run_id(uint64_t run_id)
{
	return id_of(run_id, "run", (struct df_str){NULL, 0}, (struct df_str){NULL, 0});
}

uint64_t df_trace_stage_id(uint64_t run_id, struct df_str stage)
{
	return id_of(run_id, "stage", stage, (struct df_str){NULL, 0});
}

uint64_t df_trace_document_id(uint64_t run_id, struct df_str stage, struct df_str doc_id)
{
	return id_of(run_id, "document", stage, doc_id);
}

uint64_t df_trace_parent(uint64_t run_id, const struct df_span *s)
{
	switch (s->kind) {
	case DF_SPAN_RUN:
		return 0;
	case DF_SPAN_STAGE:
		return df_trace_run_id(run_id);
	case DF_SPAN_DOCUMENT:
		return df_trace_stage_id(run_id, s->stage);
	default:
		break;
	}
	if (s->doc_id.n)
		return df_trace_document_id(run_id, s->stage, s->doc_id);
	return s->stage.n ? df_trace_stage_id(run_id, s->stage) : df_trace_run_id(run_id);
}

/* ------------------------------------------------------------------ an attempt in its call's line */

static double told_usd(double usd)
{
	return isfinite(usd) ? usd : 0;
}

bool df_trace_line_joins(const struct df_span *call, const struct df_span *a, struct df_trace_line *ret_line)
{
	bool one = call->kind == DF_SPAN_CALL && a->kind == DF_SPAN_ATTEMPT && call->id && a->parent == call->id &&
		   !a->id && !call->cached && !a->cached && !a->queue_ns;
	bool words = df_str_eq(call->doc_id, a->doc_id) && df_str_eq(call->stage, a->stage) &&
		     df_str_eq(call->model, a->model) && df_str_eq(call->provider, a->provider) &&
		     (!a->name.n || df_str_is(a->name, df_span_kind_name(DF_SPAN_ATTEMPT)));
	bool counts = call->attempt == a->attempt && call->status == a->status && call->inputs == a->inputs &&
		      call->class == a->class && told_usd(call->usd) == told_usd(a->usd) &&
		      call->usage.in == a->usage.in && call->usage.cached_in == a->usage.cached_in &&
		      call->usage.out == a->usage.out && call->usage.known == a->usage.known;
	if (!one || !words || !counts || a->start_wall_ns < call->start_wall_ns)
		return false;
	ret_line->has_last = true;
	ret_line->last_start_ns = a->start_wall_ns - call->start_wall_ns;
	ret_line->last_duration_ns = a->duration_ns;
	ret_line->last_first_token_ns = a->first_token_ns;
	return true;
}

struct df_span df_trace_line_last(const struct df_trace_line *line)
{
	struct df_span a = line->span;
	uint64_t word[2] = {a.id, DF_SPAN_ATTEMPT};
	a.kind = DF_SPAN_ATTEMPT;
	a.parent = a.id;
	a.id = not_zero(df_hash64(word, sizeof(word)));
	a.name = (struct df_str){NULL, 0};
	a.start_wall_ns += line->last_start_ns;
	a.duration_ns = line->last_duration_ns;
	a.first_token_ns = line->last_first_token_ns;
	a.queue_ns = 0;
	return a;
}

/* ------------------------------------------------------------------ a line */

static inline void put(struct df_buf *b, const char *p, size_t n)
{
	if (n > b->cap - b->n) {
		b->err = DF_ERR_LIMIT;
		return;
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

#define PUT(b, literal) put((b), "" literal, sizeof(literal) - 1)
#define KEY(key) ",\"" key "\":"

static void put_digits(struct df_buf *b, uint64_t v)
{
	char z[20];
	size_t at = sizeof(z);
	do
		z[--at] = (char)('0' + v % 10);
	while (v /= 10);
	put(b, z + at, sizeof(z) - at);
}

static void put_id(struct df_buf *b, uint64_t id)
{
	char z[18] = {'"'};
	for (int i = 16; i > 0; i--, id >>= 4)
		z[i] = "0123456789abcdef"[id & 15];
	z[17] = '"';
	put(b, z, sizeof(z));
}

static void put_word(struct df_buf *b, const char *word)
{
	PUT(b, "\"");
	put(b, word, strlen(word));
	PUT(b, "\"");
}

static struct df_str cut(struct df_str s, size_t max)
{
	return (struct df_str){s.p, df_str_utf8_prefix((struct df_str){s.p, s.n < max ? s.n : max})};
}

#define PUT_NUMBER(b, key, v)                                                                                          \
	do {                                                                                                           \
		PUT(b, KEY(key));                                                                                      \
		put_digits(b, v);                                                                                      \
	} while (0)
#define PUT_SOME(b, key, v)                                                                                            \
	do {                                                                                                           \
		if (v)                                                                                                 \
			PUT_NUMBER(b, key, v);                                                                         \
	} while (0)
#define PUT_STR(b, key, s, max)                                                                                        \
	do {                                                                                                           \
		if ((s).n) {                                                                                           \
			PUT(b, KEY(key));                                                                              \
			(void)df_json_add_string(b, cut(s, max));                                                      \
		}                                                                                                      \
	} while (0)

static void put_usage(struct df_buf *b, const struct df_span *s)
{
	PUT_SOME(b, "in", s->usage.in);
	PUT_SOME(b, "cached_in", s->usage.cached_in);
	PUT_SOME(b, "out", s->usage.out);
	if ((s->usage.in || s->usage.out) && !s->usage.known)
		PUT(b, KEY("estimated") "true");
	if (told_usd(s->usd) != 0) {
		PUT(b, KEY("usd"));
		(void)df_json_add_usd(b, s->usd);
	}
}

/* A parent is told when the line's own words are not what it is the hash of. */
static void put_parent(struct df_buf *b, const struct df_trace_line *l, size_t doc_bytes)
{
	const struct df_span *s = &l->span;
	bool whole = cut(s->doc_id, doc_bytes).n == s->doc_id.n && cut(s->stage, NAME_BYTES).n == s->stage.n;
	if (!s->parent && whole)
		return;
	PUT(b, KEY("parent"));
	put_id(b, s->parent ? s->parent : df_trace_parent(l->run_id, s));
}

static void put_name(struct df_buf *b, const struct df_span *s)
{
	char z[192];
	if (s->name.n && !df_str_eq(s->name, df_trace_span_name(s, z)))
		PUT_STR(b, "name", s->name, NAME_BYTES);
}

static void put_last(struct df_buf *b, const struct df_trace_line *l)
{
	if (!l->has_last)
		return;
	PUT_NUMBER(b, "last_start_ns", l->last_start_ns);
	PUT_NUMBER(b, "last_duration_ns", l->last_duration_ns);
	PUT_SOME(b, "last_first_token_ns", l->last_first_token_ns);
}

enum df_err df_trace_line_make(struct df_buf *b, const struct df_trace_line *l, bool tell_run, size_t doc_bytes)
{
	const struct df_span *s = &l->span;
	df_buf_reset(b);
	PUT(b, "{\"span\":");
	put_id(b, s->id);
	put_parent(b, l, doc_bytes);
	if (tell_run) {
		PUT(b, KEY("run"));
		put_id(b, l->run_id);
	}
	PUT_NUMBER(b, "pid", l->pid);
	PUT(b, KEY("kind"));
	put_word(b, df_span_kind_name(s->kind));
	put_name(b, s);
	PUT_STR(b, "doc", s->doc_id, doc_bytes);
	PUT_STR(b, "stage", s->stage, NAME_BYTES);
	PUT_STR(b, "model", s->model, NAME_BYTES);
	PUT_STR(b, "provider", s->provider, NAME_BYTES);
	PUT_NUMBER(b, "start_ns", s->start_wall_ns);
	PUT_NUMBER(b, "duration_ns", s->duration_ns);
	PUT_SOME(b, "queue_ns", s->queue_ns);
	PUT_SOME(b, "first_token_ns", s->first_token_ns);
	put_last(b, l);
	if (s->kind == DF_SPAN_ATTEMPT)
		PUT_SOME(b, "attempt", s->attempt);
	else
		PUT_SOME(b, "attempts", s->attempt);
	PUT_SOME(b, "status", s->status);
	PUT_SOME(b, "inputs", s->inputs);
	put_usage(b, s);
	if (s->cached)
		PUT(b, KEY("cached") "true");
	PUT(b, KEY("class"));
	put_word(b, df_call_class_name(s->class));
	PUT(b, "}\n");
	return b->err == DF_OK && b->n > DF_TRACE_LINE_BYTES ? DF_ERR_LIMIT : b->err;
}
