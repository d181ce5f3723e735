// SPDX-License-Identifier: Apache-2.0
/*
 * journal: the file that says what happened: an append-only list of records, each all or nothing.
 *
 * A record is written in pieces of at most DF_JOURNAL_PIECE bytes. A piece, little-endian:
 *
 *   0  4  magic "DFJ1"            16  8  sequence of its record (0, 1, ..)
 *   4  2  format version (1)      24  8  checksum of the piece before (0: none)
 *   6  1  flags: bit 0 = more     32  8  records known to be durable when this was written
 *   7  1  record type             40  8  checksum: XXH3-64 of the payload, seeded with that of bytes 0..39
 *   8  4  payload bytes           48  .. payload
 *  12  4  zero
 *
 * A record counts when its last piece (without "more") is there. Reading stops at the first piece that is not as it must be: if any
 * valid piece behind it was written when the missing record was already durable, stored bytes were damaged (DF_ERR_CORRUPT with the
 * place); if none was, it is the torn tail of a crash, however the disk ordered its sectors, and is cut.
 *
 * Payloads are made of varints (LEB128, at most 10 bytes), 8-byte little-endian hashes, and byte strings behind a varint length:
 *
 *   HEADER  run id, fingerprint (8 bytes each), wanted kinds (bit set), zstd, npy item bytes, version string
 *   EPOCH   number, higher than the last; the machine's boot (8 bytes, may be left out; 0: not known)
 *   COMMIT  ranges: n, n x (source and first as zigzag differences to the end of the range before, count << 1 | has info [, start,
 *           bytes, records, hash]); files: n, n x file; counters: n, n x (name id, new ids are followed by the name; value); strikes: n, n x
 *           (source, offset, deaths, cause, detail, stage), of several for one record the last stands; sources: n, n x (source,
 *           ended | error << 1, n_cell, message)
 *   ROTATE  files: n, n x file, the states at which this set of parts is closed; the next set's number is one higher
 *   FINISH  sources, cells of all that have no error (both may be left out)
 *   file =  kind, number, dimension (.npy, else 0), end, rows, hash of its bytes from the start to `end` without the .npy header
 *
 * The hash covers the file from its start, not only from the last commit: one pass over the data then serves the commits and the
 * part's final checksum, and a resume that reads the open part once checks every commit's place.
 *
 * Not thread-safe: one thread at a time. Errors: DF_ERR_IO, DF_ERR_NOSPACE, DF_ERR_LIMIT (DF_JOURNAL_RECORD_MAX), DF_ERR_NOMEM.
 */
#ifndef DF_COORDINATOR_SINK_JOURNAL_H
#define DF_COORDINATOR_SINK_JOURNAL_H

#include "base/buf.h"
#include "base/io.h"
#include "base/map.h"
#include "coordinator/sink/store.h"

#define DF_JOURNAL_NAME "journal"
#define DF_JOURNAL_VERSION 1
#define DF_JOURNAL_HEAD 48 /* bytes before a piece's payload */

enum df_journal_type {
	DF_JOURNAL_HEADER = 1,
	DF_JOURNAL_EPOCH,
	DF_JOURNAL_COMMIT,
	DF_JOURNAL_ROTATE,
	DF_JOURNAL_FINISH,
};

struct df_journal_header {
	uint64_t run_id, fingerprint;
	uint32_t want; /* bit 1 << kind */
	bool zstd;
	uint32_t npy_item_bytes;
	struct df_str version; /* of the docflume that began the run */
};

/* A data file at a commit. */
struct df_journal_file {
	uint32_t kind, no;
	uint32_t dim; /* .npy: columns; else 0 */
	uint64_t end; /* bytes of the file, with the .npy header */
	uint64_t rows;
	uint64_t hash; /* XXH3-64 of bytes 0 .. end - 1, without the .npy header */
	uint64_t seq;  /* number of the record that says so; not written */
};

/* --- writing --- */

/* Names of counters get numbers in the order of their first use; the reader builds the same table. */
struct df_counter_names {
	struct df_map ids;
};

void df_counter_names_init(struct df_counter_names *names);
void df_counter_names_release(struct df_counter_names *names);

/* Sorts by (source, first) and joins adjacent ranges; those that carry a reader's info up to DF_INFO_CELLS_MAX cells. *ret_overlap: a
 * cell is there twice. Answers the new count; ranges of no cells are left out. */
size_t df_commit_cells_merge(struct df_commit_cells *cells, size_t n, bool *ret_overlap);

/* Payloads, appended to `out`. cells must be merged (df_commit_cells_merge). */
enum df_err df_journal_put_header(struct df_buf *out, const struct df_journal_header *header) DF_MUST_CHECK;
enum df_err df_journal_put_epoch(struct df_buf *out, uint32_t epoch, uint64_t boot_id) DF_MUST_CHECK;
enum df_err df_journal_put_commit(struct df_buf *out, struct df_counter_names *names, const struct df_commit *commit,
				  const struct df_journal_file *file, size_t n_file) DF_MUST_CHECK;
enum df_err df_journal_put_finish(struct df_buf *out, const struct df_grid_size *complete) DF_MUST_CHECK;
enum df_err df_journal_put_rotate(struct df_buf *out, const struct df_journal_file *file, size_t n_file) DF_MUST_CHECK;

struct df_journal {
	const struct df_io *io;
	int fd;           /* the caller's */
	uint64_t end;     /* bytes: where the next record goes */
	uint64_t seq;     /* records so far */
	uint64_t durable; /* of them, known to be synced */
	uint64_t chain;   /* checksum of the last piece */
	struct df_buf out;
};

void df_journal_init(struct df_journal *j, const struct df_io *io, int fd);
void df_journal_release(struct df_journal *j);
/* One write; nothing is durable before df_journal_sync. After an error the journal must not be appended to. */
enum df_err df_journal_append(struct df_journal *j, enum df_journal_type type, struct df_str payload,
			      struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_journal_sync(struct df_journal *j, struct df_fail *fail) DF_MUST_CHECK;

/* --- reading --- */

#define DF_REPLAY_RANGES_MAX (8U << 20) /* ranges that could not be joined */
#define DF_REPLAY_COUNTERS_MAX 4096     /* names of one run */
#define DF_REPLAY_STRIKES_MAX (1U << 20)
#define DF_REPLAY_TEXT_MAX (256U << 20) /* names and messages */

/* A place of an open part at which a commit was made. */
struct df_mark {
	uint64_t end, hash, rows;
	uint64_t seq; /* number of the COMMIT record */
};

struct df_marks {
	struct df_mark *mark;
	size_t n;
};

struct df_replay {
	bool has_header, finished;
	bool has_size; /* of a finished run's grid */
	struct df_grid_size size;
	struct df_journal_header header;
	uint32_t epoch;   /* the last one recorded; 0: none */
	uint64_t boot_id; /* of its process; 0: not known */
	struct df_commit_cells *cells;
	size_t n_cells, cap_cells;
	struct df_counter *counter;
	size_t n_counter, cap_counter;
	struct df_strike *strike; /* one per record, sorted, once the replay is over */
	size_t n_strike, cap_strike;
	struct df_source_state *source; /* one per source, sorted, once the replay is over */
	size_t n_source, cap_source;
	struct df_journal_file *closed; /* parts of rotated sets, in order */
	size_t n_closed, cap_closed;
	bool keep_marks;               /* set before the replay: those of closed parts are wanted too */
	struct df_marks *closed_marks; /* then: of closed[i] */
	size_t cap_closed_marks;
	uint32_t no;                              /* of the set that is open */
	struct df_journal_file open[DF_N_OUTPUT]; /* its files; end 0: no commit named it */
	struct df_mark *mark[DF_N_OUTPUT];
	size_t n_mark[DF_N_OUTPUT], cap_mark[DF_N_OUTPUT];
	struct df_arena text;
	uint64_t stop; /* set before the replay: this record and all behind it are not read; UINT64_MAX: read all */
	/* the file itself */
	uint64_t good_bytes; /* up to the end of the last whole record */
	uint64_t torn_bytes; /* behind it */
	uint64_t seq, chain; /* as in struct df_journal */
	uint64_t durable;    /* records that the journal itself knows to have been synced */
};

void df_replay_init(struct df_replay *r);
void df_replay_release(struct df_replay *r);
/* A counter by its name; 0 when it is not there. */
uint64_t df_replay_count(const struct df_replay *r, const char *name);
/* Reads the whole file. DF_ERR_CORRUPT names the offset; DF_ERR_VERSION; a file without one good record gives has_header = false. */
enum df_err df_journal_replay(const struct df_io *io, int fd, struct df_replay *r, struct df_fail *fail) DF_MUST_CHECK;
/* One record's payload. DF_ERR_CORRUPT without a place. For the replay and its tests. */
enum df_err df_replay_apply(struct df_replay *r, unsigned type, struct df_str payload,
			    struct df_fail *fail) DF_MUST_CHECK;
/* After the last record: joins ranges and sources; DF_ERR_CORRUPT when a cell was committed twice. */
enum df_err df_replay_settle(struct df_replay *r, struct df_fail *fail) DF_MUST_CHECK;

#endif
