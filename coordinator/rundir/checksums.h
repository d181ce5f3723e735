// SPDX-License-Identifier: Apache-2.0
/*
 * checksums: XXH3-64 of every input's content, for --paranoid. Several files at a time, as fast as the disk gives them; bytes are
 * hashed and never looked at.
 */
#ifndef DF_COORDINATOR_RUNDIR_CHECKSUMS_H
#define DF_COORDINATOR_RUNDIR_CHECKSUMS_H

#include "coordinator/cells/dataset.h"
#include "coordinator/life/ending.h"

/* ret_sum: one per source, 0 for live ones. `ending` (may be NULL) can stop it: DF_ERR_INTERRUPTED. DF_ERR_CHANGED: a file is not
 * the one that was planned; DF_ERR_IO, DF_ERR_NOT_FOUND, DF_ERR_NOMEM. */
enum df_err df_checksums(const struct df_dataset *d, unsigned n_thread, struct df_ending *ending, uint64_t *ret_sum,
			 struct df_fail *fail) DF_MUST_CHECK;

#endif
