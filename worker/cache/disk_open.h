// SPDX-License-Identifier: Apache-2.0
/*
 * disk_open: the files of a cache on disk, opened so that nothing needs to be opened later.
 *
 *   FOLDER/lock                 flock while somebody opens, mends or clears; the word "damaged" in it: a process found the database so
 *   FOLDER/answers.db (-wal, -shm)   the database
 *   FOLDER/answers.db.damaged   one that was moved aside; the last one is kept
 *
 *   answer(id, key, used, value): key is low and high of the cache's key, used ms since the Unix epoch, value an envelope (disk.c).
 *   total(name, n): df_total_name. application_id "dfca", user_version DF_DB_VERSION.
 *
 * Measured (docs/CACHE.md): a table with row ids and an index of keys takes half the time and less room than one WITHOUT ROWID, whose rows lie in key order.
 */
#ifndef DF_WORKER_CACHE_DISK_OPEN_H
#define DF_WORKER_CACHE_DISK_OPEN_H

#include "worker/cache/cache.h"

#define DF_DB_VERSION 1
#define DF_DB_PAGE 8192

struct sqlite3;

struct df_db {
	int lock_fd;
	struct sqlite3 *reader, *writer, *keeper;
	bool moved_aside; /* the one that was there was damaged */
};

enum df_db_how {
	DF_DB_USE,  /* made when it is not there, mended */
	DF_DB_LOOK, /* neither made nor mended */
};

/* DF_ERR_VERSION, DF_ERR_UNSUPPORTED, DF_ERR_BUSY, DF_ERR_CORRUPT (look), DF_ERR_NOT_FOUND (look), DF_ERR_NOSPACE, DF_ERR_IO, DF_ERR_NOMEM. */
enum df_err df_db_open(const char *folder, enum df_db_how how, struct df_db *ret_db,
		       struct df_fail *fail) DF_MUST_CHECK;
void df_db_close(struct df_db *db);
/* A busy handler of SQLite's: waits for other processes, as a connection of df_db_open does. budget_ms: a number in place of a pointer. */
int df_db_wait(void *budget_ms, int n_before);
/* The database is damaged: the next df_db_open that uses it moves it aside. Works in a confined process. */
void df_db_mark_damaged(const struct df_db *db);

/* The error of an SQLite call on `db`: "cannot WHAT: its words". */
enum df_err df_db_fail(struct sqlite3 *db, int rc, struct df_fail *fail, const char *what);
/* Statements without results. */
enum df_err df_db_exec(struct sqlite3 *db, const char *sql, struct df_fail *fail, const char *what) DF_MUST_CHECK;
/* The one number that a statement answers. */
enum df_err df_db_number(struct sqlite3 *db, const char *sql, int64_t *ret, struct df_fail *fail) DF_MUST_CHECK;

/* The folder by itself: resolved, not made. */
enum df_err df_cache_folder_name(const char *path, char ret_folder[DF_CACHE_PATH_BYTES],
				 struct df_fail *fail) DF_MUST_CHECK;
/* Hold the lock of a folder against others that open, mend or clear. */
enum df_err df_db_lock(int lock_fd, const char *folder, struct df_fail *fail) DF_MUST_CHECK;
void df_db_unlock(int lock_fd);

#endif
