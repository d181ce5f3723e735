// SPDX-License-Identifier: Apache-2.0
/*
 * disk_write: transactions on the writer's connection: batches, totals, the cap.
 *
 * DESIGN. The totals (entries, bytes) change in the transaction that changes what they count, so they are right whatever is killed when. The
 * cap is about pages in use, which the database knows at once; pages that are freed are used again, so the file does not grow beyond it.
 */
#include <sqlite3.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/cache/disk_own.h"

#define HYSTERESIS 64 /* the cap is undercut by this part of it, so that not every put removes something */

const char *const df_total_name[DF_N_TOTAL] = {
	"entries",          "bytes",          "cap",     "hits_memory", "hits_disk", "misses", "puts",
	"evictions_memory", "evictions_disk", "damaged",
};

static const char *const sql[DF_N_STATEMENT] = {
	[DF_SQL_FIND] = "SELECT id, length(value) FROM answer WHERE key=?1",
	[DF_SQL_INSERT] = "INSERT INTO answer(key, used, value) VALUES(?1, ?2, ?3)",
	[DF_SQL_UPDATE] = "UPDATE answer SET used=?2, value=?3 WHERE id=?1",
	[DF_SQL_TOUCH] = "UPDATE answer SET used=?2 WHERE key=?1 AND used<?2",
	[DF_SQL_DROP] = "DELETE FROM answer WHERE id=?1",
	[DF_SQL_ADD_TOTAL] = "INSERT INTO total(name, n) VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET n=n+excluded.n",
	[DF_SQL_SET_CAP] = "INSERT OR REPLACE INTO total(name, n) VALUES('cap', ?1)",
	[DF_SQL_OLDEST] = "SELECT id, length(value) FROM answer ORDER BY used LIMIT ?1",
	[DF_SQL_REMOVE] = "DELETE FROM answer WHERE id=?1",
	[DF_SQL_PAGES] = "PRAGMA page_count",
	[DF_SQL_FREE_PAGES] = "PRAGMA freelist_count",
};

static uint64_t now(void)
{
	return df_clock_mono(&df_clock_real);
}

/* ------------------------------------------------------------------ writing: one statement */

/* SQLITE_OK for a statement that ran to its end. */
static int run(sqlite3_stmt *s)
{
	int rc = sqlite3_step(s);
	(void)sqlite3_reset(s);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int number(sqlite3_stmt *s, int64_t *ret)
{
	int rc = sqlite3_step(s);
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, 0);
	(void)sqlite3_reset(s);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* *ret_id 0: there is none. */
static int find(struct df_disk *d, const struct df_item *i, int64_t *ret_id, int64_t *ret_bytes)
{
	sqlite3_stmt *s = d->stmt[DF_SQL_FIND];
	*ret_id = *ret_bytes = 0;
	(void)sqlite3_bind_blob(s, 1, i->key, DF_DISK_KEY_BYTES, SQLITE_STATIC);
	int rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		*ret_id = sqlite3_column_int64(s, 0);
		*ret_bytes = sqlite3_column_int64(s, 1);
	}
	(void)sqlite3_reset(s);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int put(struct df_disk *d, const struct df_item *i)
{
	int64_t id, bytes;
	int rc = find(d, i, &id, &bytes);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_stmt *s = d->stmt[id ? DF_SQL_UPDATE : DF_SQL_INSERT];
	(void)(id ? sqlite3_bind_int64(s, 1, id) : sqlite3_bind_blob(s, 1, i->key, DF_DISK_KEY_BYTES, SQLITE_STATIC));
	(void)sqlite3_bind_int64(s, 2, i->used);
	(void)sqlite3_bind_blob64(s, 3, i->p, i->n, SQLITE_STATIC);
	rc = run(s);
	(void)sqlite3_clear_bindings(s);
	d->d_entries += rc == SQLITE_OK && !id;
	d->d_bytes += rc == SQLITE_OK ? (int64_t)i->n - bytes : 0;
	return rc;
}

static int touch(struct df_disk *d, const struct df_item *i)
{
	(void)sqlite3_bind_blob(d->stmt[DF_SQL_TOUCH], 1, i->key, DF_DISK_KEY_BYTES, SQLITE_STATIC);
	(void)sqlite3_bind_int64(d->stmt[DF_SQL_TOUCH], 2, i->used);
	return run(d->stmt[DF_SQL_TOUCH]);
}

static int remove_row(struct df_disk *d, int64_t id, int64_t bytes)
{
	(void)sqlite3_bind_int64(d->stmt[DF_SQL_REMOVE], 1, id);
	int rc = run(d->stmt[DF_SQL_REMOVE]);
	d->d_entries -= rc == SQLITE_OK;
	d->d_bytes -= rc == SQLITE_OK ? bytes : 0;
	return rc;
}

static int drop(struct df_disk *d, const struct df_item *i)
{
	int64_t id, bytes;
	int rc = find(d, i, &id, &bytes);
	return rc == SQLITE_OK && id ? remove_row(d, id, bytes) : rc;
}

/* ------------------------------------------------------------------ writing: transactions */

static int begin(struct df_disk *d)
{
	d->d_entries = d->d_bytes = 0;
	return sqlite3_exec(d->db.writer, "BEGIN IMMEDIATE", NULL, NULL, NULL);
}

static int add_total(struct df_disk *d, enum df_total t, int64_t n)
{
	if (n == 0)
		return SQLITE_OK;
	(void)sqlite3_bind_text(d->stmt[DF_SQL_ADD_TOTAL], 1, df_total_name[t], -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(d->stmt[DF_SQL_ADD_TOTAL], 2, n);
	return run(d->stmt[DF_SQL_ADD_TOTAL]);
}

/* What the database does not have yet of the counts `seen`. */
static int add_counts(struct df_disk *d, const uint64_t *seen)
{
	int rc = SQLITE_OK;
	for (int t = DF_TOTAL_HITS_MEMORY; t < DF_N_TOTAL && rc == SQLITE_OK; t++)
		rc = add_total(d, (enum df_total)t, (int64_t)(seen[t] - d->told[t]));
	return rc;
}

bool df_disk_counts_differ(const struct df_disk *d)
{
	for (int t = DF_TOTAL_HITS_MEMORY; t < DF_N_TOTAL; t++)
		if (atomic_load(&d->config.count[t]) != d->told[t])
			return true;
	return false;
}

/* Ends the transaction. Counts are written with it when they have not been for a while, or `all` at the end. */
static int commit(struct df_disk *d, int rc, bool all)
{
	uint64_t seen[DF_N_TOTAL];
	bool counts = all || now() - d->told_at >= DF_CACHE_TOTALS_MS * DF_MS;
	for (int t = 0; t < DF_N_TOTAL; t++)
		seen[t] = atomic_load(&d->config.count[t]);
	if (rc == SQLITE_OK)
		rc = add_total(d, DF_TOTAL_ENTRIES, d->d_entries);
	if (rc == SQLITE_OK)
		rc = add_total(d, DF_TOTAL_BYTES, d->d_bytes);
	if (rc == SQLITE_OK && counts)
		rc = add_counts(d, seen);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(d->db.writer, "COMMIT", NULL, NULL, NULL);
	if (rc != SQLITE_OK) {
		df_disk_refused(d, d->db.writer, rc, "write answers");
		(void)sqlite3_exec(d->db.writer, "ROLLBACK", NULL, NULL, NULL);
	} else if (counts) {
		memcpy(d->told, seen, sizeof(seen));
		d->told_at = now();
	}
	return rc;
}

int df_disk_write(struct df_disk *d, const struct df_item *i, bool all)
{
	int rc = begin(d);
	if (rc != SQLITE_OK) {
		df_disk_refused(d, d->db.writer, rc, "write answers");
		return rc;
	}
	for (; i && rc == SQLITE_OK; i = i->next)
		rc = i->kind == DF_ITEM_PUT ? put(d, i) : i->kind == DF_ITEM_TOUCH ? touch(d, i) : drop(d, i);
	return commit(d, rc, all);
}

/* ------------------------------------------------------------------ the cap */

static uint64_t used_bytes(struct df_disk *d)
{
	int64_t pages = 0, unused = 0;
	(void)number(d->stmt[DF_SQL_PAGES], &pages);
	(void)number(d->stmt[DF_SQL_FREE_PAGES], &unused);
	return pages > unused ? (uint64_t)(pages - unused) * DF_DB_PAGE : 0;
}

struct old {
	int64_t id, bytes;
};

static int list_oldest(struct df_disk *d, struct old *old, size_t max, size_t *ret_n)
{
	int rc;
	size_t n = 0;
	(void)sqlite3_bind_int64(d->stmt[DF_SQL_OLDEST], 1, (int64_t)max);
	while ((rc = sqlite3_step(d->stmt[DF_SQL_OLDEST])) == SQLITE_ROW && n < max)
		old[n++] = (struct old){sqlite3_column_int64(d->stmt[DF_SQL_OLDEST], 0),
					sqlite3_column_int64(d->stmt[DF_SQL_OLDEST], 1)};
	(void)sqlite3_reset(d->stmt[DF_SQL_OLDEST]);
	*ret_n = n;
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* One small transaction: at most `max` of the oldest go, until the cap is undercut. */
static int evict(struct df_disk *d, size_t max)
{
	struct old old[DF_CACHE_EVICT_STEP + 2 * DF_CACHE_BATCH];
	uint64_t goal = d->config.max_bytes - d->config.max_bytes / HYSTERESIS, removed = 0;
	size_t n = 0;
	int rc = begin(d);
	if (rc != SQLITE_OK) {
		df_disk_refused(d, d->db.writer, rc, "remove old answers");
		return rc;
	}
	rc = list_oldest(d, old, max < sizeof(old) / sizeof(old[0]) ? max : sizeof(old) / sizeof(old[0]), &n);
	for (size_t i = 0; i < n && rc == SQLITE_OK && used_bytes(d) > goal; i++, removed++)
		rc = remove_row(d, old[i].id, old[i].bytes);
	rc = commit(d, rc, false);
	if (rc == SQLITE_OK)
		atomic_fetch_add(&d->config.count[DF_TOTAL_EVICTIONS_DISK], removed);
	d->removed = rc == SQLITE_OK ? removed : 0;
	return rc;
}

/* True when there is more to remove. */
bool df_disk_keep_cap(struct df_disk *d, size_t n_written)
{
	uint64_t bytes = used_bytes(d), max = d->config.max_bytes;
	if (max && bytes > max && evict(d, DF_CACHE_EVICT_STEP + 2 * n_written) == SQLITE_OK)
		bytes = used_bytes(d);
	else
		d->removed = 0;
	atomic_store(&d->bytes, bytes);
	return d->removed > 0 && bytes > max;
}

void df_disk_read_entries(struct df_disk *d)
{
	int64_t n = 0;
	if (df_db_number(d->db.writer, "SELECT n FROM total WHERE name='entries'", &n, NULL) == DF_OK && n > 0)
		atomic_store(&d->entries, (uint64_t)n);
	atomic_store(&d->bytes, used_bytes(d));
}

/* ------------------------------------------------------------------ statements */

enum df_err df_disk_prepare(struct df_disk *d, struct df_fail *fail)
{
	int rc = SQLITE_OK;
	for (int i = 0; i < DF_N_STATEMENT && rc == SQLITE_OK; i++)
		rc = sqlite3_prepare_v3(d->db.writer, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &d->stmt[i], NULL);
	if (rc != SQLITE_OK)
		return df_db_fail(d->db.writer, rc, fail, "use the cache of answers");
	rc = sqlite3_prepare_v3(d->db.reader, "SELECT used, value FROM answer WHERE key=?1", -1,
				SQLITE_PREPARE_PERSISTENT, &d->select, NULL);
	if (rc != SQLITE_OK)
		return df_db_fail(d->db.reader, rc, fail, "use the cache of answers");
	(void)sqlite3_bind_int64(d->stmt[DF_SQL_SET_CAP], 1, (int64_t)d->config.max_bytes);
	rc = run(d->stmt[DF_SQL_SET_CAP]);
	return rc == SQLITE_OK ? DF_OK : df_db_fail(d->db.writer, rc, fail, "write to the cache of answers");
}

void df_disk_unprepare(struct df_disk *d)
{
	for (int i = 0; i < DF_N_STATEMENT; i++)
		(void)sqlite3_finalize(d->stmt[i]);
	(void)sqlite3_finalize(d->select);
}
