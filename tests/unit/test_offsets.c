// SPDX-License-Identifier: Apache-2.0
/* test_offsets: maps against a plain array that says for each edited byte where it came from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/text/offsets.h"

static struct df_arena arena;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)1 << 26, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static void assert_range(const struct df_offsets *map, size_t from, size_t to, size_t want_from, size_t want_to)
{
	size_t got_from, got_to;
	df_offsets_range(map, from, to, &got_from, &got_to);
	assert_int_equal(got_from, want_from);
	assert_int_equal(got_to, want_to);
}

static void test_offsets__null_is_the_identity(void **state)
{
	(void)state;
	assert_range(NULL, 3, 9, 3, 9);
	struct df_offsets *map;
	assert_int_equal(df_offsets_compose(&arena, NULL, NULL, &map), DF_OK);
	assert_null(map);
}

/* "  ab  cd" -> "ab cd": two deleted, then two blanks to one */
static struct df_offsets *blanks(void)
{
	struct df_offsets_builder b;
	struct df_offsets *map;
	df_offsets_begin(&b, &arena);
	df_offsets_add(&b, 0, 2, 0, 0);
	df_offsets_add(&b, 4, 6, 2, 3);
	assert_int_equal(df_offsets_finish(&b, &map), DF_OK);
	return map;
}

static void test_offsets__ranges_cover_what_was_replaced_and_leave_out_what_was_deleted(void **state)
{
	(void)state;
	const struct df_offsets *map = blanks();
	assert_range(map, 0, 2, 2, 4);
	assert_range(map, 2, 3, 4, 6);
	assert_range(map, 3, 5, 6, 8);
	assert_range(map, 0, 5, 2, 8);
	assert_range(map, 3, 3, 6, 6);
}

static void test_offsets__a_slice_counts_from_its_own_begin(void **state)
{
	(void)state;
	struct df_offsets *slice, *again;
	assert_int_equal(df_offsets_slice(&arena, blanks(), 1, &slice), DF_OK);
	assert_range(slice, 0, 1, 3, 4);
	assert_range(slice, 2, 4, 6, 8);
	assert_int_equal(df_offsets_slice(&arena, slice, 2, &again), DF_OK);
	assert_range(again, 0, 2, 6, 8);
	assert_int_equal(df_offsets_slice(&arena, NULL, 100, &slice), DF_OK);
	assert_range(slice, 0, 5, 100, 105);
}

static void test_offsets__editing_the_first_letter_of_a_chunk_does_not_reach_before_it(void **state)
{
	(void)state;
	struct df_offsets *slice, *map;
	struct df_offsets_builder b;
	struct df_offsets *edit;
	assert_int_equal(df_offsets_slice(&arena, NULL, 1000, &slice), DF_OK);
	df_offsets_begin(&b, &arena);
	df_offsets_add(&b, 0, 2, 0, 3);
	assert_int_equal(df_offsets_finish(&b, &edit), DF_OK);
	assert_int_equal(df_offsets_compose(&arena, edit, slice, &map), DF_OK);
	assert_range(map, 0, 3, 1000, 1002);
	assert_range(map, 3, 5, 1002, 1004);
}

/* What normalize answers after deleting at the front may be a composed map itself. */
static void test_offsets__three_steps_that_each_delete_at_the_front(void **state)
{
	(void)state;
	struct df_offsets *step[3], *two, *three;
	for (size_t i = 0; i < 3; i++) {
		struct df_offsets_builder b;
		df_offsets_begin(&b, &arena);
		df_offsets_add(&b, 0, i + 1, 0, 0);
		df_offsets_add(&b, 4 + i, 5 + i, 3, 5);
		assert_int_equal(df_offsets_finish(&b, &step[i]), DF_OK);
	}
	assert_int_equal(df_offsets_compose(&arena, step[2], step[1], &two), DF_OK);
	assert_int_equal(df_offsets_compose(&arena, two, step[0], &three), DF_OK);
	/* steps delete 1, 2 and 3 bytes; the middle of each becomes one byte longer */
	assert_range(two, 0, 1, 5, 6);
	assert_range(three, 0, 1, 5, 6);
	assert_range(three, 2, 3, 6, 7);
	assert_range(three, 3, 5, 7, 8);
	assert_range(three, 5, 6, 8, 9);
}

/* A random edit of a text of n bytes; origin_from/to[i]: of byte i of the result. */
static struct df_offsets *random_edit(struct df_rand *r, size_t n, size_t *from, size_t *to, size_t *ret_n)
{
	struct df_offsets_builder b;
	struct df_offsets *map;
	size_t at = 0, out = 0;
	df_offsets_begin(&b, &arena);
	while (at < n) {
		if (r->next(r->self) % 3) {
			from[out] = at;
			to[out++] = ++at;
			continue;
		}
		size_t take = r->next(r->self) % 4, give = r->next(r->self) % 4;
		take = take > n - at ? n - at : take;
		df_offsets_add(&b, at, at + take, out, out + give);
		for (size_t i = 0; i < give; i++) {
			from[out] = at;
			to[out++] = at + take;
		}
		at += take;
		if (at < n) { /* keeps edits apart */
			from[out] = at;
			to[out++] = ++at;
		}
	}
	assert_int_equal(df_offsets_finish(&b, &map), DF_OK);
	*ret_n = out;
	return map;
}

static void test_offsets__composed_maps_cover_what_two_steps_cover(void **state)
{
	(void)state;
	uint64_t seed = 3;
	struct df_rand r = df_rand_seeded(&seed);
	for (int i = 0; i < 20000; i++) {
		size_t from1[512], to1[512], from2[2048], to2[2048], n1, n2;
		struct df_offsets *inner = random_edit(&r, r.next(r.self) % 40, from1, to1, &n1), *outer, *map;
		for (size_t k = 0; k < n1; k++)
			assert_range(inner, k, k + 1, from1[k], to1[k]);
		size_t cut = n1 ? r.next(r.self) % n1 : 0; /* the outer one edits a slice of the inner one */
		struct df_offsets *slice;
		assert_int_equal(df_offsets_slice(&arena, inner, cut, &slice), DF_OK);
		outer = random_edit(&r, n1 - cut, from2, to2, &n2);
		assert_int_equal(df_offsets_compose(&arena, outer, slice, &map), DF_OK);
		size_t last = 0;
		for (size_t k = 0; k < n2; k++) {
			size_t from, to, mid_from = cut + from2[k], mid_to = cut + to2[k];
			df_offsets_range(map, k, k + 1, &from, &to);
			assert_true(from >= last && from <= to);
			last = from;
			if (mid_to == mid_from)
				continue;
			assert_true(from <= from1[mid_from]);
			assert_true(to >= to1[mid_to - 1]);
		}
		df_arena_reset(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offsets__null_is_the_identity),
		cmocka_unit_test(test_offsets__ranges_cover_what_was_replaced_and_leave_out_what_was_deleted),
		cmocka_unit_test(test_offsets__a_slice_counts_from_its_own_begin),
		cmocka_unit_test(test_offsets__editing_the_first_letter_of_a_chunk_does_not_reach_before_it),
		cmocka_unit_test(test_offsets__three_steps_that_each_delete_at_the_front),
		cmocka_unit_test(test_offsets__composed_maps_cover_what_two_steps_cover),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
