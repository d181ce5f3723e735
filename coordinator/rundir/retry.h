// SPDX-License-Identifier: Apache-2.0
/*
 * retry: --resume-failed: the rejects of a finished run become the input of a run of their own.
 *
 * Generation N lives in DIR/retry-N, a complete run directory (journal, parts, rejects); its input are the rejects of the generation
 * before, DIR itself being the first. A generation that is not finished goes on; the first one behind a finished one is begun. The
 * pipeline may be another one, since rejects are often tried again with a mended stage: each generation records its own.
 */
#ifndef DF_COORDINATOR_RUNDIR_RETRY_H
#define DF_COORDINATOR_RUNDIR_RETRY_H

#include "base/arena.h"
#include "base/map.h"
#include "coordinator/life/run_options.h"

#define DF_RETRY_GENERATIONS_MAX 1000

struct df_retry {
	uint32_t generation; /* the one to run; the last one when there is nothing to do */
	bool nothing;        /* no document was rejected: a no-op */
};

/*
 * Options of the run that tries again: `out`, the inputs and what goes with them are replaced; --skip and --limit counted documents of
 * the first input. Memory from `arena`. DF_ERR_NOT_FOUND (no run there), DF_ERR_BUSY (it is not finished), DF_ERR_IO, DF_ERR_LIMIT.
 */
enum df_err df_retry_plan(const struct df_run_options *options, struct df_arena *arena,
			  struct df_run_options *ret_options, struct df_retry *ret_retry,
			  struct df_fail *fail) DF_MUST_CHECK;

/* How many generations DIR has: retry-1 .. retry-N without a gap, as folders. */
uint32_t df_retry_generations(const char *dir);

/* The closing line of a run that tries again: "12 retried = 10 out + 0 filtered + 2 rejected again". `totals` as the sink has them. */
void df_retry_tell(const struct df_run_options *options, const struct df_map *totals);

#endif
