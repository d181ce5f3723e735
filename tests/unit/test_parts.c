// SPDX-License-Identifier: Apache-2.0
/* test_parts: data files: names, headers, and every half-way state of closing one. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/sink/parts.h"

struct fixture {
	char path[32];
	struct df_parts_place place;
	struct df_parts parts;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	memcpy(f->path, "/tmp/df-parts-XXXXXX", 21);
	if (!mkdtemp(f->path))
		return -1;
	f->place = (struct df_parts_place){&df_io_real, open(f->path, O_RDONLY | O_DIRECTORY), false, 4};
	df_parts_init(&f->parts, &f->place, 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	char command[64];
	df_parts_release(&f->parts);
	(void)close(f->place.dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", f->path);
	free(f);
	return system(command);
}

static bool exists(struct fixture *f, const char *name)
{
	return faccessat(f->place.dir_fd, name, F_OK, 0) == 0;
}

static void test_parts__names_say_kind_number_and_compression(void **state)
{
	(void)state;
	static const struct {
		uint32_t kind, no;
		bool zstd, open;
		const char *name;
	} row[] = {
		{DF_OUTPUT_JSONL, 0, false, true, "part-00000.jsonl.open"},
		{DF_OUTPUT_JSONL, 12, true, false, "part-00012.jsonl.zst"},
		{DF_OUTPUT_NPY, 99999, true, true, "part-99999.npy.open"},
		{DF_OUTPUT_REJECTS, 100000, true, true, "rejects-100000.jsonl.zst.open"},
	};
	for (size_t i = 0; i < sizeof(row) / sizeof(*row); i++) {
		struct df_parts_place place = {.zstd = row[i].zstd};
		char name[DF_PART_NAME_MAX];
		df_part_name(name, &place, row[i].kind, row[i].no, row[i].open);
		assert_string_equal(name, row[i].name);
	}
}

static void test_parts__files_begin_with_their_first_row(void **state)
{
	struct fixture *f = *state;
	struct df_journal_file file[DF_N_OUTPUT];
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "", 0, 0, &f->fail), DF_OK);
	assert_false(exists(f, "part-00000.jsonl.open") || f->parts.created);
	assert_int_equal(df_parts_changed(&f->parts, file), 0);
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_REJECTS, "r\n", 2, 1, &f->fail), DF_OK);
	assert_true(exists(f, "rejects-00000.jsonl.open") && !exists(f, "part-00000.jsonl.open") && f->parts.created);
	assert_int_equal(df_parts_changed(&f->parts, file), 1);
	assert_true(file[0].kind == DF_OUTPUT_REJECTS && file[0].end == 2 && file[0].rows == 1 &&
		    file[0].hash == df_hash64("r\n", 2));
	assert_int_equal(df_parts_changed(&f->parts, file), 0);
	assert_int_equal(df_parts_kept(&f->parts, file), 1);
}

static void test_parts__a_cut_takes_back_what_no_commit_named(void **state)
{
	struct fixture *f = *state;
	struct df_journal_file file[DF_N_OUTPUT];
	uint64_t size = 0;
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "a\n", 2, 1, &f->fail), DF_OK);
	assert_int_equal(df_parts_changed(&f->parts, file), 1);
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "b\n", 2, 1, &f->fail), DF_OK);
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_REJECTS, "r\n", 2, 1, &f->fail), DF_OK);
	assert_int_equal(df_parts_cut(&f->parts, &f->fail), DF_OK);
	assert_int_equal(df_io_real.size(NULL, f->parts.part[DF_OUTPUT_JSONL].fd, &size), 0);
	assert_int_equal(size, 2);
	assert_false(exists(f, "rejects-00000.jsonl.open"));
}

static struct df_journal_file two_vectors(struct fixture *f)
{
	struct df_journal_file file[DF_N_OUTPUT];
	const float v[] = {1, 2, 3, 4, 5, 6};
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_NPY, v, sizeof(v), 2, &f->fail), DF_OK);
	assert_int_equal(df_parts_changed(&f->parts, file), 1);
	assert_true(file[0].dim == 3 && file[0].end == 128 + sizeof(v) && file[0].hash == df_hash64(v, sizeof(v)));
	return file[0];
}

static void check_vectors(struct fixture *f)
{
	char *p = NULL;
	size_t n = 0;
	struct df_npy npy;
	assert_false(exists(f, "part-00000.npy.open"));
	assert_int_equal(df_io_read_file(&df_io_real, f->place.dir_fd, "part-00000.npy", 1000, &p, &n, &f->fail),
			 DF_OK);
	assert_int_equal(df_npy_parse((struct df_str){p, n}, false, &npy, &f->fail), DF_OK);
	assert_true(npy.rows == 2 && npy.dim == 3 && npy.dtype == DF_NPY_F32);
	free(p);
}

static void test_parts__closing_is_completed_from_every_half_way_state(void **state)
{
	struct fixture *f = *state;
	for (int half = 0; half < 4; half++) {
		struct df_journal_file file = two_vectors(f);
		bool changed = false;
		int dir = f->place.dir_fd;
		/* 0: the ROTATE record alone; 1: bytes behind the end; 2: linked under both names; 3: all done */
		if (half == 1)
			assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_NPY, "123456789012", 12, 1, &f->fail),
					 DF_OK);
		if (half == 3)
			assert_int_equal(df_parts_close_set(&f->parts, true, &f->fail), DF_OK);
		df_parts_release(&f->parts);
		if (half == 2) {
			assert_int_equal(df_parts_complete(&f->place, &file, true, true, &changed, &f->fail), DF_OK);
			assert_int_equal(linkat(dir, "part-00000.npy", dir, "part-00000.npy.open", 0), 0);
		}
		assert_int_equal(df_parts_complete(&f->place, &file, true, true, &changed, &f->fail), DF_OK);
		assert_int_equal(changed, half != 3);
		check_vectors(f);
		assert_int_equal(unlinkat(dir, "part-00000.npy", 0), 0);
		df_parts_init(&f->parts, &f->place, 0);
	}
}

static void test_parts__a_file_that_is_there_is_never_renamed_over(void **state)
{
	struct fixture *f = *state;
	(void)two_vectors(f);
	int fd = openat(f->place.dir_fd, "part-00000.npy", O_WRONLY | O_CREAT, 0666);
	assert_int_equal(write(fd, "precious", 8), 8);
	(void)close(fd);
	assert_int_not_equal(df_parts_close_set(&f->parts, true, &f->fail), DF_OK);
	assert_non_null(strstr(f->fail.msg, "cannot rename 'part-00000.npy.open' to 'part-00000.npy': File exists"));
}

static int fd_of(struct fixture *f, const char *name)
{
	static int fd = -1;
	if (fd >= 0)
		(void)close(fd);
	fd = openat(f->place.dir_fd, name, O_RDWR);
	return fd;
}

static void test_parts__names_are_read_back(void **state)
{
	struct fixture *f = *state;
	static const char *const foreign[] = {
		"part-00000.jsonl.zst", "part-0.jsonl",      "part-00000.jsonl.open2", "lock", "journal", "part-.jsonl",
		"part-00000.jsonl~",    "parts-00000.jsonl", "part-99999999999.jsonl", ""};
	uint32_t kind = 9, no = 9;
	bool open = false;
	assert_true(df_part_parse(&f->place, "part-00012.npy.open", &kind, &no, &open));
	assert_true(kind == DF_OUTPUT_NPY && no == 12 && open);
	assert_true(df_part_parse(&f->place, "rejects-1234567.jsonl", &kind, &no, &open));
	assert_true(kind == DF_OUTPUT_REJECTS && no == 1234567 && !open);
	for (size_t i = 0; i < sizeof(foreign) / sizeof(*foreign); i++)
		assert_false(df_part_parse(&f->place, foreign[i], &kind, &no, &open));
}

/* Of sets that a lost end of the journal told of, however many. */
static void test_parts__files_of_later_sets_are_removed_or_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const name[] = {"part-00000.npy.open", "part-00007.jsonl.open", "rejects-00003.jsonl.open"};
	for (int i = 0; i < 3; i++)
		(void)close(openat(f->place.dir_fd, name[i], O_WRONLY | O_CREAT, 0666));
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "a\n", 2, 1, &f->fail), DF_OK);
	assert_int_equal(df_parts_check_unnamed(&f->parts, true, &f->fail), DF_OK);
	assert_int_equal(df_parts_sweep(&f->parts, &f->fail), DF_OK);
	for (int i = 0; i < 3; i++)
		assert_false(exists(f, name[i]));
	assert_true(exists(f, "part-00000.jsonl.open")); /* this one is written */
	(void)close(openat(f->place.dir_fd, "part-00031.jsonl", O_WRONLY | O_CREAT, 0666));
	assert_int_equal(df_parts_check_unnamed(&f->parts, true, &f->fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(f->fail.msg, "'part-00031.jsonl' is there, but the journal does not know it; move"));
	assert_int_equal(df_parts_check_unnamed(&f->parts, false, &f->fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(f->fail.msg, "(--fsync never)"));
}

static void test_parts__an_open_part_is_checked_range_by_range(void **state)
{
	struct fixture *f = *state;
	struct df_journal_file file[DF_N_OUTPUT];
	struct df_mark mark[3];
	size_t n_good = 0;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "0123456789", 10, 1, &f->fail), DF_OK);
		assert_int_equal(df_parts_changed(&f->parts, file), 1);
		mark[i] = (struct df_mark){.end = file[0].end, .hash = file[0].hash};
	}
	df_parts_release(&f->parts);
	df_parts_init(&f->parts, &f->place, 0);
	assert_int_equal(df_parts_reopen(&f->parts, &file[0], mark, 3, true, &n_good, &f->fail), DF_OK);
	assert_int_equal(df_parts_append(&f->parts, DF_OUTPUT_JSONL, "more", 4, 1, &f->fail), DF_OK);
	struct df_journal_file more[DF_N_OUTPUT];
	assert_int_equal(df_parts_changed(&f->parts, more), 1);
	assert_true(more[0].end == 34 && more[0].hash == df_hash64("012345678901234567890123456789more", 34));
	int fd = f->parts.part[DF_OUTPUT_JSONL].fd;
	assert_int_equal(pwrite(fd, "X", 1, 15), 1);
	df_parts_release(&f->parts);
	df_parts_init(&f->parts, &f->place, 0);
	assert_int_equal(df_parts_reopen(&f->parts, &file[0], mark, 3, true, &n_good, &f->fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(f->fail.msg, "'part-00000.jsonl.open' was changed or damaged between bytes 10 and 20"));
	assert_int_equal(n_good, 1);
	assert_int_equal(ftruncate(fd_of(f, "part-00000.jsonl.open"), 15), 0);
	df_parts_release(&f->parts);
	df_parts_init(&f->parts, &f->place, 0);
	assert_int_equal(df_parts_reopen(&f->parts, &file[0], mark, 3, false, &n_good, &f->fail), DF_ERR_CORRUPT);
	assert_int_equal(n_good, 1);
	assert_non_null(strstr(f->fail.msg, "has 15 bytes, but the journal says 30; this run does not sync"));
	df_parts_release(&f->parts);
	df_parts_init(&f->parts, &f->place, 0);
	assert_int_equal(unlinkat(f->place.dir_fd, "part-00000.jsonl.open", 0), 0);
	assert_int_equal(df_parts_reopen(&f->parts, &file[0], mark, 3, true, &n_good, &f->fail), DF_ERR_CORRUPT);
	assert_int_equal(n_good, 0);
	assert_non_null(strstr(f->fail.msg, "'part-00000.jsonl.open' is missing, but the journal says it has 30"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_parts__names_say_kind_number_and_compression),
		TEST(test_parts__files_begin_with_their_first_row),
		TEST(test_parts__a_cut_takes_back_what_no_commit_named),
		TEST(test_parts__closing_is_completed_from_every_half_way_state),
		TEST(test_parts__a_file_that_is_there_is_never_renamed_over),
		TEST(test_parts__names_are_read_back),
		TEST(test_parts__files_of_later_sets_are_removed_or_refused),
		TEST(test_parts__an_open_part_is_checked_range_by_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
