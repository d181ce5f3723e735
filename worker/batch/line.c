// SPDX-License-Identifier: Apache-2.0
/* line: requests and answers as lines. */
#include "worker/batch/line.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"

#define REQUEST_START "{\"custom_id\":"

void df_batch_custom_id(struct df_cache_key key, char ret_id[DF_CUSTOM_ID_BYTES])
{
	(void)snprintf(ret_id, DF_CUSTOM_ID_BYTES, "df-%016" PRIx64 "%016" PRIx64 "%016" PRIx64, key.high, key.low,
		       key.check);
}

void df_batch_custom_id_of_run(struct df_cache_key key, const char *run, char ret_id[DF_CUSTOM_ID_BYTES])
{
	df_batch_custom_id(key, ret_id);
	size_t n = strlen(ret_id);
	(void)snprintf(ret_id + n, DF_CUSTOM_ID_BYTES - n, "-%.8s", run);
}

/* In valid JSON a line break stands between tokens alone: in a string it is escaped. */
static enum df_err add_on_one_line(struct df_buf *out, struct df_str json)
{
	size_t at = out->n;
	DF_TRY(df_buf_add_str(out, json));
	for (; at < out->n; at++)
		if (out->p[at] == '\n' || out->p[at] == '\r')
			out->p[at] = ' ';
	return DF_OK;
}

enum df_err df_batch_add_request(struct df_buf *out, struct df_str custom_id, struct df_str endpoint,
				 struct df_str body)
{
	DF_TRY(df_buf_addz(out, REQUEST_START));
	DF_TRY(df_json_add_string(out, custom_id));
	DF_TRY(df_buf_addz(out, ",\"method\":\"POST\",\"url\":"));
	DF_TRY(df_json_add_string(out, endpoint));
	DF_TRY(df_buf_addz(out, ",\"body\":"));
	DF_TRY(add_on_one_line(out, body));
	return df_buf_addz(out, "}\n");
}

enum df_err df_batch_add_params(struct df_buf *out, struct df_str custom_id, struct df_str body)
{
	DF_TRY(df_buf_addz(out, REQUEST_START));
	DF_TRY(df_json_add_string(out, custom_id));
	DF_TRY(df_buf_addz(out, ",\"params\":"));
	DF_TRY(add_on_one_line(out, body));
	return df_buf_addz(out, "}\n");
}

struct df_str df_batch_own_id(struct df_str line)
{
	const size_t n = sizeof(REQUEST_START); /* with the quote behind it */
	if (line.n <= n || !df_str_starts(line, REQUEST_START "\""))
		return (struct df_str){NULL, 0};
	const char *end = memchr(line.p + n, '"', line.n - n);
	return end ? (struct df_str){line.p + n, (size_t)(end - line.p) - n} : (struct df_str){NULL, 0};
}

/* The last place of "/v1/" behind the host. */
static size_t find_v1(struct df_str url)
{
	for (size_t i = url.n; i-- > 8;)
		if (url.n - i >= 4 && memcmp(url.p + i, "/v1/", 4) == 0)
			return i;
	return SIZE_MAX;
}

enum df_err df_batch_split_url(struct df_str url, struct df_str base_url, struct df_arena *arena,
			       struct df_str *ret_base, struct df_str *ret_endpoint, struct df_fail *fail)
{
	size_t at = find_v1(url);
	struct df_str base, path, endpoint;
	if (at != SIZE_MAX) {
		base = (struct df_str){url.p, at + 3};
		path = (struct df_str){url.p + at + 3, url.n - at - 3};
	} else if (base_url.n && base_url.n < url.n && memcmp(url.p, base_url.p, base_url.n) == 0 &&
		   url.p[base_url.n] == '/') {
		base = (struct df_str){url.p, base_url.n};
		path = (struct df_str){url.p + base_url.n, url.n - base_url.n};
	} else {
		return df_fail(fail, DF_ERR_UNSUPPORTED, "'" DF_STR_FMT "' is no URL that has batches beside it",
			       DF_STR_ARG(url));
	}
	char *p = df_arena_alloc(arena, path.n + 4);
	if (!p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a URL");
	memcpy(p, "/v1", 3);
	memcpy(p + 3, path.p, path.n);
	p[path.n + 3] = '\0';
	endpoint = (struct df_str){p, path.n + 3};
	*ret_base = base;
	*ret_endpoint = endpoint;
	return DF_OK;
}

/* What the same error would have had as the status of an answer. */
static long status_of(struct df_str type)
{
	static const struct {
		const char *type;
		long status;
	} known[] = {{"invalid_request_error", 400}, {"invalid_request", 400},  {"authentication_error", 401},
		     {"billing_error", 402},         {"permission_error", 403}, {"not_found_error", 404},
		     {"request_too_large", 413},     {"rate_limit_error", 429}, {"overloaded_error", 529}};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (df_str_is(type, known[i].type))
			return known[i].status;
	return 500;
}

static enum df_err read_result(const struct df_json *result, struct df_batch_answer *a, struct df_fail *fail)
{
	struct df_str type = df_json_get_str(result, "type");
	const struct df_json *error = df_json_get(result, "error"), *inner = df_json_get(error, "error");
	const struct df_json *message = df_json_get(result, "message");
	a->code = type;
	a->expired = df_str_is(type, "expired") || df_str_is(type, "canceled");
	if (a->expired)
		return DF_OK;
	if (df_str_is(type, "succeeded") && message) {
		a->status = 200;
		a->body = message->raw;
	} else if (df_str_is(type, "errored") && error) {
		a->status = status_of(df_json_get_str(inner ? inner : error, "type"));
		a->body = error->raw;
	} else {
		return df_fail(fail, DF_ERR_PARSE, "a result without what its type promises");
	}
	return DF_OK;
}

enum df_err df_batch_read_answer(struct df_str line, struct df_arena *arena, struct df_batch_answer *ret,
				 struct df_fail *fail)
{
	struct df_json *root = NULL;
	struct df_batch_answer a = {.status = 0};
	DF_TRY(df_json_parse(line, arena, &root, fail));
	a.custom_id = df_json_get_str(root, "custom_id");
	const struct df_json *response = df_json_get(root, "response"), *error = df_json_get(root, "error");
	const struct df_json *body = df_json_get(response, "body"), *result = df_json_get(root, "result");
	if (root->type != DF_JSON_OBJECT || !a.custom_id.n)
		return df_fail(fail, DF_ERR_PARSE, "a line without a custom_id");
	if (result && result->type == DF_JSON_OBJECT) {
		DF_TRY(read_result(result, &a, fail));
	} else if (response && response->type == DF_JSON_OBJECT) {
		uint64_t status = df_json_get_u64(response, "status_code", 0);
		if (status < 100 || status > 999 || !body)
			return df_fail(fail, DF_ERR_PARSE, "a response without a status_code and a body");
		a.status = (long)status;
		a.body = body->raw;
	} else {
		a.code = df_json_get_str(error, "code");
		a.message = df_json_get_str(error, "message");
		a.expired = df_str_is(a.code, "batch_expired") || df_str_is(a.code, "batch_cancelled");
	}
	*ret = a;
	return DF_OK;
}
