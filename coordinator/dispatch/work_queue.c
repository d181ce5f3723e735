// SPDX-License-Identifier: Apache-2.0
/* work_queue: a ring. */
#include "coordinator/dispatch/work_queue.h"

#include <stdlib.h>

static enum df_err grow(struct df_work_queue *q)
{
	if (q->n < q->cap)
		return DF_OK;
	size_t cap = q->cap ? q->cap * 2 : 16;
	struct df_work *item = malloc(cap * sizeof(*item));
	if (!item)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < q->n; i++)
		item[i] = q->item[(q->first + i) & (q->cap - 1)];
	free(q->item);
	*q = (struct df_work_queue){item, 0, q->n, cap};
	return DF_OK;
}

void df_work_queue_release(struct df_work_queue *q)
{
	for (; q->n; df_work_queue_drop_head(q))
		df_blob_unref(&df_work_queue_head(q)->blob);
	free(q->item);
	*q = (struct df_work_queue){0};
}

enum df_err df_work_queue_put(struct df_work_queue *q, struct df_work w)
{
	DF_TRY(grow(q));
	q->item[(q->first + q->n++) & (q->cap - 1)] = w;
	return DF_OK;
}

struct df_work *df_work_queue_head(struct df_work_queue *q)
{
	return q->n ? &q->item[q->first] : NULL;
}

void df_work_queue_drop_head(struct df_work_queue *q)
{
	q->first = (q->first + 1) & (q->cap - 1);
	q->n--;
}

void df_work_queue_turn(struct df_work_queue *q)
{
	struct df_work w = q->item[q->first];
	df_work_queue_drop_head(q);
	q->item[(q->first + q->n++) & (q->cap - 1)] = w; /* room was just made */
}
