// SPDX-License-Identifier: Apache-2.0
/*
 * verify_parts: every data file read once, by several threads.
 *
 * DESIGN: the reader of lines pulls bytes through the hash, so a file is read once for both; what it leaves unread after a fault is hashed
 * all the same. The hash is compared at every place where a commit was made: the first that differs names the range. Each thread takes
 * the next file; what it finds is noted in the file's own place and told afterwards, in order.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "coordinator/verify/verify_core.h"

#define BLOCK_BYTES (1U << 20)
#define THREADS_MAX 64

struct pool {
	const struct df_verify_job *job;
	atomic_size_t next;
};

/* One file on its way through the hash. */
struct pass {
	struct df_verify_bytes bytes;
	const struct df_verify_job *job;
	struct df_verify_part *part;
	int fd;
	uint64_t at;
	size_t mark; /* the next to compare */
	uint64_t mark_from;
	struct df_hasher *hasher;
};

__attribute__((format(printf, 2, 3))) static void fault(char **at, const char *format, ...)
{
	char text[1024];
	va_list ap;
	if (*at)
		return;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	*at = df_str_dup(df_str_from(text));
}

/* Compares at a mark that has been reached; the first that differs is told. */
static void compare(struct pass *p)
{
	const struct df_mark *m = &p->part->mark[p->mark++];
	if (df_hasher_value(p->hasher) != m->hash)
		fault(&p->part->fault[0], "%s: changed or damaged between bytes %llu and %llu", p->part->name,
		      (unsigned long long)p->mark_from, (unsigned long long)m->end);
	p->mark_from = m->end;
}

static enum df_err read_some(struct df_verify_bytes *b, void *buffer, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct pass *p = (struct pass *)b;
	if (p->mark == p->part->n_mark)
		return DF_ERR_END;
	uint64_t left = p->part->mark[p->mark].end - p->at;
	ssize_t got = df_io_real.read_at(NULL, p->fd, buffer, left < n ? (size_t)left : n, p->at);
	if (got < 0)
		return df_fail_errno(fail, "%s: cannot be read at byte %llu", p->part->name, (unsigned long long)p->at);
	if (got == 0)
		return df_fail(fail, DF_ERR_CORRUPT, "%s: ends at byte %llu while it is read", p->part->name,
			       (unsigned long long)p->at);
	df_hasher_add(p->hasher, buffer, (size_t)got);
	p->at += (uint64_t)got;
	if (p->at == p->part->mark[p->mark].end)
		compare(p);
	*ret_n = (size_t)got;
	return DF_OK;
}

static enum df_err drain(struct pass *p, struct df_fail *fail)
{
	size_t n = 0;
	char *block = malloc(BLOCK_BYTES);
	if (!block)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to read '%s'", p->part->name);
	enum df_err err;
	do
		err = read_some(&p->bytes, block, BLOCK_BYTES, &n, fail);
	while (err == DF_OK);
	free(block);
	return err == DF_ERR_END ? DF_OK : err;
}

static enum df_err check_lines(struct pass *p, struct df_fail *fail)
{
	struct df_verify_part *part = p->part;
	const struct df_verify_lines *lines = p->job->config->lines;
	if (part->file.kind == DF_OUTPUT_NPY || !lines)
		return DF_OK;
	struct df_fail why = {0};
	enum df_err err =
		lines->count(lines->self, &p->bytes, p->job->place.zstd, &part->lines, &part->unchecked, &why);
	if (err == DF_ERR_CORRUPT || err == DF_ERR_PARSE || err == DF_ERR_UTF8 || err == DF_ERR_TYPE)
		fault(&part->fault[1], "%s: %s", part->name, why.msg);
	else if (err != DF_OK)
		return df_fail(fail, err, "%s", why.msg);
	else if (part->lines != part->file.rows)
		fault(&part->fault[1], "%s: %llu lines, but the journal says %llu rows", part->name,
		      (unsigned long long)part->lines, (unsigned long long)part->file.rows);
	return DF_OK;
}

/* The header of a closed part has the final shape; that of an open one is written when it is closed. */
static enum df_err check_header(const struct pass *p, struct df_fail *fail)
{
	struct df_verify_part *part = p->part;
	uint32_t item = p->job->place.npy_item_bytes;
	char found[DF_NPY_HEADER_BYTES], expected[DF_NPY_HEADER_BYTES];
	if ((part->file.end - DF_NPY_HEADER_BYTES) != part->file.rows * part->file.dim * item)
		fault(&part->fault[1], "%s: %llu bytes are not %llu rows of %u numbers", part->name,
		      (unsigned long long)part->file.end, (unsigned long long)part->file.rows, part->file.dim);
	if (part->open)
		return DF_OK;
	ssize_t n = df_io_real.read_at(NULL, p->fd, found, sizeof(found), 0);
	if (n < 0)
		return df_fail_errno(fail, "%s: cannot be read", part->name);
	df_npy_header(expected, item == 2 ? DF_NPY_F16 : DF_NPY_F32, part->file.rows, part->file.dim);
	if ((size_t)n != sizeof(found) || memcmp(found, expected, sizeof(found)) != 0)
		fault(&part->fault[1], "%s: the header (bytes 0 to %u) is not that of %llu rows of %u numbers",
		      part->name, DF_NPY_HEADER_BYTES, (unsigned long long)part->file.rows, part->file.dim);
	return DF_OK;
}

static enum df_err check_bytes(struct pass *p, struct df_fail *fail)
{
	struct df_verify_part *part = p->part;
	uint64_t size = 0;
	if (df_io_real.size(NULL, p->fd, &size) < 0)
		return df_fail_errno(fail, "%s: cannot be read", part->name);
	if (size < part->file.end || (size > part->file.end && !part->open)) {
		fault(&part->fault[0], "%s: %llu bytes, but the journal says %llu", part->name,
		      (unsigned long long)size, (unsigned long long)part->file.end);
		return DF_OK;
	}
	if (part->file.kind == DF_OUTPUT_NPY) {
		DF_TRY(check_header(p, fail));
		p->at = p->mark_from = DF_NPY_HEADER_BYTES;
	}
	DF_TRY(check_lines(p, fail));
	return drain(p, fail);
}

static void check_part(const struct df_verify_job *job, struct df_verify_part *part)
{
	struct pass p = {.bytes = {read_some, part->name}, .job = job, .part = part};
	p.fd = df_io_real.open(NULL, job->dir_fd, part->name, O_RDONLY | O_NOFOLLOW, 0);
	if (p.fd < 0 && errno == ENOENT) {
		fault(&part->fault[0], "%s: missing; the journal says it has %llu bytes", part->name,
		      (unsigned long long)part->file.end);
		return;
	}
	if (p.fd < 0) {
		part->err = df_fail_errno(&part->fail, "%s: cannot be opened", part->name);
		return;
	}
	part->there = true;
	p.hasher = df_hasher_create();
	part->err = p.hasher ? check_bytes(&p, &part->fail)
			     : df_fail(&part->fail, DF_ERR_NOMEM, "no memory to read '%s'", part->name);
	df_hasher_destroy(&p.hasher);
	(void)df_io_real.close(NULL, p.fd);
}

static void *work(void *arg)
{
	struct pool *pool = arg;
	for (size_t i = atomic_fetch_add(&pool->next, 1); i < pool->job->n_part; i = atomic_fetch_add(&pool->next, 1))
		check_part(pool->job, &pool->job->part[i]);
	return NULL;
}

static void read_all(struct df_verify_job *job)
{
	struct pool pool = {.job = job};
	pthread_t thread[THREADS_MAX];
	unsigned n = 0, want = job->config->threads < THREADS_MAX ? job->config->threads : THREADS_MAX;
	while (n + 1 < want && n + 1 < job->n_part && pthread_create(&thread[n], NULL, work, &pool) == 0)
		n++;
	(void)work(&pool); /* this thread too: without any other it does all */
	while (n)
		(void)pthread_join(thread[--n], NULL);
}

static enum df_err list_parts(struct df_verify_job *job, struct df_fail *fail)
{
	struct df_replay *r = &job->journal;
	job->part = calloc(r->n_closed + DF_N_OUTPUT, sizeof(*job->part));
	if (!job->part)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu parts", r->n_closed);
	for (size_t i = 0; i < r->n_closed; i++)
		job->part[job->n_part++] = (struct df_verify_part){
			.file = r->closed[i], .mark = r->closed_marks[i].mark, .n_mark = r->closed_marks[i].n};
	for (int k = 0; k < DF_N_OUTPUT; k++)
		if (r->open[k].end)
			job->part[job->n_part++] = (struct df_verify_part){
				.file = r->open[k], .open = true, .mark = r->mark[k], .n_mark = r->n_mark[k]};
	for (size_t i = 0; i < job->n_part; i++) {
		struct df_verify_part *p = &job->part[i];
		df_part_name(p->name, &job->place, p->file.kind, p->file.no, p->open);
	}
	return DF_OK;
}

/* A crash may come between the record that closes a part and its new name: the next run completes that. */
static void accept_old_names(struct df_verify_job *job)
{
	for (size_t i = 0; i < job->n_part; i++) {
		struct df_verify_part *p = &job->part[i];
		char open_name[DF_PART_NAME_MAX];
		df_part_name(open_name, &job->place, p->file.kind, p->file.no, true);
		if (p->open || job->journal.finished || faccessat(job->dir_fd, p->name, F_OK, 0) == 0 ||
		    faccessat(job->dir_fd, open_name, F_OK, 0) != 0)
			continue;
		p->open = true;
		(void)snprintf(p->name, sizeof(p->name), "%s", open_name);
	}
}

enum df_err df_verify_parts(struct df_verify_job *job, struct df_fail *fail)
{
	uint64_t unchecked = 0;
	DF_TRY(list_parts(job, fail));
	accept_old_names(job);
	read_all(job);
	for (size_t i = 0; i < job->n_part; i++) {
		struct df_verify_part *p = &job->part[i];
		if (p->err != DF_OK)
			return df_fail(fail, p->err, "%s", p->fail.msg);
		for (int k = 0; k < 2; k++)
			if (p->fault[k])
				df_verify_wrong(job, DF_VERIFY_PARTS, "%s", p->fault[k]);
		job->v->n_file++;
		job->v->bytes += p->there ? p->file.end : 0;
		job->v->lines += p->lines;
		unchecked += p->unchecked;
	}
	char looked[96] = "; lines not looked into";
	if (job->config->lines && unchecked)
		(void)snprintf(looked, sizeof(looked), "; %llu lines of JSON, %llu of them too large to be looked into",
			       (unsigned long long)job->v->lines, (unsigned long long)unchecked);
	else if (job->config->lines)
		(void)snprintf(looked, sizeof(looked), "; %llu lines of JSON", (unsigned long long)job->v->lines);
	df_verify_say(job, DF_VERIFY_PARTS, "%zu %s of %llu bytes, each with its checksum%s", job->n_part,
		      job->n_part == 1 ? "file" : "files", (unsigned long long)job->v->bytes, looked);
	return DF_OK;
}
