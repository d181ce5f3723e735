// SPDX-License-Identifier: Apache-2.0
/*
 * file: the mapped file of a limit, opened, made, checked, and its owners' locks.
 *
 * DESIGN. Whoever opens holds the lock of byte 0 from looking at the file until its owner's byte is locked, so one process at a time makes, repairs
 * or joins. The magic is written last: a file without it is half made (its maker died) and is made anew. Space is allocated before
 * it is mapped, since a full disk would else be a SIGBUS. A damaged file is put aside as NAME.damaged and begun anew, with a warning, when
 * nobody uses it; while somebody does, it is refused, since two files would be twice the rate.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "worker/limit/state.h"
#include "worker/limit/where.h"

#define PATIENCE_MS 5000 /* for somebody else who is opening the file */
#define DAMAGED ".damaged"

struct opening {
	struct df_limit *l;
	int dir;
	char dir_path[400], name[DF_LIMIT_NAME];
	struct df_fail *fail;
	bool warned;
};

static bool lock_byte(int fd, off_t byte, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

bool df_limit_owner_lock(int fd, uint32_t i)
{
	return lock_byte(fd, DF_LOCK_OWNER + (off_t)i, F_WRLCK);
}

void df_limit_owner_unlock(int fd, uint32_t i)
{
	(void)lock_byte(fd, DF_LOCK_OWNER + (off_t)i, F_UNLCK);
}

static bool is_used_by_others(int fd)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = DF_LOCK_OWNER, .l_len = DF_LIMIT_OWNERS};
	return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* The kernel's own random name of this boot; the same in all containers of a machine. */
static uint64_t boot_hash(void)
{
	char text[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (fd >= 0)
		(void)close(fd);
	if (n > 0)
		return df_hash64(text, (size_t)n) | 1;
	/* No /proc: the second in which the machine started, as far as the clocks tell. */
	struct timespec wall = {0}, boot = {0};
	(void)clock_gettime(CLOCK_REALTIME, &wall);
	(void)clock_gettime(CLOCK_BOOTTIME, &boot);
	uint64_t started = (uint64_t)(wall.tv_sec - boot.tv_sec) / 60;
	return df_hash64(&started, sizeof(started)) | 1;
}

static uint64_t constants_check(const struct df_limit_file *f)
{
	const uint64_t w[] = {DF_LIMIT_MAGIC, f->version, f->bytes, f->owners, f->slots, DF_CELL_WORDS};
	return df_hash64(w, sizeof(w));
}

/* ------------------------------------------------------------------ the file */

static enum df_err open_file(struct opening *o)
{
	struct stat st;
	int fd = openat(o->dir, o->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
	if (fd < 0)
		return df_fail_errno(o->fail, "cannot open the limits in '%s' (DOCFLUME_LIMITS names another folder)",
				     o->l->path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) ||
	    st.st_nlink > 1) {
		(void)close(fd);
		return df_fail(o->fail, DF_ERR_USAGE,
			       "'%s' is not a file of limits that only its owner may read and write (a file of another "
			       "user, other rights than 600, or a second name): remove it",
			       o->l->path);
	}
	o->l->fd = fd;
	return DF_OK;
}

/* True: the file that we have locked is still the one of this name. */
static bool is_current(const struct opening *o)
{
	struct stat mine, there;
	return fstat(o->l->fd, &mine) == 0 && fstatat(o->dir, o->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static enum df_err open_and_lock(struct opening *o)
{
	for (int waited = 0; waited < PATIENCE_MS;) {
		if (o->l->fd < 0)
			DF_TRY(open_file(o));
		if (lock_byte(o->l->fd, DF_LOCK_CREATE, F_WRLCK)) {
			if (is_current(o))
				return DF_OK;
			(void)close(o->l->fd); /* it was put aside meanwhile */
			o->l->fd = -1;
		} else if (errno != EAGAIN && errno != EACCES && errno != EINTR) {
			return df_fail_errno(o->fail, "cannot lock the limits in '%s'", o->l->path);
		}
		(void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
		waited += 2;
	}
	return df_fail(o->fail, DF_ERR_BUSY,
		       "another process has been opening the limits in '%s' for %d s: is one stopped? end it",
		       o->l->path, PATIENCE_MS / 1000);
}

static enum df_err map_file(struct opening *o)
{
	void *p = mmap(NULL, sizeof(struct df_limit_file), PROT_READ | PROT_WRITE, MAP_SHARED, o->l->fd, 0);
	if (p == MAP_FAILED)
		return df_fail_errno(o->fail, "cannot map the limits in '%s'", o->l->path);
	o->l->file = p;
	return DF_OK;
}

static enum df_err make(struct opening *o)
{
	int e = ftruncate(o->l->fd, 0) < 0 ? errno : posix_fallocate(o->l->fd, 0, sizeof(struct df_limit_file));
	if (e) {
		errno = e;
		return df_fail_errno(o->fail, "cannot make the file of limits '%s'", o->l->path);
	}
	DF_TRY(map_file(o));
	struct df_limit_file *f = o->l->file;
	uint64_t now = df_limit_now(o->l);
	/* Nobody knows what was sent a moment ago: the first call waits an interval, so that even then no window sees one too many. */
	struct df_cell first = {.epoch = 1, .tat_requests = o->warned ? now + o->l->interval : now, .tat_tokens = now};
	f->version = DF_LIMIT_VERSION;
	f->bytes = sizeof(*f);
	f->owners = DF_LIMIT_OWNERS;
	f->slots = DF_LIMIT_SLOTS;
	f->constants_check = constants_check(f);
	atomic_store(&f->boot, boot_hash());
	df_cell_first(f, &first);
	atomic_store_explicit(&f->magic, DF_LIMIT_MAGIC, memory_order_release);
	return DF_OK;
}

enum health { WHOLE, HALF_MADE, OTHER_VERSION, DAMAGED_FILE };

static enum health look(struct opening *o, uint64_t size, enum df_err *ret_err)
{
	struct df_cell cell;
	uint64_t head;
	*ret_err = DF_OK;
	if (size == 0)
		return HALF_MADE;
	if (size < sizeof(struct df_limit_file)) {
		uint64_t word = 0;
		bool read = pread(o->l->fd, &word, sizeof(word), 0) >= 0;
		return read && word == 0 ? HALF_MADE : DAMAGED_FILE;
	}
	*ret_err = map_file(o);
	if (*ret_err != DF_OK)
		return WHOLE;
	struct df_limit_file *f = o->l->file;
	uint64_t magic = atomic_load_explicit(&f->magic, memory_order_acquire);
	if (magic == 0)
		return HALF_MADE;
	if (magic == DF_LIMIT_MAGIC && f->constants_check == constants_check(f) && f->version != DF_LIMIT_VERSION)
		return OTHER_VERSION;
	if (magic != DF_LIMIT_MAGIC || f->constants_check != constants_check(f) || f->bytes != sizeof(*f) ||
	    size != sizeof(*f) || df_cell_read(o->l, &cell, &head) != DF_OK)
		return DAMAGED_FILE;
	return WHOLE;
}

/* A file that nobody can read any more makes room for a new one. */
static enum df_err put_aside(struct opening *o, enum health health)
{
	char aside[DF_LIMIT_NAME + sizeof(DAMAGED)];
	(void)snprintf(aside, sizeof(aside), "%s%s", o->name, DAMAGED);
	if (renameat(o->dir, o->name, o->dir, aside) < 0)
		return df_fail_errno(o->fail, "cannot put the damaged limits '%s' aside", o->l->path);
	(void)df_fail(o->fail, DF_ERR_CORRUPT,
		      "the limits in '%s' were %s: they begin anew, what was counted today is lost (the old file is "
		      "'%s%s')",
		      o->l->path, health == OTHER_VERSION ? "those of another version of docflume" : "damaged",
		      o->l->path, DAMAGED);
	o->warned = true;
	(void)close(o->l->fd);
	o->l->fd = -1;
	return open_and_lock(o);
}

static void unmap(struct df_limit *l)
{
	if (l->file)
		(void)munmap(l->file, sizeof(struct df_limit_file));
	l->file = NULL;
}

static enum df_err join(struct opening *o)
{
	struct stat st;
	enum df_err err;
	if (fstat(o->l->fd, &st) < 0)
		return df_fail_errno(o->fail, "cannot look at the limits in '%s'", o->l->path);
	enum health health = look(o, (uint64_t)st.st_size, &err);
	if (err != DF_OK || health == WHOLE)
		return err;
	unmap(o->l);
	bool used = is_used_by_others(o->l->fd);
	if (used && health == OTHER_VERSION)
		return df_fail(o->fail, DF_ERR_VERSION,
			       "the limits in '%s' are in use by another version of docflume: wait until it ends",
			       o->l->path);
	if (used)
		return df_fail(o->fail, DF_ERR_CORRUPT,
			       "the limits in '%s' are damaged, and in use: end the processes that use it, then start "
			       "again",
			       o->l->path);
	if (health != HALF_MADE)
		DF_TRY(put_aside(o, health));
	return make(o);
}

/* ------------------------------------------------------------------ owners */

static enum df_err become_owner(struct opening *o)
{
	struct df_limit *l = o->l;
	for (uint32_t i = 0; i < DF_LIMIT_OWNERS; i++) {
		if (!df_limit_owner_lock(l->fd, i))
			continue;
		struct df_limit_owner *own = &l->file->owner[i];
		l->owner = i;
		/* What a dead owner of this number left. */
		for (uint32_t s = 0; s < DF_LIMIT_SLOTS; s++) {
			uint32_t held = i + 1;
			if (atomic_load_explicit(&l->file->slot[s], memory_order_relaxed) == held)
				(void)atomic_compare_exchange_strong(&l->file->slot[s], &held, 0);
		}
		atomic_store(&own->unnumbered, 0);
		return DF_OK;
	}
	return df_fail(o->fail, DF_ERR_BUSY, "more than %d processes share the limits in '%s'", DF_LIMIT_OWNERS,
		       l->path);
}

/* Boot time has begun anew: so do the clocks. What was learned and counted stays. */
static enum df_err after_boot(struct opening *o)
{
	struct df_limit *l = o->l;
	struct df_cell c;
	uint64_t head, hash = boot_hash();
	if (atomic_load(&l->file->boot) == hash)
		return DF_OK;
	memset((void *)l->file->requests, 0, sizeof(l->file->requests));
	memset((void *)l->file->tokens, 0, sizeof(l->file->tokens));
	do {
		if (df_cell_read(l, &c, &head) != DF_OK)
			return df_fail(o->fail, DF_ERR_CORRUPT, "the limits in '%s' are damaged: remove it", l->path);
		uint64_t now = df_limit_now(l);
		c.tat_requests = now + l->interval;
		c.tat_tokens = c.floor = c.rate_since = now;
		c.newest_owner = DF_NOBODY;
		c.refused_at = c.blocked_since = c.search_at = c.noisy_at = 0;
		c.n_blocked = 0;
		c.epoch++;
	} while (!df_cell_publish(l, &c, head));
	atomic_store(&l->file->boot, hash);
	return DF_OK;
}

/* The dead owner of our number may have left a reservation that nobody will send. */
static enum df_err succeed(struct opening *o)
{
	struct df_limit *l = o->l;
	struct df_cell c;
	uint64_t head;
	do {
		if (df_cell_read(l, &c, &head) != DF_OK)
			return df_fail(o->fail, DF_ERR_CORRUPT, "the limits in '%s' are damaged: remove it", l->path);
		if (c.newest_owner != l->owner + 1)
			break;
		df_limit_take_back(l, &c);
	} while (!df_cell_publish(l, &c, head));
	atomic_store(&l->file->owner[l->owner].sent, 0);
	return DF_OK;
}

enum df_err df_limit_map(const struct df_limit_config *config, struct df_limit *l, struct df_fail *fail)
{
	struct opening o = {.l = l, .dir = -1, .fail = fail};
	l->fd = -1;
	DF_TRY(df_limit_dir(config->dir, o.dir_path, sizeof(o.dir_path), &o.dir, fail));
	df_limit_name(config, o.name);
	(void)snprintf(l->path, sizeof(l->path), "%s/%s", o.dir_path, o.name);
	enum df_err err = open_and_lock(&o);
	if (err == DF_OK)
		err = join(&o);
	if (err == DF_OK)
		err = become_owner(&o);
	if (err == DF_OK)
		err = succeed(&o);
	if (err == DF_OK)
		err = after_boot(&o);
	if (err == DF_OK) {
		(void)lock_byte(l->fd, DF_LOCK_CREATE, F_UNLCK);
	} else {
		df_limit_unmap(l);
	}
	(void)close(o.dir);
	return err;
}

void df_limit_unmap(struct df_limit *l)
{
	unmap(l);
	if (l->fd >= 0)
		(void)close(l->fd); /* and its locks with it */
	l->fd = -1;
}
