// SPDX-License-Identifier: Apache-2.0
/*
 * effects: how the control thread's state machine acts upon the world and looks at it: sockets, the sink, processes. The
 * coordinator's real ones are in run_start.c, model ones in the simulation.
 */
#ifndef DF_COORDINATOR_CONTROL_EFFECTS_H
#define DF_COORDINATOR_CONTROL_EFFECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "coordinator/sink/sink.h"
#include "proto/heritage.h"
#include "proto/messages.h"

/* What to look for beyond the slot, since it costs a file of /proc each. */
enum df_look_want { DF_LOOK_STOPPED = 1, DF_LOOK_MEMORY = 2 };

/* A child as its slot and the kernel show it at one moment; the slot's fields belong together. */
struct df_look {
	bool computing; /* between begin and end of a batch */
	bool alone;     /* a single record, alone in its lease */
	bool stopped;   /* SIGSTOP or a debugger; when wanted */
	uint64_t seq;   /* of the slot: the same batch while it is unchanged */
	uint64_t
		since_ns; /* of the monotonic clock: begin, or the last sign of progress; DF_SLOT_WAITS: for the sink */
	uint64_t alive;   /* rises while the child's link thread runs */
	uint64_t lease;
	struct df_record_id record; /* the first of the batch */
	uint64_t n_record;
	uint32_t stage;
	uint64_t memory_bytes;                         /* its own: resident, backed by no file; when wanted */
	uint64_t calls_moved, calls_out, calls_due_ns; /* as in the slot */
	uint64_t calls_sent, calls_until_ns;
	enum df_calls_wait calls_wait;
};

struct df_effects {
	/* To a lane; DF_ERR_AGAIN: it is full or not yet connected, try again at the next tick. */
	enum df_err (*send)(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			    size_t n);
	void (*order)(void *self, const struct df_order *order);
	/* A failure is tried again. */
	enum df_err (*spawn)(void *self, enum df_role role, uint64_t lane, struct df_fail *fail);
	void (*kill)(void *self, uint64_t lane, int signal);
	void (*close_lane)(void *self, uint64_t lane); /* its process is gone, or will not be listened to again */
	void *self;
	/* Look at a lane's process; lane 0: at the coordinator's own (memory only). False: there is nothing to see. `want`: enum
	 * df_look_want. The pointer may be NULL: nobody can be watched then. */
	bool (*look)(void *self, uint64_t lane, unsigned want, struct df_look *ret_look);
	/* The sink waits for whoever reads the output, and that may take any time. May be NULL: never. */
	bool (*output_waits)(void *self);
};

#endif
