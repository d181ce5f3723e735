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

/* The other way; false when it is no name of a part of this run. */
bool df_part_parse(const struct df_parts_place *place, const char *name, uint32_t *ret_kind, uint32_t *ret_no,
		   bool *ret_open);

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

/* The last steps of one file: header, sync, rename. And its descriptor and hasher given back. For parts_resume.c. */
enum df_err df_part_finish(const struct df_parts_place *place, int fd, const struct df_journal_file *file, bool durable,
			   struct df_fail *fail) DF_MUST_CHECK;
void df_part_close(const struct df_io *io, struct df_part *part);

/* --- resume (parts_resume.c): `synced` says in messages whether the journal knows that the file was synced --- */

/* A part that a ROTATE record closed: there, under either name, with its size and, with `read`, the bytes that its hash tells of?
 * DF_ERR_CORRUPT says what is not. Changes nothing. */
enum df_err df_parts_check_closed(const struct df_parts_place *place, const struct df_journal_file *file, bool synced,
				  bool read, struct df_fail *fail) DF_MUST_CHECK;
/* Makes it so: under its final name, and synced when durable && !synced. *ret_changed: the directory was changed. */
enum df_err df_parts_complete(const struct df_parts_place *place, const struct df_journal_file *file, bool durable,
			      bool synced, bool *ret_changed, struct df_fail *fail) DF_MUST_CHECK;
/* An open part, opened and its bytes checked against every mark; not cut yet. DF_ERR_CORRUPT names file, expected and found sizes, or
 * the range that differs; *ret_n_good is then how many marks hold from the first. */
enum df_err df_parts_reopen(struct df_parts *parts, const struct df_journal_file *file, const struct df_mark *mark,
			    size_t n_mark, bool synced, size_t *ret_n_good, struct df_fail *fail) DF_MUST_CHECK;
/* Cuts the open files to what the last commit named. */
enum df_err df_parts_trim(const struct df_parts *parts, struct df_fail *fail) DF_MUST_CHECK;
/* DF_ERR_CORRUPT when a file of set parts->no or a later one has its final name already: no record says so. */
enum df_err df_parts_check_unnamed(const struct df_parts *parts, bool synced, struct df_fail *fail) DF_MUST_CHECK;
/* Removes open files of set parts->no and later ones that no record names. */
enum df_err df_parts_sweep(const struct df_parts *parts, struct df_fail *fail) DF_MUST_CHECK;

#endif
