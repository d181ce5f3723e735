// SPDX-License-Identifier: Apache-2.0
/*
 * role: where a child process begins. `docflume worker` and `docflume reader` are started by the coordinator alone, with their
 * heritage on descriptor 3 and their slot on 4.
 */
#ifndef DF_WORKER_ROLE_H
#define DF_WORKER_ROLE_H

#include "proto/heritage.h"
#include "worker/process/confine.h"
#include "worker/process/spawner.h"

/* argv[0]: "worker" or "reader". Returns the exit code: 0 told to leave, 1 an error (one line on stderr), 2 not started by docflume. */
int df_role_main(int argc, char **argv);

/*
 * The two roles; both return when told to stop or when the coordinator has gone. `confine` has begun and is brought to its end before the
 * first byte of input; NULL: not confined. `spawner` may be NULL. `calls`: the pipeline waits for the network.
 */
enum df_err df_agent_run(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
			 const struct df_confine *confine, bool calls, struct df_fail *fail) DF_MUST_CHECK;
/* A worker that calls out is asked to leave: answers that were paid for are written down first. From a signal handler. */
void df_agent_leave(void);
enum df_err df_reader_run(const struct df_heritage *h, struct df_slot *slot, const struct df_confine *confine,
			  struct df_fail *fail) DF_MUST_CHECK;

#endif
