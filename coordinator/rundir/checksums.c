// SPDX-License-Identifier: Apache-2.0
/*
 * checksums: a few threads take files one by one.
 *
 * DESIGN. The calling thread only waits, says how far it is, and looks for signals; the first failure stops all.
 */
#include "coordinator/rundir/checksums.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/human.h"
#include "base/log.h"

#define READ_BYTES ((size_t)1 << 20)
#define THREADS_MAX 8U
#define SAY_AFTER_NS DF_SEC
#define SAY_EVERY_NS (10 * DF_SEC)

struct work {
	const struct df_dataset *d;
	uint64_t *sum;
	atomic_size_t next;
	atomic_uint_fast64_t bytes; /* hashed so far */
	atomic_uint running;
	atomic_bool stop;
	pthread_mutex_t lock; /* of the failure */
	struct df_fail fail;
};

static enum df_err hash_fd(struct work *w, int fd, const struct df_source *s, char *p, struct df_hasher *h,
			   struct df_fail *fail)
{
	DF_TRY(df_file_id_check(fd, &s->id, s->name, fail));
	for (;;) {
		ssize_t n = TEMP_FAILURE_RETRY(read(fd, p, READ_BYTES));
		if (n < 0)
			return df_fail_errno(fail, "cannot read '%s'", s->name);
		if (n == 0)
			return df_file_id_check(fd, &s->id, s->name, fail);
		df_hasher_add(h, p, (size_t)n);
		atomic_fetch_add(&w->bytes, (uint64_t)n);
		if (atomic_load(&w->stop))
			return df_fail(fail, DF_ERR_INTERRUPTED, "stopped");
	}
}

static enum df_err hash_source(struct work *w, size_t i, char *p, struct df_hasher *h, struct df_fail *fail)
{
	const struct df_source *s = &w->d->source[i];
	if (s->live)
		return DF_OK;
	int fd = TEMP_FAILURE_RETRY(open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	if (fd < 0)
		return df_fail_errno(fail, "cannot open '%s'", s->name);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	df_hasher_reset(h);
	enum df_err err = hash_fd(w, fd, s, p, h, fail);
	(void)close(fd);
	if (err == DF_OK)
		w->sum[i] = df_hasher_value(h);
	return err;
}

static void note_failure(struct work *w, const struct df_fail *fail)
{
	(void)pthread_mutex_lock(&w->lock);
	if (w->fail.code == DF_OK)
		w->fail = *fail;
	(void)pthread_mutex_unlock(&w->lock);
	atomic_store(&w->stop, true);
}

static void *run(void *arg)
{
	struct work *w = arg;
	struct df_fail fail;
	char *p = malloc(READ_BYTES);
	struct df_hasher *h = df_hasher_create();
	enum df_err err = p && h ? DF_OK : df_fail(&fail, DF_ERR_NOMEM, "no memory to check the inputs");
	while (err == DF_OK && !atomic_load(&w->stop)) {
		size_t i = atomic_fetch_add(&w->next, 1);
		if (i >= w->d->n_source)
			break;
		err = hash_source(w, i, p, h, &fail);
	}
	if (err != DF_OK)
		note_failure(w, &fail);
	df_hasher_destroy(&h);
	free(p);
	atomic_fetch_sub(&w->running, 1);
	return NULL;
}

static void wait_for(struct work *w, struct df_ending *ending)
{
	char y[32], z[32];
	uint64_t start = df_clock_mono(&df_clock_real), say = start + SAY_AFTER_NS;
	for (long nap_ns = (long)DF_MS; atomic_load(&w->running);
	     nap_ns = nap_ns < 32 * (long)DF_MS ? 2 * nap_ns : nap_ns) {
		struct timespec nap = {0, nap_ns};
		struct df_fail fail;
		(void)nanosleep(&nap, NULL);
		uint64_t now = df_clock_mono(&df_clock_real);
		if (ending && !atomic_load(&w->stop) &&
		    (df_ending_take(ending, now) > 0 || df_ending_time_is_up(ending))) {
			(void)df_fail(&fail, DF_ERR_INTERRUPTED, "%s while the checksums of the inputs were taken",
				      df_ending_reason(ending));
			note_failure(w, &fail);
		}
		if (now < say)
			continue;
		say = now + SAY_EVERY_NS;
		df_info("checksums of the inputs: %s of %s", df_human_bytes((double)atomic_load(&w->bytes), y),
			df_human_bytes((double)w->d->total_bytes, z));
	}
}

enum df_err df_checksums(const struct df_dataset *d, unsigned n_thread, struct df_ending *ending, uint64_t *ret_sum,
			 struct df_fail *fail)
{
	struct work w = {.d = d, .sum = ret_sum, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread[THREADS_MAX];
	unsigned n = 0;
	if (n_thread > THREADS_MAX)
		n_thread = THREADS_MAX;
	memset(ret_sum, 0, d->n_source * sizeof(*ret_sum));
	for (; n < n_thread && n < d->n_source; n++) {
		atomic_fetch_add(&w.running, 1);
		int code = pthread_create(&thread[n], NULL, run, &w);
		if (code == 0)
			continue;
		atomic_fetch_sub(&w.running, 1);
		if (n == 0)
			return df_fail(fail, DF_ERR_NOMEM, "cannot start a thread to check the inputs: %s",
				       strerror(code));
		break;
	}
	wait_for(&w, ending);
	for (unsigned i = 0; i < n; i++)
		(void)pthread_join(thread[i], NULL);
	if (w.fail.code == DF_OK)
		return DF_OK;
	if (fail)
		*fail = w.fail;
	return w.fail.code;
}
