// SPDX-License-Identifier: Apache-2.0
/* file: identity of input files, and formats by name. */
#include "base/file.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>

static const char *const format_name[DF_N_FORMAT] = {"auto", "jsonl", "text", "csv", "tsv"};

static const struct {
	const char *extension;
	enum df_format format;
} extensions[] = {
	{".jsonl", DF_FORMAT_JSONL},   {".ndjson", DF_FORMAT_JSONL}, {".json", DF_FORMAT_JSONL},
	{".txt", DF_FORMAT_TEXT},      {".text", DF_FORMAT_TEXT},    {".md", DF_FORMAT_TEXT},
	{".markdown", DF_FORMAT_TEXT}, {".csv", DF_FORMAT_CSV},      {".tsv", DF_FORMAT_TSV},
	{".tab", DF_FORMAT_TSV},
};
static const char *const compressions[] = {".gz", ".zst", ".xz", ".bz2"};
static const char *const archives[] = {".tar", ".zip", ".tgz", ".tzst", ".txz", ".tbz2"};
enum { FIRST_COMPRESSED_ARCHIVE = 2 };

#define N_OF(a) (sizeof(a) / sizeof((a)[0]))

void df_file_id_of(const struct stat *st, struct df_file_id *ret_id)
{
	ret_id->dev = (uint64_t)st->st_dev;
	ret_id->ino = (uint64_t)st->st_ino;
	ret_id->size = (uint64_t)st->st_size;
	ret_id->mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

bool df_file_id_eq(const struct df_file_id *a, const struct df_file_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

static enum df_err compare(const struct stat *st, const struct df_file_id *expected, const char *name,
			   struct df_fail *fail)
{
	struct df_file_id now;
	df_file_id_of(st, &now);
	if (df_file_id_eq(&now, expected))
		return DF_OK;
	if (now.dev != expected->dev || now.ino != expected->ino)
		return df_fail(fail, DF_ERR_CHANGED, "input '%s' changed: it is another file now", name);
	if (now.size != expected->size)
		return df_fail(fail, DF_ERR_CHANGED,
			       "input '%s' changed: %" PRIu64 " bytes, %" PRIu64 " when the run began", name, now.size,
			       expected->size);
	return df_fail(fail, DF_ERR_CHANGED, "input '%s' changed: it was written to since the run began", name);
}

enum df_err df_file_id_check(int fd, const struct df_file_id *expected, const char *name, struct df_fail *fail)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return df_fail_errno(fail, "cannot stat '%s'", name);
	return compare(&st, expected, name, fail);
}

enum df_err df_file_not_opened(const char *path, const struct df_file_id *expected, const char *name,
			       struct df_fail *fail)
{
	struct stat st;
	int why = errno;
	if (why == EACCES && stat(path, &st) == 0)
		DF_TRY(compare(&st, expected, name, fail));
	errno = why;
	return df_fail_errno(fail, "cannot read '%s'", name);
}

/* When `s` ends with the extension (ASCII case ignored) and something stands before it, cut it off. */
static bool cut_extension(struct df_str *s, const char *extension)
{
	size_t n = strlen(extension);
	if (s->n <= n || s->p[s->n - n - 1] == '/')
		return false;
	for (size_t i = 0; i < n; i++)
		if (tolower((unsigned char)s->p[s->n - n + i]) != extension[i])
			return false;
	s->n -= n;
	return true;
}

bool df_file_kind_of(struct df_str name, struct df_file_kind *ret_kind)
{
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	for (size_t i = 0; i < N_OF(compressions) && !kind.compressed; i++)
		kind.compressed = cut_extension(&name, compressions[i]);
	for (size_t i = 0; i < N_OF(archives) && !kind.archive; i++) {
		kind.archive = cut_extension(&name, archives[i]);
		kind.compressed |= kind.archive && i >= FIRST_COMPRESSED_ARCHIVE;
	}
	for (size_t i = 0; i < N_OF(extensions) && !kind.archive && kind.format == DF_FORMAT_AUTO; i++)
		if (cut_extension(&name, extensions[i].extension))
			kind.format = extensions[i].format;
	if (!kind.archive && kind.format == DF_FORMAT_AUTO)
		return false;
	*ret_kind = kind;
	return true;
}

const char *df_format_name(enum df_format format)
{
	return (unsigned)format < DF_N_FORMAT ? format_name[format] : "auto";
}

bool df_format_find(struct df_str word, enum df_format *ret_format)
{
	for (int i = 0; i < DF_N_FORMAT; i++) {
		if (df_str_is(word, format_name[i])) {
			*ret_format = (enum df_format)i;
			return true;
		}
	}
	return false;
}
