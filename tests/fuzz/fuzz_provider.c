// SPDX-License-Identifier: Apache-2.0
/* Any bytes as an answer, as events of a stream, as headers, as a user's table of models and as a model's id, for every provider. Byte 0: the provider; byte 1:
 * chat or embeddings, with or without a schema, number of inputs; byte 2: the status; then the body, up to a NUL; then headers. */
#include <math.h>
#include <stdlib.h>

#include "worker/provider/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct df_str headers;

static struct df_str header(const struct df_http_response *r, const char *name)
{
	(void)r;
	(void)name;
	return headers; /* every header says the same */
}

static void check(const struct df_ask *ask, const struct df_answer *a)
{
	DF_ASSERT(a->class < DF_N_CALL_CLASS && memchr(a->message, '\0', sizeof(a->message)) != NULL);
	DF_ASSERT(memchr(a->code, '\0', sizeof(a->code)) != NULL && a->retry_after_ms >= -1);
	DF_ASSERT((a->class == DF_CALL_OK) == (a->message[0] == '\0'));
	DF_ASSERT(a->usage.cached_in <= a->usage.in);
	if (a->class != DF_CALL_OK)
		return;
	if (ask->kind == DF_ASK_CHAT) {
		DF_ASSERT(a->text.p != NULL && df_str_utf8_prefix(a->text) == a->text.n);
		return;
	}
	DF_ASSERT(a->n_vector == ask->n_input && a->dim > 0);
	for (size_t i = 0; i < a->n_vector * a->dim; i++)
		DF_ASSERT(isfinite(a->vector[i]));
}

static void events(const struct df_provider *p, const struct df_ask *ask, struct df_str body, struct df_arena *arena)
{
	struct df_stream stream = {.failed = false};
	struct df_answer a;
	size_t n = 0;
	df_wire_clear(&a);
	while (body.n && !stream.failed) {
		const char *lf = memchr(body.p, '\n', body.n);
		struct df_str line = {body.p, lf ? (size_t)(lf - body.p) : body.n}, text = {NULL, 0};
		p->event(ask, DF_STR(""), line, &stream, &text, arena, &a);
		n += text.n;
		DF_ASSERT(stream.failed || (text.p && n == stream.text.n));
		body = (struct df_str){body.p + line.n + (lf != NULL), body.n - line.n - (lf != NULL)};
	}
	df_stream_answer(ask, &stream, arena, &a);
	DF_ASSERT(a.class != DF_CALL_OK || (stream.ended && stream.finished && a.text.n == stream.text.n));
	df_stream_release(&stream);
}

static void answers(const struct df_provider *p, struct df_ask *ask, const struct df_http_response *r,
		    struct df_arena *arena)
{
	struct df_limit_news news;
	struct df_answer a;
	p->parse(ask, r, arena, &a);
	check(ask, &a);
	events(p, ask, r->body, arena);
	p->limits(r, &news);
	DF_ASSERT(news.requests_limit >= -1 && news.tokens_reset_ms >= -1 && news.retry_after_ms >= -1);
}

/* As a schema, a prompt, and an id in a request. */
static void requests(const struct df_provider *p, struct df_ask *ask, struct df_str text, struct df_arena *arena)
{
	const struct df_endpoint to = {.key = DF_STR("KEY")};
	struct df_ask_turn turn = {DF_TURN_USER, {text.p, df_str_utf8_prefix(text)}};
	struct df_http_parts parts;
	struct df_json *root = NULL;
	ask->turn = &turn;
	ask->n_turn = 1;
	if (p->build(ask, &to, arena, &parts, NULL) != DF_OK)
		return;
	DF_ASSERT(df_json_parse(parts.body, arena, &root, NULL) != DF_ERR_PARSE);
}

static void others(struct df_str text, struct df_arena *arena)
{
	const struct df_provider *p = NULL;
	struct df_user_row *row = NULL;
	struct df_str model;
	void *state = NULL;
	size_t n = 0;
	(void)df_wire_duration(text);
	(void)df_wire_date(text);
	(void)(df_table_yaml(text, "fuzz", arena, &row, &n, NULL) == DF_OK);
	if (df_provider_find(text, &p, &model, NULL) == DF_OK && df_str_is(df_str_from(p->name), "fake") &&
	    p->open(model, &state, NULL) == DF_OK)
		p->close(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct df_str input[] = {{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}};
	static const long status[] = {200, 200, 200, 200, 429, 400, 500, 0};
	struct df_arena arena;
	size_t n = 0;
	if (size < 3)
		return 0;
	while (df_provider_registry[n])
		n++;
	const struct df_provider *p = df_provider_registry[data[0] % n];
	char *copy = malloc(size - 3 + 1);
	DF_ASSERT(copy != NULL);
	memcpy(copy, data + 3, size - 3);
	const char *nul = memchr(copy, '\0', size - 3);
	struct df_str body = {copy, nul ? (size_t)(nul - copy) : size - 3};
	headers = nul ? (struct df_str){nul + 1, size - 3 - body.n - 1} : (struct df_str){NULL, 0};
	struct df_ask ask = {.kind = data[1] & 1 ? DF_ASK_EMBED : DF_ASK_CHAT,
			     .model = data[1] & 2 ? DF_STR("claude-sonnet-4-5") : DF_STR("claude-3-haiku"),
			     .temperature = 0.5,
			     .top_p = (double)NAN,
			     .seed = -1,
			     .input = input,
			     .n_input = 1 + (data[1] >> 4 & 3),
			     .stream = (data[1] & 8) != 0,
			     .tokens_in = 10};
	if (strcmp(p->name, "anthropic") == 0 || strcmp(p->name, "responses") == 0 || strcmp(p->name, "raw") == 0)
		ask.kind = DF_ASK_CHAT; /* these know one kind, and build no other */
	if (strcmp(p->name, "tei") == 0)
		ask.kind = DF_ASK_EMBED;
	df_arena_init(&arena, 64 << 20, 0);
	if (data[1] & 4)
		ask.schema = data[1] & 64 ? body : DF_STR("{\"type\":\"object\"}");
	struct df_http_response r = {
		.phase = DF_HTTP_DONE, .status = status[data[2] % 8], .body = body, .header = header};
	if (p->parse) {
		answers(p, &ask, &r, &arena);
		requests(p, &ask, body, &arena);
	} else
		others(body, &arena); /* libfyaml is slow: one of six is enough */
	df_arena_release(&arena);
	free(copy);
	return 0;
}
