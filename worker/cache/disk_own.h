// SPDX-License-Identifier: Apache-2.0
/* disk_own: what disk.c (queue, reading, threads) and disk_write.c (transactions) share. */
#ifndef DF_WORKER_CACHE_DISK_OWN_H
#define DF_WORKER_CACHE_DISK_OWN_H

#include <pthread.h>

#include "worker/cache/disk.h"
#include "worker/cache/disk_open.h"

#define DF_DISK_KEY_BYTES 16

struct sqlite3_stmt;

enum df_item_kind { DF_ITEM_PUT, DF_ITEM_TOUCH, DF_ITEM_DROP };

struct df_item {
	struct df_item *next;
	enum df_item_kind kind;
	int64_t used;
	unsigned char key[DF_DISK_KEY_BYTES];
	size_t n;
	char p[]; /* envelope and bytes */
};

enum df_statement {
	DF_SQL_FIND,
	DF_SQL_INSERT,
	DF_SQL_UPDATE,
	DF_SQL_TOUCH,
	DF_SQL_DROP,
	DF_SQL_ADD_TOTAL,
	DF_SQL_SET_CAP,
	DF_SQL_OLDEST,
	DF_SQL_REMOVE,
	DF_SQL_PAGES,
	DF_SQL_FREE_PAGES,
	DF_N_STATEMENT
};

struct df_disk {
	struct df_disk_config config;
	struct df_db db;
	pthread_t writer, keeper;
	bool has_writer, has_keeper;
	/* --- the queue --- */
	pthread_mutex_t lock;
	pthread_cond_t wake, done; /* the writer's, and of those who flush */
	struct df_item *head, **tail;
	size_t queued_bytes;
	uint64_t n_put, n_done; /* items so far */
	bool stop, hurry;
	/* --- reading --- */
	pthread_mutex_t read_lock;
	struct sqlite3_stmt *select;
	int n_look; /* rows of look-ups that are under way */
	uint64_t
		snapshot_end; /* when it is closed all the same, so that rows that never cease to overlap see what is new */
	/* --- the writer's --- */
	struct sqlite3_stmt *stmt[DF_N_STATEMENT];
	uint64_t told[DF_N_TOTAL]; /* of the counts, what the database has */
	uint64_t told_at;
	int64_t d_entries, d_bytes; /* of this transaction */
	uint64_t removed;
	/* --- the keeper's --- */
	pthread_mutex_t keep_lock;
	pthread_cond_t keep;
	int wal_pages;
	bool keep_stop;
	/* --- for all --- */
	_Atomic bool off;             /* damaged */
	_Atomic uint64_t quiet_until; /* nothing is written before */
	_Atomic uint64_t close_by;    /* other processes are not waited for beyond that; 0: it is not being closed */
	_Atomic bool warned;
	_Atomic uint64_t bytes, entries, unwritten;
};

/* --- for both --- */

/* The disk refused `rc` of `db`: damaged for good, or left alone for a while. Busy is nobody's fault. */
void df_disk_refused(struct df_disk *d, struct sqlite3 *db, int rc, const char *what);

/* --- disk_write.c: the writer's connection, on its thread --- */

enum df_err df_disk_prepare(struct df_disk *d, struct df_fail *fail) DF_MUST_CHECK;
void df_disk_unprepare(struct df_disk *d);
/* One transaction of the items from `first` on; counts too when it is time for them, or `all`. An SQLite code. */
int df_disk_write(struct df_disk *d, const struct df_item *first, bool all);
/* Removes a few of the oldest when the cap is passed; true when there is more to remove. */
bool df_disk_keep_cap(struct df_disk *d, size_t n_written);
bool df_disk_counts_differ(const struct df_disk *d);
/* Entries and bytes, for df_disk_stats. */
void df_disk_read_entries(struct df_disk *d);

#endif
