// SPDX-License-Identifier: Apache-2.0
/* Server-sent events: every line end, in every split; what an event is and what is none; ceilings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/net/sse.h"

struct seen {
	char text[4096];
	size_t n;
	unsigned n_event, fail_at;
};

static enum df_err on_event(void *self, struct df_str type, struct df_str data)
{
	struct seen *s = self;
	s->n += (size_t)snprintf(s->text + s->n, sizeof(s->text) - s->n, "<%.*s|%.*s>", DF_STR_ARG(type),
				 DF_STR_ARG(data));
	return ++s->n_event == s->fail_at ? DF_ERR_PARSE : DF_OK;
}

static enum df_err feed(struct df_sse *s, const char *p, size_t n, struct seen *seen)
{
	/* Exactly as many bytes as there are, for the address sanitizer. */
	char *copy = malloc(n ? n : 1);
	assert_non_null(copy);
	if (n)
		memcpy(copy, p, n);
	enum df_err err = df_sse_feed(s, copy, n, on_event, seen);
	free(copy);
	return err;
}

/* Whole, cut in two at every byte, and byte by byte. */
static void expect_n(const char *text, size_t n, const char *events)
{
	for (size_t cut = 0; cut <= n + 1; cut++) {
		struct seen seen = {.n = 0};
		struct df_sse s;
		df_sse_init(&s, 1000);
		if (cut <= n) {
			assert_int_equal(feed(&s, text, cut, &seen), DF_OK);
			assert_int_equal(feed(&s, text + cut, n - cut, &seen), DF_OK);
		}
		for (size_t i = 0; cut > n && i < n; i++)
			assert_int_equal(feed(&s, text + i, 1, &seen), DF_OK);
		if (strcmp(seen.text, events) != 0)
			fail_msg("cut at %zu: %s instead of %s", cut, seen.text, events);
		df_sse_release(&s);
	}
}

static void expect(const char *text, const char *events)
{
	expect_n(text, strlen(text), events);
}

static void test_sse__knows_every_line_end(void **state)
{
	(void)state;
	expect("data: a\n\ndata: b\n\n", "<|a><|b>");
	expect("data: a\r\rdata: b\r\r", "<|a><|b>");
	expect("data: a\r\n\r\ndata: b\r\n\r\n", "<|a><|b>");
	expect("data: a\r\n\ndata: b\n\rdata: c\r\r\ndata: d\n\r\n", "<|a><|b><|c><|d>");
	expect("\r\n\r\n\n\rdata: a\n\n\n\n\r\rdata: b\n\n", "<|a><|b>");
}

static void test_sse__joins_data_lines(void **state)
{
	(void)state;
	expect("data: a\ndata: b\ndata\ndata:\ndata:  c\n\n", "<|a\nb\n\n\n c>");
	expect("data\n\n", "<|>");
	expect("data:\n\n", "<|>");
	expect("data: \n\n", "<|>");
}

static void test_sse__an_event_without_data_is_none(void **state)
{
	(void)state;
	expect("event: ping\n\ndata: x\n\n", "<|x>");
	expect("event: a\nevent: b\ndata: x\nid: 1\nretry: 5\nDATA: y\n data: z\ndatax: w\n\n", "<b|x>");
	expect("event: a\ndata: x\n\ndata: y\n\n", "<a|x><|y>");
}

static void test_sse__passes_over_comments(void **state)
{
	(void)state;
	expect(": hello\n:\n:data: no\ndata: x\n: in between\ndata: y\n\n: after\n\n", "<|x\ny>");
}

static void test_sse__drops_a_bom_at_the_start_only(void **state)
{
	(void)state;
	expect("\xef\xbb\xbf"
	       "data: a\n\n",
	       "<|a>");
	expect("\xef\xbb\xbf\n"
	       "data: a\n\n",
	       "<|a>");
	expect("\xef\xbb\xbf\xef\xbb\xbf"
	       "data: a\n\ndata: b\n\n",
	       "<|b>");
	expect("data: a\n\n\xef\xbb\xbf"
	       "data: b\n\n",
	       "<|a>");
	expect("\n\xef\xbb\xbf"
	       "data: b\n\n",
	       "");
	expect("data: \xef\xbb\xbf\n\n", "<|\xef\xbb\xbf>");
}

static void test_sse__what_is_not_ended_never_happened(void **state)
{
	(void)state;
	expect("data: a\n\ndata: b\n", "<|a>");
	expect("data: a\n\ndata: b", "<|a>");
	expect("data: a", "");
	expect("", "");
}

static void test_sse__hands_on_bytes_as_they_are(void **state)
{
	(void)state;
	expect_n("data: \xff\xfe{\"a\":\"b: c\"}\n\n", 22, "<|\xff\xfe{\"a\":\"b: c\"}>");
	struct seen seen = {.n = 0};
	struct df_sse s;
	df_sse_init(&s, 100);
	assert_int_equal(df_sse_feed(&s, "data: a\0b\n\n", 11, on_event, &seen), DF_OK);
	assert_int_equal(seen.n_event, 1);
	df_sse_release(&s);
}

static void test_sse__stops_at_an_error_of_its_reader(void **state)
{
	(void)state;
	struct seen seen = {.fail_at = 2};
	struct df_sse s;
	df_sse_init(&s, 100);
	assert_int_equal(feed(&s, "data: a\n\ndata: b\n\ndata: c\n\n", 27, &seen), DF_ERR_PARSE);
	assert_string_equal(seen.text, "<|a><|b>");
	df_sse_release(&s);
}

static enum df_err fed(const char *text, size_t step, size_t max)
{
	struct seen seen = {.n = 0};
	struct df_sse s;
	enum df_err err = DF_OK;
	size_t n = strlen(text);
	df_sse_init(&s, max);
	for (size_t i = 0; i < n && err == DF_OK; i += step)
		err = feed(&s, text + i, n - i < step ? n - i : step, &seen);
	df_sse_release(&s);
	return err;
}

static void test_sse__keeps_its_ceilings(void **state)
{
	(void)state;
	char text[400];
	for (size_t step = 1; step < 200; step += 33) {
		assert_int_equal(fed("data: 0123456789\n\n", step, 10), DF_OK);
		assert_int_equal(fed("data: 01234567890\n\n", step, 10), DF_ERR_LIMIT);
		assert_int_equal(fed("data: 01234\ndata: 6789\n\n", step, 10), DF_OK);
		assert_int_equal(fed("data: 01234\ndata: 67890\n\n", step, 10), DF_ERR_LIMIT);
		assert_int_equal(fed("event: 01234567890\n\n", step, 10), DF_ERR_LIMIT);
		memset(text, 'x', sizeof(text)); /* a line that does not end */
		text[74] = '\0';
		assert_int_equal(fed(text, step, 10), DF_OK);
		text[74] = 'x';
		text[75] = '\0';
		assert_int_equal(fed(text, step, 10), DF_ERR_LIMIT);
		text[74] = '\n';
		assert_int_equal(fed(text, step, 10), DF_OK);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sse__knows_every_line_end),
		cmocka_unit_test(test_sse__joins_data_lines),
		cmocka_unit_test(test_sse__an_event_without_data_is_none),
		cmocka_unit_test(test_sse__passes_over_comments),
		cmocka_unit_test(test_sse__drops_a_bom_at_the_start_only),
		cmocka_unit_test(test_sse__what_is_not_ended_never_happened),
		cmocka_unit_test(test_sse__hands_on_bytes_as_they_are),
		cmocka_unit_test(test_sse__stops_at_an_error_of_its_reader),
		cmocka_unit_test(test_sse__keeps_its_ceilings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
