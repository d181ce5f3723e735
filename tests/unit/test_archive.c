// SPDX-License-Identifier: Apache-2.0
/* Archives: what is taken for one, and names from strangers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker/read/archive.h"

static uint8_t tar[4096];

/* One ustar header, by hand: names that a library would refuse to write. */
static void make_header(const char *name, char type, size_t size)
{
	unsigned sum = 0;
	memset(tar, 0, sizeof(tar));
	memcpy(tar, name, strlen(name));
	(void)snprintf((char *)tar + 100, 8, "0000644");
	(void)snprintf((char *)tar + 124, 12, "%011zo", size);
	(void)snprintf((char *)tar + 136, 12, "%011o", 0);
	tar[156] = (uint8_t)type;
	memcpy(tar + 257, "ustar\00000", 8);
	memset(tar + 148, ' ', 8);
	for (size_t i = 0; i < 512; i++)
		sum += tar[i];
	(void)snprintf((char *)tar + 148, 8, "%06o", sum);
}

static enum df_err next_of(size_t n, char *name, size_t cap, struct df_fail *fail)
{
	int fd = memfd_create("tar", MFD_CLOEXEC);
	struct df_stream *in;
	struct df_archive *a = NULL;
	struct df_member member;
	assert_true(fd >= 0 && write(fd, tar, n) == (ssize_t)n && lseek(fd, 0, SEEK_SET) == 0);
	assert_int_equal(df_stream_of_fd(fd, "A.tar", -1, &in), DF_OK);
	enum df_err err = df_archive_open(in, -1, DF_ARCHIVE_TAR, &a, fail);
	if (err == DF_OK)
		err = df_archive_next(a, &member, fail);
	if (err == DF_OK)
		(void)snprintf(name, cap, "%d%.*s", member.is_file, (int)member.name.n, member.name.p);
	df_archive_close(&a);
	assert_null(a);
	df_stream_destroy(&in);
	(void)close(fd);
	return err;
}

static void test_archive__names_are_made_valid_utf8_and_stay_text(void **state)
{
	(void)state;
	static const struct {
		const char *name, *expected;
		char type;
	} names[] = {
		{"a/b.txt", "1a/b.txt", '0'},
		{"../../etc/passwd", "1../../etc/passwd", '0'},
		{"\xff\xc3.md", "1\xef\xbf\xbd\xef\xbf\xbd.md", '0'},
		{"caf\xc3\xa9.txt", "1caf\xc3\xa9.txt", '0'},
		{"link.txt", "0link.txt", '2'},
		{"fifo.txt", "0fifo.txt", '6'},
		{"folder/", "0folder/", '5'},
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char name[256] = "";
		struct df_fail fail = {DF_OK, ""};
		make_header(names[i].name, names[i].type, 0);
		assert_int_equal(next_of(2048, name, sizeof(name), &fail), DF_OK);
		assert_string_equal(name, names[i].expected);
	}
}

static void test_archive__a_tar_is_known_by_its_checksum_and_text_is_none(void **state)
{
	(void)state;
	make_header("a.txt", '0', 0);
	assert_int_equal(df_archive_format_of(tar, 512), DF_ARCHIVE_TAR);
	assert_int_equal(df_archive_format_of(tar, 511), DF_ARCHIVE_NONE);
	tar[3] ^= 1;
	assert_int_equal(df_archive_format_of(tar, 512), DF_ARCHIVE_NONE);
	memset(tar, 'x', 512);
	memcpy(tar + 257, "ustar", 5); /* a document about tar */
	assert_int_equal(df_archive_format_of(tar, 512), DF_ARCHIVE_NONE);
	memset(tar, 0, 512);
	assert_int_equal(df_archive_format_of(tar, 512), DF_ARCHIVE_NONE);
	assert_int_equal(df_archive_format_of((const uint8_t *)"PK\3\4", 4), DF_ARCHIVE_ZIP);
	assert_int_equal(df_archive_format_of((const uint8_t *)"PKxx", 4), DF_ARCHIVE_NONE);
}

static void test_archive__a_broken_header_is_corrupt_and_names_the_archive(void **state)
{
	(void)state;
	char name[256];
	struct df_fail fail = {DF_OK, ""};
	make_header("a.txt", '0', 0);
	tar[150] = '9';
	assert_int_equal(next_of(512, name, sizeof(name), &fail), DF_ERR_CORRUPT);
	assert_non_null(strstr(fail.msg, "'A.tar'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_archive__names_are_made_valid_utf8_and_stay_text),
		cmocka_unit_test(test_archive__a_tar_is_known_by_its_checksum_and_text_is_none),
		cmocka_unit_test(test_archive__a_broken_header_is_corrupt_and_names_the_archive),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
