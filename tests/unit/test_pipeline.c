// SPDX-License-Identifier: Apache-2.0
/* test_pipeline: the language of pipelines: what parses, what does not and where the caret points, and back to text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/pipeline.h"

static struct df_arena arena;
static struct df_pipeline p;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	memset(&p, 0, sizeof(p));
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

static enum df_err parse(const char *text)
{
	return df_pipeline_parse(df_str_from(text), &arena, &p, &fail);
}

static void assert_fails(const char *text, const char *message)
{
	assert_int_equal(parse(text), DF_ERR_USAGE);
	assert_string_equal(fail.msg, message);
}

static void assert_formats(const char *text, const char *canonical)
{
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	assert_int_equal(parse(text), DF_OK);
	assert_int_equal(df_pipeline_format(&p, &b), DF_OK);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_string_equal(b.p, canonical);
	df_buf_release(&b);
}

static void test_pipeline__reads_stages_labels_and_options(void **state)
{
	(void)state;
	assert_int_equal(parse("strip|clean min_chars=20 x=a=b#c\n| c=chunk name=\"v | w\" y='' # end"), DF_OK);
	assert_int_equal(p.n_stage, 3);
	assert_true(df_str_is(p.stage[0].name, "strip"));
	assert_int_equal(p.stage[1].at, 6);
	assert_true(df_str_is(p.stage[1].opt[1].value, "a=b#c"));
	assert_int_equal(p.stage[1].opt[0].key_at, 12);
	assert_int_equal(p.stage[1].opt[0].value_at, 22);
	assert_true(df_str_is(p.stage[2].label, "c"));
	assert_true(df_str_is(p.stage[2].name, "chunk"));
	assert_true(df_str_is(p.stage[2].opt[0].value, "v | w"));
	assert_int_equal(p.stage[2].opt[1].value.n, 0);
}

static void test_pipeline__quotes_take_what_they_say(void **state)
{
	(void)state;
	assert_int_equal(parse("a x='\\n\"|#' y=\"\\\"\\\\\\n\\t\\u00e9\\ud83d\\ude00'\""), DF_OK);
	assert_true(df_str_is(p.stage[0].opt[0].value, "\\n\"|#"));
	assert_true(df_str_is(p.stage[0].opt[1].value, "\"\\\n\t\xc3\xa9\xf0\x9f\x98\x80'"));
}

static void test_pipeline__comments_and_blanks_may_stand_between_words(void **state)
{
	(void)state;
	assert_formats("# first\n  strip # a | b\r\n\t| # c\nclean   a=1 # d\n b=2 # e", "strip | clean a=1 b=2");
}

static void test_pipeline__formats_canonically(void **state)
{
	(void)state;
	assert_formats("a  x='plain'", "a x=plain");
	assert_formats("a x=\"two words\"", "a x='two words'");
	assert_formats("a x=\"it's\"", "a x=\"it's\"");
	assert_formats("a x=\"\\u0001\\n'\"", "a x=\"\\u0001\\n'\"");
	assert_formats("a x='#h' y=''", "a x='#h' y=''");
	assert_formats("l=a", "l=a");
}

static void test_pipeline__an_error_has_a_caret_under_its_place(void **state)
{
	(void)state;
	assert_fails("strip | 7up", "a stage's name begins with a letter\n  strip | 7up\n          ^");
	assert_fails("strip |", "a stage's name is missing here\n  strip |\n         ^");
	assert_fails("strip |   \n  ", "a stage's name is missing here\n  strip |\n         ^");
	assert_fails("| strip", "a stage's name is missing here\n  | strip\n  ^");
	assert_fails("a||b", "a stage's name is missing here\n  a||b\n    ^");
	assert_fails("a | b x=", "a value is missing here; an empty one is written ''\n  a | b x=\n          ^");
	assert_fails("a x= 1", "a value is missing here; an empty one is written ''\n  a x= 1\n      ^");
	assert_fails("a x='1", "this quote is not closed\n  a x='1\n      ^");
	assert_fails("a x=\"1\\\"", "this quote is not closed\n  a x=\"1\\\"\n      ^");
	assert_fails("a x=\"\\", "this quote is not closed\n  a x=\"\\\n      ^");
	assert_fails("a x='1'2", "a blank or '|' is missing here\n  a x='1'2\n         ^");
	assert_fails("a x=don't", "a quote inside a value; put the whole value into quotes\n  a x=don't\n         ^");
	assert_fails("a x=1 x=2", "option 'x' is given twice\n  a x=1 x=2\n        ^");
	assert_fails("a x=#1", "a value that begins with '#' needs quotes\n  a x=#1\n      ^");
	assert_fails(
		"a b",
		"'=' is missing behind 'b'; options are written key=value, stages are divided by '|'\n  a b\n     ^");
	assert_fails("a;b", "a blank or '|' is missing here\n  a;b\n   ^");
	assert_fails("a=b=c", "a blank or '|' is missing here\n  a=b=c\n     ^");
	assert_fails("a x=\"\\q\"",
		     "unknown escape; \\\" \\\\ \\n \\t \\uXXXX are known, and 'single quotes' take all as it is\n"
		     "  a x=\"\\q\"\n       ^");
	assert_fails("a x=\"\\u00g0\"", "\\u needs four hex digits\n  a x=\"\\u00g0\"\n           ^");
	assert_fails("a x=\"\\u12\"", "\\u needs four hex digits\n  a x=\"\\u12\"\n           ^");
	assert_fails("a x=\"\\ud800\"", "half a surrogate pair is no character\n  a x=\"\\ud800\"\n       ^");
	assert_fails("a x=\"\\udc00\"", "half a surrogate pair is no character\n  a x=\"\\udc00\"\n       ^");
	assert_fails("a x=\"\\u0000\"", "a value cannot hold \\u0000\n  a x=\"\\u0000\"\n       ^");
}

static void test_pipeline__the_caret_counts_characters_and_shows_one_line(void **state)
{
	(void)state;
	assert_fails("a x='\xc3\xa9\xe2\x82\xac' !",
		     "an option's name begins with a letter\n  a x='\xc3\xa9\xe2\x82\xac' !\n           ^");
	assert_fails("first\n| a\tb=1 !\n| last", "an option's name begins with a letter\n  | a b=1 !\n          ^");
}

static void test_pipeline__a_long_line_is_shown_in_part(void **state)
{
	(void)state;
	char text[700];
	memset(text, 'v', sizeof(text));
	memcpy(text, "a x=", 4);
	memcpy(text + 400, " ! ", 3);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(parse(text), DF_ERR_USAGE);
	const char *line = strchr(fail.msg, '\n'), *caret = line ? strrchr(fail.msg, '\n') : NULL;
	assert_non_null(caret);
	assert_true(caret - line < 110);
	assert_int_equal(line[strchr(caret, '^') - caret], '!');
}

static void test_pipeline__empty_text_is_an_error(void **state)
{
	(void)state;
	static const char *const empty[] = {"", "  \n", "# only a comment", "#"};
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(parse(empty[i]), DF_ERR_USAGE);
}

static void test_pipeline__bad_bytes_are_refused(void **state)
{
	(void)state;
	static const char nul[] = "a x='b\0c'";
	assert_int_equal(parse("a x='\xff'"), DF_ERR_USAGE);
	assert_int_equal(parse("a x=\xed\xa0\x80"), DF_ERR_USAGE);
	assert_int_equal(parse("a x=b\x01"), DF_ERR_USAGE);
	assert_int_equal(df_pipeline_parse((struct df_str){nul, sizeof(nul) - 1}, &arena, &p, &fail), DF_ERR_USAGE);
	assert_int_equal(parse("a x='b\x01'"), DF_OK);
}

static void test_pipeline__bounds_hold(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 4 << 20);
	for (int i = 0; i < DF_STAGES_MAX; i++)
		(void)df_buf_addz(&b, i ? "|a" : "a");
	assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_OK);
	(void)df_buf_addz(&b, "|a");
	assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_ERR_USAGE);
	df_buf_reset(&b);
	(void)df_buf_addz(&b, "a");
	for (int i = 0; i < 300; i++)
		(void)df_buf_addf(&b, " k%d=1", i);
	assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_ERR_LIMIT);
	df_buf_reset(&b);
	for (int i = 0; i < 65; i++)
		(void)df_buf_addc(&b, 'a');
	assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_ERR_USAGE);
	df_buf_reset(&b);
	while (df_buf_err(&b) == DF_OK && b.n <= DF_PIPELINE_BYTES_MAX)
		(void)df_buf_addz(&b, "          ");
	assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_ERR_USAGE);
	df_buf_release(&b);
}

static void test_pipeline__a_failed_parse_leaves_the_output_alone(void **state)
{
	(void)state;
	assert_int_equal(parse("a x=1"), DF_OK);
	struct df_pipeline before = p;
	assert_int_equal(parse("b | c y="), DF_ERR_USAGE);
	assert_memory_equal(&before, &p, sizeof(p));
}

static enum df_err override(const char *stage, const char *key, const char *value)
{
	return df_pipeline_override(&p, &arena, df_str_from(stage), df_str_from(key), df_str_from(value), &fail);
}

static void test_pipeline__overrides_replace_and_add(void **state)
{
	(void)state;
	assert_int_equal(parse("strip | c=chunk tokens=200 | chunk"), DF_OK);
	assert_int_equal(override("c", "tokens", "300"), DF_OK);
	assert_int_equal(override("c", "overlap", "20"), DF_OK);
	assert_int_equal(override("chunk", "tokens", "9"), DF_OK);
	assert_true(df_str_is(p.stage[1].opt[0].value, "300"));
	assert_true(p.stage[1].opt[0].value_at == SIZE_MAX);
	assert_true(df_str_is(p.stage[1].opt[1].key, "overlap"));
	assert_int_equal(p.stage[2].n_opt, 1);
}

static void test_pipeline__an_override_must_name_one_stage(void **state)
{
	(void)state;
	assert_int_equal(parse("chunk | count | chunk"), DF_OK);
	assert_int_equal(override("chunk", "a", "b"), DF_ERR_USAGE);
	assert_string_equal(fail.msg,
			    "'--chunk.a' could mean more than one stage; name one of them, e.g. 'second=chunk', "
			    "and use its name\n  chunk | count | chunk\n                  ^");
	assert_int_equal(override("coutn", "a", "b"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "no stage 'coutn' in the pipeline; did you mean 'count'?");
	assert_int_equal(override("count", "9", "b"), DF_ERR_USAGE);
	assert_int_equal(override("count", "a", "\xff"), DF_ERR_USAGE);
}

/* Random values through format and parse: nothing may change. */
static void test_pipeline__any_value_survives_format_and_parse(void **state)
{
	(void)state;
	static const char alphabet[] = "ab|#'\"\\ \n\t\r=\x01\x7f\xc3\xa9u0041";
	srand(7);
	for (int round = 0; round < 20000; round++) {
		char v[12];
		size_t n = 0, want = (size_t)rand() % 9;
		while (n < want) {
			char c = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
			if ((unsigned char)c >= 0x80) {
				v[n++] = '\xc3';
				c = '\xa9';
			}
			v[n++] = c;
		}
		struct df_pipeline q = {.n_stage = 0};
		struct df_pipeline_stage *s = NULL;
		struct df_buf b;
		df_buf_init(&b, 4096);
		assert_int_equal(df_pipeline_add(&q, DF_STR(""), DF_STR("a"), &s, &fail), DF_OK);
		assert_int_equal(df_pipeline_set(s, &arena, DF_STR("k"), (struct df_str){v, n}, &fail), DF_OK);
		assert_int_equal(df_pipeline_format(&q, &b), DF_OK);
		assert_int_equal(df_pipeline_parse(df_buf_str(&b), &arena, &p, &fail), DF_OK);
		assert_int_equal(p.stage[0].opt[0].value.n, n);
		assert_memory_equal(p.stage[0].opt[0].value.p ? p.stage[0].opt[0].value.p : v, v, n);
		df_buf_release(&b);
		df_arena_reset(&arena);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pipeline__reads_stages_labels_and_options),
		T(test_pipeline__quotes_take_what_they_say),
		T(test_pipeline__comments_and_blanks_may_stand_between_words),
		T(test_pipeline__formats_canonically),
		T(test_pipeline__an_error_has_a_caret_under_its_place),
		T(test_pipeline__the_caret_counts_characters_and_shows_one_line),
		T(test_pipeline__a_long_line_is_shown_in_part),
		T(test_pipeline__empty_text_is_an_error),
		T(test_pipeline__bad_bytes_are_refused),
		T(test_pipeline__bounds_hold),
		T(test_pipeline__a_failed_parse_leaves_the_output_alone),
		T(test_pipeline__overrides_replace_and_add),
		T(test_pipeline__an_override_must_name_one_stage),
		T(test_pipeline__any_value_survives_format_and_parse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
