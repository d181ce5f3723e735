// SPDX-License-Identifier: Apache-2.0
/* test_conf: option rows: parsing, errors, suggestions, help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/conf.h"

struct options {
	bool flag;
	int64_t count;
	uint64_t size;
	double part;
	struct df_str text;
	int word;
	struct df_str_list list;
};

#define AT(m) offsetof(struct options, m)
static const struct df_opt rows[] = {
	{.name = "flag", .type = DF_OPT_BOOL, .offset = AT(flag), .help = "a flag"},
	{.name = "min_chars",
	 .type = DF_OPT_INT,
	 .offset = AT(count),
	 .initial = "5",
	 .min = 1,
	 .max = 100,
	 .help = "a count"},
	{.name = "size",
	 .type = DF_OPT_SIZE,
	 .offset = AT(size),
	 .initial = "8m",
	 .min = 1024,
	 .max = 1 << 30,
	 .help = "a size"},
	{.name = "part", .type = DF_OPT_FLOAT, .offset = AT(part), .min = 0, .max = 1, .help = "a part"},
	{.name = "text", .type = DF_OPT_STRING, .offset = AT(text), .max = 8, .initial = "abc", .help = "a text"},
	{.name = "word",
	 .type = DF_OPT_ENUM,
	 .offset = AT(word),
	 .choices = "jsonl|npy|both",
	 .initial = "npy",
	 .help = "a | b"},
	{.name = "list", .type = DF_OPT_LIST, .offset = AT(list), .required = true, .help = "a list"},
	{.name = NULL},
};

static struct df_arena arena;
static struct options o;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 1 << 20, 0);
	df_conf_defaults(rows, &arena, &o, sizeof(o));
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static enum df_err set(const char *name, const char *value)
{
	return df_conf_set(rows, &arena, &o, df_str_from(name), df_str_from(value), &fail);
}

static void test_conf__defaults_are_those_of_the_rows(void **state)
{
	(void)state;
	assert_false(o.flag);
	assert_int_equal(o.count, 5);
	assert_int_equal(o.size, 8 << 20);
	assert_true(o.part == 0);
	assert_true(df_str_is(o.text, "abc"));
	assert_int_equal(o.word, 1);
	assert_int_equal(o.list.n, 0);
}

static void test_conf__each_type_is_set_from_text(void **state)
{
	(void)state;
	assert_int_equal(set("flag", "on"), DF_OK);
	assert_int_equal(set("min_chars", "100"), DF_OK);
	assert_int_equal(set("size", "64KiB"), DF_OK);
	assert_int_equal(set("part", "0.25"), DF_OK);
	assert_int_equal(set("text", ""), DF_OK);
	assert_int_equal(set("word", "both"), DF_OK);
	assert_int_equal(set("list", " a, b ,,c"), DF_OK);
	assert_true(o.flag && o.count == 100 && o.size == 65536 && o.part == 0.25 && o.text.n == 0 && o.word == 2);
	assert_int_equal(o.list.n, 3);
	assert_true(df_str_is(o.list.item[1], "b"));
	assert_int_equal(set("list", ""), DF_OK);
	assert_int_equal(o.list.n, 0);
}

static void test_conf__a_wrong_value_changes_nothing_and_says_what_is_wanted(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
		{"flag", "maybe"},  {"flag", ""},     {"min_chars", "0"}, {"min_chars", "101"},  {"min_chars", "1.5"},
		{"min_chars", ""},  {"size", "1"},    {"size", "2g"},     {"size", "-1"},        {"size", "8q"},
		{"part", "1.01"},   {"part", "nan"},  {"part", "inf"},    {"part", "x"},         {"text", "123456789"},
		{"word", "jsonlx"}, {"word", "json"}, {"word", ""},       {"word", "jsonl|npy"},
	};
	struct options before = o;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(set(wrong[i][0], wrong[i][1]), DF_ERR_USAGE);
		assert_non_null(strstr(fail.msg, wrong[i][0]));
		assert_memory_equal(&before, &o, sizeof(o));
	}
	assert_int_equal(set("min_chars", "many"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "option 'min_chars': 'many' is not a whole number from 1 to 100");
	assert_int_equal(set("size", "3g"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "option 'size': '3g' is not a size such as 64k or 8m from 1k to 1g");
	assert_int_equal(set("word", "nyp"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "option 'word': 'nyp' is not one of jsonl|npy|both");
}

static void test_conf__a_huge_value_is_cut_in_the_message(void **state)
{
	(void)state;
	static char big[100001];
	memset(big, 'x', sizeof(big) - 1);
	assert_int_equal(set("min_chars", big), DF_ERR_USAGE);
	assert_true(strlen(fail.msg) < 200);
	assert_int_equal(set("list", big), DF_ERR_USAGE);
}

static void test_conf__a_nul_byte_is_no_text(void **state)
{
	(void)state;
	assert_int_equal(df_conf_set(rows, &arena, &o, DF_STR("text"), (struct df_str){"a\0b", 3}, &fail),
			 DF_ERR_USAGE);
}

static void test_conf__dashes_and_underscores_are_the_same(void **state)
{
	(void)state;
	assert_int_equal(set("min-chars", "7"), DF_OK);
	assert_int_equal(o.count, 7);
}

static void test_conf__an_unknown_name_suggests_the_nearest(void **state)
{
	(void)state;
	assert_int_equal(set("min_char", "7"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "unknown option 'min_char'; did you mean 'min_chars'?");
	assert_int_equal(set("zzzzzzzz", "7"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "unknown option 'zzzzzzzz'");
}

static void test_conf__at_most_three_are_suggested_nearest_first(void **state)
{
	(void)state;
	static const char *const names[] = {"abcx", "abcd", "abc", "abxx", "abcy", NULL};
	struct df_buf b;
	df_buf_init(&b, 1000);
	df_conf_suggest(&b, DF_STR("abc"), names);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_string_equal(b.p, "; did you mean 'abc', 'abcx' or 'abcd'?");
	df_buf_release(&b);
}

static void test_conf__help_wraps_and_tells_defaults(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 10000);
	assert_int_equal(df_conf_help(rows, "--", 59, &b), DF_OK);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_non_null(strstr(
		b.p, "  --min_chars=N           a count (default 5; from 1 to\n                          100)\n"));
	assert_non_null(strstr(b.p, "  --list=A,B              a list (required)\n"));
	char *rest = NULL;
	for (char *line = strtok_r(b.p, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
		assert_true(strlen(line) <= 59);
	df_buf_release(&b);
}

static void test_conf__markdown_escapes_bars(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 10000);
	assert_int_equal(df_conf_markdown(rows, &b), DF_OK);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_non_null(strstr(b.p, "| `word` | word | `npy` | jsonl\\|npy\\|both | a \\| b |\n"));
	assert_non_null(strstr(b.p, "| `size` | size in bytes | `8m` | 1k to 1g | a size |\n"));
	df_buf_release(&b);
}

static void test_conf__help_into_a_full_buffer_is_an_error(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 20);
	assert_int_equal(df_conf_help(rows, "--", 60, &b), DF_ERR_LIMIT);
	df_buf_release(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_conf__defaults_are_those_of_the_rows),
		T(test_conf__each_type_is_set_from_text),
		T(test_conf__a_wrong_value_changes_nothing_and_says_what_is_wanted),
		T(test_conf__a_huge_value_is_cut_in_the_message),
		T(test_conf__a_nul_byte_is_no_text),
		T(test_conf__dashes_and_underscores_are_the_same),
		T(test_conf__an_unknown_name_suggests_the_nearest),
		T(test_conf__at_most_three_are_suggested_nearest_first),
		T(test_conf__help_wraps_and_tells_defaults),
		T(test_conf__markdown_escapes_bars),
		T(test_conf__help_into_a_full_buffer_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
