// SPDX-License-Identifier: Apache-2.0
/* wire_request: the common part of writing requests. */
#include <fnmatch.h>
#include <math.h>

#include "base/limits.h"
#include "worker/provider/wire/wire.h"

/* ------------------------------------------------------------------ URL and headers */

static bool printable(struct df_str s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= 0x20 || (unsigned char)s.p[i] >= 0x7f)
			return false;
	return true;
}

enum df_err df_wire_url(const struct df_endpoint *to, const char *otherwise, const char *path, struct df_arena *arena,
			struct df_http_parts *parts, struct df_fail *fail)
{
	struct df_str base = to->base_url.n ? to->base_url : df_str_from(otherwise);
	while (base.n && base.p[base.n - 1] == '/')
		base.n--;
	if (!printable(base) || !(df_str_starts(base, "https://") || df_str_starts(base, "http://")))
		return df_fail(fail, DF_ERR_USAGE, "base URL '%.*s' is not of the form https://host/path; set base_url",
			       (int)(base.n < 200 ? base.n : 200), base.p ? base.p : "");
	if (!printable(to->key) || !printable(to->organization) || !printable(to->project) ||
	    !printable(to->api_version))
		return df_fail(fail, DF_ERR_USAGE,
			       "the key for '%.*s' has a blank, a line end or a character beyond ASCII in it",
			       (int)(base.n < 200 ? base.n : 200), base.p);
	size_t n = strlen(path);
	char *url = df_arena_alloc(arena, base.n + n + 1);
	if (!url)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	memcpy(url, base.p, base.n);
	memcpy(url + base.n, path, n + 1);
	memset(parts, 0, sizeof(*parts));
	parts->method = "POST";
	parts->url = url;
	return DF_OK;
}

enum df_err df_wire_header(struct df_http_parts *parts, struct df_arena *arena, const char *name, const char *prefix,
			   struct df_str value, bool secret)
{
	size_t n = strlen(prefix);
	if (value.n == 0)
		return DF_OK;
	DF_ASSERT(parts->n_header < sizeof(parts->header) / sizeof(parts->header[0]));
	char *p = df_arena_alloc(arena, n + value.n + 1);
	if (!p)
		return DF_ERR_NOMEM;
	memcpy(p, prefix, n);
	memcpy(p + n, value.p, value.n);
	p[n + value.n] = '\0';
	parts->header[parts->n_header++] = (struct df_http_header){name, {p, n + value.n}, secret};
	return DF_OK;
}

void df_wire_body_init(struct df_buf *body)
{
	df_buf_init(body, DF_REQUEST_BYTES_MAX);
}

enum df_err df_wire_body(struct df_buf *body, struct df_arena *arena, struct df_http_parts *parts, struct df_fail *fail)
{
	enum df_err err = df_buf_err(body);
	if (err == DF_OK) {
		parts->body = df_arena_copy(arena, df_buf_str(body));
		err = parts->body.p
			      ? df_wire_header(parts, arena, "Content-Type", "", DF_STR("application/json"), false)
			      : DF_ERR_NOMEM;
	}
	df_buf_release(body);
	if (err == DF_ERR_LIMIT)
		return df_fail(fail, err, "a request would have more than %u MB", DF_REQUEST_BYTES_MAX >> 20);
	return err == DF_OK ? DF_OK : df_fail(fail, err, "no memory for a request");
}

/* ------------------------------------------------------------------ JSON */

void df_wire_key(struct df_buf *b, const char *name)
{
	char last = b->n ? b->p[b->n - 1] : '{';
	if (last != '{' && last != '[')
		(void)df_buf_addc(b, ',');
	(void)df_json_add_string(b, df_str_from(name));
	(void)df_buf_addc(b, ':');
}

void df_wire_text(struct df_buf *b, const char *name, struct df_str value)
{
	df_wire_key(b, name);
	(void)df_json_add_string(b, value);
}

void df_wire_real(struct df_buf *b, const char *name, double value)
{
	if (isnan(value))
		return;
	df_wire_key(b, name);
	(void)df_json_add_double(b, value);
}

void df_wire_count(struct df_buf *b, const char *name, int64_t value)
{
	if (value < 1)
		return;
	df_wire_key(b, name);
	(void)df_buf_add_u64(b, (uint64_t)value);
}

void df_wire_strings(struct df_buf *b, const char *name, const struct df_str *s, size_t n)
{
	df_wire_key(b, name);
	(void)df_buf_addc(b, '[');
	for (size_t i = 0; i < n; i++) {
		(void)df_buf_addz(b, i ? "," : "");
		(void)df_json_add_string(b, s[i]);
	}
	(void)df_buf_addc(b, ']');
}

void df_wire_messages(struct df_buf *b, const char *name, const struct df_ask *ask, bool without_system)
{
	static const char *const role[] = {"system", "user", "assistant"};
	bool first = true;
	df_wire_key(b, name);
	(void)df_buf_addc(b, '[');
	for (size_t i = 0; i < ask->n_turn; i++) {
		if (without_system && ask->turn[i].role == DF_TURN_SYSTEM)
			continue;
		(void)df_buf_addz(b, first ? "{" : ",{");
		df_wire_text(b, "role", df_str_from(role[ask->turn[i].role]));
		df_wire_text(b, "content", ask->turn[i].text);
		(void)df_buf_addc(b, '}');
		first = false;
	}
	(void)df_buf_addc(b, ']');
}

struct df_str df_wire_system(const struct df_ask *ask, struct df_arena *arena, enum df_err *err)
{
	struct df_buf b;
	struct df_str all = {"", 0};
	df_wire_body_init(&b);
	for (size_t i = 0; i < ask->n_turn; i++)
		if (ask->turn[i].role == DF_TURN_SYSTEM) {
			(void)df_buf_addz(&b, b.n ? "\n\n" : "");
			(void)df_buf_add_str(&b, ask->turn[i].text);
		}
	*err = df_buf_err(&b);
	if (*err == DF_OK && b.n) {
		all = df_arena_copy(arena, df_buf_str(&b));
		*err = all.p ? DF_OK : DF_ERR_NOMEM;
	}
	df_buf_release(&b);
	return all;
}

/* ------------------------------------------------------------------ models */

bool df_wire_match(struct df_str id, const char *const *pattern)
{
	char z[257];
	if (id.n >= sizeof(z) || (id.n && memchr(id.p, '\0', id.n)))
		return false;
	memcpy(z, id.n ? id.p : "", id.n);
	z[id.n] = '\0';
	for (; pattern && *pattern; pattern++)
		if (fnmatch(*pattern, z, 0) == 0)
			return true;
	return false;
}
