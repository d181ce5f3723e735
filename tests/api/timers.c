// SPDX-License-Identifier: Apache-2.0
/* timers: a binary heap of connections by time; heap[0] is unused. */
#include "tests/api/server.h"

#include <stdlib.h>

static void put(struct server *s, size_t i, struct conn *c)
{
	s->heap[i] = c;
	c->heap = i;
}

static void up(struct server *s, size_t i, struct conn *c)
{
	for (; i > 1 && s->heap[i / 2]->at_ns > c->at_ns; i /= 2)
		put(s, i, s->heap[i / 2]);
	put(s, i, c);
}

static void down(struct server *s, size_t i, struct conn *c)
{
	for (size_t child; (child = 2 * i) <= s->n_heap; i = child) {
		if (child < s->n_heap && s->heap[child + 1]->at_ns < s->heap[child]->at_ns)
			child++;
		if (s->heap[child]->at_ns >= c->at_ns)
			break;
		put(s, i, s->heap[child]);
	}
	put(s, i, c);
}

void timer_unset(struct server *s, struct conn *c)
{
	size_t i = c->heap;
	if (i == 0)
		return;
	c->heap = 0;
	struct conn *last = s->heap[s->n_heap--];
	if (last == c)
		return;
	if (i > 1 && s->heap[i / 2]->at_ns > last->at_ns)
		up(s, i, last);
	else
		down(s, i, last);
}

void timer_set(struct server *s, struct conn *c, uint64_t at_ns)
{
	timer_unset(s, c);
	if (s->n_heap + 2 > s->cap_heap) {
		s->cap_heap = s->cap_heap ? s->cap_heap * 2 : 256;
		s->heap = realloc(s->heap, s->cap_heap * sizeof *s->heap);
		if (s->heap == NULL)
			abort();
	}
	c->at_ns = at_ns;
	up(s, ++s->n_heap, c);
}
