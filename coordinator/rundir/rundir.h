// SPDX-License-Identifier: Apache-2.0
/*
 * rundir: the directory of one run: made, recognised, locked, or put aside.
 *
 * A directory is a run's when it has a `journal` or a `run.json`; an empty one (or with nothing but a `lock`) may become one; any other is
 * refused, so that `-o ~` harms nobody. `DIR/lock` (0600) is locked with flock as long as a run lives and has the holder's pid in it; the lock
 * dies with the process. Everything in a run directory has the user's umask, except lock, sockets and keys, which are private.
 *
 * Errors, each with a message for people: DF_ERR_BUSY another run holds it (with its pid), DF_ERR_EXISTS not empty and no run
 * directory, DF_ERR_TYPE not a directory, DF_ERR_NOT_FOUND its parent is missing, DF_ERR_IO, DF_ERR_NOSPACE.
 */
#ifndef DF_COORDINATOR_RUNDIR_RUNDIR_H
#define DF_COORDINATOR_RUNDIR_RUNDIR_H

#include <limits.h>
#include <stdbool.h>

#include "base/err.h"

struct df_rundir {
	int dir_fd;
	int lock_fd;
	bool was_run;         /* it has a journal or a run.json: resume */
	char path[PATH_MAX];  /* as given, without slashes at its end */
	char aside[PATH_MAX]; /* where force_restart put the earlier run; empty: nothing was there */
};

/* Makes the directory when it is missing (its parent must be there). force_restart: an earlier run is renamed to "PATH.old-N" with the first N
 * that is free, once its lock was got. */
enum df_err df_rundir_open(const char *path, bool force_restart, struct df_rundir *ret_dir,
			   struct df_fail *fail) DF_MUST_CHECK;
/* It was removed behind the run's back: what is written there now, nobody will ever find. */
bool df_rundir_is_gone(const struct df_rundir *dir);
/* Gives the lock back. Accepts one that was closed before. */
void df_rundir_close(struct df_rundir *dir);

#endif
