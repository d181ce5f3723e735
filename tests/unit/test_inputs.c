// SPDX-License-Identifier: Apache-2.0
/*
 * The list of a run's inputs: it reads back, names what differs, forgives with checksums what --paranoid forgives, and no damaged byte is
 * believed. And the checksums themselves.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/hash.h"
#include "coordinator/rundir/checksums.h"
#include "coordinator/rundir/inputs.h"

static char base[] = "/tmp/docflume-inputs-XXXXXX";

struct fixture {
	int fd;
	struct df_source source[12];
	struct df_dataset d;
	uint64_t sum[12];
	char name[12][16];
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->fd = open(base, O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < 12; i++) {
		(void)snprintf(f->name[i], sizeof(f->name[i]), "file%02u.jsonl", i);
		f->source[i] = (struct df_source){.path = f->name[i],
						  .name = f->name[i],
						  .id = {1, i + 100, i * 1000, 1700000000000000000 + i},
						  .kind = DF_SOURCE_JSONL,
						  .format = DF_FORMAT_JSONL};
		f->sum[i] = 7 * i;
	}
	f->d = (struct df_dataset){.source = f->source, .n_source = 12, .fingerprint = 42};
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	(void)close(f->fd);
	free(f);
	return 0;
}

static int make_base(void **state)
{
	(void)state;
	return mkdtemp(base) ? 0 : -1;
}

static int remove_base(void **state)
{
	char command[200];
	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

/* The lines that tell the difference; the caller frees. */
static char *differences(struct fixture *f, const uint64_t *sum, bool differ)
{
	struct df_inputs_diff diff;
	assert_int_equal(df_inputs_compare(&df_io_real, f->fd, &f->d, sum, &diff, &f->fail), DF_OK);
	assert_int_equal(df_inputs_differ(&diff), differ);
	char *z = df_str_dup(df_buf_str(&diff.lines));
	df_inputs_diff_release(&diff);
	return z;
}

static void expect(struct fixture *f, const uint64_t *sum, const char *part)
{
	char *z = differences(f, sum, part != NULL);
	if (part && !strstr(z, part))
		fail_msg("no '%s' in:\n%s", part, z);
	if (!part)
		assert_string_equal(z, "");
	free(z);
}

static void test_inputs__the_same_are_the_same(void **state)
{
	struct fixture *f = *state;
	struct df_inputs_head head;
	(void)unlinkat(f->fd, DF_INPUTS_NAME, 0);
	assert_int_equal(df_inputs_head(&df_io_real, f->fd, &head, &f->fail), DF_ERR_NOT_FOUND);
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &f->d, NULL, &f->fail), DF_OK);
	assert_int_equal(df_inputs_head(&df_io_real, f->fd, &head, &f->fail), DF_OK);
	assert_true(head.n_source == 12 && head.fingerprint == 42 && !head.has_sums);
	expect(f, NULL, NULL);
}

static void test_inputs__each_difference_is_named_and_the_list_is_bounded(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &f->d, NULL, &f->fail), DF_OK);
	f->source[3].id.size++;
	expect(f, NULL, "input 'file03.jsonl': 3000 bytes, now 3001\n");
	f->source[3].id.mtime_ns += 1000000000;
	expect(f, NULL, "; modified 20");
	f->source[3].id = (struct df_file_id){2, 103, 3000, f->source[3].id.mtime_ns - 1000000000};
	expect(f, NULL, "input 'file03.jsonl': another file (inode 103 of device 1, now 103 of 2)\n");
	f->source[3].id.dev = 1;
	f->source[3].format = DF_FORMAT_CSV;
	expect(f, NULL, "input 'file03.jsonl': read as jsonl, now as csv\n");
	f->source[3].format = DF_FORMAT_JSONL;
	f->source[3].name = "other.jsonl";
	expect(f, NULL, "input 'file03.jsonl' is not there any more\ninput 'other.jsonl' is new\n");
	f->source[3].name = f->name[3];
	for (int i = 0; i < 12; i++)
		f->source[i].id.size += 5;
	expect(f, NULL, "and 6 more\n");
	for (int i = 0; i < 12; i++)
		f->source[i].id.size -= 5;
	struct df_source first = f->source[0];
	f->source[0] = f->source[1];
	f->source[1] = first;
	expect(f, NULL, "the inputs come in another order\n");
}

static void test_inputs__with_checksums_inode_and_time_are_forgiven_and_content_is_not(void **state)
{
	struct fixture *f = *state;
	struct df_inputs_diff diff;
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &f->d, NULL, &f->fail), DF_OK);
	assert_int_equal(df_inputs_compare(&df_io_real, f->fd, &f->d, f->sum, &diff, &f->fail), DF_ERR_UNSUPPORTED);
	assert_non_null(strstr(f->fail.msg, "begun without --paranoid"));
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &f->d, f->sum, &f->fail), DF_OK);
	f->source[5].id.ino = 9;
	f->source[5].id.mtime_ns = 9;
	expect(f, f->sum, NULL);
	expect(f, NULL, "input 'file05.jsonl': modified");
	f->sum[6]++; /* same size, time and inode */
	expect(f, f->sum, "input 'file06.jsonl': its content differs\n");
}

static void test_inputs__a_list_larger_than_the_window_reads_back(void **state)
{
	struct fixture *f = *state;
	enum { N = 60000 };
	struct df_source *many = calloc(N, sizeof(*many));
	char(*name)[64] = calloc(N, sizeof(*name));
	for (unsigned i = 0; i < N; i++) {
		(void)snprintf(name[i], sizeof(*name), "a/folder/with/a/name/%u\xff\n.txt", i);
		many[i] = (struct df_source){.path = name[i], .name = name[i], .id = {1, i, i, i}};
	}
	struct df_dataset d = {.source = many, .n_source = N, .fingerprint = 1};
	f->d = d;
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &d, NULL, &f->fail), DF_OK);
	expect(f, NULL, NULL);
	many[N - 1].id.ino++;
	expect(f, NULL, "another file (inode 59999 of device 1, now 60000 of 1)\n");
	free(many);
	free(name);
}

static void test_inputs__no_flipped_bit_and_no_cut_is_believed(void **state)
{
	struct fixture *f = *state;
	char *p = NULL;
	size_t n = 0;
	f->d.n_source = 3;
	assert_int_equal(df_inputs_write(&df_io_real, f->fd, &f->d, f->sum, &f->fail), DF_OK);
	assert_int_equal(df_io_read_file(&df_io_real, f->fd, DF_INPUTS_NAME, 1 << 20, &p, &n, &f->fail), DF_OK);
	for (size_t bit = 0; bit < 8 * n + n; bit++) { /* then the cuts */
		struct df_inputs_diff diff;
		size_t length = bit < 8 * n ? n : bit - 8 * n;
		if (bit < 8 * n)
			p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
		int fd = openat(f->fd, DF_INPUTS_NAME, O_WRONLY | O_TRUNC);
		assert_int_equal(write(fd, p, length), length);
		(void)close(fd);
		enum df_err err = df_inputs_compare(&df_io_real, f->fd, &f->d, NULL, &diff, &f->fail);
		if (err != DF_ERR_CORRUPT && err != DF_ERR_VERSION)
			fail_msg("bit %zu of %zu: %s", bit, 8 * n, df_err_name(err));
		if (bit < 8 * n)
			p[bit / 8] = (char)(p[bit / 8] ^ 1 << bit % 8);
	}
	free(p);
}

static void test_checksums__are_those_of_the_bytes_and_a_changed_file_is_said(void **state)
{
	struct fixture *f = *state;
	char path[3][64];
	struct stat st;
	f->d.n_source = 3;
	for (int i = 0; i < 3; i++) {
		(void)snprintf(path[i], sizeof(path[i]), "%s/sum%d", base, i);
		int fd = open(path[i], O_RDWR | O_CREAT, 0600);
		assert_int_equal(write(fd, "0123456789", 4 + i), 4 + i);
		assert_int_equal(fstat(fd, &st), 0);
		(void)close(fd);
		f->source[i].path = path[i];
		df_file_id_of(&st, &f->source[i].id);
	}
	f->source[2].live = true;
	assert_int_equal(df_checksums(&f->d, 4, NULL, f->sum, &f->fail), DF_OK);
	assert_true(f->sum[0] == df_hash64("0123", 4) && f->sum[1] == df_hash64("01234", 5) && f->sum[2] == 0);
	f->source[1].id.size++;
	assert_int_equal(df_checksums(&f->d, 1, NULL, f->sum, &f->fail), DF_ERR_CHANGED);
	assert_non_null(strstr(f->fail.msg, "file01.jsonl"));
	(void)unlink(path[0]);
	assert_int_equal(df_checksums(&f->d, 1, NULL, f->sum, &f->fail), DF_ERR_NOT_FOUND);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_inputs__the_same_are_the_same),
		TEST(test_inputs__each_difference_is_named_and_the_list_is_bounded),
		TEST(test_inputs__with_checksums_inode_and_time_are_forgiven_and_content_is_not),
		TEST(test_inputs__a_list_larger_than_the_window_reads_back),
		TEST(test_inputs__no_flipped_bit_and_no_cut_is_believed),
		TEST(test_checksums__are_those_of_the_bytes_and_a_changed_file_is_said),
	};
	return cmocka_run_group_tests(tests, make_base, remove_base);
}
