// SPDX-License-Identifier: Apache-2.0
/*
 * wire_answer: the common part of judging answers: which class a failure has, and what it says, without secrets.
 *
 * DESIGN. The order is that of the official SDKs: x-should-retry, then the status; but codes in the body that can only mean one thing
 * (no money, context too long, no such model) come before the status that carries them.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "worker/provider/wire.h"

/* ------------------------------------------------------------------ messages */

void df_wire_clear(struct df_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->retry_after_ms = -1;
}

static bool key_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
	       c == '.' || c == '*' || c == '+' || c == '/' || c == '=';
}

/* Words that look like somebody's key: a known beginning and 8 characters or more behind it. */
static void mask_likely_keys(char *z)
{
	static const char *const begin[] = {"sk-", "sk_", "pa-", "hf_", "gsk_", "AIza", "Bearer "};
	for (char *p = z; *p; p++)
		for (size_t i = 0; i < sizeof(begin) / sizeof(begin[0]); i++) {
			size_t n = strlen(begin[i]), end = n;
			if (strncmp(p, begin[i], n) != 0 || (p > z && key_character(p[-1])))
				continue;
			while (key_character(p[end]))
				end++;
			if (end < n + 8)
				continue;
			memcpy(p, "***", 3);
			memmove(p + 3, p + end, strlen(p + end) + 1);
			p += 2;
			break;
		}
}

static void put_line(char *to, size_t cap, const char *from)
{
	size_t n = strlen(from);
	if (n >= cap)
		n = cap - 1;
	n = df_str_utf8_prefix((struct df_str){from, n});
	for (size_t i = 0; i < n; i++)
		to[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? ' ' : from[i];
	to[n] = '\0';
}

void df_wire_fail(struct df_answer *a, enum df_call_class class, const char *fmt, ...)
{
	char all[4096];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(all, sizeof(all), fmt, ap);
	va_end(ap);
	mask_likely_keys(all);
	put_line(a->message, sizeof(a->message), all);
	a->class = class;
}

/* Bytes of a key's character at z, as texts may write it: itself, \/, \u002f, %2F; 0: it is another. */
static size_t written(const char *z, char c)
{
	char code[8];
	if (*z == c)
		return 1;
	if (*z == '%') {
		(void)snprintf(code, sizeof(code), "%%%02x", (unsigned char)c);
		return strncasecmp(z, code, 3) == 0 ? 3 : 0;
	}
	if (*z != '\\')
		return 0;
	(void)snprintf(code, sizeof(code), "\\u%04x", (unsigned char)c);
	return z[1] == c ? 2 : strncasecmp(z, code, 6) == 0 ? 6 : 0;
}

/* Every occurrence of the key, and a beginning of it (of 4 characters or more) at the end, where the text may have been cut. */
static void mask_key(char *z, struct df_str key)
{
	size_t n = strlen(z);
	for (size_t i = 0; i < n; i++) {
		size_t rest = n - i, take = 0, same = 0;
		for (size_t one; same < key.n && take < rest && (one = written(z + i + take, key.p[same])); same++)
			take += one;
		if (same < 4 || (same < key.n && i + take != n))
			continue;
		memcpy(z + i, "***", 3);
		memmove(z + i + 3, z + i + take, rest - take + 1);
		n -= take - 3;
		i += 2;
	}
}

void df_answer_mask(struct df_answer *answer, const struct df_endpoint *to)
{
	if (to->key.n < 4) /* nobody's secret, and it would eat words */
		return;
	mask_key(answer->message, to->key);
	mask_key(answer->code, to->key);
}

/* ------------------------------------------------------------------ classes */

struct code_class {
	const char *code;
	enum df_call_class class;
};

/* These say more than the status that they come with. */
static const struct code_class certain[] = {{"insufficient_quota", DF_CALL_QUOTA},
					    {"billing_hard_limit_reached", DF_CALL_QUOTA},
					    {"billing_not_active", DF_CALL_QUOTA},
					    {"billing_error", DF_CALL_QUOTA},
					    {"context_length_exceeded", DF_CALL_BAD_INPUT},
					    {"string_above_max_length", DF_CALL_BAD_INPUT},
					    {"content_filter", DF_CALL_BAD_INPUT},
					    {"content_policy_violation", DF_CALL_BAD_INPUT},
					    {"model_not_found", DF_CALL_NOT_FOUND},
					    {"invalid_api_key", DF_CALL_AUTH},
					    {"API_KEY_INVALID", DF_CALL_AUTH}};

/* Without a status (an error inside a 200). */
static const struct code_class by_code[] = {
	{"rate_limit_exceeded", DF_CALL_RATE},    {"rate_limit_error", DF_CALL_RATE},
	{"RESOURCE_EXHAUSTED", DF_CALL_RATE},     {"invalid_request_error", DF_CALL_BAD_INPUT},
	{"request_too_large", DF_CALL_BAD_INPUT}, {"INVALID_ARGUMENT", DF_CALL_BAD_INPUT},
	{"invalid_prompt", DF_CALL_BAD_INPUT},    {"authentication_error", DF_CALL_AUTH},
	{"permission_error", DF_CALL_AUTH},       {"UNAUTHENTICATED", DF_CALL_AUTH},
	{"PERMISSION_DENIED", DF_CALL_AUTH},      {"not_found_error", DF_CALL_NOT_FOUND},
	{"NOT_FOUND", DF_CALL_NOT_FOUND}};

static bool find_code(const struct code_class *row, size_t n, struct df_str code, enum df_call_class *ret)
{
	for (size_t i = 0; i < n; i++)
		if (df_str_is(code, row[i].code)) {
			*ret = row[i].class;
			return true;
		}
	return false;
}

static enum df_call_class class_of_status(long status)
{
	switch (status) {
	case 401:
	case 403:
		return DF_CALL_AUTH;
	case 402:
		return DF_CALL_QUOTA;
	case 404:
	case 405:
	case 410:
		return DF_CALL_NOT_FOUND;
	case 408:
	case 409:
	case 424: /* a backend behind text-embeddings-inference */
	case 425:
		return DF_CALL_RETRY;
	case 429:
		return DF_CALL_RATE;
	default:
		return status >= 500                   ? DF_CALL_RETRY
		       : status >= 400                 ? DF_CALL_BAD_INPUT
		       : status >= 300 || status < 100 ? DF_CALL_NOT_FOUND
						       : DF_CALL_RETRY;
	}
}

/* ------------------------------------------------------------------ what errors look like */

struct words {
	struct df_str message, code, type;
	long number;      /* a status as a number in the body; 0: none */
	int64_t retry_ms; /* Gemini's RetryInfo; -1 */
	bool day;         /* Gemini: a quota of the day */
	bool key;         /* Gemini: the key is not valid, which is a 400 there */
};

static struct df_str text_of(const struct df_json *v)
{
	return v && (v->type == DF_JSON_STRING || v->type == DF_JSON_NUMBER) ? v->string : (struct df_str){"", 0};
}

static void read_details(const struct df_json *details, struct words *w)
{
	for (const struct df_json *d = details && details->type == DF_JSON_ARRAY ? details->child : NULL; d;
	     d = d->next) {
		struct df_str delay = df_json_get_str(d, "retryDelay");
		const struct df_json *violations = df_json_get(d, "violations");
		if (delay.n)
			w->retry_ms = df_wire_duration(delay);
		if (df_str_is(df_json_get_str(d, "reason"), "API_KEY_INVALID"))
			w->key = true;
		for (const struct df_json *v = violations ? violations->child : NULL; v; v = v->next) {
			struct df_str id = df_json_get_str(v, "quotaId");
			w->day = w->day || (id.n && memmem(id.p, id.n, "PerDay", 6));
		}
	}
}

/* {"error":{"message","type","code"}} (OpenAI, Anthropic, Gemini), {"error":"..."} (Ollama, TEI), {"message":"..."} (Cohere, Mistral),
 * {"detail":"..." | [{"msg":"..."}]} (FastAPI), and a list of one of these. */
static void read_words(const struct df_json *root, struct words *w)
{
	if (root && root->type == DF_JSON_ARRAY)
		root = root->child;
	const struct df_json *error = df_json_get(root, "error"), *detail = df_json_get(root, "detail");
	const struct df_json *at = error && error->type == DF_JSON_OBJECT ? error : root;
	w->message = df_json_get_str(at, "message");
	w->type = text_of(df_json_get(at, df_json_get(at, "error_type") ? "error_type" : "type"));
	w->code = text_of(df_json_get(at, "code"));
	if (error && error->type == DF_JSON_STRING)
		w->message = error->string;
	if (!w->message.n && detail && detail->type == DF_JSON_STRING)
		w->message = detail->string;
	if (!w->message.n && detail && detail->type == DF_JSON_ARRAY)
		w->message = df_json_get_str(detail->child, "msg");
	const struct df_json *code = df_json_get(at, "code");
	if (code && code->type == DF_JSON_NUMBER && code->u64 >= 100 && code->u64 < 600) {
		w->number = (long)code->u64; /* Gemini's and OpenRouter's: the status again; the word is in "status" */
		w->code = text_of(df_json_get(at, "status"));
	}
	read_details(df_json_get(at, "details"), w);
}

static bool mentions(struct df_str s, const char *words)
{
	return s.n && memmem(s.p, s.n, words, strlen(words)) != NULL;
}

static enum df_call_class judge(long status, const struct words *w)
{
	enum df_call_class class;
	if (find_code(certain, sizeof(certain) / sizeof(certain[0]), w->code, &class) ||
	    find_code(certain, sizeof(certain) / sizeof(certain[0]), w->type, &class))
		return class;
	if (w->key)
		return DF_CALL_AUTH;
	if (w->day || (status >= 400 && mentions(w->message, "credit balance is too low")))
		return DF_CALL_QUOTA;
	if (status == 429 && df_str_starts(w->message, "Request too large")) /* more tokens than a minute has: never */
		return DF_CALL_BAD_INPUT;
	if (status != 0 && (status < 200 || status > 299))
		return class_of_status(status);
	if (find_code(by_code, sizeof(by_code) / sizeof(by_code[0]), w->code, &class) ||
	    find_code(by_code, sizeof(by_code) / sizeof(by_code[0]), w->type, &class))
		return class;
	return w->number ? class_of_status(w->number) : DF_CALL_RETRY;
}

void df_wire_error(struct df_answer *a, long status, const struct df_json *root, struct df_str body)
{
	struct words w = {.retry_ms = -1};
	char code[64];
	struct df_str text = df_str_trim(body);
	read_words(root, &w);
	enum df_call_class class = judge(status, &w);
	struct df_str best = w.code.n ? w.code : w.type;
	(void)snprintf(code, sizeof(code), "%.*s", (int)(best.n < 63 ? best.n : 63), best.p ? best.p : "");
	put_line(a->code, sizeof(a->code), code);
	if (w.message.n)
		text = w.message;
	if (text.n > 2000)
		text.n = 2000;
	if (status)
		df_wire_fail(a, class, "status %ld%s%s%s: %.*s", status, code[0] ? " (" : "", code, code[0] ? ")" : "",
			     (int)text.n, text.n ? text.p : "");
	else
		df_wire_fail(a, class, "an error inside the answer%s%s%s: %.*s", code[0] ? " (" : "", code,
			     code[0] ? ")" : "", (int)text.n, text.n ? text.p : "");
	if (w.retry_ms >= 0)
		a->retry_after_ms = w.retry_ms;
	mask_likely_keys(a->code);
}

/* ------------------------------------------------------------------ a response */

static void no_answer(const struct df_http_response *r, struct df_answer *ret)
{
	enum df_call_class class = r->err == DF_ERR_LIMIT   ? DF_CALL_BAD_ANSWER
				   : r->err == DF_ERR_USAGE ? DF_CALL_NOT_FOUND /* no try will change that */
							    : DF_CALL_RETRY;
	df_wire_fail(ret, class, "%s%s%s", df_err_name(r->err), r->message[0] ? ": " : "", r->message);
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
	int64_t after = df_wire_retry_after(r);
	if (after >= 0)
		ret->retry_after_ms = after;
	should_retry(r, ret);
	return false;
}

void df_wire_not_json(const struct df_http_response *r, const struct df_fail *why, enum df_err err,
		      struct df_answer *ret)
{
	struct df_str type = df_wire_get(r, "content-type"), body = df_str_trim(r->body);
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
	if (!df_wire_status(r, arena, ret))
		return false;
	enum df_err err = df_json_parse(r->body, arena, &root, &why);
	if (err != DF_OK) {
		df_wire_not_json(r, &why, err, ret);
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
	memset(stream, 0, sizeof(*stream));
}
