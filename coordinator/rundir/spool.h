// SPDX-License-Identifier: Apache-2.0
/*
 * spool: stdin in a file, so that it can be read again: --spool DIR.
 *
 * All of stdin is first copied into DIR/docflume-HASH.stdin (mode 0600; HASH of the run directory's path, so that the same command finds
 * it): written beside, synced, renamed when it is whole. Then the file is the input, in parallel like any other, and its documents are
 * still those of "stdin". The same command again goes on from it, and stdin is not read. What was copied by halves is begun anew. The file
 * is locked while the run uses it, and removed when the run is finished.
 */
#ifndef DF_COORDINATOR_RUNDIR_SPOOL_H
#define DF_COORDINATOR_RUNDIR_SPOOL_H

#include <limits.h>

#include "base/file.h"
#include "coordinator/life/ending.h"
#include "coordinator/life/life.h"
#include "coordinator/life/run_options.h"

struct df_spool {
	bool used;           /* --spool was given; else nothing below counts */
	char path[PATH_MAX]; /* of the whole file */
	struct df_file_id id;
	bool gone;  /* the run is finished and the file removed: `id` is what it was */
	bool lines; /* it can be cut like a JSONL file on disk, by its first byte; else a reader looks what it is */
	int fd;     /* holds the lock */
};

/*
 * Copies stdin or finds the copy. DF_ERR_NOSPACE (what was copied is removed), DF_ERR_IO, DF_ERR_BUSY, DF_ERR_TYPE (something else has
 * this name), DF_ERR_NOT_FOUND (no such folder; or a run that is not finished has lost its copy), DF_ERR_INTERRUPTED.
 */
enum df_err df_spool_open(const struct df_run_options *options, struct df_life *life, struct df_ending *ending,
			  struct df_spool *ret_spool, struct df_fail *fail) DF_MUST_CHECK;
/* `finished`: nobody will need the copy again. Accepts a zeroed struct. */
void df_spool_close(struct df_spool *spool, bool finished);

#endif
