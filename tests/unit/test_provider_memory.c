// SPDX-License-Identifier: Apache-2.0
/* test_provider_memory: every provider when the n-th allocation fails, for every n: an answer of a failing class or an error, nothing lost, nothing half. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/help_provider.h"
#include "worker/provider/cassette.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAILING 0 /* the sanitizers own malloc */
static long n_left = -1;
#else
#define FAILING 1
static long n_left = -1; /* allocations until one fails; -1: none does */

extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t n);
extern void *__libc_memalign(size_t align, size_t n);
void *malloc(size_t n);
void *calloc(size_t n, size_t size);
void *realloc(void *p, size_t n);
void *aligned_alloc(size_t align, size_t n);

static bool fails(void)
{
	return n_left >= 0 && n_left-- == 0;
}

void *malloc(size_t n)
{
	return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
	return fails() ? NULL : __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
	return fails() ? NULL : __libc_memalign(align, n);
}
#endif

static struct df_arena arena;
static struct df_fail fail;

/* Runs `one` with the n-th allocation failing until it succeeds; small blocks of the arena are allocations too, since each run begins with none. */
static void for_every_n(void (*one)(bool *ret_ok), const char *what)
{
	for (long n = 0; FAILING && n < 2000; n++) {
		bool ok = false;
		df_arena_init(&arena, 16 << 20, 0);
		n_left = n;
		one(&ok);
		bool spent = n_left < 0;
		n_left = -1;
		df_arena_release(&arena);
		if (!spent) { /* nothing failed: it must have gone well */
			if (!ok)
				fail_msg("%s failed by itself: %s", what, fail.msg);
			assert_true(n > 0);
			return;
		}
	}
	if (FAILING)
		fail_msg("%s never succeeded", what);
}

static const struct df_provider *now;
static bool embed;

static struct df_ask ask_of(void)
{
	struct df_ask ask = embed ? help_embed("m", 2) : help_chat("claude-3-haiku");
	if (!embed)
		ask.schema = DF_STR("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}");
	return ask;
}

static void build_one(bool *ret_ok)
{
	const struct df_endpoint to = {.key = DF_STR("KEY")};
	struct df_ask ask = ask_of();
	struct df_http_parts parts;
	enum df_err err = now->build(&ask, &to, &arena, &parts, &fail);
	*ret_ok = err == DF_OK;
	assert_true(err == DF_OK || err == DF_ERR_NOMEM);
	if (err != DF_OK)
		assert_non_null(strstr(fail.msg, "no memory"));
}

static const char *body_of(const char *provider)
{
	static const struct {
		const char *provider, *chat, *embed;
	} row[] = {
		{"openai",
		 "{\"choices\":[{\"message\":{\"content\":[{\"text\":\"H\"},{\"text\":\"i\"}]},\"finish_reason\":"
		 "\"stop\"}]}",
		 "{\"data\":[{\"index\":0,\"embedding\":\"AACAPw==\"},{\"index\":1,\"embedding\":[1]}]}"},
		{"responses",
		 "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":[{\"type\":\"output_text\","
		 "\"text\":\"Hi\"}]}]}",
		 NULL},
		{"anthropic", "{\"content\":[{\"type\":\"tool_use\",\"input\":{}}],\"stop_reason\":\"tool_use\"}",
		 NULL},
		{"gemini", "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hi\"}]},\"finishReason\":\"STOP\"}]}",
		 "{\"embeddings\":[{\"values\":[1,2]},{\"values\":[1,2]}]}"},
		{"cohere", "{\"finish_reason\":\"COMPLETE\",\"message\":{\"content\":[{\"text\":\"Hi\"}]}}",
		 "{\"embeddings\":{\"float\":[[1,2],[1,2]]}}"},
		{"ollama", "{\"message\":{\"content\":\"Hi\"},\"done\":true}", "{\"embeddings\":[[1,2],[1,2]]}"},
		{"tei", NULL, "[[1,2],[1,2]]"}};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
		if (strcmp(row[i].provider, provider) == 0)
			return embed ? row[i].embed : row[i].chat;
	return NULL;
}

static void parse_one(bool *ret_ok)
{
	struct df_ask ask = ask_of();
	struct df_http_response r = help_response(200, NULL, body_of(now->name));
	struct df_answer a;
	now->parse(&ask, &r, &arena, &a);
	*ret_ok = a.class == DF_CALL_OK;
	(void)snprintf(fail.msg, sizeof(fail.msg), "%s", a.message);
	if (a.class != DF_CALL_OK) { /* to be tried again, and never taken for the server's fault */
		assert_int_equal(a.class, DF_CALL_RETRY);
		assert_non_null(strstr(a.message, "no memory"));
	} else if (embed) {
		assert_true(a.n_vector == 2 && a.vector[0] == 1);
	} else {
		assert_true(a.text.p && a.text.n > 0);
	}
}

static void test_providers__every_allocation_may_fail(void **state)
{
	(void)state;
	for (size_t i = 0; df_provider_registry[i]; i++)
		for (int e = 0; e < 2; e++) {
			now = df_provider_registry[i];
			embed = e != 0;
			if (now->build && body_of(now->name)) {
				for_every_n(build_one, now->name);
				for_every_n(parse_one, now->name);
			}
		}
}

static void stream_one(bool *ret_ok)
{
	static const char *const data[] = {
		"{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}",
		"{\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}", "[DONE]"};
	struct df_ask ask = help_chat("m");
	struct df_stream stream = {.failed = false};
	struct df_str text;
	struct df_answer a = {.message = ""};
	for (size_t i = 0; i < 3 && !stream.failed; i++)
		help_provider("openai")->event(&ask, DF_STR(""), df_str_from(data[i]), &stream, &text, &arena, &a);
	df_stream_answer(&ask, &stream, &arena, &a);
	df_stream_release(&stream);
	*ret_ok = a.class == DF_CALL_OK;
	assert_true(a.class == DF_CALL_RETRY || (a.class == DF_CALL_OK && df_str_is(a.text, "Hello")));
}

static void fake_one(bool *ret_ok)
{
	struct df_ask ask = help_chat("any");
	struct df_answer a;
	uint64_t delay;
	uint32_t pieces;
	void *s = NULL;
	if (help_provider("fake")->open(DF_STR("any"), &s, &fail) != DF_OK)
		return;
	help_provider("fake")->answer(s, &ask, &arena, &a, &delay, &pieces);
	help_provider("fake")->close(s);
	*ret_ok = a.class == DF_CALL_OK;
	assert_true(a.class == DF_CALL_RETRY || (a.class == DF_CALL_OK && a.text.n > 0));
}

static char path[] = "/tmp/docflume-tape-XXXXXX";

static void record_one(bool *ret_ok)
{
	const struct df_endpoint to = {.key = DF_STR("KEY")};
	struct df_cassette *c = NULL;
	struct df_ask ask = help_chat("m");
	struct df_http_response r = help_response(
		200, NULL, "{\"choices\":[{\"message\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}");
	struct df_answer a = {.message = ""};
	uint64_t delay;
	uint32_t pieces;
	void *s = NULL;
	if (df_cassette_open(path, &c, &fail) != DF_OK)
		return;
	enum df_err err = df_cassette_put(c, help_provider("openai"), &ask, &to, &r, NULL, &fail);
	df_cassette_close(&c);
	if (err != DF_OK || help_provider("recorded")->open(df_str_from(path), &s, &fail) != DF_OK)
		return;
	help_provider("recorded")->answer(s, &ask, &arena, &a, &delay, &pieces);
	help_provider("recorded")->close(s);
	*ret_ok = a.class == DF_CALL_OK;
	assert_true(a.class == DF_CALL_RETRY || df_str_is(a.text, "Hi"));
}

static void test_streams_and_cassettes__every_allocation_may_fail(void **state)
{
	(void)state;
	for_every_n(stream_one, "a stream");
	for_every_n(fake_one, "the fake provider");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	for_every_n(record_one, "a cassette");
	assert_int_equal(unlink(path), 0);
}

static void models_one(bool *ret_ok)
{
	struct df_models *m = NULL;
	enum df_err err = df_models_open("/dev/null", &m, &fail);
	*ret_ok = err == DF_OK;
	assert_true(err == DF_OK || err == DF_ERR_NOMEM);
	df_models_close(&m);
}

static void test_models__every_allocation_may_fail(void **state)
{
	(void)state;
	for_every_n(models_one, "the table of models");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_providers__every_allocation_may_fail),
					   cmocka_unit_test(test_streams_and_cassettes__every_allocation_may_fail),
					   cmocka_unit_test(test_models__every_allocation_may_fail)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
