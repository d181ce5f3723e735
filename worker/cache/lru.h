// SPDX-License-Identifier: Apache-2.0
/*
 * lru: values in memory, the least recently used leave first, within a cap of bytes. Every operation is O(1).
 *
 * The cap counts each entry's own memory too. Threads: all functions from any thread; the table is cut in shards by the key, each with its mutex and its share of
 * the cap; order of use is kept within a shard.
 */
#ifndef DF_WORKER_CACHE_LRU_H
#define DF_WORKER_CACHE_LRU_H

#include "worker/cache/cache.h"

struct df_lru;

/* n_shard: 1 for one order of use. NULL: out of memory. */
struct df_lru *df_lru_create(uint64_t max_bytes, unsigned n_shard);
void df_lru_destroy(struct df_lru **lru); /* accepts NULL inside */

/* A copy from the arena; the entry becomes the youngest. DF_ERR_NOT_FOUND (also when `check` differs), DF_ERR_NOMEM. */
enum df_err df_lru_get(struct df_lru *lru, struct df_cache_key key, struct df_arena *arena,
		       struct df_str *ret_value) DF_MUST_CHECK;
/* Replaces. What does not fit a shard, or memory, is not kept. */
void df_lru_put(struct df_lru *lru, struct df_cache_key key, struct df_str value);

struct df_lru_stats {
	uint64_t bytes, entries, evictions;
};
struct df_lru_stats df_lru_stats(struct df_lru *lru);

#endif
