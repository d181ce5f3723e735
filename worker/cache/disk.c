// SPDX-License-Identifier: Apache-2.0
/*
 * disk: reading, and the two threads that write.
 *
 * DESIGN. Three connections, each used by one thread at a time: reader (under its mutex), writer, keeper. In WAL mode none of them waits for another
 * but the writer for other processes' writers, which is why puts are queued: whoever puts only takes the queue's mutex. A batch is
 * one transaction (disk_write.c).
 *
 * An envelope is u64 check, u64 checksum of (key, check, bytes), bytes: what is not this key's, not whole or not as it was is not found.
 */
#include "worker/cache/disk.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/limits.h"
#include "worker/cache/disk_own.h"

#define STACK_BYTES ((size_t)512 << 10)
#define RESTART_PAUSE_NS DF_SEC

struct envelope {
	uint64_t check, sum;
};

static uint64_t now(void)
{
	return df_clock_mono(&df_clock_real);
}

static int64_t now_ms(void)
{
	return (int64_t)(df_clock_real.wall_ns(NULL) / DF_MS);
}

/* ------------------------------------------------------------------ what goes wrong */

static void tell(struct df_disk *d, const char *message)
{
	if (!atomic_exchange(&d->warned, true) && d->config.warn)
		d->config.warn(d->config.self, message);
}

void df_disk_refused(struct df_disk *d, sqlite3 *db, int rc, const char *what)
{
	struct df_fail fail = {.msg = ""}, line = {.msg = ""};
	enum df_err err = df_db_fail(db, rc, &fail, what);
	if (err == DF_ERR_BUSY)
		return;
	if (err == DF_ERR_CORRUPT) {
		atomic_store(&d->off, true);
		df_db_mark_damaged(&d->db);
		(void)df_fail(
			&line, err,
			"the cache of answers in '%s' is damaged (%s): not used any more; the next run moves it aside",
			d->config.folder, fail.msg);
	} else {
		atomic_store(&d->quiet_until, now() + DF_CACHE_AGAIN_MS * DF_MS);
		(void)df_fail(&line, err, "answers are kept in memory alone for now: %s in '%s'", fail.msg,
			      d->config.folder);
	}
	tell(d, line.msg);
}

/* ------------------------------------------------------------------ envelopes */

static void key_bytes(struct df_cache_key key, unsigned char *ret)
{
	memcpy(ret, &key.low, 8);
	memcpy(ret + 8, &key.high, 8);
}

static uint64_t sum_of(struct df_cache_key key, const char *p, size_t n)
{
	uint64_t words[4] = {key.low, key.high, key.check, df_hash64(p, n)};
	return df_hash64(words, sizeof(words));
}

enum match { MATCH, OTHER_KEY, DAMAGED };

static enum match open_envelope(struct df_cache_key key, const char *p, size_t n, struct df_str *ret_value)
{
	struct envelope e;
	if (n < sizeof(e))
		return DAMAGED;
	memcpy(&e, p, sizeof(e));
	struct df_cache_key stored = {key.low, key.high, e.check};
	if (e.sum != sum_of(stored, p + sizeof(e), n - sizeof(e)))
		return DAMAGED;
	if (e.check != key.check)
		return OTHER_KEY;
	*ret_value = (struct df_str){p + sizeof(e), n - sizeof(e)};
	return MATCH;
}

/* ------------------------------------------------------------------ the queue */

static struct df_item *item_create(enum df_item_kind kind, struct df_cache_key key, size_t n)
{
	struct df_item *i = malloc(sizeof(*i) + n);
	if (!i)
		return NULL;
	*i = (struct df_item){.kind = kind, .used = now_ms(), .n = n};
	key_bytes(key, i->key);
	return i;
}

/* Takes the item. */
static void enqueue(struct df_disk *d, struct df_item *i)
{
	bool room;
	if (!i)
		return;
	(void)pthread_mutex_lock(&d->lock);
	room = !d->stop && d->queued_bytes + sizeof(*i) + i->n <= DF_CACHE_QUEUE_BYTES;
	if (room) {
		if (!d->head)
			(void)pthread_cond_signal(&d->wake);
		*d->tail = i;
		d->tail = &i->next;
		d->queued_bytes += sizeof(*i) + i->n;
		d->n_put++;
	}
	(void)pthread_mutex_unlock(&d->lock);
	if (room)
		return;
	if (i->kind == DF_ITEM_PUT)
		atomic_fetch_add(&d->unwritten, 1);
	free(i);
}

void df_disk_put(struct df_disk *d, struct df_cache_key key, struct df_str value)
{
	struct df_item *i = NULL;
	if (!atomic_load(&d->off) && now() >= atomic_load(&d->quiet_until))
		i = item_create(DF_ITEM_PUT, key, sizeof(struct envelope) + value.n);
	if (!i) {
		atomic_fetch_add(&d->unwritten, 1);
		return;
	}
	struct envelope e = {key.check, sum_of(key, value.p, value.n)};
	memcpy(i->p, &e, sizeof(e));
	if (value.n)
		memcpy(i->p + sizeof(e), value.p, value.n);
	enqueue(d, i);
}

/* ------------------------------------------------------------------ reading */

static enum df_err take_row(struct df_disk *d, struct df_cache_key key, struct df_arena *arena,
			    struct df_str *ret_value)
{
	struct df_str value, copy;
	int64_t used = sqlite3_column_int64(d->select, 0);
	const char *p = sqlite3_column_blob(d->select, 1);
	enum match m = open_envelope(key, p, p ? (size_t)sqlite3_column_bytes(d->select, 1) : 0, &value);
	if (m == DAMAGED) {
		atomic_fetch_add(&d->config.count[DF_TOTAL_DAMAGED], 1);
		enqueue(d, item_create(DF_ITEM_DROP, key, 0));
	}
	if (m != MATCH)
		return DF_ERR_NOT_FOUND;
	copy = df_arena_copy(arena, value);
	if (!copy.p)
		return DF_ERR_NOMEM;
	if (now_ms() - used > (int64_t)d->config.touch_ms && now() >= atomic_load(&d->quiet_until))
		enqueue(d, item_create(DF_ITEM_TOUCH, key, 0));
	*ret_value = copy;
	return DF_OK;
}

/* Locked. Without a transaction each look-up begins one, and finds what it has in memory out of date when somebody has written meanwhile. */
static void set_snapshot(struct df_disk *d)
{
	bool open = !sqlite3_get_autocommit(d->db.reader); /* an error may have ended it */
	if (open && (d->n_look == 0 || now() >= d->snapshot_end)) {
		(void)sqlite3_exec(d->db.reader, "COMMIT", NULL, NULL, NULL);
		open = false;
	}
	if (!open && d->n_look > 0) {
		(void)sqlite3_exec(d->db.reader, "BEGIN", NULL, NULL, NULL);
		d->snapshot_end = now() + DF_CACHE_LOOK_MS * DF_MS;
	}
}

void df_disk_look(struct df_disk *d, int more)
{
	(void)pthread_mutex_lock(&d->read_lock);
	d->n_look += more;
	if (d->n_look == 0)
		set_snapshot(d);
	(void)pthread_mutex_unlock(&d->read_lock);
}

enum df_err df_disk_get(struct df_disk *d, struct df_cache_key key, struct df_arena *arena, struct df_str *ret_value)
{
	unsigned char bytes[DF_DISK_KEY_BYTES];
	enum df_err err = DF_ERR_NOT_FOUND;
	if (atomic_load(&d->off))
		return err;
	key_bytes(key, bytes);
	(void)pthread_mutex_lock(&d->read_lock);
	if (d->n_look > 0)
		set_snapshot(d);
	int rc = sqlite3_bind_blob(d->select, 1, bytes, DF_DISK_KEY_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(d->select);
	if (rc == SQLITE_ROW)
		err = take_row(d, key, arena, ret_value);
	else if (rc != SQLITE_DONE)
		df_disk_refused(d, d->db.reader, rc, "read an answer");
	(void)sqlite3_reset(d->select);
	(void)pthread_mutex_unlock(&d->read_lock);
	return err;
}

/* ------------------------------------------------------------------ the writer */

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t at_ns)
{
	struct timespec at = {(time_t)(at_ns / DF_SEC), (long)(at_ns % DF_SEC)};
	(void)pthread_cond_timedwait(cond, lock, &at);
}

void df_disk_flush(struct df_disk *d, uint64_t most_ms)
{
	uint64_t end = now() + most_ms * DF_MS;
	(void)pthread_mutex_lock(&d->lock);
	uint64_t until = d->n_put;
	d->hurry = true;
	(void)pthread_cond_signal(&d->wake);
	while (d->n_done < until && d->has_writer && now() < end)
		wait_until(&d->done, &d->lock, end);
	(void)pthread_mutex_unlock(&d->lock);
}

/* Locked: wait for something to do, then a moment for more of it. */
static void wait_for_work(struct df_disk *d)
{
	uint64_t totals_at = now() + DF_CACHE_TOTALS_MS * DF_MS;
	while (!d->head && !d->stop && !d->hurry && now() < totals_at)
		wait_until(&d->wake, &d->lock, totals_at);
	uint64_t end = now() + DF_CACHE_FLUSH_MS * DF_MS;
	while (d->head && !d->stop && !d->hurry && d->n_put - d->n_done < DF_CACHE_BATCH && now() < end)
		wait_until(&d->wake, &d->lock, end);
}

/* Locked: at most a batch leaves the queue. */
static struct df_item *take(struct df_disk *d, size_t *ret_n)
{
	struct df_item *first = d->head, **end = &d->head;
	size_t n = 0;
	for (; *end && n < DF_CACHE_BATCH; end = &(*end)->next, n++)
		d->queued_bytes -= sizeof(**end) + (*end)->n;
	d->head = *end;
	*end = NULL;
	if (!d->head)
		d->tail = &d->head;
	*ret_n = n;
	return n ? first : NULL;
}

static void free_items(struct df_item *i)
{
	for (struct df_item *next; i; i = next) {
		next = i->next;
		free(i);
	}
}

static size_t count_puts(const struct df_item *i)
{
	size_t n = 0;
	for (; i; i = i->next)
		n += i->kind == DF_ITEM_PUT;
	return n;
}

static bool is_late(struct df_disk *d)
{
	uint64_t by = atomic_load(&d->close_by);
	return by && now() >= by;
}

/* Written, or given up: busy is tried again until it is over or the cache is closed. */
static void write_items(struct df_disk *d, const struct df_item *first)
{
	int rc = SQLITE_OK;
	do {
		rc = atomic_load(&d->off) ? SQLITE_CORRUPT : df_disk_write(d, first, false);
	} while ((rc & 0xff) == SQLITE_BUSY && !is_late(d));
	if (rc != SQLITE_OK)
		atomic_fetch_add(&d->unwritten, count_puts(first));
}

/* As long as any connection waits; not beyond the end of a cache that is being closed, so that there is time to say what was lost. */
static int wait_for_others(void *self, int n_before)
{
	return !is_late(self) && df_db_wait((void *)(uintptr_t)DF_CACHE_BUSY_MS, n_before);
}

static bool may_write(const struct df_disk *d)
{
	return !atomic_load(&d->off) && now() >= atomic_load(&d->quiet_until);
}

/* Each second: who removed the folder under us has taken what is written from now on, too. */
static void look_around(struct df_disk *d)
{
	struct df_fail line = {.msg = ""};
	struct stat st;
	if (atomic_load(&d->off) || fstat(d->db.lock_fd, &st) != 0 || st.st_nlink > 0)
		return;
	atomic_store(&d->off, true);
	(void)df_fail(&line, DF_ERR_CHANGED,
		      "answers are kept in memory alone: the cache of answers in '%s' was removed while it is in use",
		      d->config.folder);
	tell(d, line.msg);
}

static void *writer_main(void *self)
{
	struct df_disk *d = self;
	bool stop = false, more = false, waiting = false;
	size_t n = 0;
	while (!stop) {
		(void)pthread_mutex_lock(&d->lock);
		if (!more)
			wait_for_work(d);
		struct df_item *first = take(d, &n);
		stop = d->stop && !first;
		if (!d->head)
			d->hurry = false;
		(void)pthread_mutex_unlock(&d->lock);
		if (first)
			write_items(d, first);
		free_items(first);
		(void)pthread_mutex_lock(&d->lock);
		d->n_done += n;
		waiting = d->head != NULL && !d->stop;
		(void)pthread_cond_broadcast(&d->done);
		(void)pthread_mutex_unlock(&d->lock);
		if (waiting) {
			struct timespec step_back = {0, DF_CACHE_YIELD_US * 1000L};
			(void)nanosleep(&step_back, NULL);
		}
		more = n && may_write(d) && df_disk_keep_cap(d, n);
		more = more || (!n && may_write(d) && d->removed && df_disk_keep_cap(d, 0));
		bool due = stop || now() - d->told_at >= DF_CACHE_TOTALS_MS * DF_MS;
		if (due)
			look_around(d);
		if (due && may_write(d) && df_disk_counts_differ(d))
			(void)df_disk_write(d, NULL, true);
		if ((n || d->removed) && may_write(d))
			df_disk_read_entries(d);
	}
	return NULL;
}

/* ------------------------------------------------------------------ the keeper */

static int wal_grew(void *self, sqlite3 *db, const char *name, int pages)
{
	struct df_disk *d = self;
	(void)db;
	(void)name;
	(void)pthread_mutex_lock(&d->keep_lock);
	d->wal_pages = pages;
	if (pages >= DF_CACHE_WAL_PAGES)
		(void)pthread_cond_signal(&d->keep);
	(void)pthread_mutex_unlock(&d->keep_lock);
	return SQLITE_OK;
}

/* Copies the log into the database while others read and write; when it has grown all the same, makes writers wait for the end of it. */
static void checkpoint(struct df_disk *d, bool may_wait, uint64_t *restart_at)
{
	int pages = 0, done = 0;
	int rc = sqlite3_wal_checkpoint_v2(d->db.keeper, NULL, SQLITE_CHECKPOINT_PASSIVE, &pages, &done);
	if (rc == SQLITE_OK && may_wait && pages > (int)DF_CACHE_WAL_PAGES_MAX && now() >= *restart_at) {
		rc = sqlite3_wal_checkpoint_v2(d->db.keeper, NULL, SQLITE_CHECKPOINT_RESTART, &pages, &done);
		*restart_at = now() + RESTART_PAUSE_NS;
	}
	if (rc != SQLITE_OK)
		df_disk_refused(d, d->db.keeper, rc, "bring answers from the log into the database");
}

static void *keeper_main(void *self)
{
	struct df_disk *d = self;
	uint64_t restart_at = 0;
	bool stop = false;
	while (!stop) {
		(void)pthread_mutex_lock(&d->keep_lock);
		while (!d->keep_stop && d->wal_pages < DF_CACHE_WAL_PAGES)
			(void)pthread_cond_wait(&d->keep, &d->keep_lock);
		stop = d->keep_stop;
		bool some = d->wal_pages > 0;
		d->wal_pages = 0;
		(void)pthread_mutex_unlock(&d->keep_lock);
		if (some && may_write(d))
			checkpoint(d, !stop, &restart_at);
	}
	return NULL;
}

/* ------------------------------------------------------------------ open and close */

static void init_locks(struct df_disk *d)
{
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&d->lock, NULL);
	(void)pthread_mutex_init(&d->read_lock, NULL);
	(void)pthread_mutex_init(&d->keep_lock, NULL);
	(void)pthread_cond_init(&d->wake, &monotonic);
	(void)pthread_cond_init(&d->done, &monotonic);
	(void)pthread_cond_init(&d->keep, NULL);
	(void)pthread_condattr_destroy(&monotonic);
}

/* Signals are for other threads. */
static bool start(pthread_t *thread, void *(*fn)(void *), void *self)
{
	pthread_attr_t small;
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_attr_init(&small);
	(void)pthread_attr_setstacksize(&small, STACK_BYTES);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int e = pthread_create(thread, &small, fn, self);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&small);
	return e == 0;
}

enum df_err df_disk_open(const struct df_disk_config *config, struct df_disk **ret_disk, struct df_fail *fail)
{
	struct df_disk *d = calloc(1, sizeof(*d));
	if (!d)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the cache of answers");
	d->config = *config;
	d->tail = &d->head;
	d->db.lock_fd = -1;
	d->told_at = now();
	init_locks(d);
	d->config.folder = strdup(config->folder);
	enum df_err err = d->config.folder ? df_db_open(config->folder, DF_DB_USE, &d->db, fail) : DF_ERR_NOMEM;
	if (err == DF_OK)
		err = df_disk_prepare(d, fail);
	if (err == DF_OK) {
		df_disk_read_entries(d);
		(void)sqlite3_wal_hook(d->db.writer, wal_grew, d);
		(void)sqlite3_busy_handler(d->db.writer, wait_for_others, d);
		d->has_writer = start(&d->writer, writer_main, d);
		d->has_keeper = d->has_writer && start(&d->keeper, keeper_main, d);
		if (!d->has_keeper)
			err = df_fail(fail, DF_ERR_NOMEM, "cannot start a thread for the cache of answers");
	}
	if (err == DF_OK && d->db.moved_aside && config->warn)
		config->warn(config->self,
			     "the cache of answers was damaged: it was moved aside (answers.db.damaged), and "
			     "begins anew");
	if (err != DF_OK)
		df_disk_close(&d);
	else
		*ret_disk = d;
	return err;
}

static void stop_threads(struct df_disk *d)
{
	atomic_store(&d->close_by, now() + DF_CACHE_CLOSE_MS * DF_MS);
	(void)pthread_mutex_lock(&d->lock);
	d->stop = true;
	(void)pthread_cond_signal(&d->wake);
	(void)pthread_mutex_unlock(&d->lock);
	if (d->has_writer)
		(void)pthread_join(d->writer, NULL);
	(void)pthread_mutex_lock(&d->keep_lock);
	d->keep_stop = true;
	(void)pthread_cond_signal(&d->keep);
	(void)pthread_mutex_unlock(&d->keep_lock);
	if (d->has_keeper)
		(void)pthread_join(d->keeper, NULL);
}

/* What was refused is told when it is; what others held up, or came faster than a disk takes it, only when it is sure that it was never written. */
static void tell_unwritten(struct df_disk *d)
{
	struct df_fail line = {.msg = ""};
	uint64_t n = atomic_load(&d->unwritten);
	if (!n)
		return;
	(void)df_fail(
		&line, DF_ERR_BUSY,
		"not all answers are kept: %llu did not come to the cache in '%s', which was too busy; a run that "
		"wants them asks again",
		(unsigned long long)n, d->config.folder);
	tell(d, line.msg);
}

void df_disk_close(struct df_disk **disk)
{
	struct df_disk *d = *disk;
	if (!d)
		return;
	stop_threads(d);
	tell_unwritten(d);
	df_disk_unprepare(d);
	df_db_close(&d->db);
	free_items(d->head);
	(void)pthread_mutex_destroy(&d->lock);
	(void)pthread_mutex_destroy(&d->read_lock);
	(void)pthread_mutex_destroy(&d->keep_lock);
	(void)pthread_cond_destroy(&d->wake);
	(void)pthread_cond_destroy(&d->done);
	(void)pthread_cond_destroy(&d->keep);
	free((char *)(uintptr_t)d->config.folder);
	free(d);
	*disk = NULL;
}

struct df_disk_stats df_disk_stats(struct df_disk *d)
{
	return (struct df_disk_stats){
		.bytes = atomic_load(&d->bytes),
		.entries = atomic_load(&d->entries),
		.unwritten = atomic_load(&d->unwritten),
		.on = may_write(d),
	};
}
