// SPDX-License-Identifier: Apache-2.0
/* io: the real table over system calls, and two whole-file helpers written on top of any table. */
#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int real_open(void *self, int dirfd, const char *path, int flags, unsigned mode)
{
	(void)self;
	return TEMP_FAILURE_RETRY(openat(dirfd, path, flags | O_CLOEXEC, mode));
}

static int real_close(void *self, int fd)
{
	(void)self;
	int r = close(fd);
	return r < 0 && errno == EINTR ? 0 : r; /* Linux has closed it all the same: once more would close another's */
}

static ssize_t real_read_at(void *self, int fd, void *p, size_t n, uint64_t offset)
{
	(void)self;
	size_t done = 0;
	while (done < n) {
		ssize_t r = TEMP_FAILURE_RETRY(pread(fd, (char *)p + done, n - done, (off_t)(offset + done)));
		if (r < 0)
			return -1;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static int write_some(int fd, const char *p, size_t n, uint64_t offset)
{
	while (n) {
		ssize_t r = TEMP_FAILURE_RETRY(pwrite(fd, p, n, (off_t)offset));
		if (r < 0)
			return -1;
		if (r == 0) {
			errno = ENOSPC;
			return -1;
		}
		p += r;
		n -= (size_t)r;
		offset += (uint64_t)r;
	}
	return 0;
}

static int real_write_all(void *self, int fd, const struct iovec *iov, int n_iov, uint64_t offset)
{
	(void)self;
	while (n_iov > 0) {
		int batch = n_iov < IOV_MAX ? n_iov : IOV_MAX;
		ssize_t r = TEMP_FAILURE_RETRY(pwritev(fd, iov, batch, (off_t)offset));
		if (r < 0)
			return -1;
		size_t left = (size_t)r;
		offset += (uint64_t)r;
		while (n_iov > 0 && left >= iov->iov_len) {
			left -= iov->iov_len;
			iov++;
			n_iov--;
		}
		if (n_iov > 0 && (left > 0 || r == 0)) { /* a short write inside one piece */
			if (write_some(fd, (char *)iov->iov_base + left, iov->iov_len - left, offset) < 0)
				return -1;
			offset += iov->iov_len - left;
			iov++;
			n_iov--;
		}
	}
	return 0;
}

static int real_truncate(void *self, int fd, uint64_t length)
{
	(void)self;
	return TEMP_FAILURE_RETRY(ftruncate(fd, (off_t)length));
}

static int real_size(void *self, int fd, uint64_t *ret_bytes)
{
	(void)self;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -1;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int real_sync_data(void *self, int fd)
{
	(void)self;
	return TEMP_FAILURE_RETRY(fdatasync(fd));
}

static int real_sync_dir(void *self, int dirfd)
{
	(void)self;
	return TEMP_FAILURE_RETRY(fsync(dirfd));
}

static int real_rename_new(void *self, int dirfd, const char *from, const char *to)
{
	(void)self;
	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* file systems without RENAME_NOREPLACE: a hard link fails too when the name exists */
	if (linkat(dirfd, from, dirfd, to, 0) < 0)
		return -1;
	/* two changes: a power cut must not keep the second without the first */
	if (TEMP_FAILURE_RETRY(fsync(dirfd)) < 0)
		return -1;
	return unlinkat(dirfd, from, 0);
}

static int real_rename_over(void *self, int dirfd, const char *from, const char *to)
{
	(void)self;
	return renameat(dirfd, from, dirfd, to);
}

static int real_unlink(void *self, int dirfd, const char *path)
{
	(void)self;
	return unlinkat(dirfd, path, 0);
}

static int real_list(void *self, int dirfd, bool (*each)(void *arg, const char *name), void *arg)
{
	(void)self;
	int fd = TEMP_FAILURE_RETRY(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		int e = errno;
		if (fd >= 0)
			(void)close(fd);
		errno = e;
		return -1;
	}
	const struct dirent *entry;
	bool more = true;
	errno = 0;
	while (more && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			more = each(arg, entry->d_name);
	int e = more ? errno : 0;
	(void)closedir(dir);
	errno = e;
	return e ? -1 : 0;
}

const struct df_io df_io_real = {
	real_open,     real_close,      real_read_at,     real_write_all, real_truncate, real_size, real_sync_data,
	real_sync_dir, real_rename_new, real_rename_over, real_unlink,    real_list,     NULL,
};

enum df_err df_io_read_file(const struct df_io *io, int dirfd, const char *path, size_t max_bytes, char **ret_p,
			    size_t *ret_n, struct df_fail *fail)
{
	int fd = io->open(io->self, dirfd, path, O_RDONLY, 0);
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", path);
	enum df_err err = DF_OK;
	uint64_t size = 0;
	char *p = NULL;
	if (io->size(io->self, fd, &size) < 0)
		err = df_fail_errno(fail, "cannot read '%s'", path);
	else if (size > max_bytes)
		err = df_fail(fail, DF_ERR_LIMIT, "'%s' has %llu bytes; at most %zu are read", path,
			      (unsigned long long)size, max_bytes);
	else if (!(p = malloc((size_t)size + 1)))
		err = df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", path);
	if (err == DF_OK) {
		ssize_t r = io->read_at(io->self, fd, p, (size_t)size, 0);
		if (r < 0) {
			err = df_fail_errno(fail, "cannot read '%s'", path);
		} else {
			p[r] = '\0';
			*ret_p = p;
			*ret_n = (size_t)r;
			p = NULL;
		}
	}
	free(p);
	(void)io->close(io->self, fd);
	return err;
}

enum df_err df_io_replace_file(const struct df_io *io, int dirfd, const char *path, const void *p, size_t n,
			       struct df_fail *fail)
{
	char beside[PATH_MAX];
	if (snprintf(beside, sizeof(beside), "%s.tmp", path) >= (int)sizeof(beside))
		return df_fail(fail, DF_ERR_LIMIT, "the path '%s' is too long", path);
	int fd = io->open(io->self, dirfd, beside, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	if (fd < 0)
		return df_fail_errno(fail, "cannot create '%s'", beside);
	struct iovec iov = {(void *)(uintptr_t)p, n};
	enum df_err err = DF_OK;
	if (io->write_all(io->self, fd, &iov, 1, 0) < 0 || io->sync_data(io->self, fd) < 0)
		err = df_fail_errno(fail, "cannot write '%s'", beside);
	if (io->close(io->self, fd) < 0 && err == DF_OK)
		err = df_fail_errno(fail, "cannot write '%s'", beside);
	if (err == DF_OK && io->rename_over(io->self, dirfd, beside, path) < 0)
		err = df_fail_errno(fail, "cannot rename '%s' to '%s'", beside, path);
	if (err == DF_OK && dirfd >= 0 && io->sync_dir(io->self, dirfd) < 0)
		err = df_fail_errno(fail, "cannot sync the directory of '%s'", path);
	if (err != DF_OK)
		(void)io->unlink(io->self, dirfd, beside);
	return err;
}
