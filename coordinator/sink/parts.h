// SPDX-License-Identifier: Apache-2.0
/*
 * parts: the data files of a run directory.
 *
 *   part-00000.jsonl[.zst]   part-00000.npy   rejects-00000.jsonl[.zst]        (".open" behind the name until closed)
 *
 * Files of one number form a *set* and are closed together; a file comes into being with its first row, so a set may lack some. A
 * part's state (bytes, rows, hash of the bytes so far) is what commits record. The .npy header has a fixed place of
 * DF_NPY_HEADER_BYTES: written when the first frame shows the dimension, written again with the final number of rows when the part
 * is closed, and left out of every hash.
 *
 * Closing: header, sync, rename (never over an existing file), sync of the directory. df_parts_complete does whatever of that
 * is missing, so that any prefix of it may be what a crash left.
 *
 * Not thread-safe; a set that is being closed belongs to whoever closes it.
 */
#ifndef DF_COORDINATOR_SINK_PARTS_H
#define DF_COORDINATOR_SINK_PARTS_H

#include "base/hash.h"
#include "base/io.h"
#include "base/npy.h"
#include "coordinator/sink/journal.h"

#define DF_PART_NAME_MAX 64
#define DF_NPY_DIM_MAX (1U << 20)

/* What is the same for all parts of a run. */
struct df_parts_place {
	const struct df_io *io;
	int dir_fd;
	bool zstd;
	uint32_t npy_item_bytes;
};

struct df_part {
	int fd;                      /* -1: no file yet */
	struct df_journal_file now;  /* what was written */
	struct df_journal_file kept; /* what a commit has named; end 0: nothing */
	struct df_hasher *hasher;
};

struct df_parts {
	struct df_parts_place place;
	uint32_t no;  /* of this set */
	uint32_t dim; /* of the run's vectors; 0: not known yet */
	bool created; /* a file came into being: the directory must be synced before a record names it */
	struct df_part part[DF_N_OUTPUT];
};

/* As df_fail_errno for a write; when the disk is full the message says what to do. */
enum df_err df_parts_fail(struct df_fail *fail, const char *name);

void df_part_name(char ret_name[DF_PART_NAME_MAX], const struct df_parts_place *place, uint32_t kind, uint32_t no,
		  bool open);

void df_parts_init(struct df_parts *parts, const struct df_parts_place *place, uint32_t no);
/* Closes descriptors; files stay as they are. */
void df_parts_release(struct df_parts *parts);

enum df_err df_parts_append(struct df_parts *parts, enum df_output_kind kind, const void *p, size_t n, uint64_t rows,
			    struct df_fail *fail) DF_MUST_CHECK;

/* Files with more in them than the last commit named; they count as named from now on. Answers how many. */
size_t df_parts_changed(struct df_parts *parts, struct df_journal_file ret_file[DF_N_OUTPUT]);
/* Files that a commit has named. */
size_t df_parts_kept(const struct df_parts *parts, struct df_journal_file ret_file[DF_N_OUTPUT]);
/* Fdatasync of every file of the set that `file` lists. */
enum df_err df_parts_sync(const struct df_parts *parts, const struct df_journal_file *file, size_t n_file,
			  struct df_fail *fail) DF_MUST_CHECK;

/* Back to what the last commit named; a file that none named is removed. */
enum df_err df_parts_cut(struct df_parts *parts, struct df_fail *fail) DF_MUST_CHECK;
/* After the ROTATE record: headers, sync (unless !durable), rename. The directory is not synced yet. Closes the descriptors. */
enum df_err df_parts_close_set(struct df_parts *parts, bool durable, struct df_fail *fail) DF_MUST_CHECK;

/* --- resume --- */

/* A part that a ROTATE record closed: there under its final name with its size, or made so. *ret_changed: a file was renamed. */
enum df_err df_parts_complete(const struct df_parts_place *place, const struct df_journal_file *file, bool durable,
			      bool *ret_changed, struct df_fail *fail) DF_MUST_CHECK;
/* An open part as the last commit left it: opened, its bytes checked against every mark, cut to the last. DF_ERR_CORRUPT names file,
 * expected and found sizes, or the range that differs. */
enum df_err df_parts_reopen(struct df_parts *parts, const struct df_journal_file *file, const struct df_mark *mark,
			    size_t n_mark, struct df_fail *fail) DF_MUST_CHECK;
/* Removes open files of set parts->no and the next that no record names; DF_ERR_CORRUPT when a final name is among them. */
enum df_err df_parts_sweep(struct df_parts *parts, struct df_fail *fail) DF_MUST_CHECK;

#endif
