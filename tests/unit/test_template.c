// SPDX-License-Identifier: Apache-2.0
/* test_template: prompts with places for fields, presets, and files that options name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/limits.h"
#include "cli/resolve.h"
#include "worker/stages/preset.h"
#include "worker/stages/template.h"

static struct df_arena arena;
static struct df_fail fail;
#define S(lit)                                                                                                         \
	{                                                                                                              \
		lit, sizeof(lit) - 1                                                                                   \
	}
static struct df_field fields[] = {
	{S("title"), S("\"A \\\"B\\\" \\u00e9\"")},
	{S("n"), S("1.50")},
	{S("metadata"), S("{\"x\": \"deep\", \"list\": [10, {\"k\": null}], \"o\": {\"a\": [1, 2]}}")},
	{S("metadata.x"), S("\"whole name\"")},
	{S("tags"), S("[\"one\", \"two\"]")},
	{S("hole"), S("\"{{text}} {{{{\"")},
};
static struct df_doc doc = {.field = fields, .n_field = 6, .id = S("doc-1"), .text = S("old")};
static struct df_row row = {.doc = &doc, .text = S("the text")};

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)256 << 20, 0);
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static enum df_err fill(const char *text, struct df_str *ret)
{
	struct df_template *t = NULL;
	DF_TRY(df_template_compile(df_str_from(text), &arena, &t, &fail));
	return df_template_fill(t, &row, &arena, ret, &fail);
}

static void assert_fills(const char *text, const char *to)
{
	struct df_str s = {NULL, 0};
	if (fill(text, &s) != DF_OK)
		fail_msg("'%s': %s", text, fail.msg);
	assert_string_equal(df_arena_copy(&arena, s).p, to);
}

static void assert_fails(const char *text, enum df_err err, const char *words)
{
	struct df_str s = {NULL, 0};
	assert_int_equal(fill(text, &s), err);
	if (!strstr(fail.msg, words))
		fail_msg("'%s': said '%s' and not '%s'", text, fail.msg, words);
}

static void test_template__puts_fields_in(void **state)
{
	(void)state;
	assert_fills("Sum up: {{text}}", "Sum up: the text");
	assert_fills("{{ id }}/{{title}}", "doc-1/A \"B\" \xc3\xa9");
	assert_fills("{{n}}", "1.50");
	assert_fills("{{tags}} {{tags.1}}", "[\"one\", \"two\"] two");
	assert_fills("{{metadata.list.1.k}}|{{metadata.list.0}}|{{metadata.o}}", "null|10|{\"a\": [1, 2]}");
	assert_fills("{{metadata.x}}", "whole name");
	assert_fills("no places", "no places");
	assert_fills("", "");
}

static void test_template__four_braces_are_two(void **state)
{
	(void)state;
	assert_fills("{{{{text}}", "{{text}}");
	assert_fills("{\"a\": {\"b\": 1}} {{n}}}", "{\"a\": {\"b\": 1}} 1.50}");
	assert_fills("{{{{{{n}}", "{{1.50");
}

static void test_template__what_is_put_in_is_not_looked_at_again(void **state)
{
	(void)state;
	assert_fills("<{{hole}}>", "<{{text}} {{{{>");
}

static void test_template__a_missing_field_is_named(void **state)
{
	(void)state;
	assert_fails("{{author}}", DF_ERR_NOT_FOUND, "field 'author' is missing");
	assert_fails("{{metadata.y}}", DF_ERR_NOT_FOUND, "field 'metadata.y' is missing");
	assert_fails("{{tags.2}}", DF_ERR_NOT_FOUND, "field 'tags.2' is missing");
	assert_fails("{{title.0}}", DF_ERR_NOT_FOUND, "field 'title.0' is missing");
	assert_fails("{{n.x}}", DF_ERR_NOT_FOUND, "field 'n.x' is missing");
}

static void test_template__added_fields_come_first(void **state)
{
	(void)state;
	struct df_field added = {{"title", 5}, {"\"new\"", 5}};
	struct df_row own = row;
	struct df_template *t = NULL;
	struct df_str s = {NULL, 0};
	own.added = &added;
	own.n_added = 1;
	assert_int_equal(df_template_compile(DF_STR("{{title}}"), &arena, &t, &fail), DF_OK);
	assert_int_equal(df_template_fill(t, &own, &arena, &s, &fail), DF_OK);
	assert_true(df_str_is(s, "new"));
}

static void test_template__wrong_ones_are_refused_with_their_place(void **state)
{
	(void)state;
	assert_fails("a\nb {{text", DF_ERR_USAGE, "line 2, column 3");
	assert_fails("{{}}", DF_ERR_USAGE, "without the name of a field");
	assert_fails("{{  }}", DF_ERR_USAGE, "without the name of a field");
	assert_fails("{{a..b}}", DF_ERR_USAGE, "without the name of a field");
	assert_fails("{{\"a\": 1}, 2}", DF_ERR_USAGE, "'{{{{'");
	assert_fails("{{{text}}}", DF_ERR_USAGE,
		     "the template has '{{{': a place has two braces on each side, '{{text}}'");
	assert_fails("{{a{b}}", DF_ERR_USAGE, "another '{' before its '}}'");
	assert_fails("{{a\n}}", DF_ERR_USAGE, "without its '}}' on the same line");
	assert_fails("\xff", DF_ERR_UTF8, "UTF-8");
}

static struct df_str single(const char *text)
{
	return df_template_single_braces(df_str_from(text));
}

static void test_template__single_braces_are_found(void **state)
{
	(void)state;
	assert_true(df_str_is(single("Sum up {text}"), "text"));
	assert_true(df_str_is(single("{ {\"a\": 1} {metadata.title_2}!"), "metadata.title_2"));
	assert_true(df_str_is(single("{{{{x} {y}"), "y"));
	assert_null(single("").p);
	assert_null(single("{} { x } {\"a\": 1} {a b} {unclosed").p);
	assert_null(single("{{text}}").p);
}

static void test_template__is_bounded(void **state)
{
	(void)state;
	struct df_buf b;
	struct df_str s = {NULL, 0};
	static char big[DF_PROMPT_BYTES / 4];
	struct df_row own = row;
	df_buf_init(&b, 1 << 20);
	for (unsigned i = 0; i <= DF_TEMPLATE_PLACES; i++)
		(void)df_buf_addz(&b, "{{n}}");
	struct df_template *t = NULL;
	assert_int_equal(df_template_compile(df_buf_str(&b), &arena, &t, &fail), DF_ERR_LIMIT);
	df_buf_release(&b);
	memset(big, 'x', sizeof(big));
	own.text = (struct df_str){big, sizeof(big)};
	assert_int_equal(df_template_compile(DF_STR("{{text}}{{text}}{{text}}{{text}}!"), &arena, &t, &fail), DF_OK);
	assert_int_equal(df_template_fill(t, &own, &arena, &s, &fail), DF_ERR_LIMIT);
}

/* ------------------------------------------------------------------ presets */

struct model {
	double temperature, top_p;
	int64_t max_tokens;
	struct df_str preset, prompt;
};
static const struct df_opt rows[] = {
	{.name = "temperature", .type = DF_OPT_FLOAT, .offset = offsetof(struct model, temperature), .help = ""},
	{.name = "top_p", .type = DF_OPT_FLOAT, .offset = offsetof(struct model, top_p), .help = ""},
	{.name = "max_tokens", .type = DF_OPT_INT, .offset = offsetof(struct model, max_tokens), .help = ""},
	{.name = "preset", .type = DF_OPT_STRING, .offset = offsetof(struct model, preset), .help = ""},
	{.name = "prompt", .type = DF_OPT_STRING, .file = true, .offset = offsetof(struct model, prompt), .help = ""},
	{.name = NULL},
};
static struct df_pipeline pipeline;

static const char *apply(const char *text, const struct df_presets *user)
{
	struct df_buf b;
	if (df_pipeline_parse(df_str_from(text), &arena, &pipeline, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	if (df_preset_apply(&pipeline.stage[0], rows, user, &arena, &fail) != DF_OK)
		return fail.msg;
	df_buf_init(&b, 4096);
	assert_int_equal(df_pipeline_format(&pipeline, &b), DF_OK);
	const char *z = df_arena_copy(&arena, df_buf_str(&b)).p;
	df_buf_release(&b);
	return z;
}

static void test_preset__sets_what_is_not_given(void **state)
{
	(void)state;
	assert_string_equal(apply("llm preset=analyst", NULL), "llm temperature=0.1 max_tokens=800");
	assert_string_equal(apply("llm max-tokens=5 preset=analyst prompt=x", NULL),
			    "llm max-tokens=5 prompt=x temperature=0.1");
	assert_string_equal(apply("llm prompt=x", NULL), "llm prompt=x");
}

static void test_preset__users_own_come_first(void **state)
{
	(void)state;
	struct df_presets user = {NULL, 0};
	struct df_str yaml =
		DF_STR("mine: {temperature: 0.3, max_tokens: 20}\nanalyst:\n  top_p: 0.5\nodd: {colour: red}\n");
	assert_int_equal(df_preset_file_parse(yaml, "p.yaml", &arena, &user, &fail), DF_OK);
	assert_string_equal(apply("llm preset=mine", &user), "llm temperature=0.3 max_tokens=20");
	assert_string_equal(apply("llm preset=analyst", &user), "llm top_p=0.5");
	assert_non_null(strstr(apply("llm preset=odd", &user), "p.yaml:4:7: preset 'odd' sets 'colour'"));
	assert_non_null(
		strstr(apply("llm preset=nope", &user), "there are analyst, creative, strict, mine, analyst, odd"));
}

static void test_preset__wrong_files_are_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {"[1, 2]", "a: 1", "a: {b: [1]}", "a: {b: {c: 1}}", "a: {", "just text"};
	struct df_presets user = {NULL, 0};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(df_preset_file_parse(df_str_from(wrong[i]), "p.yaml", &arena, &user, &fail),
				 DF_ERR_USAGE);
		assert_non_null(strstr(fail.msg, "p.yaml"));
	}
	assert_int_equal(df_preset_file_parse(DF_STR(""), "p.yaml", &arena, &user, &fail), DF_OK);
	assert_int_equal(df_preset_file_parse(DF_STR("# mine: {top_p: 1}\n"), "p.yaml", &arena, &user, &fail), DF_OK);
	assert_int_equal(user.n, 0);
}

static void test_preset__what_is_wrong_has_a_place(void **state)
{
	(void)state;
	struct df_presets user = {NULL, 0};
	assert_int_equal(df_preset_file_parse(DF_STR("a: {x: 1}\nmine: 1\n"), "p.yaml", &arena, &user, &fail),
			 DF_ERR_USAGE);
	assert_string_equal(fail.msg, "p.yaml:2:7: preset 'mine' is no mapping of options");
	assert_int_equal(df_preset_file_parse(DF_STR("a: {x: [1]}"), "p.yaml", &arena, &user, &fail), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "p.yaml:1:9: an option's value must be plain text, not a list or a mapping");
}

static void test_preset__aliases_are_followed(void **state)
{
	(void)state;
	struct df_presets user = {NULL, 0};
	struct df_str yaml = DF_STR("a: &a {temperature: &t 0.25}\nb: *a\nc: {temperature: *t, max_tokens: 5}\n");
	assert_int_equal(df_preset_file_parse(yaml, "p.yaml", &arena, &user, &fail), DF_OK);
	assert_string_equal(apply("llm preset=b", &user), "llm temperature=0.25");
	assert_string_equal(apply("llm preset=c", &user), "llm temperature=0.25 max_tokens=5");
}

/* ------------------------------------------------------------------ files */

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs(text, f);
	(void)fclose(f);
}

static enum df_err resolve(const char *text)
{
	assert_int_equal(df_pipeline_parse(df_str_from(text), &arena, &pipeline, &fail), DF_OK);
	return df_resolve_pipeline(&pipeline, &arena, &fail);
}

static struct df_str option(const char *key)
{
	const struct df_pipeline_stage *s = &pipeline.stage[0];
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_str_is(s->opt[i].key, key))
			return s->opt[i].value;
	return (struct df_str){NULL, 0};
}

static void test_resolve__files_and_presets_become_part_of_the_pipeline(void **state)
{
	(void)state;
	char dir[] = "/tmp/docflume-resolve-XXXXXX", path[128], text[512];
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/docflume", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/docflume/presets.yaml", dir);
	write_file(path, "mine: {temperature: 0.25}\n");
	assert_int_equal(setenv("XDG_CONFIG_HOME", dir, 1), 0);
	(void)snprintf(path, sizeof(path), "%s/p.txt", dir);
	write_file(path, "Sum up '{{text}}' | in \"two\" lines:\n\n");
	(void)snprintf(text, sizeof(text), "llm model=fake/any prompt=@%s system='@@at' preset=mine", path);
	if (resolve(text) != DF_OK)
		fail_msg("%s", fail.msg);
	assert_true(df_str_is(option("prompt"), "Sum up '{{text}}' | in \"two\" lines:\n"));
	assert_true(df_str_is(option("system"), "@at"));
	assert_true(df_str_is(option("temperature"), "0.25"));
	assert_null(option("preset").p);
	assert_int_equal(resolve("llm model=fake/any prompt=@/nowhere/p.txt"), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "/nowhere/p.txt"));
	assert_int_equal(resolve("llm model=@x prompt=y"), DF_OK); /* no file is meant there */
	(void)snprintf(text, sizeof(text), "rm -r %s", dir);
	assert_int_equal(system(text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_template__puts_fields_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__four_braces_are_two, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__what_is_put_in_is_not_looked_at_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__a_missing_field_is_named, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__added_fields_come_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__wrong_ones_are_refused_with_their_place, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_template__single_braces_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_template__is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preset__sets_what_is_not_given, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preset__users_own_come_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preset__wrong_files_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preset__what_is_wrong_has_a_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_preset__aliases_are_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resolve__files_and_presets_become_part_of_the_pipeline, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
