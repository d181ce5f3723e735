// SPDX-License-Identifier: Apache-2.0
/*
 * agent: a worker process: the link thread owns sockets and heartbeat, one compute thread runs jobs.
 *
 * DESIGN. Two bounded queues between the threads, each under `mutex`: `inbox` (leases: never more than DF_LANE_CREDITS +
 * DF_LANE_REDO_CREDITS arrive) and `outbox` (messages to the sink, bounded by bytes: the compute thread waits for room, which is how
 * back-pressure from the sink reaches it). `wake` tells the link thread that the outbox has something. The compute thread waits without
 * a deadline, for a lease or for room; what ends each wait is the link thread's `leaving`, and that thread waits for a HELLO's time at most.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/job.h"
#include "worker/link.h"
#include "worker/role.h"

#define OUTBOX_BYTES (4U << 20)
#define LEAVE_SECONDS 1 /* for the compute thread to come to its end */

struct parcel {
	struct parcel *next;
	struct df_blob *header;
	struct df_blob **payload;
	size_t n_payload, bytes;
	bool last; /* counts in HELLO's `sent` */
};

struct list {
	struct parcel *head, **tail;
	size_t n, bytes;
};

struct agent {
	const struct df_heritage *h;
	struct df_worker_link link;
	struct df_job *job;
	struct df_slot *slot;
	struct df_spawner *spawner;
	const struct df_confine *confine;
	pthread_mutex_t mutex;
	pthread_cond_t arrived; /* inbox has a lease, or leaving */
	pthread_cond_t room;    /* outbox has room, or leaving */
	struct list inbox, outbox;
	bool leaving, failed;
	struct df_fail fail;
	int wake;
	uint64_t sent;
	uint32_t held; /* leases taken and not answered */
};

static void parcel_free(struct parcel *p)
{
	if (!p)
		return;
	df_blob_unref(&p->header);
	for (size_t i = 0; i < p->n_payload; i++)
		df_blob_unref(&p->payload[i]);
	free(p->payload);
	free(p);
}

static void list_put(struct list *l, struct parcel *p)
{
	if (!l->head)
		l->tail = &l->head;
	p->next = NULL;
	*l->tail = p;
	l->tail = &p->next;
	l->n++;
	l->bytes += p->bytes;
}

static struct parcel *list_take(struct list *l)
{
	struct parcel *p = l->head;
	if (p) {
		l->head = p->next;
		l->n--;
		l->bytes -= p->bytes;
	}
	return p;
}

static void list_free(struct list *l)
{
	for (struct parcel *p = list_take(l); p; p = list_take(l))
		parcel_free(p);
}

static void wake_link(struct agent *a)
{
	uint64_t one = 1;
	ssize_t ignored = write(a->wake, &one, sizeof(one));
	(void)ignored;
}

/* ------------------------------------------------------------------ the compute thread */

static struct parcel *make_parcel(struct df_str header, struct df_blob **payload, size_t n)
{
	struct parcel *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->header = df_blob_copy(header.p, header.n);
	p->payload = n ? malloc(n * sizeof(struct df_blob *)) : NULL;
	if (!p->header || (n && !p->payload)) {
		parcel_free(p);
		return NULL;
	}
	p->bytes = header.n;
	for (size_t i = 0; i < n; i++) {
		p->payload[p->n_payload++] = payload[i];
		p->bytes += payload[i]->n;
	}
	return p;
}

/* Called by the job; waits for room, so that results never pile up behind a slow sink. */
static enum df_err send(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last)
{
	struct agent *a = self;
	struct parcel *p = make_parcel(df_buf_str(header), payload, n);
	if (!p) { /* the frames are ours, whatever comes of them */
		for (size_t i = 0; i < n; i++)
			df_blob_unref(&payload[i]);
		return DF_ERR_NOMEM;
	}
	p->last = last;
	pthread_mutex_lock(&a->mutex);
	if (a->outbox.n && a->outbox.bytes + p->bytes > OUTBOX_BYTES)
		df_slot_wait(a->slot);
	while (a->outbox.n && a->outbox.bytes + p->bytes > OUTBOX_BYTES && !a->leaving)
		pthread_cond_wait(&a->room, &a->mutex);
	df_slot_tick(a->slot, df_clock_mono(&df_clock_real));
	bool leaving = a->leaving;
	if (!leaving)
		list_put(&a->outbox, p);
	pthread_mutex_unlock(&a->mutex);
	if (leaving) {
		parcel_free(p);
		return DF_ERR_CLOSED;
	}
	wake_link(a);
	return DF_OK;
}

static struct parcel *next_lease(struct agent *a)
{
	pthread_mutex_lock(&a->mutex);
	while (!a->inbox.n && !a->leaving)
		pthread_cond_wait(&a->arrived, &a->mutex);
	struct parcel *p = a->leaving ? NULL : list_take(&a->inbox);
	pthread_mutex_unlock(&a->mutex);
	return p;
}

static void compute_failed(struct agent *a, const struct df_fail *fail)
{
	pthread_mutex_lock(&a->mutex);
	a->failed = true;
	a->fail = *fail;
	pthread_mutex_unlock(&a->mutex);
	wake_link(a);
}

static void *compute(void *self)
{
	struct agent *a = self;
	struct df_job_config config = {a->h, a->slot, a->spawner, send, a};
	struct df_fail fail = {0};
	struct df_arena arena;
	enum df_err err = df_job_create(&config, &a->job, &fail);
	if (err == DF_OK && a->confine)
		err = df_confine_end(a->confine, &fail);
	df_arena_init(&arena, 64U << 20, 1U << 20);
	for (struct parcel *p; err == DF_OK && (p = next_lease(a));) {
		struct df_msg msg;
		df_arena_reset(&arena);
		err = df_msg_unpack((struct df_str){p->header->p, p->header->n}, &arena, &msg, &fail);
		if (err == DF_OK && !df_worker_link_takes(&a->link, msg.lease)) {
			pthread_mutex_lock(&a->mutex);
			a->held--;
			pthread_mutex_unlock(&a->mutex);
		} else if (err == DF_OK) {
			err = df_job_run(a->job, &msg, p->payload, p->n_payload);
			if (err != DF_OK)
				(void)df_fail(&fail, err, "a result cannot be sent: %s", df_err_name(err));
		}
		parcel_free(p);
	}
	if (err != DF_OK && err != DF_ERR_CLOSED)
		compute_failed(a, &fail);
	df_arena_release(&arena);
	return NULL;
}

/* ------------------------------------------------------------------ the link thread */

static enum df_err take_leases(struct agent *a)
{
	struct df_frames frames = {0};
	enum df_err err = DF_OK;
	while (err == DF_OK && (err = df_socket_recv(a->link.lane, &frames)) == DF_OK) {
		struct parcel *p = calloc(1, sizeof(*p));
		if (p && frames.n_payload)
			p->payload = malloc(frames.n_payload * sizeof(struct df_blob *));
		if (!p || (frames.n_payload && !p->payload)) {
			free(p);
			err = DF_ERR_NOMEM;
		} else {
			p->header = frames.header;
			frames.header = NULL;
			for (size_t i = 0; i < frames.n_payload; i++) {
				p->payload[p->n_payload++] = frames.payload[i];
				frames.payload[i] = NULL;
			}
			pthread_mutex_lock(&a->mutex);
			list_put(&a->inbox, p);
			a->held++;
			pthread_cond_signal(&a->arrived);
			pthread_mutex_unlock(&a->mutex);
		}
		df_frames_release(&frames);
	}
	df_frames_free(&frames);
	return err == DF_ERR_NOMEM ? err : DF_OK; /* a lease that is not taken would be held for ever */
}

/* Send what the socket takes; true when something is left. */
static bool send_results(struct agent *a)
{
	for (;;) {
		pthread_mutex_lock(&a->mutex);
		struct parcel *p = a->outbox.head; /* only this thread takes from it */
		pthread_mutex_unlock(&a->mutex);
		if (!p)
			return false;
		struct df_str header = {p->header->p, p->header->n};
		if (df_socket_send(a->link.out, header, p->payload, p->n_payload) != DF_OK)
			return true;
		pthread_mutex_lock(&a->mutex);
		(void)list_take(&a->outbox);
		if (p->last) {
			a->sent++;
			a->held--;
		}
		pthread_cond_signal(&a->room);
		pthread_mutex_unlock(&a->mutex);
		parcel_free(p);
	}
}

static enum df_err link_loop(struct agent *a, struct df_fail *fail)
{
	bool backlog = false;
	/* the parent-death signal ends an orphan; where it did not come, this does */
	while (a->link.state != DF_STATE_STOP && (uint32_t)getppid() == a->h->parent_pid) {
		uint64_t now = df_clock_mono(&df_clock_real), drained;
		df_worker_link_hello(&a->link, now, a->sent, a->held);
		struct df_wait w[] = {
			{.socket = a->link.lane},
			{.socket = a->link.notices},
			{.fd = a->wake},
			{.socket = a->link.out, .want_send = true},
		};
		DF_TRY(df_wait(w, backlog ? 4 : 3, df_worker_link_timeout_ms(&a->link, now)));
		ssize_t ignored = w[2].ready ? read(a->wake, &drained, sizeof(drained)) : 0;
		(void)ignored;
		if (take_leases(a) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a lease");
		df_worker_link_notices(&a->link);
		backlog = send_results(a);
		pthread_mutex_lock(&a->mutex);
		bool failed = a->failed;
		if (failed)
			*fail = a->fail;
		pthread_mutex_unlock(&a->mutex);
		if (failed)
			return fail->code;
	}
	return DF_OK;
}

/* A document that computes for an hour does not hold a worker that was told to leave: nothing of it would be taken any more. */
static void end_compute(pthread_t thread, enum df_err err)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LEAVE_SECONDS;
	if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) != 0)
		_exit(err == DF_OK ? 0 : 1);
}

enum df_err df_agent_run(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
			 const struct df_confine *confine, struct df_fail *fail)
{
	struct agent a = {.h = h, .slot = slot, .spawner = spawner, .confine = confine};
	pthread_t thread;
	(void)pthread_mutex_init(&a.mutex, NULL);
	(void)pthread_cond_init(&a.arrived, NULL);
	(void)pthread_cond_init(&a.room, NULL);
	a.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum df_err err = a.wake < 0 ? df_fail_errno(fail, "cannot make an event descriptor")
				     : df_worker_link_open(&a.link, h, slot, fail);
	if (err == DF_OK) {
		if (pthread_create(&thread, NULL, compute, &a) != 0) {
			err = df_fail(fail, DF_ERR_NOMEM, "cannot start the compute thread");
		} else {
			err = link_loop(&a, fail);
			pthread_mutex_lock(&a.mutex);
			a.leaving = true;
			pthread_cond_broadcast(&a.arrived);
			pthread_cond_broadcast(&a.room);
			pthread_mutex_unlock(&a.mutex);
			end_compute(thread, err);
		}
		df_job_destroy(&a.job);
		df_worker_link_close(&a.link);
	}
	list_free(&a.inbox);
	list_free(&a.outbox);
	if (a.wake >= 0)
		(void)close(a.wake);
	return err;
}
