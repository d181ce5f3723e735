// SPDX-License-Identifier: Apache-2.0
/*
 * trace: what every call did and when, as spans below document, stage and run.
 *
 * One file, DIR/trace.jsonl, opened by the coordinator for appending and inherited by all workers (DF_TRACE_FD): each span is one line of at most 4 KB,
 * written by one write(), so lines of many processes never mix; a torn last line of a killed process is passed over by readers. Never synced: it tells
 * about work, it is not the work. `docflume trace` makes the Chrome form of it and exports it (OTLP/HTTP JSON).
 * Never a key, a header, a prompt or an answer: counts, times, ids, classes.
 */
#ifndef DF_WORKER_CALL_TRACE_H
#define DF_WORKER_CALL_TRACE_H

#include "base/err.h"
#include "base/str.h"
#include "worker/provider/ask.h"

struct df_trace;

#define DF_TRACE_FD 6 /* of a worker whose run is traced */

struct df_span {
	uint64_t id, parent;
	struct df_str name; /* "chat gpt-4o-mini", "attempt" */
	struct df_str doc_id, stage, model, provider;
	uint64_t start_wall_ns, duration_ns, queue_ns, first_token_ns;
	uint32_t attempt, status;
	struct df_usage usage;
	double usd;
	bool cached;
	enum df_call_class class;
};

/* fd: appended to, not owned. run_id: the same for all processes of a run (ids of spans are made unique by pid and a counter). */
enum df_err df_trace_open(int fd, uint64_t run_id, struct df_trace **ret_trace, struct df_fail *fail) DF_MUST_CHECK;
void df_trace_close(struct df_trace **trace);
uint64_t df_trace_id(struct df_trace *t);                          /* a fresh span id, never 0 */
void df_trace_put(struct df_trace *t, const struct df_span *span); /* buffered; any thread; an error is told once */

#endif
