// SPDX-License-Identifier: Apache-2.0
/*
 * trace_otlp: nodes as the JSON of OTLP's ExportTraceServiceRequest (opentelemetry-proto, trace/v1: JSON protobuf mapping, but ids in hex).
 *
 * Attributes: OpenTelemetry's semantic conventions for generative AI, gen_ai.* (status: development), error.type and http.response.status_code.
 */
#include <math.h>

#include "base/hash.h"
#include "base/json.h"
#include "worker/trace/trace_export.h"

enum { KIND_INTERNAL = 1, KIND_CLIENT = 3, STATUS_ERROR = 2 };

struct list {
	struct df_buf *b;
	bool some;
};

static void begin(struct list *l, const char *key)
{
	(void)df_buf_addf(l->b, "%s{\"key\":\"%s\",\"value\":{", l->some ? "," : "", key);
	l->some = true;
}

static void add_word(struct list *l, const char *key, struct df_str v)
{
	if (!v.n)
		return;
	begin(l, key);
	(void)df_buf_addz(l->b, "\"stringValue\":");
	(void)df_json_add_string(l->b, v);
	(void)df_buf_addz(l->b, "}}");
}

/* 64-bit integers are strings in this JSON. */
static void add_int(struct list *l, const char *key, uint64_t v)
{
	begin(l, key);
	(void)df_buf_addf(l->b, "\"intValue\":\"%llu\"}}", (unsigned long long)v);
}

static void add_some(struct list *l, const char *key, uint64_t v)
{
	if (v)
		add_int(l, key, v);
}

static void add_seconds(struct list *l, const char *key, uint64_t ns)
{
	if (!ns)
		return;
	begin(l, key);
	(void)df_buf_addz(l->b, "\"doubleValue\":");
	(void)df_json_add_double(l->b, (double)ns / 1e9);
	(void)df_buf_addz(l->b, "}}");
}

static void add_true(struct list *l, const char *key, bool v)
{
	if (!v)
		return;
	begin(l, key);
	(void)df_buf_addz(l->b, "\"boolValue\":true}}");
}

static void add_attributes(struct df_buf *b, const struct df_span *s, const struct df_trace_node *n)
{
	struct list l = {b, false};
	bool call = s->kind == DF_SPAN_CALL || s->kind == DF_SPAN_ATTEMPT;
	(void)df_buf_addz(b, "\"attributes\":[");
	add_word(&l, "docflume.kind", df_str_from(df_span_kind_name(s->kind)));
	if (call && !n->made)
		add_word(&l, "gen_ai.operation.name", s->inputs ? DF_STR("embeddings") : DF_STR("chat"));
	add_word(&l, "gen_ai.provider.name", s->provider);
	add_word(&l, "gen_ai.request.model", s->model);
	if (call && (s->usage.in || s->usage.out)) {
		add_int(&l, "gen_ai.usage.input_tokens", s->usage.in);
		add_some(&l, "gen_ai.usage.cache_read.input_tokens", s->usage.cached_in);
		add_int(&l, "gen_ai.usage.output_tokens", s->usage.out);
		add_true(&l, "docflume.usage.estimated", !s->usage.known);
	}
	add_some(&l, "http.response.status_code", s->status);
	if (s->class != DF_CALL_OK)
		add_word(&l, "error.type", df_str_from(df_call_class_name(s->class)));
	add_word(&l, "docflume.document", s->doc_id);
	add_word(&l, "docflume.stage", s->stage);
	add_seconds(&l, "docflume.queue_s", s->queue_ns);
	add_seconds(&l, "docflume.time_to_first_token_s", s->first_token_ns);
	add_some(&l, s->kind == DF_SPAN_ATTEMPT ? "docflume.attempt" : "docflume.attempts", s->attempt);
	add_some(&l, "docflume.inputs", s->inputs);
	add_true(&l, "docflume.cached", s->cached);
	if (s->usd > 0 && isfinite(s->usd)) {
		begin(&l, "docflume.cost_usd");
		(void)df_buf_addz(b, "\"doubleValue\":");
		(void)df_json_add_usd(b, s->usd);
		(void)df_buf_addz(b, "}}");
	}
	if (n->pid)
		add_int(&l, "process.pid", (uint64_t)n->pid);
	(void)df_buf_addc(b, ']');
}

/* A trace is a run: its 128-bit id is a hash of the run's, the same however often it is exported. */
static void add_ids(struct df_buf *b, const struct df_trace_node *n)
{
	struct df_hash128 h = df_hash128(&n->run_id, sizeof(n->run_id));
	(void)df_buf_addf(b, "\"traceId\":\"%016llx%016llx\",\"spanId\":\"%016llx\"", (unsigned long long)h.high,
			  (unsigned long long)h.low, (unsigned long long)n->id);
	if (n->parent)
		(void)df_buf_addf(b, ",\"parentSpanId\":\"%016llx\"", (unsigned long long)n->parent);
}

static void add_span(struct df_buf *b, const struct df_span *s, const struct df_trace_node *n)
{
	bool client = (s->kind == DF_SPAN_CALL || s->kind == DF_SPAN_ATTEMPT) && !s->cached;
	(void)df_buf_addc(b, '{');
	add_ids(b, n);
	(void)df_buf_addz(b, ",\"name\":");
	(void)df_json_add_string(b, s->name.n ? s->name : df_str_from(df_span_kind_name(s->kind)));
	(void)df_buf_addf(b, ",\"kind\":%d,\"startTimeUnixNano\":\"%llu\",\"endTimeUnixNano\":\"%llu\",",
			  client ? KIND_CLIENT : KIND_INTERNAL, (unsigned long long)n->start_ns,
			  (unsigned long long)n->end_ns);
	add_attributes(b, s, n);
	if (s->class != DF_CALL_OK)
		(void)df_buf_addf(b, ",\"status\":{\"code\":%d,\"message\":\"%s\"}", STATUS_ERROR,
				  df_call_class_name(s->class));
	(void)df_buf_addc(b, '}');
}

enum df_err df_trace_otlp(struct df_trace_tree *t, size_t first, size_t n, struct df_buf *out)
{
	struct df_span s;
	(void)df_buf_addz(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
			       "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"docflume\"}},"
			       "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" DF_VERSION "\"}}]},"
			       "\"scopeSpans\":[{\"scope\":{\"name\":\"docflume\",\"version\":\"" DF_VERSION
			       "\"},\"spans\":[");
	for (size_t i = first; i < first + n && i < t->n; i++) {
		DF_TRY(df_trace_span(t, &t->node[i], &s));
		(void)df_buf_addz(out, i > first ? ",\n" : "\n");
		add_span(out, &s, &t->node[i]);
	}
	return df_buf_addz(out, "]}]}]}");
}
