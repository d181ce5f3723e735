// SPDX-License-Identifier: Apache-2.0
/* recorded: replays a cassette (cassette.h): each recorded answer goes through the provider that once gave it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/limits.h"
#include "worker/provider/cassette.h"
#include "worker/provider/wire/wire.h"

struct entry {
	struct df_str digest, model;
	const struct df_provider *provider;
	const struct df_json *line;
	size_t number; /* of the line in the file, from 1 */
	size_t n_used; /* in the first entry of a digest: how many of its answers were given */
};

struct state {
	char *path, *text;
	struct df_arena arena;
	struct entry *entry;
	size_t n;
};

/* ------------------------------------------------------------------ reading */

static int by_digest(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	int order = memcmp(x->digest.p, y->digest.p, 32);
	return order ? order : (x->number > y->number) - (x->number < y->number);
}

static enum df_err read_line(struct state *s, struct df_str text, size_t number, struct df_fail *fail)
{
	struct df_json *line = NULL;
	struct df_fail why = {.msg = ""};
	enum df_err err = df_json_parse(text, &s->arena, &line, &why);
	if (err != DF_OK)
		return df_fail(fail, err, "cassette '%.300s', line %zu: %s", s->path, number, why.msg);
	struct entry *e = &s->entry[s->n];
	struct df_str name = df_json_get_str(line, "provider");
	*e = (struct entry){.digest = df_json_get_str(line, "digest"),
			    .model = df_json_get_str(line, "model"),
			    .line = line,
			    .number = number};
	for (size_t i = 0; df_provider_registry[i]; i++)
		if (df_str_is(name, df_provider_registry[i]->name) && df_provider_registry[i]->parse)
			e->provider = df_provider_registry[i];
	if (df_json_get_u64(line, "v", 0) != 1 || e->digest.n != 32 || !e->provider)
		return df_fail(fail, DF_ERR_PARSE, "cassette '%.300s', line %zu: not a recorded answer%s", s->path,
			       number, e->provider ? "" : " of a known provider");
	s->n++;
	return DF_OK;
}

static enum df_err read_all(struct state *s, size_t n_byte, struct df_fail *fail)
{
	size_t n_line = 1, number = 0;
	for (size_t i = 0; i < n_byte; i++)
		n_line += s->text[i] == '\n';
	if (n_line > DF_CASSETTE_LINES_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "cassette '%.300s' has more than %u lines", s->path,
			       DF_CASSETTE_LINES_MAX);
	s->entry = calloc(n_line, sizeof(*s->entry));
	if (!s->entry)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the cassette '%.300s'", s->path);
	for (const char *p = s->text, *end = p + n_byte; p < end;) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct df_str line = df_str_trim((struct df_str){p, (size_t)((lf ? lf : end) - p)});
		number++;
		if (line.n)
			DF_TRY(read_line(s, line, number, fail));
		p = lf ? lf + 1 : end;
	}
	qsort(s->entry, s->n, sizeof(*s->entry), by_digest);
	return DF_OK;
}

static void close_state(void *state)
{
	struct state *s = state;
	if (!s)
		return;
	df_arena_release(&s->arena);
	free(s->entry);
	free(s->text);
	free(s->path);
	free(s);
}

static enum df_err open_state(struct df_str model, void **ret_state, struct df_fail *fail)
{
	struct state *s = calloc(1, sizeof(*s));
	size_t n = 0;
	if (!s || !(s->path = df_str_dup(model))) {
		free(s);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a cassette");
	}
	df_arena_init(&s->arena, 8 * (size_t)DF_CASSETTE_BYTES_MAX, 0);
	enum df_err err = df_io_read_file(&df_io_real, AT_FDCWD, s->path, DF_CASSETTE_BYTES_MAX, &s->text, &n, fail);
	if (err == DF_OK)
		err = read_all(s, n, fail);
	if (err == DF_OK)
		*ret_state = s;
	else
		close_state(s);
	return err;
}

/* ------------------------------------------------------------------ replaying */

static struct df_str header(const struct df_http_response *r, const char *name)
{
	const struct df_json *v = df_json_get(df_json_get(r->own, "headers"), name);
	return v && v->type == DF_JSON_STRING ? v->string : (struct df_str){NULL, 0};
}

static struct df_str unhex(struct df_str hex, struct df_arena *arena)
{
	char *p = df_arena_alloc(arena, hex.n / 2 + 1);
	for (size_t i = 0; p && i < hex.n / 2; i++) {
		char two[3] = {hex.p[2 * i], hex.p[2 * i + 1], '\0'};
		p[i] = (char)strtoul(two, NULL, 16);
	}
	return (struct df_str){p, p ? hex.n / 2 : 0};
}

static struct df_http_response response_of(const struct df_json *line, struct df_arena *arena)
{
	struct df_str err = df_json_get_str(line, "err"), message = df_json_get_str(line, "message");
	struct df_http_response r = {.phase = DF_HTTP_DONE,
				     .status = (long)df_json_get_u64(line, "status", 0),
				     .body = df_json_get_str(line, "body"),
				     .header = header,
				     .own = line};
	for (int i = 0; err.n && i < DF_N_ERR; i++)
		if (df_str_is(err, df_err_name((enum df_err)i)))
			r.err = (enum df_err)i;
	(void)snprintf(r.message, sizeof(r.message), "%.*s", (int)(message.n < 255 ? message.n : 255), message.p);
	if (df_json_get(line, "body_hex"))
		r.body = unhex(df_json_get_str(line, "body_hex"), arena);
	return r;
}

static void replay_stream(const struct entry *e, const struct df_ask *ask, const struct df_json *events,
			  struct df_arena *arena, struct df_answer *ret, uint32_t *ret_pieces)
{
	struct df_stream stream = {.failed = false};
	struct df_str text;
	df_wire_clear(ret);
	for (const struct df_json *v = events->child; v && !stream.failed; v = v->next) {
		bool whole = v->n == 2 && v->child->type == DF_JSON_STRING && v->child->next->type == DF_JSON_STRING;
		if (!whole)
			continue;
		e->provider->event(ask, v->child->string, v->child->next->string, &stream, &text, arena, ret);
		*ret_pieces += !stream.failed && text.n > 0;
	}
	df_stream_answer(ask, &stream, arena, ret);
	df_stream_release(&stream);
}

/* The first entry with the digest, and how many there are. */
static struct entry *find(struct state *s, const char *digest, size_t *ret_n)
{
	size_t low = 0, high = s->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (memcmp(s->entry[mid].digest.p, digest, 32) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (*ret_n = 0; low + *ret_n < s->n && memcmp(s->entry[low + *ret_n].digest.p, digest, 32) == 0; (*ret_n)++)
		;
	return *ret_n ? &s->entry[low] : NULL;
}

static void answer(void *state, const struct df_ask *ask, struct df_arena *arena, struct df_answer *ret,
		   uint64_t *ret_delay_ns, uint32_t *ret_pieces)
{
	struct state *s = state;
	struct df_ask as = *ask;
	char digest[33];
	size_t n = 0;
	*ret_delay_ns = 0;
	*ret_pieces = 0;
	df_wire_clear(ret);
	if (df_ask_digest(ask, false, digest) != DF_OK) {
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for a digest");
		return;
	}
	struct entry *e = find(s, digest, &n);
	if (!e) {
		df_wire_fail(ret, DF_CALL_NOT_FOUND,
			     "nothing is recorded for this ask (digest %s) in '%.200s'; record it again", digest,
			     s->path);
		return;
	}
	struct entry *now = &e[e->n_used < n ? e->n_used : n - 1];
	const struct df_json *events = df_json_get(now->line, "events");
	e->n_used++;
	as.model = now->model;
	as.stream = events != NULL;
	if (events) {
		replay_stream(now, &as, events, arena, ret, ret_pieces);
	} else {
		struct df_http_response r = response_of(now->line, arena);
		now->provider->parse(&as, &r, arena, ret);
	}
	*ret_pieces = *ret_pieces ? *ret_pieces : 1;
}

static const char *const patterns[] = {NULL};

const struct df_provider df_provider_recorded = {.name = "recorded",
						 .summary = "replays a cassette: recorded/PATH",
						 .pattern = patterns,
						 .base_url = "",
						 .free = true,
						 .schema_mode = true,
						 .embed_inputs_max = 2048,
						 .answer = answer,
						 .open = open_state,
						 .close = close_state};
