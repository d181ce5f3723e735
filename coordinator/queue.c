// SPDX-License-Identifier: Apache-2.0
/* queue: a ring under a mutex, and an eventfd that is raised when the ring was empty. */
#include "coordinator/queue.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct df_queue {
	pthread_mutex_t mutex;
	char *ring;
	size_t item_bytes, first, n, cap; /* cap is a power of two */
	bool lost;
	int fd;
};

enum df_err df_queue_create(size_t item_bytes, struct df_queue **ret_queue)
{
	struct df_queue *q = calloc(1, sizeof(*q));
	if (!q)
		return DF_ERR_NOMEM;
	q->item_bytes = item_bytes;
	q->cap = 64;
	q->ring = malloc(q->cap * item_bytes);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!q->ring || q->fd < 0 || pthread_mutex_init(&q->mutex, NULL) != 0) {
		free(q->ring);
		if (q->fd >= 0)
			(void)close(q->fd);
		free(q);
		return DF_ERR_NOMEM;
	}
	*ret_queue = q;
	return DF_OK;
}

void df_queue_destroy(struct df_queue **queue)
{
	struct df_queue *q = *queue;
	if (!q)
		return;
	(void)pthread_mutex_destroy(&q->mutex);
	(void)close(q->fd);
	free(q->ring);
	free(q);
	*queue = NULL;
}

static bool grow(struct df_queue *q)
{
	char *ring = malloc(q->cap * 2 * q->item_bytes);
	if (!ring)
		return false;
	for (size_t i = 0; i < q->n; i++)
		memcpy(ring + i * q->item_bytes, q->ring + ((q->first + i) & (q->cap - 1)) * q->item_bytes,
		       q->item_bytes);
	free(q->ring);
	q->ring = ring;
	q->first = 0;
	q->cap *= 2;
	return true;
}

bool df_queue_put(struct df_queue *q, const void *item)
{
	pthread_mutex_lock(&q->mutex);
	if (q->lost || (q->n == q->cap && !grow(q))) {
		q->lost =
			true; /* the ring is full: whoever takes from it is awake, and sees this behind its last item */
		pthread_mutex_unlock(&q->mutex);
		return false;
	}
	memcpy(q->ring + ((q->first + q->n) & (q->cap - 1)) * q->item_bytes, item, q->item_bytes);
	bool wake = q->n++ == 0;
	pthread_mutex_unlock(&q->mutex);
	if (wake) {
		uint64_t one = 1;
		ssize_t ignored = write(q->fd, &one, sizeof(one));
		(void)ignored;
	}
	return true;
}

bool df_queue_lost(struct df_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	bool lost = q->lost;
	pthread_mutex_unlock(&q->mutex);
	return lost;
}

bool df_queue_take(struct df_queue *q, void *ret_item)
{
	pthread_mutex_lock(&q->mutex);
	bool any = q->n > 0;
	if (any) {
		memcpy(ret_item, q->ring + q->first * q->item_bytes, q->item_bytes);
		q->first = (q->first + 1) & (q->cap - 1);
		q->n--;
	} else {
		uint64_t count;
		ssize_t ignored = read(q->fd, &count, sizeof(count)); /* lowered only when empty, under the mutex */
		(void)ignored;
	}
	pthread_mutex_unlock(&q->mutex);
	return any;
}

int df_queue_fd(const struct df_queue *q)
{
	return q->fd;
}
