// SPDX-License-Identifier: Apache-2.0
/* test_provider_requests: what is sent, byte for byte, against tests/data/provider/requests.txt. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/help_provider.h"
#include "worker/provider/wire/wire.h"

static struct df_arena arena;
static struct df_fail fail;
static char golden[1 << 16];

#define SCHEMA                                                                                                         \
	"{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"}},\"required\":[\"name\"],"                \
	"\"additionalProperties\":false}"

static int setup(void **state)
{
	char path[512];
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	fail.msg[0] = '\0';
	const char *root = getenv("DF_SOURCE_DIR");
	(void)snprintf(path, sizeof(path), "%s/tests/data/provider/requests.txt", root ? root : ".");
	FILE *f = fopen(path, "rb");
	if (!f)
		return -1;
	golden[fread(golden, 1, sizeof(golden) - 1, f)] = '\0';
	return fclose(f);
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static void full(struct df_ask *ask)
{
	ask->temperature = 0.1;
	ask->top_p = 0.9;
	ask->max_tokens = 800;
	ask->seed = 7;
	ask->schema = DF_STR(" " SCHEMA "\n");
	ask->schema_name = DF_STR("person");
	ask->stream = true;
}

static const struct {
	const char *name, *model;
} cases[] = {{"openai plain", "gpt-4o-mini"},
	     {"openai full", "gpt-4o-mini"},
	     {"openai reasoning", "gpt-5-mini"},
	     {"openai embed", "text-embedding-3-small"},
	     {"responses full", "gpt-5-pro"},
	     {"anthropic plain", "claude-sonnet-4-5"},
	     {"anthropic full", "claude-sonnet-4-5"},
	     {"anthropic tool", "claude-3-haiku-20240307"},
	     {"anthropic newest", "claude-opus-4-7"},
	     {"gemini full", "gemini-2.5-flash"},
	     {"gemini old", "gemini-2.0-flash"},
	     {"gemini embed", "gemini-embedding-001"},
	     {"cohere full", "command-a-03-2025"},
	     {"cohere embed", "embed-v4.0"},
	     {"voyage query", "voyage-3.5"},
	     {"mistral full", "mistral-small-latest"},
	     {"mistral embed", "mistral-embed"},
	     {"ollama full", "llama3.2:3b"},
	     {"ollama embed", "nomic-embed-text"},
	     {"tei embed", "any"},
	     {"vllm plain", "org/model"}};

static void write_parts(const char *name, const struct df_http_parts *parts, struct df_buf *b)
{
	(void)df_buf_addf(b, "== %s\n%s %s\n", name, parts->method, parts->url);
	for (size_t i = 0; i < parts->n_header; i++)
		(void)df_buf_addf(b, "%s: " DF_STR_FMT "%s\n", parts->header[i].name,
				  DF_STR_ARG(parts->header[i].value), parts->header[i].secret ? " (s)" : "");
	(void)df_buf_add_str(b, parts->body);
	(void)df_buf_addc(b, '\n');
}

static void test_requests__are_those_that_the_documentation_shows(void **state)
{
	const struct df_endpoint to = {.key = DF_STR("KEY")};
	size_t n = 0;
	(void)state;
	for (const char *p = golden; (p = strstr(p, "\n== ")) != NULL; p++)
		n++;
	assert_int_equal(n, sizeof(cases) / sizeof(cases[0]));
	for (size_t i = 0; i < n; i++) {
		char provider[16];
		const char *kind = strchr(cases[i].name, ' ') + 1;
		struct df_http_parts parts;
		struct df_buf b;
		bool embed = !strcmp(kind, "embed") || !strcmp(kind, "query");
		struct df_ask ask = embed ? help_embed(cases[i].model, 2) : help_chat(cases[i].model);
		ask.dimensions = 256;
		ask.query = !strcmp(kind, "query");
		if (!embed && strcmp(kind, "plain") != 0)
			full(&ask);
		(void)snprintf(provider, sizeof(provider), "%.*s", (int)(kind - 1 - cases[i].name), cases[i].name);
		assert_int_equal(help_provider(provider)->build(&ask, &to, &arena, &parts, &fail), DF_OK);
		df_buf_init(&b, 1 << 20);
		write_parts(cases[i].name, &parts, &b);
		if (!strstr(golden, df_buf_z(&b)))
			fail_msg("not in requests.txt:\n%s", df_buf_z(&b));
		df_buf_release(&b);
	}
}

static const char *body_of(const char *provider, const struct df_ask *ask, const char *base_url)
{
	const struct df_endpoint to = {.base_url = df_str_from(base_url)};
	static struct df_http_parts parts;
	if (help_provider(provider)->build(ask, &to, &arena, &parts, &fail) != DF_OK)
		fail_msg("%s: %s", provider, fail.msg);
	return parts.body.p;
}

#define CLOSED(p, names)                                                                                               \
	"{\"type\":\"object\",\"properties\":{" p "},\"required\":[" names "],\"additionalProperties\":false}"

static void test_schema__only_what_strict_modes_take_is_strict(void **state)
{
	static const struct {
		const char *schema, *says; /* says NULL: it is not sent at all */
	} row[] = {
		{SCHEMA, "true"},
		{CLOSED("\"a\":{\"type\":\"number\",\"minimum\":0}", "\"a\""), "true"},
		{CLOSED("\"a\":{\"type\":\"string\",\"format\":\"date\"}", "\"a\""), "true"},
		{CLOSED("\"a\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}", "\"a\""), "true"},
		{CLOSED("\"a\":{\"type\":\"string\"}", ""), "false"},
		{"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]}", "false"},
		{CLOSED("\"l\":{\"type\":\"array\",\"items\":{\"type\":\"object\"}}", "\"l\""), "false"},
		/* each of these refuses the whole request when it is strict */
		{CLOSED("\"a\":{\"type\":\"string\",\"minLength\":1}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"type\":\"string\",\"default\":\"x\"}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"type\":\"string\",\"format\":\"uri\"}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"type\":\"string\"}}", "\"a\""),
		 "false"},
		{CLOSED("\"a\":{\"$ref\":\"#/$defs/x\",\"description\":\"y\"}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"description\":\"anything\"}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"type\":\"array\"}", "\"a\""), "false"},
		{CLOSED("\"a\":{\"type\":\"string\",\"my-own\":1}", "\"a\""), "false"},
		/* and these always */
		{"{\"type\":\"string\"}", NULL},
		{"{\"type\":\"array\",\"items\":{\"type\":\"string\"}}", NULL},
		{"{}", NULL},
		{"{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":" CLOSED("\"a\":{\"type\":\"string\"}", "\"a\"") "}}", NULL},
		{"{\"type\":\"object\",\"anyOf\":[{\"required\":[\"a\"]}]}", NULL}};
	static const char *const provider[] = {"openai", "responses", "mistral"};
	(void)state;
	for (size_t i = 0; i < 3 * sizeof(row) / sizeof(row[0]); i++) {
		struct df_ask ask = help_chat("gpt-4o");
		ask.schema = df_str_from(row[i / 3].schema);
		const char *body = body_of(provider[i % 3], &ask, NULL);
		assert_int_equal(df_provider_holds(help_provider(provider[i % 3]), &ask, &arena),
				 row[i / 3].says != NULL);
		if (!row[i / 3].says) {
			assert_null(strstr(body, "json_schema"));
			continue;
		}
		if (!strstr(body, row[i / 3].says[0] == 't' ? "\"strict\":true" : "\"strict\":false"))
			fail_msg("%s: strict is not %s: %s", provider[i % 3], row[i / 3].says, row[i / 3].schema);
		assert_non_null(strstr(body, row[i / 3].schema));
	}
}

static void test_schema__goes_to_each_provider_in_the_form_it_takes(void **state)
{
	static const char list[] = "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}";
	static const char either[] = CLOSED("\"a\":{\"type\":[\"string\",\"null\"]}", "\"a\"");
	static const char recursive[] =
		"{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},"
		"{\"type\":\"null\"}]}},\"required\":[\"next\"],\"additionalProperties\":false}";
	static const char umlaut[] = "{\"type\":\"object\",\"properties\":{\"Gr\xc3\xb6\xc3\x9f\x65\":{}}}";
	static const struct {
		const char *provider, *model, *schema, *has, *lacks;
		bool holds;
	} row[] = {{"anthropic", "claude-opus-4-6", SCHEMA, "\"output_config\"", "\"tools\"", true},
		   {"anthropic", "claude-opus-4-6", recursive, "\"tools\"", "\"output_config\"", true},
		   {"anthropic", "claude-opus-4-6", list, "\"max_tokens\"", "\"tool", false},
		   {"anthropic", "claude-opus-4-6", umlaut, "\"max_tokens\"", "\"tool", false},
		   {"cohere", "command-a-03-2025", SCHEMA, "\"json_schema\"", "\"strict\"", true},
		   {"cohere", "command-a-03-2025", either, "{\"type\":\"json_object\"}", "json_schema", false},
		   {"cohere", "command-a-03-2025", list, "\"stream\"", "response_format", false},
		   {"gemini", "gemini-2.5-flash", either, "\"responseJsonSchema\"", "responseSchema", true},
		   {"gemini", "gemini-2.0-flash", SCHEMA, "\"application/json\"", "Schema\"", false},
		   {"ollama", "llama3.2", list, "\"format\":{\"type\":\"array\"", "strict", true},
		   {"vllm", "m", list, "\"json_schema\":{", "\"strict\":true", true}};
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct df_ask ask = help_chat(row[i].model);
		ask.schema = df_str_from(row[i].schema);
		const char *body = body_of(row[i].provider, &ask, NULL);
		if (!strstr(body, row[i].has) || strstr(body, row[i].lacks))
			fail_msg("%s, %s: %s", row[i].provider, row[i].schema, body);
		assert_int_equal(df_provider_holds(help_provider(row[i].provider), &ask, &arena), row[i].holds);
	}
}

static void test_schema__anthropic_forces_a_tool_where_its_own_mode_would_refuse(void **state)
{
	struct df_ask ask = help_chat("claude-opus-4-6");
	(void)state;
	ask.schema = DF_STR("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\",\"minimum\":0}},"
			    "\"required\":[\"a\"],\"additionalProperties\":false}");
	assert_non_null(
		strstr(body_of("anthropic", &ask, NULL), "\"tool_choice\":{\"type\":\"tool\",\"name\":\"answer\"}"));
	ask.schema = DF_STR(SCHEMA);
	assert_non_null(strstr(body_of("anthropic", &ask, NULL), "\"output_config\""));
	ask.model = DF_STR("claude-opus-4-1-20250805");
	assert_non_null(strstr(body_of("anthropic", &ask, NULL), "\"tools\""));
}

static void test_ollama__asks_for_a_context_that_holds_the_prompt(void **state)
{
	struct df_ask ask = help_chat("llama3.2");
	(void)state;
	ask.tokens_in = 20000;
	ask.max_tokens = 1000;
	assert_non_null(strstr(body_of("ollama", &ask, "gpu1:9999"), "\"num_ctx\":32768"));
	ask.tokens_in = 100;
	assert_null(strstr(body_of("ollama", &ask, "gpu1"), "num_ctx"));
}

static const char *refusal(const char *provider, const struct df_ask *ask, const struct df_endpoint *to,
			   enum df_err expected)
{
	struct df_http_parts parts;
	fail.msg[0] = '\0';
	assert_int_equal(help_provider(provider)->build(ask, to, &arena, &parts, &fail), expected);
	return fail.msg;
}

static void test_build__refuses_what_can_only_be_a_mistake(void **state)
{
	struct df_ask chat = help_chat("m"), embed = help_embed("m", 1);
	const struct df_endpoint plain = {.key = DF_STR("KEY")};
	const struct df_endpoint host = {.base_url = DF_STR("api.example.com/v1")};
	const struct df_endpoint line = {.key = DF_STR("abc\r\nX-Evil: 1")};
	(void)state;
	assert_non_null(strstr(refusal("openai", &chat, &host, DF_ERR_USAGE), "'api.example.com/v1'"));
	assert_non_null(strstr(refusal("openai", &chat, &line, DF_ERR_USAGE), "the key"));
	assert_null(strstr(fail.msg, "Evil"));
	assert_non_null(strstr(refusal("anthropic", &embed, &plain, DF_ERR_USAGE), "no embeddings"));
	assert_non_null(strstr(refusal("voyage", &chat, &plain, DF_ERR_USAGE), "embeddings only"));
	assert_non_null(strstr(refusal("tei", &chat, &plain, DF_ERR_USAGE), "embeddings only"));
	assert_non_null(strstr(refusal("responses", &embed, &plain, DF_ERR_USAGE), "openai/"));
	chat.schema = DF_STR("{\"type\":");
	assert_non_null(strstr(refusal("openai", &chat, &plain, DF_ERR_USAGE), "the schema is not JSON"));
	chat.schema = DF_STR("[]");
	assert_non_null(strstr(refusal("mistral", &chat, &plain, DF_ERR_USAGE), "not a JSON object"));
	chat.schema = (struct df_str){NULL, 0};
	chat.temperature = 1.5;
	assert_non_null(strstr(refusal("anthropic", &chat, &plain, DF_ERR_USAGE), "0 to 1"));
	chat.model = DF_STR("../../x");
	assert_non_null(strstr(refusal("gemini", &chat, &plain, DF_ERR_USAGE), "'../../x'"));
}

static void test_build__the_key_is_in_one_secret_header_and_nowhere_else(void **state)
{
	const struct df_endpoint to = {.key = DF_STR("sk-planted-0123456789")};
	(void)state;
	for (size_t i = 0; df_provider_registry[i]; i++) {
		const struct df_provider *p = df_provider_registry[i];
		for (int embed = 0; embed < 2; embed++) {
			struct df_ask ask = embed ? help_embed("m", 1) : help_chat("m");
			struct df_http_parts parts;
			size_t n = 0;
			if (!p->build || p->build(&ask, &to, &arena, &parts, NULL) != DF_OK)
				continue;
			assert_null(strstr(parts.url, "planted"));
			assert_null(memmem(parts.body.p, parts.body.n, "planted", 7));
			for (size_t k = 0; k < parts.n_header; k++)
				if (strstr(parts.header[k].value.p, "planted")) {
					assert_true(parts.header[k].secret);
					n++;
				}
			assert_int_equal(n, 1);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_requests__are_those_that_the_documentation_shows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__only_what_strict_modes_take_is_strict, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__goes_to_each_provider_in_the_form_it_takes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__anthropic_forces_a_tool_where_its_own_mode_would_refuse,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_ollama__asks_for_a_context_that_holds_the_prompt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build__refuses_what_can_only_be_a_mistake, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build__the_key_is_in_one_secret_header_and_nowhere_else, setup,
						teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
