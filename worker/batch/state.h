// SPDX-License-Identifier: Apache-2.0
/*
 * state: what a batch run has done, in DIR/batch.json. The file is replaced as a whole, synced, before and after each step that somebody else sees, so that a
 * process that is killed anywhere goes on without asking for anything twice.
 *
 * A file of requests goes WRITTEN -> UPLOADED -> CREATING -> CREATED -> ENDED -> DONE. Uploading twice costs nothing. CREATING is said before
 * a batch is created, which is not idempotent: whoever finds it looks for the batch by its metadata (run, file, try) first. Where batches have no metadata
 * (remote.h), a batch that is found may be a stranger's: it counts as this file's when its results have this file's ids (`unproved` until then).
 */
#ifndef DF_WORKER_BATCH_STATE_H
#define DF_WORKER_BATCH_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define DF_BATCH_ID_BYTES 128 /* of a provider's id, NUL included */

enum df_batch_step {
	DF_BATCH_WRITTEN,
	DF_BATCH_UPLOADED,
	DF_BATCH_CREATING,
	DF_BATCH_CREATED,
	DF_BATCH_ENDED, /* what came of it is still to be fetched */
	DF_BATCH_DONE,
	DF_N_BATCH_STEP
};

struct df_batch_file {
	uint32_t no, round; /* requests-NO.jsonl, answers-NO.jsonl, errors-NO.jsonl; round: 1, 2, ... */
	char *model, *endpoint;
	uint64_t lines, bytes;
	uint64_t hash, answers_hash,
		errors_hash; /* XXH3-64 of the file that was sent, and of those that were fetched; 0: not known */
	double worst_usd;    /* at the price of batches */
	enum df_batch_step step;
	uint32_t tries; /* batches that were to be created of it */
	char input[DF_BATCH_ID_BYTES], batch[DF_BATCH_ID_BYTES], output[DF_BATCH_ID_BYTES], error[DF_BATCH_ID_BYTES];
	char status[32]; /* as the provider calls it */
	char mark
		[DF_BATCH_ID_BYTES]; /* the newest batch there before one of it was created, or a stranger's behind that; may be empty */
	bool unproved;       /* `batch` was found, and nothing but its size and time says that it is this file's */
	uint64_t done_lines; /* at the last look */
	/* not kept */
	uint32_t failures;   /* batches of it that failed as a whole */
	uint64_t not_before; /* CLOCK_MONOTONIC: the next batch of it */
};

struct df_batch_counts {
	uint64_t in, out, filtered, rejected, rows, calls, cached, source_errors;
	uint64_t tokens_in, tokens_out;
	uint64_t unpriced; /* answers whose price nobody knows: usd is without them */
	double usd;
};

/* What a finished run left: what verify compares. Their hash is XXH3-64 of all bytes. */
#define DF_BATCH_OUTPUTS_MAX 3

struct df_batch_output {
	char name[40];
	uint64_t bytes, rows, hash;
};

struct df_batch_state {
	char run[17]; /* 64 random bits in hex */
	char inputs[17];
	char *pipeline, *options;
	uint32_t round;
	struct df_batch_file *file;
	size_t n_file, cap_file;
	bool finished;
	double spent_usd;              /* for what was fetched */
	struct df_batch_counts counts; /* when finished */
	struct df_batch_output output[DF_BATCH_OUTPUTS_MAX];
	size_t n_output;
};

const char *df_batch_step_name(enum df_batch_step step); /* "uploaded" */

void df_batch_state_init(struct df_batch_state *s);
void df_batch_state_release(struct df_batch_state *s);
/* DF_ERR_NOT_FOUND: there is none. DF_ERR_CORRUPT, DF_ERR_VERSION, DF_ERR_IO, DF_ERR_NOMEM. */
enum df_err df_batch_state_load(int dir_fd, struct df_batch_state *ret_state, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_batch_state_save(int dir_fd, const struct df_batch_state *s, struct df_fail *fail) DF_MUST_CHECK;
/* Copies the strings. DF_ERR_LIMIT (DF_BATCH_FILES_MAX), DF_ERR_NOMEM. The pointer is valid until the next one. */
enum df_err df_batch_state_add(struct df_batch_state *s, struct df_str model, struct df_str endpoint,
			       struct df_batch_file **ret_file) DF_MUST_CHECK;
void df_batch_state_drop_last(struct df_batch_state *s);
/* An id of the provider's that may stand in a path and in batch.json. */
bool df_batch_id_set(char to[DF_BATCH_ID_BYTES], struct df_str id);
/* The same with slashes between its parts, none of which is "." or "..". */
bool df_batch_path_set(char to[DF_BATCH_ID_BYTES], struct df_str path);

#endif
