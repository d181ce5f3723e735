// SPDX-License-Identifier: Apache-2.0
/* openai: chat completions and embeddings (https://platform.openai.com/docs/api-reference). */
#include "worker/provider/openai.h"

#include "worker/provider/wire/vectors.h"

bool df_openai_reasons(struct df_str model)
{
	static const char *const reasons[] = {"o[1-9]",      "o[1-9]-*",  "gpt-5*", "codex-*",
					      "ft:o[1-9]-*", "ft:gpt-5*", NULL};
	static const char *const not_these[] = {"gpt-5*-chat*", NULL};
	return df_wire_match(model, reasons) && !df_wire_match(model, not_these);
}

/* ------------------------------------------------------------------ requests */

enum df_err df_openai_start(const struct df_endpoint *to, const char *base_url, const char *path,
			    struct df_arena *arena, struct df_http_parts *ret, struct df_fail *fail)
{
	DF_TRY(df_wire_url(to, base_url, path, arena, ret, fail));
	DF_TRY(df_wire_header(ret, arena, "Authorization", "Bearer ", to->key, true));
	DF_TRY(df_wire_header(ret, arena, "OpenAI-Organization", "", to->organization, false));
	return df_wire_header(ret, arena, "OpenAI-Project", "", to->project, false);
}

static void add_schema(struct df_buf *b, const struct df_ask *ask, const struct df_wire_schema *schema)
{
	df_wire_key(b, "response_format");
	(void)df_buf_addz(b, "{\"type\":\"json_schema\",\"json_schema\":{");
	df_wire_text(b, "name", ask->schema_name.n ? ask->schema_name : DF_STR("answer"));
	df_wire_key(b, "schema");
	(void)df_buf_add_str(b, schema->text);
	df_wire_key(b, "strict");
	(void)df_buf_addz(b, schema->fit <= DF_SCHEMA_LOOSE ? "false}}" : "true}}");
}

static enum df_err chat(const struct df_openai_dialect *d, const struct df_ask *ask, struct df_arena *arena,
			struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	bool reasons = d->reasoning && df_openai_reasons(ask->model);
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_messages(b, "messages", ask, false);
	if (!reasons) {
		df_wire_real(b, "temperature", ask->temperature);
		df_wire_real(b, "top_p", ask->top_p);
	}
	df_wire_count(b, reasons ? "max_completion_tokens" : "max_tokens", ask->max_tokens);
	if (ask->seed >= 0) {
		df_wire_key(b, d->seed);
		(void)df_buf_add_u64(b, (uint64_t)ask->seed);
	}
	if (schema.text.n && (d->any_schema || schema.fit > DF_SCHEMA_NO_OBJECT))
		add_schema(b, ask, &schema);
	if (ask->stream)
		(void)df_buf_addz(b, d->stream_options ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
						       : ",\"stream\":true");
	return df_buf_addc(b, '}');
}

static enum df_err embed(const struct df_openai_dialect *d, const struct df_ask *ask, struct df_buf *b)
{
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_strings(b, "input", ask->input, ask->n_input);
	if (d->base64)
		df_wire_text(b, "encoding_format", DF_STR("base64"));
	if (d->input_type) {
		df_wire_text(b, "input_type", ask->query ? DF_STR("query") : DF_STR("document"));
		(void)df_buf_addz(b, ",\"truncation\":false");
	}
	df_wire_count(b, d->dimensions, ask->dimensions);
	return df_buf_addc(b, '}');
}

enum df_err df_openai_build(const struct df_openai_dialect *d, const struct df_ask *ask, const struct df_endpoint *to,
			    struct df_arena *arena, struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	bool is_chat = ask->kind == DF_ASK_CHAT;
	enum df_err err =
		df_openai_start(to, d->base_url, is_chat ? "/chat/completions" : "/embeddings", arena, ret, fail);
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory for a request");
	DF_TRY(err);
	df_wire_body_init(&b);
	err = is_chat ? chat(d, ask, arena, &b, fail) : embed(d, ask, &b);
	if (err != DF_OK && df_buf_err(&b) == DF_OK) {
		df_buf_release(&b);
		return err;
	}
	return df_wire_body(&b, arena, ret, fail);
}

/* ------------------------------------------------------------------ answers */

static enum df_finish finish_of(struct df_str word)
{
	/* OpenAI's own words first, then those of servers that speak like it (text-generation-inference, Mistral, xAI, Zhipu). */
	static const char *const done[] = {"stop", "end_turn", "eos", "eos_token", "stop_sequence", NULL};
	static const char *const length[] = {"length", "model_length", "max_tokens", NULL};
	static const char *const filter[] = {"content_filter", "refusal", "safety", "sensitive", NULL};
	if (df_wire_match(word, done))
		return DF_FINISH_STOP;
	if (df_wire_match(word, length))
		return DF_FINISH_LENGTH;
	return df_wire_match(word, filter) ? DF_FINISH_FILTER : DF_FINISH_OTHER;
}

/* Failures of a server that come with 200: Mistral and OpenRouter, vLLM, DeepSeek. True: it was one. */
static bool gave_up(struct df_str word, struct df_answer *ret)
{
	static const char *const failed[] = {"error", "abort", "insufficient_system_resource", NULL};
	if (!df_wire_match(word, failed))
		return false;
	df_wire_fail(ret, DF_CALL_RETRY, "the answer broke off (finish_reason '%.*s')", (int)word.n, word.p);
	return true;
}

static void read_usage(const struct df_json *u, struct df_usage *usage)
{
	if (!u || u->type != DF_JSON_OBJECT)
		return;
	uint64_t in = df_json_get_u64(u, "prompt_tokens", df_json_get_u64(u, "total_tokens", 0));
	uint64_t cached = df_json_get_u64(df_json_get(u, "prompt_tokens_details"), "cached_tokens",
					  df_json_get_u64(u, "prompt_cache_hit_tokens", 0));
	*usage = (struct df_usage){.in = in,
				   .cached_in = cached < in ? cached : in,
				   .out = df_json_get_u64(u, "completion_tokens", 0),
				   .known = true};
}

static void parse_chat(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		       struct df_answer *ret)
{
	const struct df_json *root = NULL;
	enum df_err err = DF_OK;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	read_usage(df_json_get(root, "usage"), &ret->usage);
	ret->model = df_json_get_str(root, "model");
	const struct df_json *choices = df_json_get(root, "choices"), *message;
	if (!choices || choices->type != DF_JSON_ARRAY || !choices->n) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no 'choices'");
		return;
	}
	message = df_json_get(choices->child, "message");
	struct df_str reason = df_json_get_str(choices->child, "finish_reason");
	df_wire_finish(ret, finish_of(reason), reason);
	if (gave_up(reason, ret))
		return;
	ret->text = df_wire_content(df_json_get(message, "content"), arena, &err);
	struct df_str refusal = df_json_get_str(message, "refusal");
	if (!ret->text.p && refusal.n) {
		ret->text = refusal;
		df_wire_finish(ret, DF_FINISH_FILTER, DF_STR("refusal"));
	}
	if (err != DF_OK)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	else if (!reason.n && ret->finish == DF_FINISH_OTHER)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no 'finish_reason', so it may not be whole");
	else if (!ret->text.p && ret->finish == DF_FINISH_STOP)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no text ('choices[0].message.content')");
	else if (!ret->text.p)
		ret->text = DF_STR("");
	df_wire_usage(ask, ret->text, &ret->usage);
}

static void parse_embed(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
			struct df_answer *ret)
{
	struct df_vectors v;
	if (!df_vectors_open(&v, ask, response, arena, ret))
		return;
	read_usage(df_json_get(v.root, "usage"), &ret->usage);
	df_wire_usage(ask, (struct df_str){"", 0}, &ret->usage);
	ret->model = df_json_get_str(v.root, "model");
	const struct df_json *data = df_json_get(v.root, "data");
	if (!data || data->type != DF_JSON_ARRAY) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no list 'data'");
		return;
	}
	for (const struct df_json *row = data->child; row; row = row->next) {
		const struct df_json *index = df_json_get(row, "index");
		if (!index || index->type != DF_JSON_NUMBER || (index->u64 == 0 && index->number != 0)) {
			df_wire_fail(ret, DF_CALL_BAD_ANSWER,
				     "a vector without an index, so it is not known whose it is");
			return;
		}
		if (!df_vectors_place(&v, index->u64, df_json_get(row, "embedding")))
			return;
	}
	df_vectors_close(&v);
}

void df_openai_parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		     struct df_answer *ret)
{
	if (ask->kind == DF_ASK_CHAT)
		parse_chat(ask, response, arena, ret);
	else
		parse_embed(ask, response, arena, ret);
}

/* Of a body with n > 1 each event is of one answer, in any order: the first is the one that counts, as without a stream. */
static const struct df_json *first_choice(const struct df_json *root)
{
	const struct df_json *choices = df_json_get(root, "choices"), *choice = choices ? choices->child : NULL;
	while (choice && df_json_get_u64(choice, "index", 0) != 0)
		choice = choice->next;
	return choice;
}

void df_openai_event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		     struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	enum df_err err = DF_OK;
	(void)ask;
	(void)type;
	*ret_new_text = (struct df_str){"", 0};
	if (df_str_is(df_str_trim(data), "[DONE]")) {
		stream->ended = true;
		return;
	}
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	const struct df_json *choice = first_choice(root);
	struct df_str reason = df_json_get_str(choice, "finish_reason");
	const struct df_json *delta = df_json_get(choice, "delta");
	struct df_str text = df_wire_content(df_json_get(delta, "content"), arena, &err);
	if (err != DF_OK) {
		stream->failed = true;
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an event");
		return;
	}
	read_usage(df_json_get(root, "usage"), &stream->usage);
	df_wire_model(stream, df_json_get_str(root, "model"));
	if (reason.n && gave_up(reason, ret)) {
		stream->failed = true;
		return;
	}
	df_wire_append(stream, text.n ? text : df_json_get_str(delta, "refusal"), ret_new_text, ret);
	bool refused = df_json_get_str(delta, "refusal").n || df_str_is(df_str_from(stream->finish_word), "refusal");
	if (refused)
		df_wire_stream_finish(stream, DF_FINISH_FILTER, DF_STR("refusal"));
	else if (reason.n)
		df_wire_stream_finish(stream, finish_of(reason), reason);
	stream->finished |= reason.n > 0;
}

/* ------------------------------------------------------------------ the provider */

static const struct df_openai_dialect dialect = {.base_url = "https://api.openai.com/v1",
						 .reasoning = true,
						 .stream_options = true,
						 .base64 = true,
						 .seed = "seed",
						 .dimensions = "dimensions"};

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	return df_openai_build(&dialect, ask, to, arena, ret, fail);
}

static const char *const patterns[] = {
	"gpt-[0-9]*",           "chatgpt-*", "o[1-9]", "o[1-9]-*", "ft:gpt-*", "ft:o[1-9]-*", "text-embedding-3-*",
	"text-embedding-ada-*", NULL};

const struct df_provider df_provider_openai = {
	.name = "openai",
	.summary = "OpenAI, and everything that speaks like it with a base URL of its own",
	.pattern = patterns,
	.base_url = "https://api.openai.com/v1",
	.base_url_env = "OPENAI_BASE_URL",
	.key_env = "OPENAI_API_KEY",
	.schema_mode = true,
	.holds = df_wire_holds_objects,
	.embed_inputs_max = 2048,
	.embed_tokens_max = 300000,
	.build = build,
	.parse = df_openai_parse,
	.event = df_openai_event,
	.limits = df_wire_limits};
