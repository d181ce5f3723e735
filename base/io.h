// SPDX-License-Identifier: Apache-2.0
/*
 * io: the file operations that durability rests on, behind one table, so that tests can make disks
 * fail, fill up and lose what was not synced. Only files that docflume writes or must trust after a
 * crash go through it (journal, parts, run.json); inputs are read directly.
 *
 * Each call answers >= 0 or -1 with errno, as the system call of its name; EINTR is already retried,
 * and write_all and read_at loop over short transfers.
 */
#ifndef DF_BASE_IO_H
#define DF_BASE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct df_io {
	int (*open)(void *self, int dirfd, const char *path, int flags, unsigned mode); /* O_CLOEXEC is added */
	int (*close)(void *self, int fd);
	ssize_t (*read_at)(void *self, int fd, void *p, size_t n, uint64_t offset); /* fewer than n only at the end */
	int (*write_all)(void *self, int fd, const struct iovec *iov, int n_iov, uint64_t offset);
	int (*truncate)(void *self, int fd, uint64_t length);
	int (*size)(void *self, int fd, uint64_t *ret_bytes);
	int (*sync_data)(void *self, int fd);   /* fdatasync */
	int (*sync_dir)(void *self, int dirfd); /* fsync of a directory */
	int (*rename_new)(void *self, int dirfd, const char *from,
			  const char *to); /* never over an existing file: EEXIST */
	int (*rename_over)(void *self, int dirfd, const char *from, const char *to);
	int (*unlink)(void *self, int dirfd, const char *path);
	/* Every name in the directory but "." and "..", in any order, until each() answers false. */
	int (*list)(void *self, int dirfd, bool (*each)(void *arg, const char *name), void *arg);
	void *self;
};

extern const struct df_io df_io_real;

/* Read the whole file into a heap buffer with a NUL behind it; DF_ERR_LIMIT beyond max_bytes. Caller frees. */
enum df_err df_io_read_file(const struct df_io *io, int dirfd, const char *path, size_t max_bytes, char **ret_p,
			    size_t *ret_n, struct df_fail *fail) DF_MUST_CHECK;

/* Write beside, sync, rename over, sync the directory: readers see the old file or the new one, never half. */
enum df_err df_io_replace_file(const struct df_io *io, int dirfd, const char *path, const void *p, size_t n,
			       struct df_fail *fail) DF_MUST_CHECK;

#endif
