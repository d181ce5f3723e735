// SPDX-License-Identifier: Apache-2.0
/* rounds: from files of requests to files of answers: uploading, creating, polling, fetching. */
#ifndef DF_WORKER_BATCH_ROUNDS_H
#define DF_WORKER_BATCH_ROUNDS_H

#include "worker/batch/own.h"

bool df_batch_round_is_open(const struct df_batch_run *b);
/* Until every file of the round is DONE. DF_ERR_AGAIN (no_wait), DF_ERR_INTERRUPTED, DF_ERR_CLOSED; else an error of the run. */
enum df_err df_batch_round(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;
/* Of a file that is DONE, into the index. */
enum df_err df_batch_take_answers(struct df_batch_run *b, const struct df_batch_file *file,
				  struct df_fail *fail) DF_MUST_CHECK;

#endif
