// SPDX-License-Identifier: Apache-2.0
/* cassette: writing answers down, without secrets. Reading them is recorded.c's. */
#include "worker/provider/cassette.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

struct df_cassette {
	int fd;
	char *path;
};

/* ------------------------------------------------------------------ digests */

/* Lengths stand before texts, so that no two asks are written alike. */
static void add_text(struct df_buf *b, struct df_str s)
{
	(void)df_buf_addf(b, "%zu:", s.n);
	(void)df_buf_add_str(b, s);
}

static void add_number(struct df_buf *b, double v)
{
	(void)df_buf_addf(b, isnan(v) ? "-;" : "%.17g;", v);
}

enum df_err df_ask_digest(const struct df_ask *ask, bool with_model, char ret_hex[33])
{
	struct df_buf b;
	df_buf_init(&b, 2 * (size_t)DF_REQUEST_BYTES_MAX);
	(void)df_buf_addf(&b, "ask 1 %d;", (int)ask->kind);
	add_text(&b, with_model ? ask->model : DF_STR(""));
	if (ask->kind == DF_ASK_CHAT) {
		for (size_t i = 0; i < ask->n_turn; i++) {
			(void)df_buf_addf(&b, "%d", (int)ask->turn[i].role);
			add_text(&b, ask->turn[i].text);
		}
		add_number(&b, ask->temperature);
		add_number(&b, ask->top_p);
		(void)df_buf_addf(&b, "%" PRId64 ";%" PRId64 ";", ask->max_tokens, ask->seed < 0 ? -1 : ask->seed);
		add_text(&b, ask->schema);
	} else {
		for (size_t i = 0; i < ask->n_input; i++)
			add_text(&b, ask->input[i]);
		(void)df_buf_addf(&b, "%" PRId64 ";%d", ask->dimensions, (int)ask->query);
	}
	enum df_err err = df_buf_err(&b);
	if (err == DF_OK)
		(void)snprintf(ret_hex, 33, "%016" PRIx64 "%016" PRIx64, df_hash64_seed(b.p, b.n, 1),
			       df_hash64_seed(b.p, b.n, 2));
	df_buf_release(&b);
	return err;
}

/* ------------------------------------------------------------------ secrets */

/* `s` with every occurrence of `secret` as "***". */
static void add_masked(struct df_buf *b, struct df_str s, struct df_str secret)
{
	const char *end = s.p + s.n;
	for (const char *p = s.p; s.n && p < end;) {
		const char *at = secret.n ? memmem(p, (size_t)(end - p), secret.p, secret.n) : NULL;
		(void)df_buf_add(b, p, (size_t)((at ? at : end) - p));
		if (!at)
			break;
		(void)df_buf_addz(b, "***");
		p = at + secret.n;
	}
}

/* The key as it is, and as JSON, and JSON inside JSON, may write its slashes. */
static enum df_err masked(struct df_str s, const struct df_endpoint *to, struct df_buf *ret)
{
	struct df_buf text[2], form;
	enum df_err err = DF_OK;
	df_buf_init(&text[0], 4 * s.n + 16);
	df_buf_init(&text[1], 4 * s.n + 16);
	df_buf_init(&form, 3 * to->key.n + 1);
	(void)df_buf_add_str(&text[0], s);
	for (size_t n_slash = 0; n_slash < 3 && err == DF_OK; n_slash++) {
		struct df_buf *from = &text[n_slash % 2], *into = &text[(n_slash + 1) % 2];
		df_buf_reset(&form);
		df_buf_reset(into);
		for (size_t i = 0; i < to->key.n; i++) {
			if (to->key.p[i] == '/')
				(void)df_buf_add(&form, "\\\\", n_slash);
			(void)df_buf_addc(&form, to->key.p[i]);
		}
		add_masked(into, df_buf_str(from), df_buf_str(&form));
		err = df_buf_err(from) ? df_buf_err(from) : df_buf_err(into) ? df_buf_err(into) : df_buf_err(&form);
	}
	(void)df_buf_add_str(ret, df_buf_str(&text[1]));
	for (size_t i = 0; i < 2; i++)
		df_buf_release(&text[i]);
	df_buf_release(&form);
	return err ? err : df_buf_err(ret);
}

static enum df_err add_string(struct df_buf *line, const char *name, struct df_str s, const struct df_endpoint *to)
{
	struct df_buf clean;
	df_buf_init(&clean, 4 * s.n + 16);
	enum df_err err = masked(s, to, &clean);
	struct df_str text = df_buf_str(&clean);
	bool utf8 = df_str_utf8_prefix(text) == text.n;
	if (err == DF_OK && utf8) {
		(void)df_buf_addf(line, ",\"%s\":", name);
		err = df_json_add_string(line, text);
	} else if (err == DF_OK) {
		(void)df_buf_addf(line, ",\"%s_hex\":\"", name);
		for (size_t i = 0; i < text.n; i++)
			(void)df_buf_addf(line, "%02x", (unsigned char)text.p[i]);
		err = df_buf_addc(line, '"');
	}
	df_buf_release(&clean);
	return err;
}

/* ------------------------------------------------------------------ lines */

static const char *const kept[] = {"content-type",
				   "date",
				   "retry-after",
				   "retry-after-ms",
				   "x-should-retry",
				   "x-ratelimit-limit-requests",
				   "x-ratelimit-remaining-requests",
				   "x-ratelimit-reset-requests",
				   "x-ratelimit-limit-tokens",
				   "x-ratelimit-remaining-tokens",
				   "x-ratelimit-reset-tokens",
				   "anthropic-ratelimit-requests-limit",
				   "anthropic-ratelimit-requests-remaining",
				   "anthropic-ratelimit-requests-reset",
				   "anthropic-ratelimit-tokens-limit",
				   "anthropic-ratelimit-tokens-remaining",
				   "anthropic-ratelimit-tokens-reset",
				   NULL};

static enum df_err add_headers(struct df_buf *line, const struct df_http_response *r, const struct df_endpoint *to)
{
	enum df_err err = df_buf_addz(line, ",\"headers\":{");
	size_t first = line->n;
	for (size_t i = 0; kept[i] && err == DF_OK && r->header; i++) {
		struct df_str v = r->header(r, kept[i]);
		if (v.p && df_str_utf8_prefix(v) == v.n)
			err = add_string(line, kept[i], v, to);
	}
	if (err == DF_OK && line->n > first) { /* its comma */
		memmove(line->p + first, line->p + first + 1, line->n - first - 1);
		line->n--;
	}
	return err == DF_OK ? df_buf_addc(line, '}') : err;
}

static enum df_err add_tape(struct df_buf *line, const struct df_tape *tape, const struct df_endpoint *to)
{
	struct df_buf clean;
	DF_TRY(df_buf_err(&tape->json));
	df_buf_init(&clean, 4 * tape->json.n + 16);
	enum df_err err = masked(df_buf_str(&tape->json), to, &clean);
	(void)df_buf_addz(line, ",\"events\":[");
	(void)df_buf_add_str(line, df_buf_str(&clean));
	df_buf_release(&clean);
	return err == DF_OK ? df_buf_addc(line, ']') : err;
}

static enum df_err write_line(struct df_buf *line, const struct df_provider *provider, const struct df_ask *ask,
			      const struct df_endpoint *to, const struct df_http_response *r,
			      const struct df_tape *tape)
{
	char digest[33];
	DF_TRY(df_ask_digest(ask, false, digest));
	(void)df_buf_addf(line, "{\"v\":1,\"digest\":\"%s\",\"provider\":\"%s\",\"model\":", digest, provider->name);
	(void)df_json_add_string(line, ask->model);
	if (r->err != DF_OK) {
		(void)df_buf_addf(line, ",\"err\":\"%s\"", df_err_name(r->err));
		DF_TRY(add_string(line, "message", df_str_from(r->message), to));
	}
	(void)df_buf_addf(line, ",\"status\":%ld", r->status);
	DF_TRY(add_headers(line, r, to));
	if (tape)
		DF_TRY(add_tape(line, tape, to));
	else
		DF_TRY(add_string(line, "body", r->body, to));
	return df_buf_addz(line, "}\n");
}

void df_tape_add(struct df_tape *t, struct df_str type, struct df_str data)
{
	if (t->json.max == 0)
		df_buf_init(&t->json, DF_CASSETTE_BYTES_MAX);
	(void)df_buf_addz(&t->json, t->json.n ? ",[" : "[");
	(void)df_json_add_string(&t->json, type);
	(void)df_buf_addc(&t->json, ',');
	(void)df_json_add_string(&t->json, data);
	(void)df_buf_addc(&t->json, ']');
}

void df_tape_release(struct df_tape *t)
{
	df_buf_release(&t->json);
}

/* ------------------------------------------------------------------ the file */

enum df_err df_cassette_open(const char *path, struct df_cassette **ret_cassette, struct df_fail *fail)
{
	struct df_cassette *c = calloc(1, sizeof(*c));
	if (!c || !(c->path = df_str_dup(df_str_from(path)))) {
		free(c);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the cassette '%s'", path);
	}
	c->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (c->fd < 0) {
		enum df_err err = df_fail_errno(fail, "cannot write the cassette '%s'", path);
		free(c->path);
		free(c);
		return err;
	}
	*ret_cassette = c;
	return DF_OK;
}

void df_cassette_close(struct df_cassette **cassette)
{
	if (!cassette || !*cassette)
		return;
	(void)close((*cassette)->fd);
	free((*cassette)->path);
	free(*cassette);
	*cassette = NULL;
}

enum df_err df_cassette_put(struct df_cassette *c, const struct df_provider *provider, const struct df_ask *ask,
			    const struct df_endpoint *to, const struct df_http_response *response,
			    const struct df_tape *tape, struct df_fail *fail)
{
	struct df_buf line;
	ssize_t n;
	df_buf_init(&line, DF_CASSETTE_BYTES_MAX);
	enum df_err err = write_line(&line, provider, ask, to, response, tape);
	if (err != DF_OK)
		(void)df_fail(fail, err, "cannot record an answer in '%s': %s", c->path,
			      err == DF_ERR_LIMIT ? "it is too long" : "no memory");
	while (err == DF_OK && (n = write(c->fd, line.p, line.n)) != (ssize_t)line.n) {
		if (n < 0 && errno == EINTR)
			continue;
		err = n < 0 ? df_fail_errno(fail, "cannot write the cassette '%s'", c->path)
			    : df_fail(fail, DF_ERR_NOSPACE, "the cassette '%s' took only a part of a line", c->path);
	}
	df_buf_release(&line);
	return err;
}
