// SPDX-License-Identifier: Apache-2.0
/*
 * lines: the records of a byte range of a JSONL file.
 *
 * A record belongs to the range in which its line starts; a line starts at byte 0 and behind each LF. So any
 * cutting of a file into ranges gives each record exactly once, and only the own range is searched for starts (plus the
 * one byte before it, which decides whether the range begins with a start). The last record may run past the range's
 * end.
 *
 * Blank lines (nothing but spaces, tabs, CR) are no records; the CR of a CRLF and a BOM at byte 0 are not part of
 * one; the last line may lack its LF. A line longer than max_record is reported (err = DF_ERR_LIMIT) but never held, and
 * so is one for which there is no memory (DF_ERR_NOMEM).
 */
#ifndef DF_WORKER_READ_LINES_H
#define DF_WORKER_READ_LINES_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"

/* Where bytes come from; a table, so that tests and fuzzers feed memory. */
struct df_bytes_at {
	/* As pread: fewer than n only at the end of the file; -1 with errno. */
	ssize_t (*read_at)(void *self, void *p, size_t n, uint64_t offset);
	/* Still the same file? Called before the first read and after the last. May be NULL. */
	enum df_err (*check)(void *self, struct df_fail *fail);
	void *self;
	const char *name; /* for messages; NULL: "input" */
};

/* The real one: df_bytes_of_file(&x) borrows the struct and the descriptor. */
struct df_file_at {
	int fd;
	struct df_file_id id; /* expected */
	const char *name;     /* for messages */
};
struct df_bytes_at df_bytes_of_file(struct df_file_at *file);

struct df_line {
	uint64_t offset; /* of the line's first byte */
	const char *p;   /* the record, DF_RECORD_PADDING readable bytes behind it; NULL with err */
	size_t n;        /* without CR, LF, BOM */
	enum df_err err; /* DF_OK; DF_ERR_LIMIT: longer than max_record; DF_ERR_NOMEM: than there is memory */
};

struct df_range_reader; /* a buffer of block + max_record + padding bytes at most; reused for many ranges */

/* block_bytes 0: DF_BLOCK_BYTES. max_record at most DF_RECORD_BYTES_MAX. */
enum df_err df_range_reader_create(size_t block_bytes, size_t max_record,
				   struct df_range_reader **ret_reader) DF_MUST_CHECK;
void df_range_reader_destroy(struct df_range_reader **reader);

/* Begin with the range [start, end) of `in`, end <= size, size = bytes of the whole file. Drops what was there
 * before. */
enum df_err df_range_reader_open(struct df_range_reader *r, const struct df_bytes_at *in, uint64_t start, uint64_t end,
				 uint64_t size, struct df_fail *fail) DF_MUST_CHECK;

/*
 * The next records: 1 to cap of them in *ret_n, all from one block; valid until the next call.
 * DF_ERR_END: no more, and the file is still the same. DF_ERR_CHANGED: it is not (also: it is shorter than `size`);
 * what was delivered of this range must be dropped. DF_ERR_IO, DF_ERR_NOMEM.
 */
enum df_err df_range_reader_next(struct df_range_reader *r, struct df_line *line, size_t cap, size_t *ret_n,
				 struct df_fail *fail) DF_MUST_CHECK;

/*
 * A whole file as one record (plain text): appends the content without BOM, and DF_RECORD_PADDING zeros that are not
 * counted in buf->n, to `buf` (whose max must be max_record + 4096 at least; reset by the caller).
 * DF_ERR_LIMIT: larger than max_record (nothing is read). DF_ERR_CHANGED, DF_ERR_IO, DF_ERR_NOMEM.
 */
enum df_err df_lines_read_whole(const struct df_bytes_at *in, uint64_t size, size_t max_record, struct df_buf *buf,
				struct df_str *ret_text, struct df_fail *fail) DF_MUST_CHECK;

/* True when a line holds nothing but blanks. */
bool df_line_is_blank(const char *p, size_t n);

#endif
