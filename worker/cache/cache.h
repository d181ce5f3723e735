// SPDX-License-Identifier: Apache-2.0
/*
 * cache: answers that were paid for, by content: a key is the XXH3-128 of everything that decides an answer (kind, provider, base URL, model, all
 * parameters, schema, turns or one input); a value is bytes. Two layers: an LRU in memory (bytes capped) and SQLite on disk (WAL, many processes,
 * crash-safe, size-capped: the oldest used go first). A disk that fails makes it a cache in memory and one warning: never an error of a document.
 * docs/CACHE.md tells users about it.
 *
 * A value comes back as it was put, or not at all: it is stored under key and `check` (a second hash of the same bytes) with a checksum over all of it, so
 * that what is damaged, cut short, or another key's is a miss. The hashes are not cryptographic: they keep accidents apart, not forgers.
 *
 * What is lost when: a put is handed to the operating system within DF_CACHE_FLUSH_MS by a thread of the cache, unless the disk or other
 * processes hold that thread up (df_cache_stats tells what waits). kill -9 loses what was not handed over; a power cut what came since the last
 * checkpoint, about DF_CACHE_WAL_PAGES pages when the disk keeps up; both leave a whole database. No function here waits for a sync but close.
 *
 * Confinement: all files are opened by df_cache_open, which wants to make, rename and remove files in its folder (made beforehand with
 * df_cache_folder, as Landlock cannot allow what is not there). After it: pread, pwrite, ftruncate, fcntl locks, fsync, mmap of its -shm file; nothing is
 * opened for writing, renamed or removed. RLIMIT_FSIZE must let files grow.
 *
 * Threads: all functions may be called from any thread. Not across fork.
 */
#ifndef DF_WORKER_CACHE_CACHE_H
#define DF_WORKER_CACHE_CACHE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "worker/provider/ask.h"

struct df_cache;

#define DF_CACHE_PATH_BYTES 4096

struct df_cache_config {
	const char *path;      /* folder; NULL: ${XDG_CACHE_HOME:-~/.cache}/docflume/answers; "": memory only */
	uint64_t memory_bytes; /* 0: nothing is kept in memory */
	uint64_t disk_bytes;   /* of the database, beside which lies its log (at most about 64 MB); 0: no cap */
	uint64_t touch_ms;     /* a hit on disk makes an entry young again when its last use is longer ago than this */
	/* One line for people, when the disk is not used or no longer written; at most one a kind. From any thread; NULL: nobody is told. */
	void (*warn)(void *self, const char *message);
	void *self;
};
extern const struct df_cache_config df_cache_defaults; /* 64 MB, 10 GB, one minute */

struct df_cache_key {
	uint64_t low, high; /* XXH3-128 */
	uint64_t check;     /* another hash of the same */
};

/* Always a cache: what is wrong with the disk is told by config->warn. DF_ERR_NOMEM; DF_ERR_IO when a thread cannot be started. */
enum df_err df_cache_open(const struct df_cache_config *config, struct df_cache **ret_cache,
			  struct df_fail *fail) DF_MUST_CHECK;
/* Writes what waits. Accepts NULL. */
void df_cache_close(struct df_cache **cache);

/* The folder that df_cache_open(path) will use, made (0700) when it is not there. */
enum df_err df_cache_folder(const char *path, char ret_folder[DF_CACHE_PATH_BYTES], struct df_fail *fail) DF_MUST_CHECK;

/* One input of an embedding (input i of the ask), or a whole chat ask. */
struct df_cache_key df_cache_key_embed(const struct df_ask *ask, struct df_str provider, struct df_str base_url,
				       size_t i);
struct df_cache_key df_cache_key_chat(const struct df_ask *ask, struct df_str provider, struct df_str base_url);

/* Value from `arena`. DF_ERR_NOT_FOUND; DF_ERR_NOMEM when the arena is full. */
enum df_err df_cache_get(struct df_cache *c, struct df_cache_key key, struct df_arena *arena,
			 struct df_str *ret_value) DF_MUST_CHECK;
/* Between these two, look-ups on disk may not see what other processes put meanwhile; a row of them costs less so. Short: nothing of the log can be
 * taken back before the end. From several threads; they nest. */
void df_cache_look_begin(struct df_cache *c);
void df_cache_look_end(struct df_cache *c);
/* Never waits for a disk. Values above DF_CACHE_VALUE_BYTES are not kept. */
void df_cache_put(struct df_cache *c, struct df_cache_key key, struct df_str value);
/* Wait until all that was put before is with the operating system, or the disk is given up; that long at most. */
void df_cache_flush_for(struct df_cache *c, uint64_t most_ms);
void df_cache_flush(struct df_cache *c); /* the same, as long as it takes */

/*
 * An answer as bytes, and back. Of an embedding (it has vectors) one row: the vector and the model that made it, no usage: a hit costs nothing; of a chat
 * text, finish, usage and model. Pack: DF_ERR_RANGE for no such row, a vector that is not finite, or an answer that is a failure. Unpack: DF_ERR_CORRUPT for
 * anything that was not packed by this version: a miss; the answer's class is DF_CALL_OK.
 */
enum df_err df_cache_pack(const struct df_answer *answer, size_t row, struct df_buf *out) DF_MUST_CHECK;
enum df_err df_cache_unpack(struct df_str value, struct df_arena *arena, struct df_answer *ret) DF_MUST_CHECK;

struct df_cache_stats {
	uint64_t hits_memory, hits_disk, misses, evictions, puts; /* of this process; evictions from memory */
	uint64_t memory_bytes, memory_entries;
	uint64_t disk_bytes, disk_entries, disk_evictions; /* as of the last write of this process */
	uint64_t damaged;                                  /* values that failed their checksum */
	uint64_t unwritten;                                /* puts that never reached the disk */
	bool disk;                                         /* it is in use */
};
struct df_cache_stats df_cache_stats(struct df_cache *c);

/* What a cache on disk says of itself, over all runs. */
struct df_cache_totals {
	char folder[DF_CACHE_PATH_BYTES];
	uint64_t entries, value_bytes; /* of values alone */
	uint64_t disk_bytes;           /* used in the database's file */
	uint64_t file_bytes;           /* of all files */
	uint64_t cap_bytes;            /* of who opened it last; 0: none */
	uint64_t hits_memory, hits_disk, misses, puts, evictions_memory, evictions_disk, damaged;
	int64_t oldest_ms, newest_ms; /* last uses, since the Unix epoch; 0 when empty */
};
/* DF_ERR_NOT_FOUND: there is none. DF_ERR_CORRUPT, DF_ERR_VERSION (a newer docflume's), DF_ERR_UNSUPPORTED (a network file system), DF_ERR_BUSY, DF_ERR_IO. */
enum df_err df_cache_totals(const char *path, struct df_cache_totals *ret, struct df_fail *fail) DF_MUST_CHECK;
/* All entries and totals, and what was moved aside; other processes may go on using it. Errors as above, but a damaged one is cleared too. */
enum df_err df_cache_clear(const char *path, struct df_fail *fail) DF_MUST_CHECK;

#endif
