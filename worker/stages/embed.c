// SPDX-License-Identifier: Apache-2.0
/* embed: a vector for each row, by a BERT model that runs inside the worker. */
#include "worker/stages/embed.h"

#include "worker/model/bert.h"
#include "worker/model/embedder.h"
#include "worker/model/modeldir.h"

static const struct df_opt option_rows[] = {
	{.name = "model",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct df_embed_options, model),
	 .initial = DF_MODEL_DEFAULT,
	 .max = DF_MODEL_NAME_BYTES,
	 .value_name = "NAME",
	 .help = "The model, by its name in the cache; --model-dir gives a folder instead"},
	{.name = "max_tokens",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct df_embed_options, max_tokens),
	 .initial = "256",
	 .min = 2,
	 .max = 65536,
	 .help = "Word pieces of a text, the model's special tokens included; what is beyond is cut off and counted"},
	{.name = "batch_tokens",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct df_embed_options, batch_tokens),
	 .initial = "1024",
	 .min = 16,
	 .max = DF_BERT_TOKENS_MAX,
	 .help = "Word pieces that go through the model at a time: speed and memory, never results"},
	{.name = "normalize",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct df_embed_options, normalize),
	 .initial = "true",
	 .help = "Scale each vector to length 1, so that a product of two is their cosine"},
	{.name = NULL},
};

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct df_embed_options *o = s->options;
	char dir[DF_MODEL_PATH_BYTES];
	struct df_embedder *e = NULL;
	struct df_embedder_options options = {
		.max_tokens = (uint32_t)o->max_tokens,
		.batch_tokens = (uint32_t)o->batch_tokens,
		.normalize = o->normalize,
		.progress = env->progress,
		.progress_self = env->progress_self,
	};
	DF_TRY(df_model_find(o->model, env->model_dir, env->model_cache, dir, fail));
	DF_TRY(df_embedder_open(dir, &options, &e, fail));
	s->state = e;
	return DF_OK;
}

static void close_(struct df_stage *s)
{
	struct df_embedder *e = s->state;
	df_embedder_close(&e);
	s->state = NULL;
}

static enum df_err process(struct df_stage *s, struct df_batch *batch, struct df_fail *fail)
{
	struct df_embedder *e = s->state;
	const uint32_t dim = df_embedder_dim(e);
	struct df_embedder_counts counts = {0};
	size_t n = 0;
	struct df_str *text = df_arena_array(batch->arena, batch->n_row, sizeof(*text));
	struct df_row **row = df_arena_array(batch->arena, batch->n_row, sizeof(*row));
	for (size_t i = 0; text && row && i < batch->n_row; i++)
		if (df_row_live(batch->row[i])) {
			row[n] = batch->row[i];
			text[n++] = batch->row[i]->text;
		}
	float *out = df_arena_array(batch->arena, n * dim, sizeof(*out));
	if (!text || !row || !out)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the vectors of %zu rows", s->call_name,
			       batch->n_row);
	DF_TRY(df_embedder_run(e, text, n, out, &counts, fail));
	for (size_t i = 0; i < n; i++) {
		row[i]->vector = out + i * dim;
		row[i]->dim = dim;
	}
	df_counters_add(batch->counters, "tokens", counts.tokens);
	df_counters_add(batch->counters, "truncated", counts.truncated);
	return DF_OK;
}

const struct df_stage_class df_stage_embed = {
	.name = "embed",
	.summary = "make a vector of each text with a model that runs on this machine",
	.help = "Runs a BERT encoder (the sentence-transformers family: all-MiniLM-L6-v2 by default) on the CPU, one "
		"thread "
		"in each worker; the weights are mapped, so all workers share one copy. 'docflume models fetch' puts "
		"the default model into the cache; at run time no network is used.\n"
		"The vectors go to part-*.npy with --output-format npy or both, and to \"embedding\" in JSONL "
		"otherwise. A text "
		"of more than max_tokens word pieces is cut and counted as truncated: put 'chunk' in front to keep it "
		"all.\n"
		"Example: docflume run 'clean | chunk tokens=200 overlap=20 | embed' -o out docs/\n",
	.options = option_rows,
	.options_size = sizeof(struct df_embed_options),
	.flags = DF_STAGE_VECTORS | DF_STAGE_MODEL,
	.open = open_,
	.process = process,
	.close = close_,
};
