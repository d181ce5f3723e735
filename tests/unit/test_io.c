// SPDX-License-Identifier: Apache-2.0
/* test_io: the real table on a real folder, and the two helpers on a disk that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/io.h"

static char dir[] = "/tmp/test_io.XXXXXX";
static int dirfd_;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dirfd_ < 0;
}

static int teardown(void **state)
{
	(void)state;
	static const char *const names[] = {"a", "b", "a.tmp"};
	for (size_t i = 0; i < 3; i++)
		(void)unlinkat(dirfd_, names[i], 0);
	close(dirfd_);
	int left = rmdir(dir);
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	return left;
}

static enum df_err read_back(const char *name, size_t max, char **p, size_t *n)
{
	return df_io_read_file(&df_io_real, dirfd_, name, max, p, n, &fail);
}

static void test_io__replace_then_read_gives_the_same_bytes(void **state)
{
	(void)state;
	char *p = NULL;
	size_t n = 0;
	assert_int_equal(df_io_replace_file(&df_io_real, dirfd_, "a", "first", 5, &fail), DF_OK);
	assert_int_equal(df_io_replace_file(&df_io_real, dirfd_, "a", "se\0cond", 7, &fail), DF_OK);
	assert_int_equal(read_back("a", 7, &p, &n), DF_OK);
	assert_int_equal(n, 7);
	assert_memory_equal(p, "se\0cond", 8);
	free(p);
	p = NULL;
	assert_int_equal(read_back("a", 6, &p, &n), DF_ERR_LIMIT);
	assert_int_equal(read_back("none", 6, &p, &n), DF_ERR_NOT_FOUND);
	assert_int_equal(read_back(".", 1 << 20, &p, &n), DF_ERR_IO);
	assert_null(p);
	assert_true(faccessat(dirfd_, "a.tmp", F_OK, 0) < 0);
}

static void test_io__write_all_takes_many_pieces(void **state)
{
	(void)state;
	enum { PIECES = 3000 };
	static struct iovec iov[PIECES];
	static char bytes[PIECES];
	char *p = NULL;
	size_t n = 0;
	for (size_t i = 0; i < PIECES; i++) {
		bytes[i] = (char)('a' + i % 26);
		iov[i] = (struct iovec){&bytes[i], i % 3 ? 1 : 0};
	}
	int fd = df_io_real.open(NULL, dirfd_, "a", O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	assert_int_equal(df_io_real.write_all(NULL, fd, iov, PIECES, 5), 0);
	uint64_t size = 0;
	assert_int_equal(df_io_real.size(NULL, fd, &size), 0);
	assert_int_equal(size, 5 + 2000);
	assert_int_equal(df_io_real.sync_data(NULL, fd), 0);
	assert_int_equal(df_io_real.truncate(NULL, fd, 7), 0);
	assert_int_equal(df_io_real.close(NULL, fd), 0);
	assert_int_equal(read_back("a", 100, &p, &n), DF_OK);
	assert_int_equal(n, 7);
	assert_memory_equal(p, "\0\0\0\0\0bc", 7);
	free(p);
}

static void test_io__rename_new_never_replaces(void **state)
{
	(void)state;
	char *p = NULL;
	size_t n = 0;
	assert_int_equal(df_io_replace_file(&df_io_real, dirfd_, "a", "A", 1, &fail), DF_OK);
	assert_int_equal(df_io_replace_file(&df_io_real, dirfd_, "b", "B", 1, &fail), DF_OK);
	assert_int_equal(df_io_real.rename_new(NULL, dirfd_, "a", "b"), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(read_back("b", 10, &p, &n), DF_OK);
	assert_memory_equal(p, "B", 1);
	free(p);
	assert_int_equal(df_io_real.unlink(NULL, dirfd_, "b"), 0);
	assert_int_equal(df_io_real.rename_new(NULL, dirfd_, "a", "b"), 0);
}

/* ------------------------------------------------------------------ a disk that fails at its n-th call */

static int calls_left;

static bool broken(void)
{
	if (calls_left-- > 0)
		return false;
	errno = ENOSPC;
	return true;
}

static int bad_open(void *s, int d, const char *path, int flags, unsigned mode)
{
	return broken() ? -1 : df_io_real.open(s, d, path, flags, mode);
}

static int bad_write(void *s, int fd, const struct iovec *iov, int n, uint64_t at)
{
	return broken() ? -1 : df_io_real.write_all(s, fd, iov, n, at);
}

static int bad_sync(void *s, int fd)
{
	return broken() ? -1 : df_io_real.sync_data(s, fd);
}

static int bad_close(void *s, int fd)
{
	int failed = df_io_real.close(s, fd);
	return broken() ? -1 : failed;
}

static int bad_rename(void *s, int d, const char *from, const char *to)
{
	return broken() ? -1 : df_io_real.rename_over(s, d, from, to);
}

static void test_io__a_failed_replace_leaves_the_old_file_and_no_rest(void **state)
{
	(void)state;
	struct df_io bad = df_io_real;
	bad.open = bad_open;
	bad.write_all = bad_write;
	bad.sync_data = bad_sync;
	bad.close = bad_close;
	bad.rename_over = bad_rename;
	assert_int_equal(df_io_replace_file(&df_io_real, dirfd_, "a", "old", 3, &fail), DF_OK);
	int n = 0;
	for (;; n++) {
		calls_left = n;
		enum df_err err = df_io_replace_file(&bad, dirfd_, "a", "new", 3, &fail);
		if (err == DF_OK)
			break;
		char *p = NULL;
		size_t size = 0;
		assert_int_equal(err, DF_ERR_NOSPACE);
		assert_int_equal(read_back("a", 10, &p, &size), DF_OK);
		assert_memory_equal(p, "old", 3);
		free(p);
		assert_true(faccessat(dirfd_, "a.tmp", F_OK, 0) < 0);
	}
	assert_int_equal(n, 5);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_io__replace_then_read_gives_the_same_bytes),
		T(test_io__write_all_takes_many_pieces),
		T(test_io__rename_new_never_replaces),
		T(test_io__a_failed_replace_leaves_the_old_file_and_no_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
