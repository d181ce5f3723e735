// SPDX-License-Identifier: Apache-2.0
/* reader_own: what the chapters of a reader share: reader.c (life, loop, seeking), reader_parts.c (what a source is), reader_records.c (what is in a part). */
#ifndef DF_WORKER_READ_READER_OWN_H
#define DF_WORKER_READ_READER_OWN_H

#include "worker/read/archive.h"
#include "worker/read/cells.h"
#include "worker/read/feed.h"
#include "worker/read/reader.h"
#include "worker/read/zstd_frames.h"

/* What is being read now: the source itself, or a member of it. */
struct df_reader_part {
	bool open;
	enum df_format format;
	struct df_stream *stream; /* content, decompressed */
	struct df_stream *look;   /* of a member: look-ahead and decompressor of its own */
	struct df_stream *inflate;
	uint64_t base; /* offset of its first byte in the source */
	struct df_csv_scan scan;
	bool has_header;
	bool text_lost; /* a text that is too long: read on to its end, keep nothing */
};

struct df_reader_header {
	char *bytes; /* owns what the names point to */
	struct df_str *name;
	size_t n;
	struct df_str *field; /* scratch for a row, n + 1 */
	struct df_buf scratch;
	struct df_buf made; /* names for nameless columns */
};

struct df_reader {
	struct df_reader_spec spec;
	int fd;
	bool owns_fd, detected, ending;
	bool direct; /* the archive reads the descriptor by position */
	struct df_stream *file, *look, *inflate, *inner_look;
	enum df_codec codec;        /* of `inflate` */
	struct df_zstd_place frame; /* the last one that was sought */
	struct df_archive *archive;
	struct df_reader_part part;
	struct df_stream *passing; /* a member without documents that is read past, a slice at a time; NULL: none */
	uint64_t passed;           /* bytes read past so */
	struct df_reader_header header;
	struct df_feed feed;
	struct df_cells cells;
	struct df_buf name; /* of the part: "source" or "source/member" */
	struct df_reader_stats stats;
	enum df_err end;
	struct df_fail fail; /* with `end` */
};

/* --- parts --- */
/* Finds out what the source is: opens its one part, or its archive. */
enum df_err df_reader_detect(struct df_reader *r, struct df_fail *fail) DF_MUST_CHECK;
/* The next member; opened when it holds documents, else `passing`, or nothing. DF_ERR_END behind the last one. */
enum df_err df_reader_next_member(struct df_reader *r, struct df_fail *fail) DF_MUST_CHECK;
/* A slice of the member that is read past. */
enum df_err df_reader_pass(struct df_reader *r, struct df_fail *fail) DF_MUST_CHECK;
void df_reader_part_close(struct df_reader_part *part);

/* --- records --- */
/* The next line, row or text of the open part into the gathering cell. DF_ERR_AGAIN: the feed wants more bytes; DF_ERR_END: the part's end. */
enum df_err df_reader_one_record(struct df_reader *r, struct df_fail *fail) DF_MUST_CHECK;
void df_reader_header_clear(struct df_reader_header *h);

#endif
