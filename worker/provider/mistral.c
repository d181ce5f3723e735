// SPDX-License-Identifier: Apache-2.0
/* mistral: Mistral's own API, which is OpenAI's with other names here and there, and refuses words that it does not know. */
#include "worker/provider/openai.h"

static const struct df_openai_dialect dialect = {
	.base_url = "https://api.mistral.ai/v1", .seed = "random_seed", .dimensions = "output_dimension"};

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	return df_openai_build(&dialect, ask, to, arena, ret, fail);
}

static const char *const patterns[] = {"mistral-*",      "ministral-*",    "magistral-*", "codestral-*", "devstral-*",
				       "open-mistral-*", "open-mixtral-*", "pixtral-*",   NULL};

const struct df_provider df_provider_mistral = {.name = "mistral",
						.summary = "Mistral",
						.pattern = patterns,
						.base_url = "https://api.mistral.ai/v1",
						.base_url_env = "MISTRAL_BASE_URL",
						.key_env = "MISTRAL_API_KEY",
						.schema_mode = true,
						.holds = df_wire_holds_objects,
						.embed_inputs_max = 512,
						.embed_tokens_max = 16384,
						.build = build,
						.parse = df_openai_parse,
						.event = df_openai_event,
						.limits = df_wire_limits};
