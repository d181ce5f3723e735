// SPDX-License-Identifier: Apache-2.0
/*
 * expenses: the purse and the trace of a run whose pipeline calls models: opened in the run directory, handed to workers, and looked at for people.
 *
 * Without a run directory the purse is a memory file, and there is no trace. A run of other pipelines has neither. The purse of a run directory goes on with
 * what earlier lives have spent; what they had reserved counts as spent. A thread syncs it each DF_PURSE_SYNC_MS while money moves, so that a power cut
 * forgets no more than what was spent since.
 */
#ifndef DF_COORDINATOR_RUNDIR_EXPENSES_H
#define DF_COORDINATOR_RUNDIR_EXPENSES_H

#include "coordinator/children/supervise.h"
#include "coordinator/life/run_options.h"
#include "proto/purse.h"

#define DF_PURSE_NAME "purse"
#define DF_TRACE_NAME "trace.jsonl"

struct df_expenses {
	struct df_purse *purse;         /* NULL: the run calls nobody */
	struct df_purse_keeper *keeper; /* syncs it; NULL: it is a memory file, or --fsync never */
	int trace_fd;                   /* -1: none */
};

/* USD, over all lives. */
struct df_costs {
	bool known; /* the run calls models */
	double spent, reserved;
	double maybe;     /* of what is spent: of calls that may have been billed, though no answer came */
	double budget;    /* 0: none */
	double projected; /* spent by the end, if the rest costs what the part that is done did; NAN: too early to say */
	uint64_t calls;   /* that were paid, or would have been */
	uint64_t unpriced;    /* of them, those whose price nobody knows */
	uint64_t maybe_calls; /* of them, those that `maybe` is of; calls of killed workers are not counted */
};

/* dir_fd: of the run directory; -1: none. before: what rows that are written cost, or an earlier life of the run in all, and its budget: a purse that was lost,
 * or that a power cut has set back, goes on from there. Fills the heritage's fields for them. */
enum df_err df_expenses_open(struct df_expenses *e, const struct df_run_options *o, int dir_fd, uint64_t run_id,
			     const struct df_costs *before, struct df_supervisor *supervisor, struct df_heritage *h,
			     struct df_fail *fail) DF_MUST_CHECK;
/* A child of that lane was reaped: what it held of the money may have been paid. */
void df_expenses_died(struct df_expenses *e, uint64_t lane);
void df_expenses_all_died(struct df_expenses *e); /* no child is left */
void df_expenses_close(struct df_expenses *e);

/* done: the part of the input that has been worked on, 0 .. 1; below 0: unknown. */
struct df_costs df_expenses_look(const struct df_expenses *e, double done);
/* Of a run directory that nobody is at: what its purse says, which survives those who would have told; not known without one. */
struct df_costs df_expenses_peek(int dir_fd);

#endif
