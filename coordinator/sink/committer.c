// SPDX-License-Identifier: Apache-2.0
/*
 * committer: the steps of a commit in their order, and the thread that does them.
 *
 * DESIGN: a mutex guards the one place of the queue (job, state); the eventfd says that a job is over. Everything else that both threads
 * touch changes hands with the job: submit and take are the only hand-overs, both under the mutex.
 */
#include "coordinator/sink/committer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/limits.h"

enum state { IDLE, QUEUED, OVER };

struct df_committer {
	struct df_journal *journal;
	enum df_fsync policy;
	bool with_thread;
	bool busy; /* the caller's own view: submitted and not taken */
	int event_fd;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	enum state state; /* guarded by mutex, as is all below */
	bool stop;
	struct df_commit_job *job;
};

/* --- the work --- */

void df_commit_job_init(struct df_commit_job *job)
{
	*job = (struct df_commit_job){0};
	df_buf_init(&job->commit, DF_JOURNAL_RECORD_MAX);
	df_buf_init(&job->rotate, DF_JOURNAL_RECORD_MAX);
	df_buf_init(&job->finish, DF_JOURNAL_RECORD_MAX);
}

void df_commit_job_release(struct df_commit_job *job)
{
	df_buf_release(&job->commit);
	df_buf_release(&job->rotate);
	df_buf_release(&job->finish);
}

void df_commit_job_reset(struct df_commit_job *job)
{
	df_buf_reset(&job->commit);
	df_buf_reset(&job->rotate);
	df_buf_reset(&job->finish);
	job->parts = NULL;
	job->n_file = 0;
	job->sync_dir = job->did_sync_dir = false;
	job->err = DF_OK;
	job->fail = (struct df_fail){0};
}

static enum df_err sync_directory(const struct df_parts_place *place, struct df_fail *fail)
{
	if (place->io->sync_dir(place->io->self, place->dir_fd) < 0)
		return df_fail_errno(fail, "cannot sync the run directory");
	return DF_OK;
}

static enum df_err sync_data(struct df_commit_job *job, struct df_fail *fail)
{
	DF_TRY(df_parts_sync(job->parts, job->file, job->n_file, fail));
	if (job->sync_dir) {
		DF_TRY(sync_directory(&job->parts->place, fail));
		job->did_sync_dir = true;
	}
	return DF_OK;
}

static enum df_err rotate_set(struct df_commit_job *job, bool durable, struct df_fail *fail)
{
	DF_TRY(df_parts_close_set(&job->closing, durable, fail));
	return durable ? sync_directory(&job->closing.place, fail) : DF_OK;
}

enum df_err df_commit_job_run(struct df_commit_job *job, struct df_journal *j, enum df_fsync policy)
{
	struct df_fail *fail = &job->fail;
	bool rotates = job->rotate.n > 0;
	bool durable = policy == DF_FSYNC_COMMIT || (policy == DF_FSYNC_ROTATE && (rotates || job->finish.n));
	if (job->parts && durable)
		DF_TRY(sync_data(job, fail));
	if (job->commit.n)
		DF_TRY(df_journal_append(j, DF_JOURNAL_COMMIT, df_buf_str(&job->commit), fail));
	if (rotates)
		DF_TRY(df_journal_append(j, DF_JOURNAL_ROTATE, df_buf_str(&job->rotate), fail));
	if (durable && (job->commit.n || rotates))
		DF_TRY(df_journal_sync(j, fail));
	if (rotates)
		DF_TRY(rotate_set(job, durable, fail));
	if (job->finish.n) {
		DF_TRY(df_journal_append(j, DF_JOURNAL_FINISH, df_buf_str(&job->finish), fail));
		if (durable)
			DF_TRY(df_journal_sync(j, fail));
	}
	return DF_OK;
}

/* --- the thread --- */

static void run_job(struct df_committer *c, struct df_commit_job *job)
{
	job->err = df_commit_job_run(job, c->journal, c->policy);
}

static void *sync_main(void *arg)
{
	struct df_committer *c = arg;
	(void)pthread_mutex_lock(&c->mutex);
	for (;;) {
		while (c->state != QUEUED && !c->stop)
			(void)pthread_cond_wait(&c->wake, &c->mutex);
		if (c->state != QUEUED)
			break;
		struct df_commit_job *job = c->job;
		(void)pthread_mutex_unlock(&c->mutex);
		run_job(c, job);
		(void)pthread_mutex_lock(&c->mutex);
		c->state = OVER;
		(void)eventfd_write(c->event_fd, 1); /* cannot fail: the counter is far from its end */
	}
	(void)pthread_mutex_unlock(&c->mutex);
	return NULL;
}

/* Signals are for other threads: they are blocked while the thread is born, which inherits that. */
static int start_thread(struct df_committer *c)
{
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int e = pthread_create(&c->thread, NULL, sync_main, c);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return e;
}

enum df_err df_committer_open(struct df_journal *j, enum df_fsync policy, bool with_thread,
			      struct df_committer **ret_committer, struct df_fail *fail)
{
	struct df_committer *c = calloc(1, sizeof(*c));
	if (!c)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the sync thread");
	c->journal = j;
	c->policy = policy;
	c->event_fd = -1;
	(void)pthread_mutex_init(&c->mutex, NULL);
	(void)pthread_cond_init(&c->wake, NULL);
	if (with_thread) {
		c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		errno = c->event_fd < 0 ? errno : start_thread(c);
		if (c->event_fd < 0 || errno) {
			enum df_err err = df_fail_errno(fail, "cannot start the sync thread");
			df_committer_close(&c);
			return err;
		}
		c->with_thread = true;
	}
	*ret_committer = c;
	return DF_OK;
}

void df_committer_close(struct df_committer **committer)
{
	struct df_committer *c = *committer;
	if (!c)
		return;
	if (c->with_thread) {
		(void)pthread_mutex_lock(&c->mutex);
		c->stop = true;
		(void)pthread_cond_signal(&c->wake);
		(void)pthread_mutex_unlock(&c->mutex);
		(void)pthread_join(c->thread, NULL);
	}
	if (c->event_fd >= 0)
		(void)close(c->event_fd);
	(void)pthread_cond_destroy(&c->wake);
	(void)pthread_mutex_destroy(&c->mutex);
	free(c);
	*committer = NULL;
}

bool df_committer_busy(const struct df_committer *c)
{
	return c->busy;
}

int df_committer_event_fd(const struct df_committer *c)
{
	return c->event_fd;
}

void df_committer_submit(struct df_committer *c, struct df_commit_job *job)
{
	(void)pthread_mutex_lock(&c->mutex);
	DF_ASSERT(!c->busy && c->state == IDLE);
	c->busy = true;
	c->job = job;
	c->state = QUEUED;
	(void)pthread_cond_signal(&c->wake);
	(void)pthread_mutex_unlock(&c->mutex);
}

bool df_committer_take(struct df_committer *c)
{
	if (!c->busy)
		return false;
	if (!c->with_thread) {
		run_job(c, c->job);
		c->state = IDLE;
		c->busy = false;
		return true;
	}
	(void)pthread_mutex_lock(&c->mutex);
	bool over = c->state == OVER;
	if (over) {
		eventfd_t n;
		(void)eventfd_read(c->event_fd, &n);
		c->state = IDLE;
		c->busy = false;
	}
	(void)pthread_mutex_unlock(&c->mutex);
	return over;
}
