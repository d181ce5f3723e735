// SPDX-License-Identifier: Apache-2.0
/*
 * needs: what a worker's pipeline wants of its process, known before any stage is open: the commands that a spawner must be
 * able to start, models, the network. Everything else is given up (confine.h).
 */
#ifndef DF_WORKER_NEEDS_H
#define DF_WORKER_NEEDS_H

#include "base/arena.h"
#include "base/limits.h"
#include "proto/heritage.h"

struct df_needs {
	unsigned flags;                     /* enum df_stage_flags of all stages */
	const char *command[DF_STAGES_MAX]; /* by number of the stage; NULL: starts none */
	size_t n_stage;
	struct df_str *read_path; /* files that options of stages that call out name: "recorded/cassettes" */
	size_t n_read_path;
};

/* Strings from `arena`. Errors are those of the pipeline's text. */
enum df_err df_needs_of(const struct df_heritage *h, struct df_arena *arena, struct df_needs *ret_needs,
			struct df_fail *fail) DF_MUST_CHECK;

#endif
