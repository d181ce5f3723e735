// SPDX-License-Identifier: Apache-2.0
/*
 * ollama: Ollama's native API (https://docs.ollama.com/api), whose streams are lines of JSON.
 *
 * DESIGN. A prompt longer than the context that Ollama happens to have loaded (4,096 tokens unless told) would be cut without a word; so num_ctx is asked for
 * when an ask wants more, in powers of two, since every change of it loads the model anew.
 */
#include "worker/provider/wire/vectors.h"

#define USUAL_CONTEXT 4096

static const char base[] = "http://localhost:11434";

/* ------------------------------------------------------------------ requests */

/* OLLAMA_HOST may lack the scheme and the port: "gpu1", "127.0.0.1:11434". p NULL: no memory. */
static struct df_str whole_url(struct df_str s, struct df_arena *arena)
{
	struct df_buf b;
	struct df_str url;
	if (s.n == 0 || !s.p || memmem(s.p, s.n, "://", 3))
		return s;
	df_buf_init(&b, 4096);
	(void)df_buf_addz(&b, "http://");
	(void)df_buf_add_str(&b, s);
	if (!memchr(s.p, ':', s.n) || s.p[s.n - 1] == ']')
		(void)df_buf_addz(&b, ":11434");
	url = df_buf_err(&b) == DF_OK ? df_arena_copy(arena, df_buf_str(&b)) : (struct df_str){NULL, 0};
	df_buf_release(&b);
	return url;
}

static void add_options(struct df_buf *b, const struct df_ask *ask)
{
	uint64_t wanted = ask->tokens_in + (ask->max_tokens > 0 ? (uint64_t)ask->max_tokens : 1024),
		 context = USUAL_CONTEXT;
	df_wire_key(b, "options");
	(void)df_buf_addc(b, '{');
	df_wire_real(b, "temperature", ask->temperature);
	df_wire_real(b, "top_p", ask->top_p);
	df_wire_count(b, "num_predict", ask->max_tokens);
	if (ask->seed >= 0) {
		df_wire_key(b, "seed");
		(void)df_buf_add_u64(b, (uint64_t)ask->seed);
	}
	while (context < wanted && context < (UINT64_C(1) << 40))
		context *= 2;
	if (context > USUAL_CONTEXT)
		df_wire_count(b, "num_ctx", (int64_t)context);
	(void)df_buf_addc(b, '}');
}

static enum df_err chat(const struct df_ask *ask, struct df_arena *arena, struct df_buf *b, struct df_fail *fail)
{
	struct df_wire_schema schema;
	DF_TRY(df_wire_schema(ask, arena, &schema, fail));
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_messages(b, "messages", ask, false);
	df_wire_key(b, "stream");
	(void)df_buf_addz(b, ask->stream ? "true" : "false");
	if (schema.text.n) {
		df_wire_key(b, "format");
		(void)df_buf_add_str(b, schema.text);
	}
	add_options(b, ask);
	return df_buf_addc(b, '}');
}

static enum df_err embed(const struct df_ask *ask, struct df_buf *b)
{
	(void)df_buf_addc(b, '{');
	df_wire_text(b, "model", ask->model);
	df_wire_strings(b, "input", ask->input, ask->n_input);
	(void)df_buf_addz(b, ",\"truncate\":false");
	df_wire_count(b, "dimensions", ask->dimensions);
	return df_buf_addc(b, '}');
}

static enum df_err build(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			 struct df_http_parts *ret, struct df_fail *fail)
{
	struct df_buf b;
	struct df_endpoint there = *to;
	bool is_chat = ask->kind == DF_ASK_CHAT;
	there.base_url = whole_url(to->base_url, arena);
	if (to->base_url.n && !there.base_url.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	DF_TRY(df_wire_url(&there, base, is_chat ? "/api/chat" : "/api/embed", arena, ret, fail));
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

static void read_usage(const struct df_json *root, struct df_usage *usage)
{
	if (!df_json_get(root, "prompt_eval_count"))
		return;
	*usage = (struct df_usage){.in = df_json_get_u64(root, "prompt_eval_count", 0),
				   .out = df_json_get_u64(root, "eval_count", 0),
				   .known = true};
}

static bool is_true(const struct df_json *v)
{
	return v && v->type == DF_JSON_BOOL && v->boolean;
}

static enum df_finish finish_of(const struct df_json *root)
{
	struct df_str reason = df_json_get_str(root, "done_reason");
	if (df_str_is(reason, "length"))
		return DF_FINISH_LENGTH;
	return reason.n == 0 || df_str_is(reason, "stop") ? DF_FINISH_STOP : DF_FINISH_OTHER;
}

static void parse_chat(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		       struct df_answer *ret)
{
	const struct df_json *root = NULL;
	if (!df_wire_root(response, arena, ret, &root))
		return;
	const struct df_json *content = df_json_get(df_json_get(root, "message"), "content");
	read_usage(root, &ret->usage);
	ret->model = df_json_get_str(root, "model");
	df_wire_finish(ret, finish_of(root), df_json_get_str(root, "done_reason"));
	if (!content || content->type != DF_JSON_STRING || !is_true(df_json_get(root, "done"))) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer is not whole: no %s",
			     content ? "'done'" : "'message.content'");
		return;
	}
	ret->text = content->string;
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
	read_usage(v.root, &ret->usage);
	df_wire_usage(ask, (struct df_str){"", 0}, &ret->usage);
	ret->model = df_json_get_str(v.root, "model");
	df_vectors_list(&v, df_json_get(v.root, "embeddings"), "embeddings", NULL);
}

static void event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		  struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret)
{
	(void)ask;
	(void)type;
	*ret_new_text = (struct df_str){"", 0};
	const struct df_json *root = df_wire_event(data, stream, arena, ret);
	if (!root)
		return;
	read_usage(root, &stream->usage);
	df_wire_model(stream, df_json_get_str(root, "model"));
	df_wire_append(stream, df_json_get_str(df_json_get(root, "message"), "content"), ret_new_text, ret);
	if (is_true(df_json_get(root, "done"))) {
		df_wire_stream_finish(stream, finish_of(root), df_json_get_str(root, "done_reason"));
		stream->finished = stream->ended = true;
	}
}

static const char *const patterns[] = {NULL};

const struct df_provider df_provider_ollama = {.name = "ollama",
					       .summary = "Ollama, on this machine or another",
					       .pattern = patterns,
					       .base_url = base,
					       .base_url_env = "OLLAMA_HOST",
					       .key_env = "OLLAMA_API_KEY",
					       .key_optional = true,
					       .free = true,
					       .schema_mode = true,
					       .stream_form = DF_STREAM_LINES,
					       .embed_inputs_max = 512,
					       .build = build,
					       .parse = parse,
					       .event = event,
					       .limits = df_wire_limits};
