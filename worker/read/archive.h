// SPDX-License-Identifier: Apache-2.0
/*
 * archive: libarchive for what needs it: members of tar and zip, and xz and bzip2 as filters. The only includer of
 * archive.h of the library. Member names are text from strangers: they name documents and are never opened.
 */
#ifndef DF_WORKER_READ_ARCHIVE_H
#define DF_WORKER_READ_ARCHIVE_H

#include "base/buf.h"
#include "worker/read/stream.h"

/* xz or bzip2 data as a stream; `in` is borrowed. */
enum df_err df_archive_filter(struct df_stream *in, enum df_codec codec, struct df_stream **ret_stream,
			      struct df_fail *fail) DF_MUST_CHECK;

enum df_archive_format { DF_ARCHIVE_NONE, DF_ARCHIVE_TAR, DF_ARCHIVE_ZIP };

/* By the first bytes (zip: a local or the end header; tar: the checksum of the first header, so that text is never
 * taken for one). */
enum df_archive_format df_archive_format_of(const uint8_t *p, size_t n);

struct df_archive;

/* A zip on disk is best opened by `fd` (its table of contents is at the end): fd >= 0 is read by position, `in` is
 * not used. */
enum df_err df_archive_open(struct df_stream *in, int fd, enum df_archive_format format,
			    struct df_archive **ret_archive, struct df_fail *fail) DF_MUST_CHECK;
void df_archive_close(struct df_archive **archive);

struct df_member {
	struct df_str name;       /* valid UTF-8 (bytes that are not become U+FFFD), valid until the next call */
	bool is_file;             /* a regular file */
	struct df_stream *stream; /* its content; owned by the archive; until the next call */
};

/* DF_ERR_END behind the last; DF_ERR_CORRUPT; DF_ERR_UNSUPPORTED: encrypted (told when it is read). */
enum df_err df_archive_next(struct df_archive *archive, struct df_member *ret_member,
			    struct df_fail *fail) DF_MUST_CHECK;

#endif
