// SPDX-License-Identifier: Apache-2.0
/*
 * raw: a request's body as somebody else has written it, POSTed to the base URL as it is; the answer is the body that comes back. An ask has one turn, whose
 * text is the body, so that limits, retries, cache and trace are those of any other call. The key goes where the URL's API wants it.
 */
#include "worker/provider/wire/wire.h"

static bool names(struct df_str url, const char *word)
{
	return url.n && memmem(url.p, url.n, word, strlen(word)) != NULL;
}

static enum df_err add_key(const struct df_endpoint *to, struct df_arena *arena, struct df_http_parts *ret)
{
	if (names(to->base_url, "anthropic")) {
		DF_TRY(df_wire_header(ret, arena, "anthropic-version", "", DF_STR("2023-06-01"), false));
		return df_wire_header(ret, arena, "x-api-key", "", to->key, true);
	}
	if (names(to->base_url, "/deployments/")) /* Azure */
		return df_wire_header(ret, arena, "api-key", "", to->key, true);
	return df_wire_header(ret, arena, "Authorization", "Bearer ", to->key, true);
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	if (ask->kind != DF_ASK_CHAT || ask->n_turn != 1)
		return df_fail(fail, DF_ERR_USAGE, "'raw' takes one body for each request; stage 'request' sends them");
	DF_TRY(df_wire_url(to, "", "", arena, ret, fail));
	if (add_key(to, arena, ret) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	df_wire_body_init(&b);
	(void)df_buf_add_str(&b, ask->turn[0].text);
	return df_wire_body(&b, arena, ret, fail);
}

static uint64_t count_of(const struct df_json *usage, const char *one, const char *other)
{
	return df_json_get_u64(usage, one, df_json_get_u64(usage, other, 0));
}

static void parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		  struct df_answer *ret)
{
	const struct df_json *root = NULL;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	const struct df_json *usage = df_json_get(root, "usage");
	ret->text = root->raw;
	ret->finish = DF_FINISH_STOP;
	ret->model = df_json_get_str(root, "model");
	if (usage && usage->type == DF_JSON_OBJECT)
		ret->usage = (struct df_usage){.in = count_of(usage, "prompt_tokens", "input_tokens"),
					       .out = count_of(usage, "completion_tokens", "output_tokens"),
					       .known = true};
	else
		df_wire_usage(ask, ret->text, &ret->usage);
}

static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)ask;
	(void)type;
	(void)data;
	(void)arena;
	*ret_new_text = (struct df_str){"", 0};
	df_wire_clear(ret);
	df_wire_fail(ret, DF_CALL_BAD_ANSWER, "a stream where one JSON answer belongs");
	stream->failed = true;
}

static const char *const patterns[] = {NULL};

const struct df_provider df_provider_raw = {.name = "raw",
					    .summary = "request bodies as they are, to any URL (stage 'request')",
					    .pattern = patterns,
					    .base_url = "",
					    .key_env = "OPENAI_API_KEY",
					    .key_optional = true,
					    .build = build,
					    .parse = parse,
					    .event = event,
					    .limits = df_wire_limits};
