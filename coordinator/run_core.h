// SPDX-License-Identifier: Apache-2.0
/*
 * run_core: what run.c, run_prepare.c and run_start.c share: one run's things, in the order in which they come to be. Private to them.
 */
#ifndef DF_COORDINATOR_RUN_CORE_H
#define DF_COORDINATOR_RUN_CORE_H

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/cells/dataset.h"
#include "coordinator/cells/grid.h"
#include "coordinator/children/memory.h"
#include "coordinator/children/read_paths.h"
#include "coordinator/children/supervise.h"
#include "coordinator/control/control.h"
#include "coordinator/life/ending.h"
#include "coordinator/rundir/expenses.h"
#include "coordinator/rundir/outputs.h"
#include "coordinator/rundir/spool.h"
#include "coordinator/show/news.h"
#include "coordinator/show/progress.h"
#include "coordinator/sink_thread.h"
#include "coordinator/wire.h"

struct df_run {
	const struct df_run_options *options;
	struct df_spool spool;
	struct df_dataset dataset;
	struct df_grid grid;
	struct df_outputs outputs;
	struct df_wire wire;
	struct df_queue *events;
	struct df_sink_thread *sink;
	struct df_supervisor *supervisor;
	struct df_control *control;
	struct df_progress progress;
	struct df_news news;
	struct df_expenses expenses;
	struct df_heritage heritage; /* what all children have in common */
	struct df_read_paths read_paths;
	struct df_memory_plan memory;
	struct df_frames frames;
	uint32_t n_child;
	struct df_life *life;
	struct df_ending ending;
	uint64_t start_ns, next_notice_ns, next_look_ns, told_stuck_ns;
	uint64_t stop_ns;     /* when the run began to stop; 0: it has not */
	bool at_once;         /* leave the loop: a second request, --halt now, or a first one whose grace has gone by */
	bool too_many_errors; /* that is why it stops */
	bool led;             /* a lease has gone out in this life */
};

/* What is read and where results go; what earlier epochs did. DF_ERR_INTERRUPTED when it is asked to stop meanwhile. */
enum df_err df_run_prepare(struct df_run *r, struct df_fail *fail) DF_MUST_CHECK;
/* Sockets, the sink's thread, the state machine; no child yet. */
enum df_err df_run_start(struct df_run *r, struct df_fail *fail) DF_MUST_CHECK;
/* Everything, however far it came; children and the sink's thread have ended. */
void df_run_release(struct df_run *r);

#endif
