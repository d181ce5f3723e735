// SPDX-License-Identifier: Apache-2.0
/* help_bert: small models with random weights, written as files, and the same forward pass in plain double precision. */
#ifndef DF_TESTS_UNIT_HELP_BERT_H
#define DF_TESTS_UNIT_HELP_BERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/model/bert_config.h"

struct help_bert {
	struct df_bert_config config;
	const char *prefix; /* of tensor names: "" or "bert." */
	const char *dtype;  /* "F32", "F16", "BF16": what the weights are written as; kept rounded to it */
	size_t misalign;    /* blanks behind the header: 1 makes every tensor unaligned */
	char **name;
	size_t (*shape)[2]; /* rows 0: one-dimensional */
	float **data;
	size_t n;
};

/* Random weights from a seed, rounded to dtype. */
void help_bert_make(struct help_bert *m, uint64_t seed);
void help_bert_release(struct help_bert *m);
/* model.safetensors and config.json (and 1_Pooling/config.json for cls) in dir, which exists. */
void help_bert_write(const struct help_bert *m, const char *dir);
/* One sequence through the definition of BERT: out[hidden]. */
void help_bert_embed(const struct help_bert *m, const uint32_t *ids, size_t len, double *out);

#endif
