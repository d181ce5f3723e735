// SPDX-License-Identifier: Apache-2.0
/*
 * bert_config: the sizes of a BERT encoder, from the config.json and 1_Pooling/config.json beside its weights.
 *
 * Only what the forward pass can do is accepted: model_type bert (or none named), absolute positions, hidden_act gelu,
 * gelu_new or gelu_pytorch_tanh, pooling by mean or by the [CLS] token. Anything else is DF_ERR_UNSUPPORTED, by name.
 */
#ifndef DF_WORKER_MODEL_BERT_CONFIG_H
#define DF_WORKER_MODEL_BERT_CONFIG_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define DF_BERT_CONFIG_BYTES_MAX (1U << 20)
#define DF_BERT_HIDDEN_MAX 8192U
#define DF_BERT_LAYERS_MAX 128U

enum df_bert_act { DF_BERT_GELU, DF_BERT_GELU_TANH };
enum df_bert_pooling { DF_BERT_POOL_MEAN, DF_BERT_POOL_CLS };

struct df_bert_config {
	uint32_t hidden, layers, heads, intermediate;
	uint32_t vocab, max_positions, type_vocab;
	float layer_norm_eps;
	enum df_bert_act act;
	enum df_bert_pooling pooling;
};

/* `pooling` may be empty: mean. DF_ERR_PARSE, DF_ERR_RANGE (which key), DF_ERR_UNSUPPORTED. */
enum df_err df_bert_config_parse(struct df_str config, struct df_str pooling, struct df_bert_config *ret_config,
				 struct df_fail *fail) DF_MUST_CHECK;

/* From a model directory; messages name the file. */
enum df_err df_bert_config_read(const char *dir, struct df_bert_config *ret_config, struct df_fail *fail) DF_MUST_CHECK;

#endif
