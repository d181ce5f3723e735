// SPDX-License-Identifier: Apache-2.0
/* test_registry: every stage's tables are sound, and pipelines are checked against them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/stages/registry.h"

static struct df_arena arena;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 16 << 20, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static enum df_err check(const char *text)
{
	struct df_pipeline p;
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	assert_int_equal(df_pipeline_parse(df_str_from(text), &arena, &p, &fail), DF_OK);
	return df_stage_check_pipeline(&p, &arena, &class, &options, &fail);
}

static void test_registry__every_stage_is_found_by_its_name_and_tells_about_itself(void **state)
{
	(void)state;
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++) {
		assert_ptr_equal(df_stage_find(df_str_from((*c)->name)), *c);
		assert_non_null((*c)->process);
		assert_true((*c)->summary && (*c)->summary[0] && !strchr((*c)->summary, '\n'));
		assert_true((*c)->help && strlen((*c)->help) > 40);
	}
	assert_null(df_stage_find(DF_STR("")));
	assert_null(df_stage_find(DF_STR("stripp")));
}

static void test_registry__every_row_has_help_and_a_default_that_parses(void **state)
{
	(void)state;
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++) {
		if (!(*c)->options)
			continue;
		void *options = df_arena_alloc(&arena, (*c)->options_size);
		assert_non_null(options);
		df_conf_defaults((*c)->options, &arena, options, (*c)->options_size); /* asserts on a wrong table */
		for (const struct df_opt *row = (*c)->options; row->name; row++) {
			assert_true(row->help && row->help[0]);
			assert_ptr_equal(df_conf_find((*c)->options, df_str_from(row->name)), row);
			assert_true(row->min <= row->max);
		}
	}
}

static void test_registry__an_unknown_stage_has_a_caret_and_a_suggestion(void **state)
{
	(void)state;
	assert_int_equal(check("exec cmd=cat | exce tokens=200"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "unknown stage 'exce'; did you mean 'exec'?\n  exec cmd=cat | exce tokens=200\n"
				      "                 ^");
	assert_int_equal(check("l=zzzzzzzzz"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "unknown stage 'zzzzzzzzz'; 'docflume stages' lists them\n  l=zzzzzzzzz\n    ^");
}

static void test_registry__an_unknown_option_has_its_caret_under_the_key(void **state)
{
	(void)state;
	assert_int_equal(check("exec cmd=cat timeut_ms=5"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "stage 'exec': unknown option 'timeut_ms'; did you mean 'timeout_ms'?\n"
				      "  exec cmd=cat timeut_ms=5\n               ^");
}

static void test_registry__a_wrong_value_has_its_caret_under_the_value(void **state)
{
	(void)state;
	assert_int_equal(check("e=exec cmd=cat timeout_ms=soon"), DF_ERR_USAGE);
	assert_string_equal(fail.msg,
			    "stage 'e': option 'timeout_ms': 'soon' is not a whole number from 1 to 86400000\n"
			    "  e=exec cmd=cat timeout_ms=soon\n                            ^");
}

static void test_registry__two_spellings_of_one_option_are_twice(void **state)
{
	(void)state;
	assert_int_equal(check("exec cmd=cat timeout_ms=5 timeout-ms=6"), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "option 'timeout_ms' is given twice"));
	assert_int_equal(check("exec cmd=cat timeout-ms=6"), DF_OK);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_registry__every_stage_is_found_by_its_name_and_tells_about_itself),
		T(test_registry__every_row_has_help_and_a_default_that_parses),
		T(test_registry__an_unknown_stage_has_a_caret_and_a_suggestion),
		T(test_registry__an_unknown_option_has_its_caret_under_the_key),
		T(test_registry__a_wrong_value_has_its_caret_under_the_value),
		T(test_registry__two_spellings_of_one_option_are_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
