// SPDX-License-Identifier: Apache-2.0
/*
 * stages: the stages there are, each in the file of its name (worker/stage.h is their contract).
 */
#ifndef DF_WORKER_STAGES_STAGES_H
#define DF_WORKER_STAGES_STAGES_H

#include "worker/stage.h"

extern const struct df_stage_class df_stage_strip, df_stage_lower, df_stage_normalize;
extern const struct df_stage_class df_stage_clean, df_stage_count, df_stage_sample;
extern const struct df_stage_class df_stage_chunk, df_stage_tokenise;
extern const struct df_stage_class df_stage_embed, df_stage_llm, df_stage_request, df_stage_exec;

#endif
