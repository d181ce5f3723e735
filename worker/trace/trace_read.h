// SPDX-License-Identifier: Apache-2.0
/*
 * trace_read: a trace file as a tree of spans: run, stage, document, call, attempt.
 *
 * A span's node has ids and times alone, 64 bytes; the rest is read again from its line when it is asked for. Parents that nobody put (documents, stages, the
 * run) are made: they begin with the first span below them and end with the last.
 */
#ifndef DF_WORKER_TRACE_TRACE_READ_H
#define DF_WORKER_TRACE_TRACE_READ_H

#include "worker/trace/trace_file.h"

struct df_trace_node {
	uint64_t id, parent;       /* parent 0: none */
	uint64_t start_ns, end_ns; /* wall clock */
	uint64_t run_id;
	size_t line; /* in the text; of a made one: of a span below it */
	uint32_t line_bytes;
	int32_t pid;
	uint32_t lane; /* trace_chrome's */
	uint8_t kind;  /* enum df_span_kind */
	bool made;
	bool last; /* the attempt in its call's line */
};

struct df_trace_tree {
	struct df_trace_file file; /* torn, left_out */
	struct df_trace_node *node;
	size_t n; /* by start, parents before their children */
	size_t cap;
	uint32_t *slot; /* of the table of ids: index + 1 */
	size_t n_slot;
	/* Of the span that was asked for last: its line, as neighbours often share one, and the name that was made for it. */
	struct df_trace_line latest;
	struct df_str latest_text;
	char name[192];
};

/* `path`: a run directory, or the file itself. DF_ERR_NOT_FOUND, DF_ERR_LIMIT (more than DF_TRACE_SPANS_MAX), DF_ERR_NOMEM, DF_ERR_IO. */
enum df_err df_trace_load(const char *path, struct df_trace_tree *ret_tree, struct df_fail *fail) DF_MUST_CHECK;
void df_trace_release(struct df_trace_tree *t);

/* All of a node; strings last until the next call. A made one has name, document and stage. */
enum df_err df_trace_span(struct df_trace_tree *t, const struct df_trace_node *node, struct df_span *ret) DF_MUST_CHECK;
/* NULL: none. */
const struct df_trace_node *df_trace_find(const struct df_trace_tree *t, uint64_t id);

#endif
