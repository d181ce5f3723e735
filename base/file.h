// SPDX-License-Identifier: Apache-2.0
/*
 * file: what the coordinator (names and stat only) and the workers (content) must agree on about an
 * input file: its identity, and what its name says about its format.
 *
 * Identity is (device, inode, size, mtime). The coordinator notes it when the run is planned; whoever
 * reads the file checks it before the first and after the last byte, so that a file that was replaced,
 * cut or written to meanwhile becomes DF_ERR_CHANGED and never a mixture.
 */
#ifndef DF_BASE_FILE_H
#define DF_BASE_FILE_H

#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/str.h"

struct df_file_id {
	uint64_t dev, ino;
	uint64_t size;    /* bytes; 0 for what cannot be sought */
	int64_t mtime_ns; /* since the Unix epoch */
};

enum df_format {
	DF_FORMAT_AUTO, /* by name; for a stream without a name: JSONL */
	DF_FORMAT_JSONL,
	DF_FORMAT_TEXT, /* plain text or Markdown: the file is one document */
	DF_FORMAT_CSV,
	DF_FORMAT_TSV,
	DF_N_FORMAT
};

/* What a file name says. Its bytes decide about compression in the end (worker/read looks at the magic). */
struct df_file_kind {
	enum df_format format; /* of the content; AUTO: unknown, or an archive (its members have names of their own) */
	bool compressed;       /* .gz .zst .xz .bz2 .tgz ... */
	bool archive;          /* .tar .tar.* .tgz .zip */
};

void df_file_id_of(const struct stat *st, struct df_file_id *ret_id);
bool df_file_id_eq(const struct df_file_id *a, const struct df_file_id *b);

/* fstat now and compare. DF_ERR_CHANGED with `name` in quotes and what differs; DF_ERR_IO. */
enum df_err df_file_id_check(int fd, const struct df_file_id *expected, const char *name,
			     struct df_fail *fail) DF_MUST_CHECK;

/* What to say when open() of an input failed with errno: DF_ERR_CHANGED when another file lies there now, which a process that has
 * confined itself to the inputs may not read; else the error itself: "cannot read 'name': ...". */
enum df_err df_file_not_opened(const char *path, const struct df_file_id *expected, const char *name,
			       struct df_fail *fail) DF_MUST_CHECK;

/*
 * By extension, ASCII case ignored: .jsonl .ndjson .json; .txt .text .md .markdown; .csv .tsv .tab; each also with
 * .gz .zst .xz .bz2 behind; .tar .tar.gz .tgz .tar.zst .tzst .tar.xz .txz .tar.bz2 .tbz2 .zip. False: none of them.
 */
bool df_file_kind_of(struct df_str name, struct df_file_kind *ret_kind);

/* "jsonl", "text", "csv", "tsv", "auto". */
const char *df_format_name(enum df_format format);
bool df_format_find(struct df_str word, enum df_format *ret_format);

#endif
