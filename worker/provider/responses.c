// SPDX-License-Identifier: Apache-2.0
/* responses: OpenAI's newer API for text (/v1/responses), which some models speak alone; nothing is stored there (store: false). */
#include "worker/provider/openai.h"

static void add_schema(struct df_buf *b, const struct df_ask *ask, const struct df_wire_schema *schema)
{
	df_wire_key(b, "text");
	(void)df_buf_addz(b, "{\"format\":{\"type\":\"json_schema\"");
	df_wire_text(b, "name", ask->schema_name.n ? ask->schema_name : DF_STR("answer"));
	df_wire_key(b, "schema");
	(void)df_buf_add_str(b, schema->text);
	df_wire_key(b, "strict");
	(void)df_buf_addz(b, schema->fit <= DF_SCHEMA_LOOSE ? "false}}" : "true}}");
}

static enum df_err body(const struct df_ask *ask, struct df_arena *arena, struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	enum df_err err = DF_OK;
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	struct df_str system = df_wire_system(ask, arena, &err);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a request");
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	if (system.n)
		df_wire_text(b, "instructions", system);
	df_wire_messages(b, "input", ask, true);
	if (!df_openai_reasons(ask->model)) {
		df_wire_real(b, "temperature", ask->temperature);
		df_wire_real(b, "top_p", ask->top_p);
	}
	df_wire_count(b, "max_output_tokens", ask->max_tokens);
	if (schema.text.n && schema.fit > DF_SCHEMA_NO_OBJECT)
		add_schema(b, ask, &schema);
	(void)df_buf_addz(b, ask->stream ? ",\"store\":false,\"stream\":true}" : ",\"store\":false}");
	return DF_OK;
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	if (ask->kind != DF_ASK_CHAT)
		return df_fail(fail, DF_ERR_USAGE,
			       "model '%.*s': responses/ is for text; embeddings are asked for with openai/",
			       (int)(ask->model.n < 100 ? ask->model.n : 100), ask->model.p);
	enum df_err err = df_openai_start(to, "https://api.openai.com/v1", "/responses", arena, ret, fail);
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory for a request");
	DF_TRY(err);
	df_wire_body_init(&b);
	err = body(ask, arena, &b, fail);
	if (err != DF_OK) {
		df_buf_release(&b);
		return err;
	}
	return df_wire_body(&b, arena, ret, fail);
}

/* ------------------------------------------------------------------ answers */

static void read_usage(const struct df_json *u, struct df_usage *usage)
{
	if (!u || u->type != DF_JSON_OBJECT)
		return;
	uint64_t in = df_json_get_u64(u, "input_tokens", 0);
	uint64_t cached = df_json_get_u64(df_json_get(u, "input_tokens_details"), "cached_tokens", 0);
	*usage = (struct df_usage){.in = in,
				   .cached_in = cached < in ? cached : in,
				   .out = df_json_get_u64(u, "output_tokens", 0),
				   .known = true};
}

/* *ret_word: of incomplete_details, or the status itself. */
static enum df_finish finish_of(const struct df_json *response, struct df_str *ret_word)
{
	struct df_str reason = df_json_get_str(df_json_get(response, "incomplete_details"), "reason");
	*ret_word = reason.n ? reason : df_json_get_str(response, "status");
	if (df_str_is(df_json_get_str(response, "status"), "completed"))
		return DF_FINISH_STOP;
	if (df_str_is(reason, "max_output_tokens"))
		return DF_FINISH_LENGTH;
	return df_str_is(reason, "content_filter") ? DF_FINISH_FILTER : DF_FINISH_OTHER;
}

/* The text of all output items of type "message", whose parts are "output_text" or "refusal"; reasoning is passed over. p NULL: no memory. */
static struct df_str output_text(const struct df_json *response, struct df_arena *arena, bool *ret_refused,
				 size_t *ret_parts)
{
	const struct df_json *output = df_json_get(response, "output");
	struct df_buf b;
	*ret_parts = 0;
	df_wire_body_init(&b);
	for (const struct df_json *item = output ? output->child : NULL; item; item = item->next) {
		const struct df_json *content = df_json_get(item, "content");
		if (!df_str_is(df_json_get_str(item, "type"), "message") || !content)
			continue;
		for (const struct df_json *part = content->child; part; part = part->next) {
			bool refusal = df_str_is(df_json_get_str(part, "type"), "refusal");
			*ret_refused = *ret_refused || refusal;
			*ret_parts += refusal || df_str_is(df_json_get_str(part, "type"), "output_text");
			(void)df_buf_add_str(&b, df_json_get_str(part, refusal ? "refusal" : "text"));
		}
	}
	struct df_str text = {NULL, 0};
	if (df_buf_err(&b) == DF_OK)
		text = df_arena_copy(arena, b.n ? df_buf_str(&b) : DF_STR(""));
	df_buf_release(&b);
	return text;
}

static void parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		  struct df_answer *ret)
{
	const struct df_json *root = NULL;
	bool refused = false;
	size_t n_part = 0;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	read_usage(df_json_get(root, "usage"), &ret->usage);
	ret->model = df_json_get_str(root, "model");
	struct df_str word;
	enum df_finish finish = finish_of(root, &word);
	df_wire_finish(ret, finish, word);
	ret->text = output_text(root, arena, &refused, &n_part);
	if (refused)
		df_wire_finish(ret, DF_FINISH_FILTER, DF_STR("refusal"));
	if (!ret->text.p)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	else if (n_part == 0 && ret->finish != DF_FINISH_LENGTH && ret->finish != DF_FINISH_FILTER)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no message (status '%.*s')",
			     (int)(df_json_get_str(root, "status").n < 40 ? df_json_get_str(root, "status").n : 40),
			     df_json_get_str(root, "status").p);
	df_wire_usage(ask, ret->text, &ret->usage);
}

static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)ask;
	(void)type; /* the JSON says it again, and some servers leave the field out */
	*ret_new_text = (struct df_str){"", 0};
	if (df_str_is(df_str_trim(data), "[DONE]"))
		return;
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	struct df_str kind = df_json_get_str(root, "type");
	const struct df_json *response = df_json_get(root, "response");
	if (df_str_is(kind, "response.output_text.delta") || df_str_is(kind, "response.refusal.delta")) {
		df_wire_append(stream, df_json_get_str(root, "delta"), ret_new_text, ret);
		if (df_str_is(kind, "response.refusal.delta"))
			df_wire_stream_finish(stream, DF_FINISH_FILTER, DF_STR("refusal"));
	} else if (df_str_is(kind, "response.completed") || df_str_is(kind, "response.incomplete")) {
		read_usage(df_json_get(response, "usage"), &stream->usage);
		df_wire_model(stream, df_json_get_str(response, "model"));
		struct df_str word;
		enum df_finish finish = finish_of(response, &word);
		if (stream->finish != DF_FINISH_FILTER)
			df_wire_stream_finish(stream, finish, word);
		stream->finished = stream->ended = true;
	} else if (df_str_is(kind, "response.failed") || df_str_is(kind, "error")) {
		read_usage(df_json_get(response, "usage"), &stream->usage);
		df_wire_error(ret, 0, response ? response : root, data);
		stream->failed = true;
	}
}

static const char *const patterns[] = {"o[1-9]-pro*",
				       "gpt-5*-pro*",
				       "gpt-5-codex*",
				       "gpt-5*-codex*",
				       "codex-*",
				       "o[1-9]-deep-research*",
				       "o[1-9]-mini-deep-research*",
				       NULL};

const struct df_provider df_provider_responses = {.name = "responses",
						  .summary = "OpenAI's responses API, for models that have no other",
						  .pattern = patterns,
						  .base_url = "https://api.openai.com/v1",
						  .base_url_env = "OPENAI_BASE_URL",
						  .key_env = "OPENAI_API_KEY",
						  .kin = "openai",
						  .schema_mode = true,
						  .holds = df_wire_holds_objects,
						  .build = build,
						  .parse = parse,
						  .event = event,
						  .limits = df_wire_limits};
