// SPDX-License-Identifier: Apache-2.0
/*
 * io: which calls on which files count, and what happens to the one that fails.
 *
 * Files that count: the run directory DF_SHIM_RUN with all that is in it and the folder that it is in, and, for opening and reading,
 * what lies below DF_SHIM_INPUT. Sockets and event descriptors never do.
 *
 * DF_SHIM_FAULT: EIO, ENOSPC, EROFS, EMFILE, ENOMEM answer -1 with that errno and do nothing (a close closes all the same); EINTR
 * the same, once; SHORT writes or reads a part and says so. A call to which a fault cannot happen is left alone.
 *
 * DF_SHIM_BOOT: a file to read instead of the kernel's boot_id. DF_SHIM_NO_RENAMEAT2: the file system does not know RENAME_NOREPLACE.
 *
 * DF_SHIM_TRACE: a file of the test's size that takes a record of each change of the run directory and of each sync's begin and end, in
 * an order that never has a change later than what was done because of it: changes are recorded when they are over, syncs on both sides.
 */
#ifndef DF_TESTS_FAULT_SHIM_IO_H
#define DF_TESTS_FAULT_SHIM_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum shim_kind {
	SHIM_OPEN,
	SHIM_CREATE,
	SHIM_WRITE,
	SHIM_READ,
	SHIM_SYNC,
	SHIM_CUT,
	SHIM_NAME,
	SHIM_UNLINK,
	SHIM_CLOSE
};

enum shim_area { SHIM_NONE, SHIM_RUN, SHIM_INPUT };

/* A path as a call names it. */
enum shim_area shim_area_of_path(int dirfd, const char *path);
/* A descriptor that was opened here and still is what it was. */
enum shim_area shim_area_of_fd(int fd);
void shim_note_fd(int fd, enum shim_area area);

/* Counts a call. 0: do it; else the errno to answer; -1: do it by a part. */
int shim_io_fault(enum shim_kind kind, enum shim_area area, const char *function, const char *what);

/* --- the trace (trace.c) --- */
enum shim_op {
	SHIM_OP_OPEN = 1,   /* name, inode, number: the flags */
	SHIM_OP_WRITE,      /* inode, offset, data */
	SHIM_OP_TRUNCATE,   /* inode, offset: the new length */
	SHIM_OP_SYNC_BEGIN, /* inode, number: of this sync */
	SHIM_OP_SYNC_END,
	SHIM_OP_RENAME, /* name, other name */
	SHIM_OP_LINK,   /* name, other name */
	SHIM_OP_UNLINK, /* name */
	SHIM_OP_MKDIR,  /* name, inode */
};

struct shim_change {
	enum shim_op op;
	int fd; /* whose inode it is; -1: of the name */
	uint64_t offset, number;
	const char *name, *other;
	const struct iovec *data;
	int n_data;
	size_t n_byte; /* of the data: what was really written */
};

void shim_trace(const struct shim_change *change);
bool shim_traces(void);

#endif
