// SPDX-License-Identifier: Apache-2.0
/* io: the calls that change files, replaced by ones that count, fail and take notes (io.h). */
#include "tests/fault/shim/io.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fault/shim/shim.h"

#define FDS 4096
#define SHORT (-1)

static struct {
	enum shim_area area;
	uint64_t dev, ino;
} table[FDS];

static struct {
	const char *run, *input;
	char parent[4096];
	int fault; /* errno, or SHORT */
	bool set;
} io;

static const char *name_of(int fd, char buf[256]);

__attribute__((constructor)) static void start(void)
{
	static const struct {
		const char *name;
		int fault;
	} faults[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EROFS", EROFS}, {"EMFILE", EMFILE},
		      {"ENOMEM", ENOMEM}, {"EINTR", EINTR},   {"SHORT", SHORT}};
	const char *fault = getenv("DF_SHIM_FAULT");
	io.run = getenv("DF_SHIM_RUN");
	io.input = getenv("DF_SHIM_INPUT");
	for (size_t i = 0; fault && i < sizeof(faults) / sizeof(faults[0]); i++)
		if (strcmp(fault, faults[i].name) == 0)
			io.fault = faults[i].fault;
	if (io.run && strlen(io.run) < sizeof(io.parent)) {
		memcpy(io.parent, io.run, strlen(io.run) + 1);
		char *slash = strrchr(io.parent, '/');
		if (slash)
			*slash = '\0';
	}
	io.set = true;
	for (int fd = 0; fd < 3; fd++) { /* rows may go to a file that the test opened */
		char name[256];
		shim_note_fd(fd, shim_area_of_path(AT_FDCWD, name_of(fd, name)));
	}
}

/* --- which files --- */

static bool is_below(const char *path, const char *folder)
{
	size_t n = folder ? strlen(folder) : 0;
	return n && strncmp(path, folder, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

enum shim_area shim_area_of_path(int dirfd, const char *path)
{
	if (!io.set || !path)
		return SHIM_NONE;
	if (path[0] != '/')
		return dirfd == AT_FDCWD ? SHIM_NONE : shim_area_of_fd(dirfd);
	if (is_below(path, io.run) || (io.run && strcmp(path, io.parent) == 0))
		return SHIM_RUN;
	return is_below(path, io.input) ? SHIM_INPUT : SHIM_NONE;
}

enum shim_area shim_area_of_fd(int fd)
{
	struct stat st;
	if (fd < 0 || fd >= FDS || table[fd].area == SHIM_NONE)
		return SHIM_NONE;
	if (fstat(fd, &st) != 0 || (uint64_t)st.st_ino != table[fd].ino || (uint64_t)st.st_dev != table[fd].dev)
		table[fd].area = SHIM_NONE; /* closed by the C library, and another thing by now */
	return table[fd].area;
}

void shim_note_fd(int fd, enum shim_area area)
{
	struct stat st;
	if (fd < 0 || fd >= FDS)
		return;
	table[fd].area = fstat(fd, &st) == 0 ? area : SHIM_NONE;
	table[fd].dev = (uint64_t)st.st_dev;
	table[fd].ino = (uint64_t)st.st_ino;
}

/* --- which fault --- */

static bool can_happen(enum shim_kind kind)
{
	bool changes = kind == SHIM_CREATE || kind == SHIM_WRITE || kind == SHIM_NAME;
	switch (io.fault) {
	case SHORT:
		return kind == SHIM_WRITE || kind == SHIM_READ;
	case EINTR:
		return kind != SHIM_NAME && kind != SHIM_UNLINK;
	case ENOSPC:
		return changes || kind == SHIM_SYNC;
	case EROFS:
		return changes || kind == SHIM_UNLINK || kind == SHIM_CUT;
	case EMFILE:
		return kind == SHIM_OPEN || kind == SHIM_CREATE;
	case ENOMEM:
		return kind == SHIM_OPEN || kind == SHIM_CREATE || kind == SHIM_NAME || kind == SHIM_UNLINK;
	default:
		return true;
	}
}

int shim_io_fault(enum shim_kind kind, enum shim_area area, const char *function, const char *what)
{
	static const char *const word[] = {"open", "create", "write", "read", "sync", "cut", "name", "unlink", "close"};
	char text[96];
	const char *slash = what ? strrchr(what, '/') : NULL;
	if (area == SHIM_NONE || !shim_watched())
		return 0;
	if (area == SHIM_INPUT && kind != SHIM_OPEN && kind != SHIM_READ)
		return 0;
	uint64_t number = shim_count();
	(void)snprintf(text, sizeof(text), "%s:%s:%.60s", word[kind], area == SHIM_RUN ? "run" : "input",
		       slash  ? slash + 1
		       : what ? what
			      : "-");
	shim_called(number, function, text);
	if (!io.fault || !shim_is_due(number) || !can_happen(kind))
		return 0;
	shim_fired(number, function, text);
	return io.fault;
}

/* The name of an open file, for the log. */
static const char *name_of(int fd, char buf[256])
{
	char link[48];
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, buf, 255);
	buf[n > 0 ? n : 0] = '\0';
	for (char *p = buf; *p; p++)
		if (*p == ' ')
			*p = '_';
	return buf;
}

static int fault_on_fd(enum shim_kind kind, int fd, const char *function)
{
	char name[256];
	enum shim_area area = shim_area_of_fd(fd);
	if (area == SHIM_NONE || !shim_watched())
		return 0;
	return shim_io_fault(kind, area, function, name_of(fd, name));
}

/* --- opening --- */

static const char *last_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* A process behind a power cut is one of another boot. */
static const char *other_boot(const char *path)
{
	const char *other = getenv("DF_SHIM_BOOT");
	return other && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 ? other : path;
}

static int open_any(const char *function, int dirfd, const char *path, int flags, mode_t mode)
{
	enum shim_area area = shim_area_of_path(dirfd, path);
	bool creates = (flags & (O_CREAT | O_TRUNC)) != 0 || (flags & O_TMPFILE) == O_TMPFILE ||
		       (flags & O_ACCMODE) != O_RDONLY;
	int e = shim_io_fault(creates ? SHIM_CREATE : SHIM_OPEN, area, function, path);
	if (e > 0) {
		errno = e;
		return -1;
	}
	int fd = (int)syscall(SYS_openat, dirfd, other_boot(path), flags, mode);
	if (fd < 0)
		return fd;
	int saved = errno;
	shim_note_fd(fd, area);
	bool named = (flags & O_TMPFILE) != O_TMPFILE && !(flags & O_DIRECTORY);
	if (area == SHIM_RUN && creates && shim_traces())
		shim_trace(&(struct shim_change){
			.op = SHIM_OP_OPEN, .fd = fd, .number = (uint64_t)flags, .name = named ? last_name(path) : ""});
	errno = saved;
	return fd;
}

static mode_t mode_of(int flags, va_list ap)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_any("open", AT_FDCWD, path, flags, mode);
}

int openat(int dirfd, const char *path, int flags, ...)
{
	va_list ap;
	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_any("openat", dirfd, path, flags, mode);
}

int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int openat64(int dirfd, const char *path, int flags, ...) __attribute__((alias("openat")));

DIR *opendir(const char *path)
{
	static DIR *(*real)(const char *);
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "opendir");
	int e = shim_io_fault(SHIM_OPEN, shim_area_of_path(AT_FDCWD, path), "opendir", path);
	if (e > 0) {
		errno = e;
		return NULL;
	}
	return real(path);
}

int close(int fd)
{
	int e = fault_on_fd(SHIM_CLOSE, fd, "close");
	if (fd >= 0 && fd < FDS)
		table[fd].area = SHIM_NONE;
	int r = (int)syscall(SYS_close, fd);
	if (e > 0) {
		errno = e;
		return -1;
	}
	return r;
}

/* --- writing --- */

static void trace_data(int fd, const struct iovec *iov, int n, uint64_t offset, ssize_t written)
{
	if (written > 0 && shim_traces() && shim_area_of_fd(fd) == SHIM_RUN)
		shim_trace(&(struct shim_change){.op = SHIM_OP_WRITE,
						 .fd = fd,
						 .offset = offset,
						 .data = iov,
						 .n_data = n,
						 .n_byte = (size_t)written});
}

static size_t total(const struct iovec *iov, int n)
{
	size_t bytes = 0;
	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* offset -1: where the file stands. */
static ssize_t write_any(const char *function, int fd, const struct iovec *iov, int n, off_t offset)
{
	int e = fault_on_fd(SHIM_WRITE, fd, function);
	struct iovec part = {iov[0].iov_base, total(iov, n) / 2};
	if (e > 0) {
		errno = e;
		return -1;
	}
	if (e == SHORT && part.iov_len && part.iov_len <= iov[0].iov_len) {
		iov = &part;
		n = 1;
	}
	off_t at = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR);
	ssize_t r = offset >= 0 ? syscall(SYS_pwritev, fd, iov, n, (long)offset, 0L) : syscall(SYS_writev, fd, iov, n);
	int saved = errno;
	trace_data(fd, iov, n, (uint64_t)at, r);
	errno = saved;
	return r;
}

ssize_t write(int fd, const void *p, size_t n)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};
	if (shim_area_of_fd(fd) == SHIM_NONE)
		return syscall(SYS_write, fd, p, n);
	return write_any("write", fd, &iov, 1, -1);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	if (shim_area_of_fd(fd) == SHIM_NONE)
		return syscall(SYS_writev, fd, iov, n);
	return write_any("writev", fd, iov, n, -1);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t offset)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};
	return write_any("pwrite", fd, &iov, 1, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return write_any("pwritev", fd, iov, n, offset);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off_t offset) __attribute__((alias("pwrite")));
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t offset) __attribute__((alias("pwritev")));

static int cut(int fd, off_t length)
{
	int e = fault_on_fd(SHIM_CUT, fd, "ftruncate");
	if (e > 0) {
		errno = e;
		return -1;
	}
	int r = (int)syscall(SYS_ftruncate, fd, length);
	if (r == 0 && shim_traces() && shim_area_of_fd(fd) == SHIM_RUN)
		shim_trace(&(struct shim_change){.op = SHIM_OP_TRUNCATE, .fd = fd, .offset = (uint64_t)length});
	return r;
}

int ftruncate(int fd, off_t length)
{
	return cut(fd, length);
}

int ftruncate64(int fd, off_t length)
{
	return cut(fd, length);
}

/* --- reading --- */

static ssize_t read_any(const char *function, int fd, void *p, size_t n, off_t offset)
{
	int e = fault_on_fd(SHIM_READ, fd, function);
	if (e > 0) {
		errno = e;
		return -1;
	}
	if (e == SHORT && n > 1)
		n /= 2;
	return offset >= 0 ? syscall(SYS_pread64, fd, p, n, offset) : syscall(SYS_read, fd, p, n);
}

ssize_t read(int fd, void *p, size_t n)
{
	return read_any("read", fd, p, n, -1);
}

ssize_t pread(int fd, void *p, size_t n, off_t offset)
{
	return read_any("pread", fd, p, n, offset);
}

ssize_t pread64(int fd, void *p, size_t n, off_t offset) __attribute__((alias("pread")));

/* --- syncing --- */

static int sync_any(const char *function, long number, int fd)
{
	static _Atomic uint64_t counter;
	int e = fault_on_fd(SHIM_SYNC, fd, function);
	if (e > 0) {
		errno = e;
		return -1;
	}
	bool noted = shim_traces() && shim_area_of_fd(fd) == SHIM_RUN;
	struct shim_change c = {.op = SHIM_OP_SYNC_BEGIN, .fd = fd, .number = atomic_fetch_add(&counter, 1)};
	c.number |= (uint64_t)getpid() << 32;
	if (noted)
		shim_trace(&c);
	int r = (int)syscall(number, fd), saved = errno;
	c.op = SHIM_OP_SYNC_END;
	if (noted && r == 0)
		shim_trace(&c);
	errno = saved;
	return r;
}

int fsync(int fd)
{
	return sync_any("fsync", SYS_fsync, fd);
}

int fdatasync(int fd)
{
	return sync_any("fdatasync", SYS_fdatasync, fd);
}

/* --- names --- */

static int name_any(const char *function, enum shim_op op, int fromfd, const char *from, int tofd, const char *to,
		    unsigned flags)
{
	enum shim_area area = shim_area_of_path(fromfd, from);
	int e = shim_io_fault(SHIM_NAME, area, function, from);
	if (e > 0) {
		errno = e;
		return -1;
	}
	int r = op == SHIM_OP_LINK ? (int)syscall(SYS_linkat, fromfd, from, tofd, to, flags)
				   : (int)syscall(SYS_renameat2, fromfd, from, tofd, to, flags);
	if (r == 0 && area == SHIM_RUN)
		shim_trace(&(struct shim_change){.op = op, .fd = -1, .name = last_name(from), .other = last_name(to)});
	return r;
}

int rename(const char *from, const char *to)
{
	return name_any("rename", SHIM_OP_RENAME, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int fromfd, const char *from, int tofd, const char *to)
{
	return name_any("renameat", SHIM_OP_RENAME, fromfd, from, tofd, to, 0);
}

int renameat2(int fromfd, const char *from, int tofd, const char *to, unsigned flags)
{
	if (getenv("DF_SHIM_NO_RENAMEAT2") && shim_area_of_path(fromfd, from) == SHIM_RUN) {
		errno = EINVAL; /* a file system without RENAME_NOREPLACE */
		return -1;
	}
	return name_any("renameat2", SHIM_OP_RENAME, fromfd, from, tofd, to, flags);
}

int linkat(int fromfd, const char *from, int tofd, const char *to, int flags)
{
	return name_any("linkat", SHIM_OP_LINK, fromfd, from, tofd, to, (unsigned)flags);
}

int link(const char *from, const char *to)
{
	return name_any("link", SHIM_OP_LINK, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int unlinkat(int dirfd, const char *path, int flags)
{
	enum shim_area area = shim_area_of_path(dirfd, path);
	int e = shim_io_fault(SHIM_UNLINK, area, "unlinkat", path);
	if (e > 0) {
		errno = e;
		return -1;
	}
	int r = (int)syscall(SYS_unlinkat, dirfd, path, flags);
	if (r == 0 && area == SHIM_RUN)
		shim_trace(&(struct shim_change){.op = SHIM_OP_UNLINK, .fd = -1, .name = last_name(path)});
	return r;
}

int unlink(const char *path)
{
	return unlinkat(AT_FDCWD, path, 0);
}

static int mkdir_any(int dirfd, const char *path, mode_t mode)
{
	enum shim_area area = shim_area_of_path(dirfd, path);
	int e = shim_io_fault(SHIM_NAME, area, "mkdir", path);
	if (e > 0) {
		errno = e;
		return -1;
	}
	int r = (int)syscall(SYS_mkdirat, dirfd, path, mode);
	if (r == 0 && area == SHIM_RUN && shim_traces()) {
		int fd = (int)syscall(SYS_openat, dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		shim_trace(&(struct shim_change){.op = SHIM_OP_MKDIR, .fd = fd, .name = last_name(path)});
		(void)syscall(SYS_close, fd);
	}
	return r;
}

int mkdir(const char *path, mode_t mode)
{
	return mkdir_any(AT_FDCWD, path, mode);
}

int mkdirat(int dirfd, const char *path, mode_t mode)
{
	return mkdir_any(dirfd, path, mode);
}
