// SPDX-License-Identifier: Apache-2.0
/*
 * agent: a worker process: the link thread owns sockets and heartbeat, a compute thread runs jobs (many threads, one at a time, where
 * leases wait for the network: agent_hands.c).
 *
 * DESIGN. Two bounded queues between the threads, each under `mutex`: `inbox` (leases: never more than a lane's credits and
 * DF_LANE_REDO_CREDITS arrive) and `outbox` (messages to the sink, bounded by bytes: the compute thread waits for room, which is how
 * back-pressure from the sink reaches it). `wake` tells the link thread that the outbox has something. A compute thread waits without
 * a deadline, for a lease or for room; what ends each wait is the link thread's `leaving`, and that thread waits for a HELLO's time at most.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/agent_core.h"

#define OUTBOX_BYTES (4U << 20)

static atomic_bool told_to_leave;
static atomic_int leave_fd = -1; /* wakes the link thread */

void df_agent_leave(void)
{
	int e = errno;
	atomic_store(&told_to_leave, true);
	(void)eventfd_write(atomic_load(&leave_fd), 1);
	errno = e;
}

void df_parcel_free(struct df_parcel *p)
{
	if (!p)
		return;
	df_blob_unref(&p->header);
	for (size_t i = 0; i < p->n_payload; i++)
		df_blob_unref(&p->payload[i]);
	free(p->payload);
	free(p);
}

static void parcels_put(struct df_parcels *l, struct df_parcel *p)
{
	if (!l->head)
		l->tail = &l->head;
	p->next = NULL;
	*l->tail = p;
	l->tail = &p->next;
	l->n++;
	l->bytes += p->bytes;
}

struct df_parcel *df_parcels_take(struct df_parcels *l)
{
	struct df_parcel *p = l->head;
	if (p) {
		l->head = p->next;
		l->n--;
		l->bytes -= p->bytes;
	}
	return p;
}

static void parcels_free(struct df_parcels *l)
{
	for (struct df_parcel *p = df_parcels_take(l); p; p = df_parcels_take(l))
		df_parcel_free(p);
}

static void wake_link(struct df_agent *a)
{
	uint64_t one = 1;
	ssize_t ignored = write(a->wake, &one, sizeof(one));
	(void)ignored;
}

/* ------------------------------------------------------------------ on a compute thread */

static struct df_parcel *make_parcel(struct df_str header, struct df_blob **payload, size_t n)
{
	struct df_parcel *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->header = df_blob_copy(header.p, header.n);
	p->payload = n ? malloc(n * sizeof(struct df_blob *)) : NULL;
	if (!p->header || (n && !p->payload)) {
		df_parcel_free(p);
		return NULL;
	}
	p->bytes = header.n;
	for (size_t i = 0; i < n; i++) {
		p->payload[p->n_payload++] = payload[i];
		p->bytes += payload[i]->n;
	}
	return p;
}

enum df_err df_agent_send(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last)
{
	struct df_agent *a = self;
	struct df_parcel *p = make_parcel(df_buf_str(header), payload, n);
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
		parcels_put(&a->outbox, p);
	pthread_mutex_unlock(&a->mutex);
	if (leaving) {
		df_parcel_free(p);
		return DF_ERR_CLOSED;
	}
	wake_link(a);
	return DF_OK;
}

void df_agent_failed(struct df_agent *a, const struct df_fail *fail)
{
	pthread_mutex_lock(&a->mutex);
	a->failed = true;
	a->fail = *fail;
	pthread_mutex_unlock(&a->mutex);
	wake_link(a);
}

/* ------------------------------------------------------------------ the link thread */

static enum df_err take_leases(struct df_agent *a)
{
	struct df_frames frames = {0};
	enum df_err err = DF_OK;
	while (err == DF_OK && (err = df_socket_recv(a->link.lane, &frames)) == DF_OK) {
		struct df_parcel *p = calloc(1, sizeof(*p));
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
			parcels_put(&a->inbox, p);
			a->held++;
			df_hands_add(a);
			pthread_cond_signal(&a->arrived);
			pthread_mutex_unlock(&a->mutex);
		}
		df_frames_release(&frames);
	}
	df_frames_free(&frames);
	return err == DF_ERR_NOMEM ? err : DF_OK; /* a lease that is not taken would be held for ever */
}

/* Send what the socket takes; true when something is left. */
static bool send_results(struct df_agent *a)
{
	for (;;) {
		pthread_mutex_lock(&a->mutex);
		struct df_parcel *p = a->outbox.head; /* only this thread takes from it */
		pthread_mutex_unlock(&a->mutex);
		if (!p)
			return false;
		struct df_str header = {p->header->p, p->header->n};
		if (df_socket_send(a->link.out, header, p->payload, p->n_payload) != DF_OK)
			return true;
		pthread_mutex_lock(&a->mutex);
		(void)df_parcels_take(&a->outbox);
		if (p->last) {
			a->sent++;
			a->held--;
		}
		pthread_cond_signal(&a->room);
		pthread_mutex_unlock(&a->mutex);
		df_parcel_free(p);
	}
}

static void say_hello(struct df_agent *a, uint64_t now_ns)
{
	pthread_mutex_lock(&a->mutex);
	uint32_t held = a->held;
	/* opened by a compute thread, which said so under the mutex */
	struct df_network *network = a->opened ? a->network : NULL;
	pthread_mutex_unlock(&a->mutex);
	if (network)
		df_network_note(network, a->slot);
	df_worker_link_hello(&a->link, now_ns, a->sent, held);
}

/* The run comes to an end: calls that have not been sent are not sent any more. Without a cache, answers would be lost with the leases whose
 * other calls wait: then all have their time, but those that wait for who does not answer. */
static void drain(struct df_agent *a)
{
	pthread_mutex_lock(&a->mutex);
	struct df_network *network = a->opened ? a->network : NULL;
	pthread_mutex_unlock(&a->mutex);
	if (a->link.state == DF_STATE_RUN || a->draining || !network)
		return;
	a->draining = true;
	if (a->h->cached)
		df_network_stop(network, a->h->grace_ns);
	else
		df_network_hurry(network);
}

static enum df_err link_loop(struct df_agent *a, struct df_fail *fail)
{
	bool backlog = false;
	/* the parent-death signal ends an orphan; where it did not come, this does */
	while (a->link.state != DF_STATE_STOP && !atomic_load(&told_to_leave) &&
	       (uint32_t)getppid() == a->h->parent_pid) {
		uint64_t now = df_clock_mono(&df_clock_real), drained;
		say_hello(a, now);
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
		drain(a);
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

enum df_err df_agent_run(const struct df_heritage *h, struct df_slot *slot, struct df_spawner *spawner,
			 const struct df_confine *confine, bool calls, struct df_fail *fail)
{
	static struct df_agent a; /* it is large, and the only one */
	a = (struct df_agent){.h = h, .slot = slot, .spawner = spawner, .confine = confine, .calls = calls};
	(void)pthread_mutex_init(&a.mutex, NULL);
	(void)pthread_cond_init(&a.arrived, NULL);
	(void)pthread_cond_init(&a.room, NULL);
	(void)pthread_cond_init(&a.ended, NULL);
	a.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	atomic_store(&leave_fd, a.wake);
	enum df_err err = a.wake < 0 ? df_fail_errno(fail, "cannot make an event descriptor")
				     : df_worker_link_open(&a.link, h, slot, fail);
	if (err == DF_OK) {
		err = df_hands_start(&a, fail);
		if (err == DF_OK)
			err = link_loop(&a, fail);
		pthread_mutex_lock(&a.mutex);
		a.leaving = true;
		pthread_cond_broadcast(&a.arrived);
		pthread_cond_broadcast(&a.room);
		pthread_mutex_unlock(&a.mutex);
		df_hands_end(&a, err);
		df_worker_link_close(&a.link);
	}
	parcels_free(&a.inbox);
	parcels_free(&a.outbox);
	atomic_store(&leave_fd, -1);
	if (a.wake >= 0)
		(void)close(a.wake);
	return err;
}
