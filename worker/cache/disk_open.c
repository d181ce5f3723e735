// SPDX-License-Identifier: Apache-2.0
/*
 * disk_open: connections, their settings, the schema; a damaged database is moved aside.
 *
 * DESIGN. A worker gives up opening and removing files once its stages are open, so whatever SQLite would open later is opened here: each connection reads
 * once (which opens -wal and -shm), temporary things stay in memory (statement journals too, by a process-wide setting), and -wal is
 * never removed (PERSIST_WAL). The files are 0600 since the database is made so before SQLite sees it; its companions follow it.
 *
 * WAL keeps its index in shared memory, which machines do not share over a network: there SQLite would corrupt the file, so it is refused.
 */
#include "worker/cache/disk_open.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

#define NAME "answers.db"
#define PATH_BYTES (DF_CACHE_PATH_BYTES + 32)
#define APPLICATION 0x64666361 /* "dfca" */
#define DAMAGED "damaged\n"

/* ------------------------------------------------------------------ SQLite's answers */

enum df_err df_db_fail(struct sqlite3 *db, int rc, struct df_fail *fail, const char *what)
{
	enum df_err err = DF_ERR_IO;
	switch (rc & 0xff) {
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		err = DF_ERR_CORRUPT;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		err = DF_ERR_BUSY;
		break;
	case SQLITE_FULL:
		err = DF_ERR_NOSPACE;
		break;
	case SQLITE_NOMEM:
		err = DF_ERR_NOMEM;
		break;
	default:
		break;
	}
	int e = db ? sqlite3_system_errno(db) : 0;
	bool telling = e && err == DF_ERR_IO;
	return df_fail(fail, err, "cannot %s: %s%s%s", what, db ? sqlite3_errmsg(db) : sqlite3_errstr(rc),
		       telling ? ": " : "", telling ? strerror(e) : "");
}

enum df_err df_db_exec(struct sqlite3 *db, const char *sql, struct df_fail *fail, const char *what)
{
	int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? DF_OK : df_db_fail(db, rc, fail, what);
}

enum df_err df_db_number(struct sqlite3 *db, const char *sql, int64_t *ret, struct df_fail *fail)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	enum df_err err = rc == SQLITE_ROW ? DF_OK : df_db_fail(db, rc, fail, "read the cache of answers");
	if (rc == SQLITE_ROW)
		*ret = sqlite3_column_int64(s, 0);
	(void)sqlite3_finalize(s);
	return err;
}

/* SQLite's own waits grow to 100 ms; transactions here take two, and their writers step back for DF_CACHE_YIELD_US in between: who looks more often than that
 * comes in. */
int df_db_wait(void *budget_ms, int n_before)
{
	uint64_t us = DF_CACHE_YIELD_US / 5 + df_rand_real.next(NULL) % (DF_CACHE_YIELD_US * 2 / 5);
	struct timespec pause = {0, (long)us * 1000};
	if ((uintptr_t)n_before * DF_CACHE_YIELD_US * 2 / 5 / 1000 >= (uintptr_t)budget_ms)
		return 0;
	(void)nanosleep(&pause, NULL);
	return 1;
}

/* ------------------------------------------------------------------ a connection */

static void configure_once(void)
{
	unsigned char byte;
	(void)sqlite3_config(SQLITE_CONFIG_STMTJRNL_SPILL, -1);
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_randomness(1, &byte); /* reads /dev/urandom while it can be opened */
}

static enum df_err connect(const char *path, uintptr_t busy_ms, bool write, sqlite3 **ret_db, struct df_fail *fail)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	sqlite3 *db = NULL;
	int yes = 1;
	(void)pthread_once(&once, configure_once);
	int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
				 NULL);
	enum df_err err = rc == SQLITE_OK ? DF_OK : df_db_fail(db, rc, fail, "open the cache of answers");
	if (err == DF_OK) {
		(void)sqlite3_busy_handler(db, df_db_wait, (void *)busy_ms);
		(void)sqlite3_extended_result_codes(db, 1);
		(void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
		(void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
		(void)sqlite3_file_control(db, "main", SQLITE_FCNTL_PERSIST_WAL, &yes);
		err = df_db_exec(db,
				 "PRAGMA temp_store=MEMORY; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=OFF;"
				 "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-500; PRAGMA mmap_size=0;"
				 "PRAGMA cell_size_check=ON; PRAGMA trusted_schema=OFF;"
				 "PRAGMA journal_size_limit=16777216",
				 fail, "set up the cache of answers");
	}
	if (err == DF_OK && write)
		/* Puts come by hashes, so each meets another page of the index; look-ups in a row meet few. */
		err = df_db_exec(db, "PRAGMA page_size=8192; PRAGMA cache_size=-1500", fail,
				 "set up the cache of answers");
	if (err != DF_OK)
		(void)sqlite3_close(db);
	else
		*ret_db = db;
	return err;
}

static enum df_err enter_wal(sqlite3 *db, const char *folder, struct df_fail *fail)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA journal_mode=WAL", -1, &s, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	enum df_err err = rc == SQLITE_ROW ? DF_OK : df_db_fail(db, rc, fail, "open the cache of answers");
	const char *mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
	if (err == DF_OK && (!mode || strcmp(mode, "wal") != 0))
		err = df_fail(fail, DF_ERR_UNSUPPORTED,
			      "the file system of '%s' cannot keep a cache of answers: no shared memory", folder);
	(void)sqlite3_finalize(s);
	return err;
}

/* ------------------------------------------------------------------ the schema */

static enum df_err check_version(sqlite3 *db, const char *folder, int64_t *ret_version, struct df_fail *fail)
{
	int64_t application = 0, version = 0, tables = 0;
	DF_TRY(df_db_number(db, "SELECT count(*) FROM sqlite_schema", &tables, fail));
	DF_TRY(df_db_number(db, "PRAGMA application_id", &application, fail));
	DF_TRY(df_db_number(db, "PRAGMA user_version", &version, fail));
	if (tables && application != APPLICATION)
		return df_fail(fail, DF_ERR_UNSUPPORTED,
			       "'%s/" NAME "' is a database, but no cache of docflume: name another folder", folder);
	if (version > DF_DB_VERSION)
		return df_fail(
			fail, DF_ERR_VERSION,
			"the cache of answers in '%s' was made by a newer docflume (format %lld, this one reads %d): "
			"name another folder",
			folder, (long long)version, DF_DB_VERSION);
	*ret_version = tables ? version : 0;
	return DF_OK;
}

static const char schema[] =
	"BEGIN IMMEDIATE;"
	"CREATE TABLE IF NOT EXISTS answer(id INTEGER PRIMARY KEY, key BLOB NOT NULL, used INTEGER NOT NULL, value "
	"BLOB NOT NULL);"
	"CREATE UNIQUE INDEX IF NOT EXISTS answer_key ON answer(key);"
	"CREATE INDEX IF NOT EXISTS answer_used ON answer(used);"
	"CREATE TABLE IF NOT EXISTS total(name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;"
	"PRAGMA application_id=1684431713; PRAGMA user_version=1; COMMIT";
_Static_assert(APPLICATION == 1684431713, "as in the schema");

/* Reading once opens the companions of a connection. */
static enum df_err warm(sqlite3 *db, struct df_fail *fail)
{
	int64_t n;
	return df_db_number(db, "SELECT count(*) FROM total", &n, fail);
}

static enum df_err connect_all(const char *folder, const char *path, enum df_db_how how, struct df_db *db,
			       struct df_fail *fail)
{
	int64_t version = 0;
	DF_TRY(connect(path, DF_CACHE_BUSY_MS, how == DF_DB_USE, &db->writer, fail));
	if (how == DF_DB_USE)
		DF_TRY(enter_wal(db->writer, folder, fail));
	DF_TRY(check_version(db->writer, folder, &version, fail));
	if (version == 0 && how == DF_DB_LOOK)
		return df_fail(fail, DF_ERR_NOT_FOUND, "the cache of answers in '%s' is empty", folder);
	if (version == 0) {
		enum df_err err = df_db_exec(db->writer, schema, fail, "make the cache of answers");
		if (err != DF_OK)
			(void)sqlite3_exec(db->writer, "ROLLBACK", NULL, NULL, NULL);
		DF_TRY(err);
	}
	DF_TRY(warm(db->writer, fail));
	if (how == DF_DB_LOOK)
		return DF_OK;
	DF_TRY(connect(path, DF_CACHE_READ_BUSY_MS, false, &db->reader, fail));
	DF_TRY(connect(path, DF_CACHE_READ_BUSY_MS, false, &db->keeper, fail));
	DF_TRY(warm(db->reader, fail));
	return warm(db->keeper, fail);
}

static void disconnect_all(struct df_db *db)
{
	(void)sqlite3_close(db->reader);
	(void)sqlite3_close(db->keeper);
	(void)sqlite3_close(db->writer);
	db->reader = db->writer = db->keeper = NULL;
}

/* ------------------------------------------------------------------ the folder */

/* Magic numbers of linux/magic.h and of file systems outside the kernel's tree, whose locks and shared memory end at the machine's border. */
static const char *network_name(const char *folder)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} known[] = {
		{0x6969, "NFS"},      {0x517b, "SMB"},        {0xff534d42, "CIFS"},   {0xfe534d42, "SMB2"},
		{0x5346414f, "AFS"},  {0x6b414653, "AFS"},    {0x73757245, "Coda"},   {0x00c36400, "Ceph"},
		{0x01021997, "9P"},   {0x0bd00bd0, "Lustre"}, {0x47504653, "GPFS"},   {0x7461636f, "OCFS2"},
		{0x01161970, "GFS2"}, {0x65735546, "FUSE"},   {0x19830326, "BeeGFS"},
	};
	struct statfs fs;
	if (statfs(folder, &fs) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if ((uint32_t)fs.f_type == known[i].magic)
			return known[i].name;
	return NULL;
}

enum df_err df_db_lock(int lock_fd, const char *folder, struct df_fail *fail)
{
	uint64_t end = df_clock_mono(&df_clock_real) + DF_CACHE_OPEN_BUSY_MS * DF_MS;
	while (flock(lock_fd, LOCK_EX | LOCK_NB) != 0) {
		struct timespec pause = {0, 2000000};
		if (errno != EWOULDBLOCK && errno != EINTR)
			return df_fail_errno(fail, "cannot lock the cache of answers in '%s'", folder);
		if (df_clock_mono(&df_clock_real) > end)
			return df_fail(fail, DF_ERR_BUSY,
				       "the cache of answers in '%s' has been locked by another process for %d s",
				       folder, DF_CACHE_OPEN_BUSY_MS / 1000);
		(void)nanosleep(&pause, NULL);
	}
	return DF_OK;
}

void df_db_unlock(int lock_fd)
{
	(void)flock(lock_fd, LOCK_UN);
}

void df_db_mark_damaged(const struct df_db *db)
{
	if (pwrite(db->lock_fd, DAMAGED, sizeof(DAMAGED) - 1, 0) < 0)
		return; /* whoever opens it next meets the damage again */
}

static bool is_marked(int lock_fd)
{
	char word[sizeof(DAMAGED)] = "";
	ssize_t n = pread(lock_fd, word, sizeof(word) - 1, 0);
	return n == (ssize_t)sizeof(DAMAGED) - 1 && memcmp(word, DAMAGED, sizeof(DAMAGED) - 1) == 0;
}

/* With the lock held. Processes that have it open go on with the file that they have. */
static enum df_err move_aside(const char *path, int lock_fd, struct df_fail *fail)
{
	char other[PATH_BYTES + 16];
	(void)snprintf(other, sizeof(other), "%s.damaged", path);
	if (rename(path, other) != 0 && errno != ENOENT)
		return df_fail_errno(fail, "cannot move the damaged cache '%s' aside", path);
	(void)snprintf(other, sizeof(other), "%s-wal", path);
	(void)unlink(other);
	(void)snprintf(other, sizeof(other), "%s-shm", path);
	(void)unlink(other);
	if (ftruncate(lock_fd, 0) != 0)
		return df_fail_errno(fail, "cannot write the lock beside '%s'", path);
	return DF_OK;
}

/* Never opens what is there: closing that would end the locks which another cache of this process has on it. */
static enum df_err make_private(const char *path, struct df_fail *fail)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
	if (fd < 0 && errno != EEXIST)
		return df_fail_errno(fail, "cannot make the cache of answers '%s'", path);
	if (fd >= 0)
		(void)close(fd);
	return DF_OK;
}

/* With the lock held. */
static enum df_err open_locked(const char *folder, enum df_db_how how, struct df_db *db, struct df_fail *fail)
{
	char path[PATH_BYTES];
	enum df_err err = DF_ERR_CORRUPT;
	(void)snprintf(path, sizeof(path), "%s/" NAME, folder);
	for (int round = 0; err == DF_ERR_CORRUPT && round < 2; round++) {
		if (round == 1 || (how == DF_DB_USE && is_marked(db->lock_fd))) {
			DF_TRY(move_aside(path, db->lock_fd, fail));
			db->moved_aside = true;
		}
		if (how == DF_DB_USE)
			DF_TRY(make_private(path, fail));
		err = connect_all(folder, path, how, db, fail);
		if (err != DF_OK)
			disconnect_all(db);
		if (how == DF_DB_LOOK)
			break;
	}
	return err;
}

enum df_err df_db_open(const char *folder, enum df_db_how how, struct df_db *ret_db, struct df_fail *fail)
{
	char path[PATH_BYTES];
	struct df_db db = {.lock_fd = -1};
	const char *network = network_name(folder);
	if (network)
		return df_fail(fail, DF_ERR_UNSUPPORTED,
			       "'%s' lies on a network file system (%s), where a shared database gets damaged: name a "
			       "folder on "
			       "a local disk",
			       folder, network);
	(void)snprintf(path, sizeof(path), "%s/lock", folder);
	db.lock_fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (how == DF_DB_USE ? O_CREAT : 0), 0600);
	if (db.lock_fd < 0 && how == DF_DB_LOOK && errno == ENOENT)
		return df_fail(fail, DF_ERR_NOT_FOUND, "there is no cache of answers in '%s'", folder);
	if (db.lock_fd < 0)
		return df_fail_errno(fail, "cannot open the cache of answers: '%s'", path);
	enum df_err err = df_db_lock(db.lock_fd, folder, fail);
	if (err == DF_OK) {
		err = open_locked(folder, how, &db, fail);
		df_db_unlock(db.lock_fd);
	}
	if (err != DF_OK)
		df_db_close(&db);
	else
		*ret_db = db;
	return err;
}

void df_db_close(struct df_db *db)
{
	disconnect_all(db);
	if (db->lock_fd >= 0)
		(void)close(db->lock_fd);
	db->lock_fd = -1;
}
