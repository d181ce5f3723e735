// SPDX-License-Identifier: Apache-2.0
/*
 * turn: a lock with a queue.
 *
 * DESIGN. Each that waits has a condition of its own, and whoever leaves gives the turn to the head of the queue by name: no thread that
 * comes later can take it in between, and exactly one is woken.
 */
#include "worker/process/turn.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "proto/heritage.h"

struct waiter {
	struct waiter *next;
	pthread_cond_t given_cond;
	bool given;
};

struct df_compute_turn {
	struct df_slot *slot;
	pthread_mutex_t lock; /* of held, head, tail */
	bool held;
	struct waiter *head, **tail;
	uint64_t waited_ns; /* the holder's */
};

enum df_err df_turn_create(struct df_slot *slot, struct df_compute_turn **ret_turn)
{
	struct df_compute_turn *t = calloc(1, sizeof(*t));
	if (!t)
		return DF_ERR_NOMEM;
	t->slot = slot;
	t->tail = &t->head;
	(void)pthread_mutex_init(&t->lock, NULL);
	*ret_turn = t;
	return DF_OK;
}

void df_turn_destroy(struct df_compute_turn **turn)
{
	struct df_compute_turn *t = *turn;
	if (!t)
		return;
	DF_ASSERT(!t->held && !t->head);
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
	*turn = NULL;
}

static void lock_turn(struct df_compute_turn *t)
{
	(void)pthread_mutex_lock(&t->lock);
	if (t->held) {
		struct waiter w = {.given = false};
		(void)pthread_cond_init(&w.given_cond, NULL);
		*t->tail = &w;
		t->tail = &w.next;
		while (!w.given)
			(void)pthread_cond_wait(&w.given_cond, &t->lock);
		(void)pthread_cond_destroy(&w.given_cond);
	}
	t->held = true;
	(void)pthread_mutex_unlock(&t->lock);
}

static void unlock_turn(struct df_compute_turn *t)
{
	(void)pthread_mutex_lock(&t->lock);
	struct waiter *next = t->head;
	DF_ASSERT(t->held);
	if (next) { /* it stays held: by the next */
		t->head = next->next;
		if (!t->head)
			t->tail = &t->head;
		next->given = true;
		(void)pthread_cond_signal(&next->given_cond); /* under the lock: it lives on the other's stack */
	} else {
		t->held = false;
	}
	(void)pthread_mutex_unlock(&t->lock);
}

void df_turn_begin(struct df_compute_turn *t)
{
	lock_turn(t);
	t->waited_ns = 0;
}

void df_turn_end(struct df_compute_turn *t)
{
	unlock_turn(t);
}

void df_turn_leave(struct df_compute_turn *t, struct df_turn_pause *pause)
{
	const struct df_slot *s = t->slot;
	*pause = (struct df_turn_pause){
		.lease = atomic_load(&s->lease),
		.source = atomic_load(&s->source),
		.offset = atomic_load(&s->offset),
		.n_record = atomic_load(&s->n_record),
		.alone = atomic_load(&s->alone),
		.stage = atomic_load(&s->stage),
		.computing = atomic_load(&s->computing) != 0,
		.left_ns = df_clock_mono(&df_clock_real),
		.waited_ns = t->waited_ns,
	};
	if (pause->computing)
		df_slot_end(t->slot);
	unlock_turn(t);
}

void df_turn_take(struct df_compute_turn *t, const struct df_turn_pause *pause)
{
	struct df_record_id first = {(uint32_t)pause->source, pause->offset};
	lock_turn(t);
	uint64_t now_ns = df_clock_mono(&df_clock_real);
	t->waited_ns = pause->waited_ns + (now_ns - pause->left_ns);
	if (!pause->computing)
		return;
	df_slot_begin(t->slot, pause->lease, first, pause->n_record, pause->alone != 0, now_ns);
	df_slot_stage(t->slot, (uint32_t)pause->stage);
}

uint64_t df_turn_waited_ns(const struct df_compute_turn *t)
{
	return t->waited_ns;
}
