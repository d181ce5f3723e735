// SPDX-License-Identifier: Apache-2.0
/*
 * emit: rows and rejects in output form, cut into frames. The JSON of a row is the record as received with its text
 * replaced and members added: what no stage touched is copied byte for byte.
 *
 * A chunk's row has an id of its own ("ID#N"), "doc_id", and the other members of its document. A reject is the record with a member
 * "docflume" that says where, by whom and why; a record that is no JSON object travels as "raw_base64" (up to a cap).
 */
#ifndef DF_WORKER_LEASE_EMIT_H
#define DF_WORKER_LEASE_EMIT_H

#include "proto/blob.h"
#include "proto/messages.h"
#include "worker/doc.h"

/* Members of a reject: why, and the bytes of what is no JSON object. */
#define DF_REASON_KEY "docflume"
#define DF_RAW_KEY "raw_base64"

struct df_emit_config {
	bool want[DF_N_OUTPUT];
	bool embed_in_rows;
	bool f16;
	int zstd; /* level; 0: frames are not compressed */
	struct df_str id_key, text_key;
	/* A frame is full; takes over the blob. */
	enum df_err (*frame)(void *self, const struct df_output *output, struct df_blob *blob);
	void *self;
};

struct df_emit;

enum df_err df_emit_create(const struct df_emit_config *config, struct df_emit **ret_emit) DF_MUST_CHECK;
void df_emit_destroy(struct df_emit **emit);

/* Every live row and every reject of the batch; *ret_rows: rows written. A document whose rows do not fit into memory or a row into
 * DF_FRAME_BYTES_MAX becomes a reject, unless a frame with rows of it has gone out already: then DF_ERR_NOMEM, DF_ERR_LIMIT. */
enum df_err df_emit_batch(struct df_emit *e, struct df_batch *batch, uint32_t attempts, uint64_t *ret_rows,
			  struct df_fail *fail) DF_MUST_CHECK;
/* Hand over what is left in the frames; the last call of a lease. */
enum df_err df_emit_flush(struct df_emit *e, struct df_fail *fail) DF_MUST_CHECK;
/* Forget what is left: the lease failed. */
void df_emit_drop(struct df_emit *e);
/* Between two leases: give the memory of frames back. */
void df_emit_release(struct df_emit *e);

#endif
