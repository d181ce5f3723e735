// SPDX-License-Identifier: Apache-2.0
/*
 * dataset: the operands of a run as a list of sources. Names and stat alone: content is never opened here.
 *
 * An operand is a file, a glob (when no file has that very name), a folder (all of it, recursive, names sorted
 * bytewise, hidden entries and unknown extensions passed over and counted; links to folders are followed, loops are
 * cut), or "-" for stdin. A path that comes twice is taken once. Order: operands as given, within one sorted.
 */
#ifndef DF_COORDINATOR_CELLS_DATASET_H
#define DF_COORDINATOR_CELLS_DATASET_H

#include "base/arena.h"
#include "base/err.h"
#include "base/file.h"
#include "base/limits.h"
#include "proto/messages.h"

/*
 * kinds (enum df_source_kind of proto/messages.h): JSONL on disk is cut into byte ranges; TEXT on disk is one cell
 * and one document; READER is what is compressed, an archive, CSV, TSV, a FIFO or stdin, and everything when records
 * are counted.
 */
struct df_source {
	const char *path; /* NUL-terminated, as it is opened; "-": stdin */
	const char *
		name; /* for ids and messages: the path without "./" and doubled "/", relative when below the working folder */
	struct df_file_id id; /* zeroed for stdin, FIFOs and devices */
	uint8_t kind;         /* enum df_source_kind */
	uint8_t format;       /* enum df_format; AUTO for archives */
	bool live;            /* stdin, FIFO, device: has no identity, cannot be read again */
};

struct df_dataset_spec {
	const char *const *operand;
	size_t n_operand;
	enum df_format format; /* --input-format: for all sources; AUTO: by extension */
	bool sequential;       /* --skip or --limit: every source goes through a reader */
	/* --spool: stdin is this file, which can be read again; NULL: it is what it is */
	const char *stdin_path;
	struct df_file_id stdin_id;
	bool stdin_lines; /* it can be cut as JSONL */
};

struct df_dataset {
	struct df_source *source; /* grows by doubling; its strings live in `names` */
	size_t n_source, cap_source;
	struct df_arena names;
	uint64_t total_bytes;                     /* on disk, of all sources with an identity */
	uint64_t n_unknown, n_hidden, n_repeated; /* entries passed over inside folders; paths that came twice */
	uint64_t
		fingerprint; /* over names, kinds, formats and identities, in order: a resumed run must have the same */
};

/*
 * DF_ERR_NOT_FOUND ("no such file 'x'", "no file matches 'x*.jsonl'", "no documents in folder 'x'"), DF_ERR_USAGE
 * (unknown extension of a named file: tells --input-format; stdin twice; no operand), DF_ERR_IO (permission denied,
 * loops), DF_ERR_LIMIT (DF_MAX_SOURCES), DF_ERR_NOMEM. Pair: df_dataset_release, which accepts a zeroed struct.
 */
enum df_err df_dataset_open(const struct df_dataset_spec *spec, struct df_dataset *ret_dataset,
			    struct df_fail *fail) DF_MUST_CHECK;
void df_dataset_release(struct df_dataset *d);

#endif
