// SPDX-License-Identifier: Apache-2.0
/* cohere: version 2 of chat and embed (https://docs.cohere.com/reference). */
#include "worker/provider/wire/vectors.h"

static const char base[] = "https://api.cohere.com/v2";

/* ------------------------------------------------------------------ requests */

/* It knows neither combinators nor ranges, and wants a required property; a schema beyond that would refuse the request. */
static bool is_taken(const struct df_wire_schema *schema)
{
	return schema->fit == DF_SCHEMA_PLAIN && !schema->has_union && schema->has_required;
}

static bool holds(const struct df_ask *ask, struct df_arena *arena)
{
	struct df_wire_schema schema;
	return df_wire_schema(ask, arena, &schema, NULL) == DF_OK && is_taken(&schema);
}

static enum df_err chat(const struct df_ask *ask, struct df_arena *arena, struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_messages(b, "messages", ask, false);
	df_wire_real(b, "temperature", ask->temperature);
	df_wire_real(b, "p", ask->top_p);
	df_wire_count(b, "max_tokens", ask->max_tokens);
	if (ask->seed >= 0) {
		df_wire_key(b, "seed");
		(void)df_buf_add_u64(b, (uint64_t)ask->seed);
	}
	if (schema.text.n && schema.fit > DF_SCHEMA_NO_OBJECT) {
		df_wire_key(b, "response_format");
		(void)df_buf_addz(b, "{\"type\":\"json_object\"");
		if (is_taken(&schema)) {
			df_wire_key(b, "json_schema");
			(void)df_buf_add_str(b, schema.text);
		}
		(void)df_buf_addc(b, '}');
	}
	return df_buf_addz(b, ask->stream ? ",\"stream\":true}" : ",\"stream\":false}");
}

static enum df_err embed(const struct df_ask *ask, struct df_buf *b)
{
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_strings(b, "texts", ask->input, ask->n_input);
	df_wire_text(b, "input_type", ask->query ? DF_STR("search_query") : DF_STR("search_document"));
	(void)df_buf_addz(b, ",\"embedding_types\":[\"float\"],\"truncate\":\"NONE\"");
	df_wire_count(b, "output_dimension", ask->dimensions);
	return df_buf_addc(b, '}');
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	bool is_chat = ask->kind == DF_ASK_CHAT;
	DF_TRY(df_wire_url(to, base, is_chat ? "/chat" : "/embed", arena, ret, fail));
	if (df_wire_header(ret, arena, "Authorization", "Bearer ", to->key, true) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	df_wire_body_init(&b);
	enum df_err err = is_chat ? chat(ask, arena, &b, fail) : embed(ask, &b);
	if (err != DF_OK && df_buf_err(&b) == DF_OK) {
		df_buf_release(&b);
		return err;
	}
	return df_wire_body(&b, arena, ret, fail);
}

/* ------------------------------------------------------------------ answers */

static enum df_finish finish_of(struct df_str word)
{
	if (df_str_is(word, "COMPLETE") || df_str_is(word, "STOP_SEQUENCE"))
		return DF_FINISH_STOP;
	if (df_str_is(word, "MAX_TOKENS") ||
	    df_str_is(word, "ERROR_LIMIT")) /* the latter: version 1's, beyond the context */
		return DF_FINISH_LENGTH;
	return df_str_is(word, "ERROR_TOXIC") ? DF_FINISH_FILTER : DF_FINISH_OTHER;
}

/* What is billed; `tokens` beside it counts a preamble that is not. */
static void read_usage(const struct df_json *u, struct df_usage *usage)
{
	const struct df_json *billed = df_json_get(u, "billed_units");
	billed = billed ? billed : df_json_get(u, "tokens");
	if (!billed || billed->type != DF_JSON_OBJECT)
		return;
	uint64_t in = df_json_get_u64(billed, "input_tokens", 0), cached = df_json_get_u64(u, "cached_tokens", 0);
	*usage = (struct df_usage){.in = in,
				   .cached_in = cached < in ? cached : in,
				   .out = df_json_get_u64(billed, "output_tokens", 0),
				   .known = true};
}

/* ERROR and TIMEOUT are failures that come with 200. True: it was one. */
static bool gave_up(struct df_str reason, struct df_answer *ret)
{
	if (!df_str_is(reason, "ERROR") && !df_str_is(reason, "TIMEOUT"))
		return false;
	df_wire_fail(ret, DF_CALL_RETRY, "the answer broke off (finish_reason %.*s)", (int)reason.n, reason.p);
	return true;
}

static void parse_chat(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		       struct df_answer *ret)
{
	const struct df_json *root = NULL;
	enum df_err err = DF_OK;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	struct df_str reason = df_json_get_str(root, "finish_reason");
	read_usage(df_json_get(root, "usage"), &ret->usage);
	df_wire_finish(ret, finish_of(reason), reason);
	if (gave_up(reason, ret))
		return;
	ret->text = df_wire_content(df_json_get(df_json_get(root, "message"), "content"), arena, &err);
	if (err != DF_OK)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	else if (!reason.n || (!ret->text.p && ret->finish == DF_FINISH_STOP))
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no '%s'",
			     reason.n ? "message.content" : "finish_reason");
	else if (!ret->text.p)
		ret->text = DF_STR("");
	df_wire_usage(ask, ret->text, &ret->usage);
}

static void parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		  struct df_answer *ret)
{
	struct df_vectors v;
	if (ask->kind == DF_ASK_CHAT) {
		parse_chat(ask, response, arena, ret);
		return;
	}
	if (!df_vectors_open(&v, ask, response, arena, ret))
		return;
	read_usage(df_json_get(v.root, "meta"), &ret->usage);
	df_wire_usage(ask, (struct df_str){"", 0}, &ret->usage);
	df_vectors_list(&v, df_json_get(df_json_get(v.root, "embeddings"), "float"), "embeddings.float", NULL);
}

static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)ask;
	(void)type;
	*ret_new_text = (struct df_str){"", 0};
	if (df_str_is(df_str_trim(data), "[DONE]"))
		return;
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	struct df_str kind = df_json_get_str(root, "type");
	const struct df_json *delta = df_json_get(root, "delta");
	if (df_str_is(kind, "content-delta")) {
		const struct df_json *content = df_json_get(df_json_get(delta, "message"), "content");
		df_wire_append(stream, df_json_get_str(content, "text"), ret_new_text, ret);
	} else if (df_str_is(kind, "message-end")) {
		struct df_str reason = df_json_get_str(delta, "finish_reason");
		read_usage(df_json_get(delta, "usage"), &stream->usage);
		stream->failed = gave_up(reason, ret);
		df_wire_stream_finish(stream, finish_of(reason), reason);
		stream->finished = stream->ended = !stream->failed;
	}
}

static const char *const patterns[] = {"command-*",     "c4ai-*", "embed-english-*", "embed-multilingual-*",
				       "embed-v[4-9]*", NULL};

const struct df_provider df_provider_cohere = {.name = "cohere",
					       .summary = "Cohere",
					       .pattern = patterns,
					       .base_url = base,
					       .base_url_env = "COHERE_BASE_URL",
					       .key_env = "COHERE_API_KEY",
					       .schema_mode = true,
					       .holds = holds,
					       .embed_inputs_max = 96,
					       .build = build,
					       .parse = parse,
					       .event = event,
					       .limits = df_wire_limits};
