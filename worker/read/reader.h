// SPDX-License-Identifier: Apache-2.0
/*
 * reader: cells of whole records from what cannot be cut by bytes: compressed files, archives, CSV and TSV, stdin,
 * and any source when records are counted (--skip, --limit).
 *
 *   file or descriptor -> decompress (by magic) -> archive members (tar by magic, zip) -> split into records -> cells
 *
 * Records leave as JSON text, one behind the other with an LF after each: JSONL as it is; a CSV row as an object of
 * strings with the header's names; a text file or member as {"id": name, "text": ...} with the run's key names. A
 * cell is closed when its payload has cell_bytes or more (or DF_BLOCK_RECORDS entries), so cells depend on the input
 * alone, however it was read -- except live input, whose partial cell is also handed out after DF_STDIN_SILENCE_MS
 * without a byte.
 *
 * Offsets count the decompressed stream. In an archive they count the contents of all members one behind the other, one
 * byte between them, so that (source, offset) is unique even for empty members.
 *
 * A bad record (too long, a CSV row of a wrong width, text that is not UTF-8) is an entry with an error, and counts
 * as a document. A bad source (truncated, corrupt, unreadable) is an error of next_cell, after everything before it
 * was delivered.
 */
#ifndef DF_WORKER_READ_READER_H
#define DF_WORKER_READ_READER_H

#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"

struct df_reader;

struct df_reader_spec {
	const char *path; /* NULL: read `fd` */
	int fd;           /* borrowed; not closed */
	const char *
		name; /* relative name: ids of text documents, messages, and (by extension) the format; "-" for stdin */
	enum df_format
		format; /* AUTO: by name, else JSONL; members of archives: always by their names, then this one */
	const char *id_key, *text_key;
	size_t max_record; /* 0: DF_RECORD_BYTES */
	size_t cell_bytes; /* 0: DF_CELL_BYTES */
	uint64_t skip;     /* records to pass over first */
	uint64_t limit;    /* records to deliver; UINT64_MAX: all */
	bool live;         /* poll the descriptor and hand out partial cells after silence (pipes, terminals) */
	int idle_ms;       /* live: how long next_cell may wait before DF_ERR_AGAIN; 0: DF_STDIN_SILENCE_MS */
	bool check_id;     /* the file must be `id`, before and after (DF_ERR_CHANGED) */
	struct df_file_id id;
};

/* 24 bytes, in host order; travels as an array of bytes between processes of one machine. */
struct df_cell_record {
	uint64_t offset; /* in the decompressed stream */
	uint32_t start;  /* in the payload */
	uint32_t
		length; /* of the record; with err: of its raw bytes (cut at DF_RAW_REJECT_BYTES; 0: too long to hold) */
	uint16_t err;   /* enum df_err; 0: good */
	uint16_t n_message; /* with err: bytes of a one-line message at payload[start + length] */
	uint32_t reserved;  /* 0 */
};

struct df_cell_block {
	uint64_t ordinal;    /* 0, 1, 2, ... within the source */
	const char *payload; /* DF_RECORD_PADDING readable bytes behind it; valid until the next call, like record */
	size_t n_payload;
	const struct df_cell_record *record; /* in order of offset; at least one */
	size_t n_record;
	uint64_t hash; /* XXH3 over the records' table, seeded with the XXH3 of the payload */
};

struct df_reader_stats {
	uint64_t records;                  /* starts seen, bad, skipped and passed over ones too */
	uint64_t skipped;                  /* of these: passed over by `skip` */
	uint64_t delivered;                /* in cells, bad ones too */
	uint64_t bytes_in;                 /* read from the file */
	uint64_t bytes_out;                /* decompressed */
	uint64_t members, members_skipped; /* of archives: read; no known extension, or not a file */
};

/* Does not read yet beyond the magic. DF_ERR_NOT_FOUND, DF_ERR_IO, DF_ERR_CHANGED, DF_ERR_USAGE, DF_ERR_NOMEM. */
enum df_err df_reader_open(const struct df_reader_spec *spec, struct df_reader **ret_reader,
			   struct df_fail *fail) DF_MUST_CHECK;
void df_reader_close(struct df_reader **reader);

/*
 * DF_OK: a cell. DF_ERR_END: the source (or the limit) is at its end. DF_ERR_AGAIN: live input was silent, or much was
 * passed over (skip, blank lines, members without documents) and the caller shall show that it lives; call again.
 * Else a source error, final: DF_ERR_CORRUPT (truncated or broken; message names file and offset), DF_ERR_CHANGED,
 * DF_ERR_IO, DF_ERR_PARSE (CSV header), DF_ERR_UNSUPPORTED (encrypted member), DF_ERR_NOMEM. It stays on later calls.
 */
enum df_err df_reader_next_cell(struct df_reader *r, struct df_cell_block *ret_block,
				struct df_fail *fail) DF_MUST_CHECK;

void df_reader_stats(const struct df_reader *r, struct df_reader_stats *ret_stats);

/*
 * Pass over everything before the cell `ordinal`, whose first record is at `offset`, without reading it: `records` are passed over. Between
 * two cells only, and forwards. DF_OK: the next cell is that one. DF_ERR_UNSUPPORTED: nothing was changed (only lines in a .zst file of
 * many frames that tell their sizes can be sought; and only where that saves something); the caller reads on. Else a source error.
 */
enum df_err df_reader_seek(struct df_reader *r, uint64_t ordinal, uint64_t offset, uint64_t records,
			   struct df_fail *fail) DF_MUST_CHECK;

/* The hash of a block as it was received. */
uint64_t df_cell_block_hash(const char *payload, size_t n_payload, const struct df_cell_record *record,
			    size_t n_record);

#endif
