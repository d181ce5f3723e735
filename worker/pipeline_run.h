// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline_run: the stages of one worker, opened from the pipeline's text, and a batch's way through them.
 */
#ifndef DF_WORKER_PIPELINE_RUN_H
#define DF_WORKER_PIPELINE_RUN_H

#include "proto/heritage.h"
#include "worker/doc.h"

struct df_pipeline_run;
struct df_spawner;

/* Stages report progress to the slot, and start commands by the spawner (NULL: none has any). Both outlive the run. */
enum df_err df_pipeline_run_open(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
				 struct df_pipeline_run **ret_run, struct df_fail *fail) DF_MUST_CHECK;
void df_pipeline_run_close(struct df_pipeline_run **run);

/* Every stage in turn; the error names the stage. */
enum df_err df_pipeline_run_batch(struct df_pipeline_run *run, struct df_batch *batch,
				  struct df_fail *fail) DF_MUST_CHECK;
/* What the stage of this number is called in counters and rejects; NULL: there is none (DF_NO_STAGE). */
const char *df_pipeline_run_stage(const struct df_pipeline_run *run, uint32_t stage);
/* Adds "time_ns:STAGE" of the batches since the last call. */
void df_pipeline_run_times(struct df_pipeline_run *run, struct df_counters *counters);

#endif
