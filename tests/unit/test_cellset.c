// SPDX-License-Identifier: Apache-2.0
/* Cellset: compared with the plainest set there is, around the borders of words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "coordinator/cells/cellset.h"

#define N 400U

static void test_cellset__an_empty_one_has_nothing(void **state)
{
	struct df_cellset s = {0};
	(void)state;
	assert_false(df_cellset_has(&s, 0));
	assert_false(df_cellset_has(&s, UINT64_MAX));
	assert_false(df_cellset_any(&s, 0, 1000));
	assert_int_equal(df_cellset_next_clear(&s, 5, 1000), 5);
	assert_int_equal(df_cellset_next_set(&s, 5, 1000), 1000);
	assert_int_equal(df_cellset_next_set(&s, 7, 7), 7);
	df_cellset_release(&s);
}

static void test_cellset__adding_nothing_adds_nothing(void **state)
{
	struct df_cellset s = {0};
	uint64_t added = 9;
	(void)state;
	assert_int_equal(df_cellset_add(&s, 5, 0, &added), DF_OK);
	assert_int_equal(added, 0);
	assert_false(df_cellset_any(&s, 0, 64));
	assert_false(df_cellset_any(&s, 5, 0));
}

static void test_cellset__up_to_64_cells_need_no_heap(void **state)
{
	struct df_cellset s = {0};
	(void)state;
	assert_int_equal(df_cellset_add(&s, 0, 64, NULL), DF_OK);
	assert_null(s.word);
	assert_int_equal(s.n_set, 64);
	assert_int_equal(df_cellset_add(&s, 64, 1, NULL), DF_OK);
	assert_non_null(s.word);
	assert_int_equal(df_cellset_next_clear(&s, 0, 100), 65);
	df_cellset_release(&s);
}

static void test_cellset__counts_members_that_are_new_alone(void **state)
{
	struct df_cellset s = {0};
	uint64_t added = 0;
	(void)state;
	assert_int_equal(df_cellset_add(&s, 60, 10, &added), DF_OK);
	assert_int_equal(added, 10);
	assert_int_equal(df_cellset_add(&s, 65, 10, &added), DF_OK);
	assert_int_equal(added, 5);
	assert_int_equal(s.n_set, 15);
	df_cellset_release(&s);
}

static void compare(const struct df_cellset *s, const bool *plain)
{
	uint64_t n = 0;
	for (uint64_t i = 0; i < N; i++) {
		n += plain[i];
		assert_int_equal(df_cellset_has(s, i), plain[i]);
	}
	assert_int_equal(s->n_set, n);
	for (uint64_t from = 0; from < N; from += 13)
		for (uint64_t end = from; end < N; end += 17) {
			uint64_t set = from, clear = from;
			while (set < end && !plain[set])
				set++;
			while (clear < end && plain[clear])
				clear++;
			assert_int_equal(df_cellset_next_set(s, from, end), set);
			assert_int_equal(df_cellset_next_clear(s, from, end), clear);
			assert_int_equal(df_cellset_any(s, from, end - from), set < end);
		}
}

static void test_cellset__is_a_set_whatever_is_added(void **state)
{
	uint64_t seed = 1;
	struct df_rand rnd = df_rand_seeded(&seed);
	(void)state;
	for (int round = 0; round < 200; round++) {
		struct df_cellset s = {0};
		bool plain[N] = {false};
		for (int k = 0; k < 6; k++) {
			uint64_t first = rnd.next(rnd.self) % N, n = rnd.next(rnd.self) % (k % 2 ? 5 : 140);
			n = n > N - first ? N - first : n;
			assert_int_equal(df_cellset_add(&s, first, n, NULL), DF_OK);
			for (uint64_t i = first; i < first + n; i++)
				plain[i] = true;
		}
		compare(&s, plain);
		df_cellset_release(&s);
	}
}

static void test_cellset__an_impossible_size_is_refused(void **state)
{
	struct df_cellset s = {0};
	(void)state;
	assert_int_equal(df_cellset_add(&s, UINT64_MAX - 64, 1, NULL), DF_ERR_NOMEM);
	assert_int_equal(s.n_set, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cellset__an_empty_one_has_nothing),
		cmocka_unit_test(test_cellset__adding_nothing_adds_nothing),
		cmocka_unit_test(test_cellset__up_to_64_cells_need_no_heap),
		cmocka_unit_test(test_cellset__counts_members_that_are_new_alone),
		cmocka_unit_test(test_cellset__is_a_set_whatever_is_added),
		cmocka_unit_test(test_cellset__an_impossible_size_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
