// SPDX-License-Identifier: Apache-2.0
/*
 * run: one `docflume run`: the coordinator's process from its options to its exit code.
 *
 * Exit codes: 0 all done; 1 fatal; 3 done, with rejects or source errors; 75 stopped early, the same command goes on.
 */
#ifndef DF_COORDINATOR_RUN_H
#define DF_COORDINATOR_RUN_H

#include "base/exit.h"
#include "coordinator/run_options.h"

int df_coordinator_run(const struct df_run_options *options);

#endif
