// SPDX-License-Identifier: Apache-2.0
/* test_arena: alignment, ceilings, and what a reset keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"

static void test_arena__memory_is_aligned_and_does_not_overlap(void **state)
{
	(void)state;
	struct df_arena a;
	unsigned char *p[2000];
	df_arena_init(&a, 64 << 20, 0);
	for (size_t i = 0; i < 2000; i++) {
		size_t n = i * 7 % 1500;
		p[i] = df_arena_alloc(&a, n);
		assert_non_null(p[i]);
		assert_int_equal((uintptr_t)p[i] % (n >= 64 ? 64 : 16), 0);
		memset(p[i], (int)(i & 255), n);
	}
	for (size_t i = 0; i < 2000; i++)
		for (size_t k = 0; k < i * 7 % 1500; k++)
			assert_int_equal(p[i][k], i & 255);
	df_arena_release(&a);
}

static void test_arena__never_passes_its_maximum(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 1 << 20, 0);
	size_t n = 0;
	while (df_arena_alloc(&a, 1000)) {
		n++;
		assert_true(a.total <= 1 << 20);
		assert_true(n < 2000);
	}
	assert_true(n > 300);
	assert_null(df_arena_alloc(&a, SIZE_MAX));
	assert_null(df_arena_alloc(&a, SIZE_MAX / 4));
	assert_null(df_arena_array(&a, SIZE_MAX / 2, 3));
	df_arena_release(&a);
	assert_int_equal(a.total, 0);
}

static void test_arena__one_request_may_be_large(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 64 << 20, 0);
	char *p = df_arena_alloc(&a, 32 << 20);
	assert_non_null(p);
	memset(p, 1, 32 << 20);
	assert_null(df_arena_alloc(&a, 40 << 20));
	assert_non_null(df_arena_alloc(&a, 100));
	df_arena_release(&a);
}

static void test_arena__reset_gives_a_huge_document_back(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 256 << 20, 1 << 20);
	for (int round = 0; round < 50; round++) {
		assert_non_null(df_arena_alloc(&a, round % 2 ? 100 << 20 : 1000));
		assert_non_null(df_arena_alloc(&a, 5000));
		df_arena_reset(&a);
		assert_true(a.total <= 102 << 20);
		if (round % 2 == 0)
			assert_true(a.total <= 2 << 20);
	}
	df_arena_release(&a);
}

static void test_arena__reset_memory_is_used_again(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 4 << 20, 4 << 20);
	for (int round = 0; round < 1000; round++) {
		for (int i = 0; i < 1000; i++)
			assert_non_null(df_arena_alloc(&a, 1000));
		df_arena_reset(&a);
	}
	df_arena_release(&a);
}

static void test_arena__nothing_is_a_valid_pointer_and_zalloc_is_zero(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 1 << 20, 0);
	assert_non_null(df_arena_alloc(&a, 0));
	assert_non_null(df_arena_array(&a, 0, 8));
	memset(df_arena_alloc(&a, 1000), 255, 1000);
	df_arena_reset(&a);
	unsigned char *p = df_arena_zalloc(&a, 1000);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(p[i], 0);
	df_arena_release(&a);
}

static void test_arena__a_copy_ends_with_nul(void **state)
{
	(void)state;
	struct df_arena a;
	df_arena_init(&a, 1 << 20, 0);
	struct df_str s = df_arena_copy(&a, (struct df_str){"abcd", 3});
	assert_string_equal(s.p, "abc");
	assert_int_equal(df_arena_copy(&a, (struct df_str){NULL, 0}).n, 0);
	df_arena_release(&a);
	df_arena_init(&a, 10, 0);
	assert_null(df_arena_copy(&a, DF_STR("more than ten bytes")).p);
	df_arena_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arena__memory_is_aligned_and_does_not_overlap),
		cmocka_unit_test(test_arena__never_passes_its_maximum),
		cmocka_unit_test(test_arena__one_request_may_be_large),
		cmocka_unit_test(test_arena__reset_gives_a_huge_document_back),
		cmocka_unit_test(test_arena__reset_memory_is_used_again),
		cmocka_unit_test(test_arena__nothing_is_a_valid_pointer_and_zalloc_is_zero),
		cmocka_unit_test(test_arena__a_copy_ends_with_nul),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
