// SPDX-License-Identifier: Apache-2.0
/*
 * agent_core: what agent.c (the link thread, and what passes between the threads) and agent_hands.c (the threads that compute) share. Private to
 * them.
 */
#ifndef DF_WORKER_AGENT_CORE_H
#define DF_WORKER_AGENT_CORE_H

#include <pthread.h>

#include "base/limits.h"
#include "worker/lease/job.h"
#include "worker/process/link.h"
#include "worker/network.h"
#include "worker/role.h"

#define DF_HANDS_MAX (DF_LANE_CREDITS_NETWORK + DF_LANE_REDO_CREDITS)

struct df_parcel {
	struct df_parcel *next;
	struct df_blob *header;
	struct df_blob **payload;
	size_t n_payload, bytes;
	bool last; /* counts in HELLO's `sent` */
};

struct df_parcels {
	struct df_parcel *head, **tail;
	size_t n, bytes;
};

struct df_agent;

/* A thread that computes. */
struct df_hand {
	struct df_agent *agent;
	pthread_t thread;
	struct df_job *job;
	struct df_arena arena; /* of the lease's message */
};

struct df_agent {
	const struct df_heritage *h;
	struct df_worker_link link;
	struct df_slot *slot;
	struct df_spawner *spawner;
	const struct df_confine *confine;
	pthread_mutex_t mutex;  /* of what follows, up to `fail` */
	pthread_cond_t arrived; /* inbox has a lease, or leaving */
	pthread_cond_t room;    /* outbox has room, or leaving */
	pthread_cond_t ended;   /* a thread that computes has */
	struct df_parcels inbox, outbox;
	uint32_t held;   /* leases taken and not answered */
	bool opened;     /* the stages are, and the process has given up what it does not need */
	uint32_t n_hand; /* threads started; n_ended of them have come to their end */
	uint32_t n_ended;
	uint32_t n_free; /* of them, those that wait for a lease, or are about to */
	uint32_t n_held; /* of them, those that have one and wait until fewer calls do */
	uint32_t hand_max;
	bool leaving, failed;
	struct df_fail fail;

	struct df_hand hand[DF_HANDS_MAX];
	int wake;
	uint64_t sent;
	bool draining;
	/* Of a pipeline that waits for the network; else NULL and 0. */
	bool calls;
	struct df_network *network;
	struct df_compute_turn *turn;
	struct df_pipeline_run *pipeline;
	uint64_t seq; /* of messages; whoever has the turn */
};

/* agent.c */
void df_parcel_free(struct df_parcel *p);
struct df_parcel *df_parcels_take(struct df_parcels *l);
/* Called by jobs; waits for room, so that results never pile up behind a slow sink. */
enum df_err df_agent_send(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last);
void df_agent_failed(struct df_agent *a, const struct df_fail *fail);

/* agent_hands.c */
enum df_err df_hands_start(struct df_agent *a, struct df_fail *fail) DF_MUST_CHECK;
/* One more when leases wait and none is free for them, nor is held up: the next one comes when this one has begun. Under the mutex. */
void df_hands_add(struct df_agent *a);
/* They were told to leave; a document that computes for an hour does not hold a worker: the process ends then, with code 0 or 1. */
void df_hands_end(struct df_agent *a, enum df_err err);

#endif
