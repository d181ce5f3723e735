// SPDX-License-Identifier: Apache-2.0
/* inputs: the list of a run's inputs, written and read through a window. */
#include "coordinator/rundir/inputs.h"

#include <endian.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "base/hash.h"

#define MAGIC "DFINPUT1"
#define VERSION 1U
#define NEW_NAME DF_INPUTS_NAME ".new"
#define HEAD_BYTES 32U
#define ENTRY_BYTES 48U /* without the name */
#define TAIL_BYTES 8U
#define NAME_BYTES_MAX (64U << 10)
#define WINDOW_BYTES (1U << 20)
#define FLAG_SUMS 1U

/* ------------------------------------------------------------------ writing */

struct writer {
	const struct df_io *io;
	int fd;
	uint64_t at;
	struct df_buf b;
	struct df_hasher *hasher;
};

static void put_u32(struct df_buf *b, uint32_t v)
{
	v = htole32(v);
	(void)df_buf_add(b, &v, sizeof(v));
}

static void put_u64(struct df_buf *b, uint64_t v)
{
	v = htole64(v);
	(void)df_buf_add(b, &v, sizeof(v));
}

static enum df_err write_out(struct writer *w, struct df_fail *fail)
{
	if (df_buf_err(&w->b) != DF_OK)
		return df_fail(fail, df_buf_err(&w->b), "no memory to write '%s'", DF_INPUTS_NAME);
	struct iovec iov = {w->b.p, w->b.n};
	df_hasher_add(w->hasher, w->b.p, w->b.n);
	if (w->io->write_all(w->io->self, w->fd, &iov, 1, w->at) < 0)
		return df_fail_errno(fail, "cannot write '%s'", DF_INPUTS_NAME);
	w->at += w->b.n;
	df_buf_reset(&w->b);
	return DF_OK;
}

static enum df_err put_source(struct writer *w, const struct df_source *s, uint64_t sum, struct df_fail *fail)
{
	const uint8_t what[4] = {s->kind, s->format, s->live, 0};
	struct df_str name = df_str_from(s->name);
	put_u64(&w->b, s->id.dev);
	put_u64(&w->b, s->id.ino);
	put_u64(&w->b, s->id.size);
	put_u64(&w->b, (uint64_t)s->id.mtime_ns);
	put_u64(&w->b, sum);
	(void)df_buf_add(&w->b, what, sizeof(what));
	put_u32(&w->b, (uint32_t)name.n);
	(void)df_buf_add_str(&w->b, name);
	return w->b.n < WINDOW_BYTES / 2 ? DF_OK : write_out(w, fail);
}

static enum df_err write_all(struct writer *w, const struct df_dataset *d, const uint64_t *sum, struct df_fail *fail)
{
	(void)df_buf_add(&w->b, MAGIC, 8);
	put_u32(&w->b, VERSION);
	put_u32(&w->b, sum ? FLAG_SUMS : 0);
	put_u64(&w->b, d->n_source);
	put_u64(&w->b, d->fingerprint);
	for (size_t i = 0; i < d->n_source; i++)
		DF_TRY(put_source(w, &d->source[i], sum ? sum[i] : 0, fail));
	DF_TRY(write_out(w, fail));
	put_u64(&w->b, df_hasher_value(w->hasher));
	DF_TRY(write_out(w, fail));
	if (w->io->sync_data(w->io->self, w->fd) < 0)
		return df_fail_errno(fail, "cannot sync '%s'", DF_INPUTS_NAME);
	return DF_OK;
}

enum df_err df_inputs_write(const struct df_io *io, int dirfd, const struct df_dataset *d, const uint64_t *sum,
			    struct df_fail *fail)
{
	struct writer w = {.io = io, .hasher = df_hasher_create()};
	if (!w.hasher)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to write '%s'", DF_INPUTS_NAME);
	df_buf_init(&w.b, WINDOW_BYTES + NAME_BYTES_MAX);
	w.fd = io->open(io->self, dirfd, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	enum df_err err = w.fd < 0 ? df_fail_errno(fail, "cannot create '%s'", NEW_NAME) : DF_OK;
	if (err == DF_OK) {
		err = write_all(&w, d, sum, fail);
		if (io->close(io->self, w.fd) < 0 && err == DF_OK)
			err = df_fail_errno(fail, "cannot close '%s'", NEW_NAME);
		if (err == DF_OK && (io->rename_over(io->self, dirfd, NEW_NAME, DF_INPUTS_NAME) < 0 ||
				     io->sync_dir(io->self, dirfd) < 0))
			err = df_fail_errno(fail, "cannot put '%s' in its place", DF_INPUTS_NAME);
	}
	df_buf_release(&w.b);
	df_hasher_destroy(&w.hasher);
	return err;
}

/* ------------------------------------------------------------------ reading */

struct scan {
	const struct df_io *io;
	int fd;
	uint64_t at, size; /* bytes of the file taken into the window; all */
	char *p;
	size_t begin, end;
	struct df_hasher *hasher; /* NULL: the head alone */
};

static uint64_t get_u64(const char *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static uint32_t get_u32(const char *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static enum df_err damaged(struct df_fail *fail, const char *what)
{
	return df_fail(fail, DF_ERR_CORRUPT, "'%s' is damaged: %s; start afresh with --force-restart", DF_INPUTS_NAME,
		       what);
}

/* n bytes (at most the window), in *ret_p until the next call; counted in the checksum. */
static enum df_err take(struct scan *s, size_t n, const char **ret_p, struct df_fail *fail)
{
	if (s->end - s->begin < n) {
		memmove(s->p, s->p + s->begin, s->end - s->begin);
		s->end -= s->begin;
		s->begin = 0;
		ssize_t got = s->io->read_at(s->io->self, s->fd, s->p + s->end, WINDOW_BYTES - s->end, s->at);
		if (got < 0)
			return df_fail_errno(fail, "cannot read '%s'", DF_INPUTS_NAME);
		s->at += (uint64_t)got;
		s->end += (size_t)got;
		if (s->end < n)
			return damaged(fail, "it ends early");
	}
	*ret_p = s->p + s->begin;
	s->begin += n;
	if (s->hasher)
		df_hasher_add(s->hasher, *ret_p, n);
	return DF_OK;
}

static enum df_err scan_open(struct scan *s, const struct df_io *io, int dirfd, struct df_fail *fail)
{
	*s = (struct scan){.io = io, .fd = io->open(io->self, dirfd, DF_INPUTS_NAME, O_RDONLY, 0)};
	if (s->fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", DF_INPUTS_NAME);
	s->p = malloc(WINDOW_BYTES);
	if (s->p)
		return DF_OK;
	(void)io->close(io->self, s->fd);
	return df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", DF_INPUTS_NAME);
}

static void scan_close(struct scan *s)
{
	(void)s->io->close(s->io->self, s->fd);
	df_hasher_destroy(&s->hasher);
	free(s->p);
}

static enum df_err get_head(struct scan *s, struct df_inputs_head *ret_head, struct df_fail *fail)
{
	const char *p = NULL;
	DF_TRY(take(s, HEAD_BYTES, &p, fail));
	if (memcmp(p, MAGIC, 8) != 0)
		return damaged(fail, "it does not begin as it must");
	if (get_u32(p + 8) != VERSION)
		return df_fail(fail, DF_ERR_VERSION, "'%s' has format version %u; this docflume reads version %u",
			       DF_INPUTS_NAME, get_u32(p + 8), VERSION);
	*ret_head = (struct df_inputs_head){
		.n_source = get_u64(p + 16), .fingerprint = get_u64(p + 24), .has_sums = get_u32(p + 12) & FLAG_SUMS};
	return DF_OK;
}

static enum df_err get_entry(struct scan *s, struct df_input_entry *e, struct df_fail *fail)
{
	const char *p = NULL;
	DF_TRY(take(s, ENTRY_BYTES, &p, fail));
	*e = (struct df_input_entry){.id = {.dev = get_u64(p),
					    .ino = get_u64(p + 8),
					    .size = get_u64(p + 16),
					    .mtime_ns = (int64_t)get_u64(p + 24)},
				     .sum = get_u64(p + 32),
				     .kind = (uint8_t)p[40],
				     .format = (uint8_t)p[41],
				     .live = p[42] != 0};
	size_t n = get_u32(p + 44);
	if (n > NAME_BYTES_MAX)
		return damaged(fail, "a name is too long");
	DF_TRY(take(s, n, &p, fail));
	e->name = (struct df_str){p, n};
	return DF_OK;
}

static enum df_err get_all(struct scan *s, enum df_err (*each)(void *, const struct df_input_entry *), void *self,
			   struct df_fail *fail)
{
	struct df_inputs_head head = {0};
	struct df_input_entry entry;
	const char *p = NULL;
	DF_TRY(get_head(s, &head, fail));
	for (uint64_t i = 0; i < head.n_source; i++) {
		DF_TRY(get_entry(s, &entry, fail));
		if (each(self, &entry) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory to compare %llu inputs",
				       (unsigned long long)head.n_source);
	}
	uint64_t is = df_hasher_value(s->hasher);
	DF_TRY(take(s, TAIL_BYTES, &p, fail));
	return get_u64(p) == is ? DF_OK : damaged(fail, "its checksum does not hold");
}

enum df_err df_inputs_head(const struct df_io *io, int dirfd, struct df_inputs_head *ret_head, struct df_fail *fail)
{
	struct scan s;
	DF_TRY(scan_open(&s, io, dirfd, fail));
	enum df_err err = get_head(&s, ret_head, fail);
	scan_close(&s);
	return err;
}

enum df_err df_inputs_each(const struct df_io *io, int dirfd,
			   enum df_err (*each)(void *self, const struct df_input_entry *entry), void *self,
			   struct df_fail *fail)
{
	struct scan s;
	DF_TRY(scan_open(&s, io, dirfd, fail));
	s.hasher = df_hasher_create();
	enum df_err err = s.hasher ? get_all(&s, each, self, fail)
				   : df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", DF_INPUTS_NAME);
	scan_close(&s);
	return err;
}
