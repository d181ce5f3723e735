// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline_run: the stages of one worker, opened from the pipeline's text, and a batch's way through them.
 */
#ifndef DF_WORKER_LEASE_PIPELINE_RUN_H
#define DF_WORKER_LEASE_PIPELINE_RUN_H

#include "base/limits.h"
#include "proto/heritage.h"
#include "worker/doc.h"

struct df_pipeline_run;
struct df_spawner;
struct df_caller;
struct df_compute_turn;

/* What stages call out with. */
struct df_outside {
	struct df_caller *caller;
	struct df_compute_turn *turn;
	int stream_fd; /* -1: nothing is streamed */
};

/* What batches took, by stage: computing, and waiting without the turn. */
struct df_stage_times {
	uint64_t busy_ns[DF_STAGES_MAX], wait_ns[DF_STAGES_MAX];
};

/* Stages report progress to the slot, start commands by the spawner (NULL: none has any), and call out (NULL: none does). All outlive
 * the run. */
enum df_err df_pipeline_run_open(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
				 const struct df_outside *outside, struct df_pipeline_run **ret_run,
				 struct df_fail *fail) DF_MUST_CHECK;
void df_pipeline_run_close(struct df_pipeline_run **run);

/* Every stage in turn; the error names the stage. Several batches may be inside, one of them with the compute turn; their times are added
 * to the owner's. With --stream more than one document in all is DF_ERR_USAGE. */
enum df_err df_pipeline_run_batch(struct df_pipeline_run *run, struct df_batch *batch, struct df_stage_times *times,
				  struct df_fail *fail) DF_MUST_CHECK;
/* What the stage of this number is called in counters and rejects; NULL: there is none (DF_NO_STAGE). */
const char *df_pipeline_run_stage(const struct df_pipeline_run *run, uint32_t stage);
/* Its first stage needs no text in a record. */
bool df_pipeline_run_takes_any(const struct df_pipeline_run *run);
/* Adds "time_ns:STAGE", and "wait_ns:STAGE" where one waited; the times are zero then. */
void df_pipeline_run_times(const struct df_pipeline_run *run, struct df_stage_times *times,
			   struct df_counters *counters);

#endif
