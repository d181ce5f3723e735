// SPDX-License-Identifier: Apache-2.0
/* parts_resume: finding the data files again, checking them against the journal, and bringing them to where it says. */
#include "coordinator/sink/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/array.h"

#define READ_BYTES (1U << 20)

/* What may have happened, and what to do. A run that never synced what its journal names has an explanation of its own. */
static const char *way_out(bool synced)
{
	return synced ? "put the file back or start afresh with --force-restart"
		      : "this run does not sync (--fsync never), so a power cut may have taken it; put the file back "
			"or start afresh with --force-restart";
}

static enum df_err check_size(const struct df_io *io, int fd, const struct df_journal_file *file, const char *name,
			      bool exact, bool synced, struct df_fail *fail)
{
	uint64_t found = 0;
	if (io->size(io->self, fd, &found) < 0)
		return df_fail_errno(fail, "cannot read '%s'", name);
	if (found < file->end || (exact && found != file->end))
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' has %llu bytes, but the journal says %llu; %s", name,
			       (unsigned long long)found, (unsigned long long)file->end, way_out(synced));
	return DF_OK;
}

static enum df_err fail_missing(const struct df_journal_file *file, const char *name, bool synced, struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_CORRUPT, "'%s' is missing, but the journal says it has %llu bytes; %s", name,
		       (unsigned long long)file->end, way_out(synced));
}

/* Opens a part that a ROTATE record closed, under its final name or the other one, and checks its size. */
static enum df_err open_closed(const struct df_parts_place *place, const struct df_journal_file *file, bool synced,
			       int flags, int *ret_fd, bool *ret_final, struct df_fail *fail)
{
	const struct df_io *io = place->io;
	char name[DF_PART_NAME_MAX], open_name[DF_PART_NAME_MAX];
	bool final = true;
	df_part_name(name, place, file->kind, file->no, false);
	df_part_name(open_name, place, file->kind, file->no, true);
	int fd = io->open(io->self, place->dir_fd, name, O_RDONLY, 0);
	if (fd < 0 && errno == ENOENT) {
		final = false;
		fd = io->open(io->self, place->dir_fd, open_name, flags, 0);
		if (fd < 0 && errno == ENOENT)
			return fail_missing(file, name, synced, fail);
	}
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", final ? name : open_name);
	enum df_err err = check_size(io, fd, file, final ? name : open_name, final, synced, fail);
	if (err != DF_OK) {
		(void)io->close(io->self, fd);
		return err;
	}
	*ret_fd = fd;
	*ret_final = final;
	return DF_OK;
}

/* An .open beside the final name is the second link that a rename without RENAME_NOREPLACE leaves. */
static enum df_err remove_second_link(const struct df_parts_place *place, const struct df_journal_file *file,
				      bool *ret_changed, struct df_fail *fail)
{
	char open_name[DF_PART_NAME_MAX];
	df_part_name(open_name, place, file->kind, file->no, true);
	if (place->io->unlink(place->io->self, place->dir_fd, open_name) == 0)
		*ret_changed = true;
	else if (errno != ENOENT)
		return df_fail_errno(fail, "cannot remove '%s'", open_name);
	return DF_OK;
}

static enum df_err finish_closing(const struct df_parts_place *place, int fd, const struct df_journal_file *file,
				  bool durable, struct df_fail *fail)
{
	const struct df_io *io = place->io;
	char name[DF_PART_NAME_MAX];
	df_part_name(name, place, file->kind, file->no, true);
	if (io->truncate(io->self, fd, file->end) < 0)
		return df_fail_errno(fail, "cannot cut '%s'", name);
	if (durable && io->sync_data(io->self, fd) < 0)
		return df_parts_fail(fail, name);
	return df_part_finish(place, fd, file, durable, fail);
}

enum df_err df_parts_complete(const struct df_parts_place *place, const struct df_journal_file *file, bool durable,
			      bool synced, bool *ret_changed, struct df_fail *fail)
{
	int fd = -1;
	bool final = false, changed = false;
	DF_TRY(open_closed(place, file, synced, O_RDWR, &fd, &final, fail));
	enum df_err err = DF_OK;
	if (!final) {
		err = finish_closing(place, fd, file, durable, fail);
		changed = true;
	} else if (durable && !synced && place->io->sync_data(place->io->self, fd) < 0) {
		char name[DF_PART_NAME_MAX];
		df_part_name(name, place, file->kind, file->no, false);
		err = df_parts_fail(fail, name);
	}
	(void)place->io->close(place->io->self, fd);
	if (err == DF_OK && final)
		err = remove_second_link(place, file, &changed, fail);
	if (err == DF_OK)
		*ret_changed = changed;
	return err;
}

/* Reads [from, to) into the part's hasher. */
static enum df_err hash_range(const struct df_io *io, struct df_part *part, char *block, uint64_t from, uint64_t to,
			      const char *name, struct df_fail *fail)
{
	while (from < to) {
		size_t n = to - from < READ_BYTES ? (size_t)(to - from) : READ_BYTES;
		ssize_t r = io->read_at(io->self, part->fd, block, n, from);
		if (r < 0)
			return df_fail_errno(fail, "cannot read '%s' at byte %llu", name, (unsigned long long)from);
		if ((size_t)r != n)
			return df_fail(fail, DF_ERR_CORRUPT, "'%s' ends at byte %llu, but the journal says %llu", name,
				       (unsigned long long)(from + (uint64_t)r), (unsigned long long)to);
		df_hasher_add(part->hasher, block, n);
		from += n;
	}
	return DF_OK;
}

/* *ret_n_good: marks that hold, from the first. */
static enum df_err check_marks(const struct df_io *io, struct df_part *part, const struct df_mark *mark, size_t n_mark,
			       bool synced, const char *name, size_t *ret_n_good, struct df_fail *fail)
{
	char *block = malloc(READ_BYTES);
	if (!block)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to check '%s'", name);
	enum df_err err = DF_OK;
	size_t i = 0;
	uint64_t at = part->now.kind == DF_OUTPUT_NPY ? DF_NPY_HEADER_BYTES : 0;
	for (; i < n_mark && err == DF_OK; i++) {
		err = hash_range(io, part, block, at, mark[i].end, name, fail);
		if (err == DF_OK && df_hasher_value(part->hasher) != mark[i].hash)
			err = df_fail(fail, DF_ERR_CORRUPT,
				      "'%s' was changed or damaged between bytes %llu and %llu; %s", name,
				      (unsigned long long)at, (unsigned long long)mark[i].end, way_out(synced));
		at = mark[i].end;
	}
	*ret_n_good = err == DF_OK ? i : i - 1;
	free(block);
	return err;
}

/* The header of a part under its final name has the final shape. */
static enum df_err check_header(const struct df_parts_place *place, int fd, const struct df_journal_file *file,
				const char *name, bool synced, struct df_fail *fail)
{
	char expected[DF_NPY_HEADER_BYTES], found[DF_NPY_HEADER_BYTES];
	df_npy_header(expected, place->npy_item_bytes == 2 ? DF_NPY_F16 : DF_NPY_F32, file->rows, file->dim);
	ssize_t n = place->io->read_at(place->io->self, fd, found, sizeof(found), 0);
	if (n < 0)
		return df_fail_errno(fail, "cannot read '%s'", name);
	if ((size_t)n != sizeof(found) || memcmp(found, expected, sizeof(found)) != 0)
		return df_fail(fail, DF_ERR_CORRUPT, "the header of '%s' is not that of %llu rows of %u numbers; %s",
			       name, (unsigned long long)file->rows, file->dim, way_out(synced));
	return DF_OK;
}

enum df_err df_parts_check_closed(const struct df_parts_place *place, const struct df_journal_file *file, bool synced,
				  bool read, struct df_fail *fail)
{
	struct df_part part = {.fd = -1, .now = *file};
	const struct df_mark whole = {.end = file->end, .hash = file->hash};
	char name[DF_PART_NAME_MAX];
	bool final = false;
	size_t n_good;
	DF_TRY(open_closed(place, file, synced, O_RDONLY, &part.fd, &final, fail));
	enum df_err err = DF_OK;
	df_part_name(name, place, file->kind, file->no, !final);
	if (read) {
		part.hasher = df_hasher_create();
		err = part.hasher ? check_marks(place->io, &part, &whole, 1, synced, name, &n_good, fail)
				  : df_fail(fail, DF_ERR_NOMEM, "no memory to check '%s'", name);
		if (err == DF_OK && final && file->kind == DF_OUTPUT_NPY)
			err = check_header(place, part.fd, file, name, synced, fail);
	}
	df_part_close(place->io, &part);
	return err;
}

enum df_err df_parts_reopen(struct df_parts *parts, const struct df_journal_file *file, const struct df_mark *mark,
			    size_t n_mark, bool synced, size_t *ret_n_good, struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	struct df_part *part = &parts->part[file->kind];
	char name[DF_PART_NAME_MAX];
	uint64_t found = 0;
	df_part_name(name, &parts->place, file->kind, file->no, true);
	*ret_n_good = 0;
	part->hasher = df_hasher_create();
	if (!part->hasher)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '%s'", name);
	part->fd = io->open(io->self, parts->place.dir_fd, name, O_RDWR, 0);
	if (part->fd < 0 && errno == ENOENT)
		return fail_missing(file, name, synced, fail);
	if (part->fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", name);
	part->now = part->kept = *file;
	if (file->dim)
		parts->dim = file->dim;
	if (io->size(io->self, part->fd, &found) < 0)
		return df_fail_errno(fail, "cannot read '%s'", name);
	size_t n_there = n_mark;
	while (n_there && mark[n_there - 1].end > found)
		n_there--;
	DF_TRY(check_marks(io, part, mark, n_there, synced, name, ret_n_good, fail));
	return n_there == n_mark ? DF_OK : check_size(io, part->fd, file, name, false, synced, fail);
}

enum df_err df_parts_trim(const struct df_parts *parts, struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	for (uint32_t k = 0; k < DF_N_OUTPUT; k++) {
		const struct df_part *part = &parts->part[k];
		if (part->fd < 0 || io->truncate(io->self, part->fd, part->kept.end) == 0)
			continue;
		char name[DF_PART_NAME_MAX];
		int e = errno;
		df_part_name(name, &parts->place, k, part->now.no, true);
		errno = e;
		return df_fail_errno(fail, "cannot cut '%s' to %llu bytes", name, (unsigned long long)part->kept.end);
	}
	return DF_OK;
}

/* --- files that no record names --- */

struct unnamed {
	const struct df_parts *parts;
	char (*name)[DF_PART_NAME_MAX]; /* .open files of this set and later ones, to be removed */
	size_t n, cap;
	char final[DF_PART_NAME_MAX]; /* the first one with its final name; empty: none */
	bool no_memory;
};

bool df_part_parse(const struct df_parts_place *place, const char *name, uint32_t *ret_kind, uint32_t *ret_no,
		   bool *ret_open)
{
	const char *dash = strchr(name, '-');
	uint64_t no = 0;
	struct df_str digits = {dash ? dash + 1 : name, dash ? strspn(dash + 1, "0123456789") : 0};
	if (df_str_to_u64(digits, &no) != DF_OK || no > UINT32_MAX)
		return false;
	for (uint32_t i = 0; i < 2 * DF_N_OUTPUT; i++) {
		char made[DF_PART_NAME_MAX];
		df_part_name(made, place, i / 2, (uint32_t)no, i % 2);
		if (strcmp(name, made) != 0)
			continue;
		*ret_kind = i / 2;
		*ret_no = (uint32_t)no;
		*ret_open = i % 2;
		return true;
	}
	return false;
}

static bool note_unnamed(void *arg, const char *name)
{
	struct unnamed *u = arg;
	uint32_t kind, no;
	bool open;
	if (!df_part_parse(&u->parts->place, name, &kind, &no, &open) || no < u->parts->no)
		return true;
	if (!open) {
		(void)snprintf(u->final, sizeof(u->final), "%s", name);
		return false;
	}
	if (no == u->parts->no && u->parts->part[kind].fd >= 0)
		return true;
	if (df_array_room((void **)&u->name, u->n, &u->cap, sizeof(*u->name)) != DF_OK) {
		u->no_memory = true;
		return false;
	}
	(void)snprintf(u->name[u->n++], sizeof(*u->name), "%s", name);
	return true;
}

static enum df_err find_unnamed(struct unnamed *u, struct df_fail *fail)
{
	const struct df_io *io = u->parts->place.io;
	if (io->list(io->self, u->parts->place.dir_fd, note_unnamed, u) < 0)
		return df_fail_errno(fail, "cannot list the run directory");
	return u->no_memory ? df_fail(fail, DF_ERR_NOMEM, "no memory to list the run directory") : DF_OK;
}

/* Nothing unnamed may have a final name: it is another run's, or this journal lost its end. */
enum df_err df_parts_check_unnamed(const struct df_parts *parts, bool synced, struct df_fail *fail)
{
	struct unnamed u = {.parts = parts};
	enum df_err err = find_unnamed(&u, fail);
	free(u.name);
	if (err == DF_OK && u.final[0])
		err = df_fail(fail, DF_ERR_CORRUPT,
			      "'%s' is there, but the journal does not know it; %smove it away or start afresh with "
			      "--force-restart",
			      u.final,
			      synced ? ""
				     : "this run does not sync (--fsync never), so a power cut may have taken the "
				       "journal's end; ");
	return err;
}

enum df_err df_parts_sweep(const struct df_parts *parts, struct df_fail *fail)
{
	const struct df_io *io = parts->place.io;
	struct unnamed u = {.parts = parts};
	enum df_err err = find_unnamed(&u, fail);
	for (size_t i = 0; i < u.n && err == DF_OK; i++)
		if (io->unlink(io->self, parts->place.dir_fd, u.name[i]) < 0 && errno != ENOENT)
			err = df_fail_errno(fail, "cannot remove '%s'", u.name[i]);
	free(u.name);
	return err;
}
