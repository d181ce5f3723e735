// SPDX-License-Identifier: Apache-2.0
/*
 * run: one `docflume run`: the coordinator's process from its options to its exit code.
 *
 * Exit codes: 0 all done, or the reader of stdout wanted no more; 1 fatal, or more errors than allowed; 3 done, with rejects or source
 * errors; 75 stopped early, the same command goes on. `life` (life.h) is shared with the guard that started this process; one without
 * a guard has asked_fd -1 and zeros.
 *
 * Waits, and what ends them: the loop waits 100 ms at most; the sink 200 ms; a stop its --grace and 5 s; children 2 s (4 s where models are called), then SIGKILL,
 * which only a process that the kernel holds in a write to a broken disk outlives. Two have no end but the user's: a reader of stdout
 * that pauses, and a disk that does not answer; both are told on stderr each minute.
 */
#ifndef DF_COORDINATOR_RUN_H
#define DF_COORDINATOR_RUN_H

#include "base/exit.h"
#include "coordinator/life/life.h"
#include "coordinator/life/run_options.h"

int df_coordinator_run(const struct df_run_options *options, struct df_life *life);

#endif
