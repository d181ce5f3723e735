// SPDX-License-Identifier: Apache-2.0
/* vocabulary: from the names in a pipeline to a tokenizer. */
#include "worker/stages/vocabulary.h"

#include "base/pipeline.h"
#include "worker/model/modeldir.h"
#include "worker/stages/embed.h"

/* An API's tokens are its own affair: chunk counts those of the default model then. */
static bool runs_here(const struct df_pipeline_stage *s)
{
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_str_is(s->opt[i].key, "model"))
			return !df_embed_is_api(s->opt[i].value);
	return true;
}

static const struct df_pipeline_stage *embed_stage(const struct df_stage_env *env)
{
	for (size_t i = env->stage_no + 1; env->pipeline && i < env->pipeline->n_stage; i++)
		if (df_str_is(env->pipeline->stage[i].name, "embed") && runs_here(&env->pipeline->stage[i]))
			return &env->pipeline->stage[i];
	return NULL;
}

bool df_embed_follows(const struct df_stage_env *env)
{
	return embed_stage(env) != NULL;
}

/* '-' and '_' are the same in an option's name. */
static bool same_name(struct df_str a, const char *b)
{
	if (a.n != strlen(b))
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (a.p[i] != b[i] && !(a.p[i] == '-' && b[i] == '_'))
			return false;
	return true;
}

struct df_str df_embed_option(const struct df_stage_env *env, const char *key)
{
	const struct df_pipeline_stage *s = embed_stage(env);
	struct df_str value = {NULL, 0};
	for (size_t i = 0; s && i < s->n_opt; i++)
		if (same_name(s->opt[i].key, key))
			value = s->opt[i].value;
	return value;
}

enum df_err df_vocabulary_open(const struct df_stage_env *env, struct df_str model,
			       struct df_vocabulary *ret_vocabulary, struct df_fail *fail)
{
	char dir[DF_MODEL_PATH_BYTES];
	struct df_vocabulary v = {0};
	if (model.n == 0)
		model = DF_STR(DF_MODEL_DEFAULT);
	DF_TRY(df_model_find(model, env->model_dir, env->model_cache, dir, fail));
	DF_TRY(df_wordpiece_open_dir(dir, &v.tok, fail));
	enum df_err err = df_wordpiece_scratch_create(v.tok, &v.scratch);
	if (err != DF_OK) {
		df_wordpiece_close(&v.tok);
		return df_fail(fail, err, "no memory for a tokenizer");
	}
	*ret_vocabulary = v;
	return DF_OK;
}

void df_vocabulary_close(struct df_vocabulary *v)
{
	df_tokens_release(&v->tokens);
	df_wordpiece_scratch_destroy(&v->scratch);
	df_wordpiece_close(&v->tok);
}
