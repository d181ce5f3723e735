// SPDX-License-Identifier: Apache-2.0
/* test_models_table: which provider a model's id means, the table of models with a user's rows over it, and what asks cost. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/help_provider.h"

static struct df_models *models;
static struct df_fail fail;
static char path[64];

static int setup(void **state)
{
	(void)state;
	fail.msg[0] = '\0';
	models = NULL;
	(void)snprintf(path, sizeof(path), "/tmp/docflume-models-table-XXXXXX");
	int fd = mkstemp(path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	df_models_close(&models);
	return unlink(path);
}

static enum df_err open_with(const char *yaml)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_true(fputs(yaml, f) >= 0);
	assert_int_equal(fclose(f), 0);
	df_models_close(&models);
	return df_models_open(path, &models, &fail);
}

/* ------------------------------------------------------------------ ids */

static void test_find__the_provider_that_an_id_means(void **state)
{
	static const struct {
		const char *id, *provider, *model;
	} row[] = {{"gpt-4o-mini", "openai", "gpt-4o-mini"},
		   {"gpt-5-pro", "responses", "gpt-5-pro"},
		   {"gpt-5.1-codex-mini", "responses", "gpt-5.1-codex-mini"},
		   {"gpt-5-mini", "openai", "gpt-5-mini"},
		   {"o3", "openai", "o3"},
		   {"o3-mini", "openai", "o3-mini"},
		   {"o3-pro-2025-06-10", "responses", "o3-pro-2025-06-10"},
		   {"text-embedding-3-small", "openai", "text-embedding-3-small"},
		   {"ft:gpt-4o-mini-2024-07-18:me::1", "openai", "ft:gpt-4o-mini-2024-07-18:me::1"},
		   {"claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"},
		   {"gemini-2.5-pro", "gemini", "gemini-2.5-pro"},
		   {"command-a-03-2025", "cohere", "command-a-03-2025"},
		   {"embed-v4.0", "cohere", "embed-v4.0"},
		   {"voyage-3.5", "voyage", "voyage-3.5"},
		   {"mistral-small-latest", "mistral", "mistral-small-latest"},
		   {"openai/any", "openai", "any"},
		   {"openai/org/model", "openai", "org/model"},
		   {"responses/gpt-4o", "responses", "gpt-4o"},
		   {"vllm/meta-llama/Llama-3.1-8B", "vllm", "meta-llama/Llama-3.1-8B"},
		   {"ollama/llama3.2:3b", "ollama", "llama3.2:3b"},
		   {"fake/any?429=0.1&delay=20ms", "fake", "any?429=0.1&delay=20ms"},
		   {"recorded/dir/tape.jsonl", "recorded", "dir/tape.jsonl"}};
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		const struct df_provider *p = NULL;
		struct df_str model = {NULL, 0};
		assert_int_equal(df_provider_find(df_str_from(row[i].id), &p, &model, &fail), DF_OK);
		assert_string_equal(p->name, row[i].provider);
		assert_true(df_str_is(model, row[i].model));
	}
}

static void test_find__an_unknown_id_names_the_nearest_and_the_providers(void **state)
{
	const struct df_provider *p = NULL;
	struct df_str model;
	(void)state;
	assert_int_equal(df_provider_find(DF_STR("calude-sonnet-4-5"), &p, &model, &fail), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "'calude-sonnet-4-5'; near it: claude-sonnet-4-5"));
	for (size_t i = 0; df_provider_registry[i]; i++)
		assert_non_null(strstr(fail.msg, df_provider_registry[i]->name));
	assert_int_equal(df_provider_find(DF_STR("zzz"), &p, &model, &fail), DF_ERR_NOT_FOUND);
	assert_null(strstr(fail.msg, "near it"));
	assert_int_equal(df_provider_find(DF_STR("meta-llama/Llama-3"), &p, &model, &fail), DF_ERR_NOT_FOUND);
	assert_int_equal(df_provider_find(DF_STR("openai/"), &p, &model, &fail), DF_ERR_USAGE);
	assert_int_equal(df_provider_find(DF_STR(""), &p, &model, &fail), DF_ERR_NOT_FOUND);
}

static void test_registry__is_whole(void **state)
{
	(void)state;
	for (size_t i = 0; df_provider_registry[i]; i++) {
		const struct df_provider *p = df_provider_registry[i];
		assert_true(p->name[0] && p->summary[0] && p->pattern && p->base_url);
		assert_true(p->answer ? p->open && p->close : p->build && p->parse && p->event && p->limits);
		assert_ptr_equal(help_provider(p->name), p); /* no name twice */
	}
	assert_true(df_provider_needs_key(help_provider("openai"), DF_STR("")));
	assert_true(df_provider_needs_key(help_provider("openai"), DF_STR("https://api.openai.com/v1")));
	assert_false(df_provider_needs_key(help_provider("openai"), DF_STR("http://localhost:8000/v1")));
	assert_false(df_provider_needs_key(help_provider("ollama"), DF_STR("")));
	assert_false(df_provider_needs_key(help_provider("fake"), DF_STR("")));
}

/* ------------------------------------------------------------------ the table */

static void test_table__rows_belong_to_providers_and_have_sane_prices(void **state)
{
	size_t n = 0;
	(void)state;
	assert_int_equal(open_with(""), DF_OK);
	const struct df_model_info *m = df_models_all(models, &n);
	assert_true(n >= 60);
	for (size_t i = 0; i < n; i++) {
		const struct df_provider *p = NULL;
		struct df_str model;
		assert_int_equal(df_provider_find(m[i].id, &p, &model, &fail), DF_OK);
		assert_true(df_str_is(m[i].provider, p->kin ? p->kin : p->name));
		assert_true(m[i].context > 0 && m[i].price_in > 0 && m[i].price_in <= 150);
		if (m[i].kind == DF_ASK_EMBED)
			assert_true(m[i].dim > 0 && m[i].price_out == 0);
		else
			assert_true(m[i].dim == 0 && m[i].max_output > 0 && m[i].price_out >= m[i].price_in);
		if (!isnan(m[i].price_cached_in))
			assert_true(m[i].price_cached_in < m[i].price_in);
		for (size_t k = 0; k < i; k++)
			assert_false(df_str_eq(m[i].id, m[k].id) && df_str_eq(m[i].provider, m[k].provider));
	}
}

static void test_get__versions_prefixes_and_the_unknown(void **state)
{
	(void)state;
	assert_int_equal(open_with(""), DF_OK);
	struct df_model_info m = df_models_get(models, DF_STR("gpt-4o-2024-08-06"));
	assert_true(df_str_is(m.id, "gpt-4o-2024-08-06") && m.price_in == 2.5 && m.context == 128000);
	assert_true(df_str_is(m.tokenizer, "o200k_base"));
	assert_true(df_models_get(models, DF_STR("gpt-4o-2024-05-13")).price_in == 5); /* has a row of its own */
	assert_true(df_models_get(models, DF_STR("openai/gpt-4o")).price_in == 2.5);
	assert_true(df_models_get(models, DF_STR("responses/gpt-4o")).price_in == 2.5);
	assert_true(df_models_get(models, DF_STR("claude-sonnet-4-5-20250929")).price_out == 15);
	assert_true(df_models_get(models, DF_STR("gemini-2.0-flash-001")).price_out == 0.4);
	assert_true(isnan(df_models_get(models, DF_STR("vllm/gpt-4o")).price_in) == 0); /* runs on one's own machine */
	m = df_models_get(models, DF_STR("gpt-9"));
	assert_true(df_str_is(m.provider, "openai") && isnan(m.price_in) && isnan(m.price_out) && m.context == 0);
	m = df_models_get(models, DF_STR("nobody/knows"));
	assert_true(df_str_is(m.id, "nobody/knows") && m.provider.n == 0 && isnan(m.price_in));
	m = df_models_get(models, DF_STR("ollama/llama3.2"));
	assert_true(m.price_in == 0 && m.price_out == 0 && m.price_cached_in == 0);
}

static void test_yaml__adds_and_overrides(void **state)
{
	const struct df_provider *p = NULL;
	struct df_str model;
	struct df_model_info m;
	size_t n = 0, n_built_in = 0;
	(void)state;
	assert_int_equal(open_with("# nothing\n"), DF_OK);
	(void)df_models_all(models, &n_built_in);
	assert_int_equal(open_with("models:\n"
				   "  - {id: gpt-4o, rpm: 500, tpm: 30000, price_in: 2}\n"
				   "  - id: my-llama\n"
				   "    provider: vllm\n"
				   "    model: meta-llama/Llama-3.1-8B\n"
				   "    base_url: http://gpu1:8000/v1\n"
				   "    key_env: GPU_KEY\n"
				   "    context: 131072\n"
				   "  - {id: 'fake/*', price_in: 1.5, price_out: 6}\n"
				   "  - {id: tei/bge, dim: 1024}\n"),
			 DF_OK);
	(void)df_models_all(models, &n);
	assert_int_equal(n, n_built_in + 3);
	m = df_models_get(models, DF_STR("gpt-4o"));
	assert_true(m.rpm == 500 && m.tpm == 30000 && m.price_in == 2 && m.price_out == 10 && m.context == 128000);
	assert_true(df_models_get(models, DF_STR("openai/gpt-4o")).rpm == 500);
	assert_int_equal(df_models_find(models, DF_STR("my-llama"), &p, &model, &m, &fail), DF_OK);
	assert_string_equal(p->name, "vllm");
	assert_true(df_str_is(model, "meta-llama/Llama-3.1-8B") && df_str_is(m.base_url, "http://gpu1:8000/v1"));
	assert_true(df_str_is(m.key_env, "GPU_KEY") && m.price_out == 0);
	assert_int_equal(df_models_find(models, DF_STR("fake/any?seed=7"), &p, &model, &m, &fail), DF_OK);
	assert_true(df_str_is(model, "any?seed=7") && m.price_out == 6 && df_str_is(m.id, "fake/any?seed=7"));
	m = df_models_get(models, DF_STR("tei/bge"));
	assert_true(m.dim == 1024 && m.kind == DF_ASK_EMBED);
	assert_int_equal(df_models_find(models, DF_STR("my-lama"), &p, &model, &m, &fail), DF_ERR_NOT_FOUND);
}

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-12 * (fabs(a) + fabs(b));
}

static void test_yaml__a_pattern_takes_nothing_away_that_is_known_of_a_model(void **state)
{
	struct df_model_info m;
	struct df_usage cached = {.in = 1000000, .cached_in = 1000000, .known = true};
	(void)state;
	assert_int_equal(open_with("models:\n"
				   "  - {id: 'gpt-4o*', rpm: 500}\n"
				   "  - {id: 'openai/text-embedding-*', provider: openai, rpm: 60, price_in: 9}\n"
				   "  - {id: 'vllm/*', price_in: 3, price_out: 4}\n"),
			 DF_OK);
	m = df_models_get(models, DF_STR("gpt-4o-mini"));
	assert_true(m.rpm == 500 && m.price_in == 0.15 && m.price_cached_in == 0.075 && m.price_out == 0.6);
	assert_true(m.context == 128000 && m.max_output == 16384 && df_str_is(m.tokenizer, "o200k_base"));
	m = df_models_get(models, DF_STR("openai/text-embedding-3-small"));
	assert_true(m.rpm == 60 && m.kind == DF_ASK_EMBED && m.dim == 1536 && m.price_in == 9 && m.price_out == 0);
	m = df_models_get(models, DF_STR("vllm/mine")); /* who prices a server of his own prices what is cached too */
	assert_true(near(df_price_of(&m, &cached), 3));
}

static void test_yaml__errors_say_the_line(void **state)
{
	static const struct {
		const char *yaml, *words;
	} row[] = {{"models:\n  - id: gpt-4o\n    contxt: 5\n",
		    ":3:5: unknown key 'contxt' of a model; did you mean 'context'?"},
		   {"models:\n  - id: gpt-4o\n    colour: red\n",
		    ":3:5: unknown key 'colour' of a model; known: id, provider"},
		   {"models:\n  - id: gpt-4o\n    price_in: free\n", ":3:15: 'price_in' is USD"},
		   {"models:\n  - id: gpt-4o\n    price_in: -1\n", ":3:15: 'price_in' is USD"},
		   {"models:\n  - id: gpt-4o\n    rpm: 1.5\n", ":3:10: 'rpm' is a whole number"},
		   {"models:\n  - id: gpt-4o\n    dim: 5000000000\n", ":3:10: 'dim' is a whole number"},
		   {"models:\n  - id: gpt-4o\n    kind: image\n", ":3:11: 'kind' is chat or embed"},
		   {"models:\n  - provider: openai\n", "without an id"},
		   {"models:\n  - id: mine\n    provder: fake\n",
		    ":3:5: unknown key 'provder' of a model; did you mean 'provider'?"},
		   {"models:\n  - id: gpt-4o\n  - {rpm: 5, id: gpt-4o}\n", ":3:18: model 'gpt-4o' is there twice"},
		   {"models:\n  - id: gpt-4o\n    base_url: htp://x\n", ":3:15: 'base_url' is neither"},
		   {"models:\n  - id: gpt-4o\n    base_url: http://u:p@h\n", ":3:15: 'base_url' holds"},
		   {"models:\n  - id: gpt-4o\n    base_url: ''\n", "'base_url' is neither"},
		   {"models:\n  - id: gpt-4o\n    key_env: sk-1\n", ":3:14: 'key_env' is the name of a variable"},
		   {"models:\n  - id: mine\n", "does not tell its provider"},
		   {"models:\n  - {id: mine, provider: nobody}\n", "no provider 'nobody'"},
		   {"models:\n  - gpt-4o\n", "is a mapping"},
		   {"models: 5\n", "'models' is a list"},
		   {"model:\n  - id: x\n", ":1:1: unknown key 'model'"},
		   {"- a\n", "a mapping with 'models' is wanted"},
		   {"models:\n  - {id: gpt-4o\n", ":"},
		   {"models:\n  - id: [a]\n", "must be plain text"},
		   {"models:\n  - &a {id: *a}\n", ":"},
		   {"\xff", "not valid UTF-8 at byte 0"}};
	(void)state;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		fail.msg[0] = '\0';
		if (open_with(row[i].yaml) != DF_ERR_USAGE || !strstr(fail.msg, row[i].words) ||
		    !strstr(fail.msg, path))
			fail_msg("%s\n-> %s", row[i].yaml, fail.msg);
		assert_null(models);
	}
	assert_int_equal(df_models_open("/nonexistent/models.yaml", &models, &fail), DF_ERR_NOT_FOUND);
	assert_int_equal(df_models_open("/tmp", &models, &fail), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "'/tmp' is a directory"));
}

static void test_yaml__the_default_place_is_read_when_it_is_there(void **state)
{
	char home[] = "/tmp/docflume-xdg-XXXXXX", file[128], folder[128], *old = getenv("XDG_CONFIG_HOME");
	char *kept = old ? strdup(old) : NULL;
	(void)state;
	assert_non_null(mkdtemp(home));
	assert_int_equal(setenv("XDG_CONFIG_HOME", home, 1), 0);
	assert_int_equal(df_models_open(NULL, &models, &fail), DF_OK);
	assert_true(df_models_get(models, DF_STR("gpt-4o")).rpm == 0);
	df_models_close(&models);
	(void)snprintf(folder, sizeof(folder), "mkdir %s/docflume", home);
	assert_int_equal(system(folder), 0);
	(void)snprintf(file, sizeof(file), "%s/docflume/models.yaml", home);
	FILE *f = fopen(file, "wb");
	assert_true(f && fputs("models: [{id: gpt-4o, rpm: 7}]\n", f) >= 0 && fclose(f) == 0);
	assert_int_equal(df_models_open(NULL, &models, &fail), DF_OK);
	assert_true(df_models_get(models, DF_STR("gpt-4o")).rpm == 7);
	assert_int_equal(unlink(file), 0);
	(void)snprintf(file, sizeof(file), "%s/docflume", home);
	assert_int_equal(rmdir(file) | rmdir(home), 0);
	assert_int_equal(kept ? setenv("XDG_CONFIG_HOME", kept, 1) : unsetenv("XDG_CONFIG_HOME"), 0);
	free(kept);
}

/* ------------------------------------------------------------------ money */

static void test_price__of_usage_and_of_the_worst_case(void **state)
{
	struct df_usage usage = {.in = 1000000, .cached_in = 400000, .out = 100000, .known = true};
	struct df_ask ask = help_chat("gpt-4o");
	(void)state;
	assert_int_equal(open_with("models: [{id: openai/bounded, price_in: 1, price_out: 2, context: 1000}]"), DF_OK);
	struct df_model_info m = df_models_get(models, DF_STR("gpt-4o")); /* 2.5, 1.25, 10 */
	assert_true(near(df_price_of(&m, &usage), 0.6 * 2.5 + 0.4 * 1.25 + 0.1 * 10));
	ask.tokens_in = 1000;
	ask.tokens_exact = true;
	ask.max_tokens = 500;
	assert_true(near(df_price_worst(&m, &ask), 1000 * 2.5e-6 + 500 * 10e-6));
	ask.max_tokens = 0;
	assert_true(near(df_price_worst(&m, &ask), 1000 * 2.5e-6 + 16384 * 10e-6));
	m = df_models_get(models, DF_STR("claude-haiku-4-5")); /* 4096 is what is sent */
	assert_true(near(df_price_worst(&m, &ask), 1000 * 1e-6 + 4096 * 5e-6));
	m = df_models_get(models, DF_STR("openai/bounded")); /* no answer is longer than the context */
	assert_true(near(df_price_worst(&m, &ask), 1000 * 1e-6 + 1000 * 2e-6));
	m = df_models_get(models, DF_STR("gpt-4-turbo")); /* no price for what is cached: the whole one */
	assert_true(near(df_price_of(&m, &usage), 10 + 3));
	m = df_models_get(models, DF_STR("gemini-2.5-pro")); /* long inputs cost double */
	assert_true(near(df_price_of(&m, &usage), 2 * (0.6 * 1.25 + 0.4 * 0.125) + 1.5 * 1));
	m = df_models_get(models, DF_STR("gpt-9"));
	assert_true(isnan(df_price_of(&m, &usage)) && isnan(df_price_worst(&m, &ask)));
	m = df_models_get(models, DF_STR("ollama/x"));
	assert_true(df_price_of(&m, &usage) == 0 && df_price_worst(&m, &ask) == 0);
	m = df_models_get(models, DF_STR("text-embedding-3-small"));
	ask = help_embed("text-embedding-3-small", 3);
	ask.tokens_in = 1000000;
	ask.tokens_exact = true;
	assert_true(near(df_price_worst(&m, &ask), 0.02));
}

/* "1 2 3" is a token for each byte; tokens_in, estimated by two bytes, would be half of it. */
static void test_price__no_text_is_dearer_than_its_bytes(void **state)
{
	(void)state;
	char text[4000];
	struct df_ask ask = help_chat("gpt-4o");
	struct df_ask_turn turn = {DF_TURN_USER, {text, sizeof(text)}};
	struct df_str input[2] = {{text, sizeof(text)}, {text, 1}};
	assert_int_equal(open_with(""), DF_OK);
	struct df_model_info m = df_models_get(models, DF_STR("gpt-4o"));
	ask.turn = &turn;
	ask.n_turn = 1;
	ask.max_tokens = 1;
	for (int told = 0; told < 2; told++) {
		ask.tokens_in = told ? sizeof(text) / 2 + 1 : 0;
		assert_true(df_price_worst(&m, &ask) >= (double)sizeof(text) * 2.5e-6 + 10e-6);
	}
	ask.schema = DF_STR("{\"type\":\"object\"}");
	assert_true(df_price_worst(&m, &ask) >= (sizeof(text) + 300.0) * 2.5e-6 + 10e-6);
	m = df_models_get(models, DF_STR("text-embedding-3-small"));
	ask = help_embed("text-embedding-3-small", 2);
	ask.input = input;
	ask.n_input = 2;
	ask.tokens_in = 0;
	assert_true(df_price_worst(&m, &ask) >= (sizeof(text) + 1.0) * 0.02e-6);
}

static void test_price__the_worst_is_never_less_than_what_it_was(void **state)
{
	size_t n = 0;
	(void)state;
	assert_int_equal(open_with(""), DF_OK);
	const struct df_model_info *m = df_models_all(models, &n);
	for (size_t i = 0; i < n; i++)
		for (uint64_t in = 1; in < 600000; in *= 7)
			for (uint64_t out = 0; out <= 4096; out += 512) {
				struct df_ask ask = help_chat("m");
				ask.kind = m[i].kind;
				ask.tokens_in = in;
				ask.max_tokens = 4096;
				struct df_usage usage = {
					.in = in, .cached_in = in / 3, .out = m[i].kind == DF_ASK_CHAT ? out : 0};
				assert_true(df_price_of(&m[i], &usage) <= df_price_worst(&m[i], &ask) * (1 + 1e-12));
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find__the_provider_that_an_id_means),
		cmocka_unit_test(test_find__an_unknown_id_names_the_nearest_and_the_providers),
		cmocka_unit_test(test_registry__is_whole),
		cmocka_unit_test_setup_teardown(test_table__rows_belong_to_providers_and_have_sane_prices, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_get__versions_prefixes_and_the_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_yaml__adds_and_overrides, setup, teardown),
		cmocka_unit_test_setup_teardown(test_yaml__a_pattern_takes_nothing_away_that_is_known_of_a_model, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_yaml__errors_say_the_line, setup, teardown),
		cmocka_unit_test_setup_teardown(test_yaml__the_default_place_is_read_when_it_is_there, setup, teardown),
		cmocka_unit_test_setup_teardown(test_price__of_usage_and_of_the_worst_case, setup, teardown),
		cmocka_unit_test_setup_teardown(test_price__no_text_is_dearer_than_its_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_price__the_worst_is_never_less_than_what_it_was, setup, teardown)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
