// SPDX-License-Identifier: Apache-2.0
/*
 * queue: events from one thread to another, with a descriptor that a poll loop can wait for. Items are copied; what
 * they point at passes to the receiver. No call waits for the other side (the mutex is held for a copy). Grows as needed: its
 * producers are bounded by leases and cells, not by this queue.
 */
#ifndef DF_COORDINATOR_QUEUE_H
#define DF_COORDINATOR_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct df_queue;

enum df_err df_queue_create(size_t item_bytes, struct df_queue **ret_queue) DF_MUST_CHECK;
void df_queue_destroy(struct df_queue **queue);

/* False when memory is out and the item was not put: what it points at stays the caller's, and df_queue_lost() is true for ever. */
bool df_queue_put(struct df_queue *q, const void *item);
/* An item is missing: nothing that depends on the order of events may go on. */
bool df_queue_lost(struct df_queue *q);
/* False when empty. */
bool df_queue_take(struct df_queue *q, void *ret_item);
/* Readable while items may be there. */
int df_queue_fd(const struct df_queue *q);

#endif
