// SPDX-License-Identifier: Apache-2.0
/*
 * bert: the forward pass of a BERT encoder (Devlin et al., 2018) over mapped float32 weights.
 *
 * A batch is un-padded: the ids of all its sequences one behind the other, and their lengths; each dense layer is one
 * matrix product over all tokens of the batch, attention goes per sequence and head. Segment ids are 0. Weights are used
 * where they lie in the file (F32, or converted once when F16, BF16 or unaligned); tensor names may have the
 * prefix "bert.".
 *
 * One object serves one thread. Its workspace is allocated by open for `max_tokens` and never grows:
 * about (6 hidden + max(3 hidden, intermediate)) * 4 bytes per token.
 */
#ifndef DF_WORKER_MODEL_BERT_H
#define DF_WORKER_MODEL_BERT_H

#include <stdint.h>

#include "base/err.h"
#include "worker/model/bert_config.h"

#define DF_BERT_TOKENS_MAX 65536U /* of one batch */

struct df_bert;

/* `dir` holds config.json and model.safetensors. max_tokens: of one batch. DF_ERR_CORRUPT, DF_ERR_UNSUPPORTED, ... */
enum df_err df_bert_open(const char *dir, size_t max_tokens, struct df_bert **ret_bert,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_bert_close(struct df_bert **bert);

const struct df_bert_config *df_bert_config(const struct df_bert *bert);

/*
 * ids[sum of len], len[n_seq] (each 1 to max_positions) -> ret_out[n_seq, hidden], pooled, not normalised.
 * DF_ERR_RANGE for an id outside the vocabulary or a length outside its range, DF_ERR_LIMIT beyond max_tokens.
 */
enum df_err df_bert_embed(struct df_bert *bert, const uint32_t *ids, const uint32_t *len, size_t n_seq, float *ret_out,
			  struct df_fail *fail) DF_MUST_CHECK;

#endif
