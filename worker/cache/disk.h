// SPDX-License-Identifier: Apache-2.0
/*
 * disk: values in a SQLite database that many processes share; two threads of its own do all that may wait.
 *
 * A put is queued; the writer thread puts what came within DF_CACHE_FLUSH_MS into one transaction (synchronous NORMAL in WAL mode: written, not
 * synced), and keeps the cap by removing the oldest used in small transactions. The keeper thread makes checkpoints, which sync. A get reads under a mutex of
 * its own and never waits for either.
 *
 * When the disk refuses (full, read-only, an error), puts are left out for DF_CACHE_AGAIN_MS; when the database is damaged it is not used any more, and whoever
 * opens it next moves it aside. Both are told once.
 */
#ifndef DF_WORKER_CACHE_DISK_H
#define DF_WORKER_CACHE_DISK_H

#include <stdatomic.h>

#include "worker/cache/cache.h"

struct df_disk;

/* What is counted over all runs: the names in the table `total`. */
enum df_total {
	DF_TOTAL_ENTRIES,
	DF_TOTAL_BYTES,
	DF_TOTAL_CAP,
	DF_TOTAL_HITS_MEMORY, /* from here on: counted by processes, added now and then */
	DF_TOTAL_HITS_DISK,
	DF_TOTAL_MISSES,
	DF_TOTAL_PUTS,
	DF_TOTAL_EVICTIONS_MEMORY,
	DF_TOTAL_EVICTIONS_DISK,
	DF_TOTAL_DAMAGED,
	DF_N_TOTAL
};
extern const char *const df_total_name[DF_N_TOTAL];

struct df_disk_config {
	const char *folder;
	uint64_t max_bytes; /* 0: none */
	uint64_t touch_ms;
	_Atomic uint64_t *count; /* DF_N_TOTAL of them, of this process; the owner's, until close */
	void (*warn)(void *self, const char *message);
	void *self;
};

enum df_err df_disk_open(const struct df_disk_config *config, struct df_disk **ret_disk,
			 struct df_fail *fail) DF_MUST_CHECK;
void df_disk_close(struct df_disk **disk); /* accepts NULL inside */

/* more: 1 before a row of look-ups, -1 behind it. See df_cache_look_begin. */
void df_disk_look(struct df_disk *d, int more);
/* DF_ERR_NOT_FOUND whatever the reason, but DF_ERR_NOMEM. */
enum df_err df_disk_get(struct df_disk *d, struct df_cache_key key, struct df_arena *arena,
			struct df_str *ret_value) DF_MUST_CHECK;
void df_disk_put(struct df_disk *d, struct df_cache_key key, struct df_str value);
void df_disk_flush(struct df_disk *d, uint64_t most_ms);

struct df_disk_stats {
	uint64_t bytes, entries, unwritten;
	bool on;
};
struct df_disk_stats df_disk_stats(struct df_disk *d);

#endif
