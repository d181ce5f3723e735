// SPDX-License-Identifier: Apache-2.0
/*
 * turn: one compute turn, passed among the threads of a worker whose pipeline waits for the network.
 *
 * Each lease of such a pipeline has a thread of its own, but only the one that has the turn computes: stages are as alone as in any other worker. A
 * stage that waits for answers leaves the turn and takes it again afterwards. Slot and deadline (proto/heritage.h) cover the turn's
 * holder alone: leaving ends the slot's entry, taking it again begins it anew, so that a document that waits is never a suspect.
 *
 * The turn goes to those that ask for it in the order in which they ask. Time between leaving and having it again is waiting, and told
 * apart from computing (df_turn_waited_ns).
 */
#ifndef DF_WORKER_PROCESS_TURN_H
#define DF_WORKER_PROCESS_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct df_compute_turn;
struct df_slot;

/* What the holder was at; kept by it while it waits. */
struct df_turn_pause {
	uint64_t lease, source, offset, n_record, alone, stage;
	bool computing;     /* the slot had an entry */
	uint64_t left_ns;   /* when the turn was left */
	uint64_t waited_ns; /* before that */
};

/* The slot outlives the turn. DF_ERR_NOMEM. */
enum df_err df_turn_create(struct df_slot *slot, struct df_compute_turn **ret_turn) DF_MUST_CHECK;
void df_turn_destroy(struct df_compute_turn **turn); /* nobody has it or waits for it; accepts NULL */

/* For a piece of work, and at its end. */
void df_turn_begin(struct df_compute_turn *t);
void df_turn_end(struct df_compute_turn *t);

/* Within it: around a wait. Both are the holder's alone. */
void df_turn_leave(struct df_compute_turn *t, struct df_turn_pause *pause);
void df_turn_take(struct df_compute_turn *t, const struct df_turn_pause *pause);

/* What the holder has waited since its df_turn_begin. */
uint64_t df_turn_waited_ns(const struct df_compute_turn *t);

#endif
