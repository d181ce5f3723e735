// SPDX-License-Identifier: Apache-2.0
/*
 * request: each record is the body of a request, sent as it is. So a file of request bodies that some other program was fed with runs here, with the same
 * limits, retries, cache and trace as every other call (provider "raw").
 *
 * Lines of batch files are taken too: {"custom_id","method","url","body"} (OpenAI) and {"custom_id","params"} (Anthropic); their body or params is what is sent.
 */
#include "base/json.h"
#include "base/limits.h"
#include "worker/stages/llm.h"
#include "worker/stages/rows.h"

#include <stdlib.h>

struct request_options {
	struct df_str url, output;
	struct df_str_list leave_out;
	struct df_api_options api;
};

#define AT(member) offsetof(struct request_options, member)
static const struct df_opt option_rows[] = {
	{.name = "url",
	 .type = DF_OPT_STRING,
	 .offset = AT(url),
	 .required = true,
	 .max = 2048,
	 .value_name = "URL",
	 .help = "Where each record is POSTed, e.g. https://api.openai.com/v1/chat/completions"},
	{.name = "output",
	 .type = DF_OPT_STRING,
	 .offset = AT(output),
	 .initial = "response",
	 .max = 256,
	 .value_name = "FIELD",
	 .help = "The field that gets the answer's JSON"},
	{.name = "leave_out",
	 .type = DF_OPT_LIST,
	 .offset = AT(leave_out),
	 .initial = "metadata",
	 .value_name = "A,B",
	 .help = "Members of a record that are its own and not sent"},
	DF_API_ROWS(struct request_options),
	{.name = NULL},
};

struct request {
	const struct request_options *options;
	struct df_api api;
};

#define MODEL DF_STR("raw/any")

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct request_options *o = options;
	DF_TRY(df_api_check_url("url", o->url, fail));
	DF_TRY(df_api_check(&o->api, MODEL, fail));
	if (o->api.base_url.n || o->api.fallback.n)
		return df_fail(fail, DF_ERR_USAGE,
			       "base_url= and fallback= mean nothing here; url= says where requests go");
	if (!o->output.n)
		return df_fail(fail, DF_ERR_USAGE, "option 'output' needs the name of a field");
	return DF_OK;
}

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct request_options *o = s->options;
	struct request *r = df_arena_zalloc(env->arena, sizeof(*r));
	struct df_api_options api = o->api;
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a stage");
	s->state = r;
	r->options = o;
	api.base_url = o->url;
	return df_api_open(&r->api, &api, MODEL, env, s->call_name, fail);
}

static void close_(struct df_stage *s)
{
	struct request *r = s->state;
	if (r)
		df_api_close(&r->api);
	s->state = NULL;
}

static bool left_out(const struct request *r, struct df_str key)
{
	for (size_t i = 0; i < r->options->leave_out.n; i++)
		if (df_str_eq(r->options->leave_out.item[i], key))
			return true;
	return false;
}

static bool comes_again(const struct df_doc *doc, size_t i)
{
	for (size_t k = i + 1; k < doc->n_field; k++)
		if (df_str_eq(doc->field[k].key, doc->field[i].key))
			return true;
	return false;
}

/* The record's members in their order, with what stages have made of them. */
static enum df_err body_of(const struct request *r, const struct df_row *row, struct df_arena *arena,
			   struct df_str *ret)
{
	const struct df_doc *doc = row->doc;
	struct df_buf b;
	bool first = true;
	df_buf_init(&b, DF_PROMPT_BYTES);
	(void)df_buf_addc(&b, '{');
	for (size_t i = 0; i < doc->n_field; i++) {
		struct df_str key = doc->field[i].key;
		if (left_out(r, key) || comes_again(doc, i))
			continue;
		(void)df_buf_addz(&b, first ? "" : ",");
		(void)df_json_add_string(&b, key);
		(void)df_buf_addc(&b, ':');
		if (i == doc->text_field && row->edited)
			(void)df_json_add_string(&b, row->text);
		else
			(void)df_buf_add_str(&b, df_row_get(row, key));
		first = false;
	}
	(void)df_buf_addc(&b, '}');
	enum df_err err = df_buf_err(&b);
	struct df_str text = err == DF_OK ? df_arena_copy(arena, df_buf_str(&b)) : (struct df_str){NULL, 0};
	df_buf_release(&b);
	if (err == DF_OK && text.p)
		*ret = text;
	return err != DF_OK ? err : text.p ? DF_OK : DF_ERR_NOMEM;
}

struct item {
	struct df_row *row;
	struct df_ask_turn turn;
};

/* ------------------------------------------------------------------ lines of batch files */

static bool is_object(struct df_str raw)
{
	return raw.n && raw.p[0] == '{';
}

/* The body of such a line; empty: the record is a body itself. */
static struct df_str wrapped_body(const struct df_row *row)
{
	struct df_str body = df_row_get(row, DF_STR("body")), params = df_row_get(row, DF_STR("params"));
	struct df_str url = df_row_get(row, DF_STR("url"));
	if (!df_row_get(row, DF_STR("custom_id")).n)
		return (struct df_str){NULL, 0};
	if (url.n && is_object(body))
		return body;
	return is_object(params) ? params : (struct df_str){NULL, 0};
}

static enum df_err text_of(struct df_str raw, struct df_arena *arena, struct df_str *ret)
{
	struct df_json *j = NULL;
	*ret = (struct df_str){"", 0};
	if (!raw.n)
		return DF_OK;
	enum df_err err = df_json_parse(raw, arena, &j, NULL);
	if (err == DF_OK)
		*ret = j->string;
	return err == DF_ERR_NOMEM ? err : DF_OK;
}

/* "/v1/chat/completions" is what the stage's URL ends with. */
static bool is_below(struct df_str url, struct df_str path)
{
	return path.n > 1 && path.p[0] == '/' && path.n <= url.n && memcmp(url.p + url.n - path.n, path.p, path.n) == 0;
}

/* *ret_why: NULL, or why the line cannot be sent. */
static enum df_err check_wrapped(const struct request *r, const struct df_row *row, struct df_str body,
				 struct df_arena *arena, const char **ret_why)
{
	struct df_str url = {"", 0}, method = {"", 0};
	struct df_json *j = NULL;
	const struct df_json *stream;
	*ret_why = NULL;
	DF_TRY(text_of(df_row_get(row, DF_STR("url")), arena, &url));
	DF_TRY(text_of(df_row_get(row, DF_STR("method")), arena, &method));
	if (df_json_parse(body, arena, &j, NULL) == DF_ERR_NOMEM)
		return DF_ERR_NOMEM;
	stream = df_json_get(j, "stream");
	if (url.n && !is_below(r->options->url, url))
		*ret_why = "its url is not what the stage's url= ends with; a file of several endpoints goes through "
			   "one run for each, or through 'docflume batch FILE'";
	else if (method.n && !df_str_is(method, "POST"))
		*ret_why = "its method is not POST";
	else if (stream && stream->type == DF_JSON_BOOL && stream->boolean)
		*ret_why = "a request for a stream; its answer cannot become a field";
	return DF_OK;
}

/* DF_ERR_NOMEM is the batch's. */
static enum df_err add_item(const struct request *r, struct df_batch *b, struct df_row *row, struct item *to, size_t *n)
{
	struct df_str stream = df_row_get(row, DF_STR("stream")), wrapped = wrapped_body(row);
	const char *why = NULL;
	enum df_err err = DF_OK;
	if (wrapped.n) {
		DF_TRY(check_wrapped(r, row, wrapped, b->arena, &why));
		if (why) {
			df_doc_reject(b, row->doc, r->api.call_name, DF_ERR_TYPE, "%s", why);
			return DF_OK;
		}
		to->turn.text = wrapped;
	}
	if (row->doc->n_field == 0 || df_str_is(stream, "true")) {
		df_doc_reject(b, row->doc, r->api.call_name, DF_ERR_TYPE, "%s",
			      row->doc->n_field ? "a request for a stream; its answer cannot become a field"
						: "it is text, not the JSON body of a request");
		return DF_OK;
	}
	if (!wrapped.n)
		err = body_of(r, row, b->arena, &to->turn.text);
	if (err == DF_ERR_LIMIT) {
		df_doc_reject(b, row->doc, r->api.call_name, err, "the request would have more than %u bytes",
			      DF_PROMPT_BYTES);
		return DF_OK;
	}
	to->row = row;
	to->turn.role = DF_TURN_USER;
	*n += err == DF_OK;
	return err;
}

static enum df_err give_out(const struct request *r, struct df_batch *b, struct df_row *row, const struct df_call *call)
{
	struct df_str json = {NULL, 0};
	if (call->err != DF_OK) {
		df_doc_reject(b, row->doc, r->api.call_name, call->err, "%s",
			      call->message[0] ? call->message : "the call failed");
		return DF_OK;
	}
	DF_TRY(df_llm_compact(call->answer.text, b->arena, &json));
	return df_row_add(b, row, r->options->output, json);
}

static enum df_err ask_all(const struct request *r, struct df_batch *b, struct item *item, size_t n,
			   struct df_fail *fail)
{
	struct df_call *call = calloc(n, sizeof(*call));
	struct df_arena *arena = calloc(n, sizeof(*arena));
	enum df_err err = call && arena ? DF_OK : DF_ERR_NOMEM;
	for (size_t i = 0; i < n && err == DF_OK; i++) {
		err = df_api_prepare(&r->api, &call[i], &arena[i], item[i].row->doc);
		call[i].ask.turn = &item[i].turn;
		call[i].ask.n_turn = 1;
		call[i].ask.tokens_in = df_api_tokens(item[i].turn.text.n);
	}
	if (err == DF_OK)
		err = df_api_run(&r->api, call, n, b, fail);
	for (size_t i = 0; i < n && err == DF_OK; i++)
		err = give_out(r, b, item[i].row, &call[i]);
	for (size_t i = 0; arena && i < n; i++)
		df_arena_release(&arena[i]);
	free(arena);
	free(call);
	return err == DF_ERR_NOMEM ? df_fail(fail, err, "no memory for %zu calls", n) : err;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	const struct request *r = s->state;
	struct item *item = df_arena_zalloc(b->arena, (b->n_row + 1) * sizeof(*item));
	size_t n = 0;
	enum df_err err = item ? DF_OK : DF_ERR_NOMEM;
	DF_EACH_LIVE_ROW(row, b)
	{
		if (err == DF_OK)
			err = add_item(r, b, row, &item[n], &n);
	}
	if (err != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the requests of %zu rows", b->n_row);
	return n ? ask_all(r, b, item, n, fail) : DF_OK;
}

const struct df_stage_class df_stage_request = {
	.name = "request",
	.summary = "send each record as the body of a request",
	.help = "POSTs each record's JSON, without its member \"metadata\", to a URL, and puts the JSON of the answer "
		"into a field: "
		"files of request bodies, one on each line, run as they are. As the first stage it takes records "
		"without a "
		"text. Lines of batch files ({\"custom_id\",\"method\",\"url\",\"body\"}, or "
		"{\"custom_id\",\"params\"}) are taken "
		"too: their body is sent, and the line gets the answer; their url must be what url= ends with.\n\n"
		"Limits, retries and the cache are those of every call. The key is that of OPENAI_API_KEY, or of the "
		"variable that "
		"key_env names; it is sent as the URL's API wants it (Anthropic, Azure, else as a bearer). Prices of "
		"such calls are "
		"unknown, so they are refused under a budget.\n\n"
		"  docflume run 'request url=https://api.openai.com/v1/embeddings rpm=3000 tpm=1000000' "
		"requests.jsonl\n",
	.options = option_rows,
	.options_size = sizeof(struct request_options),
	.flags = DF_STAGE_NETWORK | DF_STAGE_SIDE_EFFECTS | DF_STAGE_ANY_RECORD,
	.check = check,
	.open = open_,
	.process = process,
	.close = close_,
};
