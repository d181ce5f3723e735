// SPDX-License-Identifier: Apache-2.0
/* CSV: where rows end and what fields they have, however the bytes were portioned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/buf.h"
#include "worker/read/feed.h"

/* Feeds the text in portions of `step` bytes; rows come as "offset:row|". */
static void rows_of(const char *text, size_t n, size_t step, size_t max_record, struct df_buf *out)
{
	struct df_feed f;
	struct df_csv_scan scan = {',', DF_CSV_FIELD_START};
	struct df_line line;
	size_t at = 0;
	df_feed_init(&f, 4, max_record);
	for (;;) {
		enum df_err err = df_feed_row(&f, &scan, &line);
		if (err == DF_ERR_END)
			break;
		if (err == DF_ERR_AGAIN) {
			char *p;
			size_t room, more = n - at < step ? n - at : step;
			if (more == 0) {
				df_feed_end(&f);
				continue;
			}
			assert_int_equal(df_feed_room(&f, more, &p, &room), DF_OK);
			memcpy(p, text + at, more);
			df_feed_added(&f, more);
			at += more;
			continue;
		}
		assert_int_equal(err, DF_OK);
		assert_int_equal(df_buf_addf(out, "%d:", (int)line.offset), DF_OK);
		if (line.err == DF_ERR_LIMIT)
			assert_int_equal(df_buf_addz(out, "!"), DF_OK);
		else
			assert_int_equal(df_buf_add(out, line.p, line.n), DF_OK);
		if (line.err == DF_ERR_PARSE)
			assert_int_equal(df_buf_addz(out, "?"), DF_OK);
		assert_int_equal(df_buf_addc(out, '|'), DF_OK);
	}
	df_feed_release(&f);
}

static void assert_rows(const char *text, size_t max_record, const char *expected)
{
	struct df_buf out;
	df_buf_init(&out, 1 << 16);
	for (size_t step = 1; step <= strlen(text) + 1; step++) {
		df_buf_reset(&out);
		rows_of(text, strlen(text), step, max_record, &out);
		assert_int_equal(df_buf_addc(&out, '\0'), DF_OK);
		assert_string_equal(out.p, expected);
	}
	df_buf_release(&out);
}

static void test_csv__rows_may_hold_line_breaks_in_quotes(void **state)
{
	(void)state;
	assert_rows("a,\"b\nc\"\nd,e\n", 100, "0:a,\"b\nc\"|8:d,e|");
	assert_rows("\"a\r\n\"\"b\r\n\"\r\nc\r\n", 100, "0:\"a\r\n\"\"b\r\n\"|12:c|");
	assert_rows("5\" disk,x\ny\n", 100, "0:5\" disk,x|10:y|"); /* a quote inside an unquoted field */
	assert_rows("a,\"\"\n\"\",b\n", 100, "0:a,\"\"|5:\"\",b|");
}

static void test_csv__bom_blank_rows_and_a_missing_last_line_end(void **state)
{
	(void)state;
	assert_rows("\xef\xbb\xbf\"a\nb\",c\r\n\r\n  \nd,e", 100, "0:\"a\nb\",c|17:d,e|");
	assert_rows("", 100, "");
	assert_rows("\n\n", 100, "");
	assert_rows("\xef\xbb", 100, "0:\xef\xbb|");
}

static void test_csv__an_open_quote_at_the_end_is_told(void **state)
{
	(void)state;
	assert_rows("a\nb,\"c\nd\n", 100, "0:a|2:b,\"c\nd\n?|");
}

static void test_csv__a_stray_quote_costs_max_record_and_not_the_rest(void **state)
{
	(void)state;
	assert_rows("a\n\"bbb\nccc\nddd\neee\nfff\n", 8, "0:a|2:!|15:eee|19:fff|");
	assert_rows("0123456789012345\nz\n", 8, "0:!|17:z|");
	assert_rows("12345678\r\nz\n", 8, "0:12345678|10:z|");
}

static void assert_fields(const char *row, char separator, const char *expected)
{
	struct df_str field[8];
	struct df_fail fail;
	size_t n = 0;
	char *exact = malloc(strlen(row) + 1), *scratch = malloc(strlen(row) + 1); /* exact sizes */
	struct df_buf out;
	assert_true(exact && scratch);
	memcpy(exact, row, strlen(row) + 1);
	df_buf_init(&out, 1 << 16);
	enum df_err err = df_csv_split((struct df_str){exact, strlen(row)}, separator, scratch, field, 8, &n, &fail);
	if (err != DF_OK)
		assert_int_equal(df_buf_addf(&out, "%s: %s", df_err_name(err), fail.msg), DF_OK);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(df_buf_addf(&out, "[" DF_STR_FMT "]", DF_STR_ARG(field[i])), DF_OK);
	assert_int_equal(df_buf_addc(&out, '\0'), DF_OK);
	assert_string_equal(out.p, expected);
	df_buf_release(&out);
	free(exact);
	free(scratch);
}

static void test_csv__fields_are_unquoted(void **state)
{
	(void)state;
	assert_fields("", ',', "[]");
	assert_fields("a", ',', "[a]");
	assert_fields(",", ',', "[][]");
	assert_fields("a,,b,", ',', "[a][][b][]");
	assert_fields("\"a,b\",\"\",c\"d", ',', "[a,b][][c\"d]");
	assert_fields("\"a\"\"b\",\"\"\"\",\"\"\"x\"\"\"", ',', "[a\"b][\"][\"x\"]");
	assert_fields("\"a\nb\"", ',', "[a\nb]");
	assert_fields("a,b\t\"c\td\"", '\t', "[a,b][c\td]");
}

static void test_csv__bad_rows_say_why(void **state)
{
	(void)state;
	assert_fields("a,\"b\"c,d", ',', "parse: column 2: text behind its closing quote");
	assert_fields("a,\"b", ',', "parse: the quote at byte 2 of the row is never closed");
	assert_fields("1,2,3,4,5,6,7,8,9", ',', "limit: more than 8 columns");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_csv__rows_may_hold_line_breaks_in_quotes),
		cmocka_unit_test(test_csv__bom_blank_rows_and_a_missing_last_line_end),
		cmocka_unit_test(test_csv__an_open_quote_at_the_end_is_told),
		cmocka_unit_test(test_csv__a_stray_quote_costs_max_record_and_not_the_rest),
		cmocka_unit_test(test_csv__fields_are_unquoted),
		cmocka_unit_test(test_csv__bad_rows_say_why),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
