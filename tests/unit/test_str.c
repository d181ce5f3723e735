// SPDX-License-Identifier: Apache-2.0
/* test_str: slices, numbers out of them, distances of names, UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/str.h"

#define S(z) df_str_from(z)

static void test_str__trim_and_affixes(void **state)
{
	(void)state;
	assert_true(df_str_is(df_str_trim(S(" \t\r\n a b \n")), "a b"));
	assert_int_equal(df_str_trim(S(" \n ")).n, 0);
	assert_int_equal(df_str_trim((struct df_str){NULL, 0}).n, 0);
	assert_true(df_str_starts(S("abc"), "ab") && !df_str_starts(S("a"), "ab") && df_str_starts(S(""), ""));
	assert_true(df_str_ends(S("abc"), "bc") && !df_str_ends(S("c"), "bc"));
	assert_true(df_str_eq((struct df_str){NULL, 0}, S("")));
	assert_false(df_str_eq(S("a"), S("b")));
}

static void test_str__whole_numbers_take_the_whole_slice_and_their_whole_range(void **state)
{
	(void)state;
	uint64_t u = 7;
	int64_t i = 7;
	static const char *const wrong[] = {"", " 1", "1 ", "+1", "0x1", "1e3", "1.0", "-", "--1", "a"};
	for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
		assert_int_equal(df_str_to_u64(S(wrong[k]), &u), DF_ERR_PARSE);
		assert_int_equal(df_str_to_i64(S(wrong[k]), &i), DF_ERR_PARSE);
	}
	assert_int_equal(df_str_to_u64(S("18446744073709551616"), &u), DF_ERR_RANGE);
	assert_int_equal(df_str_to_i64(S("9223372036854775808"), &i), DF_ERR_RANGE);
	assert_int_equal(df_str_to_i64(S("-9223372036854775809"), &i), DF_ERR_RANGE);
	assert_true(u == 7 && i == 7);
	assert_int_equal(df_str_to_u64(S("18446744073709551615"), &u), DF_OK);
	assert_int_equal(df_str_to_i64(S("-9223372036854775808"), &i), DF_OK);
	assert_true(u == UINT64_MAX && i == INT64_MIN);
	assert_int_equal(df_str_to_i64(S("9223372036854775807"), &i), DF_OK);
	assert_true(i == INT64_MAX);
	assert_int_equal(df_str_to_i64(S("-0"), &i), DF_OK);
	assert_int_equal(i, 0);
}

static void test_str__numbers_are_finite(void **state)
{
	(void)state;
	double d = 7;
	static const char *const wrong[] = {"", " 1", "1 ", "nan", "inf", "-inf", "1e999", "x", "1,5"};
	for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++)
		assert_int_equal(df_str_to_double(S(wrong[k]), &d), DF_ERR_PARSE);
	assert_true(d == 7);
	assert_int_equal(df_str_to_double(S("-1.5e3"), &d), DF_OK);
	assert_true(d == -1500);
}

static void test_str__sizes_have_units(void **state)
{
	(void)state;
	static const struct {
		const char *z;
		uint64_t n;
	} good[] = {{"0", 0},         {"7b", 7},         {"1k", 1024},    {"8m", 8 << 20},
		    {"8MB", 8 << 20}, {"8MiB", 8 << 20}, {"1G", 1 << 30}, {"16777215t", UINT64_C(16777215) << 40}};
	static const char *const wrong[] = {"", "m", "-1", "1.5m", "1x", "1mm", "1mib2", "1 m", "1ki", "1bb"};
	uint64_t n = 7;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(df_str_to_size(S(good[i].z), &n), DF_OK);
		assert_true(n == good[i].n);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_not_equal(df_str_to_size(S(wrong[i]), &n), DF_OK);
	assert_int_equal(df_str_to_size(S("16777216t"), &n), DF_ERR_RANGE);
}

static void test_str__distance_counts_swaps_once(void **state)
{
	(void)state;
	assert_int_equal(df_str_distance(S("chunk"), S("chunk")), 0);
	assert_int_equal(df_str_distance(S("chunkk"), S("chunk")), 1);
	assert_int_equal(df_str_distance(S("cuhnk"), S("chunk")), 1);
	assert_int_equal(df_str_distance(S(""), S("abc")), 3);
	assert_int_equal(df_str_distance(S("abc"), S("")), 3);
	assert_int_equal(df_str_distance(S("kitten"), S("sitting")), 3);
	char a[500], b[500];
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	assert_int_equal(df_str_distance((struct df_str){a, 500}, (struct df_str){b, 500}), 64);
}

/* Against a plain reading of RFC 3629: decode, then check ranges and shortest form. */
static bool valid_sequence(const unsigned char *p, size_t n)
{
	uint32_t c;
	if (n == 1)
		return p[0] < 0x80;
	if (n == 2 && (p[0] & 0xe0) == 0xc0)
		c = (p[0] & 0x1fU) << 6 | (p[1] & 0x3fU);
	else if (n == 3 && (p[0] & 0xf0) == 0xe0)
		c = (p[0] & 0x0fU) << 12 | (p[1] & 0x3fU) << 6 | (p[2] & 0x3fU);
	else if (n == 4 && (p[0] & 0xf8) == 0xf0)
		c = (p[0] & 0x07U) << 18 | (p[1] & 0x3fU) << 12 | (p[2] & 0x3fU) << 6 | (p[3] & 0x3fU);
	else
		return false;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return false;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	return c >= least[n] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

static void test_str__utf8_prefix_agrees_with_the_rfc_on_every_sequence(void **state)
{
	(void)state;
	static const unsigned char tails[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
	for (unsigned a = 0; a < 256; a++)
		for (unsigned b = 0; b < 256; b++)
			for (unsigned c = 0; c < sizeof(tails); c++)
				for (unsigned d = 0; d < sizeof(tails); d++) {
					unsigned char p[4] = {(unsigned char)a, (unsigned char)b, tails[c], tails[d]};
					for (size_t n = 1; n <= 4; n++) {
						size_t want = 0;
						while (want < n) {
							size_t step = 1;
							while (step <= n - want && step <= 4 &&
							       !valid_sequence(p + want, step))
								step++;
							if (step > n - want || step > 4)
								break;
							want += step;
						}
						assert_int_equal(df_str_utf8_prefix((struct df_str){(char *)p, n}),
								 want);
					}
				}
}

static void test_str__dup_is_a_c_string(void **state)
{
	(void)state;
	char *z = df_str_dup((struct df_str){"abcd", 2});
	assert_string_equal(z, "ab");
	free(z);
	z = df_str_dup((struct df_str){NULL, 0});
	assert_string_equal(z, "");
	free(z);
}

static void test_str__make_utf8_replaces_bytes_that_are_none(void **state)
{
	(void)state;
	static const char *const row[][2] = {{"", ""},
					     {"a\xc3\xa9", "a\xc3\xa9"},
					     {"\xc3", "?"},
					     {"a\xff\xfe"
					      "b",
					      "a??b"},
					     {"\xe6\xbc", "??"},
					     {"\xe6\xbc...", "??..."},
					     {"\xed\xa0\x80\xc3\xa9", "???\xc3\xa9"}};
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		char z[16];
		(void)snprintf(z, sizeof(z), "%s", row[i][0]);
		df_str_make_utf8(z);
		assert_string_equal(z, row[i][1]);
	}
	struct df_fail fail;
	(void)df_fail(&fail, DF_ERR_IO, "x%0*d%s", (int)sizeof(fail.msg) - 6, 0, "\xe6\xbc\xa2\xe6\xbc\xa2");
	assert_int_equal(df_str_utf8_prefix(df_str_from(fail.msg)), strlen(fail.msg));
	assert_int_equal(strlen(fail.msg), sizeof(fail.msg) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str__trim_and_affixes),
		cmocka_unit_test(test_str__whole_numbers_take_the_whole_slice_and_their_whole_range),
		cmocka_unit_test(test_str__numbers_are_finite),
		cmocka_unit_test(test_str__sizes_have_units),
		cmocka_unit_test(test_str__distance_counts_swaps_once),
		cmocka_unit_test(test_str__utf8_prefix_agrees_with_the_rfc_on_every_sequence),
		cmocka_unit_test(test_str__make_utf8_replaces_bytes_that_are_none),
		cmocka_unit_test(test_str__dup_is_a_c_string),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
