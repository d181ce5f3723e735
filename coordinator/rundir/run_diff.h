// SPDX-License-Identifier: Apache-2.0
/*
 * run_diff: is the run that is asked for the run that is in the directory? Old and new, side by side.
 */
#ifndef DF_COORDINATOR_RUNDIR_RUN_DIFF_H
#define DF_COORDINATOR_RUNDIR_RUN_DIFF_H

#include "coordinator/rundir/run_json.h"

/* Adds two lines for a pipeline that differs (of long ones the part around the first difference) and one for each option, LF behind
 * each. `what` gets words for the summary: "pipeline", "option max_record", "3 options". Inputs are compared by inputs.h. True: the
 * same. */
bool df_run_diff(const struct df_run_summary *there, const struct df_run_summary *asked, struct df_buf *lines,
		 struct df_buf *what);

#endif
