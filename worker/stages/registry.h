// SPDX-License-Identifier: Apache-2.0
/*
 * registry: all stages by name, and the check of a pipeline against them: the one place where the language of
 * pipelines meets what stages know. No stage is opened, and no file is touched here but the user's models.yaml (df_models_shared).
 */
#ifndef DF_WORKER_STAGES_REGISTRY_H
#define DF_WORKER_STAGES_REGISTRY_H

#include "base/pipeline.h"
#include "worker/stage.h"

extern const struct df_stage_class df_stage_exec;
const char *df_exec_command(const void *options); /* its command, from its options; NUL-terminated */

/* In the order in which they are listed to people; ends with NULL. */
extern const struct df_stage_class *const df_stage_registry[];

/* NULL when there is none of that name. */
const struct df_stage_class *df_stage_find(struct df_str name);

/* Append "; did you mean 'chunk'?" for an unknown name; nothing when none is near. */
void df_stage_suggest(struct df_buf *out, struct df_str name);

/* Check every stage and option of `p`. On success ret_class[i] and ret_options[i] (arrays of p->n_stage in `arena`) are
 * the class and the filled options struct of stage i (NULL when the class has none). DF_ERR_USAGE with the line and a
 * caret: unknown stage, unknown option, wrong value, missing option, options that do not go together. DF_ERR_NOMEM. */
enum df_err df_stage_check_pipeline(const struct df_pipeline *p, struct df_arena *arena,
				    const struct df_stage_class ***ret_class, void ***ret_options,
				    struct df_fail *fail) DF_MUST_CHECK;

#endif
