// SPDX-License-Identifier: Apache-2.0
/* A strike in words: what ended the worker, in which stage, how often; and the class of the reject. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/strike.h"

static const char *words(enum df_cause cause, uint32_t detail, uint32_t n, uint32_t stage, const char *name)
{
	static char z[256];
	struct df_strike s = {.n = n, .cause = cause, .detail = detail, .stage = stage};
	df_strike_words(&s, df_str_from(name), z, sizeof(z));
	return z;
}

static void test_strike__says_what_ended_the_worker_where_and_how_often(void **state)
{
	(void)state;
	assert_string_equal(words(DF_CAUSE_SIGNAL, SIGSEGV, 3, 1, "chunk"),
			    "ended 3 workers by signal 11 (Segmentation fault) in stage 'chunk'");
	assert_string_equal(words(DF_CAUSE_DEADLINE, 60000, 3, 0, "exec"),
			    "computed for longer than 60 s (--doc-timeout) in stage 'exec' 3 times");
	assert_string_equal(words(DF_CAUSE_DEADLINE, 1500, 1, 0, "exec"),
			    "computed for longer than 1500 ms (--doc-timeout) in stage 'exec' once");
	assert_string_equal(words(DF_CAUSE_MEMORY, 700, 2, 0, "chunk"),
			    "took more memory than there is (--mem-limit, at 700 MB) in stage 'chunk' 2 times");
	assert_string_equal(words(DF_CAUSE_MEMORY, 0, 3, 0, "chunk"),
			    "took more memory than there is (--mem-limit) in stage 'chunk' 3 times");
	assert_string_equal(words(DF_CAUSE_EXIT, 1, 3, 0, "embed"),
			    "ended 3 workers with exit code 1 in stage 'embed'");
}

static void test_strike__a_stage_without_a_name_has_its_number_and_none_is_said_so(void **state)
{
	(void)state;
	assert_string_equal(words(DF_CAUSE_EXIT, 1, 1, 4, ""), "ended a worker with exit code 1 in stage 5");
	assert_string_equal(
		words(DF_CAUSE_SIGNAL, SIGABRT, 3, DF_NO_STAGE, ""),
		"ended 3 workers by signal 6 (Aborted) outside of the stages (reading it, or writing its rows)");
}

static void test_strike__the_class_of_the_reject_follows_the_cause(void **state)
{
	(void)state;
	assert_int_equal(df_strike_err(&(struct df_strike){.cause = DF_CAUSE_DEADLINE}), DF_ERR_TIMEOUT);
	assert_int_equal(df_strike_err(&(struct df_strike){.cause = DF_CAUSE_MEMORY}), DF_ERR_NOMEM);
	assert_int_equal(df_strike_err(&(struct df_strike){.cause = DF_CAUSE_SIGNAL}), DF_ERR_CHILD);
	assert_int_equal(df_strike_err(&(struct df_strike){.cause = DF_CAUSE_EXIT}), DF_ERR_CHILD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strike__says_what_ended_the_worker_where_and_how_often),
		cmocka_unit_test(test_strike__a_stage_without_a_name_has_its_number_and_none_is_said_so),
		cmocka_unit_test(test_strike__the_class_of_the_reject_follows_the_cause),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
