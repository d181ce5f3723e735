// SPDX-License-Identifier: Apache-2.0
/*
 * report: the end of a run, told to people (the closing lines) and to programs (run.json, the exit code). Here
 * "documents in = out + filtered + rejected" is checked for the whole run; a mismatch is an error.
 */
#ifndef DF_COORDINATOR_SHOW_REPORT_H
#define DF_COORDINATOR_SHOW_REPORT_H

#include "coordinator/cells/dataset.h"
#include "coordinator/cells/grid.h"
#include "coordinator/children/supervise.h"
#include "coordinator/control/control.h"
#include "coordinator/life/run_options.h"
#include "coordinator/rundir/expenses.h"
#include "coordinator/rundir/outputs.h"

struct df_report {
	const struct df_run_options *options;
	const struct df_dataset *dataset;
	const struct df_grid *grid;
	struct df_outputs *outputs;
	const struct df_map *totals; /* NULL: the run did not begin */
	struct df_sink_stats sink;
	struct df_control_stats control;
	enum df_outcome outcome;
	const struct df_fail *fail;
	uint64_t elapsed_ns;
	const struct df_process_stats *process;
	size_t n_process;
	struct df_costs costs;
	const struct df_fail
		*quota; /* a budget or a limit of the day is used up, and that is why it stopped; NULL: not so */
};

/* Returns the exit code. */
int df_report(const struct df_report *report);
/* Write run.json of a run directory with the state of the run now ("running" before it begins). */
enum df_err df_report_json(const struct df_report *report, const char *state, struct df_fail *fail) DF_MUST_CHECK;
/* The run directory holds a complete run already. The exit code: as when it became so, or 1 when it has more errors than are allowed now. */
int df_report_finished(struct df_outputs *outputs, const struct df_run_options *options);

#endif
