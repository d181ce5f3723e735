// SPDX-License-Identifier: Apache-2.0
/*
 * dataset: operands become sources by stat alone; folders are walked in dataset_walk.c.
 *
 * DESIGN. A path's name, normalised, is its identity: what was taken is kept in a map. Paths and names live in one arena.
 */
#include <errno.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/array.h"
#include "base/hash.h"
#include "coordinator/cells/dataset_core.h"

#define NAMES_BYTES_MAX (UINT64_C(4) << 30)

enum df_err df_dataset_out_of_memory(const struct df_dataset_build *b)
{
	return df_fail(b->fail, DF_ERR_NOMEM, "out of memory for the list of %zu inputs", b->d.n_source);
}

int df_dataset_by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "./a//b/" is "a/b"; below the working folder, an absolute path becomes relative. Never longer than the path. */
static struct df_str normalise(const struct df_dataset_build *b, const char *path, char *out)
{
	size_t n = 0;
	struct df_str in = df_str_from(path);
	if (b->here.n && in.n > b->here.n && memcmp(in.p, b->here.p, b->here.n) == 0)
		in = (struct df_str){in.p + b->here.n, in.n - b->here.n};
	for (size_t i = 0; i < in.n; i++) {
		bool at_start = i == 0 || in.p[i - 1] == '/';
		if (in.p[i] == '/' && i > 0 && (at_start || n == 0))
			continue; /* doubled, or behind a leading "." */
		if (in.p[i] == '.' && at_start && (i + 1 == in.n || in.p[i + 1] == '/') && in.n > 1) {
			i++; /* "./" */
			continue;
		}
		out[n++] = in.p[i];
	}
	while (n > 1 && out[n - 1] == '/')
		n--;
	return (struct df_str){out, n};
}

static enum df_err grow(struct df_dataset_build *b)
{
	struct df_dataset *d = &b->d;
	if (d->n_source >= DF_MAX_SOURCES)
		return df_fail(b->fail, DF_ERR_LIMIT, "more than %u input files", DF_MAX_SOURCES);
	if (df_array_room((void **)&d->source, d->n_source, &d->cap_source, sizeof(*d->source)) != DF_OK)
		return df_dataset_out_of_memory(b);
	return DF_OK;
}

/* Copies path and name; *ret_source is NULL when the name was there before. */
static enum df_err add(struct df_dataset_build *b, const char *path, struct df_source **ret_source)
{
	char scratch[DF_DATASET_PATH_MAX];
	struct df_str whole = df_str_from(path);
	if (whole.n >= sizeof(scratch))
		return df_fail(b->fail, DF_ERR_LIMIT, "a path of %zu bytes is too long: '%.64s...'", whole.n, path);
	struct df_str name = normalise(b, path, scratch);
	uint64_t *value;
	size_t before = b->seen.n;
	if (df_map_put(&b->seen, name, 0, &value) != DF_OK)
		return df_dataset_out_of_memory(b);
	if (b->seen.n == before) {
		b->d.n_repeated++;
		*ret_source = NULL;
		return DF_OK;
	}
	DF_TRY(grow(b));
	struct df_str path_copy = df_arena_copy(&b->d.names, whole), name_copy = path_copy;
	if (path_copy.p && !df_str_eq(name, whole))
		name_copy = df_arena_copy(&b->d.names, name);
	if (!path_copy.p || !name_copy.p)
		return df_dataset_out_of_memory(b);
	struct df_source *s = &b->d.source[b->d.n_source++];
	memset(s, 0, sizeof(*s));
	s->path = path_copy.p;
	s->name = name_copy.p;
	*ret_source = s;
	return DF_OK;
}

static enum df_source_kind kind_of(const struct df_dataset_build *b, const struct df_file_kind *kind,
				   enum df_format format, bool live)
{
	if (live || b->spec->sequential || kind->compressed || kind->archive)
		return DF_SOURCE_READER;
	return format == DF_FORMAT_JSONL  ? DF_SOURCE_JSONL
	       : format == DF_FORMAT_TEXT ? DF_SOURCE_TEXT
					  : DF_SOURCE_READER;
}

/* A call less for each of 100,000 files where the mode says it; what an ACL forbids beyond that shows on opening. */
static bool clearly_readable(const struct stat *st)
{
	const mode_t all = S_IRUSR | S_IRGRP | S_IROTH;
	return (st->st_mode & all) == all || (st->st_uid == geteuid() && (st->st_mode & S_IRUSR));
}

enum df_err df_dataset_add_file(struct df_dataset_build *b, const char *path, const struct stat *st,
				const struct df_file_kind *kind)
{
	struct df_source *s;
	if (!clearly_readable(st) && access(path, R_OK) != 0)
		return df_fail_errno(b->fail, "cannot read '%s'", path);
	DF_TRY(add(b, path, &s));
	if (!s)
		return DF_OK;
	s->live = !S_ISREG(st->st_mode);
	enum df_format format = b->spec->format;
	if (format == DF_FORMAT_AUTO)
		format = kind->format == DF_FORMAT_AUTO && !kind->archive ? DF_FORMAT_JSONL : kind->format;
	s->format = (uint8_t)format;
	s->kind = (uint8_t)kind_of(b, kind, format, s->live);
	if (!s->live) {
		df_file_id_of(st, &s->id);
		b->d.total_bytes += s->id.size;
	}
	return DF_OK;
}

static enum df_err add_stdin(struct df_dataset_build *b)
{
	struct df_source *s;
	if (b->has_stdin)
		return df_fail(b->fail, DF_ERR_USAGE, "'-' (stdin) is given twice");
	b->has_stdin = true;
	DF_TRY(add(b, "-", &s));
	if (!s)
		return DF_OK;
	s->format = (uint8_t)(b->spec->format == DF_FORMAT_AUTO ? DF_FORMAT_JSONL : b->spec->format);
	s->kind = DF_SOURCE_READER;
	if (!b->spec->stdin_path) {
		s->live = true;
		return DF_OK;
	}
	struct df_str path = df_arena_copy(&b->d.names, df_str_from(b->spec->stdin_path));
	if (!path.p)
		return df_dataset_out_of_memory(b);
	s->path = path.p;
	s->name = "stdin";
	s->id = b->spec->stdin_id;
	if (b->spec->stdin_lines && !b->spec->sequential)
		s->kind = DF_SOURCE_JSONL;
	b->d.total_bytes += s->id.size;
	return DF_OK;
}

/* ------------------------------------------------------------------ operands */

static enum df_err add_folder(struct df_dataset_build *b, const char *path, const struct stat *st)
{
	size_t before = b->d.n_source, repeated = b->d.n_repeated, unknown = b->d.n_unknown;
	DF_TRY(df_dataset_walk(b, path, st));
	if (b->d.n_source > before || b->d.n_repeated > repeated)
		return DF_OK;
	if (b->d.n_unknown > unknown)
		return df_fail(b->fail, DF_ERR_NOT_FOUND,
			       "no documents in folder '%s': none of its %" PRIu64
			       " files has a known extension; --input-format says what they are",
			       path, b->d.n_unknown - unknown);
	return df_fail(b->fail, DF_ERR_NOT_FOUND, "no documents in folder '%s'", path);
}

/* A path that the user named, or that a glob gave. */
static enum df_err add_named(struct df_dataset_build *b, const char *path, const struct stat *st)
{
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	if (S_ISDIR(st->st_mode))
		return add_folder(b, path, st);
	if (S_ISSOCK(st->st_mode) || S_ISBLK(st->st_mode))
		return df_fail(b->fail, DF_ERR_USAGE, "'%s' is neither a file nor a pipe", path);
	bool known = df_file_kind_of(df_str_from(path), &kind);
	if (!known && S_ISREG(st->st_mode) && b->spec->format == DF_FORMAT_AUTO)
		return df_fail(b->fail, DF_ERR_USAGE,
			       "the format of '%s' is unknown by its name; say --input-format jsonl, text, csv or tsv",
			       path);
	return df_dataset_add_file(b, path, st, &kind);
}

static enum df_err add_glob(struct df_dataset_build *b, const char *pattern)
{
	glob_t g;
	memset(&g, 0, sizeof(g));
	int code = glob(pattern, GLOB_NOSORT, NULL, &g);
	if (code == GLOB_NOMATCH)
		return df_fail(b->fail, DF_ERR_NOT_FOUND, "no file matches '%s'", pattern);
	if (code != 0)
		return code == GLOB_NOSPACE ? df_dataset_out_of_memory(b)
					    : df_fail(b->fail, DF_ERR_IO, "cannot read the folders of '%s'", pattern);
	qsort(g.gl_pathv, g.gl_pathc, sizeof(*g.gl_pathv), df_dataset_by_bytes);
	enum df_err err = DF_OK;
	for (size_t i = 0; err == DF_OK && i < g.gl_pathc; i++) {
		struct stat st;
		err = stat(g.gl_pathv[i], &st) == 0 ? add_named(b, g.gl_pathv[i], &st)
						    : df_fail_errno(b->fail, "cannot stat '%s'", g.gl_pathv[i]);
	}
	globfree(&g);
	return err;
}

static enum df_err add_operand(struct df_dataset_build *b, const char *operand)
{
	struct stat st;
	if (strcmp(operand, "-") == 0)
		return add_stdin(b);
	if (stat(operand, &st) == 0)
		return add_named(b, operand, &st);
	if (errno == ENOENT && strpbrk(operand, "*?["))
		return add_glob(b, operand);
	if (errno == ENOENT)
		return df_fail(b->fail, DF_ERR_NOT_FOUND, "no such file '%s'", operand);
	return df_fail_errno(b->fail, "cannot stat '%s'", operand);
}

static enum df_err fingerprint(struct df_dataset_build *b)
{
	struct df_hasher *h = df_hasher_create();
	if (!h)
		return df_dataset_out_of_memory(b);
	for (size_t i = 0; i < b->d.n_source; i++) {
		const struct df_source *s = &b->d.source[i];
		const uint8_t what[2] = {s->kind, s->format};
		const uint64_t id[4] = {s->id.dev, s->id.ino, s->id.size, (uint64_t)s->id.mtime_ns};
		df_hasher_add(h, s->name, strlen(s->name) + 1);
		df_hasher_add(h, what, sizeof(what));
		df_hasher_add(h, id, sizeof(id));
	}
	b->d.fingerprint = df_hasher_value(h);
	df_hasher_destroy(&h);
	return DF_OK;
}

static void find_here(struct df_dataset_build *b)
{
	if (!getcwd(b->here_bytes, DF_DATASET_PATH_MAX))
		return;
	size_t n = strlen(b->here_bytes);
	if (b->here_bytes[0] != '/' || n == 1)
		return;
	b->here_bytes[n++] = '/';
	b->here = (struct df_str){b->here_bytes, n};
}

enum df_err df_dataset_open(const struct df_dataset_spec *spec, struct df_dataset *ret_dataset, struct df_fail *fail)
{
	if (spec->n_operand == 0)
		return df_fail(fail, DF_ERR_USAGE, "no input; name files or folders, or pipe JSONL in and say '-'");
	struct df_dataset_build *b = calloc(1, sizeof(*b));
	if (!b)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the list of inputs");
	b->spec = spec;
	b->fail = fail;
	df_arena_init(&b->d.names, NAMES_BYTES_MAX, 0);
	df_map_init(&b->seen, NAMES_BYTES_MAX);
	find_here(b);
	enum df_err err = DF_OK;
	for (size_t i = 0; err == DF_OK && i < spec->n_operand; i++)
		err = add_operand(b, spec->operand[i]);
	if (err == DF_OK)
		err = fingerprint(b);
	df_map_release(&b->seen);
	if (err == DF_OK)
		*ret_dataset = b->d;
	else
		df_dataset_release(&b->d);
	free(b);
	return err;
}

void df_dataset_release(struct df_dataset *d)
{
	free(d->source);
	df_arena_release(&d->names);
	memset(d, 0, sizeof(*d));
}
