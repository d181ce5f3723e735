// SPDX-License-Identifier: Apache-2.0
/* exec_own: what the chapters of `exec` share: exec.c (the stage), exec_run.c (one run of the command), exec_lines.c (rows as lines, lines as rows). */
#ifndef DF_WORKER_STAGES_EXEC_OWN_H
#define DF_WORKER_STAGES_EXEC_OWN_H

#include "base/buf.h"
#include "worker/process/spawner.h"
#include "worker/stage.h"

#define DF_EXEC_STDERR_KEPT 4096U
#define DF_EXEC_READ_BYTES 65536U /* at once, beyond the ceiling of the output at the most */

struct df_exec_options {
	struct df_str cmd;
	int64_t timeout_ms;
	uint64_t max_output;
};

enum df_exec_ending { DF_EXEC_ENDED, DF_EXEC_TIMED_OUT, DF_EXEC_TOO_MUCH, DF_EXEC_BROKEN };

/* The rows of a batch that went in, in order: line i of the output belongs to row i. */
struct df_exec_rows {
	struct df_row **row;
	size_t n;
};

/* One run of the command. */
struct df_exec_run {
	const struct df_exec_options *options;
	struct df_spawner *spawner;
	int in, out, err;   /* our ends; -1 when closed */
	struct df_str left; /* input not yet written */
	struct df_buf output;
	char last[DF_EXEC_STDERR_KEPT]; /* the newest bytes of stderr */
	size_t n_last;
	uint64_t deadline_ns;
	bool exited;      /* the command itself; its children may run on */
	int status;       /* as waitpid gives it, once reaped */
	bool new_sigpipe; /* none was pending before: one that is pending now is ours */
};

/* --- one run --- */
/* The command's process, with pipes to it. DF_ERR_CHILD: the spawner has gone. */
enum df_err df_exec_start(struct df_exec_run *r, size_t number, struct df_fail *fail) DF_MUST_CHECK;
/* All of the input in, all of the output out, and the process reaped with its group; r->output has what came. */
enum df_exec_ending df_exec_converse(struct df_exec_run *r, const struct df_stage_env *env);

/* --- lines --- */
/* The buffer remembers an error. */
void df_exec_add_line(struct df_buf *b, const struct df_row *row);
/* One line for each row, or all their documents are rejected. DF_ERR_NOMEM. */
enum df_err df_exec_take_lines(struct df_stage *s, struct df_batch *b, struct df_exec_rows live,
			       struct df_str output) DF_MUST_CHECK;
void df_exec_reject_all(struct df_stage *s, struct df_batch *b, struct df_exec_rows live, enum df_err err,
			const char *message);

#endif
