// SPDX-License-Identifier: Apache-2.0
/*
 * stage: where the frames of a result wait until its last part is there (and, with -k, until it is its turn).
 *
 * Frames stay in memory up to a cap for all results together; beyond it they go to one unlinked file, whose space is
 * given back when nothing staged is left in it. Belongs to the sink thread.
 */
#ifndef DF_COORDINATOR_SINK_STAGE_H
#define DF_COORDINATOR_SINK_STAGE_H

#include <stdbool.h>

#include "proto/blob.h"
#include "proto/messages.h"

struct df_staged_frame {
	enum df_output_kind kind;
	uint64_t rows;
	struct df_blob *blob; /* NULL: in the file, */
	uint64_t offset, n;   /* at offset, n bytes */
};

/* One result on its way. */
struct df_staged {
	struct df_staged *next;
	uint64_t lane, lease;
	uint32_t n_part; /* parts so far */
	struct df_staged_frame *frame;
	size_t n_frame, cap_frame;
	uint64_t bytes;
	struct df_cells *cells; /* of the last part */
	size_t n_cells;
	struct df_counter *counter; /* owned names */
	size_t n_counter;
};

struct df_staging {
	uint64_t memory_bytes, memory_max;
	uint64_t file_bytes, file_end; /* staged in the file; where it ends */
	int fd;                        /* -1: not made yet */
	int dirfd;
};

void df_staging_init(struct df_staging *g, uint64_t memory_max, int dirfd);
void df_staging_release(struct df_staging *g);

struct df_staged *df_staged_create(uint64_t lane, uint64_t lease);
/* Frees the frames that were not taken, too. */
void df_staged_destroy(struct df_staging *g, struct df_staged **staged);

/* Adds one frame; takes over the blob also on failure. */
enum df_err df_staged_add(struct df_staging *g, struct df_staged *staged, enum df_output_kind kind, uint64_t rows,
			  struct df_blob *blob, struct df_fail *fail) DF_MUST_CHECK;
/* The frame's bytes, from memory or file; the caller gets a reference. */
enum df_err df_staged_take(struct df_staging *g, struct df_staged_frame *frame, struct df_blob **ret_blob,
			   struct df_fail *fail) DF_MUST_CHECK;
/* Copies what the last part says. */
enum df_err df_staged_end(struct df_staged *staged, const struct df_result *result) DF_MUST_CHECK;

#endif
