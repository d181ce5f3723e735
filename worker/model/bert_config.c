// SPDX-License-Identifier: Apache-2.0
/* bert_config: JSON to checked sizes. */
#include "worker/model/bert_config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/json.h"

#define ARENA_MAX (16U << 20)
#define PATH_BYTES 4096

static enum df_err size_of(const struct df_json *root, const char *key, uint32_t max, uint32_t *ret,
			   struct df_fail *fail)
{
	const struct df_json *v = df_json_get(root, key);
	uint64_t n = 0;
	if (!v || v->type != DF_JSON_NUMBER || df_str_to_u64(v->string, &n) != DF_OK || n < 1 || n > max)
		return df_fail(fail, DF_ERR_RANGE, "'%s' must be a whole number from 1 to %u", key, max);
	*ret = (uint32_t)n;
	return DF_OK;
}

static enum df_err read_sizes(const struct df_json *root, struct df_bert_config *c, struct df_fail *fail)
{
	DF_TRY(size_of(root, "hidden_size", DF_BERT_HIDDEN_MAX, &c->hidden, fail));
	DF_TRY(size_of(root, "num_hidden_layers", DF_BERT_LAYERS_MAX, &c->layers, fail));
	DF_TRY(size_of(root, "num_attention_heads", DF_BERT_HIDDEN_MAX, &c->heads, fail));
	DF_TRY(size_of(root, "intermediate_size", 8 * DF_BERT_HIDDEN_MAX, &c->intermediate, fail));
	DF_TRY(size_of(root, "vocab_size", 1U << 24, &c->vocab, fail));
	DF_TRY(size_of(root, "max_position_embeddings", 1U << 16, &c->max_positions, fail));
	c->type_vocab = 2;
	if (df_json_get(root, "type_vocab_size"))
		DF_TRY(size_of(root, "type_vocab_size", 1U << 16, &c->type_vocab, fail));
	if (c->hidden % c->heads)
		return df_fail(fail, DF_ERR_RANGE, "'hidden_size' %u is no multiple of 'num_attention_heads' %u",
			       c->hidden, c->heads);
	const struct df_json *eps = df_json_get(root, "layer_norm_eps");
	c->layer_norm_eps = 1e-12F;
	if (eps && (eps->type != DF_JSON_NUMBER || !(eps->number >= 0 && eps->number <= 0.1)))
		return df_fail(fail, DF_ERR_RANGE, "'layer_norm_eps' must be a number from 0 to 0.1");
	if (eps)
		c->layer_norm_eps = (float)eps->number;
	return DF_OK;
}

/* The word of `key` must be one of those given (or, where `optional`, absent); its index. */
static enum df_err word_of(const struct df_json *root, const char *key, const char *const *words, bool optional,
			   size_t *ret, struct df_fail *fail)
{
	struct df_str word = df_json_get_str(root, key);
	if (optional && !df_json_get(root, key)) {
		*ret = 0;
		return DF_OK;
	}
	for (size_t i = 0; words[i]; i++)
		if (df_str_is(word, words[i])) {
			*ret = i;
			return DF_OK;
		}
	struct df_str cut = {word.p, word.n < 100 ? word.n : 100};
	return df_fail(fail, DF_ERR_UNSUPPORTED, "'%s' is '" DF_STR_FMT "'; docflume runs '%s'", key, DF_STR_ARG(cut),
		       words[0]);
}

static enum df_err read_kinds(const struct df_json *root, struct df_bert_config *c, struct df_fail *fail)
{
	static const char *const types[] = {"bert", NULL}, *const positions[] = {"absolute", NULL};
	static const char *const acts[] = {"gelu", "gelu_new", "gelu_pytorch_tanh", NULL};
	size_t i = 0;
	DF_TRY(word_of(root, "model_type", types, true, &i, fail));
	DF_TRY(word_of(root, "position_embedding_type", positions, true, &i, fail));
	DF_TRY(word_of(root, "hidden_act", acts, true, &i, fail));
	c->act = i == 0 ? DF_BERT_GELU : DF_BERT_GELU_TANH;
	return DF_OK;
}

static bool is_true(const struct df_json *root, const char *key)
{
	const struct df_json *v = df_json_get(root, key);
	return v && v->type == DF_JSON_BOOL && v->boolean;
}

static enum df_err read_pooling(const struct df_json *root, struct df_bert_config *c, struct df_fail *fail)
{
	bool mean = is_true(root, "pooling_mode_mean_tokens"), cls = is_true(root, "pooling_mode_cls_token");
	bool other = is_true(root, "pooling_mode_max_tokens") || is_true(root, "pooling_mode_mean_sqrt_len_tokens") ||
		     is_true(root, "pooling_mode_weightedmean_tokens") || is_true(root, "pooling_mode_lasttoken");
	if (other || mean == cls)
		return df_fail(fail, DF_ERR_UNSUPPORTED, "pooling must be by mean or by the cls token, one of them");
	c->pooling = cls ? DF_BERT_POOL_CLS : DF_BERT_POOL_MEAN;
	return DF_OK;
}

static enum df_err parse(struct df_str config, struct df_str pooling, struct df_arena *arena, struct df_bert_config *c,
			 struct df_fail *fail)
{
	struct df_json *root = NULL;
	DF_TRY(df_json_parse(config, arena, &root, fail));
	DF_TRY(read_kinds(root, c, fail));
	DF_TRY(read_sizes(root, c, fail));
	if (pooling.n == 0)
		return DF_OK;
	DF_TRY(df_json_parse(pooling, arena, &root, fail));
	return read_pooling(root, c, fail);
}

enum df_err df_bert_config_parse(struct df_str config, struct df_str pooling, struct df_bert_config *ret_config,
				 struct df_fail *fail)
{
	struct df_arena arena;
	struct df_bert_config c = {0};
	df_arena_init(&arena, ARENA_MAX, 0);
	enum df_err err = parse(config, pooling, &arena, &c, fail);
	df_arena_release(&arena);
	if (err == DF_OK)
		*ret_config = c;
	return err;
}

enum df_err df_bert_config_read(const char *dir, struct df_bert_config *ret_config, struct df_fail *fail)
{
	char path[PATH_BYTES], pool_path[PATH_BYTES];
	char *config = NULL, *pooling = NULL;
	size_t n_config = 0, n_pooling = 0;
	if (snprintf(path, sizeof(path), "%s/config.json", dir) >= PATH_BYTES ||
	    snprintf(pool_path, sizeof(pool_path), "%s/1_Pooling/config.json", dir) >= PATH_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "the path of the model is too long");
	DF_TRY(df_io_read_file(&df_io_real, AT_FDCWD, path, DF_BERT_CONFIG_BYTES_MAX, &config, &n_config, fail));
	struct df_fail inner = {0};
	enum df_err err = df_io_read_file(&df_io_real, AT_FDCWD, pool_path, DF_BERT_CONFIG_BYTES_MAX, &pooling,
					  &n_pooling, &inner);
	if (err == DF_ERR_NOT_FOUND)
		err = DF_OK; /* not every model names its pooling: mean */
	if (err == DF_OK)
		err = df_bert_config_parse((struct df_str){config, n_config}, (struct df_str){pooling, n_pooling},
					   ret_config, &inner);
	free(config);
	free(pooling);
	return err == DF_OK ? DF_OK : df_fail(fail, err, "model '%s': %s", dir, inner.msg);
}
