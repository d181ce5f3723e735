// SPDX-License-Identifier: Apache-2.0
/*
 * preset: several options by one name: `llm preset=analyst` is temperature=0.1 max_tokens=800.
 *
 * Presets are taken out of a pipeline where the command is read (cli/resolve.h), so that what travels to workers and stands in run.json is the options
 * themselves. An option that is written in the pipeline or on the command line wins. A preset of the user's wins over a built-in one of the same name.
 */
#ifndef DF_WORKER_STAGES_PRESET_H
#define DF_WORKER_STAGES_PRESET_H

#include "base/conf.h"
#include "base/pipeline.h"

struct df_preset {
	struct df_str name;
	struct df_pipeline_opt *opt;
	size_t n_opt;
	struct df_str from;   /* for errors: "built-in", or the file */
	struct df_str *place; /* of each option: "file:line:column"; NULL for a built-in one */
};

struct df_presets {
	struct df_preset *item;
	size_t n;
};

extern const struct df_presets df_presets_built_in;

/* Replaces the stage's option 'preset', when it has one, by that preset's options. `rows` are the stage's. DF_ERR_USAGE: no such preset (the known ones are
 * listed), or one of its options is none of the stage's; DF_ERR_NOMEM. */
enum df_err df_preset_apply(struct df_pipeline_stage *stage, const struct df_opt *rows, const struct df_presets *user,
			    struct df_arena *arena, struct df_fail *fail) DF_MUST_CHECK;

#endif
