// SPDX-License-Identifier: Apache-2.0
/*
 * anthropic: the messages API (https://platform.claude.com/docs/en/api/messages).
 *
 * DESIGN. A schema goes into output_config.format where model and schema allow it; else into the input_schema of one tool that must be used, whose input
 * is the answer. Which of the two it was is a function of the ask, so parsing decides as building did.
 */
#include <math.h>

#include "base/limits.h"
#include "worker/provider/wire/wire.h"

static const char base[] = "https://api.anthropic.com/v1";

/* Before 4.5 there was no output_config; from 4.7 on sampling cannot be set. */
static const char *const without_format[] = {"claude-[23]*",   "claude-instant*", "claude-4-*",
					     "claude-*-4",     "claude-*-4-0*",   "claude-*-4-1",
					     "claude-*-4-1-*", "claude-*-4-20*",  NULL};
static const char *const with_sampling[] = {"claude-[23]*", "claude-instant*",   "claude-4-*",
					    "claude-*-4",   "claude-*-4-[0-6]*", NULL};

enum way { IN_WORDS, BY_FORMAT, BY_TOOL };

static enum way way_of(const struct df_ask *ask, const struct df_wire_schema *schema)
{
	if (!schema->text.n || schema->fit == DF_SCHEMA_NO_OBJECT)
		return IN_WORDS;
	if (schema->fit == DF_SCHEMA_PLAIN && !df_wire_match(ask->model, without_format))
		return BY_FORMAT;
	return schema->named_simply ? BY_TOOL : IN_WORDS;
}

static bool holds(const struct df_ask *ask, struct df_arena *arena)
{
	struct df_wire_schema schema;
	return df_wire_schema(ask, arena, &schema, NULL) == DF_OK && way_of(ask, &schema) != IN_WORDS;
}

/* ------------------------------------------------------------------ requests */

static void add_schema(struct df_buf *b, const struct df_ask *ask, struct df_str schema, enum way way)
{
	if (way == IN_WORDS)
		return;
	if (way == BY_FORMAT) {
		df_wire_key(b, "output_config");
		(void)df_buf_addz(b, "{\"format\":{\"type\":\"json_schema\",\"schema\":");
		(void)df_buf_add_str(b, schema);
		(void)df_buf_addz(b, "}}");
		return;
	}
	struct df_str name = ask->schema_name.n ? ask->schema_name : DF_STR("answer");
	df_wire_key(b, "tools");
	(void)df_buf_addz(b, "[{");
	df_wire_text(b, "name", name);
	df_wire_text(b, "description", DF_STR("Give the answer in this form."));
	df_wire_key(b, "input_schema");
	(void)df_buf_add_str(b, schema);
	(void)df_buf_addz(b, "}]");
	df_wire_key(b, "tool_choice");
	(void)df_buf_addz(b, "{\"type\":\"tool\"");
	df_wire_text(b, "name", name);
	(void)df_buf_addc(b, '}');
}

static enum df_err body(const struct df_ask *ask, struct df_arena *arena, struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	enum df_err err = DF_OK;
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	if (!isnan(ask->temperature) && ask->temperature > 1)
		return df_fail(fail, DF_ERR_USAGE, "temperature %g: Anthropic takes 0 to 1", ask->temperature);
	struct df_str system = df_wire_system(ask, arena, &err);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a request");
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_count(b, "max_tokens", ask->max_tokens > 0 ? ask->max_tokens : DF_ANTHROPIC_TOKENS);
	if (system.n)
		df_wire_text(b, "system", system);
	df_wire_messages(b, "messages", ask, true);
	if (df_wire_match(ask->model, with_sampling)) {
		df_wire_real(b, "temperature", ask->temperature);
		if (isnan(ask->temperature)) /* newer models take one of the two */
			df_wire_real(b, "top_p", ask->top_p);
	}
	add_schema(b, ask, schema.text, way_of(ask, &schema));
	(void)df_buf_addz(b, ask->stream ? ",\"stream\":true}" : "}");
	return DF_OK;
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	struct df_str version = to->api_version.n ? to->api_version : DF_STR("2023-06-01");
	if (ask->kind != DF_ASK_CHAT)
		return df_fail(fail, DF_ERR_USAGE,
			       "model '%.*s': Anthropic has no embeddings; Voyage's are what it names instead",
			       (int)(ask->model.n < 100 ? ask->model.n : 100), ask->model.p);
	DF_TRY(df_wire_url(to, base, "/messages", arena, ret, fail));
	if (df_wire_header(ret, arena, "x-api-key", "", to->key, true) != DF_OK ||
	    df_wire_header(ret, arena, "anthropic-version", "", version, false) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	df_wire_body_init(&b);
	enum df_err err = body(ask, arena, &b, fail);
	if (err != DF_OK) {
		df_buf_release(&b);
		return err;
	}
	return df_wire_body(&b, arena, ret, fail);
}

/* ------------------------------------------------------------------ answers */

static enum df_finish finish_of(struct df_str word)
{
	if (df_str_is(word, "end_turn") || df_str_is(word, "stop_sequence") || df_str_is(word, "tool_use"))
		return DF_FINISH_STOP;
	if (df_str_is(word, "max_tokens") || df_str_is(word, "model_context_window_exceeded"))
		return DF_FINISH_LENGTH;
	return df_str_is(word, "refusal") ? DF_FINISH_FILTER : DF_FINISH_OTHER;
}

/* input_tokens leaves out what came from a cache or went into one. Later events tell only what has changed. */
static void read_usage(const struct df_json *u, struct df_usage *usage)
{
	if (!u || u->type != DF_JSON_OBJECT)
		return;
	uint64_t cached = df_json_get_u64(u, "cache_read_input_tokens", 0);
	uint64_t in =
		df_json_get_u64(u, "input_tokens", 0) + df_json_get_u64(u, "cache_creation_input_tokens", 0) + cached;
	if (in > 0) {
		usage->in = in;
		usage->cached_in = cached;
	}
	usage->out = df_json_get_u64(u, "output_tokens", usage->out);
	usage->known = true;
}

static bool wants_tool(const struct df_ask *ask, struct df_arena *arena)
{
	struct df_wire_schema schema;
	return df_wire_schema(ask, arena, &schema, NULL) == DF_OK && way_of(ask, &schema) == BY_TOOL;
}

static struct df_str tool_input(const struct df_json *content)
{
	for (const struct df_json *c = content ? content->child : NULL; c; c = c->next) {
		const struct df_json *input = df_json_get(c, "input");
		if (df_str_is(df_json_get_str(c, "type"), "tool_use") && input)
			return input->raw;
	}
	return (struct df_str){NULL, 0};
}

static void parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		  struct df_answer *ret)
{
	const struct df_json *root = NULL;
	enum df_err err = DF_OK;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	const struct df_json *content = df_json_get(root, "content");
	struct df_str reason = df_json_get_str(root, "stop_reason");
	read_usage(df_json_get(root, "usage"), &ret->usage);
	ret->model = df_json_get_str(root, "model");
	df_wire_finish(ret, finish_of(reason), reason);
	if (!content || content->type != DF_JSON_ARRAY || !reason.n) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no '%s'", reason.n ? "content" : "stop_reason");
		return;
	}
	bool tool = wants_tool(ask, arena);
	ret->text = tool ? tool_input(content) : df_wire_content(content, arena, &err);
	if (tool && ret->text.p) { /* raw lies in the response, which goes */
		ret->text = df_arena_copy(arena, ret->text);
		err = ret->text.p ? DF_OK : DF_ERR_NOMEM;
	}
	if (err != DF_OK)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	else if (!ret->text.p && ret->finish == DF_FINISH_STOP)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no text but uses no tool either");
	else if (!ret->text.p)
		ret->text = DF_STR("");
	df_wire_usage(ask, ret->text, &ret->usage);
}

/* message_start, content_block_start, content_block_delta, content_block_stop, message_delta, message_stop, ping, error; others may come. */
static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)type; /* in the JSON too */
	*ret_new_text = (struct df_str){"", 0};
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	struct df_str kind = df_json_get_str(root, "type");
	const struct df_json *delta = df_json_get(root, "delta"), *message = df_json_get(root, "message");
	if (df_str_is(kind, "message_start")) {
		read_usage(df_json_get(message, "usage"), &stream->usage);
		df_wire_model(stream, df_json_get_str(message, "model"));
	} else if (df_str_is(kind, "content_block_delta")) {
		df_wire_append(stream, df_json_get_str(delta, wants_tool(ask, arena) ? "partial_json" : "text"),
			       ret_new_text, ret);
	} else if (df_str_is(kind, "message_delta")) {
		struct df_str reason = df_json_get_str(delta, "stop_reason");
		read_usage(df_json_get(root, "usage"), &stream->usage);
		if (reason.n) {
			df_wire_stream_finish(stream, finish_of(reason), reason);
			stream->finished = true;
		}
	} else if (df_str_is(kind, "message_stop")) {
		stream->ended = true;
	}
}

static const char *const patterns[] = {"claude-*", NULL};

const struct df_provider df_provider_anthropic = {.name = "anthropic",
						  .summary = "Anthropic's Claude",
						  .pattern = patterns,
						  .base_url = base,
						  .base_url_env = "ANTHROPIC_BASE_URL",
						  .key_env = "ANTHROPIC_API_KEY",
						  .schema_mode = true,
						  .holds = holds,
						  .build = build,
						  .parse = parse,
						  .event = event,
						  .limits = df_wire_limits};
