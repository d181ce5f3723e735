// SPDX-License-Identifier: Apache-2.0
/* vllm: a server of one's own that speaks like OpenAI (vLLM, llama.cpp, LM Studio, ...); a key only where one was set. */
#include "worker/provider/openai.h"

static const struct df_openai_dialect dialect = {.base_url = "http://localhost:8000/v1",
						 .stream_options = true,
						 .any_schema = true,
						 .base64 = true,
						 .seed = "seed",
						 .dimensions = "dimensions"};

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	return df_openai_build(&dialect, ask, to, arena, ret, fail);
}

static const char *const patterns[] = {NULL};

const struct df_provider df_provider_vllm = {.name = "vllm",
					     .summary = "vLLM, and other servers of one's own that speak like OpenAI",
					     .pattern = patterns,
					     .base_url = "http://localhost:8000/v1",
					     .base_url_env = "VLLM_BASE_URL",
					     .key_env = "VLLM_API_KEY",
					     .key_optional = true,
					     .free = true,
					     .schema_mode = true,
					     .embed_inputs_max = 2048,
					     .embed_tokens_max = 300000,
					     .build = build,
					     .parse = df_openai_parse,
					     .event = df_openai_event,
					     .limits = df_wire_limits};
