// SPDX-License-Identifier: Apache-2.0
/*
 * job: a lease's life in a worker: read its cells, run the stages, hand out frames and at the end the counts.
 *
 * Memory is one arena, reset after each batch; a batch is at most DF_BLOCK_RECORDS records of about DF_BLOCK_BYTES. Nothing of
 * one lease is seen by the next. Belongs to the compute thread.
 *
 * Where leases wait for the network there are many jobs in one worker, each on a thread of its own, on one pipeline: each runs
 * while its thread has the compute turn (turn.h), and holds next to nothing between two leases.
 */
#ifndef DF_WORKER_LEASE_JOB_H
#define DF_WORKER_LEASE_JOB_H

#include "proto/blob.h"
#include "proto/heritage.h"
#include "proto/messages.h"

struct df_job;
struct df_compute_turn;
struct df_pipeline_run;

struct df_job_config {
	const struct df_heritage *heritage;
	struct df_slot *slot;
	struct df_spawner *spawner; /* NULL: no stage starts commands */
	/* A RESULT or FAILED message is ready: header and payload (references pass to the callee). Blocks while the way is full;
	 * DF_ERR_CLOSED: the worker is leaving. */
	enum df_err (*send)(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last);
	void *self;
	/* One of many; all NULL: the only one. Neither is owned. */
	struct df_compute_turn *turn;
	struct df_pipeline_run *pipeline; /* opened; NULL: the job opens its own */
	uint64_t
		*seq; /* numbers RESULT and FAILED messages of all jobs; its holder has the turn. NULL: the job's own */
};

/* Opens every stage, unless there is a pipeline; the error says which one and why. */
enum df_err df_job_create(const struct df_job_config *config, struct df_job **ret_job,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_job_destroy(struct df_job **job);

/* Answers the lease with RESULT parts or one FAILED. `msg` is a LEASE; payload are its readers' cells. DF_ERR_CLOSED. */
enum df_err df_job_run(struct df_job *job, const struct df_msg *msg, struct df_blob *const *payload,
		       size_t n_payload) DF_MUST_CHECK;

#endif
