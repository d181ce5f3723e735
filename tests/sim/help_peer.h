// SPDX-License-Identifier: Apache-2.0
/*
 * help_peer: a worker or a reader as a model: it answers messages as the real ones do, from the data set alone.
 *
 * A worker answers a LEASE with RESULT parts whose rows are one line "source:offset" per record that comes out, and rejects
 * likewise; it works in batches, and its slot names the batch. A reader answers READ with CELLS within its credit and SOURCE_END. Their
 * processes may end at any step.
 */
#ifndef DF_TESTS_SIM_HELP_PEER_H
#define DF_TESTS_SIM_HELP_PEER_H

#include "base/arena.h"
#include "coordinator/dispatch.h"
#include "tests/sim/help_pipe.h"
#include "tests/sim/help_world.h"

struct work_item {
	uint32_t source;
	const struct world_record *record;
};

struct peer {
	struct peer *next;
	struct world *world;
	uint64_t lane;
	uint32_t epoch;
	enum df_role role;
	bool alive;
	uint64_t wake_ns, hello_ns, up_ns; /* next step; next HELLO; connected from then on */
	struct pipe down, control, bulk, results;
	uint64_t sent, seq; /* last parts; messages to the sink */

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
	uint32_t part;
	uint64_t tally[4]; /* in, out, filtered, rejected */

	/* reader */
	bool reading;
	int64_t credit;
	uint64_t cell;
};

struct peer *peer_create(struct world *w, enum df_role role, uint64_t lane, uint32_t epoch, uint64_t now_ns);
void peer_destroy(struct peer *p);
/* One step of its life; true when it had something to do. It may end the process. */
void peer_step(struct peer *p, uint64_t now_ns);
/* The process ends now; of what it sent a tail may be lost. */
void peer_die(struct peer *p, int signal, bool crashed, uint64_t now_ns);
/* When it wants to be stepped. */
uint64_t peer_next_ns(const struct peer *p);

/* A transport delay: mostly short, seldom longer than two heartbeats. */
uint64_t peer_delay(struct world *w);

#endif
