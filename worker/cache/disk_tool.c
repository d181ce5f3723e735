// SPDX-License-Identifier: Apache-2.0
/* disk_tool: what `docflume cache` does to a cache on disk, while others may be using it. */
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/cache/disk.h"
#include "worker/cache/disk_open.h"

static uint64_t file_bytes(const char *folder)
{
	static const char *const name[] = {"answers.db", "answers.db-wal", "answers.db-shm", "answers.db.damaged"};
	char path[DF_CACHE_PATH_BYTES + 32];
	uint64_t sum = 0;
	for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
		struct stat st;
		(void)snprintf(path, sizeof(path), "%s/%s", folder, name[i]);
		sum += stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
	}
	return sum;
}

static enum df_err read_totals(sqlite3 *db, uint64_t n[DF_N_TOTAL], struct df_fail *fail)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db, "SELECT name, n FROM total", -1, &s, NULL);
	while (rc == SQLITE_OK && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		struct df_str name = df_str_from((const char *)sqlite3_column_text(s, 0));
		int64_t v = sqlite3_column_int64(s, 1);
		for (int t = 0; t < DF_N_TOTAL; t++)
			if (df_str_is(name, df_total_name[t]))
				n[t] = v > 0 ? (uint64_t)v : 0;
		rc = SQLITE_OK;
	}
	enum df_err err = rc == SQLITE_DONE ? DF_OK : df_db_fail(db, rc, fail, "read the cache of answers");
	(void)sqlite3_finalize(s);
	return err;
}

static enum df_err look(sqlite3 *db, struct df_cache_totals *t, struct df_fail *fail)
{
	uint64_t n[DF_N_TOTAL] = {0};
	int64_t pages = 0, unused = 0;
	DF_TRY(read_totals(db, n, fail));
	DF_TRY(df_db_number(db, "PRAGMA page_count", &pages, fail));
	DF_TRY(df_db_number(db, "PRAGMA freelist_count", &unused, fail));
	DF_TRY(df_db_number(db, "SELECT ifnull(min(used), 0) FROM answer", &t->oldest_ms, fail));
	DF_TRY(df_db_number(db, "SELECT ifnull(max(used), 0) FROM answer", &t->newest_ms, fail));
	t->disk_bytes = (uint64_t)(pages - unused) * DF_DB_PAGE;
	t->entries = n[DF_TOTAL_ENTRIES];
	t->value_bytes = n[DF_TOTAL_BYTES];
	t->cap_bytes = n[DF_TOTAL_CAP];
	t->hits_memory = n[DF_TOTAL_HITS_MEMORY];
	t->hits_disk = n[DF_TOTAL_HITS_DISK];
	t->misses = n[DF_TOTAL_MISSES];
	t->puts = n[DF_TOTAL_PUTS];
	t->evictions_memory = n[DF_TOTAL_EVICTIONS_MEMORY];
	t->evictions_disk = n[DF_TOTAL_EVICTIONS_DISK];
	t->damaged = n[DF_TOTAL_DAMAGED];
	return DF_OK;
}

enum df_err df_cache_totals(const char *path, struct df_cache_totals *ret, struct df_fail *fail)
{
	struct df_cache_totals t = {.folder = ""};
	struct df_db db;
	DF_TRY(df_cache_folder_name(path, t.folder, fail));
	DF_TRY(df_db_open(t.folder, DF_DB_LOOK, &db, fail));
	enum df_err err = look(db.writer, &t, fail);
	df_db_close(&db);
	t.file_bytes = file_bytes(t.folder);
	if (err == DF_OK)
		*ret = t;
	return err;
}

/* The file shrinks when nobody reads it just now; else its pages are used again. */
static enum df_err empty(sqlite3 *db, struct df_fail *fail)
{
	enum df_err err =
		df_db_exec(db, "BEGIN IMMEDIATE; DELETE FROM answer; DELETE FROM total WHERE name<>'cap'; COMMIT", fail,
			   "clear the cache of answers");
	if (err != DF_OK)
		(void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	DF_TRY(err);
	(void)sqlite3_exec(db, "VACUUM", NULL, NULL, NULL);
	(void)sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	return DF_OK;
}

enum df_err df_cache_clear(const char *path, struct df_fail *fail)
{
	char folder[DF_CACHE_PATH_BYTES], aside[DF_CACHE_PATH_BYTES + 32];
	struct df_db db;
	struct stat st;
	DF_TRY(df_cache_folder_name(path, folder, fail));
	(void)snprintf(aside, sizeof(aside), "%s/lock", folder);
	if (stat(aside, &st) != 0)
		return df_fail(fail, DF_ERR_NOT_FOUND, "there is no cache of answers in '%s'", folder);
	DF_TRY(df_db_open(folder, DF_DB_USE, &db, fail)); /* moves a damaged one aside */
	enum df_err err = empty(db.writer, fail);
	df_db_close(&db);
	(void)snprintf(aside, sizeof(aside), "%s/answers.db.damaged", folder);
	if (err == DF_OK && unlink(aside) == 0)
		return DF_OK;
	return err;
}
