// SPDX-License-Identifier: Apache-2.0
/*
 * store_stdout: the kind of store that writes rows to a descriptor at once. Private to store.c, which says what each call means.
 *
 * There is no journal: a row counts when write(2) took it, and commit and reap have nothing left to do. SIGPIPE must be ignored
 * by the process: a reader that has gone is DF_ERR_CLOSED.
 */
#ifndef DF_COORDINATOR_SINK_STORE_STDOUT_H
#define DF_COORDINATOR_SINK_STORE_STDOUT_H

#include "coordinator/sink/store.h"

struct df_store_stdout {
	int fd[DF_N_OUTPUT]; /* -1: counted only */
	struct df_part_info info[DF_N_OUTPUT];
	size_t n_info;
};

void df_store_stdout_init(struct df_store_stdout *out, const struct df_store_config *config);
enum df_err df_store_stdout_append(struct df_store_stdout *out, enum df_output_kind kind, const struct df_blob *frame,
				   uint64_t rows, struct df_fail *fail) DF_MUST_CHECK;
/* What was written, per kind; names are "stdout" and "rejects". */
const struct df_part_info *df_store_stdout_parts(struct df_store_stdout *out, size_t *ret_n);

#endif
