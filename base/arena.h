// SPDX-License-Identifier: Apache-2.0
/*
 * arena: memory of one task, given back all at once.
 *
 * Blocks grow by doubling up to 1 MiB (larger for single large requests) and the total never passes
 * the maximum. Reset keeps the first block and blocks up to `keep` bytes in all, so that one huge
 * document does not stay in memory for ever. Memory is not zeroed unless asked.
 */
#ifndef DF_BASE_ARENA_H
#define DF_BASE_ARENA_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct df_arena_block;

struct df_arena {
	struct df_arena_block *head; /* the block in use; older ones behind it */
	struct df_arena_block *free; /* kept by reset, for the next task */
	size_t total;                /* bytes in all blocks, spare ones too */
	size_t max;
	size_t keep;
	size_t first; /* bytes of the first block; 0: 64 KB */
};

void df_arena_init(struct df_arena *a, size_t max_bytes, size_t keep_bytes);
/* For arenas of which there are thousands: the first block is that small, the next twice as large, and so on. */
void df_arena_init_small(struct df_arena *a, size_t max_bytes, size_t first_bytes);
void df_arena_release(struct df_arena *a);
void df_arena_reset(struct df_arena *a);

/* 64-byte aligned when n >= 64, else 16; NULL when memory or the maximum is out. n = 0 gives a valid pointer. */
void *df_arena_alloc(struct df_arena *a, size_t n);
void *df_arena_zalloc(struct df_arena *a, size_t n);
/* After a NULL: was it the maximum, and not the machine's memory? wanted: the largest single piece asked for. */
static inline bool df_arena_at_max(const struct df_arena *a, size_t wanted)
{
	return a->total + wanted + (2U << 20) >= a->max; /* blocks are 1 MB, and their heads */
}
/* count * size with overflow check. */
void *df_arena_array(struct df_arena *a, size_t count, size_t size);
/* A copy with a NUL behind it (not counted in n); p is NULL on failure. */
struct df_str df_arena_copy(struct df_arena *a, struct df_str s);

#endif
