// SPDX-License-Identifier: Apache-2.0
/*
 * cache: memory before disk.
 *
 * DESIGN. A hit on disk is put in memory; a put goes to both. One mutex for memory, not shards: measured (tests/bench/bench_cache.c, docs/CACHE.md), since
 * one thread, the network's, does nearly all of it.
 */
#include "worker/cache/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "worker/cache/disk.h"
#include "worker/cache/lru.h"

#define SHARDS 1

const struct df_cache_config df_cache_defaults = {
	.memory_bytes = UINT64_C(64) << 20,
	.disk_bytes = UINT64_C(10) << 30,
	.touch_ms = 60000,
};

struct df_cache {
	struct df_lru *memory;
	struct df_disk *disk; /* NULL: memory only */
	_Atomic uint64_t count[DF_N_TOTAL];
	uint64_t evictions; /* of memory, that are in `count` */
	_Atomic bool counting;
};

static enum df_err open_disk(const struct df_cache_config *config, struct df_cache *c, char folder[DF_CACHE_PATH_BYTES],
			     struct df_fail *fail)
{
	struct df_disk_config disk = {.folder = folder,
				      .max_bytes = config->disk_bytes,
				      .touch_ms = config->touch_ms,
				      .count = c->count,
				      .warn = config->warn,
				      .self = config->self};
	enum df_err err = df_cache_folder(config->path, folder, fail);
	if (err != DF_OK) {
		folder[0] = '\0'; /* what is wrong with it names it */
		return err;
	}
	return df_disk_open(&disk, &c->disk, fail);
}

enum df_err df_cache_open(const struct df_cache_config *config, struct df_cache **ret_cache, struct df_fail *fail)
{
	struct df_fail why = {.msg = ""}, line = {.msg = ""};
	char folder[DF_CACHE_PATH_BYTES] = "", quoted[DF_CACHE_PATH_BYTES + 2];
	struct df_cache *c = calloc(1, sizeof(*c));
	if (c)
		c->memory = df_lru_create(config->memory_bytes, SHARDS);
	if (!c || !c->memory) {
		free(c);
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the cache of answers");
	}
	bool wanted = !config->path || *config->path;
	if (wanted && open_disk(config, c, folder, &why) != DF_OK && config->warn) {
		(void)snprintf(quoted, sizeof(quoted), "'%s'", folder);
		bool named = !folder[0] || strstr(why.msg, quoted);
		(void)df_fail(&line, why.code, "answers are kept in memory alone: %s%s%s", why.msg, named ? "" : " in ",
			      named ? "" : quoted);
		config->warn(config->self, line.msg);
	}
	*ret_cache = c;
	return DF_OK;
}

/* What memory has evicted goes to the counts, for the totals on disk. */
static void count_evictions(struct df_cache *c)
{
	if (atomic_exchange(&c->counting, true))
		return; /* somebody else does */
	uint64_t n = df_lru_stats(c->memory).evictions;
	atomic_fetch_add(&c->count[DF_TOTAL_EVICTIONS_MEMORY], n - c->evictions);
	c->evictions = n;
	atomic_store(&c->counting, false);
}

void df_cache_close(struct df_cache **cache)
{
	struct df_cache *c = *cache;
	if (!c)
		return;
	count_evictions(c);
	df_disk_close(&c->disk);
	df_lru_destroy(&c->memory);
	free(c);
	*cache = NULL;
}

static void count(struct df_cache *c, enum df_total t)
{
	atomic_fetch_add_explicit(&c->count[t], 1, memory_order_relaxed);
}

enum df_err df_cache_get(struct df_cache *c, struct df_cache_key key, struct df_arena *arena, struct df_str *ret_value)
{
	enum df_err err = df_lru_get(c->memory, key, arena, ret_value);
	if (err == DF_OK) {
		count(c, DF_TOTAL_HITS_MEMORY);
		return DF_OK;
	}
	if (err == DF_ERR_NOT_FOUND && c->disk)
		err = df_disk_get(c->disk, key, arena, ret_value);
	if (err == DF_OK)
		df_lru_put(c->memory, key, *ret_value);
	count(c, err == DF_OK ? DF_TOTAL_HITS_DISK : DF_TOTAL_MISSES);
	return err;
}

void df_cache_look_begin(struct df_cache *c)
{
	if (c->disk)
		df_disk_look(c->disk, 1);
}

void df_cache_look_end(struct df_cache *c)
{
	if (c->disk)
		df_disk_look(c->disk, -1);
}

void df_cache_put(struct df_cache *c, struct df_cache_key key, struct df_str value)
{
	if (value.n > DF_CACHE_VALUE_BYTES)
		return;
	count(c, DF_TOTAL_PUTS);
	df_lru_put(c->memory, key, value);
	if (c->disk)
		df_disk_put(c->disk, key, value);
}

void df_cache_flush_for(struct df_cache *c, uint64_t most_ms)
{
	count_evictions(c);
	if (c->disk)
		df_disk_flush(c->disk, most_ms);
}

void df_cache_flush(struct df_cache *c)
{
	df_cache_flush_for(c, UINT32_MAX);
}

struct df_cache_stats df_cache_stats(struct df_cache *c)
{
	struct df_lru_stats m = df_lru_stats(c->memory);
	struct df_disk_stats d = c->disk ? df_disk_stats(c->disk) : (struct df_disk_stats){0};
	return (struct df_cache_stats){
		.hits_memory = atomic_load(&c->count[DF_TOTAL_HITS_MEMORY]),
		.hits_disk = atomic_load(&c->count[DF_TOTAL_HITS_DISK]),
		.misses = atomic_load(&c->count[DF_TOTAL_MISSES]),
		.evictions = m.evictions,
		.puts = atomic_load(&c->count[DF_TOTAL_PUTS]),
		.memory_bytes = m.bytes,
		.memory_entries = m.entries,
		.disk_bytes = d.bytes,
		.disk_entries = d.entries,
		.disk_evictions = atomic_load(&c->count[DF_TOTAL_EVICTIONS_DISK]),
		.damaged = atomic_load(&c->count[DF_TOTAL_DAMAGED]),
		.unwritten = d.unwritten,
		.disk = d.on,
	};
}
