// SPDX-License-Identifier: Apache-2.0
/*
 * ending: who asks a run to end early: signals (its own, and those that its guard got), --time-limit, and --max-errors.
 *
 * A request may come on two ways at once: Ctrl-C and `kill -- -PGID` reach guard and coordinator, `kill PID` one of them. Each
 * way counts for itself, and the run was asked as often as the way on which it was asked more often. What processes send within
 * DF_SAME_REQUEST_MS is one request: timeout(1) signals its child and then its child's group.
 */
#ifndef DF_COORDINATOR_LIFE_ENDING_H
#define DF_COORDINATOR_LIFE_ENDING_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/map.h"
#include "coordinator/life/life.h"
#include "coordinator/life/run_options.h"

#define DF_SAME_REQUEST_MS 5

/* Counts requests of one way. */
struct df_requests {
	uint32_t n;
	uint64_t last_ns;
};

/* One came now; `code` is its si_code: the kernel's (a key that was pressed) always count. True: it is a new one. */
bool df_requests_add(struct df_requests *q, int code, uint64_t now_ns);

struct df_ending {
	int signal_fd;        /* readable: call df_ending_take */
	struct df_life *life; /* its asked_fd too, unless it is -1 */
	struct df_requests own, passed;
	bool child;             /* a SIGCHLD was read: look for the dead, then clear it */
	int signal;             /* of the first request */
	uint64_t limit_boot_ns; /* 0: no limit */
};

/* The signals that ask a run to stop: SIGINT, SIGTERM, SIGUSR1, and SIGHUP unless it was ignored (nohup). */
void df_ending_signals(sigset_t *ret_set);
/* They and SIGCHLD become a descriptor, in this thread and all that it starts; what came since they were blocked counts. */
enum df_err df_ending_open(struct df_ending *e, struct df_life *life, uint64_t time_limit_ns,
			   struct df_fail *fail) DF_MUST_CHECK;
void df_ending_close(struct df_ending *e);
/* Reads what came; how often the run was asked to stop until now. Never waits. */
uint32_t df_ending_take(struct df_ending *e, uint64_t now_ns);
/* "interrupted", ...; of the first request. */
const char *df_ending_reason(const struct df_ending *e);
bool df_ending_time_is_up(const struct df_ending *e);

/* Of all epochs. */
struct df_error_counts {
	uint64_t in, rejected, source_errors;
};

/* More went wrong than --max-errors allows. A percentage means something from DF_MAX_ERRORS_SAMPLE documents on, and at the end. */
bool df_errors_exceed(const struct df_run_options *o, const struct df_error_counts *c, bool at_end);
/* Says so: how many, the limit, the commonest reason of rejects (among `totals`, may be NULL), what to do. DF_ERR_LIMIT. */
enum df_err df_errors_tell(const struct df_run_options *o, const struct df_error_counts *c, const struct df_map *totals,
			   struct df_fail *fail);

#endif
