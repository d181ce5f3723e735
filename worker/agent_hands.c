// SPDX-License-Identifier: Apache-2.0
/*
 * agent_hands: the threads that compute: one, or where leases wait for the network up to DF_HANDS_MAX, of which one computes at a time.
 *
 * DESIGN. The first opens the stages, ends the confinement, and then works like any other. Others are started when a lease waits and none is
 * free, one after the other as leases begin, and stay: a pipeline that needed them once needs them again. While more calls wait than there is use
 * for, no lease begins: so memory follows the calls in flight, not the leases that were sent ahead. All share one opened pipeline; each has a job of its own, which runs
 * from lease to result with the compute turn, and leaves it only where a stage waits. Lease numbers are taken in the order in
 * which leases came, under the mutex; results come in whatever order they are done.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/agent_core.h"
#include "worker/lease/pipeline_run.h"
#include "worker/process/turn.h"

#define LEAVE_SECONDS 1 /* for threads to come to their end */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_TIMES 8 /* frames are larger */
#else
#define STACK_TIMES 1
#endif

/* The next lease that counts, its message unpacked; NULL: leave, or *ret_err. `free`: it is counted as such already. */
static struct df_parcel *next_lease(struct df_hand *hand, bool counted, struct df_msg *ret_msg, enum df_err *ret_err,
				    struct df_fail *fail)
{
	struct df_agent *a = hand->agent;
	struct df_parcel *p = NULL;
	bool mine = false;
	(void)pthread_mutex_lock(&a->mutex);
	a->n_free += !counted;
	while (!mine && *ret_err == DF_OK) {
		while (!a->inbox.n && !a->leaving)
			(void)pthread_cond_wait(&a->arrived, &a->mutex);
		p = a->leaving ? NULL : df_parcels_take(&a->inbox);
		if (!p)
			break;
		df_arena_reset(&hand->arena);
		*ret_err = df_msg_unpack((struct df_str){p->header->p, p->header->n}, &hand->arena, ret_msg, fail);
		mine = *ret_err == DF_OK && df_worker_link_takes(&a->link, ret_msg->lease);
		if (!mine) {
			a->held -= *ret_err == DF_OK;
			df_parcel_free(p);
			p = NULL;
		}
	}
	a->n_free--;
	(void)pthread_mutex_unlock(&a->mutex);
	return p;
}

/* What a lease's documents take while they wait would be taken for nothing as long as the calls of others wait, too. */
static void wait_until_calm(struct df_agent *a)
{
	uint64_t ms = DF_CALLS_LOOK_MS;
	bool leaving = false;
	(void)pthread_mutex_lock(&a->mutex);
	uint32_t n_lease = a->n_hand - a->n_free;
	(void)pthread_mutex_unlock(&a->mutex);
	if (df_network_crowded(a->network, n_lease)) {
		(void)pthread_mutex_lock(&a->mutex);
		a->n_held++;
		(void)pthread_mutex_unlock(&a->mutex);
		while (!leaving && df_network_crowded(a->network, n_lease)) {
			(void)nanosleep(&(struct timespec){.tv_nsec = (long)(ms * DF_MS)}, NULL);
			ms = 2 * ms > DF_CALLS_LOOK_MAX_MS ? DF_CALLS_LOOK_MAX_MS : 2 * ms;
			(void)pthread_mutex_lock(&a->mutex);
			leaving = a->leaving;
			n_lease = a->n_hand - a->n_free;
			(void)pthread_mutex_unlock(&a->mutex);
		}
		(void)pthread_mutex_lock(&a->mutex);
		a->n_held--;
		(void)pthread_mutex_unlock(&a->mutex);
	}
}

/* The compute turn, and then somebody else may come. */
static void begin_turn(struct df_agent *a)
{
	wait_until_calm(a);
	df_turn_begin(a->turn);
	(void)pthread_mutex_lock(&a->mutex);
	df_hands_add(a);
	(void)pthread_mutex_unlock(&a->mutex);
}

static enum df_err run_lease(struct df_hand *hand, const struct df_msg *msg, const struct df_parcel *p,
			     struct df_fail *fail)
{
	struct df_agent *a = hand->agent;
	if (a->turn)
		begin_turn(a);
	enum df_err err = df_job_run(hand->job, msg, p->payload, p->n_payload);
	if (a->turn)
		df_turn_end(a->turn);
	if (err != DF_OK)
		(void)df_fail(fail, err, "a result cannot be sent: %s", df_err_name(err));
	return err;
}

static void *end_hand(struct df_agent *a)
{
	(void)pthread_mutex_lock(&a->mutex);
	a->n_ended++;
	(void)pthread_cond_signal(&a->ended);
	(void)pthread_mutex_unlock(&a->mutex);
	return NULL;
}

static void work(struct df_hand *hand)
{
	struct df_fail fail = {0};
	struct df_msg msg;
	enum df_err err = DF_OK;
	bool first = true;
	for (struct df_parcel *p; err == DF_OK && (p = next_lease(hand, first, &msg, &err, &fail)); first = false) {
		err = run_lease(hand, &msg, p, &fail);
		df_parcel_free(p);
	}
	if (err != DF_OK && err != DF_ERR_CLOSED)
		df_agent_failed(hand->agent, &fail);
}

static enum df_err make_job(struct df_hand *hand, struct df_fail *fail)
{
	struct df_agent *a = hand->agent;
	struct df_job_config config = {
		.heritage = a->h,
		.slot = a->slot,
		.spawner = a->spawner,
		.send = df_agent_send,
		.self = a,
		.turn = a->turn,
		.pipeline = a->pipeline,
		.seq = a->turn ? &a->seq : NULL,
	};
	df_arena_init(&hand->arena, 64U << 20, a->turn ? 0 : 1U << 20);
	return df_job_create(&config, &hand->job, fail);
}

/* ------------------------------------------------------------------ the first */

/* All leases of a worker that calls out share one engine and one set of open stages. */
static enum df_err open_shared(struct df_agent *a, struct df_fail *fail)
{
	if (!a->calls)
		return DF_OK;
	if (df_turn_create(a->slot, &a->turn) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
	DF_TRY(df_network_open(a->h, &a->network, fail));
	const struct df_outside outside = {
		.caller = df_network_caller(a->network),
		.turn = a->turn,
		.stream_fd = a->h->stream ? STDOUT_FILENO : -1,
	};
	return df_pipeline_run_open(a->h, a->slot, a->spawner, &outside, &a->pipeline, fail);
}

static void *first_hand(void *self)
{
	struct df_hand *hand = self;
	struct df_agent *a = hand->agent;
	struct df_fail fail = {0};
	enum df_err err = open_shared(a, &fail);
	if (err == DF_OK)
		err = make_job(hand, &fail);
	if (err == DF_OK && a->confine)
		err = df_confine_end(a->confine, &fail);
	if (err != DF_OK) {
		df_agent_failed(a, &fail);
		return end_hand(a);
	}
	(void)pthread_mutex_lock(&a->mutex);
	a->opened = true;
	df_hands_add(a);
	(void)pthread_mutex_unlock(&a->mutex);
	work(hand);
	return end_hand(a);
}

enum df_err df_hands_start(struct df_agent *a, struct df_fail *fail)
{
	a->hand_max = a->calls ? DF_HANDS_MAX : 1;
	a->n_hand = a->n_free = 1;
	a->hand[0].agent = a;
	if (pthread_create(&a->hand[0].thread, NULL, first_hand, &a->hand[0]) == 0)
		return DF_OK;
	a->n_hand = 0;
	return df_fail(fail, DF_ERR_NOMEM, "cannot start the compute thread");
}

/* ------------------------------------------------------------------ the others */

/* For one that cannot work there are others, and there will be no more of them. */
static void *other_hand(void *self)
{
	struct df_hand *hand = self;
	struct df_agent *a = hand->agent;
	struct df_fail fail = {0};
	df_turn_begin(a->turn);
	enum df_err err = make_job(hand, &fail);
	df_turn_end(a->turn);
	if (err == DF_OK) {
		work(hand);
		return end_hand(a);
	}
	df_debug("a worker goes on with fewer threads: %s", fail.msg);
	(void)pthread_mutex_lock(&a->mutex);
	a->n_free--;
	a->hand_max = a->n_hand;
	(void)pthread_cond_signal(&a->arrived);
	(void)pthread_mutex_unlock(&a->mutex);
	return end_hand(a);
}

void df_hands_add(struct df_agent *a)
{
	pthread_attr_t attr;
	if (!a->opened || a->leaving || a->n_hand >= a->hand_max || !a->inbox.n || a->n_free || a->n_held)
		return;
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstacksize(&attr, (size_t)STACK_TIMES * DF_NETWORK_STACK_BYTES);
	struct df_hand *hand = &a->hand[a->n_hand];
	hand->agent = a;
	if (pthread_create(&hand->thread, &attr, other_hand, hand) == 0) {
		a->n_hand++;
		a->n_free++;
	} else {
		a->hand_max = a->n_hand;
	}
	(void)pthread_attr_destroy(&attr);
}

void df_hands_end(struct df_agent *a, enum df_err err)
{
	struct timespec until;
	/* What is out is paid for: where its answers are kept, a run that ends without having stopped waits a moment for them. */
	uint64_t grace_ms = a->network && !a->draining && (a->h->cached || a->h->record.n) ? DF_CALLS_LEAVE_MS : 0;
	if (a->network)
		df_network_stop(a->network, grace_ms * DF_MS); /* whoever waits for an answer wakes up */
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += LEAVE_SECONDS + (time_t)(grace_ms / 1000);
	(void)pthread_mutex_lock(&a->mutex);
	int late = 0;
	while (a->n_ended < a->n_hand && late == 0)
		late = pthread_cond_clockwait(&a->ended, &a->mutex, CLOCK_MONOTONIC, &until);
	bool all = a->n_ended == a->n_hand;
	(void)pthread_mutex_unlock(&a->mutex);
	if (!all) {
		if (a->network)
			df_network_keep(a->network);
		_exit(err == DF_OK ? 0 : 1);
	}
	for (uint32_t i = 0; i < a->n_hand; i++) {
		(void)pthread_join(a->hand[i].thread, NULL);
		df_job_destroy(&a->hand[i].job);
		df_arena_release(&a->hand[i].arena);
	}
	df_pipeline_run_close(&a->pipeline);
	df_network_close(&a->network);
	df_turn_destroy(&a->turn);
}
