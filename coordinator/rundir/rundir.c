// SPDX-License-Identifier: Apache-2.0
/* rundir: recognising and locking run directories. */
#include "coordinator/rundir/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define ASIDE_MAX 1000

/* --- what is there --- */

static bool has(int dir_fd, const char *name)
{
	struct stat st;
	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* True when nothing but a lock is in it. */
static enum df_err is_empty(int dir_fd, const char *path, bool *ret_empty, struct df_fail *fail)
{
	int fd = df_io_real.open(NULL, dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		enum df_err err = df_fail_errno(fail, "cannot read the directory '%s'", path);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	bool empty = true;
	for (const struct dirent *e = readdir(dir); e && empty; e = readdir(dir))
		empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, "lock");
	(void)closedir(dir);
	*ret_empty = empty;
	return DF_OK;
}

/* The new directory's name must outlive a power cut as what is in it does. */
static enum df_err sync_parent(const char *path, struct df_fail *fail)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
	memcpy(parent, n ? path : ".", n ? n : 1);
	parent[n ? n : 1] = '\0';
	int fd = df_io_real.open(NULL, AT_FDCWD, parent, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0 && errno == EACCES)
		return DF_OK; /* may be written but not read: nothing more can be done */
	if (fd < 0)
		return df_fail_errno(fail, "cannot open the directory '%s'", parent);
	int r = df_io_real.sync_dir(NULL, fd), e = errno;
	(void)close(fd);
	errno = e;
	if (r < 0 && errno != EINVAL && errno != EROFS)
		return df_fail_errno(fail, "cannot sync the directory '%s'", parent);
	return DF_OK;
}

static enum df_err make(const char *path, struct df_fail *fail)
{
	if (mkdir(path, 0777) == 0)
		return sync_parent(path, fail);
	if (errno == EEXIST)
		return DF_OK;
	if (errno == ENOENT)
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "cannot create '%s': its parent directory is missing; make it first", path);
	return df_fail_errno(fail, "cannot create the run directory '%s'", path);
}

static enum df_err open_and_look(struct df_rundir *dir, struct df_fail *fail)
{
	bool empty = false;
	dir->dir_fd = df_io_real.open(NULL, AT_FDCWD, dir->path, O_RDONLY | O_DIRECTORY, 0);
	if (dir->dir_fd < 0 && errno == ENOTDIR)
		return df_fail(fail, DF_ERR_TYPE, "'%s' is a file, not a directory", dir->path);
	if (dir->dir_fd < 0)
		return df_fail_errno(fail, "cannot open the run directory '%s'", dir->path);
	dir->was_run = has(dir->dir_fd, "journal") || has(dir->dir_fd, "run.json");
	if (dir->was_run)
		return DF_OK;
	DF_TRY(is_empty(dir->dir_fd, dir->path, &empty, fail));
	if (!empty)
		return df_fail(fail, DF_ERR_EXISTS,
			       "'%s' is not empty and is not a run directory; choose another or empty it", dir->path);
	return DF_OK;
}

/* --- the lock --- */

static enum df_err busy(const struct df_rundir *dir, struct df_fail *fail)
{
	char pid[24];
	ssize_t n = pread(dir->lock_fd, pid, sizeof(pid) - 1, 0);
	pid[n > 0 ? n : 0] = '\0';
	pid[strspn(pid, "0123456789")] = '\0';
	if (pid[0])
		return df_fail(fail, DF_ERR_BUSY,
			       "'%s' is in use by process %s; wait for it or choose another directory", dir->path, pid);
	return df_fail(fail, DF_ERR_BUSY, "'%s' is in use by another process; wait for it or choose another directory",
		       dir->path);
}

static enum df_err lock(struct df_rundir *dir, struct df_fail *fail)
{
	char pid[24];
	dir->lock_fd = df_io_real.open(NULL, dir->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
	if (dir->lock_fd < 0)
		return df_fail_errno(fail, "cannot open '%s/lock'", dir->path);
	while (flock(dir->lock_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return busy(dir, fail);
		if (errno != EINTR)
			return df_fail_errno(fail, "cannot lock '%s/lock'", dir->path);
	}
	int n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
	struct iovec iov = {pid, (size_t)n};
	if (df_io_real.truncate(NULL, dir->lock_fd, 0) < 0 || df_io_real.write_all(NULL, dir->lock_fd, &iov, 1, 0) < 0)
		return df_fail_errno(fail, "cannot write '%s/lock'", dir->path);
	return DF_OK;
}

/* Between looking and locking somebody may have moved the directory aside: the lock must be of what the path names now. */
static bool is_current(const struct df_rundir *dir)
{
	struct stat by_path, by_fd;
	return stat(dir->path, &by_path) == 0 && fstat(dir->dir_fd, &by_fd) == 0 && by_path.st_ino == by_fd.st_ino &&
	       by_path.st_dev == by_fd.st_dev;
}

static void close_both(struct df_rundir *dir)
{
	if (dir->lock_fd >= 0)
		(void)close(dir->lock_fd);
	if (dir->dir_fd >= 0)
		(void)close(dir->dir_fd);
	dir->lock_fd = dir->dir_fd = -1;
}

static enum df_err enter(struct df_rundir *dir, struct df_fail *fail)
{
	enum df_err err = make(dir->path, fail);
	if (err == DF_OK)
		err = open_and_look(dir, fail);
	if (err == DF_OK)
		err = lock(dir, fail);
	if (err == DF_OK && !is_current(dir))
		err = df_fail(fail, DF_ERR_BUSY, "'%s' was moved meanwhile; run the same command again", dir->path);
	if (err == DF_OK) /* another run may have begun and ended between looking and locking */
		dir->was_run = has(dir->dir_fd, "journal") || has(dir->dir_fd, "run.json");
	if (err != DF_OK)
		close_both(dir);
	return err;
}

static enum df_err put_aside(struct df_rundir *dir, struct df_fail *fail)
{
	for (int i = 1; i <= ASIDE_MAX; i++) {
		if (snprintf(dir->aside, sizeof(dir->aside), "%s.old-%d", dir->path, i) >= (int)sizeof(dir->aside))
			return df_fail(fail, DF_ERR_LIMIT, "the path '%s' is too long", dir->path);
		if (renameat2(AT_FDCWD, dir->path, AT_FDCWD, dir->aside, RENAME_NOREPLACE) == 0)
			return DF_OK;
		if ((errno == EINVAL || errno == ENOSYS) && !has(AT_FDCWD, dir->aside) &&
		    rename(dir->path, dir->aside) == 0)
			return DF_OK;
		if (errno != EEXIST && errno != ENOTEMPTY)
			return df_fail_errno(fail, "cannot move the earlier run '%s' to '%s'", dir->path, dir->aside);
	}
	return df_fail(fail, DF_ERR_EXISTS, "'%s.old-1' to '%s.old-%d' are all there; remove some", dir->path,
		       dir->path, ASIDE_MAX);
}

enum df_err df_rundir_open(const char *path, bool force_restart, struct df_rundir *ret_dir, struct df_fail *fail)
{
	struct df_rundir dir = {.dir_fd = -1, .lock_fd = -1};
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	if (n == 0 || n >= sizeof(dir.path))
		return df_fail(fail, DF_ERR_LIMIT, "the run directory's path is %s", n ? "too long" : "empty");
	memcpy(dir.path, path, n);
	DF_TRY(enter(&dir, fail));
	if (force_restart && dir.was_run) {
		enum df_err err = put_aside(&dir, fail);
		close_both(&dir);
		if (err == DF_OK)
			err = enter(&dir, fail);
		if (err != DF_OK)
			return err;
	}
	*ret_dir = dir;
	return DF_OK;
}

bool df_rundir_is_gone(const struct df_rundir *dir)
{
	struct stat own, there;
	if (dir->dir_fd < 0 || fstat(dir->dir_fd, &own) < 0 || own.st_nlink != 0)
		return false;
	/* there are file systems that count no links */
	return stat(dir->path, &there) < 0 || there.st_dev != own.st_dev || there.st_ino != own.st_ino;
}

void df_rundir_close(struct df_rundir *dir)
{
	close_both(dir);
}
