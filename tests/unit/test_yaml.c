// SPDX-License-Identifier: Apache-2.0
/* test_yaml: pipelines and settings in YAML files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cli/pipeline_file.h"

struct options {
	int64_t jobs;
	bool keep;
	struct df_str out;
};

static const struct df_opt rows[] = {
	{.name = "jobs", .type = DF_OPT_INT, .offset = offsetof(struct options, jobs), .min = 1, .max = 64, .help = ""},
	{.name = "keep-order", .type = DF_OPT_BOOL, .offset = offsetof(struct options, keep), .help = ""},
	{.name = "out", .type = DF_OPT_STRING, .offset = offsetof(struct options, out), .help = ""},
	{.name = NULL},
};

static struct df_arena arena;
static struct options o;
static bool given[3];
static struct df_pipeline_file file;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	memset(&o, 0, sizeof(o));
	memset(given, 0, sizeof(given));
	memset(&file, 0, sizeof(file));
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static enum df_err parse(const char *text)
{
	return df_pipeline_file_parse(df_str_from(text), "p.yaml", rows, &o, given, &arena, &file, &fail);
}

static void assert_reads(const char *text, const char *canonical)
{
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	assert_int_equal(parse(text), DF_OK);
	assert_int_equal(df_pipeline_format(&file.pipeline, &b), DF_OK);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_string_equal(b.p, canonical);
	df_buf_release(&b);
}

static void test_yaml__a_pipeline_may_be_text(void **state)
{
	(void)state;
	assert_reads("pipeline: 'strip | chunk tokens=200'\n", "strip | chunk tokens=200");
	assert_reads("pipeline: |\n  strip\n  | chunk tokens=200 # why\n", "strip | chunk tokens=200");
	assert_reads("{\"pipeline\": \"strip\"}", "strip");
}

static void test_yaml__a_pipeline_may_be_a_list_of_stages(void **state)
{
	(void)state;
	assert_reads("stages:\n- strip\n- clean: {min_chars: 20, require: [source, url]}\n- {name: c, chunk: {tokens: "
		     "200}}\n"
		     "- count:\n- exec: {cmd: 'a | b', on: yes, x: ''}\n",
		     "strip | clean min_chars=20 require=source,url | c=chunk tokens=200 | count | exec cmd='a | b' "
		     "on=yes x=''");
}

static void test_yaml__settings_are_set_where_the_command_line_is_silent(void **state)
{
	(void)state;
	o.jobs = 7;
	given[0] = true;
	assert_int_equal(parse("jobs: 3\nkeep_order: true\nout: dir\ninputs: [a, 'b*']\n"), DF_OK);
	assert_true(o.jobs == 7 && o.keep && df_str_is(o.out, "dir"));
	assert_true(given[1] && given[2]);
	assert_int_equal(file.inputs.n, 2);
	assert_true(df_str_is(file.inputs.item[1], "b*"));
	assert_int_equal(file.pipeline.n_stage, 0);
	assert_int_equal(parse("inputs: one"), DF_OK);
	assert_int_equal(file.inputs.n, 1);
}

static void test_yaml__aliases_are_followed(void **state)
{
	(void)state;
	assert_reads("stages:\n- a: &o {x: 1}\n- b: *o\n- c: {y: &v 7}\n- d: {z: *v}\n",
		     "a x=1 | b x=1 | c y=7 | d z=7");
}

static void test_yaml__an_alias_bomb_is_an_error(void **state)
{
	(void)state;
	static const char bomb[] = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
				   "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nstages: *c\n";
	assert_int_equal(parse(bomb), DF_ERR_USAGE);
	/* a flat list that is used again and again passes the budget of visits */
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	(void)df_buf_addz(&b, "stages:\n- a: {k: &l [");
	for (int i = 0; i < 2000; i++)
		(void)df_buf_addz(&b, "x,");
	(void)df_buf_addz(&b, "x]}\n");
	for (int i = 0; i < 60; i++)
		(void)df_buf_addz(&b, "- a: {k: *l}\n");
	assert_int_equal(df_pipeline_file_parse(df_buf_str(&b), "p.yaml", rows, &o, given, &arena, &file, &fail),
			 DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "more than 65536 values"));
	df_buf_release(&b);
}

static void assert_wrong(const char *text, const char *message)
{
	memset(&file, 0, sizeof(file));
	memset(given, 0, sizeof(given));
	enum df_err err = parse(text);
	assert_string_equal(err == DF_OK ? text : fail.msg, message);
	assert_int_equal(err, DF_ERR_USAGE);
}

static void test_yaml__errors_have_line_and_column(void **state)
{
	(void)state;
	assert_wrong("jobs: 3\njbos: 4\n", "p.yaml:2:1: unknown option 'jbos'; did you mean 'jobs'?");
	assert_wrong("jobs: many\n", "p.yaml:1:7: option 'jobs': 'many' is not a whole number from 1 to 64");
	assert_wrong("stages:\n- strip\n- a: 5\n",
		     "p.yaml:3:3: a stage's options are a mapping, e.g. {clean: {min_chars: 20}}");
	assert_wrong("stages:\n- {a: , b: }\n", "p.yaml:2:9: two stages in one item of the list; begin a new item");
	assert_wrong("stages:\n- {name: x}\n", "p.yaml:2:4: an item of 'stages' names no stage");
	assert_wrong("stages: []\n", "p.yaml:1:1: 'stages' is empty");
	assert_wrong("stages: strip\n", "p.yaml:1:1: 'stages' must be a list");
	assert_wrong("stages:\n- 'a b=1'\n",
		     "p.yaml:2:4: 'a b=1' is not a stage's name; options are written {stage: {key: value}}");
	assert_wrong("stages:\n- a: {x: {y: z}}\n",
		     "p.yaml:2:11: an option's value must be plain text, not a list or a mapping");
	assert_wrong("stages:\n- a: {x: [[y]]}\n", "p.yaml:2:12: an item must be plain text, not a list or a mapping");
	assert_wrong("stages:\n- a: {x: }\n", "p.yaml:2:7: a value is missing; an empty one is written ''");
	assert_wrong("stages:\n- a: {x: ['b,c']}\n", "p.yaml:2:12: a word of a list cannot hold a comma");
	assert_wrong("pipeline: a\nstages: [b]\n", "p.yaml:2:1: both 'pipeline' and 'stages'; give one of them");
	assert_wrong("pipeline: 'a |'\n", "p.yaml:1:1: a stage's name is missing here\n  a |\n     ^");
	assert_wrong("just text", "p.yaml:1:1: a mapping with 'pipeline' or 'stages' is wanted");
	assert_wrong("", "p.yaml is empty");
}

static void test_yaml__broken_yaml_is_an_error_with_a_place(void **state)
{
	(void)state;
	static const char *const broken[] = {
		"stages: [a, b", "a: b: c",         "a: *nowhere", "\t- x", "a: 1\na: 2\n", "{", "]", "&",
		"? [",           "--- a\n--- b: *x"};
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		assert_int_equal(parse(broken[i]), DF_ERR_USAGE);
	assert_int_equal(parse("stages:\n  - [a, b\n"), DF_ERR_USAGE);
	assert_true(df_str_starts(df_str_from(fail.msg), "p.yaml:"));
	assert_int_equal(parse("\xff\xfe"), DF_ERR_USAGE);
}

static void test_yaml__deep_nesting_is_an_error(void **state)
{
	(void)state;
	static char deep[200001];
	memset(deep, '[', sizeof(deep) - 1);
	assert_int_equal(parse(deep), DF_ERR_USAGE);
	memset(deep + 100000, ']', 100000);
	assert_int_equal(parse(deep), DF_ERR_USAGE);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_yaml__a_pipeline_may_be_text),
		T(test_yaml__a_pipeline_may_be_a_list_of_stages),
		T(test_yaml__settings_are_set_where_the_command_line_is_silent),
		T(test_yaml__aliases_are_followed),
		T(test_yaml__an_alias_bomb_is_an_error),
		T(test_yaml__errors_have_line_and_column),
		T(test_yaml__broken_yaml_is_an_error_with_a_place),
		T(test_yaml__deep_nesting_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
