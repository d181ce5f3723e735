// SPDX-License-Identifier: Apache-2.0
/*
 * timers: a binary heap of slots. An id is (count << SLOT_BITS | slot), so that it is found at once, is unique, and grows with the
 * order of setting, which decides between equal times.
 */
#include "worker/net/timers.h"

#include <stdbool.h>
#include <stdlib.h>

#define SLOT_BITS 24
#define SLOT_MASK ((UINT64_C(1) << SLOT_BITS) - 1)

void df_timers_release(struct df_timers *t)
{
	free(t->timer);
	free(t->heap);
	*t = (struct df_timers){.n = 0};
}

static bool before(const struct df_timers *t, uint32_t a, uint32_t b)
{
	const struct df_timer *x = &t->timer[a], *y = &t->timer[b];
	return x->at_ns != y->at_ns ? x->at_ns < y->at_ns : x->id < y->id;
}

static void put(struct df_timers *t, uint32_t place, uint32_t slot)
{
	t->heap[place] = slot;
	t->timer[slot].place = place;
}

/* Moves the slot at `place` to where it belongs. */
static void settle(struct df_timers *t, uint32_t place)
{
	uint32_t slot = t->heap[place];
	while (place > 0 && before(t, slot, t->heap[(place - 1) / 2])) {
		put(t, place, t->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	for (;;) {
		uint32_t child = 2 * place + 1;
		if (child + 1 < t->n && before(t, t->heap[child + 1], t->heap[child]))
			child++;
		if (child >= t->n || !before(t, t->heap[child], slot))
			break;
		put(t, place, t->heap[child]);
		place = child;
	}
	put(t, place, slot);
}

static enum df_err grow(struct df_timers *t)
{
	uint32_t cap = t->cap ? 2 * t->cap : 64;
	if (cap > SLOT_MASK)
		return DF_ERR_NOMEM;
	struct df_timer *timer = realloc(t->timer, cap * sizeof(*timer));
	if (!timer)
		return DF_ERR_NOMEM;
	t->timer = timer;
	uint32_t *heap = realloc(t->heap, cap * sizeof(*heap));
	if (!heap)
		return DF_ERR_NOMEM;
	t->heap = heap;
	t->cap = cap;
	return DF_OK;
}

enum df_err df_timers_set(struct df_timers *t, uint64_t at_ns, void (*fn)(void *self), void *self, uint64_t *ret_id)
{
	uint32_t slot = t->free ? t->free - 1 : t->n_slot;
	if (!t->free) {
		if (t->n_slot == t->cap)
			DF_TRY(grow(t));
		t->n_slot++;
	} else {
		t->free = t->timer[slot].next;
	}
	t->last = ((t->last >> SLOT_BITS) + 1) << SLOT_BITS;
	t->timer[slot] = (struct df_timer){.id = t->last | slot, .at_ns = at_ns, .fn = fn, .self = self};
	put(t, t->n++, slot);
	settle(t, t->n - 1);
	*ret_id = t->timer[slot].id;
	return DF_OK;
}

static void take_out(struct df_timers *t, uint32_t slot)
{
	uint32_t place = t->timer[slot].place;
	t->timer[slot].id = 0;
	t->timer[slot].next = t->free;
	t->free = slot + 1;
	if (place != --t->n) {
		put(t, place, t->heap[t->n]);
		settle(t, place);
	}
}

void df_timers_unset(struct df_timers *t, uint64_t id)
{
	uint32_t slot = (uint32_t)(id & SLOT_MASK);
	if (id && slot < t->n_slot && t->timer[slot].id == id)
		take_out(t, slot);
}

uint64_t df_timers_next(const struct df_timers *t)
{
	return t->n ? t->timer[t->heap[0]].at_ns : DF_TIMER_NEVER;
}

void df_timers_fire(struct df_timers *t, uint64_t now_ns)
{
	uint64_t last = t->last | SLOT_MASK; /* the newest that may fire */
	while (t->n) {
		struct df_timer first = t->timer[t->heap[0]];
		if (first.at_ns > now_ns || first.id > last)
			break;
		take_out(t, t->heap[0]);
		first.fn(first.self);
	}
}
