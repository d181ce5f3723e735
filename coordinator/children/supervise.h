// SPDX-License-Identifier: Apache-2.0
/*
 * supervise: child processes: start by fork + exec of the same binary, reap, end. Belongs to the control thread alone
 * (a child's parent-death signal fires when the thread that started it dies).
 */
#ifndef DF_COORDINATOR_CHILDREN_SUPERVISE_H
#define DF_COORDINATOR_CHILDREN_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "coordinator/control/effects.h"
#include "coordinator/dispatch/dispatch.h"
#include "proto/heritage.h"

struct df_supervisor;

struct df_child_exit {
	uint64_t lane;
	enum df_role role;
	int exit_code, signal; /* signal 0: exited */
	struct df_blame blame;
};

struct df_process_stats {
	enum df_role role;
	uint32_t number;
	uint64_t peak_rss_bytes;
	uint64_t cpu_ns;
};

enum df_err df_supervisor_create(struct df_supervisor **ret_supervisor, struct df_fail *fail) DF_MUST_CHECK;
/* Ends what is left: SIGTERM, then SIGKILL after `grace_ms`. A child that does not go even then is left to its parent-death signal. */
void df_supervisor_destroy(struct df_supervisor **s);
void df_supervisor_end_all(struct df_supervisor *s, int grace_ms);

/* Workers started from now on have this file as descriptor `as`, above those that all children have; a copy of it is kept. */
enum df_err df_supervisor_give(struct df_supervisor *s, int fd, int as, struct df_fail *fail) DF_MUST_CHECK;
/* Workers have this process's stdout as theirs, instead of its stderr. */
void df_supervisor_stream(struct df_supervisor *s);

/* `base` is copied; lane, role, number, nonce and lane_endpoint are those of the new child. stdin_fd: -1 for /dev/null. */
enum df_err df_supervisor_spawn(struct df_supervisor *s, const struct df_heritage *h, int stdin_fd,
				struct df_fail *fail) DF_MUST_CHECK;
void df_supervisor_kill(struct df_supervisor *s, uint64_t lane, int signal);
/* A child at this moment, and its record in the slot, read as one; see effects.h. Lane 0: this process. */
bool df_supervisor_look(struct df_supervisor *s, uint64_t lane, unsigned want, struct df_look *ret_look);
/* One child that has ended since; false: none. Call until false after SIGCHLD. */
bool df_supervisor_reap(struct df_supervisor *s, struct df_child_exit *ret_exit);
/* Those that live, in the order of their start; how many, at most `max`. */
struct df_child_info {
	uint64_t lane;
	enum df_role role;
	uint32_t number;
	pid_t pid;
};
size_t df_supervisor_children(const struct df_supervisor *s, struct df_child_info *ret, size_t max);
/* One character per worker: '#' computing, '~' waiting for answers, '.' waiting. */
void df_supervisor_states(const struct df_supervisor *s, char *ret_states, size_t size);
/* Calls of all workers: in flight, waiting, and what most of those of the worker with the most wait for. */
struct df_calls {
	uint64_t sent, waiting, until_ns;
	enum df_calls_wait wait;
};
struct df_calls df_supervisor_calls(const struct df_supervisor *s);
/* What ended children used; valid until the next reap. */
const struct df_process_stats *df_supervisor_stats(const struct df_supervisor *s, size_t *ret_n);

#endif
