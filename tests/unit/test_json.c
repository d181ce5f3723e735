// SPDX-License-Identifier: Apache-2.0
/* test_json: the strict reader and the writer. Inputs live in exact heap copies: a sanitizer sees a read past the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <math.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/limits.h"

static struct df_arena arena;
static struct df_fail fail;
static char *exact;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	exact = NULL;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	free(exact);
	return 0;
}

static enum df_err parse_n(const char *p, size_t n, struct df_json **ret)
{
	free(exact);
	exact = malloc(n ? n : 1);
	assert_non_null(exact);
	memcpy(exact, p, n);
	return df_json_parse((struct df_str){exact, n}, &arena, ret, &fail);
}

static enum df_err parse(const char *z, struct df_json **ret)
{
	return parse_n(z, strlen(z), ret);
}

static void test_json__reads_every_type(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(parse(" {\"a\":[null,true,false,-1.5e2,\"x\\u00e9\\ud83d\\ude00\\n\"],\"b\":{},\"a2\":"
			       "18446744073709551615}\n",
			       &v),
			 DF_OK);
	assert_int_equal(v->n, 3);
	const struct df_json *a = df_json_get(v, "a")->child;
	assert_int_equal(a->type, DF_JSON_NULL);
	assert_true(a->next->boolean && !a->next->next->boolean);
	assert_true(a->next->next->next->number == -150 && a->next->next->next->u64 == 0);
	assert_true(df_str_is(a->next->next->next->next->string, "x\xc3\xa9\xf0\x9f\x98\x80\n"));
	assert_true(df_json_get_u64(v, "a2", 0) == UINT64_MAX);
	assert_int_equal(df_json_get_u64(v, "b", 7), 7);
	assert_null(df_json_get(df_json_get(v, "none"), "x"));
}

static void test_json__empty_text_without_an_address_is_no_value(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(df_json_parse((struct df_str){0}, &arena, &v, &fail), DF_ERR_PARSE);
	assert_null(v);
}

static void test_json__keeps_the_raw_span_of_each_value(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(parse(" { \"a\" : [ 1 , {\"x\":\"\\u0041\"} ] , \"b\" : -0.0 } ", &v), DF_OK);
	assert_true(df_str_is(df_json_get(v, "a")->raw, "[ 1 , {\"x\":\"\\u0041\"} ]"));
	assert_true(df_str_is(df_json_get(v, "b")->raw, "-0.0"));
	assert_true(df_str_is(v->raw, "{ \"a\" : [ 1 , {\"x\":\"\\u0041\"} ] , \"b\" : -0.0 }"));
}

static void test_json__numbers_are_those_of_the_rfc(void **state)
{
	(void)state;
	static const char *const good[] = {
		"0",     "-0",
		"1",     "10",
		"0.5",   "-0.5e-3",
		"1e5",   "1E+5",
		"1e400", "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"};
	static const char *const wrong[] = {"01",       "-01", "1.",        ".5",    "-",     "+1",
					    "1e",       "1e+", "--1",       "0x10",  "1.5.2", "1e5.5",
					    "Infinity", "NaN", "-Infinity", "1_000", "00"};
	struct df_json *v = NULL;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(parse(good[i], &v), DF_OK);
		assert_true(v->number == strtod(good[i], NULL));
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(wrong[i], &v), DF_ERR_PARSE);
	assert_int_equal(parse("1e400", &v), DF_OK);
	assert_true(isinf(v->number));
}

static void test_json__money_needs_no_exponent(void **state)
{
	(void)state;
	static const struct {
		double usd;
		const char *text;
	} row[] = {{0, "0"},
		   {1e-5, "0.00001"},
		   {1e-9, "0.000000001"},
		   {4e-10, "0"},
		   {-1e-12, "0"},
		   {10, "10"},
		   {2.5, "2.5"},
		   {0.1 * 3e-6, "0.0000003"},
		   {1e15, "1000000000000000"},
		   {100, "100"}};
	struct df_buf b;
	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		df_buf_init(&b, 1000);
		assert_int_equal(df_json_add_usd(&b, row[i].usd), DF_OK);
		assert_string_equal(df_buf_z(&b), row[i].text);
		df_buf_release(&b);
	}
	df_buf_init(&b, 1000);
	assert_int_equal(df_json_add_usd(&b, (double)NAN), DF_OK);
	assert_string_equal(df_buf_z(&b), "null");
	df_buf_release(&b);
}

static void test_json__cut_anywhere_is_an_error_and_reads_no_further(void **state)
{
	(void)state;
	static const char whole[] = "{\"a\":[1,true,null,\"\\u00e9\\ud83d\\ude00\\\\\\\"\"],\"b\":{\"c\":-1.5e-7}}";
	struct df_json *v = NULL;
	for (size_t n = 0; n < sizeof(whole) - 1; n++)
		assert_int_not_equal(parse_n(whole, n, &v), DF_OK);
	assert_int_equal(parse_n(whole, sizeof(whole) - 1, &v), DF_OK);
}

static void test_json__what_is_not_json_is_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"",
		" ",
		"\"",
		"\"\\",
		"\"\\\"",
		"\"\\u",
		"\"\\u1\"",
		"\"\\u12\"34",
		"\"\\x41\"",
		"\"\\'\"",
		"\"a\nb\"",
		"\"\t\"",
		"\"\\ud800\"",
		"\"\\ud800\\u0041\"",
		"\"\\udc00\"",
		"\"\\ud800\\ud800\"",
		"[1,]",
		"[,1]",
		"[1 2]",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{a:1}",
		"{'a':1}",
		"{1:1}",
		"[}",
		"{]",
		"]",
		"}",
		"nul",
		"True",
		"tru",
		"1 2",
		"[1]x",
		"// c\n1",
		"/**/1",
		"\"a\" \"b\"",
		"\xef\xbb\xbf{}",
		"undefined",
		",",
		":",
	};
	struct df_json *v = NULL;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(wrong[i], &v), DF_ERR_PARSE);
	assert_int_equal(parse_n("\"a\0b\"", 5, &v), DF_ERR_PARSE);
	assert_int_equal(parse_n("\"\\\0\"", 4, &v), DF_ERR_PARSE);
	assert_int_equal(parse_n("1\0", 2, &v), DF_ERR_PARSE);
	assert_null(v);
}

static void test_json__bytes_that_are_not_utf8_are_refused(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"\"\xff\"",     "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"",
		"\"\xe2\x82\"", "\x80"};
	struct df_json *v = NULL;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse(wrong[i], &v), DF_ERR_UTF8);
	assert_int_equal(parse("\"\xf4\x8f\xbf\xbf\"", &v), DF_OK);
}

static void test_json__depth_is_bounded(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	char deep[200];
	for (size_t depth = 1; depth <= 80; depth++) {
		memset(deep, '[', depth);
		memset(deep + depth, ']', depth);
		assert_int_equal(parse_n(deep, 2 * depth, &v), depth <= DF_JSON_DEPTH + 1 ? DF_OK : DF_ERR_LIMIT);
	}
	static char million[1000000];
	memset(million, '[', sizeof(million));
	assert_int_equal(parse_n(million, sizeof(million), &v), DF_ERR_LIMIT);
}

static void test_json__errors_have_line_and_column(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(parse("{\n \"a\": 01\n}", &v), DF_ERR_PARSE);
	assert_non_null(strstr(fail.msg, "line 2, column 8"));
}

static void test_json__the_last_of_equal_keys_counts(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(parse("{\"a\":1,\"a\":2}", &v), DF_OK);
	assert_int_equal(df_json_get_u64(v, "a", 0), 2);
}

static void test_json__items_are_found_by_their_number(void **state)
{
	(void)state;
	struct df_json *v = NULL;
	assert_int_equal(parse("[5, \"b\", [7]]", &v), DF_OK);
	assert_int_equal(df_json_item(v, DF_STR("0"))->u64, 5);
	assert_true(df_str_is(df_json_item(v, DF_STR("1"))->string, "b"));
	assert_int_equal(df_json_item(df_json_item(v, DF_STR("2")), DF_STR("0"))->u64, 7);
	static const char *const none[] = {"3", "", "-1", "x", "1x", "99999999999999999999"};
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_null(df_json_item(v, df_str_from(none[i])));
	assert_null(df_json_item(NULL, DF_STR("0")));
	assert_null(df_json_item(v->child, DF_STR("0")));
	assert_null(df_json_member(v, DF_STR("0")));
}

static void test_json__out_of_memory_is_told(void **state)
{
	(void)state;
	struct df_arena small;
	struct df_json *v = NULL;
	df_arena_init(&small, 70000, 0);
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	(void)df_buf_addc(&b, '[');
	for (int i = 0; i < 10000; i++)
		(void)df_buf_addz(&b, "1,");
	(void)df_buf_addz(&b, "1]");
	assert_int_equal(df_json_parse(df_buf_str(&b), &small, &v, &fail), DF_ERR_NOMEM);
	df_buf_release(&b);
	df_arena_release(&small);
}

static void assert_writes(const char *p, size_t n, const char *want)
{
	struct df_buf b;
	df_buf_init(&b, 10000);
	assert_int_equal(df_json_add_string(&b, (struct df_str){p, n}), DF_OK);
	assert_int_equal(b.n, strlen(want));
	assert_memory_equal(b.p, want, b.n);
	df_buf_release(&b);
}

static void test_json__writes_strings_that_read_back(void **state)
{
	(void)state;
	assert_writes("", 0, "\"\"");
	assert_writes("a\"b\\c\b\f\n\r\t\x01\x7f/\xc3\xa9", 15,
		      "\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u007f/\xc3\xa9\"");
	assert_writes("a\0b", 3, "\"a\\u0000b\"");
	struct df_json *v = NULL;
	for (size_t at = 0; at < 24; at++) /* every place inside and between the eight-byte steps */
		for (unsigned c = 0; c < 0x80; c++) {
			char text[24];
			struct df_buf b;
			memset(text, 'x', sizeof(text));
			text[at] = (char)c;
			df_buf_init(&b, 1000);
			assert_int_equal(df_json_add_string(&b, (struct df_str){text, sizeof(text)}), DF_OK);
			assert_int_equal(parse_n(b.p, b.n, &v), DF_OK);
			assert_int_equal(v->string.n, sizeof(text));
			assert_memory_equal(v->string.p, text, sizeof(text));
			df_buf_release(&b);
			df_arena_reset(&arena);
		}
}

static void test_json__floats_read_back_the_same(void **state)
{
	(void)state;
	uint32_t bits = 1;
	for (int i = 0; i < 100000; i++) {
		float f;
		struct df_buf b;
		bits = bits * 1664525U + 1013904223U;
		memcpy(&f, &bits, sizeof(f));
		df_buf_init(&b, 100);
		assert_int_equal(df_json_add_f32(&b, f), DF_OK);
		assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
		if (isfinite(f))
			assert_true(strtof(b.p, NULL) == f);
		else
			assert_string_equal(b.p, "null");
		df_buf_release(&b);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_json__reads_every_type),
		T(test_json__empty_text_without_an_address_is_no_value),
		T(test_json__keeps_the_raw_span_of_each_value),
		T(test_json__numbers_are_those_of_the_rfc),
		T(test_json__money_needs_no_exponent),
		T(test_json__cut_anywhere_is_an_error_and_reads_no_further),
		T(test_json__what_is_not_json_is_refused),
		T(test_json__bytes_that_are_not_utf8_are_refused),
		T(test_json__depth_is_bounded),
		T(test_json__errors_have_line_and_column),
		T(test_json__the_last_of_equal_keys_counts),
		T(test_json__items_are_found_by_their_number),
		T(test_json__out_of_memory_is_told),
		T(test_json__writes_strings_that_read_back),
		T(test_json__floats_read_back_the_same),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
