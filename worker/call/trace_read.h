// SPDX-License-Identifier: Apache-2.0
/*
 * trace_read: a trace file as a tree of spans: run, stage, document, call, attempt.
 *
 * The file is mapped, not read into memory; a span's node has ids and times alone, and the rest is parsed again from its line when it is asked for. Lines
 * that are torn are passed over and counted; a whole line that follows a torn one without a break is found. Parents that nobody put (documents, stages, the
 * run) are made: they begin with the first span below them and end with the last.
 */
#ifndef DF_WORKER_CALL_TRACE_READ_H
#define DF_WORKER_CALL_TRACE_READ_H

#include "worker/call/trace.h"

struct df_trace_node {
	uint64_t id, parent; /* parent 0: none */
	uint64_t run_id;
	uint64_t start_ns, end_ns; /* wall clock */
	size_t line, line_bytes;   /* in the text; of a made one: of a span below it */
	int32_t pid;
	uint32_t lane; /* trace_chrome's */
	uint8_t kind;  /* enum df_span_kind */
	bool made;
};

struct df_trace_tree {
	struct df_str text; /* mapped */
	struct df_trace_node *node;
	size_t n; /* by start, parents before their children */
	size_t cap;
	uint64_t torn;     /* lines that cannot be read */
	uint64_t left_out; /* spans that their process had no room for */
	size_t *slot;      /* of the table of ids: index + 1 */
	size_t n_slot;
	struct df_arena arena; /* of one line */
};

/* `path`: a run directory, or the file itself. DF_ERR_NOT_FOUND, DF_ERR_LIMIT (more than DF_TRACE_SPANS_MAX), DF_ERR_NOMEM, DF_ERR_IO. */
enum df_err df_trace_load(const char *path, struct df_trace_tree *ret_tree, struct df_fail *fail) DF_MUST_CHECK;
void df_trace_release(struct df_trace_tree *t);

/* All of a node; strings last until the next call. A made one has name, document and stage. */
enum df_err df_trace_span(struct df_trace_tree *t, const struct df_trace_node *node, struct df_span *ret) DF_MUST_CHECK;
/* NULL: none. */
const struct df_trace_node *df_trace_find(const struct df_trace_tree *t, uint64_t id);

#endif
