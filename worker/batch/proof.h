// SPDX-License-Identifier: Apache-2.0
/*
 * proof: what can be said of a batch run's directory without a provider: sums of its files, whose results were fetched, and whether everything that batch.json
 * tells is so.
 */
#ifndef DF_WORKER_BATCH_PROOF_H
#define DF_WORKER_BATCH_PROOF_H

#include "base/buf.h"
#include "worker/batch/state.h"

struct df_batch_sum {
	uint64_t bytes, lines, hash; /* XXH3-64; lines: line feeds */
};

enum df_err df_batch_hash_file(int dir_fd, const char *name, struct df_batch_sum *ret,
			       struct df_fail *fail) DF_MUST_CHECK;

/* Of a file that was fetched (answers-NO.jsonl): are its ids those of requests-NO.jsonl, each of them, and no others? */
enum df_err df_batch_is_ours(int dir_fd, const struct df_batch_file *file, bool *ret_ours,
			     struct df_fail *fail) DF_MUST_CHECK;

struct df_batch_proof {
	bool quick; /* said by the caller: sums alone, no look into lines */
	uint64_t faults, files, bytes;
	uint64_t requests; /* different ones that were sent */
	uint64_t asked_again, answered, failed, unanswered;
	struct df_buf wrong; /* a line for each of the first DF_BATCH_FAULTS_TOLD faults */
};
#define DF_BATCH_FAULTS_TOLD 20

/*
 * Compares: each file of requests with its size, lines and hash; what was fetched with its hash; that ids are those of requests and none is twice in a file
 * of requests, or answered twice; in a finished run the outputs' sizes, hashes and rows, and that each document has one fate. Faults are told in *ret, to be
 * released with df_batch_proof_release; an error is one of this process alone.
 */
enum df_err df_batch_prove(int dir_fd, const struct df_batch_state *state, struct df_batch_proof *ret,
			   struct df_fail *fail) DF_MUST_CHECK;
void df_batch_proof_release(struct df_batch_proof *p);

#endif
