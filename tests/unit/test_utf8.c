// SPDX-License-Identifier: Apache-2.0
/* test_utf8: bad bytes are found where they are; counting and cutting agree with a plain loop; measures agree with Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/text/edit.h"
#include "worker/text/measure.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

static void test_utf8__reports_the_first_bad_byte(void **state)
{
	(void)state;
	const struct {
		struct df_str bytes;
		size_t good;
	} cases[] = {
		{DF_STR("\xC0\x80"), 0},         /* overlong NUL */
		{DF_STR("a\xC1\xBF"), 1},        /* overlong */
		{DF_STR("ab\xE0\x9F\xBF"), 2},   /* overlong, three bytes */
		{DF_STR("\xE0\xA0\x80"), 3},     /* U+0800 */
		{DF_STR("x\xED\xA0\x80yz"), 1},  /* surrogate */
		{DF_STR("\xED\x9F\xBF."), 4},    /* U+D7FF */
		{DF_STR("\xF0\x8F\xBF\xBF"), 0}, /* overlong, four bytes */
		{DF_STR("\xF4\x8F\xBF\xBF"), 4}, /* U+10FFFF */
		{DF_STR("\xF4\x90\x80\x80"), 0}, /* U+110000 */
		{DF_STR("\xF5\x80\x80\x80"), 0},
		{DF_STR("\xFF"), 0},
		{DF_STR("\x80"), 0},         /* a lone tail */
		{DF_STR("\xC3\xA9\xC3"), 2}, /* cut at the end */
		{DF_STR("\xE4\xB8\xAD\xE4\xB8"), 3},
		{DF_STR("\xE4\xB8\xAD\xE4\xB8z"), 3},
		{DF_STR("\xF0\x9F\x98"), 0},
		{DF_STR("a\0b"), 3}, /* NUL is a character */
		{DF_STR(""), 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(df_utf8_valid_prefix(cases[i].bytes), cases[i].good);
}

static void test_utf8__finds_a_bad_byte_at_every_place_of_a_long_text(void **state)
{
	(void)state;
	static const char *const fills[] = {"a", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80"};
	for (size_t f = 0; f < 4; f++) {
		char text[240];
		size_t len = f + 1, n = sizeof(text) / len * len;
		for (size_t i = 0; i < n; i++)
			text[i] = fills[f][i % len];
		assert_int_equal(df_utf8_valid_prefix((struct df_str){text, n}), n);
		assert_int_equal(df_utf8_count((struct df_str){text, n}), n / len);
		for (size_t i = 0; i < n; i++) {
			char kept = text[i];
			text[i] = (char)0xFF;
			assert_int_equal(df_utf8_valid_prefix((struct df_str){text, n}), i / len * len);
			text[i] = kept;
		}
	}
}

static void test_utf8__agrees_with_decoding_and_encoding_every_code_point(void **state)
{
	(void)state;
	for (uint32_t cp = 0; cp < 0x110000; cp++) {
		char out[4];
		size_t n = df_utf8_put(out, cp), at = 0;
		bool surrogate = cp >= 0xD800 && cp < 0xE000;
		assert_int_equal(df_utf8_valid_prefix((struct df_str){out, n}), surrogate ? 0 : n);
		assert_int_equal(df_utf8_decode(out, n, &at), cp);
		assert_int_equal(at, n);
	}
}

static size_t make_text(struct df_rand *r, char *out, size_t n_cp)
{
	static const uint32_t some[] = {'a',    'b',    ' ',    '\n',   '\r',   '\t',   0x1C,   0x85,   0xA0,    0xE9,
					0x1680, 0x2003, 0x2028, 0x2029, 0x3000, 0x3042, 0x4E2D, 0x205F, 0x1F600, '.'};
	size_t n = 0;
	for (size_t i = 0; i < n_cp; i++)
		n += df_utf8_put(out + n, some[r->next(r->self) % (sizeof(some) / sizeof(some[0]))]);
	return n;
}

/* The definitions, one code point at a time. */
static struct df_measure measure_plainly(struct df_str s)
{
	struct df_measure m = {.bytes = s.n};
	bool space = true, open = false;
	uint32_t last = 0;
	for (size_t at = 0; at < s.n; m.chars++) {
		uint32_t cp = df_utf8_decode(s.p, s.n, &at);
		bool now = df_uc_is_space(cp);
		m.words += space && !now;
		space = now;
		if (cp == '\n' && last == '\r')
			open = false;
		else if (df_uc_is_line_break(cp))
			m.lines++, open = false;
		else
			open = true;
		last = cp;
	}
	m.lines += open;
	return m;
}

static void test_measure__agrees_with_its_definition_on_random_text(void **state)
{
	(void)state;
	uint64_t seed = 1;
	struct df_rand r = df_rand_seeded(&seed);
	char text[1200];
	for (int i = 0; i < 20000; i++) {
		struct df_str s = {text, make_text(&r, text, r.next(r.self) % 300)};
		struct df_measure a = df_text_measure(s), b = measure_plainly(s);
		assert_int_equal(a.chars, b.chars);
		assert_int_equal(a.words, b.words);
		assert_int_equal(a.lines, b.lines);
		assert_int_equal(df_utf8_count(s), b.chars);
		if (b.chars > 0) {
			size_t k = r.next(r.self) % (b.chars + 1), at = df_utf8_advance(s, 0, k);
			assert_int_equal(df_utf8_count((struct df_str){text, at}), k);
			assert_int_equal(df_utf8_floor(s, at), at);
		}
	}
}

static void test_measure__counts_as_python_does(void **state)
{
	(void)state;
	/* "".split(), .splitlines() by CPython 3.11 */
	const struct {
		struct df_str text;
		size_t words, lines;
	} cases[] = {
		{DF_STR(""), 0, 0},
		{DF_STR("\n"), 0, 1},
		{DF_STR("a"), 1, 1},
		{DF_STR("a\n"), 1, 1},
		{DF_STR("a\r\nb\r"), 2, 2},
		{DF_STR("\n\r"), 0, 2},
		{DF_STR("a\x1C"
			"b\x1F"
			"c"),
		 3, 2},
		{DF_STR("a\xC2\x85"
			"b"),
		 2, 2},
		{DF_STR("a\xE2\x80\xA8"), 1, 1},
		{DF_STR("a\xE2\x80\x8B"
			"b"),
		 1, 1},
		{DF_STR("\xE3\x80\x80x\xC2\xA0y"), 2, 1},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_measure m = df_text_measure(cases[i].text);
		assert_int_equal(m.words, cases[i].words);
		assert_int_equal(m.lines, cases[i].lines);
	}
}

static void test_strip__removes_unicode_white_space_at_both_ends_only(void **state)
{
	(void)state;
	struct df_str s = df_text_strip(DF_STR("\xE3\x80\x80 \x1F\na\xC2\xA0z\xE2\x80\x89\t"));
	assert_true(df_str_is(s, "a\xC2\xA0z"));
	assert_int_equal(df_text_strip(DF_STR(" \xE2\x80\xAF\n")).n, 0);
	assert_int_equal(df_text_strip(DF_STR("")).n, 0);
	assert_int_equal(df_text_strip(DF_STR("\xE2\x80\x8B")).n, 3); /* U+200B is no white space */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_utf8__reports_the_first_bad_byte),
		cmocka_unit_test(test_utf8__finds_a_bad_byte_at_every_place_of_a_long_text),
		cmocka_unit_test(test_utf8__agrees_with_decoding_and_encoding_every_code_point),
		cmocka_unit_test(test_measure__agrees_with_its_definition_on_random_text),
		cmocka_unit_test(test_measure__counts_as_python_does),
		cmocka_unit_test(test_strip__removes_unicode_white_space_at_both_ends_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
