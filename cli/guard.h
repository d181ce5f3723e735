// SPDX-License-Identifier: Apache-2.0
/*
 * guard: the process of `docflume run` itself. It forks the coordinator, waits for it, passes on requests to stop, and starts it again
 * when a signal ended it; nothing else, so that nothing in it can fail.
 *
 * - Killing the guard ends all at once: the coordinator dies with it, and workers with the coordinator.
 * - A coordinator that exits has its code passed on. One that a signal ended is started again (the next epoch goes on from the
 *   journal) when there is a run directory and every input can be read again, unless the run was asked to stop. DF_RESPAWNS_MAX
 *   lives in a row that committed nothing are the end: exit code 75, the same command goes on.
 * - Where it cannot go on (rows on stdout, an input that cannot be read again) it says how far it came, exit code 1.
 * - A first request to stop goes to the coordinator, which drains; after a second one the coordinator has DF_GUARD_PATIENCE_MS to leave.
 * - Ctrl-Z and SIGCONT have their usual effect on the whole group; the guard does not meddle.
 */
#ifndef DF_CLI_GUARD_H
#define DF_CLI_GUARD_H

#include "coordinator/life/run_options.h"

/* Returns the exit code in the guard, and in the forked coordinator as well. Must be called by a process with one thread; one that
 * has more (a library's) runs the coordinator itself, without a guard. */
int df_guard_run(const struct df_run_options *options);

#endif
