// SPDX-License-Identifier: Apache-2.0
/* help_simio: a file system in memory that loses what was not synced. */
#include "tests/sim/help_simio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512
#define FILES 256
#define NAMES 256
#define OPS 256
#define FDS 64

struct bytes {
	char *p;
	size_t n, cap;
};

struct file {
	struct bytes now, disk;
	bool *dirty; /* per sector of now */
	size_t n_dirty;
};

struct entry {
	char name[80];
	int file; /* index; -1: free */
};

/* A change of the directory that was not synced. */
struct op {
	char add[80], del[80]; /* empty: none */
	int file;
};

struct sim {
	uint64_t seed;
	struct df_rand rand;
	struct file file[FILES];
	int n_file;
	struct entry now[NAMES], disk[NAMES];
	struct op op[OPS];
	int n_op;
	int fd[FDS]; /* file index, -1: free */
	uint64_t calls, die_at, fail_at, max_bytes;
	int fail_errno;
};

static uint64_t below(struct sim *s, uint64_t n)
{
	return n ? s->rand.next(s->rand.self) % n : 0;
}

static void *must(void *p)
{
	if (!p) {
		(void)fprintf(stderr, "simio: out of memory\n");
		abort();
	}
	return p;
}

static void room(bool there, const char *what)
{
	if (!there) {
		(void)fprintf(stderr, "simio: too many %s\n", what);
		abort();
	}
}

/* --- bytes --- */

static void resize(struct bytes *b, size_t n)
{
	if (n > b->cap) {
		b->cap = 2 * n;
		b->p = must(realloc(b->p, b->cap));
	}
	if (n > b->n)
		memset(b->p + b->n, 0, n - b->n);
	b->n = n;
}

static void mark(struct file *f, size_t from, size_t to)
{
	size_t last = (to + SECTOR - 1) / SECTOR;
	if (last > f->n_dirty) {
		size_t n = 2 * last;
		f->dirty = must(realloc(f->dirty, n * sizeof(bool)));
		memset(f->dirty + f->n_dirty, 0, (n - f->n_dirty) * sizeof(bool));
		f->n_dirty = n;
	}
	for (size_t i = from / SECTOR; i < last; i++)
		f->dirty[i] = true;
}

/* One sector reaches the disk. */
static void flush_sector(struct file *f, size_t i)
{
	size_t at = i * SECTOR;
	f->dirty[i] = false;
	if (at >= f->now.n)
		return;
	size_t n = f->now.n - at < SECTOR ? f->now.n - at : SECTOR;
	if (f->disk.n < at + n)
		resize(&f->disk, at + n);
	memcpy(f->disk.p + at, f->now.p + at, n);
}

static void flush_some(struct sim *s, struct file *f, uint64_t one_in)
{
	for (size_t i = 0; i < f->n_dirty; i++)
		if (f->dirty[i] && below(s, one_in) == 0)
			flush_sector(f, i);
}

static void flush_all(struct file *f)
{
	for (size_t i = 0; i < f->n_dirty; i++)
		if (f->dirty[i])
			flush_sector(f, i);
	resize(&f->disk, f->now.n);
}

/* --- names --- */

static struct entry *find(struct entry *list, const char *name)
{
	for (int i = 0; i < NAMES; i++)
		if (list[i].file >= 0 && strcmp(list[i].name, name) == 0)
			return &list[i];
	return NULL;
}

static void set_entry(struct entry *list, const char *name, int file)
{
	struct entry *e = find(list, name);
	for (int i = 0; i < NAMES && !e; i++)
		if (list[i].file < 0)
			e = &list[i];
	room(e, "names");
	(void)snprintf(e->name, sizeof(e->name), "%s", name);
	e->file = file;
}

static void del_entry(struct entry *list, const char *name, int file)
{
	struct entry *e = find(list, name);
	if (e && e->file == file)
		e->file = -1;
}

static void apply_op(struct entry *list, const struct op *op)
{
	if (op->add[0])
		set_entry(list, op->add, op->file);
	if (op->del[0])
		del_entry(list, op->del, op->file);
}

static void change(struct sim *s, const char *add, const char *del, int file)
{
	room(s->n_op < OPS, "unsynced names");
	struct op *op = &s->op[s->n_op++];
	(void)snprintf(op->add, sizeof(op->add), "%s", add);
	(void)snprintf(op->del, sizeof(op->del), "%s", del);
	op->file = file;
	apply_op(s->now, op);
}

/* --- the table --- */

/* True when this call is to fail; errno is set. */
static bool hit(struct sim *s)
{
	s->calls++;
	if (s->die_at && s->calls >= s->die_at) {
		errno = EIO;
		return true;
	}
	if (s->fail_at && s->calls == s->fail_at) {
		errno = s->fail_errno;
		return true;
	}
	return false;
}

/* The call that dies is the last that may leave a trace. */
static bool may_be_partial(const struct sim *s)
{
	return !s->die_at || s->calls <= s->die_at;
}

static struct file *file_of(struct sim *s, int fd)
{
	room(fd >= 0 && fd < FDS && s->fd[fd] >= 0, "wrong descriptors");
	return &s->file[s->fd[fd]];
}

static int new_file(struct sim *s)
{
	room(s->n_file < FILES, "files");
	return s->n_file++;
}

static int sim_open(void *self, int dirfd, const char *path, int flags, unsigned mode)
{
	struct sim *s = self;
	(void)dirfd;
	(void)mode;
	if (hit(s))
		return -1;
	struct entry *e = find(s->now, path);
	if (!e && !(flags & O_CREAT)) {
		errno = ENOENT;
		return -1;
	}
	int file = e ? e->file : new_file(s);
	if (!e)
		change(s, path, "", file);
	if (flags & O_TRUNC)
		s->file[file].now.n = 0;
	for (int fd = 0; fd < FDS; fd++) {
		if (s->fd[fd] < 0) {
			s->fd[fd] = file;
			return fd;
		}
	}
	errno = EMFILE;
	return -1;
}

static int sim_close(void *self, int fd)
{
	struct sim *s = self;
	(void)file_of(s, fd);
	s->fd[fd] = -1;
	return hit(s) ? -1 : 0;
}

static ssize_t sim_read_at(void *self, int fd, void *p, size_t n, uint64_t offset)
{
	struct sim *s = self;
	struct file *f = file_of(s, fd);
	if (hit(s))
		return -1;
	if (offset >= f->now.n)
		return 0;
	if (n > f->now.n - offset)
		n = f->now.n - (size_t)offset;
	memcpy(p, f->now.p + offset, n);
	return (ssize_t)n;
}

static uint64_t all_bytes(const struct sim *s)
{
	uint64_t n = 0;
	for (int i = 0; i < NAMES; i++)
		if (s->now[i].file >= 0)
			n += s->file[s->now[i].file].now.n;
	return n;
}

static int sim_write_all(void *self, int fd, const struct iovec *iov, int n_iov, uint64_t offset)
{
	struct sim *s = self;
	struct file *f = file_of(s, fd);
	size_t n = 0, done = 0, allowed;
	for (int i = 0; i < n_iov; i++)
		n += iov[i].iov_len;
	allowed = n;
	int error = 0;
	if (hit(s)) {
		error = errno;
		allowed = may_be_partial(s) ? (size_t)below(s, n + 1) : 0;
	}
	uint64_t used = all_bytes(s), growth = offset + allowed > f->now.n ? offset + allowed - f->now.n : 0;
	if (used + growth > s->max_bytes) {
		uint64_t over = used + growth - s->max_bytes;
		allowed = over < allowed ? allowed - (size_t)over : 0;
		error = error ? error : ENOSPC;
	}
	for (int i = 0; i < n_iov && done < allowed; i++) {
		size_t m = iov[i].iov_len < allowed - done ? iov[i].iov_len : allowed - done;
		size_t at = (size_t)offset + done;
		if (f->now.n < at + m)
			resize(&f->now, at + m);
		memcpy(f->now.p + at, iov[i].iov_base, m);
		done += m;
	}
	if (done)
		mark(f, (size_t)offset, (size_t)offset + done);
	if (below(s, 4) == 0)
		flush_some(s, f, 2);
	errno = error;
	return error ? -1 : 0;
}

static int sim_truncate(void *self, int fd, uint64_t length)
{
	struct sim *s = self;
	struct file *f = file_of(s, fd);
	bool failed = hit(s);
	if (!failed || (may_be_partial(s) && below(s, 2))) {
		size_t before = f->now.n;
		resize(&f->now, (size_t)length);
		if (f->now.n > before)
			mark(f, before, f->now.n);
	}
	return failed ? -1 : 0;
}

static int sim_size(void *self, int fd, uint64_t *ret_bytes)
{
	struct sim *s = self;
	struct file *f = file_of(s, fd);
	if (hit(s))
		return -1;
	*ret_bytes = f->now.n;
	return 0;
}

static int sim_sync_data(void *self, int fd)
{
	struct sim *s = self;
	struct file *f = file_of(s, fd);
	if (hit(s)) {
		if (may_be_partial(s))
			flush_some(s, f, 2);
		return -1;
	}
	flush_all(f);
	return 0;
}

static int sim_sync_dir(void *self, int dirfd)
{
	struct sim *s = self;
	(void)dirfd;
	if (hit(s))
		return -1;
	memcpy(s->disk, s->now, sizeof(s->disk));
	s->n_op = 0;
	return 0;
}

static int rename_entry(struct sim *s, const char *from, const char *to, bool over)
{
	if (hit(s))
		return -1;
	struct entry *e = find(s->now, from);
	if (!e || (!over && find(s->now, to))) {
		errno = e ? EEXIST : ENOENT;
		return -1;
	}
	change(s, to, from, e->file);
	return 0;
}

static int sim_rename_new(void *self, int dirfd, const char *from, const char *to)
{
	(void)dirfd;
	return rename_entry(self, from, to, false);
}

static int sim_rename_over(void *self, int dirfd, const char *from, const char *to)
{
	(void)dirfd;
	return rename_entry(self, from, to, true);
}

static int sim_unlink(void *self, int dirfd, const char *path)
{
	struct sim *s = self;
	(void)dirfd;
	if (hit(s))
		return -1;
	struct entry *e = find(s->now, path);
	if (!e) {
		errno = ENOENT;
		return -1;
	}
	change(s, "", path, e->file);
	return 0;
}

static int sim_list(void *self, int dirfd, bool (*each)(void *arg, const char *name), void *arg)
{
	struct sim *s = self;
	(void)dirfd;
	if (hit(s))
		return -1;
	for (int i = 0; i < NAMES; i++)
		if (s->now[i].file >= 0 && !each(arg, s->now[i].name))
			break;
	return 0;
}

struct df_io sim_io(struct sim *sim)
{
	return (struct df_io){sim_open,   sim_close,     sim_read_at,  sim_write_all,  sim_truncate,
			      sim_size,   sim_sync_data, sim_sync_dir, sim_rename_new, sim_rename_over,
			      sim_unlink, sim_list,      sim};
}

/* --- life and death --- */

struct sim *sim_create(uint64_t seed)
{
	struct sim *s = must(calloc(1, sizeof(*s)));
	s->seed = seed;
	s->rand = df_rand_seeded(&s->seed);
	s->max_bytes = UINT64_MAX;
	for (int i = 0; i < NAMES; i++)
		s->now[i].file = s->disk[i].file = -1;
	for (int i = 0; i < FDS; i++)
		s->fd[i] = -1;
	return s;
}

void sim_destroy(struct sim **sim)
{
	struct sim *s = *sim;
	if (!s)
		return;
	for (int i = 0; i < s->n_file; i++) {
		free(s->file[i].now.p);
		free(s->file[i].disk.p);
		free(s->file[i].dirty);
	}
	free(s);
	*sim = NULL;
}

uint64_t sim_calls(const struct sim *s)
{
	return s->calls;
}

void sim_die_at(struct sim *s, uint64_t n)
{
	s->die_at = n ? s->calls + n : 0;
}

void sim_fail_at(struct sim *s, uint64_t n, int error)
{
	s->fail_at = n ? s->calls + n : 0;
	s->fail_errno = error;
}

void sim_disk_bytes(struct sim *s, uint64_t max)
{
	s->max_bytes = max;
}

void sim_kill(struct sim *s)
{
	for (int i = 0; i < FDS; i++)
		s->fd[i] = -1;
	s->die_at = s->fail_at = 0;
}

/* The file's length on disk may be the old one, the new one or one between; its dirty sectors the old, the new, or zeros. */
static void crash_file(struct sim *s, struct file *f)
{
	size_t disk_n = f->disk.n;
	flush_some(s, f, 1 + below(s, 4));
	size_t low = disk_n < f->now.n ? disk_n : f->now.n, high = disk_n < f->now.n ? f->now.n : disk_n;
	size_t n = below(s, 3) == 0 ? low
		   : below(s, 2)    ? high
				    : low + (size_t)below(s, high - low + 1) / SECTOR * SECTOR;
	resize(&f->disk, n);
	resize(&f->now, 0);
	resize(&f->now, n);
	if (n)
		memcpy(f->now.p, f->disk.p, n);
	if (f->n_dirty)
		memset(f->dirty, 0, f->n_dirty * sizeof(bool));
}

void sim_crash(struct sim *s)
{
	bool in_order = below(s, 2) == 0;
	int kept = (int)below(s, (uint64_t)s->n_op + 1);
	for (int i = 0; i < s->n_op; i++)
		if (in_order ? i < kept : below(s, 2) == 0)
			apply_op(s->disk, &s->op[i]);
	s->n_op = 0;
	memcpy(s->now, s->disk, sizeof(s->now));
	for (int i = 0; i < s->n_file; i++)
		crash_file(s, &s->file[i]);
	sim_kill(s);
}

/* --- looking --- */

char *sim_bytes(struct sim *s, const char *name, size_t *ret_n)
{
	struct entry *e = find(s->now, name);
	if (!e)
		return NULL;
	*ret_n = s->file[e->file].now.n;
	return s->file[e->file].now.p;
}

const char *sim_file(const struct sim *s, const char *name, size_t *ret_n)
{
	for (int i = 0; i < NAMES; i++) {
		if (s->now[i].file >= 0 && strcmp(s->now[i].name, name) == 0) {
			const struct file *f = &s->file[s->now[i].file];
			*ret_n = f->now.n;
			return f->now.p ? f->now.p : "";
		}
	}
	return NULL;
}

size_t sim_n_files(const struct sim *s)
{
	size_t n = 0;
	for (int i = 0; i < NAMES; i++)
		n += s->now[i].file >= 0;
	return n;
}

const char *sim_name(const struct sim *s, size_t at)
{
	for (int i = 0; i < NAMES; i++)
		if (s->now[i].file >= 0 && at-- == 0)
			return s->now[i].name;
	return NULL;
}

size_t sim_n_open(const struct sim *s)
{
	size_t n = 0;
	for (int i = 0; i < FDS; i++)
		n += s->fd[i] >= 0;
	return n;
}
