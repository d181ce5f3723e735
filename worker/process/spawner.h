// SPDX-License-Identifier: Apache-2.0
/*
 * spawner: a small process beside a worker that starts the commands of its `exec` stages, since the worker itself has given up
 * starting anything (confine.h).
 *
 * It is forked in main before any thread and before the worker confines itself, so commands have the user's environment, limits and
 * rights. It knows the pipeline's commands from that moment: a request names one by its number, so a worker that was taken over by a
 * document can start the user's own commands and nothing else. One command runs at a time, by /bin/sh -c, in a process group of its own,
 * with the descriptors that came with the request as 0, 1 and 2 and no other.
 *
 * No command outlives its worker: when the worker's end of the socket closes, however that came, the spawner kills
 * the command's whole group and leaves. What leaves the group (setsid) has asked to be left alone. When the spawner dies, the
 * worker dies the same way (df_spawner_lost): to everybody else they are one. The command's shell dies with it then; what that had
 * started finds its pipes closed.
 *
 * Calls belong to one thread. Errors: DF_ERR_CHILD (the spawner is gone or does not answer: see df_spawner_lost), DF_ERR_IO.
 */
#ifndef DF_WORKER_PROCESS_SPAWNER_H
#define DF_WORKER_PROCESS_SPAWNER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct df_spawner;

/* `command`: NUL-terminated or NULL (a number that starts nothing), copied; at most DF_STAGES_MAX. */
enum df_err df_spawner_start(const char *const *command, size_t n, struct df_spawner **ret_spawner,
			     struct df_fail *fail) DF_MUST_CHECK;
/* Ends it, and a command that still runs; waits until it has gone. */
void df_spawner_stop(struct df_spawner **spawner);

/* Start command `number`; the caller keeps `fd` (0, 1, 2 of the command) and closes its own copies. */
enum df_err df_spawner_run(struct df_spawner *s, size_t number, const int fd[3], struct df_fail *fail) DF_MUST_CHECK;
/* Readable when the command has ended, or the spawner. */
int df_spawner_fd(const struct df_spawner *s);
/* True when the command itself has ended (its children may run on). Does not wait. */
bool df_spawner_has_ended(struct df_spawner *s);
/* Kill the command's group and reap it; *ret_status as waitpid has it. */
enum df_err df_spawner_finish(struct df_spawner *s, int *ret_status, struct df_fail *fail) DF_MUST_CHECK;

/* Somebody killed the spawner: end this process by the same signal, or SIGKILL. Does not return. */
_Noreturn void df_spawner_lost(struct df_spawner *s);

#endif
