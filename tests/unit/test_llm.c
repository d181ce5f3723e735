// SPDX-License-Identifier: Apache-2.0
/* test_llm: the stages that ask models, with the real engine, against a server that answers by what it is asked. ctest: threaded */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/json.h"
#include "help_http.h"
#include "worker/stages/llm.h"
#include "worker/stages/registry.h"

#define DOCS 300

static struct df_arena arena;
static struct df_fail fail;
static struct df_http *http;
static struct df_models *models;
static struct df_caller *caller;
static struct server server;
static char limits[] = "/tmp/docflume-llm-XXXXXX";
static struct df_counters counters;
static struct df_batch batch;
static struct df_doc docs[DOCS], *doc_p[DOCS];
static struct df_row *row_p[DOCS];
static char last_body[65536]; /* of the newest request; one test, one request at a time looks at it */
static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;

/* ------------------------------------------------------------------ the server */

static bool asks(const struct conn *c, const char *word)
{
	return memmem(c->body.p, c->body.n, word, strlen(word)) != NULL;
}

static void say(struct conn *c, const char *text, const char *finish)
{
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	(void)df_buf_addz(
		&b, "{\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
	(void)df_json_add_string(&b, df_str_from(text));
	(void)df_buf_addf(&b, "},\"finish_reason\":\"%s\"}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":3}}",
			  finish);
	(void)conn_answer(c, 200, df_buf_z(&b));
	df_buf_release(&b);
}

static void chat(struct conn *c)
{
	bool second = asks(c, "not valid against the schema");
	if (asks(c, "CASE:repair"))
		say(c, second ? "{\"n\": 7}" : "{\"n\": \"seven\"}", "stop");
	else if (asks(c, "CASE:never"))
		say(c, "{\"n\": \"never\"}", "stop");
	else if (asks(c, "CASE:words"))
		say(c, second ? "```json\n{\"n\": 5,\n \"t\": \"a \\\" b\"}\n```" : "Sure! Here you are.", "stop");
	else if (asks(c, "CASE:length"))
		say(c, "{\"n\": 1", "length");
	else if (asks(c, "CASE:filter"))
		say(c, "", "content_filter");
	else if (asks(c, "CASE:400"))
		(void)conn_answer(c, 400,
				  "{\"error\":{\"message\":\"no such thing\",\"type\":\"invalid_request_error\"}}");
	else if (asks(c, "CASE:401"))
		(void)conn_answer(c, 401, "{\"error\":{\"message\":\"bad key\",\"code\":\"invalid_api_key\"}}");
	else if (asks(c, "CASE:quota"))
		(void)conn_answer(c, 429,
				  "{\"error\":{\"message\":\"no "
				  "money\",\"code\":\"insufficient_quota\",\"type\":\"insufficient_quota\"}}");
	else
		say(c, "{\"n\": 3}", "stop");
}

/* Vectors whose first number is the number in the text, in the wrong order. */
static void embed(struct conn *c)
{
	struct df_arena a;
	struct df_json *root = NULL;
	struct df_buf b;
	size_t n = 0;
	df_arena_init(&a, 16 << 20, 0);
	df_buf_init(&b, 16 << 20);
	bool ok = df_json_parse(c->body, &a, &root, NULL) == DF_OK;
	const struct df_json *input = ok ? df_json_get(root, "input") : NULL;
	uint64_t dim = ok ? df_json_get_u64(root, "dimensions", 3) : 3;
	if (asks(c, "REFUSED")) {
		(void)conn_answer(c, 400, "{\"error\":{\"message\":\"this input is refused\"}}");
	} else {
		(void)df_buf_addz(&b, "{\"data\":[");
		for (size_t i = input ? input->n : 0; i-- > 0; n++) {
			const struct df_json *m = input->child;
			for (size_t k = 0; k < i; k++)
				m = m->next;
			bool is_wide = df_str_ends(m->string, "WIDE");
			(void)df_buf_addf(&b, "%s{\"index\":%zu,\"embedding\":[%.*s", n ? "," : "", i,
					  (int)strspn(m->string.p, "0123456789"), m->string.p);
			for (uint64_t k = 1; k < (is_wide ? dim + 1 : dim); k++)
				(void)df_buf_addz(&b, ",0.0");
			(void)df_buf_addz(&b, "]}");
		}
		(void)df_buf_addz(&b, "],\"model\":\"m\",\"usage\":{\"prompt_tokens\":4,\"total_tokens\":4}}");
		(void)conn_answer(c, 200, df_buf_z(&b));
	}
	df_buf_release(&b);
	df_arena_release(&a);
}

static void serve(struct conn *c)
{
	while (conn_read(c)) {
		(void)pthread_mutex_lock(&last_lock);
		(void)snprintf(last_body, sizeof(last_body), "%.*s", (int)c->body.n, c->body.p);
		(void)pthread_mutex_unlock(&last_lock);
		if (memmem(c->head.p, c->head.n, "/embeddings", 11))
			embed(c);
		else
			chat(c);
	}
}

/* ------------------------------------------------------------------ the stage */

static int open_all(void **state)
{
	(void)state;
	struct df_http_config config = {.max_connections = 64};
	assert_non_null(mkdtemp(limits));
	assert_int_equal(setenv("TEST_KEY", "sk-test", 1), 0);
	server_open(&server, serve, NULL);
	assert_int_equal(df_http_open(&config, &http, &fail), DF_OK);
	assert_int_equal(df_models_open(NULL, &models, &fail), DF_OK);
	struct df_caller_config calls = {.http = http, .models = models, .limits_dir = limits};
	assert_int_equal(df_caller_create(&calls, &caller, &fail), DF_OK);
	df_counters_init(&counters);
	return 0;
}

static int close_all(void **state)
{
	char command[64];
	(void)state;
	df_caller_destroy(&caller);
	df_http_close(&http);
	df_models_close(&models);
	server_close(&server);
	df_counters_release(&counters);
	(void)snprintf(command, sizeof(command), "rm -r %s", limits);
	return system(command);
}

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)256 << 20, 0);
	df_counters_reset(&counters);
	atomic_store(&server.n_asked, 0);
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static void fill(const char *const *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char *id = df_arena_alloc(&arena, 32);
		(void)snprintf(id, 32, "d%zu", i);
		docs[i] = (struct df_doc){.id = df_str_from(id), .text = df_str_from(text[i]), .n_row = 1};
		doc_p[i] = &docs[i];
		row_p[i] = df_arena_zalloc(&arena, sizeof(struct df_row));
		*row_p[i] = (struct df_row){.doc = &docs[i], .text = docs[i].text};
	}
	batch = (struct df_batch){
		.arena = &arena, .doc = doc_p, .n_doc = n, .row = row_p, .n_row = n, .counters = &counters};
}

static enum df_err run_in(int stream_fd, const char *fmt, ...) DF_PRINTF(2, 3);
static enum df_err open_stage_as(struct df_stage *s, struct df_stage_env *env, const char *stage, const char *more)
{
	struct df_pipeline *p = df_arena_alloc(&arena, sizeof(*p));
	const struct df_stage_class **class;
	void **options;
	char text[4400];
	(void)snprintf(text, sizeof(text), "%s %s", stage, more);
	DF_TRY(df_pipeline_parse(df_str_from(text), &arena, p, &fail));
	DF_TRY(df_stage_check_pipeline(p, &arena, &class, &options, &fail));
	*s = (struct df_stage){.class = class[0], .call_name = class[0] -> name, .options = options[0]};
	*env = (struct df_stage_env){.pipeline = p, .arena = &arena, .caller = caller, .stream_fd = env->stream_fd};
	return s->class->open(s, env, &fail);
}

static enum df_err open_stage(struct df_stage *s, struct df_stage_env *env, const char *stage)
{
	char more[128];
	(void)snprintf(more, sizeof(more), "base_url=http://127.0.0.1:%d/v1 key_env=TEST_KEY", server.port);
	return open_stage_as(s, env, stage, more);
}

static enum df_err run_in(int stream_fd, const char *fmt, ...)
{
	struct df_stage s = {0};
	struct df_stage_env env = {.stream_fd = stream_fd};
	char stage[4096];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(stage, sizeof(stage), fmt, ap);
	va_end(ap);
	enum df_err err = open_stage(&s, &env, stage);
	if (err == DF_OK)
		err = s.class->process(&s, &batch, &fail);
	if (s.class)
		s.class->close(&s);
	return err;
}

#define SCHEMA "schema='{\"type\":\"object\",\"required\":[\"n\"],\"properties\":{\"n\":{\"type\":\"integer\"}}}'"

static void assert_field(size_t row, const char *key, const char *want)
{
	struct df_str raw = df_row_get(row_p[row], df_str_from(key));
	if (docs[row].fate != DF_FATE_OUT)
		fail_msg("document %zu: %s", row, docs[row].message);
	assert_string_equal(raw.p ? df_arena_copy(&arena, raw).p : "(none)", want);
}

static void assert_rejected(size_t row, enum df_err err, const char *words)
{
	assert_int_equal(docs[row].fate, DF_FATE_REJECTED);
	assert_int_equal(docs[row].err, err);
	if (!strstr(docs[row].message, words))
		fail_msg("said '%s' and not '%s'", docs[row].message, words);
}

static uint64_t counted(const char *name)
{
	const uint64_t *v = df_map_get(&counters.map, df_str_from(name));
	return v ? *v : 0;
}

static void test_llm__an_answer_becomes_a_field(void **state)
{
	(void)state;
	static const char *const text[] = {"one", "two"};
	fill(text, 2);
	assert_int_equal(run_in(-1,
				"llm model=openai/m prompt='Sum: {{text}}' system='Be short, {{id}}' temperature=0.5 "
				"max_tokens=9 seed=3"),
			 DF_OK);
	assert_field(0, "answer", "\"{\\\"n\\\": 3}\"");
	assert_field(1, "answer", "\"{\\\"n\\\": 3}\"");
	assert_int_equal(counted("calls"), 2);
	assert_int_equal(counted("tokens_in"), 20);
	assert_int_equal(counted("tokens_out"), 6);
	assert_non_null(strstr(last_body, "Be short, d"));
	assert_non_null(strstr(last_body, "\"temperature\":0.5"));
	assert_non_null(strstr(last_body, "Sum: "));
}

static void test_llm__an_invalid_answer_goes_back_with_the_checkers_words(void **state)
{
	(void)state;
	static const char *const text[] = {"CASE:repair"};
	fill(text, 1);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{text}}' output=data " SCHEMA), DF_OK);
	assert_field(0, "data", "{\"n\":7}");
	assert_int_equal(atomic_load(&server.n_asked), 2);
	assert_int_equal(counted("repaired"), 1);
	assert_non_null(strstr(last_body, "/n: 'seven' is not of type integer"));
	assert_non_null(strstr(last_body, "assistant"));
}

static void test_llm__what_never_fits_never_reaches_an_output(void **state)
{
	(void)state;
	static const char *const text[] = {"CASE:never",  "fine",     "CASE:length",
					   "CASE:filter", "CASE:400", "CASE:words"};
	fill(text, 6);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{text}}' repair=2 " SCHEMA), DF_OK);
	assert_rejected(0, DF_ERR_TYPE, "not valid against the schema: /n: 'never' is not of type integer");
	assert_field(1, "answer", "{\"n\":3}");
	assert_rejected(2, DF_ERR_LIMIT, "cut off at max_tokens");
	assert_rejected(3, DF_ERR_UNSUPPORTED, "content filter");
	assert_int_equal(docs[4].fate, DF_FATE_REJECTED);
	assert_non_null(strstr(docs[4].message, "no such thing"));
	assert_field(5, "answer", "{\"n\":5,\"t\":\"a \\\" b\"}");
	for (size_t i = 0; i < 6; i++)
		assert_true(docs[i].fate == DF_FATE_OUT || !df_row_get(row_p[i], DF_STR("answer")).p);
	assert_int_equal(atomic_load(&server.n_asked), 3 + 1 + 1 + 1 + 1 + 2);
}

static void test_llm__repair_0_asks_once(void **state)
{
	(void)state;
	static const char *const text[] = {"CASE:repair"};
	fill(text, 1);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{text}}' repair=0 " SCHEMA), DF_OK);
	assert_rejected(0, DF_ERR_TYPE, "not of type integer");
	assert_int_equal(atomic_load(&server.n_asked), 1);
}

static void test_llm__truncated_keep_keeps_what_there_is(void **state)
{
	(void)state;
	static const char *const text[] = {"CASE:length"};
	fill(text, 1);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{text}}' truncated=keep"), DF_OK);
	assert_field(0, "answer", "\"{\\\"n\\\": 1\"");
	assert_int_equal(counted("truncated"), 1);
}

static void test_llm__a_missing_field_rejects_its_document_unasked(void **state)
{
	(void)state;
	static const char *const text[] = {"x"};
	fill(text, 1);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{title}}'"), DF_OK);
	assert_rejected(0, DF_ERR_NOT_FOUND, "field 'title' is missing");
	assert_int_equal(atomic_load(&server.n_asked), 0);
}

static void test_llm__a_bad_key_and_an_empty_purse_end_the_run(void **state)
{
	(void)state;
	static const char *const key[] = {"CASE:401"}, *const quota[] = {"CASE:quota"};
	fill(key, 1);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{text}}'"), DF_ERR_USAGE);
	assert_null(strstr(fail.msg, "sk-test"));
	fill(quota, 1);
	assert_int_equal(run_in(-1, "llm model=openai/q prompt='{{text}}'"), DF_ERR_QUOTA);
}

static void test_llm__all_rows_of_a_batch_are_out_at_once(void **state)
{
	(void)state;
	static const char *text[DOCS];
	for (size_t i = 0; i < DOCS; i++)
		text[i] = i % 3 ? "fine" : "CASE:repair";
	fill(text, DOCS);
	assert_int_equal(run_in(-1, "llm model=openai/m prompt='{{id}} {{text}}' cache=no " SCHEMA), DF_OK);
	for (size_t i = 0; i < DOCS; i++)
		assert_field(i, "answer", i % 3 ? "{\"n\":3}" : "{\"n\":7}");
	assert_int_equal(counted("repaired"), DOCS / 3);
}

static void test_llm__the_schema_is_told_in_words_where_there_is_no_mode(void **state)
{
	(void)state;
	static const char *const text[] = {"x"};
	fill(text, 1);
	assert_int_equal(run_in(-1, "llm model=mistral/m prompt='{{text}}' system='You count.' " SCHEMA), DF_OK);
	assert_field(0, "answer", "{\"n\":3}");
	assert_null(strstr(last_body, "Answer with one JSON value"));
	fill(text, 1);
	assert_int_equal(
		run_in(-1, "llm model=mistral/m prompt='{{text}}' repair=0 schema='{\"type\":[\"array\",\"object\"]}'"),
		DF_OK);
	assert_non_null(strstr(last_body, "Answer with one JSON value"));
	assert_null(strstr(last_body, "json_schema"));
}

static void test_llm__with_a_schema_nothing_is_shown_before_it_is_checked(void **state)
{
	(void)state;
	static const char *const text[] = {"CASE:repair"};
	int pipe_fd[2];
	char got[256];
	assert_int_equal(pipe(pipe_fd), 0);
	fill(text, 1);
	assert_int_equal(run_in(pipe_fd[1], "llm model=openai/m prompt='{{text}}' " SCHEMA), DF_OK);
	(void)close(pipe_fd[1]);
	ssize_t n = read(pipe_fd[0], got, sizeof(got));
	(void)close(pipe_fd[0]);
	assert_int_equal(n, 8);
	assert_memory_equal(got, "{\"n\":7}\n", 8);
}

static void test_llm__wrong_options_are_refused_before_anything_is_asked(void **state)
{
	(void)state;
	static const struct {
		const char *stage, *words;
	} wrong[] = {
		{"llm prompt=x", "needs the option 'model"},
		{"llm model=openai/m", "needs the option 'prompt"},
		{"llm model=nobody-knows prompt=x", "nobody-knows"},
		{"llm model=openai/m prompt='{{text'", "without its '}}'"},
		{"llm model=openai/m prompt=x schema='{\"type\":\"strin\"}'", "at '/type'"},
		{"llm model=openai/m prompt=x temperature=-0.5", "not negative"},
		{"llm model=openai/m prompt=x fallback=nobody", "nobody"},
		{"embed dimensions=5", "dimensions"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		static const char *const text[] = {"x"};
		fill(text, 1);
		assert_int_not_equal(run_in(-1, "%s", wrong[i].stage), DF_OK);
		if (!strstr(fail.msg, wrong[i].words))
			fail_msg("'%s': said '%s'", wrong[i].stage, fail.msg);
	}
	struct df_stage s = {0};
	struct df_stage_env env = {.stream_fd = -1};
	assert_int_not_equal(open_stage_as(&s, &env, "llm model=openai/m prompt=x", "key_env=sk-planted"), DF_OK);
	assert_non_null(strstr(fail.msg, "not a key"));
}

static void test_embed__vectors_belong_to_their_texts(void **state)
{
	(void)state;
	static char numbers[DOCS][16];
	static const char *text[DOCS];
	for (int i = 0; i < DOCS; i++) {
		(void)snprintf(numbers[i], sizeof(numbers[i]), "%d", i + 1);
		text[i] = numbers[i];
	}
	fill(text, DOCS);
	assert_int_equal(run_in(-1, "embed model=openai/e normalize=false"), DF_OK);
	for (int i = 0; i < DOCS; i++) {
		assert_int_equal(row_p[i]->dim, 3);
		assert_true(row_p[i]->vector[0] == (float)(i + 1));
	}
	assert_int_equal(atomic_load(&server.n_asked), 1);
	fill(text, 2);
	assert_int_equal(run_in(-1, "embed model=openai/e dimensions=5"), DF_OK);
	assert_int_equal(row_p[1]->dim, 5);
	assert_true(row_p[1]->vector[0] == 1.0F);
}

static void test_embed__one_refused_text_rejects_its_document_alone(void **state)
{
	(void)state;
	static const char *const text[] = {"1", "2", "", "REFUSED", "5", "6"};
	fill(text, 6);
	assert_int_equal(run_in(-1, "embed model=openai/e"), DF_OK);
	assert_rejected(2, DF_ERR_RANGE, "empty");
	assert_int_equal(docs[3].fate, DF_FATE_REJECTED);
	assert_non_null(strstr(docs[3].message, "this input is refused"));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(row_p[i]->vector != NULL, i != 2 && i != 3);
}

static void test_embed__vectors_of_two_lengths_are_refused(void **state)
{
	(void)state;
	static const char *const narrow[] = {"1", "2"}, *const wide[] = {"3 WIDE"};
	struct df_stage s = {0};
	struct df_stage_env env = {.stream_fd = -1};
	assert_int_equal(open_stage(&s, &env, "embed model=openai/e"), DF_OK);
	fill(narrow, 2);
	assert_int_equal(s.class->process(&s, &batch, &fail), DF_OK);
	fill(wide, 1);
	assert_int_equal(s.class->process(&s, &batch, &fail), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "vectors of 4 numbers, where 3 are expected"));
	s.class->close(&s);
}

static void test_request__a_records_json_is_sent_as_it_is(void **state)
{
	(void)state;
	static const char *const text[] = {"", "", ""};
	struct df_field body[] = {{DF_STR("model"), DF_STR("\"m\"")},
				  {DF_STR("metadata"), DF_STR("{\"row\": 1}")},
				  {DF_STR("messages"), DF_STR("[{\"role\": \"user\", \"content\": \"hi\"}]")}};
	struct df_field streams[] = {{DF_STR("stream"), DF_STR("true")}};
	char url[128];
	fill(text, 3);
	docs[0].field = body;
	docs[0].n_field = 3;
	docs[0].text_field = docs[1].text_field = docs[2].text_field = SIZE_MAX;
	docs[1].field = streams;
	docs[1].n_field = 1;
	(void)snprintf(url, sizeof(url), "request url=http://127.0.0.1:%d/v1/chat/completions", server.port);
	struct df_stage s = {0};
	struct df_stage_env env = {.stream_fd = -1};
	assert_int_equal(open_stage_as(&s, &env, url, "key_env=TEST_KEY"), DF_OK);
	assert_int_equal(s.class->process(&s, &batch, &fail), DF_OK);
	s.class->close(&s);
	assert_string_equal(last_body, "{\"model\":\"m\",\"messages\":[{\"role\": \"user\", \"content\": \"hi\"}]}");
	struct df_str raw = df_row_get(row_p[0], DF_STR("response"));
	assert_non_null(strstr(df_arena_copy(&arena, raw).p, "\"choices\":[{"));
	assert_int_equal(counted("tokens_in"), 10);
	assert_rejected(1, DF_ERR_TYPE, "stream");
	assert_rejected(2, DF_ERR_TYPE, "not the JSON body");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_llm__an_answer_becomes_a_field, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__an_invalid_answer_goes_back_with_the_checkers_words, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_llm__what_never_fits_never_reaches_an_output, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__repair_0_asks_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__truncated_keep_keeps_what_there_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__a_missing_field_rejects_its_document_unasked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_llm__a_bad_key_and_an_empty_purse_end_the_run, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__all_rows_of_a_batch_are_out_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_llm__the_schema_is_told_in_words_where_there_is_no_mode, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_llm__with_a_schema_nothing_is_shown_before_it_is_checked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_llm__wrong_options_are_refused_before_anything_is_asked, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_embed__vectors_belong_to_their_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_embed__one_refused_text_rejects_its_document_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_request__a_records_json_is_sent_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(test_embed__vectors_of_two_lengths_are_refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, open_all, close_all);
}
