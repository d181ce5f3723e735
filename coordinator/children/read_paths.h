// SPDX-License-Identifier: Apache-2.0
/*
 * read_paths: the files and folders that a run's inputs lie in, as workers and readers need them to confine themselves: real
 * paths, no links left in them, none beneath another.
 *
 * Up to DF_READ_PATHS_MAX inputs are named one by one. More are named by their folders, and folders that are still too many by the
 * folders above those, the deepest first: a list that stays short, and opens more the more widely the inputs lie.
 */
#ifndef DF_COORDINATOR_CHILDREN_READ_PATHS_H
#define DF_COORDINATOR_CHILDREN_READ_PATHS_H

#include "coordinator/cells/dataset.h"

struct df_read_paths {
	struct df_str *path; /* each with a NUL behind it */
	size_t n;
};

/* What cannot be resolved (a pipe by /dev/fd, a file that has gone) has no entry. DF_ERR_NOMEM. */
enum df_err df_read_paths_of(const struct df_dataset *d, struct df_read_paths *ret_paths,
			     struct df_fail *fail) DF_MUST_CHECK;
void df_read_paths_release(struct df_read_paths *p); /* accepts a zeroed struct */

#endif
