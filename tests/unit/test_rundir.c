// SPDX-License-Identifier: Apache-2.0
/* test_rundir: directories that are, become or must not become a run's; and what run.json keeps. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/json.h"
#include "coordinator/rundir/run_diff.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/rundir/rundir.h"

static char base[] = "/tmp/df-rundir-XXXXXX";
static char path[PATH_MAX];

static const char *at(const char *name)
{
	(void)snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void touch(const char *name)
{
	int fd = open(at(name), O_WRONLY | O_CREAT, 0666);
	assert_true(fd >= 0);
	(void)close(fd);
}

static int set_up(void **state)
{
	(void)state;
	(void)memcpy(base + sizeof(base) - 7, "XXXXXX", 6);
	return mkdtemp(base) ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	char command[64];
	(void)snprintf(command, sizeof(command), "rm -rf %s", base);
	return system(command);
}

static void test_rundir__is_made_when_only_the_last_name_is_missing(void **state)
{
	(void)state;
	struct df_rundir dir;
	struct df_fail fail = {0};
	struct stat st;
	assert_int_equal(df_rundir_open(at("a/b"), false, &dir, &fail), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "its parent directory is missing"));
	assert_int_equal(df_rundir_open(at("a///"), false, &dir, &fail), DF_OK);
	assert_false(dir.was_run);
	assert_int_equal(fstat(dir.lock_fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_not_equal(fcntl(dir.lock_fd, F_GETFD) & FD_CLOEXEC, 0);
	df_rundir_close(&dir);
	/* killed before anything was written: only the lock is there */
	assert_int_equal(df_rundir_open(at("a"), false, &dir, &fail), DF_OK);
	df_rundir_close(&dir);
}

static void test_rundir__a_strangers_directory_or_file_is_refused(void **state)
{
	(void)state;
	struct df_rundir dir;
	struct df_fail fail = {0};
	assert_int_equal(mkdir(at("home"), 0777), 0);
	touch("home/letter.txt");
	assert_int_equal(df_rundir_open(at("home"), true, &dir, &fail), DF_ERR_EXISTS);
	assert_non_null(strstr(fail.msg, "is not empty and is not a run directory"));
	assert_int_not_equal(access(at("home/lock"), F_OK), 0);
	assert_int_equal(access(at("home/letter.txt"), F_OK), 0);
	assert_int_equal(df_rundir_open(at("home/letter.txt"), false, &dir, &fail), DF_ERR_TYPE);
	assert_int_equal(df_rundir_open("", false, &dir, &fail), DF_ERR_LIMIT);
}

static void test_rundir__a_second_run_is_refused_with_the_holders_pid(void **state)
{
	(void)state;
	struct df_rundir dir, second;
	struct df_fail fail = {0};
	char pid[40];
	assert_int_equal(df_rundir_open(at("out"), false, &dir, &fail), DF_OK);
	touch("out/journal");
	(void)snprintf(pid, sizeof(pid), "in use by process %ld;", (long)getpid());
	assert_int_equal(df_rundir_open(at("out"), false, &second, &fail), DF_ERR_BUSY);
	assert_non_null(strstr(fail.msg, pid));
	assert_int_equal(df_rundir_open(at("out"), true, &second, &fail), DF_ERR_BUSY);
	assert_int_equal(access(at("out/journal"), F_OK), 0);
	df_rundir_close(&dir);
	assert_int_equal(df_rundir_open(at("out"), false, &second, &fail), DF_OK);
	assert_true(second.was_run);
	df_rundir_close(&second);
}

static void test_rundir__the_lock_dies_with_its_process(void **state)
{
	(void)state;
	struct df_rundir dir;
	struct df_fail fail = {0};
	pid_t pid = fork();
	if (pid == 0) {
		_exit(df_rundir_open(at("out"), false, &dir, NULL) == DF_OK ? 0 : 1);
	}
	int status = 1;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(df_rundir_open(at("out"), false, &dir, &fail), DF_OK);
	df_rundir_close(&dir);
}

static void test_rundir__a_forced_restart_puts_the_earlier_run_aside(void **state)
{
	(void)state;
	struct df_rundir dir;
	struct df_fail fail = {0};
	for (int i = 0; i < 3; i++) {
		char old[64];
		assert_int_equal(df_rundir_open(at("out"), true, &dir, &fail), DF_OK);
		assert_false(dir.was_run);
		(void)snprintf(old, sizeof(old), "out.old-%d", i);
		assert_string_equal(dir.aside, i ? at(old) : "");
		touch("out/run.json");
		df_rundir_close(&dir);
	}
	assert_int_equal(access(at("out.old-2/run.json"), F_OK), 0);
}

/* --- run.json --- */

static struct df_run_summary example(void)
{
	static const struct df_run_option option[] = {{{"max_record", 10}, {"8388608", 7}},
						      {{"text_key", 8}, {"te\"xt", 5}}};
	static const struct df_str input[] = {{"a.jsonl", 7}, {"b\n.jsonl", 8}};
	static const struct df_counter counter[] = {{{"in", 2}, 10},
						    {{"out", 3}, 7},
						    {{"filtered", 8}, 2},
						    {{"rejected", 8}, 1},
						    {{"filtered:clean:short", 20}, 2},
						    {{"rejected:read:utf8", 18}, 1},
						    {{"rows", 4}, UINT64_MAX},
						    {{"time_ns:clean", 13}, 1500000000}};
	static const struct df_run_process process[] = {{{"worker", 6}, 3, 1 << 20, 0.25}};
	static struct df_part_info part[] = {
		{.kind = DF_OUTPUT_NPY, .no = 0, .bytes = 200, .rows = 9, .hash = 0xabc, .name = "part-00000.npy"}};
	return (struct df_run_summary){.run_id = 0xfedcba9876543210,
				       .fingerprint = 0x0123456789abcdef,
				       .state = DF_STR("finished"),
				       .started_wall_ns = UINT64_C(1700000000123456789),
				       .finished_wall_ns = UINT64_C(1700000001000000000),
				       .elapsed_seconds = 0.876,
				       .epoch = 2,
				       .pipeline = DF_STR("strip | clean min_chars=20"),
				       .option = option,
				       .n_option = 2,
				       .cell_bytes = 16384,
				       .n_source = 2,
				       .source_bytes = 12345,
				       .input = input,
				       .n_input = 2,
				       .counter = counter,
				       .n_counter = sizeof(counter) / sizeof(*counter),
				       .process = process,
				       .n_process = 1,
				       .part = part,
				       .n_part = 1};
}

static void test_run_json__says_what_was_run_and_how_it_went(void **state)
{
	(void)state;
	struct df_run_summary s = example();
	struct df_buf b;
	struct df_arena arena;
	struct df_json *root = NULL;
	struct df_fail fail = {0};
	df_buf_init(&b, 1 << 20);
	df_arena_init(&arena, 1 << 20, 0);
	assert_int_equal(df_run_json_format(&s, &b), DF_OK);
	assert_int_equal(df_json_parse(df_buf_str(&b), &arena, &root, &fail), DF_OK);
	const struct df_json *counts = df_json_get(root, "counts");
	assert_int_equal(df_json_get_u64(root, "format_version", 0), 1);
	assert_int_equal(df_json_get_u64(counts, "in", 0), 10);
	assert_int_equal(df_json_get_u64(counts, "filtered_total", 0), 2);
	assert_int_equal(df_json_get_u64(df_json_get(counts, "filtered"), "clean:short", 0), 2);
	assert_int_equal(df_json_get_u64(df_json_get(counts, "rejected"), "read:utf8", 0), 1);
	assert_true(df_json_get_u64(counts, "rows", 0) == UINT64_MAX);
	assert_true(df_json_get(df_json_get(root, "stages")->child, "seconds")->number == 1.5);
	assert_true(df_str_is(df_json_get_str(root, "started"), "2023-11-14T22:13:20.123Z"));
	assert_true(df_str_is(df_json_get_str(df_json_get(root, "parts")->child, "xxh3"), "0000000000000abc"));
	df_arena_release(&arena);
	df_buf_release(&b);
}

static void expect_difference(const struct df_run_summary *there, const struct df_run_summary *asked, const char *want,
			      const char *want_what)
{
	struct df_buf lines, what;
	df_buf_init(&lines, 1 << 20);
	df_buf_init(&what, 1 << 20);
	assert_int_equal(df_run_diff(there, asked, &lines, &what), *want == '\0');
	assert_int_equal(df_buf_addc(&lines, '\0'), DF_OK);
	assert_int_equal(df_buf_addc(&what, '\0'), DF_OK);
	assert_string_equal(lines.p, want);
	assert_string_equal(what.p, want_what);
	df_buf_release(&lines);
	df_buf_release(&what);
}

static void test_run_diff__of_long_pipelines_shows_what_lies_around_the_first_difference(void **state)
{
	(void)state;
	char was[3000], is[3000];
	memset(was, 'a', sizeof(was));
	memcpy(was + 1900, "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 12);
	memcpy(is, was, sizeof(is));
	is[1961] = 'B';
	struct df_run_summary there = {.pipeline = {was, sizeof(was)}}, asked = {.pipeline = {is, sizeof(is)}};
	struct df_buf lines, what;
	df_buf_init(&lines, 1 << 20);
	df_buf_init(&what, 1 << 20);
	assert_false(df_run_diff(&there, &asked, &lines, &what));
	assert_in_range(lines.n, 400, 700);
	assert_int_equal(df_str_utf8_prefix(df_buf_str(&lines)), lines.n);
	assert_non_null(memchr(lines.p, 'B', lines.n));
	df_buf_release(&lines);
	df_buf_release(&what);
}

static void test_run_json__reads_back_what_a_resume_compares(void **state)
{
	(void)state;
	struct df_run_summary s = example(), there;
	struct df_arena arena;
	struct df_fail fail = {0};
	int fd = open(base, O_RDONLY | O_DIRECTORY);
	df_arena_init(&arena, 1 << 20, 0);
	assert_int_equal(df_run_json_read(&df_io_real, fd, &arena, &there, &fail), DF_ERR_NOT_FOUND);
	assert_int_equal(df_run_json_write(&df_io_real, fd, &s, &fail), DF_OK);
	assert_int_equal(df_run_json_write(&df_io_real, fd, &s, &fail), DF_OK);
	assert_int_equal(df_run_json_read(&df_io_real, fd, &arena, &there, &fail), DF_OK);
	assert_true(there.run_id == s.run_id && there.fingerprint == s.fingerprint &&
		    there.started_wall_ns == s.started_wall_ns);
	assert_true(there.epoch == 2 && there.elapsed_seconds == 0.876 && there.cell_bytes == 16384);
	assert_true(df_str_is(there.version, DF_VERSION) && df_str_is(there.state, "finished"));
	expect_difference(&there, &s, "", "");
	struct df_run_option option[] = {{DF_STR("max_record"), DF_STR("99")}, s.option[1]};
	s.option = option;
	expect_difference(&there, &s, "max_record: was '8388608', now '99'\n", "option max_record");
	s.option = &there.option[1];
	s.n_option = 1;
	expect_difference(&there, &s, "max_record: was '8388608', now not set\n", "option max_record");
	s.pipeline = DF_STR("strip");
	s.cell_bytes = 5;
	expect_difference(&there, &s,
			  "pipeline: was 'strip | clean min_chars=20'\npipeline: now 'strip'\n"
			  "max_record: was '8388608', now not set\ncell_size: was '16384', now '5'\n",
			  "pipeline and 2 options");
	df_arena_release(&arena);
	(void)close(fd);
}

static void test_run_json__of_another_version_or_make_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum df_err err;
	} row[] = {{"", DF_ERR_CORRUPT},
		   {"{\"format_version\":1", DF_ERR_CORRUPT},
		   {"[]", DF_ERR_CORRUPT},
		   {"{\"name\":\"web\"}", DF_ERR_CORRUPT},
		   {"{\"format_version\":2}", DF_ERR_VERSION},
		   {"{\"format_version\":1,\"options\":[1],\"inputs\":3,\"grid\":null,\"elapsed_seconds\":\"x\",\"run_"
		    "id\":5}",
		    DF_OK}};
	int fd = open(base, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		struct df_arena arena;
		struct df_run_summary there;
		struct df_fail fail = {0};
		df_arena_init(&arena, 1 << 20, 0);
		assert_int_equal(
			df_io_replace_file(&df_io_real, fd, "run.json", row[i].text, strlen(row[i].text), &fail),
			DF_OK);
		assert_int_equal(df_run_json_read(&df_io_real, fd, &arena, &there, &fail), row[i].err);
		df_arena_release(&arena);
	}
	(void)close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_rundir__is_made_when_only_the_last_name_is_missing),
		TEST(test_rundir__a_strangers_directory_or_file_is_refused),
		TEST(test_rundir__a_second_run_is_refused_with_the_holders_pid),
		TEST(test_rundir__the_lock_dies_with_its_process),
		TEST(test_rundir__a_forced_restart_puts_the_earlier_run_aside),
		TEST(test_run_json__says_what_was_run_and_how_it_went),
		TEST(test_run_json__reads_back_what_a_resume_compares),
		TEST(test_run_diff__of_long_pipelines_shows_what_lies_around_the_first_difference),
		TEST(test_run_json__of_another_version_or_make_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
