// SPDX-License-Identifier: Apache-2.0
/* parts: writing and closing the data files of a run directory. */
#include "coordinator/sink/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

enum df_err df_parts_fail(struct df_fail *fail, const char *name)
{
	enum df_err err = df_fail_errno(fail, "cannot write '%s'", name);
	if (err == DF_ERR_NOSPACE && fail) {
		size_t n = strlen(fail->msg);
		(void)snprintf(fail->msg + n, sizeof(fail->msg) - n, "; free some and run the same command again");
	}
	return err;
}

void df_part_name(char ret_name[DF_PART_NAME_MAX], const struct df_parts_place *place, uint32_t kind, uint32_t no,
		  bool open)
{
	const char *stem = kind == DF_OUTPUT_REJECTS ? "rejects" : "part";
	const char *ext = kind == DF_OUTPUT_NPY ? ".npy" : place->zstd ? ".jsonl.zst" : ".jsonl";
	(void)snprintf(ret_name, DF_PART_NAME_MAX, "%s-%05u%s%s", stem, (unsigned)no, ext, open ? ".open" : "");
}

void df_parts_init(struct df_parts *parts, const struct df_parts_place *place, uint32_t no)
{
	*parts = (struct df_parts){.place = *place, .no = no};
	for (uint32_t k = 0; k < DF_N_OUTPUT; k++) {
		parts->part[k].fd = -1;
		parts->part[k].now = parts->part[k].kept = (struct df_journal_file){.kind = k, .no = no};
	}
}

void df_part_close(const struct df_io *io, struct df_part *part)
{
	if (part->fd >= 0)
		(void)io->close(io->self, part->fd);
	part->fd = -1;
	df_hasher_destroy(&part->hasher);
}

void df_parts_release(struct df_parts *parts)
{
	for (int k = 0; k < DF_N_OUTPUT; k++)
		df_part_close(parts->place.io, &parts->part[k]);
}

/* --- writing --- */

static enum df_err write_npy_header(const struct df_parts_place *place, int fd, uint64_t rows, uint32_t dim,
				    const char *name, struct df_fail *fail)
{
	char head[DF_NPY_HEADER_BYTES];
	df_npy_header(head, place->npy_item_bytes == 2 ? DF_NPY_F16 : DF_NPY_F32, rows, dim);
	struct iovec iov = {head, sizeof(head)};
	if (place->io->write_all(place->io->self, fd, &iov, 1, 0) < 0)
		return df_parts_fail(fail, name);
	return DF_OK;
}

static enum df_err create_part(struct df_parts *parts, struct df_part *part, struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	char name[DF_PART_NAME_MAX];
	df_part_name(name, &parts->place, part->now.kind, part->now.no, true);
	part->hasher = df_hasher_create();
	if (!part->hasher)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '%s'", name);
	part->now.hash = df_hasher_value(part->hasher);
	part->fd = io->open(io->self, parts->place.dir_fd, name, O_RDWR | O_CREAT | O_TRUNC, 0666);
	if (part->fd < 0)
		return df_parts_fail(fail, name);
	parts->created = true;
	if (part->now.kind == DF_OUTPUT_NPY) {
		part->now.dim = parts->dim;
		part->now.end = DF_NPY_HEADER_BYTES;
		return write_npy_header(&parts->place, part->fd, 0, parts->dim, name, fail);
	}
	return DF_OK;
}

/* The dimension is what the first frame shows; every later one must agree. */
static enum df_err check_vectors(struct df_parts *parts, size_t n, uint64_t rows, struct df_fail *fail)
{
	uint32_t item = parts->place.npy_item_bytes;
	if (item == 0)
		return df_fail(fail, DF_ERR_BUG, "vectors arrived, but the run writes none");
	if (parts->dim == 0) {
		uint64_t dim = rows ? n / rows / item : 0;
		if (dim == 0 || dim > DF_NPY_DIM_MAX)
			return df_fail(fail, DF_ERR_BUG, "%zu bytes are no %llu rows of vectors of %u-byte numbers", n,
				       (unsigned long long)rows, item);
		if (n % rows || n / rows % item)
			return df_fail(fail, DF_ERR_BUG, "%zu bytes are no %llu rows of vectors of %u-byte numbers", n,
				       (unsigned long long)rows, item);
		parts->dim = (uint32_t)dim;
	}
	uint64_t row_bytes = (uint64_t)parts->dim * item;
	if (rows && n % rows == 0 && n / rows % item == 0 && n / rows != row_bytes)
		return df_fail(
			fail, DF_ERR_USAGE,
			"vectors of %llu numbers came, where those before have %u: the model is not the one that it "
			"was "
			"(base_url=, dimensions=, a fall-back); vectors of two lengths cannot be compared, so start "
			"anew with another -o",
			(unsigned long long)(n / rows / item), parts->dim);
	if (row_bytes == 0 || n % row_bytes || n / row_bytes != rows)
		return df_fail(fail, DF_ERR_BUG, "%zu bytes are no %llu rows of vectors of dimension %u", n,
			       (unsigned long long)rows, parts->dim);
	return DF_OK;
}

enum df_err df_parts_append(struct df_parts *parts, enum df_output_kind kind, const void *p, size_t n, uint64_t rows,
			    struct df_fail *fail)
{
	struct df_part *part = &parts->part[kind];
	if (n == 0 && rows == 0)
		return DF_OK;
	if (kind == DF_OUTPUT_NPY)
		DF_TRY(check_vectors(parts, n, rows, fail));
	if (part->fd < 0)
		DF_TRY(create_part(parts, part, fail));
	struct iovec iov = {(void *)(uintptr_t)p, n};
	if (parts->place.io->write_all(parts->place.io->self, part->fd, &iov, 1, part->now.end) < 0) {
		char name[DF_PART_NAME_MAX];
		int e = errno;
		df_part_name(name, &parts->place, kind, part->now.no, true);
		errno = e;
		return df_parts_fail(fail, name);
	}
	df_hasher_add(part->hasher, p, n);
	part->now.end += n;
	part->now.rows += rows;
	return DF_OK;
}

size_t df_parts_changed(struct df_parts *parts, struct df_journal_file ret_file[DF_N_OUTPUT])
{
	size_t n = 0;
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		struct df_part *part = &parts->part[k];
		if (part->fd < 0 || part->now.end == part->kept.end)
			continue;
		part->now.hash = df_hasher_value(part->hasher);
		ret_file[n++] = part->kept = part->now;
	}
	return n;
}

size_t df_parts_kept(const struct df_parts *parts, struct df_journal_file ret_file[DF_N_OUTPUT])
{
	size_t n = 0;
	for (int k = 0; k < DF_N_OUTPUT; k++)
		if (parts->part[k].kept.end)
			ret_file[n++] = parts->part[k].kept;
	return n;
}

enum df_err df_parts_sync(const struct df_parts *parts, const struct df_journal_file *file, size_t n_file,
			  struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	for (size_t i = 0; i < n_file; i++) {
		if (io->sync_data(io->self, parts->part[file[i].kind].fd) < 0) {
			char name[DF_PART_NAME_MAX];
			df_part_name(name, &parts->place, file[i].kind, file[i].no, true);
			return df_parts_fail(fail, name);
		}
	}
	return DF_OK;
}

/* --- closing --- */

enum df_err df_parts_cut(struct df_parts *parts, struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	for (uint32_t k = 0; k < DF_N_OUTPUT; k++) {
		struct df_part *part = &parts->part[k];
		char name[DF_PART_NAME_MAX];
		if (part->fd < 0 || part->now.end == part->kept.end)
			continue;
		df_part_name(name, &parts->place, k, part->now.no, true);
		if (part->kept.end == 0) {
			df_part_close(io, part);
			if (io->unlink(io->self, parts->place.dir_fd, name) < 0)
				return df_fail_errno(fail, "cannot remove '%s'", name);
		} else if (io->truncate(io->self, part->fd, part->kept.end) < 0) {
			return df_fail_errno(fail, "cannot cut '%s' to %llu bytes", name,
					     (unsigned long long)part->kept.end);
		}
		part->now = part->kept;
	}
	return DF_OK;
}

enum df_err df_part_finish(const struct df_parts_place *place, int fd, const struct df_journal_file *file, bool durable,
			   struct df_fail *fail)
{
	char from[DF_PART_NAME_MAX], to[DF_PART_NAME_MAX];
	df_part_name(from, place, file->kind, file->no, true);
	df_part_name(to, place, file->kind, file->no, false);
	if (file->kind == DF_OUTPUT_NPY) {
		DF_TRY(write_npy_header(place, fd, file->rows, file->dim, from, fail));
		if (durable && place->io->sync_data(place->io->self, fd) < 0)
			return df_parts_fail(fail, from);
	}
	if (place->io->rename_new(place->io->self, place->dir_fd, from, to) < 0)
		return df_fail_errno(fail, "cannot rename '%s' to '%s'", from, to);
	return DF_OK;
}

enum df_err df_parts_close_set(struct df_parts *parts, bool durable, struct df_fail *fail)
{
	enum df_err err = DF_OK;
	for (int k = 0; k < DF_N_OUTPUT && err == DF_OK; k++)
		if (parts->part[k].kept.end)
			err = df_part_finish(&parts->place, parts->part[k].fd, &parts->part[k].kept, durable, fail);
	df_parts_release(parts);
	return err;
}
