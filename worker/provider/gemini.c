// SPDX-License-Identifier: Apache-2.0
/* gemini: Google's Generative Language API (https://ai.google.dev/api). */
#include <math.h>
#include <stdio.h>

#include "worker/provider/wire/vectors.h"

static const char base[] = "https://generativelanguage.googleapis.com/v1beta";

/* ------------------------------------------------------------------ requests */

static void add_part(struct df_buf *b, struct df_str text)
{
	(void)df_buf_addz(b, "\"parts\":[{");
	df_wire_text(b, "text", text);
	(void)df_buf_addz(b, "}]");
}

static void add_contents(struct df_buf *b, const struct df_ask *ask)
{
	bool first = true;
	df_wire_key(b, "contents");
	(void)df_buf_addc(b, '[');
	for (size_t i = 0; i < ask->n_turn; i++) {
		if (ask->turn[i].role == DF_TURN_SYSTEM)
			continue;
		(void)df_buf_addz(b, first ? "{" : ",{");
		df_wire_text(b, "role", ask->turn[i].role == DF_TURN_USER ? DF_STR("user") : DF_STR("model"));
		(void)df_buf_addc(b, ',');
		add_part(b, ask->turn[i].text);
		(void)df_buf_addc(b, '}');
		first = false;
	}
	(void)df_buf_addc(b, ']');
}

/* Older models know a dialect of OpenAPI alone, which refuses additionalProperties, lists of types, $ref and whatever else it does not know. */
static bool holds(const struct df_ask *ask, struct df_arena *arena)
{
	static const char *const old[] = {"gemini-1*", "gemini-2.0*", NULL};
	(void)arena;
	return !df_wire_match(ask->model, old);
}

static void add_config(struct df_buf *b, const struct df_ask *ask, struct df_str schema)
{
	df_wire_key(b, "generationConfig");
	(void)df_buf_addc(b, '{');
	df_wire_real(b, "temperature", ask->temperature);
	df_wire_real(b, "topP", ask->top_p);
	df_wire_count(b, "maxOutputTokens", ask->max_tokens);
	if (ask->seed >= 0) {
		df_wire_key(b, "seed");
		(void)df_buf_add_u64(b, (uint64_t)ask->seed);
	}
	if (schema.n) {
		df_wire_text(b, "responseMimeType", DF_STR("application/json"));
		if (holds(ask, NULL)) {
			df_wire_key(b, "responseJsonSchema");
			(void)df_buf_add_str(b, schema);
		}
	}
	(void)df_buf_addc(b, '}');
}

static enum df_err chat(const struct df_ask *ask, struct df_arena *arena, struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	enum df_err err = DF_OK;
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	struct df_str system = df_wire_system(ask, arena, &err);
	if (err != DF_OK)
		return df_fail(fail, err, "no memory for a request");
	(void)df_buf_addc(b, '{');
	if (system.n) {
		df_wire_key(b, "systemInstruction");
		(void)df_buf_addc(b, '{');
		add_part(b, system);
		(void)df_buf_addc(b, '}');
	}
	add_contents(b, ask);
	add_config(b, ask, schema.text);
	return df_buf_addc(b, '}');
}

static enum df_err embed(const struct df_ask *ask, struct df_buf *b)
{
	(void)df_buf_addz(b, "{\"requests\":[");
	for (size_t i = 0; i < ask->n_input; i++) {
		(void)df_buf_addz(b, i ? ",{\"model\":\"models/" : "{\"model\":\"models/");
		(void)df_buf_add_str(b, ask->model); /* checked by path_of: nothing in it wants an escape */
		(void)df_buf_addz(b, "\",\"content\":{");
		add_part(b, ask->input[i]);
		(void)df_buf_addc(b, '}');
		df_wire_text(b, "taskType", ask->query ? DF_STR("RETRIEVAL_QUERY") : DF_STR("RETRIEVAL_DOCUMENT"));
		df_wire_count(b, "outputDimensionality", ask->dimensions);
		(void)df_buf_addc(b, '}');
	}
	return df_buf_addz(b, "]}");
}

/* The model's id is a part of the URL. */
static enum df_err path_of(const struct df_ask *ask, char path[256], struct df_fail *fail)
{
	const char *verb = ask->kind == DF_ASK_EMBED ? "batchEmbedContents"
			   : ask->stream             ? "streamGenerateContent?alt=sse"
						     : "generateContent";
	for (size_t i = 0; i < ask->model.n; i++) {
		char c = ask->model.p[i];
		bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
			  c == '-' || c == '_';
		if (!ok || ask->model.n > 128)
			return df_fail(fail, DF_ERR_USAGE,
				       "'%.*s' is no model id of Gemini: letters, digits, '.', '-' and '_' only",
				       (int)(ask->model.n < 128 ? ask->model.n : 128), ask->model.p);
	}
	(void)snprintf(path, 256, "/models/%.*s:%s", (int)ask->model.n, ask->model.p, verb);
	return DF_OK;
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	char path[256];
	DF_TRY(path_of(ask, path, fail));
	DF_TRY(df_wire_url(to, base, path, arena, ret, fail));
	if (df_wire_header(ret, arena, "x-goog-api-key", "", to->key, true) !=
	    DF_OK) /* never in the URL, which is told in messages */
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	df_wire_body_init(&b);
	enum df_err err = ask->kind == DF_ASK_CHAT ? chat(ask, arena, &b, fail) : embed(ask, &b);
	if (err != DF_OK && df_buf_err(&b) == DF_OK) {
		df_buf_release(&b);
		return err;
	}
	return df_wire_body(&b, arena, ret, fail);
}

/* ------------------------------------------------------------------ answers */

static enum df_finish finish_of(struct df_str word)
{
	static const char *const filter[] = {
		"SAFETY",   "RECITATION",   "BLOCKLIST",   "PROHIBITED_CONTENT",       "SPII",
		"LANGUAGE", "IMAGE_SAFETY", "MODEL_ARMOR", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
		NULL};
	if (df_str_is(word, "STOP"))
		return DF_FINISH_STOP;
	if (df_str_is(word, "MAX_TOKENS"))
		return DF_FINISH_LENGTH;
	return df_wire_match(word, filter) ? DF_FINISH_FILTER : DF_FINISH_OTHER;
}

static void read_usage(const struct df_json *u, struct df_usage *usage)
{
	if (!u || u->type != DF_JSON_OBJECT)
		return;
	uint64_t in = df_json_get_u64(u, "promptTokenCount", 0),
		 cached = df_json_get_u64(u, "cachedContentTokenCount", 0);
	*usage = (struct df_usage){.in = in,
				   .cached_in = cached < in ? cached : in,
				   .out = df_json_get_u64(u, "candidatesTokenCount", 0) +
					  df_json_get_u64(u, "thoughtsTokenCount", 0),
				   .known = true};
}

/* A prompt that is refused has no candidates. True: it was. */
static bool blocked(const struct df_json *root, struct df_answer *ret)
{
	struct df_str reason = df_json_get_str(df_json_get(root, "promptFeedback"), "blockReason");
	if (!reason.n)
		return false;
	df_wire_fail(ret, DF_CALL_BAD_INPUT, "the prompt was refused (%.*s)", (int)(reason.n < 60 ? reason.n : 60),
		     reason.p);
	return true;
}

static void parse_chat(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		       struct df_answer *ret)
{
	const struct df_json *root = NULL;
	enum df_err err = DF_OK;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	const struct df_json *candidates = df_json_get(root, "candidates"),
			     *first = candidates ? candidates->child : NULL;
	struct df_str reason = df_json_get_str(first, "finishReason");
	read_usage(df_json_get(root, "usageMetadata"), &ret->usage);
	ret->model = df_json_get_str(root, "modelVersion");
	if (blocked(root, ret))
		return;
	if (!first || !reason.n) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no '%s'", first ? "finishReason" : "candidates");
		return;
	}
	df_wire_finish(ret, finish_of(reason), reason);
	ret->text = df_wire_content(df_json_get(df_json_get(first, "content"), "parts"), arena, &err);
	if (err != DF_OK)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	else if (!ret->text.p && ret->finish == DF_FINISH_STOP)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer has no text ('candidates[0].content.parts')");
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
	df_wire_usage(ask, (struct df_str){"", 0}, &ret->usage); /* it tells none */
	df_vectors_list(&v, df_json_get(v.root, "embeddings"), "embeddings", "values");
}

/* Each event is a whole answer with more text; the last one has the finish reason. There is no other end. */
static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	enum df_err err = DF_OK;
	(void)ask;
	(void)type;
	*ret_new_text = (struct df_str){"", 0};
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	const struct df_json *candidates = df_json_get(root, "candidates"),
			     *first = candidates ? candidates->child : NULL;
	struct df_str reason = df_json_get_str(first, "finishReason");
	read_usage(df_json_get(root, "usageMetadata"), &stream->usage);
	df_wire_model(stream, df_json_get_str(root, "modelVersion"));
	stream->failed = blocked(root, ret);
	struct df_str text = df_wire_content(df_json_get(df_json_get(first, "content"), "parts"), arena, &err);
	if (err != DF_OK) {
		stream->failed = true;
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an event");
	}
	if (stream->failed)
		return;
	df_wire_append(stream, text, ret_new_text, ret);
	if (reason.n) {
		df_wire_stream_finish(stream, finish_of(reason), reason);
		stream->finished = stream->ended = true;
	}
}

static const char *const patterns[] = {"gemini-*", "text-embedding-004", NULL};

const struct df_provider df_provider_gemini = {.name = "gemini",
					       .summary = "Google's Gemini",
					       .pattern = patterns,
					       .base_url = base,
					       .base_url_env = "GEMINI_BASE_URL",
					       .key_env = "GEMINI_API_KEY",
					       .schema_mode = true,
					       .holds = holds,
					       .embed_inputs_max = 100,
					       .build = build,
					       .parse = parse,
					       .event = event,
					       .limits = df_wire_limits};
