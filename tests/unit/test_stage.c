// SPDX-License-Identifier: Apache-2.0
/* Staging: frames wait in memory up to a cap, beyond it in a file, and come back as they were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "coordinator/sink/stage.h"

static struct df_staged *staged_of(struct df_staging *g, const char *const *text, size_t n)
{
	struct df_fail fail;
	struct df_staged *s = df_staged_create(1, 2);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(df_staged_add(g, s, DF_OUTPUT_JSONL, i, df_blob_copy(text[i], strlen(text[i])), &fail),
				 DF_OK);
	return s;
}

static void assert_frame(struct df_staging *g, struct df_staged *s, size_t i, const char *text)
{
	struct df_fail fail;
	struct df_blob *blob = NULL;
	assert_int_equal(df_staged_take(g, &s->frame[i], &blob, &fail), DF_OK);
	assert_int_equal(blob->n, strlen(text));
	assert_memory_equal(blob->p, text, blob->n);
	df_blob_unref(&blob);
}

static void test_stage__frames_below_the_cap_stay_in_memory(void **state)
{
	static const char *const text[] = {"one", "", "three"};
	struct df_staging g;
	(void)state;
	df_staging_init(&g, 100, -1);
	struct df_staged *s = staged_of(&g, text, 3);
	assert_int_equal(g.memory_bytes, 8);
	assert_int_equal(g.fd, -1);
	for (size_t i = 0; i < 3; i++)
		assert_frame(&g, s, i, text[i]);
	assert_int_equal(s->bytes, 8);
	df_staged_destroy(&g, &s);
	assert_null(s);
	assert_int_equal(g.memory_bytes, 0);
	df_staged_destroy(&g, &s);
	df_staging_release(&g);
}

static void test_stage__what_is_above_the_cap_goes_to_the_file(void **state)
{
	static const char *const text[] = {"1234567890", "abc", "ABCDEFGH", "x"};
	struct df_staging g;
	(void)state;
	df_staging_init(&g, 12, -1);
	struct df_staged *s = staged_of(&g, text, 4);
	assert_int_equal(g.memory_bytes, 11); /* the first and the last */
	assert_int_equal(g.file_bytes, 11);
	for (size_t i = 4; i-- > 0;)
		assert_frame(&g, s, i, text[i]);
	df_staged_destroy(&g, &s);
	df_staging_release(&g);
}

static void test_stage__the_files_space_is_given_back_when_nothing_is_left_in_it(void **state)
{
	static const char *const text[] = {"abc", "defg"};
	struct df_staging g;
	struct stat st;
	(void)state;
	df_staging_init(&g, 0, -1);
	struct df_staged *a = staged_of(&g, text, 2), *b = staged_of(&g, text, 1);
	assert_int_equal(g.file_end, 10);
	df_staged_destroy(&g, &a);
	assert_int_equal(g.file_bytes, 3);
	assert_frame(&g, b, 0, "abc");
	df_staged_destroy(&g, &b);
	assert_int_equal(g.file_bytes, 0);
	assert_int_equal(g.file_end, 0);
	assert_int_equal(fstat(g.fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_nlink, 0); /* nobody finds it, nothing stays behind */
	struct df_staged *c = staged_of(&g, text, 2);
	assert_frame(&g, c, 1, "defg");
	df_staged_destroy(&g, &c);
	df_staging_release(&g);
}

static void test_stage__a_result_keeps_its_own_copy_of_the_last_part(void **state)
{
	struct df_cells cells[] = {{0, 1, 2}, {3, 4, 5}};
	char name[] = "in";
	struct df_counter counter = {{name, 2}, 7};
	struct df_result r = {.cells = cells, .n_cells = 2, .counter = &counter, .n_counter = 1};
	struct df_staging g;
	(void)state;
	df_staging_init(&g, 100, -1);
	struct df_staged *s = df_staged_create(1, 2);
	assert_int_equal(df_staged_end(s, &r), DF_OK);
	name[0] = 'X';
	cells[1].n = 99;
	assert_int_equal(s->n_cells, 2);
	assert_int_equal(s->cells[1].n, 5);
	assert_true(df_str_is(s->counter[0].name, "in"));
	assert_int_equal(s->counter[0].value, 7);
	df_staged_destroy(&g, &s);
	df_staging_release(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stage__frames_below_the_cap_stay_in_memory),
		cmocka_unit_test(test_stage__what_is_above_the_cap_goes_to_the_file),
		cmocka_unit_test(test_stage__the_files_space_is_given_back_when_nothing_is_left_in_it),
		cmocka_unit_test(test_stage__a_result_keeps_its_own_copy_of_the_last_part),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
