// SPDX-License-Identifier: Apache-2.0
/*
 * cache: answers that were paid for, by content: a key is the XXH3-128 of everything that decides an answer (kind, provider, model, all
 * parameters, text); a value is bytes. Two layers: an LRU in memory (bytes capped) and SQLite on disk (WAL, many processes, crash-safe, size-capped:
 * the oldest used go first). A disk that fails makes it a cache in memory and one warning: never an error of a document.
 *
 * Threads: all functions may be called from any thread.
 */
#ifndef DF_WORKER_CACHE_CACHE_H
#define DF_WORKER_CACHE_CACHE_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "worker/provider/ask.h"

struct df_cache;

struct df_cache_config {
	const char *path;      /* folder; NULL: ${XDG_CACHE_HOME:-~/.cache}/docflume/answers; "": memory only */
	uint64_t memory_bytes; /* 64 MB */
	uint64_t disk_bytes;   /* 10 GB; 0: no cap */
};

struct df_cache_key {
	uint64_t low, high;
};

enum df_err df_cache_open(const struct df_cache_config *config, struct df_cache **ret_cache,
			  struct df_fail *fail) DF_MUST_CHECK;
void df_cache_close(struct df_cache **cache);

/* One input of an embedding (input i of the ask), or a whole chat ask. */
struct df_cache_key df_cache_key_embed(const struct df_ask *ask, struct df_str provider, struct df_str base_url,
				       size_t i);
struct df_cache_key df_cache_key_chat(const struct df_ask *ask, struct df_str provider, struct df_str base_url);

/* Value from `arena`. DF_ERR_NOT_FOUND. */
enum df_err df_cache_get(struct df_cache *c, struct df_cache_key key, struct df_arena *arena,
			 struct df_str *ret_value) DF_MUST_CHECK;
void df_cache_put(struct df_cache *c, struct df_cache_key key, struct df_str value);

/* An answer as bytes, and back (versioned, checksummed: anything else is DF_ERR_CORRUPT and a miss). */
enum df_err df_cache_pack(const struct df_answer *answer, size_t row,
			  struct df_buf *out) DF_MUST_CHECK; /* row: of an embedding */
enum df_err df_cache_unpack(struct df_str value, struct df_arena *arena, struct df_answer *ret) DF_MUST_CHECK;

struct df_cache_stats {
	uint64_t hits_memory, hits_disk, misses, evictions, puts, memory_bytes, disk_bytes, disk_entries;
};
struct df_cache_stats df_cache_stats(struct df_cache *c);
enum df_err df_cache_clear(const char *path, struct df_fail *fail) DF_MUST_CHECK;

#endif
