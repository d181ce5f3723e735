// SPDX-License-Identifier: Apache-2.0
/* Operands: files, globs, folders, stdin; what is named, what is passed over, and what is refused in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "coordinator/cells/dataset.h"

static char home[64], before[4096];
static struct df_dataset d;
static struct df_fail fail;

static void touch(const char *path, const char *content)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_true(fputs(content, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int set_up(void **state)
{
	(void)state;
	(void)snprintf(home, sizeof(home), "%s", "/tmp/df_test_dataset_XXXXXX");
	memset(&d, 0, sizeof(d));
	return !getcwd(before, sizeof(before)) || !mkdtemp(home) || chdir(home) != 0;
}

static int tear_down(void **state)
{
	(void)state;
	char command[128];
	df_dataset_release(&d);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", home);
	return chdir(before) != 0 || system(command) != 0;
}

static enum df_err open_with(enum df_format format, bool sequential, const char *const *operand, size_t n)
{
	struct df_dataset_spec spec = {.operand = operand, .n_operand = n, .format = format, .sequential = sequential};
	df_dataset_release(&d);
	memset(&fail, 0, sizeof(fail));
	return df_dataset_open(&spec, &d, &fail);
}

#define OPEN(...)                                                                                                      \
	open_with(DF_FORMAT_AUTO, false, (const char *const[]){__VA_ARGS__},                                           \
		  sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void assert_names(const char *expected)
{
	struct df_buf b;
	df_buf_init(&b, 1 << 20);
	for (size_t i = 0; i < d.n_source; i++)
		assert_int_equal(df_buf_addf(&b, "%s ", d.source[i].name), DF_OK);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_string_equal(b.p, expected);
	df_buf_release(&b);
}

static void make_tree(void)
{
	assert_int_equal(mkdir("c", 0755) | mkdir("c/B", 0755) | mkdir("c/a", 0755) | mkdir("c/.git", 0755), 0);
	touch("c/z.jsonl", "{}\n");
	touch("c/B/2.md", "two");
	touch("c/B/10.txt", "ten");
	touch("c/a/x.csv.gz", "");
	touch("c/a/pic.png", "");
	touch("c/.git/y.jsonl", "{}\n");
	touch("c/.hidden.txt", "");
}

static void test_dataset__folders_are_recursive_and_sorted_bytewise(void **state)
{
	(void)state;
	make_tree();
	assert_int_equal(OPEN("c"), DF_OK);
	assert_names("c/B/10.txt c/B/2.md c/a/x.csv.gz c/z.jsonl ");
	assert_int_equal(d.n_unknown, 1);
	assert_int_equal(d.n_hidden, 2);
	assert_int_equal(d.total_bytes, 9);
	assert_int_equal(d.source[0].kind, DF_SOURCE_TEXT);
	assert_int_equal(d.source[2].kind, DF_SOURCE_READER);
	assert_int_equal(d.source[2].format, DF_FORMAT_CSV);
	assert_int_equal(d.source[3].kind, DF_SOURCE_JSONL);
	assert_int_equal(d.source[3].id.size, 3);
	assert_int_equal(OPEN("./c//"), DF_OK);
	assert_names("c/B/10.txt c/B/2.md c/a/x.csv.gz c/z.jsonl ");
	assert_int_equal(OPEN("."), DF_OK);
	assert_names("c/B/10.txt c/B/2.md c/a/x.csv.gz c/z.jsonl ");
	char absolute[128];
	(void)snprintf(absolute, sizeof(absolute), "%s/c/B", home);
	assert_int_equal(OPEN(absolute), DF_OK);
	assert_names("c/B/10.txt c/B/2.md ");
}

static void test_dataset__loops_of_links_end(void **state)
{
	(void)state;
	make_tree();
	assert_int_equal(symlink("..", "c/a/up") | symlink(".", "c/self") | symlink("nowhere", "c/dead.jsonl"), 0);
	assert_int_equal(symlink("../z.jsonl", "c/B/link.jsonl"), 0);
	assert_int_equal(symlink("l2", "l1") | symlink("l1", "l2"), 0);
	assert_int_equal(OPEN("c"), DF_OK);
	assert_names("c/B/10.txt c/B/2.md c/B/link.jsonl c/a/x.csv.gz c/z.jsonl ");
	assert_int_equal(OPEN("l1"), DF_ERR_IO);
}

static void test_dataset__globs_are_sorted_and_a_file_of_that_name_wins(void **state)
{
	(void)state;
	touch("b.jsonl", "");
	touch("a.jsonl", "");
	touch("[x].jsonl", "");
	assert_int_equal(OPEN("*.jsonl"), DF_OK);
	assert_names("[x].jsonl a.jsonl b.jsonl ");
	assert_int_equal(OPEN("[x].jsonl"), DF_OK);
	assert_names("[x].jsonl ");
	assert_int_equal(OPEN("[ab].jsonl"), DF_OK);
	assert_names("a.jsonl b.jsonl ");
	assert_int_equal(OPEN("x*.jsonl"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "no file matches 'x*.jsonl'");
}

static void test_dataset__a_path_that_comes_twice_is_taken_once(void **state)
{
	(void)state;
	touch("a.jsonl", "");
	touch("b.jsonl", "");
	assert_int_equal(OPEN("b.jsonl", "*.jsonl", "./a.jsonl", "."), DF_OK);
	assert_names("b.jsonl a.jsonl ");
	assert_int_equal(d.n_repeated, 4);
}

static void test_dataset__formats_go_by_name_or_by_order(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		int kind, format;
	} want[] = {
		{"a.JSONL", DF_SOURCE_JSONL, DF_FORMAT_JSONL},   {"a.ndjson", DF_SOURCE_JSONL, DF_FORMAT_JSONL},
		{"a.json", DF_SOURCE_JSONL, DF_FORMAT_JSONL},    {"a.text", DF_SOURCE_TEXT, DF_FORMAT_TEXT},
		{"a.markdown", DF_SOURCE_TEXT, DF_FORMAT_TEXT},  {"a.tsv", DF_SOURCE_READER, DF_FORMAT_TSV},
		{"a.txt.zst", DF_SOURCE_READER, DF_FORMAT_TEXT}, {"a.jsonl.bz2", DF_SOURCE_READER, DF_FORMAT_JSONL},
		{"a.tar", DF_SOURCE_READER, DF_FORMAT_AUTO},     {"a.tar.xz", DF_SOURCE_READER, DF_FORMAT_AUTO},
		{"a.tgz", DF_SOURCE_READER, DF_FORMAT_AUTO},     {"a.zip", DF_SOURCE_READER, DF_FORMAT_AUTO},
	};
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		touch(want[i].name, "");
		assert_int_equal(OPEN(want[i].name), DF_OK);
		assert_int_equal(d.source[0].kind, want[i].kind);
		assert_int_equal(d.source[0].format, want[i].format);
	}
	touch("notes", "");
	touch(".txt", "");
	assert_int_equal(OPEN("notes"), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "--input-format"));
	assert_int_equal(OPEN(".txt"), DF_ERR_USAGE); /* a hidden file without an extension */
	assert_int_equal(open_with(DF_FORMAT_TEXT, false, (const char *const[]){"notes"}, 1), DF_OK);
	assert_int_equal(d.source[0].kind, DF_SOURCE_TEXT);
	assert_int_equal(open_with(DF_FORMAT_CSV, false, (const char *const[]){"a.text"}, 1), DF_OK);
	assert_int_equal(d.source[0].kind, DF_SOURCE_READER);
	assert_int_equal(open_with(DF_FORMAT_AUTO, true, (const char *const[]){"a.json"}, 1), DF_OK);
	assert_int_equal(d.source[0].kind, DF_SOURCE_READER);
	assert_int_equal(d.source[0].format, DF_FORMAT_JSONL);
}

static void test_dataset__stdin_and_pipes_are_live(void **state)
{
	(void)state;
	assert_int_equal(mkfifo("p", 0600), 0);
	assert_int_equal(OPEN("-", "p"), DF_OK);
	for (size_t i = 0; i < 2; i++) {
		assert_true(d.source[i].live);
		assert_int_equal(d.source[i].kind, DF_SOURCE_READER);
		assert_int_equal(d.source[i].format, DF_FORMAT_JSONL);
		assert_int_equal(d.source[i].id.ino, 0);
	}
	assert_string_equal(d.source[0].path, "-");
	assert_int_equal(OPEN("-", "-"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "'-' (stdin) is given twice");
}

static void test_dataset__what_is_not_there_is_told_in_plain_words(void **state)
{
	(void)state;
	assert_int_equal(open_with(DF_FORMAT_AUTO, false, NULL, 0), DF_ERR_USAGE);
	assert_int_equal(OPEN("nope.jsonl"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "no such file 'nope.jsonl'");
	assert_int_equal(mkdir("empty", 0755), 0);
	assert_int_equal(OPEN("empty"), DF_ERR_NOT_FOUND);
	assert_string_equal(fail.msg, "no documents in folder 'empty'");
	touch("empty/a.bin", "");
	assert_int_equal(OPEN("empty"), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "none of its 1 files has a known extension"));
	touch("file.jsonl", "");
	assert_int_equal(OPEN("file.jsonl/x"), DF_ERR_IO); /* a directory that is a file */
}

static void test_dataset__an_unreadable_file_is_told(void **state)
{
	(void)state;
	if (geteuid() == 0) {
		print_message("SKIP: root may read everything\n");
		skip();
	}
	touch("file.jsonl", "");
	assert_int_equal(chmod("file.jsonl", 0), 0);
	assert_int_equal(OPEN("file.jsonl"), DF_ERR_IO);
	assert_string_equal(fail.msg, "cannot read 'file.jsonl': Permission denied");
}

static void test_dataset__the_fingerprint_sees_every_change(void **state)
{
	(void)state;
	touch("a.jsonl", "1\n");
	touch("b.jsonl", "2\n");
	assert_int_equal(OPEN("a.jsonl", "b.jsonl"), DF_OK);
	uint64_t first = d.fingerprint;
	assert_int_equal(OPEN("a.jsonl", "b.jsonl"), DF_OK);
	assert_true(d.fingerprint == first);
	assert_int_equal(open_with(DF_FORMAT_AUTO, true, (const char *const[]){"a.jsonl", "b.jsonl"}, 2), DF_OK);
	assert_true(d.fingerprint != first);
	assert_int_equal(OPEN("b.jsonl", "a.jsonl"), DF_OK);
	assert_true(d.fingerprint != first);
	struct timespec times[2] = {{0, UTIME_NOW}, {12345, 678}};
	assert_int_equal(utimensat(AT_FDCWD, "b.jsonl", times, 0), 0);
	assert_int_equal(OPEN("a.jsonl", "b.jsonl"), DF_OK);
	assert_true(d.fingerprint != first);
	assert_true(d.source[1].id.mtime_ns == INT64_C(12345000000678));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_dataset__folders_are_recursive_and_sorted_bytewise),
		T(test_dataset__loops_of_links_end),
		T(test_dataset__globs_are_sorted_and_a_file_of_that_name_wins),
		T(test_dataset__a_path_that_comes_twice_is_taken_once),
		T(test_dataset__formats_go_by_name_or_by_order),
		T(test_dataset__stdin_and_pipes_are_live),
		T(test_dataset__what_is_not_there_is_told_in_plain_words),
		T(test_dataset__an_unreadable_file_is_told),
		T(test_dataset__the_fingerprint_sees_every_change),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
