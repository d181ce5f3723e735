// SPDX-License-Identifier: Apache-2.0
/* test_buf: growth up to the ceiling and errors that stick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/buf.h"

static void test_buf__holds_what_was_added(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 100000);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(df_buf_add_u64(&b, i), DF_OK);
		assert_int_equal(df_buf_addc(&b, ','), DF_OK);
	}
	assert_int_equal(df_buf_addf(&b, "%s=%d", "x", -1), DF_OK);
	assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4 + 4);
	assert_memory_equal(b.p + b.n - 9, ",999,x=-1", 9);
	df_buf_release(&b);
}

static void test_buf__the_ceiling_is_exact_and_a_failed_append_changes_nothing(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 10);
	assert_int_equal(df_buf_addz(&b, "0123456789"), DF_OK);
	assert_int_equal(df_buf_addc(&b, 'x'), DF_ERR_LIMIT);
	assert_int_equal(b.n, 10);
	assert_int_equal(df_buf_add(&b, "", 0), DF_ERR_LIMIT);
	assert_int_equal(df_buf_err(&b), DF_ERR_LIMIT);
	df_buf_reset(&b);
	assert_int_equal(df_buf_addz(&b, "01234"), DF_OK);
	assert_int_equal(df_buf_addz(&b, "567890"), DF_ERR_LIMIT);
	assert_int_equal(df_buf_addz(&b, "5"), DF_ERR_LIMIT);
	assert_true(df_str_is(df_buf_str(&b), "01234"));
	df_buf_release(&b);
}

static void test_buf__huge_requests_do_not_wrap(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, SIZE_MAX / 2);
	assert_int_equal(df_buf_addz(&b, "abc"), DF_OK);
	assert_int_equal(df_buf_reserve(&b, SIZE_MAX), DF_ERR_LIMIT);
	df_buf_reset(&b);
	df_buf_release(&b);
}

static void test_buf__the_largest_number_is_written(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 100);
	assert_int_equal(df_buf_add_u64(&b, UINT64_MAX), DF_OK);
	assert_true(df_str_is(df_buf_str(&b), "18446744073709551615"));
	df_buf_release(&b);
	df_buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__holds_what_was_added),
		cmocka_unit_test(test_buf__the_ceiling_is_exact_and_a_failed_append_changes_nothing),
		cmocka_unit_test(test_buf__huge_requests_do_not_wrap),
		cmocka_unit_test(test_buf__the_largest_number_is_written),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
