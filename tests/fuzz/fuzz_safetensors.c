// SPDX-License-Identifier: Apache-2.0
/* fuzz_safetensors: any bytes as a file of weights; every tensor that is accepted must lie inside. */
#include "worker/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct df_safetensors s;
	const char *p = (const char *)data;
	if (df_safetensors_parse(&s, (struct df_str){p, size}, NULL) == DF_OK)
		for (size_t i = 0; i < s.n_tensor; i++) {
			const struct df_tensor *t = &s.tensor[i];
			size_t at = (size_t)((const char *)t->data - p);
			DF_ASSERT(at <= size && t->size_bytes <= size - at);
			DF_ASSERT(df_safetensors_find(&s, t->name) != NULL);
		}
	df_safetensors_close(&s);
	return 0;
}
