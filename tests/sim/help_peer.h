// SPDX-License-Identifier: Apache-2.0
/*
 * help_peer: a worker or a reader as a model: it answers messages as the real ones do, from the data set alone.
 *
 * A worker answers a LEASE with RESULT parts whose rows are one line "source:offset" per record that comes out, and rejects
 * likewise; it works in batches, and its slot names the batch. A reader answers READ with CELLS within its credit and SOURCE_END. Their
 * processes may end, or stand still, at any step. A remote worker's messages go through a network, and it can not be killed: control may
 * only disown it, and then it works on and speaks to nobody.
 */
#ifndef DF_TESTS_SIM_HELP_PEER_H
#define DF_TESTS_SIM_HELP_PEER_H

#include "base/arena.h"
#include "coordinator/control/effects.h"
#include "coordinator/dispatch/dispatch.h"
#include "tests/sim/help_net.h"
#include "worker/process/link.h"

struct sim_job;

struct work_item {
	uint32_t source;
	struct world_record *record;
};

struct peer {
	struct peer *next;
	struct world *world;
	struct net *net;
	struct df_heritage heritage;
	struct df_worker_link link; /* without sockets: what the real one makes of notices and leases */
	uint64_t lane;
	enum df_role role;
	bool alive, remote, disowned;
	bool unreachable;                  /* signals do not get there */
	uint64_t wake_ns, hello_ns, up_ns; /* next step; next HELLO; connected from then on */
	uint64_t frozen_ns;                /* it stands still until then */
	uint64_t slow;                     /* 1, or so many times slower than others */
	struct net_cut cut;
	struct pipe down, control, bulk, results, notices, inbox;
	uint64_t lease;                /* the last one sent to it */
	uint64_t sent, seq, hello_seq; /* last parts; messages to the sink; HELLOs */

	/* of a process that ended, until control was told */
	bool exit_due;
	uint64_t exit_ns;
	int exit_signal;
	struct df_blame blame;

	/* the message in work; it lives in arena and its frames */
	struct df_arena arena;
	struct parcel *parcel;
	struct df_msg msg;

	/* worker */
	struct work_item *item;
	size_t n_item, at, batch; /* batch: records that the slot names */
	uint64_t since_ns;        /* the batch began */
	enum fate stuck;          /* FATE_HANGER, FATE_HOG: over a record; else none */
	uint32_t part;
	uint64_t tally[4];   /* in, out, filtered, rejected */
	struct sim_job *job; /* when records have content; see help_job.h */

	/* reader */
	bool reading;
	int64_t credit;
	uint64_t cell;
};

struct peer *peer_create(struct world *w, struct net *net, enum df_role role, uint64_t lane, uint32_t epoch,
			 uint64_t now_ns);
void peer_destroy(struct peer *p);
/* One step of its life; true when it had something to do. It may end the process. */
void peer_step(struct peer *p, uint64_t now_ns);
/* The process ends now; of what it sent a tail may be lost. */
void peer_die(struct peer *p, int signal, bool crashed, uint64_t now_ns);
/* A message from the coordinator. */
void peer_receive(struct peer *p, const struct df_msg *msg, struct df_blob *const *payload, size_t n, uint64_t now_ns);
/* Nothing goes there any more; it lives on. */
void peer_disown(struct peer *p);
/* Its slot, and that its link thread runs: each second, until it ends. */
struct df_look peer_look(const struct peer *p, uint64_t now_ns);
/* When it wants to be stepped. */
uint64_t peer_next_ns(const struct peer *p);

/* A transport delay: mostly short, seldom longer than two heartbeats. */
uint64_t peer_delay(struct world *w);

/* --- between the files of the model --- */

void peer_send(struct peer *p, struct pipe *pipe, struct df_msg *msg, struct df_blob *const *payload, size_t n,
	       uint64_t now_ns);
void peer_put_away(struct peer *p); /* the message in work */
void worker_step(struct peer *p, uint64_t now_ns);
bool worker_works(const struct peer *p);
void reader_step(struct peer *p, uint64_t now_ns);

#endif
