// SPDX-License-Identifier: Apache-2.0
/* arena: a list of blocks; the newest serves, reset turns the others into spares. */
#include "base/arena.h"

#include <stdlib.h>

#define FIRST_BLOCK (64U << 10)
#define LARGEST_BLOCK (1U << 20)
#define HEADER 64U

struct df_arena_block {
	struct df_arena_block *next;
	size_t cap; /* bytes behind the header */
	size_t used;
};

static char *bytes_of(struct df_arena_block *b)
{
	return (char *)b + HEADER;
}

void df_arena_init(struct df_arena *a, size_t max_bytes, size_t keep_bytes)
{
	*a = (struct df_arena){.max = max_bytes, .keep = keep_bytes};
}

void df_arena_init_small(struct df_arena *a, size_t max_bytes, size_t first_bytes)
{
	*a = (struct df_arena){.max = max_bytes, .first = first_bytes};
}

static void free_list(struct df_arena_block *b)
{
	while (b) {
		struct df_arena_block *next = b->next;
		free(b);
		b = next;
	}
}

void df_arena_release(struct df_arena *a)
{
	free_list(a->head);
	free_list(a->free);
	a->head = a->free = NULL;
	a->total = 0;
}

void df_arena_reset(struct df_arena *a)
{
	struct df_arena_block *b = a->head;
	a->head = NULL;
	while (b) {
		struct df_arena_block *next = b->next;
		if (a->total > a->keep && b->cap > FIRST_BLOCK) {
			a->total -= b->cap + HEADER;
			free(b);
		} else {
			b->used = 0;
			b->next = a->free;
			a->free = b;
		}
		b = next;
	}
}

static struct df_arena_block *take_spare(struct df_arena *a, size_t need)
{
	for (struct df_arena_block **at = &a->free; *at; at = &(*at)->next) {
		struct df_arena_block *b = *at;
		if (b->cap >= need) {
			*at = b->next;
			return b;
		}
	}
	return NULL;
}

static struct df_arena_block *new_block(struct df_arena *a, size_t need)
{
	size_t cap = a->head ? a->head->cap * 2 : a->first ? a->first : FIRST_BLOCK;
	if (cap > LARGEST_BLOCK)
		cap = LARGEST_BLOCK;
	if (cap < need)
		cap = need;
	cap = (cap + 63) & ~(size_t)63;
	if (cap + HEADER > a->max - a->total) /* near the maximum: no more than is needed */
		cap = (need + 63) & ~(size_t)63;
	if (cap + HEADER > a->max - a->total)
		return NULL;
	struct df_arena_block *b = aligned_alloc(64, cap + HEADER);
	if (!b)
		return NULL;
	b->cap = cap;
	b->used = 0;
	a->total += cap + HEADER;
	return b;
}

void *df_arena_alloc(struct df_arena *a, size_t n)
{
	size_t align = n >= 64 ? 64 : 16;
	struct df_arena_block *b = a->head;
	if (n > SIZE_MAX / 4)
		return NULL;
	if (b) {
		size_t at = (b->used + align - 1) & ~(align - 1);
		if (at <= b->cap && n <= b->cap - at) {
			b->used = at + n;
			return bytes_of(b) + at;
		}
	}
	struct df_arena_block *fresh = take_spare(a, n);
	if (!fresh)
		fresh = new_block(a, n);
	if (!fresh)
		return NULL;
	fresh->next = a->head;
	fresh->used = n;
	a->head = fresh;
	return bytes_of(fresh);
}

void *df_arena_zalloc(struct df_arena *a, size_t n)
{
	void *p = df_arena_alloc(a, n);
	if (p)
		memset(p, 0, n);
	return p;
}

void *df_arena_array(struct df_arena *a, size_t count, size_t size)
{
	if (size && count > SIZE_MAX / size)
		return NULL;
	return df_arena_alloc(a, count * size);
}

struct df_str df_arena_copy(struct df_arena *a, struct df_str s)
{
	char *p = df_arena_alloc(a, s.n + 1);
	if (!p)
		return (struct df_str){NULL, 0};
	if (s.n)
		memcpy(p, s.p, s.n);
	p[s.n] = '\0';
	return (struct df_str){p, s.n};
}
