// SPDX-License-Identifier: Apache-2.0
/*
 * trace: what every call did and when, as spans below document, stage and run.
 *
 * One file, DIR/trace.jsonl, opened by the coordinator for appending and inherited by all workers (DF_TRACE_FD, proto/heritage.h): each span is one line of at most
 * DF_TRACE_LINE_BYTES, and whole lines are written by one write(), which local file systems do not mix with others' on O_APPEND. A process that is killed
 * inside a write leaves a torn line, which readers pass over. Never synced: it tells about work, it is not the work. A thread of the trace writes every
 * 100 ms, so kill -9 loses at most that. `docflume trace` makes the Chrome form of it and exports it (OTLP/HTTP JSON): trace_read.h, trace_export.h.
 * Never a key, a header, a prompt or an answer: counts, times, ids, classes. docs/TRACE.md lists the fields.
 *
 * Ids of stages and documents are hashes of (run, stage, document), so that processes agree on them without a word; their spans need not be put: readers
 * make those that are missing from what lies below them.
 */
#ifndef DF_WORKER_TRACE_TRACE_H
#define DF_WORKER_TRACE_TRACE_H

#include "base/err.h"
#include "base/str.h"
#include "worker/provider/ask.h"

struct df_trace;

#define DF_TRACE_LINE_BYTES 4096

enum df_span_kind { DF_SPAN_CALL, DF_SPAN_ATTEMPT, DF_SPAN_DOCUMENT, DF_SPAN_STAGE, DF_SPAN_RUN, DF_N_SPAN_KIND };

struct df_span {
	enum df_span_kind kind;
	uint64_t id;        /* 0: a fresh one (what is below it needs to know it: df_trace_id) */
	uint64_t parent;    /* of an attempt: its call's id. 0: by doc_id and stage */
	struct df_str name; /* "chat gpt-4o-mini", "embeddings text-embedding-3-small", "attempt" */
	struct df_str doc_id, stage, model, provider; /* long ones are cut */
	uint64_t start_wall_ns, duration_ns;
	uint64_t queue_ns;       /* of that, before the first byte was sent: limits, slots, back-off */
	uint64_t first_token_ns; /* from the start; 0: not a stream */
	uint32_t attempt;        /* of an attempt: its number from 1; of a call: how many there were */
	uint32_t status;         /* HTTP; 0: none */
	uint32_t inputs;         /* of an embedding call */
	struct df_usage usage;
	double usd; /* NAN: unknown */
	bool cached;
	enum df_call_class class;
};

/* fd: appended to, not owned. run_id: the same for all processes of a run, not 0 (ids of spans are made unique by pid, time and a counter). */
enum df_err df_trace_open(int fd, uint64_t run_id, struct df_trace **ret_trace, struct df_fail *fail) DF_MUST_CHECK;
/* Writes what waits. Accepts NULL. */
void df_trace_close(struct df_trace **trace);
uint64_t df_trace_id(struct df_trace *t); /* a fresh span id, never 0 */
/* Copied to a buffer; any thread; never waits for the disk. Beyond DF_TRACE_BUFFER_BYTES unwritten, spans are left out and counted in the file. */
void df_trace_put(struct df_trace *t, const struct df_span *span);
/* The first error of writing, once: true and one line for people; after it nothing is written any more. */
bool df_trace_failed(struct df_trace *t, struct df_fail *ret_fail);

/* Ids that all processes of a run agree on; never 0. */
uint64_t df_trace_run_id(uint64_t run_id);
uint64_t df_trace_stage_id(uint64_t run_id, struct df_str stage);
uint64_t df_trace_document_id(uint64_t run_id, struct df_str stage, struct df_str doc_id);

/* "ok", "retry", "rate", "quota", "auth", "bad_input", "not_found", "bad_answer". */
const char *df_call_class_name(enum df_call_class class);
const char *df_span_kind_name(enum df_span_kind kind);

#endif
