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
	 .max = DF_MODEL_NAME_BYTES > 256 ? DF_MODEL_NAME_BYTES : 256,
	 .value_name = "NAME",
	 .help = "The model: one that runs here, by its name in the cache (--model-dir gives a folder instead), or one "
		 "of "
		 "an API, e.g. text-embedding-3-small, voyage-3, ollama/any"},
	{.name = "max_tokens",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct df_embed_options, max_tokens),
	 .initial = "256",
	 .min = 2,
	 .max = 65536,
	 .help = "Word pieces of a text, the model's special tokens included; what is beyond is cut off and counted "
		 "(not "
		 "for an API)"},
	{.name = "batch_tokens",
	 .pace = true,
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
	{.name = "dimensions",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct df_embed_options, dimensions),
	 .min = 0,
	 .max = 65536,
	 .help = "Length of the vectors, for APIs that can shorten them; 0: the model's own"},
	DF_API_ROWS(struct df_embed_options),
	{.name = NULL},
};

bool df_embed_is_api(struct df_str model)
{
	const struct df_models *models = NULL;
	const struct df_provider *p = NULL;
	struct df_model_info info;
	struct df_str id;
	return model.n && !df_str_is(model, DF_MODEL_DEFAULT) && df_models_shared(&models, NULL) == DF_OK &&
	       df_models_find(models, model, &p, &id, &info, NULL) == DF_OK;
}

static const struct df_stage_class *variant(const void *options)
{
	return df_embed_is_api(((const struct df_embed_options *)options)->model) ? &df_stage_embed_api : NULL;
}

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct df_embed_options *o = options;
	const struct df_models *models = NULL;
	if (!df_str_is(o->model, DF_MODEL_DEFAULT)) /* who it is, models.yaml may say */
		DF_TRY(df_models_shared(&models, fail));
	bool has_prefix = o->model.n && memchr(o->model.p, '/', o->model.n); /* as no model that runs here has */
	if (has_prefix || df_embed_is_api(o->model)) {
		const struct df_str word = DF_STR("word");
		const struct df_ask like = {
			.kind = DF_ASK_EMBED, .input = &word, .n_input = 1, .dimensions = o->dimensions};
		DF_TRY(df_api_check(&o->api, o->model, fail));
		return df_api_check_ask(&o->api, o->model, &like, fail);
	}
	if (o->dimensions)
		return df_fail(fail, DF_ERR_USAGE,
			       "a model that runs here has vectors of one length; dimensions= is for APIs");
	if (o->api.fallback.n || o->api.base_url.n)
		return df_fail(fail, DF_ERR_USAGE,
			       "fallback= and base_url= are for models of APIs, and '%.*s' runs here",
			       (int)(o->model.n < 100 ? o->model.n : 100), o->model.p);
	return DF_OK;
}

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
	.summary = "make a vector of each text, with a model that runs here or one of an API",
	.help = "Runs a BERT encoder (the sentence-transformers family: all-MiniLM-L6-v2 by default) on the CPU, one "
		"thread "
		"in each worker; the weights are mapped, so all workers share one copy. 'docflume models fetch' puts "
		"the default model into the cache; at run time no network is used.\n"
		"The vectors go to part-*.npy with --output-format npy or both, and to \"embedding\" in JSONL "
		"otherwise. A text "
		"of more than max_tokens word pieces is cut and counted as truncated: put 'chunk' in front to keep it "
		"all.\n"
		"A model of an API (text-embedding-3-small, voyage-3, ollama/any, ...) is asked over the network "
		"instead, "
		"within its limits. A request holds the texts of some cells of input, 512 of 32 KB at most: many small "
		"ones at once are the fastest. Where requests are what is limited, --cell-size=1m makes them as large "
		"as "
		"the API takes. Tokens are estimated from above (bytes / 2) and set right by what the answer says. A "
		"text that the API refuses rejects its document alone; empty texts are rejected. The options from "
		"dimensions= on are for APIs.\n"
		"Example: docflume run 'clean | chunk tokens=200 overlap=20 | embed' -o out docs/\n",
	.options = option_rows,
	.options_size = sizeof(struct df_embed_options),
	.flags = DF_STAGE_VECTORS | DF_STAGE_MODEL,
	.check = check,
	.variant = variant,
	.open = open_,
	.process = process,
	.close = close_,
};
