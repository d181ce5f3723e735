// SPDX-License-Identifier: Apache-2.0
/* Byte ranges of JSONL: each record once, whatever the cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/read/feed.h"
#include "worker/read/lines.h"

struct memory {
	const char *p;
	size_t n;
	size_t n_read; /* bytes asked for in all */
	int fail_errno;
};

static ssize_t memory_read_at(void *self, void *p, size_t n, uint64_t offset)
{
	struct memory *m = self;
	if (m->fail_errno) {
		errno = m->fail_errno;
		return -1;
	}
	size_t left = offset < m->n ? m->n - (size_t)offset : 0;
	n = n < left ? n : left;
	memcpy(p, m->p + offset, n);
	m->n_read += n;
	return (ssize_t)n;
}

/* "offset:record|offset:!|" of a range. */
static void read_range(const char *p, size_t n, uint64_t start, uint64_t end, size_t block, size_t max_record,
		       size_t cap, struct df_buf *out)
{
	struct memory m = {p, n, 0, 0};
	struct df_bytes_at in = {memory_read_at, NULL, &m, NULL};
	struct df_range_reader *r;
	struct df_fail fail;
	struct df_line line[8];
	size_t got;
	enum df_err err;
	assert_int_equal(df_range_reader_create(block, max_record, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, start, end, n, &fail), DF_OK);
	while ((err = df_range_reader_next(r, line, cap, &got, &fail)) == DF_OK) {
		assert_in_range(got, 1, cap);
		for (size_t i = 0; i < got; i++) {
			assert_int_equal(df_buf_addf(out, "%d:", (int)line[i].offset), DF_OK);
			if (line[i].err != DF_OK) {
				assert_int_equal(line[i].err, DF_ERR_LIMIT);
				assert_null(line[i].p);
				assert_int_equal(df_buf_addz(out, "!|"), DF_OK);
				continue;
			}
			volatile char sum = 0; /* the padding is readable */
			for (size_t k = 0; k < DF_RECORD_PADDING; k++)
				sum = (char)(sum + line[i].p[line[i].n + k]);
			assert_int_equal(df_buf_add(out, line[i].p, line[i].n), DF_OK);
			assert_int_equal(df_buf_addc(out, '|'), DF_OK);
		}
	}
	assert_int_equal(err, DF_ERR_END);
	df_range_reader_destroy(&r);
	assert_null(r);
}

static void assert_whole(const char *text, size_t max_record, const char *expected)
{
	size_t n = strlen(text);
	struct df_buf out;
	df_buf_init(&out, 1 << 20);
	/* every cut into two and three ranges, tiny blocks, small batches */
	for (size_t a = 0; a <= n; a++) {
		for (size_t c = a; c <= n; c++) {
			df_buf_reset(&out);
			read_range(text, n, 0, a, 1 + a % 7, max_record, 1 + c % 3, &out);
			read_range(text, n, a, c, 1 + c % 5, max_record, 2, &out);
			read_range(text, n, c, n, 16, max_record, 8, &out);
			assert_int_equal(df_buf_addc(&out, '\0'), DF_OK);
			if (strcmp(out.p, expected) != 0)
				print_error("cut at %zu and %zu\n", a, c);
			assert_string_equal(out.p, expected);
		}
	}
	df_buf_release(&out);
}

static void test_lines__each_record_is_in_exactly_one_range(void **state)
{
	(void)state;
	assert_whole("ab\nc\n\nddd\n", 100, "0:ab|3:c|6:ddd|");
	assert_whole("\n\n\nab", 100, "3:ab|");
	assert_whole("", 100, "");
	assert_whole("\n", 100, "");
	assert_whole("x", 100, "0:x|");
}

static void test_lines__crlf_bom_and_blank_lines_are_no_content(void **state)
{
	(void)state;
	assert_whole("\xef\xbb\xbf"
		     "ab\r\n \t\r\ncd\r\n\r\nlast\r",
		     100, "0:ab|11:cd|17:last|");
	assert_whole("\xef\xbb\xbf", 100, "");
	assert_whole("a\n\xef\xbb\xbf"
		     "b\n",
		     100,
		     "0:a|2:\xef\xbb\xbf"
		     "b|"); /* not at the file's start: content */
}

static void test_lines__a_long_record_does_not_lose_the_next(void **state)
{
	(void)state;
	assert_whole("abcdef\nxy\nabcde\nabcdefghijklmnopqrstuvwxyz\nz\n0123456789", 5,
		     "0:!|7:xy|10:abcde|16:!|43:z|45:!|");
	assert_whole("abcde\r\n\xef\xbb\xbf", 5, "0:abcde|7:\xef\xbb\xbf|");
}

static void test_lines__a_long_record_is_not_read_to_its_end(void **state)
{
	(void)state;
	size_t n = 50U << 20;
	char *p = malloc(n);
	assert_non_null(p);
	memset(p, 'x', n);
	struct memory m = {p, n, 0, 0};
	struct df_bytes_at in = {memory_read_at, NULL, &m, NULL};
	struct df_range_reader *r;
	struct df_fail fail;
	struct df_line line[4];
	size_t got;
	assert_int_equal(df_range_reader_create(1 << 16, 1 << 20, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, 0, 16384, n, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 4, &got, &fail), DF_OK);
	assert_int_equal(got, 1);
	assert_int_equal(line[0].err, DF_ERR_LIMIT);
	assert_int_equal(df_range_reader_next(r, line, 4, &got, &fail), DF_ERR_END);
	assert_true(m.n_read < 2U << 20);
	/* a range in its middle holds no start: a valid empty result, read only once */
	m.n_read = 0;
	assert_int_equal(df_range_reader_open(r, &in, 20U << 20, (20U << 20) + 16384, n, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 4, &got, &fail), DF_ERR_END);
	assert_true(m.n_read < 32768);
	df_range_reader_destroy(&r);
	free(p);
}

static int temp_file(const char *content, char *path)
{
	(void)snprintf(path, 64, "%s", "/tmp/df_test_lines_XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	return fd;
}

static void test_lines__a_file_that_changes_meanwhile_is_told(void **state)
{
	(void)state;
	char path[64];
	int fd = temp_file("one\ntwo\nthree\n", path);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	struct df_file_at file = {.fd = fd, .name = "x.jsonl"};
	df_file_id_of(&st, &file.id);
	struct df_bytes_at in = df_bytes_of_file(&file);
	struct df_range_reader *r;
	struct df_fail fail;
	struct df_line line[8];
	size_t got;
	assert_int_equal(df_range_reader_create(0, 100, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, 0, 14, 14, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_OK);
	assert_int_equal(got, 3);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_ERR_END);
	df_range_reader_destroy(&r);
	/* written to between two reads */
	assert_int_equal(df_range_reader_create(6, 100, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, 0, 14, 14, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_OK);
	assert_int_equal(got, 1);
	assert_int_equal(write(fd, "more\n", 5), 5);
	enum df_err err = DF_OK;
	while ((err = df_range_reader_next(r, line, 8, &got, &fail)) == DF_OK)
		assert_int_equal(got, 1);
	assert_int_equal(err, DF_ERR_CHANGED);
	assert_string_equal(fail.msg, "input 'x.jsonl' changed: 19 bytes, 14 when the run began");
	assert_int_equal(df_range_reader_open(r, &in, 0, 14, 14, &fail), DF_ERR_CHANGED);
	/* cut short while it is read */
	assert_int_equal(fstat(fd, &st), 0);
	df_file_id_of(&st, &file.id);
	assert_int_equal(df_range_reader_open(r, &in, 4, 19, 19, &fail), DF_OK);
	assert_int_equal(ftruncate(fd, 6), 0);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_ERR_CHANGED);
	df_range_reader_destroy(&r);
	(void)close(fd);
	(void)unlink(path);
}

static void test_lines__a_file_that_changes_when_all_is_read_is_what_it_was(void **state)
{
	(void)state;
	char path[64];
	int fd = temp_file("one\ntwo\nthree\n", path);
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	struct df_file_at file = {.fd = fd, .name = "x.jsonl"};
	df_file_id_of(&st, &file.id);
	struct df_bytes_at in = df_bytes_of_file(&file);
	struct df_range_reader *r;
	struct df_fail fail;
	struct df_line line[8];
	size_t got;
	assert_int_equal(df_range_reader_create(0, 100, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, 0, 14, 14, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_OK);
	assert_int_equal(got, 3);
	assert_int_equal(write(fd, "more\n", 5), 5);
	assert_int_equal(df_range_reader_next(r, line, 8, &got, &fail), DF_ERR_END);
	df_range_reader_destroy(&r);
	(void)close(fd);
	(void)unlink(path);
}

static void test_lines__a_read_error_is_told(void **state)
{
	(void)state;
	struct memory m = {"abc", 3, 0, EIO};
	struct df_bytes_at in = {memory_read_at, NULL, &m, NULL};
	struct df_range_reader *r;
	struct df_fail fail;
	struct df_line line[1];
	size_t got;
	assert_int_equal(df_range_reader_create(0, 100, &r), DF_OK);
	assert_int_equal(df_range_reader_open(r, &in, 0, 3, 3, &fail), DF_OK);
	assert_int_equal(df_range_reader_next(r, line, 1, &got, &fail), DF_ERR_IO);
	df_range_reader_destroy(&r);
}

static void test_lines__whole_files_lose_their_bom_and_have_a_limit(void **state)
{
	(void)state;
	struct memory m = {"\xef\xbb\xbfhello\nworld", 14, 0, 0};
	struct df_bytes_at in = {memory_read_at, NULL, &m, NULL};
	struct df_buf buf;
	struct df_str text;
	struct df_fail fail;
	df_buf_init(&buf, 1 << 16);
	assert_int_equal(df_lines_read_whole(&in, m.n, 11, &buf, &text, &fail), DF_OK);
	assert_int_equal(text.n, 11);
	assert_memory_equal(text.p, "hello\nworld", 11);
	df_buf_reset(&buf);
	assert_int_equal(df_lines_read_whole(&in, m.n, 10, &buf, &text, &fail), DF_ERR_LIMIT);
	assert_int_equal(df_lines_read_whole(&in, 20, 100, &buf, &text, &fail), DF_ERR_CHANGED);
	df_buf_release(&buf);
}

static void feed_bytes(struct df_feed *f, const char *z)
{
	char *p = NULL;
	size_t room = 0, n = strlen(z);
	assert_int_equal(df_feed_room(f, n, &p, &room), DF_OK);
	assert_true(room >= n);
	memcpy(p, z, n);
	df_feed_added(f, n);
}

/* No memory for all of a record: it is given up, however much of it there is, and the next one is where it is. */
static void test_lines__a_record_that_memory_does_not_do_for_does_not_lose_the_next(void **state)
{
	struct df_feed f;
	struct df_line line;
	(void)state;
	df_feed_init(&f, 64, 1 << 20);
	df_feed_restart(&f, 0, UINT64_MAX, false);
	feed_bytes(&f, "one\ntwo is lo");
	assert_int_equal(df_feed_line(&f, &line), DF_OK);
	assert_int_equal(df_feed_line(&f, &line), DF_ERR_AGAIN);
	line = df_feed_give_up(&f);
	assert_int_equal(line.err, DF_ERR_NOMEM);
	assert_int_equal(line.offset, 4);
	assert_int_equal(df_feed_read_offset(&f), 13);
	assert_int_equal(df_feed_line(&f, &line), DF_ERR_AGAIN);
	feed_bytes(&f, "ng, very ");
	assert_int_equal(df_feed_line(&f, &line), DF_ERR_AGAIN);
	feed_bytes(&f, "long\nthree\n");
	assert_int_equal(df_feed_line(&f, &line), DF_OK);
	assert_int_equal(line.offset, 27);
	assert_memory_equal(line.p, "three", 5);
	df_feed_release(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines__each_record_is_in_exactly_one_range),
		cmocka_unit_test(test_lines__crlf_bom_and_blank_lines_are_no_content),
		cmocka_unit_test(test_lines__a_long_record_does_not_lose_the_next),
		cmocka_unit_test(test_lines__a_long_record_is_not_read_to_its_end),
		cmocka_unit_test(test_lines__a_record_that_memory_does_not_do_for_does_not_lose_the_next),
		cmocka_unit_test(test_lines__a_file_that_changes_meanwhile_is_told),
		cmocka_unit_test(test_lines__a_file_that_changes_when_all_is_read_is_what_it_was),
		cmocka_unit_test(test_lines__a_read_error_is_told),
		cmocka_unit_test(test_lines__whole_files_lose_their_bom_and_have_a_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
