// SPDX-License-Identifier: Apache-2.0
/* needs: the pipeline read once before the stages are opened, for its flags and commands alone. */
#include "worker/needs.h"

#include <string.h>

#include "base/pipeline.h"
#include "worker/stages/registry.h"

#define RECORDED "recorded/"

/* The path that an option's value names; empty: none. */
static struct df_str named_path(struct df_str value)
{
	size_t skip = df_str_starts(value, RECORDED) ? sizeof(RECORDED) - 1 : value.n;
	return (struct df_str){value.p + skip, value.n - skip};
}

static enum df_err note_paths(const struct df_pipeline_stage *s, struct df_arena *arena, struct df_needs *needs,
			      struct df_fail *fail)
{
	struct df_str *path = df_arena_array(arena, needs->n_read_path + s->n_opt + 1, sizeof(*path));
	if (!path)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline");
	if (needs->n_read_path)
		memcpy(path, needs->read_path, needs->n_read_path * sizeof(*path));
	needs->read_path = path;
	for (size_t i = 0; i < s->n_opt; i++) {
		struct df_str p = named_path(s->opt[i].value);
		if (p.n)
			path[needs->n_read_path++] = p;
	}
	return DF_OK;
}

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
		if (class[i] -> flags & DF_STAGE_NETWORK)
			DF_TRY(note_paths(&pipeline.stage[i], arena, &needs, fail));
		needs.command[i] = class[i] == &df_stage_exec ? df_exec_command(options[i]) : NULL;
	}
	*ret_needs = needs;
	return DF_OK;
}
