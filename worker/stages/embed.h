// SPDX-License-Identifier: Apache-2.0
/* embed: the options of the stage, for those who must embed as it does: the search for a run's vectors, and chunk. */
#ifndef DF_WORKER_STAGES_EMBED_H
#define DF_WORKER_STAGES_EMBED_H

#include "worker/stage.h"
#include "worker/stages/api.h"

struct df_embed_options {
	struct df_str model;
	int64_t max_tokens;
	int64_t batch_tokens;
	bool normalize;
	int64_t dimensions;
	struct df_api_options api;
};

extern const struct df_stage_class df_stage_embed;
extern const struct df_stage_class
	df_stage_embed_api; /* its variant for models that are asked over the network (embed_api.c) */

/* True: the model's name is one of a provider of APIs (worker/provider, the user's models.yaml), not one that runs inside the worker. */
bool df_embed_is_api(struct df_str model);

#endif
