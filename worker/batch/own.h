// SPDX-License-Identifier: Apache-2.0
/* own: what the files of batch mode share: batch.c (rounds), gate.c (calls), sites.c (whom), pass.c (documents), lines.c (request lines), rows.c (output). */
#ifndef DF_WORKER_BATCH_OWN_H
#define DF_WORKER_BATCH_OWN_H

#include <stdio.h>

#include "base/arena.h"
#include "worker/batch/answers.h"
#include "worker/batch/batch.h"
#include "worker/batch/remote.h"
#include "worker/batch/requests.h"
#include "worker/call/call.h"
#include "proto/messages.h"
#include "worker/doc.h"

struct df_cache;
struct df_pipeline_run;
struct df_slot;

/* One model at one place: whom its batches belong to. */
struct df_batch_site {
	struct df_route *route;
	const char *model;            /* as in the state */
	struct df_remote_place place; /* from `arena` of the run */
	struct df_str endpoint;       /* "/v1/chat/completions" */
	struct df_batch_site *next;
};

/* Files of the output: by enum df_output_kind. */
struct df_batch_out {
	int dir_fd;
	FILE *file[DF_N_OUTPUT]; /* NULL: not wanted */
	uint64_t rows[DF_N_OUTPUT];
	uint64_t vector_bytes;
	bool broken; /* this pass is not the last one: nothing more is written */
};

struct df_batch_run {
	const struct df_batch_options *o;
	int dir_fd, lock_fd;
	struct df_batch_state state;
	struct df_answers *answers;
	struct df_request_files *requests; /* of the pass in work */
	struct df_http *http;
	struct df_models *models;
	struct df_cache *cache; /* NULL: none */
	struct df_caller *caller;
	struct df_pipeline_run *pipeline;
	struct df_route *lines_route; /* of request lines */
	struct df_slot *slot;
	struct df_remote *remote;
	struct df_batch_site *sites;
	struct df_arena arena, scratch; /* of the run; of one call or line */
	struct df_batch_out out;
	struct df_counters counters; /* of the pass */
	uint64_t pending;            /* calls of the pass that wait for an answer */
	uint64_t unbounded;          /* of them, those that may cost nobody knows what */
	uint64_t source_errors;
	struct df_fail fault; /* of a call, for which the pass has to end; code DF_OK: none */
};

/* --- gate.c --- */

/* In place of the engine of calls: answers from what is there, or notes that it is to be asked. */
void df_batch_gate(void *self, struct df_call *call);
/* One request line for a file of requests; for gate.c and lines.c. DF_ERR_EXISTS: it was asked in this pass. */
enum df_err df_batch_ask(struct df_batch_run *b, struct df_str custom_id, struct df_str model, struct df_str endpoint,
			 struct df_str line, double worst_usd, struct df_fail *fail) DF_MUST_CHECK;
/* --- sites.c --- */
/* Of every route of the pipeline, before anything is read: are there batches? */
enum df_err df_batch_open_sites(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;
const struct df_batch_site *df_batch_site_of(const struct df_batch_run *b, const char *model);
/* What prices its answers. */
struct df_model_info df_batch_info(const struct df_batch_run *b, const struct df_batch_file *file);

/* --- pass.c, lines.c: all documents once. b->pending says whether it was the last pass --- */
enum df_err df_batch_open_pipeline(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_batch_pass(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_batch_open_lines(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_batch_pass_lines(struct df_batch_run *b, struct df_fail *fail) DF_MUST_CHECK;

/* --- rows.c --- */
enum df_err df_batch_out_begin(struct df_batch_out *o, int dir_fd, const bool want[DF_N_OUTPUT],
			       struct df_fail *fail) DF_MUST_CHECK;
/* Vectors: float32 of `rows` rows. */
enum df_err df_batch_out_add(struct df_batch_out *o, uint32_t kind, const char *p, size_t n, uint64_t rows,
			     struct df_fail *fail) DF_MUST_CHECK;
/* Synced, and under their names; the state is told of them. */
enum df_err df_batch_out_end(struct df_batch_out *o, struct df_batch_state *state, struct df_fail *fail) DF_MUST_CHECK;
void df_batch_out_drop(struct df_batch_out *o);
uint64_t df_batch_count(const struct df_batch_run *b, const char *name);

#endif
