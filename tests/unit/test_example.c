// SPDX-License-Identifier: Apache-2.0
/* test_example: a rejected document as a counter's name comes back as it was; long ones are cut between characters, and nothing breaks a line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/limits.h"
#include "proto/example.h"

static struct df_example there_and_back(struct df_buf *name, const char *kind, struct df_str id, const char *message)
{
	struct df_example e = {.kind = {NULL, 0}};
	df_buf_reset(name);
	df_example_add_name(name, df_str_from(kind), id, message);
	assert_int_equal(df_buf_err(name), DF_OK);
	assert_true(df_example_split((struct df_str){name->p, name->n}, &e));
	assert_true(df_str_is(e.kind, kind));
	return e;
}

static void test_name__comes_back_as_it_was(void **state)
{
	struct df_buf name;
	(void)state;
	df_buf_init(&name, 4096);
	struct df_example e = there_and_back(&name, "llm:not-found", DF_STR("d7"), "field 'title' is missing");
	assert_true(df_str_is(e.id, "d7") && df_str_is(e.message, "field 'title' is missing"));
	e = there_and_back(&name, "read:damaged", DF_STR(""), "");
	assert_int_equal(e.id.n + e.message.n, 0);
	df_buf_release(&name);
}

static void test_name__keeps_its_lines_apart(void **state)
{
	struct df_buf name;
	(void)state;
	df_buf_init(&name, 4096);
	struct df_example e = there_and_back(&name, "a:b", DF_STR("two\nlines\x1b[31m"), "three\nof\nthem");
	assert_true(memchr(e.id.p, '\n', e.id.n) == NULL && memchr(e.id.p, '\x1b', e.id.n) == NULL);
	assert_true(df_str_starts(e.id, "two") && df_str_starts(e.message, "three"));
	assert_true(memmem(e.message.p, e.message.n, "them", 4) != NULL);
	df_buf_release(&name);
}

static void test_name__is_cut_between_characters(void **state)
{
	char text[2 * DF_EXAMPLE_MESSAGE_BYTES + 3];
	struct df_buf name;
	(void)state;
	df_buf_init(&name, 4096);
	for (size_t shift = 0; shift < 2; shift++) {
		for (size_t i = 0; i + 1 < sizeof(text); i++)
			text[i] = i < shift ? 'x' : (i - shift) % 2 == 0 ? '\xc3' : '\xa4';
		text[sizeof(text) - 1] = '\0';
		struct df_example e = there_and_back(&name, "a:b", df_str_from(text), text);
		assert_true(e.id.n <= DF_EXAMPLE_ID_BYTES + 3 && e.message.n <= DF_EXAMPLE_MESSAGE_BYTES + 3);
		assert_int_equal(df_str_utf8_prefix(e.id), e.id.n);
		assert_int_equal(df_str_utf8_prefix(e.message), e.message.n);
		assert_memory_equal(e.id.p + e.id.n - 3, "...", 3);
		assert_memory_equal(e.message.p + e.message.n - 3, "...", 3);
	}
	df_buf_release(&name);
}

static void test_split__leaves_other_counters_alone(void **state)
{
	static const char *const other[] = {"", "in", "rejected:llm:not-found", "exampl", "Example:a:b\nc\nd"};
	struct df_example e;
	(void)state;
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		assert_false(df_example_split(df_str_from(other[i]), &e));
	assert_true(df_example_split(DF_STR("example:a:b"),
				     &e)); /* of a journal that somebody edited: nothing is read beyond it */
	assert_true(df_str_is(e.kind, "a:b") && e.id.n == 0 && e.message.n == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name__comes_back_as_it_was),
		cmocka_unit_test(test_name__keeps_its_lines_apart),
		cmocka_unit_test(test_name__is_cut_between_characters),
		cmocka_unit_test(test_split__leaves_other_counters_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
