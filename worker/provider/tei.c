// SPDX-License-Identifier: Apache-2.0
/* tei: text-embeddings-inference's own /embed (https://huggingface.github.io/text-embeddings-inference). It serves one model, whatever it is called. */
#include "worker/provider/wire/vectors.h"

static const char base[] = "http://localhost:8080";

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	if (ask->kind != DF_ASK_EMBED)
		return df_fail(fail, DF_ERR_USAGE, "model '%.*s': text-embeddings-inference has embeddings only",
			       (int)(ask->model.n < 100 ? ask->model.n : 100), ask->model.p);
	DF_TRY(df_wire_url(to, base, "/embed", arena, ret, fail));
	if (df_wire_header(ret, arena, "Authorization", "Bearer ", to->key, true) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	df_wire_body_init(&b);
	(void)df_buf_addc(&b, '{');
	df_wire_strings(&b, "inputs", ask->input, ask->n_input);
	(void)df_buf_addz(&b, ",\"truncate\":false");
	df_wire_count(&b, "dimensions", ask->dimensions);
	(void)df_buf_addc(&b, '}');
	return df_wire_body(&b, arena, ret, fail);
}

static void parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		  struct df_answer *ret)
{
	struct df_vectors v;
	if (!df_vectors_open(&v, ask, response, arena, ret))
		return;
	df_wire_usage(ask, (struct df_str){"", 0}, &ret->usage); /* it tells none */
	df_vectors_list(&v, v.root, "(the answer itself)", NULL);
}

/* It streams nothing. */
static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)ask;
	(void)type;
	(void)data;
	(void)arena;
	*ret_new_text = (struct df_str){"", 0};
	df_wire_clear(ret);
	df_wire_fail(ret, DF_CALL_BAD_ANSWER, "a stream where embeddings belong");
	stream->failed = true;
}

static const char *const patterns[] = {NULL};

/* 32 inputs is what a server takes unless it was told --max-client-batch-size. */
const struct df_provider df_provider_tei = {.name = "tei",
					    .summary = "text-embeddings-inference",
					    .pattern = patterns,
					    .base_url = base,
					    .base_url_env = "TEI_BASE_URL",
					    .key_env = "TEI_API_KEY",
					    .key_optional = true,
					    .free = true,
					    .embed_inputs_max = 32,
					    .build = build,
					    .parse = parse,
					    .event = event,
					    .limits = df_wire_limits};
