// SPDX-License-Identifier: Apache-2.0
/* needs: the pipeline read once before the stages are opened, for its flags and commands alone. */
#include "worker/needs.h"

#include "base/pipeline.h"
#include "worker/stages/registry.h"

enum df_err df_needs_of(const struct df_heritage *h, struct df_arena *arena, struct df_needs *ret_needs,
			struct df_fail *fail)
{
	const struct df_stage_class **class = NULL;
	struct df_pipeline pipeline;
	struct df_needs needs = {0};
	void **options = NULL;
	DF_TRY(df_pipeline_parse(h->pipeline, arena, &pipeline, fail));
	DF_TRY(df_stage_check_pipeline(&pipeline, arena, &class, &options, fail));
	needs.n_stage = pipeline.n_stage;
	for (size_t i = 0; i < pipeline.n_stage; i++) {
		needs.flags |= class[i]->flags;
		needs.command[i] = class[i] == &df_stage_exec ? df_exec_command(options[i]) : NULL;
	}
	*ret_needs = needs;
	return DF_OK;
}
