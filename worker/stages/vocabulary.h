// SPDX-License-Identifier: Apache-2.0
/*
 * vocabulary: which model's tokens a stage counts, and its tokenizer.
 */
#ifndef DF_WORKER_STAGES_VOCABULARY_H
#define DF_WORKER_STAGES_VOCABULARY_H

#include "worker/stage.h"
#include "worker/token/wordpiece.h"

#define DF_DEFAULT_MODEL_TOKENS 256 /* of embed's max_tokens */

/* A tokenizer with the memory it works in. */
struct df_vocabulary {
	struct df_wordpiece *tok;
	struct df_wordpiece_scratch *scratch;
	struct df_tokens tokens;
};

/* env->model_dir, else the cache's folder of the name `model` (empty: the default model). DF_ERR_NOT_FOUND says how to
 * fetch a model that is not in the cache; other errors as df_wordpiece_open_dir. */
enum df_err df_vocabulary_open(const struct df_stage_env *env, struct df_str model,
			       struct df_vocabulary *ret_vocabulary, struct df_fail *fail) DF_MUST_CHECK;
void df_vocabulary_close(struct df_vocabulary *v); /* accepts a zeroed struct */

/* An option of the first `embed` stage behind this one, as written; NULL p when there is no such stage or option. */
struct df_str df_embed_option(const struct df_stage_env *env, const char *key);
bool df_embed_follows(const struct df_stage_env *env);

#endif
