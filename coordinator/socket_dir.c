// SPDX-License-Identifier: Apache-2.0
/*
 * socket_dir: made, locked, removed; and what killed runs left.
 *
 * DESIGN. The lock is a flock, which dies with its holder. Maker and sweeper may meet between the making of the file and its
 * locking: so the maker looks, once it has the lock, whether the file is still linked, and else takes another name.
 */
#include "coordinator/socket_dir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

#define PREFIX "docflume-"
#define DIGITS 8
#define TRIES 100
#define EMPTY_AGE_S 60
#define DEATH_MS 20 /* a child between vfork and exec holds its dead parent's lock for a moment */

static bool is_ours_by_name(const char *name)
{
	size_t n = strlen(PREFIX);
	if (strncmp(name, PREFIX, n) != 0 || strlen(name) != n + DIGITS)
		return false;
	for (const char *p = name + n; *p; p++)
		if (!isxdigit((unsigned char)*p))
			return false;
	return true;
}

static bool is_socket_name(const char *name)
{
	static const char *const known[] = {"control", "bulk", "notices", "results"};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (strcmp(name, known[i]) == 0)
			return true;
	return strncmp(name, "lane-", 5) == 0;
}

/* ------------------------------------------------------------------ removing */

/* Sockets first and the lock last, so that what is interrupted here is found again by the next one. */
static bool remove_content(int parent_fd, int dir_fd, const char *name)
{
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir) {
		if (fd >= 0)
			(void)close(fd);
		return false;
	}
	for (const struct dirent *e = readdir(dir); e; e = readdir(dir))
		if (is_socket_name(e->d_name))
			(void)unlinkat(dir_fd, e->d_name, 0);
	(void)closedir(dir);
	(void)unlinkat(dir_fd, "lock", 0);
	return unlinkat(parent_fd, name, AT_REMOVEDIR) == 0;
}

/* A descriptor of the folder when it is of this user and private, else -1. */
static int open_private(int parent_fd, const char *name, struct stat *ret_stat)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, ret_stat) == 0 && ret_stat->st_uid == geteuid() && (ret_stat->st_mode & 07777) == 0700)
		return fd;
	(void)close(fd);
	return -1;
}

static bool remove_if_stale(int parent_fd, const char *name)
{
	struct stat st;
	bool gone = false;
	int dir_fd = open_private(parent_fd, name, &st);
	if (dir_fd < 0)
		return false;
	int lock_fd = openat(dir_fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (lock_fd >= 0)
		gone = flock(lock_fd, LOCK_EX | LOCK_NB) == 0 && remove_content(parent_fd, dir_fd, name);
	else if (errno == ENOENT && time(NULL) > st.st_mtime + EMPTY_AGE_S)
		gone = unlinkat(parent_fd, name, AT_REMOVEDIR) == 0; /* only an empty one goes so */
	if (lock_fd >= 0)
		(void)close(lock_fd);
	(void)close(dir_fd);
	return gone;
}

bool df_socket_dir_remove_stale(const char *path)
{
	struct stat st;
	const char *slash = strrchr(path, '/');
	if (!slash || !is_ours_by_name(slash + 1))
		return false;
	for (int i = 0; i < DEATH_MS; i++) {
		if (remove_if_stale(AT_FDCWD, path))
			return true;
		if (lstat(path, &st) < 0)
			return errno == ENOENT;
		(void)nanosleep(&(struct timespec){0, DF_MS}, NULL);
	}
	return false;
}

static void sweep(const char *base)
{
	DIR *dir = opendir(base);
	unsigned looked = 0, removed = 0;
	if (!dir)
		return;
	for (const struct dirent *e = readdir(dir); e && looked < DF_STALE_LOOK_MAX && removed < DF_STALE_DIRS_MAX;
	     e = readdir(dir)) {
		looked++;
		if (is_ours_by_name(e->d_name))
			removed += remove_if_stale(dirfd(dir), e->d_name);
	}
	(void)closedir(dir);
}

/* ------------------------------------------------------------------ making */

/* False with errno. EEXIST: try another name. */
static bool make_and_lock(struct df_socket_dir *d)
{
	struct stat st;
	char lock[DF_SOCKET_DIR_BYTES + 8];
	if (mkdir(d->path, 0700) < 0)
		return false;
	(void)snprintf(lock, sizeof(lock), "%s/lock", d->path);
	d->lock_fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (d->lock_fd < 0) {
		int e = errno;
		(void)rmdir(d->path);
		errno = e;
		return false;
	}
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0 && fstat(d->lock_fd, &st) == 0 && st.st_nlink == 1)
		return true;
	(void)close(d->lock_fd);
	errno = EEXIST; /* a sweeper took it for a stale one */
	return false;
}

static bool make_in(const char *base, struct df_life *life, struct df_socket_dir *d)
{
	errno = ENAMETOOLONG;
	if (base[0] != '/' || strlen(base) + 1 + strlen(PREFIX) + DIGITS >= sizeof(d->path))
		return false;
	for (int i = 0; i < TRIES; i++) {
		(void)snprintf(d->path, sizeof(d->path), "%s/" PREFIX "%08x", base,
			       (unsigned)(uint32_t)df_rand_real.next(NULL));
		if (life)
			memcpy(life->socket_dir, d->path, sizeof(d->path));
		if (make_and_lock(d)) {
			sweep(base);
			return true;
		}
		if (errno != EEXIST)
			break;
	}
	return false;
}

enum df_err df_socket_dir_make(struct df_life *life, struct df_socket_dir *ret_dir, struct df_fail *fail)
{
	struct df_socket_dir d = {.lock_fd = -1};
	const char *base[] = {getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp"};
	for (size_t i = 0; i < sizeof(base) / sizeof(*base); i++)
		if (base[i] && make_in(base[i], life, &d)) {
			*ret_dir = d;
			return DF_OK;
		}
	if (life)
		life->socket_dir[0] = '\0';
	return df_fail_errno(fail, "cannot make a private folder for sockets in XDG_RUNTIME_DIR, TMPDIR or /tmp");
}

void df_socket_dir_remove(struct df_socket_dir *d)
{
	struct stat st;
	if (!d->path[0])
		return;
	int fd = open_private(AT_FDCWD, d->path, &st);
	if (fd >= 0) {
		(void)remove_content(AT_FDCWD, fd, d->path);
		(void)close(fd);
	}
	(void)close(d->lock_fd);
	*d = (struct df_socket_dir){.lock_fd = -1};
}
