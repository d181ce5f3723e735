// SPDX-License-Identifier: Apache-2.0
/* test_escape: escapes of JSON strings, copied and checked, against base/json, which reads one byte at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/json.h"
#include "worker/read/escape.h"

#define TEXT_MAX 400

static struct df_arena arena;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 1 << 20);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_arena_release(&arena);
	return 0;
}

/* The string in quotes with the slack behind it, both ways; both must say the same. */
static enum df_escape read_both(struct df_str inside, char *to, size_t *n, size_t *fault)
{
	char from[TEXT_MAX + 1 + DF_ESCAPE_SLACK];
	const char *where = NULL, *where_checked = NULL;
	assert_true(inside.n <= TEXT_MAX);
	memset(from, '\\', sizeof(from)); /* what is behind the string is none of it */
	memcpy(from, inside.p, inside.n);
	from[inside.n] = '"';
	enum df_escape err = df_escape_copy((struct df_str){from, inside.n}, to, n, &where);
	assert_int_equal(df_escape_check((struct df_str){from, inside.n}, &where_checked), err);
	if (err != DF_ESCAPE_OK) {
		assert_ptr_equal(where, where_checked);
		*fault = (size_t)(where - from);
	}
	return err;
}

static void assert_becomes(const char *inside, const char *text)
{
	char to[TEXT_MAX + DF_ESCAPE_SLACK];
	size_t n = 0, fault = 0;
	assert_int_equal(read_both(df_str_from(inside), to, &n, &fault), DF_ESCAPE_OK);
	assert_true(df_str_is((struct df_str){to, n}, text));
}

static void assert_fails(const char *inside, enum df_escape wanted, size_t place)
{
	char to[TEXT_MAX + DF_ESCAPE_SLACK];
	size_t n = 0, fault = 0;
	assert_int_equal(read_both(df_str_from(inside), to, &n, &fault), wanted);
	assert_int_equal(fault, place);
}

static void test_escape__every_escape_is_its_character(void **state)
{
	(void)state;
	assert_becomes("", "");
	assert_becomes("plain", "plain");
	assert_becomes("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t");
	assert_becomes("\\u0041\\u00e9\\u20AC\\ud83d\\uDE00", "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	assert_becomes("\\u007f\\u0080\\u07ff\\u0800\\uffff", "\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf");
	assert_becomes("\\ud800\\udc00\\udbff\\udfff", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
}

static void test_escape__a_faulty_one_is_named(void **state)
{
	(void)state;
	assert_fails("ab\\x", DF_ESCAPE_UNKNOWN, 2);
	assert_fails("\\n\\u12g4", DF_ESCAPE_UNKNOWN, 2);
	assert_fails("\\u12", DF_ESCAPE_UNKNOWN, 0);
	assert_fails("a\\ud800", DF_ESCAPE_SURROGATE, 1);
	assert_fails("\\udc00", DF_ESCAPE_SURROGATE, 0);
	assert_fails("\\ud800\\u0041", DF_ESCAPE_SURROGATE, 0);
	assert_fails("\\ud800\\ud800", DF_ESCAPE_SURROGATE, 0);
	assert_fails("\\ud800\\u00zz", DF_ESCAPE_UNKNOWN, 0);
}

/* A string of pieces; whatever lies on a border of 64 bytes. */
static size_t make(char *to, uint64_t *seed)
{
	static const char *const piece[] = {
		"a",        "bc",      "\\n", "\\\\",           "\\\"",    "0123456789",     "\\u0041",
		"\xc3\xa9", "\\u20ac", "\\/", "\\ud83d\\ude00", "\\u00e9", "               "};
	size_t n = 0, wanted = (size_t)(*seed >> 33) % (TEXT_MAX - 20);
	while (n < wanted) {
		*seed = *seed * 6364136223846793005U + 1442695040888963407U;
		const char *p = piece[(*seed >> 33) % (sizeof(piece) / sizeof(piece[0]))];
		memcpy(to + n, p, strlen(p));
		n += strlen(p);
	}
	return n;
}

static void test_escape__agrees_with_a_slow_reader(void **state)
{
	(void)state;
	uint64_t seed = 7;
	for (int i = 0; i < 20000; i++) {
		char text[TEXT_MAX + 2] = "\"", to[TEXT_MAX + DF_ESCAPE_SLACK];
		struct df_json *slow = NULL;
		size_t n = 0, fault = 0, n_inside = make(text + 1, &seed);
		text[1 + n_inside] = '"';
		df_arena_reset(&arena);
		assert_int_equal(df_json_parse((struct df_str){text, n_inside + 2}, &arena, &slow, NULL), DF_OK);
		assert_int_equal(read_both((struct df_str){text + 1, n_inside}, to, &n, &fault), DF_ESCAPE_OK);
		assert_true(n <= n_inside && df_str_eq((struct df_str){to, n}, slow->string));
	}
}

static void test_escape__writes_no_further_than_it_says(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 200; n++) { /* on the heap, to the byte: sanitizers see what is touched beyond */
		char *from = malloc(n + DF_ESCAPE_SLACK), *to = malloc(n + DF_ESCAPE_SLACK);
		const char *fault = NULL;
		size_t got = 0;
		assert_true(from && to);
		memset(from, 'x', n + DF_ESCAPE_SLACK);
		for (size_t i = 0; i + 1 < n; i += 7)
			memcpy(from + i, "\\n", 2);
		assert_int_equal(df_escape_copy((struct df_str){from, n}, to, &got, &fault), DF_ESCAPE_OK);
		assert_true(got <= n);
		free(from);
		free(to);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_escape__every_escape_is_its_character),
		T(test_escape__a_faulty_one_is_named),
		T(test_escape__agrees_with_a_slow_reader),
		T(test_escape__writes_no_further_than_it_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
