// SPDX-License-Identifier: Apache-2.0
/* expenses: two files, opened once per life. */
#include "coordinator/rundir/expenses.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/human.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"

#define ENOUGH_DONE 0.005 /* of the input, before what it costs means anything */

/* ------------------------------------------------------------------ the thread that syncs */

struct df_purse_keeper {
	struct df_purse *purse;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
};

/* Waits on the monotonic clock: the wall's may be set. */
static void *keep(void *self)
{
	struct df_purse_keeper *k = self;
	bool warned = false;
	(void)pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		uint64_t at_ns = df_clock_mono(&df_clock_real) + DF_PURSE_SYNC_MS * DF_MS;
		struct timespec at = {.tv_sec = (time_t)(at_ns / DF_SEC), .tv_nsec = (long)(at_ns % DF_SEC)};
		while (!k->stop && pthread_cond_timedwait(&k->wake, &k->lock, &at) != ETIMEDOUT)
			;
		(void)pthread_mutex_unlock(&k->lock);
		if (df_purse_sync(k->purse, NULL) != DF_OK && !warned) {
			df_warn("cannot sync '%s' in the run directory (%s): a power cut may forget what was spent",
				DF_PURSE_NAME, strerror(errno));
			warned = true;
		}
		(void)pthread_mutex_lock(&k->lock);
	}
	(void)pthread_mutex_unlock(&k->lock);
	return NULL;
}

static void stop_keeper(struct df_expenses *e)
{
	struct df_purse_keeper *k = e->keeper;
	if (!k)
		return;
	(void)pthread_mutex_lock(&k->lock);
	k->stop = true;
	(void)pthread_cond_signal(&k->wake);
	(void)pthread_mutex_unlock(&k->lock);
	(void)pthread_join(k->thread, NULL);
	(void)pthread_cond_destroy(&k->wake);
	(void)pthread_mutex_destroy(&k->lock);
	free(k);
	e->keeper = NULL;
}

static enum df_err start_keeper(struct df_expenses *e, struct df_fail *fail)
{
	struct df_purse_keeper *k = calloc(1, sizeof(*k));
	pthread_condattr_t monotonic;
	sigset_t all, before;
	if (!k)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the purse of this run");
	k->purse = e->purse;
	(void)pthread_mutex_init(&k->lock, NULL);
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&k->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	/* signals are for other threads: blocked while this one is born, which inherits that */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int code = pthread_create(&k->thread, NULL, keep, k);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code == 0) {
		e->keeper = k;
		return DF_OK;
	}
	(void)pthread_cond_destroy(&k->wake);
	(void)pthread_mutex_destroy(&k->lock);
	free(k);
	return df_fail(fail, DF_ERR_NOMEM, "cannot start the thread that syncs the purse: %s", strerror(code));
}

/* ------------------------------------------------------------------ the files */

static enum df_err open_trace(struct df_expenses *e, int dir_fd, struct df_supervisor *supervisor, struct df_fail *fail)
{
	e->trace_fd = openat(dir_fd, DF_TRACE_NAME, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (e->trace_fd < 0)
		return df_fail_errno(fail, "cannot open '%s' in the run directory", DF_TRACE_NAME);
	return df_supervisor_give(supervisor, e->trace_fd, DF_TRACE_FD, fail);
}

static enum df_err open_purse(struct df_expenses *e, double budget, int dir_fd, const struct df_costs *before,
			      int *ret_fd, struct df_fail *fail)
{
	char z[32];
	DF_TRY(df_purse_open(dir_fd, budget, &e->purse, ret_fd, fail));
	if (before->budget > 0 && df_purse_look(e->purse).budget <= 0) { /* it was lost with its purse */
		df_purse_close(&e->purse);
		DF_TRY(df_purse_open(dir_fd, before->budget, &e->purse, ret_fd, fail));
	}
	double missing = df_purse_at_least(e->purse, before->spent);
	if (missing > 0)
		df_warn("'%s' in the run directory was lost or is older than the rows: %s that it does not know of are "
			"counted as spent",
			DF_PURSE_NAME, df_human_usd(missing, z));
	return DF_OK;
}

enum df_err df_expenses_open(struct df_expenses *e, const struct df_run_options *o, int dir_fd, uint64_t run_id,
			     const struct df_costs *before, struct df_supervisor *supervisor, struct df_heritage *h,
			     struct df_fail *fail)
{
	int fd = -1;
	*e = (struct df_expenses){.trace_fd = -1};
	if (!o->has_calls)
		return DF_OK;
	DF_TRY(open_purse(e, o->budget, dir_fd, before, &fd, fail));
	DF_TRY(df_supervisor_give(supervisor, fd, DF_PURSE_FD, fail));
	if (o->trace == DF_TRACE_YES && dir_fd >= 0)
		DF_TRY(open_trace(e, dir_fd, supervisor, fail));
	if (o->stream)
		df_supervisor_stream(supervisor);
	if (dir_fd >= 0)
		DF_TRY(start_keeper(e, fail));
	h->purse = true;
	h->trace = e->trace_fd >= 0;
	h->run_id = run_id ? run_id : 1;
	h->cached = !o->no_cache;
	h->cache = o->cache;
	h->cache_bytes = o->cache_size;
	h->record = o->record;
	h->grace_ns = o->grace_ns;
	h->stream = o->stream;
	return DF_OK;
}

void df_expenses_died(struct df_expenses *e, uint64_t lane)
{
	if (e->purse)
		df_purse_died(e->purse, lane);
}

void df_expenses_all_died(struct df_expenses *e)
{
	if (e->purse)
		df_purse_all_died(e->purse);
}

void df_expenses_close(struct df_expenses *e)
{
	stop_keeper(e);
	df_purse_close(&e->purse);
	if (e->trace_fd > 0)
		(void)close(e->trace_fd);
	e->trace_fd = -1;
}

struct df_costs df_expenses_look(const struct df_expenses *e, double done)
{
	struct df_costs c = {.projected = NAN};
	if (!e->purse)
		return c;
	struct df_purse_view v = df_purse_look(e->purse);
	c = (struct df_costs){.known = true,
			      .spent = v.spent,
			      .reserved = v.reserved,
			      .budget = v.budget,
			      .projected = NAN,
			      .maybe = v.maybe,
			      .calls = v.calls,
			      .maybe_calls = v.maybe_calls,
			      .unpriced = v.unpriced < v.calls ? v.unpriced : v.calls};
	if (done >= ENOUGH_DONE)
		c.projected = v.spent / fmin(done, 1.0);
	return c;
}

struct df_costs df_expenses_peek(int dir_fd)
{
	struct df_purse_view purse;
	if (df_purse_peek(dir_fd, &purse) != DF_OK)
		return (struct df_costs){.known = false};
	return (struct df_costs){.known = true,
				 .spent = purse.spent,
				 .budget = purse.budget,
				 .projected = NAN,
				 .maybe = purse.maybe,
				 .calls = purse.calls,
				 .unpriced = purse.unpriced < purse.calls ? purse.unpriced : purse.calls,
				 .maybe_calls = purse.maybe_calls};
}
