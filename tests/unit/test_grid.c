// SPDX-License-Identifier: Apache-2.0
/* Grid: files become cells by arithmetic alone, the same for every number of workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/limits.h"
#include "coordinator/cells/grid.h"

static struct df_grid grid_of(const uint64_t *size, size_t n)
{
	struct df_grid g;
	assert_int_equal(df_grid_init(&g, 100), DF_OK);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(df_grid_add(&g, DF_SOURCE_JSONL, size[i]), DF_OK);
	return g;
}

static void test_grid__a_cell_size_out_of_range_is_refused(void **state)
{
	struct df_grid g;
	(void)state;
	assert_int_equal(df_grid_init(&g, 0), DF_ERR_RANGE);
	assert_int_equal(df_grid_init(&g, (uint64_t)DF_CELL_BYTES_MAX + 1), DF_ERR_RANGE);
}

static void test_grid__a_file_has_cells_for_all_its_bytes(void **state)
{
	static const uint64_t size[] = {0, 1, 99, 100, 101, 1000}, want[] = {0, 1, 1, 1, 2, 10};
	struct df_grid g = grid_of(size, 6);
	(void)state;
	for (size_t i = 0; i < 6; i++) {
		uint64_t at = 0;
		assert_int_equal(g.source[i].n_cell, want[i]);
		for (uint64_t k = 0; k < want[i]; k++) {
			uint64_t start = 0, end = 0;
			df_grid_bytes(&g, (struct df_cells){(uint32_t)i, k, 1}, &start, &end);
			assert_int_equal(start, at);
			assert_true(end > start);
			at = end;
		}
		assert_int_equal(at, size[i]);
	}
	assert_int_equal(g.n_unfinished, 5);
	df_grid_release(&g);
}

static void test_grid__too_many_cells_are_refused_and_nothing_is_added(void **state)
{
	struct df_grid g;
	(void)state;
	assert_int_equal(df_grid_init(&g, 1), DF_OK);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_JSONL, DF_MAX_CELLS + 1), DF_ERR_LIMIT);
	assert_int_equal(g.n_source, 0);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_JSONL, DF_MAX_CELLS), DF_OK);
	df_grid_release(&g);
}

static void test_grid__a_text_file_is_one_cell_even_when_it_is_empty(void **state)
{
	struct df_grid g;
	uint64_t start = 1, end = 0;
	(void)state;
	assert_int_equal(df_grid_init(&g, 100), DF_OK);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_TEXT, 12345), DF_OK);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_TEXT, 0), DF_OK);
	assert_int_equal(g.source[0].n_cell + g.source[1].n_cell, 2);
	df_grid_bytes(&g, (struct df_cells){0, 0, 1}, &start, &end);
	assert_int_equal(start, 0);
	assert_int_equal(end, 12345);
	df_grid_release(&g);
}

static void test_grid__is_complete_when_every_cell_is_done_once(void **state)
{
	struct df_grid g = grid_of((uint64_t[]){250, 0}, 2);
	(void)state;
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 0, 2}), DF_OK);
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 1, 1}), DF_OK);
	assert_int_equal(g.n_done, 2);
	assert_false(df_grid_complete(&g));
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 2, 1}), DF_OK);
	assert_true(df_grid_complete(&g));
	df_grid_release(&g);
}

static void test_grid__cells_that_cannot_be_are_refused(void **state)
{
	static const struct df_cells bad[] = {{1, 0, 1}, {0, 3, 1},          {0, 2, 2},
					      {0, 0, 0}, {0, UINT64_MAX, 1}, {0, 1, UINT64_MAX}};
	struct df_grid g = grid_of((uint64_t[]){250}, 1);
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(df_grid_mark_done(&g, bad[i]), DF_ERR_RANGE);
	assert_int_equal(g.n_done, 0);
	df_grid_release(&g);
}

static void test_grid__a_readers_source_is_complete_only_after_its_end(void **state)
{
	struct df_grid g;
	(void)state;
	assert_int_equal(df_grid_init(&g, 100), DF_OK);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_READER, 0), DF_OK);
	assert_false(df_grid_complete(&g));
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 0, 3}), DF_OK);
	assert_false(df_grid_complete(&g));
	df_grid_end(&g, 0, 4);
	assert_false(df_grid_complete(&g));
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 3, 1}), DF_OK);
	assert_true(df_grid_complete(&g));
	df_grid_release(&g);
}

static void test_grid__an_empty_readers_source_is_complete_at_its_end(void **state)
{
	struct df_grid g;
	(void)state;
	assert_int_equal(df_grid_init(&g, 100), DF_OK);
	assert_int_equal(df_grid_add(&g, DF_SOURCE_READER, 0), DF_OK);
	df_grid_end(&g, 0, 0);
	df_grid_end(&g, 0, 0);
	assert_true(df_grid_complete(&g));
	df_grid_release(&g);
}

static void test_grid__a_failed_source_is_not_waited_for_nor_leased(void **state)
{
	struct df_grid g = grid_of((uint64_t[]){250, 100}, 2);
	(void)state;
	df_grid_fail(&g, 0);
	df_grid_fail(&g, 0);
	assert_int_equal(df_grid_next(&g, 0, 0, 9).n, 0);
	assert_false(df_grid_complete(&g));
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 1, 1}), DF_OK); /* was on its way */
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){1, 0, 1}), DF_OK);
	assert_true(df_grid_complete(&g));
	df_grid_release(&g);
}

static void test_grid__next_gives_runs_between_what_is_done(void **state)
{
	struct df_grid g = grid_of((uint64_t[]){1000}, 1);
	(void)state;
	assert_int_equal(df_grid_mark_done(&g, (struct df_cells){0, 3, 2}), DF_OK);
	struct df_cells c = df_grid_next(&g, 0, 0, 100);
	assert_int_equal(c.first, 0);
	assert_int_equal(c.n, 3);
	c = df_grid_next(&g, 0, 3, 2);
	assert_int_equal(c.first, 5);
	assert_int_equal(c.n, 2);
	c = df_grid_next(&g, 0, 7, 100);
	assert_int_equal(c.first + c.n, 10);
	assert_int_equal(df_grid_next(&g, 0, 10, 1).n, 0);
	df_grid_release(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grid__a_cell_size_out_of_range_is_refused),
		cmocka_unit_test(test_grid__a_file_has_cells_for_all_its_bytes),
		cmocka_unit_test(test_grid__too_many_cells_are_refused_and_nothing_is_added),
		cmocka_unit_test(test_grid__a_text_file_is_one_cell_even_when_it_is_empty),
		cmocka_unit_test(test_grid__is_complete_when_every_cell_is_done_once),
		cmocka_unit_test(test_grid__cells_that_cannot_be_are_refused),
		cmocka_unit_test(test_grid__a_readers_source_is_complete_only_after_its_end),
		cmocka_unit_test(test_grid__an_empty_readers_source_is_complete_at_its_end),
		cmocka_unit_test(test_grid__a_failed_source_is_not_waited_for_nor_leased),
		cmocka_unit_test(test_grid__next_gives_runs_between_what_is_done),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
