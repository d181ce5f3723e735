// SPDX-License-Identifier: Apache-2.0
/*
 * trace_file: a trace line by line, from its beginning.
 *
 * The file is mapped, not read into memory, and may grow meanwhile: what was there at the opening is read. Lines that are torn are passed over and counted; a whole
 * line that follows a torn one without a break is found. What lines leave out is put back: the run, and the parent.
 */
#ifndef DF_WORKER_TRACE_TRACE_FILE_H
#define DF_WORKER_TRACE_TRACE_FILE_H

#include "worker/trace/trace_line.h"

#define DF_TRACE_FILE_RUNS 1024

struct df_trace_file {
	struct df_str text; /* mapped */
	size_t at, forgotten;
	bool forgets;      /* pages that were read are given back */
	uint64_t torn;     /* lines that cannot be read, so far */
	uint64_t left_out; /* spans that their process had no room for, so far */
	struct df_arena arena;
	uint64_t last_run;
	struct {
		uint32_t pid;
		uint64_t run_id;
	} run[DF_TRACE_FILE_RUNS]; /* what processes told last; by pid, the later one where two would share a place */
};

/* `path`: a run directory, or the file itself. forgets: memory stays small, and no line is looked at twice. DF_ERR_NOT_FOUND, DF_ERR_IO. */
enum df_err df_trace_file_open(const char *path, bool forgets, struct df_trace_file *ret_file,
			       struct df_fail *fail) DF_MUST_CHECK;
void df_trace_file_close(struct df_trace_file *f);
/* false: that was the last one. ret_text: where the line is. Its strings last until the next call. */
bool df_trace_file_next(struct df_trace_file *f, struct df_trace_line *ret_line, struct df_str *ret_text);

#endif
