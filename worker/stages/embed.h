// SPDX-License-Identifier: Apache-2.0
/* embed: the options of the stage, for those who must embed as it does: the search for a run's vectors, and chunk. */
#ifndef DF_WORKER_STAGES_EMBED_H
#define DF_WORKER_STAGES_EMBED_H

#include "worker/stage.h"

struct df_embed_options {
	struct df_str model;
	int64_t max_tokens;
	int64_t batch_tokens;
	bool normalize;
};

extern const struct df_stage_class df_stage_embed;

#endif
