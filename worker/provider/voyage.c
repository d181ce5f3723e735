// SPDX-License-Identifier: Apache-2.0
/* voyage: Voyage's embeddings (https://docs.voyageai.com/reference/embeddings-api). */
#include "worker/provider/openai.h"

static const struct df_openai_dialect dialect = {.base_url = "https://api.voyageai.com/v1",
						 .base64 = true,
						 .input_type = true,
						 .seed = "seed",
						 .dimensions = "output_dimension"};

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	if (ask->kind != DF_ASK_EMBED)
		return df_fail(fail, DF_ERR_USAGE, "model '%.*s': Voyage has embeddings only",
			       (int)(ask->model.n < 100 ? ask->model.n : 100), ask->model.p);
	return df_openai_build(&dialect, ask, to, arena, ret, fail);
}

static const char *const patterns[] = {"voyage-*", NULL};

/* Tokens of a request: 120,000 for the large models; the small ones take more. */
const struct df_provider df_provider_voyage = {.name = "voyage",
					       .summary = "Voyage's embeddings",
					       .pattern = patterns,
					       .base_url = "https://api.voyageai.com/v1",
					       .base_url_env = "VOYAGE_BASE_URL",
					       .key_env = "VOYAGE_API_KEY",
					       .embed_inputs_max = 1000,
					       .embed_tokens_max = 120000,
					       .build = build,
					       .parse = df_openai_parse,
					       .event = df_openai_event,
					       .limits = df_wire_limits};
