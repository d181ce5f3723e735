// SPDX-License-Identifier: Apache-2.0
/*
 * requests: the files that are uploaded: requests-NO.jsonl, each of one model and one endpoint, as providers want it, and below two caps.
 *
 * Files are written under their names, numbered behind those that the state has; it is their entry in the state (df_request_files_end) that makes them count.
 * What a pass that did not come to its end wrote is written over by the next one.
 */
#ifndef DF_WORKER_BATCH_REQUESTS_H
#define DF_WORKER_BATCH_REQUESTS_H

#include "worker/batch/state.h"

struct df_request_files;

struct df_request_files_config {
	int dir_fd;
	struct df_batch_state *state;
	uint64_t lines_max, bytes_max; /* of one file */
};

enum df_err df_request_files_begin(const struct df_request_files_config *config, struct df_request_files **ret_requests,
				   struct df_fail *fail) DF_MUST_CHECK;
/* One line, its LF included. DF_ERR_RANGE: it alone is longer than a file may be. DF_ERR_IO, DF_ERR_NOSPACE, DF_ERR_LIMIT. */
enum df_err df_request_files_add(struct df_request_files *r, struct df_str model, struct df_str endpoint,
				 struct df_str line, double worst_usd, struct df_fail *fail) DF_MUST_CHECK;
/* Syncs all; the state then has the new files, of its round + 1, and is not saved. *ret_worst: USD of them all. */
enum df_err df_request_files_end(struct df_request_files *r, double *ret_worst, struct df_fail *fail) DF_MUST_CHECK;
/* Without an end before it: the new files are taken out of the state again. Accepts NULL inside. */
void df_request_files_destroy(struct df_request_files **requests);

#endif
