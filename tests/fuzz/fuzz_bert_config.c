// SPDX-License-Identifier: Apache-2.0
/* fuzz_bert_config: config.json, and behind a NUL byte the pooling's; accepted sizes must be usable. */
#include "worker/model/bert_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_bert_config c;
	struct df_str config = {(const char *)data, size}, pooling = {NULL, 0};
	const char *nul = size ? memchr(data, 0, size) : NULL;
	if (nul) {
		config.n = (size_t)(nul - config.p);
		pooling = (struct df_str){nul + 1, size - config.n - 1};
	}
	if (df_bert_config_parse(config, pooling, &c, NULL) == DF_OK) {
		DF_ASSERT(c.hidden && c.hidden <= DF_BERT_HIDDEN_MAX && c.heads && c.hidden % c.heads == 0);
		DF_ASSERT(c.layers && c.layers <= DF_BERT_LAYERS_MAX && c.vocab && c.max_positions && c.type_vocab);
		DF_ASSERT(c.layer_norm_eps >= 0);
	}
	return 0;
}
