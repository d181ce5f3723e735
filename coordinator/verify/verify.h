// SPDX-License-Identifier: Apache-2.0
/*
 * verify: proves a run directory from what is in it, offline and read-only: that every file is what the journal says, that every cell was
 * done exactly once, that the counts add up, that nothing else is there.
 *
 * The checks come in groups, in this order; each says in one line what it saw, and every fault is a finding with file, place and what is
 * wrong there:
 *
 *   journal   replays without a fault; how many records, epochs
 *   parts     each file: size, XXH3 at the end and (to name a damaged range) at every commit, header of .npy, zstd frames decode, each line is
 *             a JSON object, as many lines as rows
 *   rows      of each set: as many vectors as rows
 *   cells     no cell twice; of a finished run none missing
 *   counts    in = out + filtered + rejected, each the sum of its reasons; rows and rejects as many as their files have
 *   files     nothing that looks like output and is not the journal's
 *   run.json  agrees with the journal
 *
 * What the coordinator cannot know, how lines are decoded and checked, comes from the caller (struct df_verify_lines).
 */
#ifndef DF_COORDINATOR_VERIFY_VERIFY_H
#define DF_COORDINATOR_VERIFY_VERIFY_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/err.h"
#include "coordinator/sink/journal.h"

enum df_verify_group {
	DF_VERIFY_JOURNAL,
	DF_VERIFY_PARTS,
	DF_VERIFY_ROWS,
	DF_VERIFY_CELLS,
	DF_VERIFY_COUNTS,
	DF_VERIFY_FILES,
	DF_VERIFY_RUN_JSON,
	DF_N_VERIFY_GROUP,
};

extern const char *const df_verify_group_name[DF_N_VERIFY_GROUP];

/* The bytes of one file, in order. read: 1 to n bytes, DF_ERR_END, or an error. */
struct df_verify_bytes {
	enum df_err (*read)(struct df_verify_bytes *b, void *p, size_t n, size_t *ret_n, struct df_fail *fail);
	const char *name;
};

/* Called from several threads, each with its own file. Counts the lines of JSON; DF_ERR_CORRUPT, DF_ERR_PARSE or DF_ERR_UTF8 with the place of the
 * first fault. *ret_unchecked: lines that are too long, deep or wide to be looked into. */
struct df_verify_lines {
	enum df_err (*count)(void *self, struct df_verify_bytes *bytes, bool zstd, uint64_t *ret_lines,
			     uint64_t *ret_unchecked, struct df_fail *fail);
	void *self;
};

struct df_verify_config {
	const char *path;
	const struct df_verify_lines *lines; /* NULL: bytes are hashed, lines are not looked into */
	unsigned threads;                    /* >= 1 */
};

#define DF_VERIFY_FINDINGS 100 /* of a group are told; the others are counted */

struct df_finding {
	enum df_verify_group group;
	char *text; /* heap */
};

struct df_verify {
	char *summary[DF_N_VERIFY_GROUP]; /* heap; one line each */
	uint64_t wrong[DF_N_VERIFY_GROUP];
	struct df_finding *finding;
	size_t n_finding, cap_finding;
	uint64_t n_wrong;
	bool finished;   /* the journal says so, and run.json too */
	uint64_t n_file; /* parts looked at */
	uint64_t bytes, lines;
};

/* DF_OK: everything was looked at; see n_wrong. DF_ERR_BUSY: a run is going on in the directory (message: which process); DF_ERR_NOT_FOUND: no
 * run directory; else it could not be read. */
enum df_err df_verify_run(const struct df_verify_config *config, struct df_verify *ret_verify,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_verify_release(struct df_verify *v); /* accepts a zeroed one */

#endif
