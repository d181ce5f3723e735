// SPDX-License-Identifier: Apache-2.0
/* stage: frames in memory, or behind a cap in one unlinked file. */
#include "coordinator/sink/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/array.h"

void df_staging_init(struct df_staging *g, uint64_t memory_max, int dirfd)
{
	*g = (struct df_staging){.memory_max = memory_max, .fd = -1, .dirfd = dirfd};
}

void df_staging_release(struct df_staging *g)
{
	if (g->fd >= 0)
		(void)close(g->fd);
	g->fd = -1;
}

struct df_staged *df_staged_create(uint64_t lane, uint64_t lease)
{
	struct df_staged *s = calloc(1, sizeof(*s));
	if (s) {
		s->lane = lane;
		s->lease = lease;
	}
	return s;
}

static void forget_frame(struct df_staging *g, struct df_staged_frame *f)
{
	if (f->blob) {
		g->memory_bytes -= f->n;
		df_blob_unref(&f->blob);
	} else if (f->n) {
		g->file_bytes -= f->n;
		if (g->file_bytes == 0 && ftruncate(g->fd, 0) == 0)
			g->file_end = 0;
	}
	f->n = 0;
}

void df_staged_destroy(struct df_staging *g, struct df_staged **staged)
{
	struct df_staged *s = *staged;
	if (!s)
		return;
	for (size_t i = 0; i < s->n_frame; i++)
		forget_frame(g, &s->frame[i]);
	for (size_t i = 0; i < s->n_counter; i++)
		free((char *)(uintptr_t)s->counter[i].name.p);
	free(s->counter);
	free(s->cells);
	free(s->frame);
	free(s);
	*staged = NULL;
}

static enum df_err open_file(struct df_staging *g, struct df_fail *fail)
{
	if (g->fd >= 0)
		return DF_OK;
	const char *tmp = getenv("TMPDIR");
	if (g->dirfd >= 0)
		g->fd = openat(g->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (g->fd < 0)
		g->fd = open(tmp && *tmp ? tmp : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (g->fd < 0)
		return df_fail_errno(fail, "cannot make a file for results that wait; set TMPDIR to a writable folder");
	return DF_OK;
}

static enum df_err spill(struct df_staging *g, struct df_staged_frame *f, const struct df_blob *blob,
			 struct df_fail *fail)
{
	DF_TRY(open_file(g, fail));
	for (size_t done = 0; done < blob->n;) {
		ssize_t r = pwrite(g->fd, blob->p + done, blob->n - done, (off_t)(g->file_end + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return df_fail_errno(fail, "cannot write results that wait to a temporary file");
		done += (size_t)r;
	}
	f->offset = g->file_end;
	g->file_end += blob->n;
	g->file_bytes += blob->n;
	return DF_OK;
}

enum df_err df_staged_add(struct df_staging *g, struct df_staged *s, enum df_output_kind kind, uint64_t rows,
			  struct df_blob *blob, struct df_fail *fail)
{
	if (df_array_room((void **)&s->frame, s->n_frame, &s->cap_frame, sizeof(*s->frame)) != DF_OK) {
		df_blob_unref(&blob);
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a result of more than %zu frames", s->n_frame);
	}
	struct df_staged_frame f = {kind, rows, NULL, 0, blob->n};
	if (blob->n && g->memory_bytes + blob->n > g->memory_max) {
		enum df_err err = spill(g, &f, blob, fail);
		df_blob_unref(&blob);
		if (err != DF_OK)
			return err;
	} else {
		f.blob = blob;
		g->memory_bytes += blob->n;
	}
	s->frame[s->n_frame++] = f;
	s->bytes += f.n;
	return DF_OK;
}

enum df_err df_staged_take(struct df_staging *g, struct df_staged_frame *f, struct df_blob **ret_blob,
			   struct df_fail *fail)
{
	if (f->blob) {
		*ret_blob = df_blob_ref(f->blob);
		return DF_OK;
	}
	struct df_blob *blob = df_blob_create(f->n);
	if (!blob)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a frame of %llu bytes", (unsigned long long)f->n);
	for (size_t done = 0; done < f->n;) {
		ssize_t r = pread(g->fd, blob->p + done, f->n - done, (off_t)(f->offset + done));
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			df_blob_unref(&blob);
			return df_fail_errno(fail, "cannot read back results that waited in a temporary file");
		}
		done += (size_t)r;
	}
	*ret_blob = blob;
	return DF_OK;
}

enum df_err df_staged_end(struct df_staged *s, const struct df_result *r)
{
	s->cells = calloc(r->n_cells ? r->n_cells : 1, sizeof(*s->cells));
	s->counter = calloc(r->n_counter ? r->n_counter : 1, sizeof(*s->counter));
	if (!s->cells || !s->counter)
		return DF_ERR_NOMEM;
	if (r->n_cells)
		memcpy(s->cells, r->cells, r->n_cells * sizeof(*s->cells));
	s->n_cells = r->n_cells;
	for (size_t i = 0; i < r->n_counter; i++) {
		char *name = df_str_dup(r->counter[i].name);
		if (!name)
			return DF_ERR_NOMEM;
		s->counter[s->n_counter++] = (struct df_counter){{name, r->counter[i].name.n}, r->counter[i].value};
	}
	return DF_OK;
}
