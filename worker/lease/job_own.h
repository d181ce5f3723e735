// SPDX-License-Identifier: Apache-2.0
/* job_own: what the three chapters of a job share: job.c (leases, messages, life), job_batch.c (records to rows), job_sources.c (bytes to records). */
#ifndef DF_WORKER_LEASE_JOB_OWN_H
#define DF_WORKER_LEASE_JOB_OWN_H

#include <limits.h>

#include "base/limits.h"
#include "worker/lease/emit.h"
#include "worker/lease/job.h"
#include "worker/lease/pipeline_run.h"
#include "worker/read/lines.h"
#include "worker/read/record.h"

#define DF_JOB_FRAMES 4 /* of one message */

/* One record as it was read. */
struct df_job_input {
	uint64_t offset;
	struct df_str raw; /* padded */
	enum df_err err;
	const char *message; /* with err; NULL: made from it */
	const char *stage;   /* with err DF_ERR_NOMEM: that needed the memory; NULL: none */
	bool again;          /* tried once, and memory was out */
};

struct df_job {
	struct df_job_config config;
	struct df_arena batch_arena, message_arena;
	struct df_pipeline_run *pipeline, *own_pipeline;
	struct df_stage_times times; /* of the lease */
	struct df_record_parser *parser;
	struct df_range_reader *range;
	struct df_emit *emit;
	struct df_counters counters; /* of the lease, and of the batch in work, which may be tried again in parts: */
	struct df_counters batch_counters;
	struct df_buf header, text;
	int fd; /* the file read last */
	char path[PATH_MAX];
	struct df_file_id id;
	/* the lease in work */
	const struct df_msg *msg;
	uint32_t n_part;
	uint64_t own_seq, *seq; /* RESULT and FAILED messages so far, of all leases */
	struct df_output output[DF_JOB_FRAMES];
	struct df_blob *frame[DF_JOB_FRAMES];
	size_t n_frame;
	struct df_line *line;
	struct df_job_input *input;
	size_t block_records; /* of both */
};

/* What does not even fit a worker's share is not read: it could only be ended for it. */
static inline size_t df_job_record_bytes_max(const struct df_heritage *h)
{
	return (size_t)(h->memory_max && h->memory_max < h->max_record ? h->memory_max : h->max_record);
}

/* Records of one segment through the pipeline, as many batches as that takes. */
enum df_err df_job_run_inputs(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
			      struct df_fail *fail) DF_MUST_CHECK;
/* All of a segment; a reader's cells are in the blobs at *payload, which moves on. */
enum df_err df_job_run_segment(struct df_job *j, const struct df_segment *seg, struct df_blob *const **payload,
			       size_t *n_payload, struct df_fail *fail) DF_MUST_CHECK;

#endif
