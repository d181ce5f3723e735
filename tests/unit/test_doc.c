// SPDX-License-Identifier: Apache-2.0
/* test_doc: rows share what they may, fates are decided once, counters add up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "worker/doc.h"

static struct df_arena arena;
static struct df_counters counters;
static struct df_batch batch;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)1 << 24, 0);
	df_counters_init(&counters);
	batch = (struct df_batch){.arena = &arena, .counters = &counters};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_counters_release(&counters);
	df_arena_release(&arena);
	return 0;
}

static uint64_t counted(const char *name)
{
	const uint64_t *v = df_map_get(&counters.map, df_str_from(name));
	return v ? *v : 0;
}

static void test_row__a_clone_and_its_origin_do_not_see_each_others_members(void **state)
{
	(void)state;
	struct df_doc doc = {.n_row = 1};
	struct df_row a = {.doc = &doc};
	assert_int_equal(df_row_add_u64(&batch, &a, "x", 1), DF_OK);
	struct df_row *b = df_row_clone(&batch, &a), *c = df_row_clone(&batch, b);
	assert_int_equal(doc.n_row, 3);
	assert_int_equal(df_row_add_u64(&batch, b, "x", 2), DF_OK);
	assert_int_equal(df_row_add_u64(&batch, &a, "y", UINT64_MAX), DF_OK);
	assert_int_equal(df_row_add_u64(&batch, c, "y", 0), DF_OK);
	assert_int_equal(df_row_add_u64(&batch, &a, "x", 10), DF_OK);
	assert_true(df_str_is(df_row_get(&a, DF_STR("x")), "10"));
	assert_true(df_str_is(df_row_get(&a, DF_STR("y")), "18446744073709551615"));
	assert_true(df_str_is(df_row_get(b, DF_STR("x")), "2"));
	assert_null(df_row_get(b, DF_STR("y")).p);
	assert_true(df_str_is(df_row_get(c, DF_STR("x")), "1"));
	assert_true(df_str_is(df_row_get(c, DF_STR("y")), "0"));
}

static void test_row__many_members_grow_and_hide_those_of_the_input(void **state)
{
	(void)state;
	struct df_field in[] = {{{"k3", 2}, {"old", 3}}, {{"z", 1}, {"1", 1}}, {{"z", 1}, {"2", 1}}};
	struct df_doc doc = {.field = in, .n_field = 3, .n_row = 1};
	struct df_row row = {.doc = &doc};
	static const char *const key[] = {"k0", "k1", "k2", "k3",  "k4",  "k5", "k6",
					  "k7", "k8", "k9", "k10", "k11", "k12"};
	assert_true(df_str_is(df_row_get(&row, DF_STR("k3")), "old"));
	for (uint64_t i = 0; i < 13; i++)
		assert_int_equal(df_row_add_u64(&batch, &row, key[i], i), DF_OK);
	assert_int_equal(row.n_added, 13);
	assert_true(df_str_is(df_row_get(&row, DF_STR("k3")), "3"));
	assert_true(df_str_is(df_row_get(&row, DF_STR("k12")), "12"));
	assert_true(df_str_is(df_row_get(&row, DF_STR("z")), "2")); /* the last of equal keys */
}

static void test_row__the_last_one_dropped_filters_the_document(void **state)
{
	(void)state;
	struct df_doc doc = {.n_row = 2};
	struct df_row a = {.doc = &doc}, b = {.doc = &doc};
	df_row_drop(&batch, &a, "clean", "min_chars");
	assert_int_equal(doc.fate, DF_FATE_OUT);
	assert_false(df_row_live(&a));
	assert_true(df_row_live(&b));
	df_row_drop(&batch, &a, "clean", "min_chars"); /* twice is once */
	assert_int_equal(doc.n_row, 1);
	df_row_drop(&batch, &b, "clean", "max_chars");
	assert_int_equal(doc.fate, DF_FATE_FILTERED);
	assert_string_equal(doc.reason, "max_chars");
	assert_string_equal(doc.stage, "clean");
	assert_int_equal(counted("dropped:clean:min_chars"), 1);
	assert_int_equal(counted("filtered:clean:max_chars"), 1);
}

static void test_doc__the_first_cause_of_a_rejection_counts(void **state)
{
	(void)state;
	struct df_doc doc = {.n_row = 1};
	struct df_row row = {.doc = &doc};
	df_doc_reject(&batch, &doc, "chunk", DF_ERR_LIMIT, "more than %d chunks", 7);
	df_doc_reject(&batch, &doc, "embed", DF_ERR_BUG, "later");
	assert_int_equal(doc.fate, DF_FATE_REJECTED);
	assert_int_equal(doc.err, DF_ERR_LIMIT);
	assert_string_equal(doc.message, "more than 7 chunks");
	assert_string_equal(doc.stage, "chunk");
	assert_false(df_row_live(&row));
	df_row_drop(&batch, &row, "clean", "min_chars"); /* a rejected document is never filtered as well */
	assert_int_equal(doc.fate, DF_FATE_REJECTED);
}

static void test_counters__are_added_up_and_start_again(void **state)
{
	(void)state;
	df_counters_reset(&counters);
	df_counters_add(&counters, "tokens", 5);
	df_counters_add(&counters, "tokens", 37);
	assert_int_equal(counted("tokens"), 42);
	df_counters_reset(&counters);
	assert_int_equal(counted("tokens"), 0);
}

static void test_row__says_when_memory_is_out(void **state)
{
	(void)state;
	struct df_arena none;
	struct df_doc doc = {.n_row = 1};
	struct df_row row = {.doc = &doc};
	df_arena_init(&none, 0, 0);
	struct df_batch b = {.arena = &none, .counters = &counters};
	assert_int_equal(df_row_add_u64(&b, &row, "x", 1), DF_ERR_NOMEM);
	assert_null(df_row_clone(&b, &row));
	assert_int_equal(doc.n_row, 1);
	df_doc_reject(&b, &doc, "s", DF_ERR_NOMEM, "x");
	assert_non_null(doc.message);
	df_arena_release(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_row__a_clone_and_its_origin_do_not_see_each_others_members),
		cmocka_unit_test(test_row__many_members_grow_and_hide_those_of_the_input),
		cmocka_unit_test(test_row__the_last_one_dropped_filters_the_document),
		cmocka_unit_test(test_doc__the_first_cause_of_a_rejection_counts),
		cmocka_unit_test(test_counters__are_added_up_and_start_again),
		cmocka_unit_test(test_row__says_when_memory_is_out),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
