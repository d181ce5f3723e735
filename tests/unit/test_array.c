// SPDX-License-Identifier: Apache-2.0
/* test_array: room for one more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/array.h"

static void test_array__grows_by_doubling_and_keeps_what_is_in_it(void **state)
{
	size_t *item = NULL, n = 0, cap = 0, moves = 0;
	(void)state;
	for (; n < 1000; n++) {
		size_t before = cap;
		assert_int_equal(df_array_room((void **)&item, n, &cap, sizeof(*item)), DF_OK);
		assert_true(cap > n);
		moves += cap != before;
		item[n] = n * 7;
	}
	assert_true(moves <= 8);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(item[i], i * 7);
	free(item);
}

static void test_array__a_size_that_cannot_be_leaves_everything_as_it_was(void **state)
{
	char some[8];
	void *item = some;
	size_t cap = SIZE_MAX / 4;
	(void)state;
	assert_int_equal(df_array_room(&item, cap, &cap, 8), DF_ERR_NOMEM);
	assert_ptr_equal(item, some);
	assert_int_equal(cap, SIZE_MAX / 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_array__grows_by_doubling_and_keeps_what_is_in_it),
		cmocka_unit_test(test_array__a_size_that_cannot_be_leaves_everything_as_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
