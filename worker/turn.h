// SPDX-License-Identifier: Apache-2.0
/*
 * turn: one compute turn, passed among the threads of a worker whose pipeline waits for the network.
 *
 * Each lease of such a pipeline has a thread of its own, but only the one that has the turn computes: stages are as alone as in any other worker. A
 * stage that waits for answers leaves the turn and takes it again afterwards. Slot and deadline (proto/heritage.h) cover the turn's
 * holder alone: leaving ends the slot's entry, taking it again begins it anew, so that a document that waits is never a suspect.
 */
#ifndef DF_WORKER_TURN_H
#define DF_WORKER_TURN_H

#include <stdint.h>

struct df_compute_turn;

/* What the holder was at; kept by it while it waits. */
struct df_turn_pause {
	uint64_t lease, source, offset, n_record, alone, stage;
};

void df_turn_leave(struct df_compute_turn *t, struct df_turn_pause *pause);
void df_turn_take(struct df_compute_turn *t, const struct df_turn_pause *pause);

#endif
