// SPDX-License-Identifier: Apache-2.0
/* test_normalize: what lower and normalize make of nasty text, and where each byte came from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/text/edit.h"
#include "worker/text/utf8.h"

static struct df_arena arena;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)1 << 28, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static struct df_str normal(bool nfc, bool whitespace, bool control, struct df_str text, struct df_offsets **ret_map)
{
	struct df_normalizer n;
	struct df_offsets *map;
	df_normalizer_init(&n, (struct df_normalize_options){nfc, whitespace, control});
	assert_int_equal(df_normalizer_run(&n, &arena, text, &text, &map), DF_OK);
	df_normalizer_release(&n);
	if (ret_map)
		*ret_map = map;
	return text;
}

static void assert_normal(struct df_str in, struct df_str want)
{
	struct df_str got = normal(true, true, true, in, NULL);
	assert_int_equal(got.n, want.n);
	assert_memory_equal(got.p ? got.p : "", want.p, want.n);
}

static void assert_lower(const char *in, const char *want)
{
	struct df_str got;
	struct df_offsets *map;
	assert_int_equal(df_text_lower(&arena, df_str_from(in), &got, &map), DF_OK);
	assert_true(df_str_is(got, want));
}

static void test_lower__is_full_unicode_lower_case(void **state)
{
	(void)state;
	assert_lower("", "");
	assert_lower("HeLLo [@`{] 0Z", "hello [@`{] 0z");
	assert_lower("\xC3\x89T\xC3\x89", "\xC3\xA9t\xC3\xA9");
	assert_lower("\xC4\xB0X", "i\xCC\x87x");              /* U+0130 */
	assert_lower("\xC8\xBA", "\xE2\xB1\xA5");             /* 2 bytes become 3 */
	assert_lower("\xE2\x84\xAA", "k");                    /* Kelvin sign: 3 bytes become 1 */
	assert_lower("\xF0\x90\x90\x80", "\xF0\x90\x90\xA8"); /* Deseret */
	assert_lower("\xE1\xBA\x9E", "\xC3\x9F");             /* capital sharp s */
}

static void test_lower__knows_the_final_sigma(void **state)
{
	(void)state;
	assert_lower("\xCE\x9F\xCE\xA3", "\xCE\xBF\xCF\x82");                 /* at the end */
	assert_lower("\xCE\xA3", "\xCF\x83");                                 /* alone */
	assert_lower("\xCE\x9F\xCE\xA3\xCE\x9F", "\xCE\xBF\xCF\x83\xCE\xBF"); /* inside */
	assert_lower("A\xCE\xA3'B", "a\xCF\x83'b");                           /* ' is case-ignorable */
	assert_lower("A.\xCE\xA3 B", "a.\xCF\x82 b");
}

static void test_normalize__tidies_white_space(void **state)
{
	(void)state;
	assert_normal(DF_STR("  a \t b  "), DF_STR("a b"));
	assert_normal(DF_STR("a\r\nb\rc\x0B"
			     "d\x0C"
			     "e"),
		      DF_STR("a\nb\nc\nd\ne"));
	assert_normal(DF_STR("a \n \n\n b"), DF_STR("a\n\nb"));
	assert_normal(DF_STR("a\r\n\r\nb"), DF_STR("a\n\nb"));
	assert_normal(DF_STR("a\xC2\xA0\xE3\x80\x80"
			     "b\xE2\x80\xA9\xE2\x80\xA8"
			     "c\xC2\x85"
			     "d"),
		      DF_STR("a b\n\nc\nd"));
	assert_normal(DF_STR(" \n\t "), DF_STR(""));
	assert_normal(DF_STR(""), DF_STR(""));
}

static void test_normalize__removes_what_cannot_be_seen(void **state)
{
	(void)state;
	assert_normal(DF_STR("\xEF\xBB\xBF"
			     "a\0b\x7F\x1B"
			     "c\xC2\x80"),
		      DF_STR("abc"));
	assert_normal(DF_STR("a \xE2\x80\x8B b\xE2\x81\xA0"), DF_STR("a b"));
	/* joiners carry meaning */
	assert_normal(DF_STR("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB"),
		      DF_STR("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB"));
}

static void test_normalize__composes_across_what_was_removed(void **state)
{
	(void)state;
	assert_normal(DF_STR("e\xCC\x81"), DF_STR("\xC3\xA9"));
	assert_normal(DF_STR("e\xE2\x80\x8B\xCC\x81"), DF_STR("\xC3\xA9"));
	assert_normal(DF_STR("a\xCC\x87\xCC\xA3"), DF_STR("\xE1\xBA\xA1\xCC\x87"));            /* marks out of order */
	assert_normal(DF_STR("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"), DF_STR("\xED\x95\x9C")); /* jamo */
	assert_normal(DF_STR("\xE2\x84\xAB \xEF\xA4\x80"), DF_STR("\xC3\x85 \xE8\xB1\x88"));   /* singletons */
	assert_normal(DF_STR("\xE0\xA5\x98"), DF_STR("\xE0\xA4\x95\xE0\xA4\xBC")); /* an exclusion: it grows */
	assert_normal(DF_STR("\xCC\x81"), DF_STR("\xCC\x81"));                     /* a mark alone */
}

static void test_normalize__keeps_each_part_it_is_told_to(void **state)
{
	(void)state;
	assert_true(df_str_is(normal(false, false, false, DF_STR(" e\xCC\x81 \x01 "), NULL), " e\xCC\x81 \x01 "));
	assert_true(df_str_is(normal(true, false, false, DF_STR(" e\xCC\x81 \x01 "), NULL), " \xC3\xA9 \x01 "));
	assert_true(df_str_is(normal(false, false, true, DF_STR(" \r\n\x01  "), NULL), " \r\n  "));
	assert_true(df_str_is(normal(false, true, false, DF_STR(" a \x01 b"), NULL), "a \x01 b"));
}

static void test_normalize__leaves_a_mountain_of_marks_and_stays_fast(void **state)
{
	(void)state;
	size_t n = 2 << 20;
	char *text = malloc(n + 1);
	assert_non_null(text);
	text[0] = 'a';
	for (size_t i = 0; i < n / 4; i++) /* classes 230, 220: each pair is out of order */
		(void)df_utf8_put(text + 1 + 4 * i, 0x301), (void)df_utf8_put(text + 3 + 4 * i, 0x323);
	struct df_str got = normal(true, true, true, (struct df_str){text, n + 1}, NULL);
	assert_int_equal(got.n, n + 1);
	free(text);
}

/* What lies at a place of the result came from a range of the source that, normalised alone, holds it. */
static void test_normalize__a_second_run_changes_nothing_and_maps_lead_back(void **state)
{
	(void)state;
	static const uint32_t some[] = {'a',    'e',    'z',    ' ',   ' ',     '\n',  '\r',   '\t',   0,
					0x301,  0x323,  0x200B, 0xA0,  0x2028,  0xE9,  0x1100, 0x1161, 0x11A8,
					0xAC00, 0x4E2D, 0xFEFF, 0x958, 0x1F600, 0x130, 0x3A3};
	uint64_t seed = 7;
	struct df_rand r = df_rand_seeded(&seed);
	for (int i = 0; i < 20000; i++) {
		char text[1024];
		size_t n = 0, n_cp = r.next(r.self) % 120;
		for (size_t k = 0; k < n_cp; k++)
			n += df_utf8_put(text + n, some[r.next(r.self) % (sizeof(some) / sizeof(some[0]))]);
		struct df_offsets *map;
		struct df_str in = {text, n}, once = normal(true, true, true, in, &map);
		assert_int_equal(df_utf8_valid_prefix(once), once.n);
		struct df_str twice = normal(true, true, true, once, NULL);
		assert_true(df_str_eq(once, twice));
		for (size_t at = 0, last = 0; at < once.n;) {
			size_t begin = at, from, to;
			uint32_t cp = df_utf8_decode(once.p, once.n, &at);
			df_offsets_range(map, begin, at, &from, &to);
			assert_true(from >= last && from < to && to <= in.n);
			assert_int_equal(df_utf8_floor(in, from), from);
			assert_int_equal(df_utf8_floor(in, to), to);
			if (cp == 'z' || cp == 0x4E2D || cp == 0x1F600) /* never change */
				assert_non_null(memmem(in.p + from, to - from, once.p + begin, at - begin));
			last = from;
		}
		df_arena_reset(&arena);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lower__is_full_unicode_lower_case),
		cmocka_unit_test(test_lower__knows_the_final_sigma),
		cmocka_unit_test(test_normalize__tidies_white_space),
		cmocka_unit_test(test_normalize__removes_what_cannot_be_seen),
		cmocka_unit_test(test_normalize__composes_across_what_was_removed),
		cmocka_unit_test(test_normalize__keeps_each_part_it_is_told_to),
		cmocka_unit_test(test_normalize__leaves_a_mountain_of_marks_and_stays_fast),
		cmocka_unit_test(test_normalize__a_second_run_changes_nothing_and_maps_lead_back),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
