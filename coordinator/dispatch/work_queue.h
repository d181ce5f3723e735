// SPDX-License-Identifier: Apache-2.0
/*
 * work_queue: pending work of the dispatch in the order in which it came: runs of cells of one source, or one reader's cell with its
 * bytes. A ring that grows by doubling; what is in it is bounded by what was leased before (redo, suspects) and by
 * DF_READER_TOTAL_BYTES (readers' cells).
 */
#ifndef DF_COORDINATOR_DISPATCH_WORK_QUEUE_H
#define DF_COORDINATOR_DISPATCH_WORK_QUEUE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "proto/blob.h"
#include "proto/messages.h"

struct df_work {
	struct df_cells cells;
	struct df_blob *blob; /* a reader's cell: its bytes, owned; else NULL */
	uint32_t attempts;    /* failures, and crashes outside of any document */
	uint32_t kills;       /* by strangers while it was computed */
	uint64_t lost_ns;     /* when the process died that held it; 0: none did */
};

/* A zeroed struct is an empty queue. */
struct df_work_queue {
	struct df_work *item;
	size_t first, n, cap; /* cap is a power of two */
};

void df_work_queue_release(struct df_work_queue *q);
/* Takes over the blob; DF_ERR_NOMEM leaves it with the caller. */
enum df_err df_work_queue_put(struct df_work_queue *q, struct df_work w) DF_MUST_CHECK;
struct df_work *df_work_queue_head(struct df_work_queue *q); /* NULL: empty; valid until the next put */
void df_work_queue_drop_head(struct df_work_queue *q);       /* its blob has gone elsewhere */
/* Move the head to the end. */
void df_work_queue_turn(struct df_work_queue *q);

#endif
