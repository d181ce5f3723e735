// SPDX-License-Identifier: Apache-2.0
/*
 * trace_line: one line of a trace: a span, and perhaps the attempt that ended it (docs/TRACE.md lists the keys).
 *
 * What a reader can make of the rest is left out: the run where a line of the same process before has told it, a parent that is a hash of (run, stage, document), a
 * name that follows from kind and model, and the whole line of an attempt that says nothing but what its call says (`last_...`, df_trace_line_joins). Lines
 * as they were before that, with all of it, are read as well.
 */
#ifndef DF_WORKER_TRACE_TRACE_LINE_H
#define DF_WORKER_TRACE_TRACE_LINE_H

#include "base/arena.h"
#include "base/buf.h"
#include "worker/trace/trace.h"

#define DF_TRACE_LINE_ROOM ((size_t)16 << 10) /* that df_trace_line_make may need, before it finds a line too long */

struct df_trace_line {
	struct df_span span; /* read: strings are slices of the line or lie in the arena; parent 0: none, or not told */
	uint64_t run_id;     /* 0: not told */
	uint32_t pid;
	uint64_t left_out; /* not 0: no span, but so many are missing */
	/* The last attempt, which has no line of its own: its start after the call's, its duration, its first token. */
	bool has_last;
	uint64_t last_start_ns, last_duration_ns, last_first_token_ns;
};

/* Whether the call tells all that the attempt is but its times: these then go to *ret_line. */
bool df_trace_line_joins(const struct df_span *call, const struct df_span *attempt, struct df_trace_line *ret_line);
/* Of a line with has_last: the attempt. Its id is a hash of its call's. */
struct df_span df_trace_line_last(const struct df_trace_line *line);

/* In place of what `out` held, with its line break. span.id is not 0; of `doc` at most doc_bytes. DF_ERR_LIMIT: longer than DF_TRACE_LINE_BYTES. `out` holds
 * DF_TRACE_LINE_ROOM at least. run_id is told if `tell_run`. */
enum df_err df_trace_line_make(struct df_buf *out, const struct df_trace_line *line, bool tell_run, size_t doc_bytes);

/* A line without its break. DF_ERR_PARSE: it is none. `arena` is reset where a line needs more than slices (escapes, foreign forms); quick: such a line is none. */
enum df_err df_trace_line_scan(struct df_str text, struct df_arena *arena, struct df_trace_line *ret_line);
enum df_err df_trace_line_quick(struct df_str text, struct df_trace_line *ret_line);

/* Where a span without a told parent belongs; 0: nowhere. */
uint64_t df_trace_parent(uint64_t run_id, const struct df_span *span);
/* "chat MODEL", "attempt", ...: of a span that has no name of its own. */
struct df_str df_trace_span_name(const struct df_span *span, char z[192]);

#endif
