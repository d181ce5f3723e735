// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline_run: the stages of one worker, opened from the pipeline's text, and a batch's way through them.
 */
#ifndef DF_WORKER_PIPELINE_RUN_H
#define DF_WORKER_PIPELINE_RUN_H

#include "proto/heritage.h"
#include "worker/doc.h"

struct df_pipeline_run;

enum df_err df_pipeline_run_open(const struct df_heritage *h, struct df_pipeline_run **ret_run,
				 struct df_fail *fail) DF_MUST_CHECK;
void df_pipeline_run_close(struct df_pipeline_run **run);

/* Every stage in turn; the error names the stage. */
enum df_err df_pipeline_run_batch(struct df_pipeline_run *run, struct df_batch *batch,
				  struct df_fail *fail) DF_MUST_CHECK;
/* Adds "time_ns:STAGE" of the batches since the last call. */
void df_pipeline_run_times(struct df_pipeline_run *run, struct df_counters *counters);

#endif
