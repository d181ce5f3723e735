// SPDX-License-Identifier: Apache-2.0
/*
 * embedder: texts -> vectors, by the tokenizer and the encoder of one model directory.
 *
 * Each text becomes [CLS], at most max_tokens - 2 word pieces, [SEP]; an empty one is [CLS] [SEP]. Texts are sorted by length
 * and packed un-padded into batches; the order of the results is that of the texts. One object serves one thread.
 */
#ifndef DF_WORKER_MODEL_EMBEDDER_H
#define DF_WORKER_MODEL_EMBEDDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define DF_EMBED_TEXTS_MAX (1U << 22)  /* of one call */
#define DF_EMBED_IDS_WINDOW (1U << 18) /* token ids held at a time: more texts are embedded in several windows */

struct df_embedder_options {
	uint32_t max_tokens;          /* per text, with [CLS] and [SEP]; 2 to the model's positions */
	uint32_t batch_tokens;        /* of one forward pass; at least one text is always taken */
	bool normalize;               /* vectors of Euclidean length 1 */
	void (*progress)(void *self); /* after each batch; may be NULL */
	void *progress_self;
};

struct df_embedder_counts {
	uint64_t tokens;    /* that went through the encoder */
	uint64_t truncated; /* texts that lost tokens */
};

struct df_embedder;

/* `dir`: config.json, model.safetensors, vocab.txt. DF_ERR_NOT_FOUND, DF_ERR_CORRUPT, DF_ERR_USAGE for max_tokens. */
enum df_err df_embedder_open(const char *dir, const struct df_embedder_options *options,
			     struct df_embedder **ret_embedder, struct df_fail *fail) DF_MUST_CHECK;
void df_embedder_close(struct df_embedder **embedder);

uint32_t df_embedder_dim(const struct df_embedder *e);

/* text[n] (valid UTF-8) -> ret_out[n, dim]. *counts (may be NULL) is added to. */
enum df_err df_embedder_run(struct df_embedder *e, const struct df_str *text, size_t n, float *ret_out,
			    struct df_embedder_counts *counts, struct df_fail *fail) DF_MUST_CHECK;

#endif
