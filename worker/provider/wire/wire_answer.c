// SPDX-License-Identifier: Apache-2.0
/* wire_answer: the common part of reading answers: the status and the JSON of a response, texts and their usage, events of a stream. */
#include <stdio.h>

#include "base/limits.h"
#include "worker/provider/wire/wire.h"

static void no_answer(const struct df_http_response *r, struct df_answer *ret)
{
	enum df_call_class class = r->err == DF_ERR_LIMIT   ? DF_CALL_BAD_ANSWER
				   : r->err == DF_ERR_USAGE ? DF_CALL_NOT_FOUND /* no try will change that */
							    : DF_CALL_RETRY;
	df_wire_fail(ret, class, "%s", r->message[0] ? r->message : df_err_name(r->err));
}

static void should_retry(const struct df_http_response *r, struct df_answer *ret)
{
	struct df_str s = df_wire_get(r, "x-should-retry");
	if (df_str_is(s, "true") &&
	    (ret->class == DF_CALL_BAD_INPUT || ret->class == DF_CALL_AUTH || ret->class == DF_CALL_NOT_FOUND))
		ret->class = DF_CALL_RETRY;
	if (df_str_is(s, "false") && ret->class == DF_CALL_RATE)
		ret->class = DF_CALL_QUOTA;
	if (df_str_is(s, "false") && ret->class == DF_CALL_RETRY)
		ret->class = DF_CALL_BAD_INPUT;
}

bool df_wire_status(const struct df_http_response *r, struct df_arena *arena, struct df_answer *ret)
{
	struct df_json *root = NULL;
	df_wire_clear(ret);
	if (r->err != DF_OK) {
		no_answer(r, ret);
		return false;
	}
	if (r->status >= 200 && r->status <= 299)
		return true;
	if (df_json_parse(r->body, arena, &root, NULL) != DF_OK)
		root = NULL;
	df_wire_error(ret, r->status ? r->status : 1, root, r->body);
	df_wire_redirect(r, ret);
	int64_t after = df_wire_retry_after(r);
	if (after >= 0)
		ret->retry_after_ms = after;
	should_retry(r, ret);
	return false;
}

void df_wire_not_json(const struct df_http_response *r, const struct df_arena *arena, const struct df_fail *why,
		      enum df_err err, struct df_answer *ret)
{
	struct df_str type = df_wire_get(r, "content-type"), body = df_str_trim(r->body);
	if (err == DF_ERR_NOMEM && df_arena_at_max(arena, r->body.n)) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER,
			     "an answer of %zu bytes whose JSON takes more than %zu MB of memory", r->body.n,
			     arena->max >> 20);
		return;
	}
	if (err == DF_ERR_NOMEM) {
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer of %zu bytes", r->body.n);
		return;
	}
	if (body.n == 0) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "status %ld with an empty body", r->status);
		return;
	}
	df_wire_fail(ret, DF_CALL_BAD_ANSWER,
		     "the answer (%zu bytes, content type '%.*s') is not whole JSON: %s; it begins with '%.*s'", body.n,
		     (int)(type.n < 100 ? type.n : 100), type.p ? type.p : "", why->msg,
		     (int)df_str_utf8_prefix((struct df_str){body.p, body.n < 60 ? body.n : 60}), body.p);
}

bool df_wire_root(const struct df_http_response *r, struct df_arena *arena, struct df_answer *ret,
		  const struct df_json **ret_root)
{
	struct df_json *root = NULL;
	struct df_fail why = {.msg = ""};
	if (!df_wire_status(r, arena, ret) || !df_wire_json_type(r, ret))
		return false;
	enum df_err err = df_json_parse(r->body, arena, &root, &why);
	if (err != DF_OK) {
		df_wire_not_json(r, arena, &why, err, ret);
		return false;
	}
	const struct df_json *error = df_json_get(root, "error");
	if (error && error->type != DF_JSON_NULL) {
		df_wire_error(ret, 0, root, (struct df_str){"", 0});
		return false;
	}
	*ret_root = root;
	return true;
}

void df_wire_usage(const struct df_ask *ask, struct df_str text, struct df_usage *usage)
{
	bool whole = ask->kind == DF_ASK_EMBED || usage->out > 0 || text.n == 0; /* a text costs something */
	if (usage->known && (usage->in > 0 || ask->tokens_in == 0) && whole)
		return;
	uint64_t out = ask->kind == DF_ASK_CHAT ? text.n : 0;
	if (ask->max_tokens > 0 && out > (uint64_t)ask->max_tokens)
		out = (uint64_t)ask->max_tokens;
	*usage = (struct df_usage){.in = ask->tokens_in, .out = out, .known = false};
}

struct df_str df_wire_content(const struct df_json *content, struct df_arena *arena, enum df_err *err)
{
	struct df_str none = {NULL, 0}, all;
	size_t n = 0;
	char *p;
	*err = DF_OK;
	if (!content || content->type == DF_JSON_NULL)
		return none;
	if (content->type == DF_JSON_STRING)
		return content->string;
	if (content->type != DF_JSON_ARRAY)
		return none;
	for (const struct df_json *c = content->child; c; c = c->next)
		n += df_json_get(c, "text") && !df_json_get(c, "thought") ? df_json_get_str(c, "text").n : 0;
	p = df_arena_alloc(arena, n + 1);
	if (!p) {
		*err = DF_ERR_NOMEM;
		return none;
	}
	all = (struct df_str){p, n};
	for (const struct df_json *c = content->child; c; c = c->next) {
		struct df_str s = df_json_get_str(c, "text");
		if (df_json_get(c, "thought"))
			continue;
		memcpy(p, s.p, s.n);
		p += s.n;
	}
	*p = '\0';
	return all;
}

/* ------------------------------------------------------------------ streams */

const struct df_json *df_wire_event(struct df_str data, struct df_stream *stream, struct df_arena *arena,
				    struct df_answer *ret)
{
	struct df_json *root = NULL;
	struct df_fail why = {.msg = ""};
	df_wire_clear(ret);
	enum df_err err = df_json_parse(data, arena, &root, &why);
	if (err == DF_ERR_NOMEM)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an event of %zu bytes", data.n);
	else if (err != DF_OK)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "an event of the stream is not JSON: %s; it begins with '%.*s'",
			     why.msg, (int)df_str_utf8_prefix((struct df_str){data.p, data.n < 60 ? data.n : 60}),
			     data.p);
	const struct df_json *error = df_json_get(root, "error");
	if (error && error->type != DF_JSON_NULL)
		df_wire_error(ret, 0, root, data);
	else if (root)
		return root;
	stream->failed = true;
	return NULL;
}

void df_wire_append(struct df_stream *stream, struct df_str text, struct df_str *ret_new_text, struct df_answer *ret)
{
	if (text.n == 0)
		return;
	if (stream->text.max == 0)
		df_buf_init(&stream->text, DF_ANSWER_TEXT_MAX);
	size_t before = stream->text.n;
	if (df_buf_add_str(&stream->text, text) == DF_OK) {
		*ret_new_text = (struct df_str){stream->text.p + before, text.n};
		return;
	}
	stream->failed = true;
	if (df_buf_err(&stream->text) == DF_ERR_LIMIT)
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "a streamed answer of more than %u MB", DF_ANSWER_TEXT_MAX >> 20);
	else
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for a streamed answer");
}

void df_wire_model(struct df_stream *stream, struct df_str model)
{
	if (model.n && !stream->model[0])
		(void)snprintf(stream->model, sizeof(stream->model), "%.*s", (int)(model.n < 63 ? model.n : 63),
			       model.p);
}

void df_stream_answer(const struct df_ask *ask, const struct df_stream *stream, struct df_arena *arena,
		      struct df_answer *ret)
{
	if (stream->failed) {
		ret->usage = stream->usage;
		df_wire_usage(ask, df_buf_str(&stream->text), &ret->usage);
		return;
	}
	df_wire_clear(ret);
	ret->finish = stream->finish;
	memcpy(ret->finish_word, stream->finish_word, sizeof(ret->finish_word));
	ret->usage = stream->usage;
	df_wire_usage(ask, df_buf_str(&stream->text), &ret->usage);
	if (!stream->ended) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the stream ended without its end event, after %zu bytes of text",
			     stream->text.n);
		return;
	}
	if (!stream->finished) {
		df_wire_fail(ret, DF_CALL_BAD_ANSWER,
			     "the stream ended without a finish reason, after %zu bytes of text", stream->text.n);
		return;
	}
	ret->text = df_arena_copy(arena, stream->text.n ? df_buf_str(&stream->text) : DF_STR(""));
	ret->model = df_arena_copy(arena, df_str_from(stream->model));
	if (!ret->text.p || !ret->model.p)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer of %zu bytes", stream->text.n);
}

void df_stream_release(struct df_stream *stream)
{
	df_buf_release(&stream->text);
	df_buf_release(&stream->whole);
	memset(stream, 0, sizeof(*stream));
}
