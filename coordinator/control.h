// SPDX-License-Identifier: Apache-2.0
/*
 * control: the state machine of the coordinator's control thread. It is told of messages, deaths, the sink's events and time,
 * and acts through a table of effects (the transport); the same machine runs under simulation.
 *
 * A *peer* is one worker or reader process behind one lane: STARTING -> READY -> FENCING -> gone. Its lane is never used
 * again; a replacement is a new peer. Readers' sources are handed out one per reader; bytes in flight are bounded by credits.
 */
#ifndef DF_COORDINATOR_CONTROL_H
#define DF_COORDINATOR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/dataset.h"
#include "coordinator/dispatch.h"
#include "coordinator/sink/sink.h"
#include "proto/messages.h"

struct df_effects {
	/* To a lane; DF_ERR_AGAIN: it is full or not yet connected, try again at the next tick. */
	enum df_err (*send)(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			    size_t n);
	void (*order)(void *self, const struct df_order *order);
	enum df_err (*spawn)(void *self, enum df_role role, uint64_t lane, struct df_fail *fail);
	void (*kill)(void *self, uint64_t lane, int signal);
	void (*close_lane)(void *self, uint64_t lane); /* its process is gone, or will not be listened to again */
	void *self;
};

struct df_control_config {
	const struct df_dataset *dataset;
	struct df_grid *grid; /* recovered cells are marked already; not owned */
	struct df_effects effects;
	uint32_t epoch;
	uint32_t n_worker, n_reader_max;
	bool ordered;
	bool sequential;      /* skip, limit: sources are read one after the other */
	uint64_t skip, limit; /* records; limit UINT64_MAX: all */
	uint64_t grace_ns;
	uint64_t lease_bytes_max; /* 0: DF_LEASE_BYTES_MAX */
};

enum df_outcome {
	DF_OUTCOME_RUNNING,
	DF_OUTCOME_DONE,    /* everything has its fate, durably */
	DF_OUTCOME_STOPPED, /* early, on request; the same command goes on */
	DF_OUTCOME_FAILED,  /* see df_control_fail */
};

struct df_control;

enum df_err df_control_create(const struct df_control_config *config, const struct df_recovered *recovered,
			      struct df_control **ret_control) DF_MUST_CHECK;
void df_control_destroy(struct df_control **control);

/* Spawn the first workers and readers. */
void df_control_start(struct df_control *c, uint64_t now_ns);
/* HELLO, CELLS, SOURCE_END; others are dropped. Payload blobs are taken. */
void df_control_on_message(struct df_control *c, struct df_frames *frames, uint64_t now_ns);
/* The process of a lane has ended: `signal` 0 and its exit code, or the signal. */
void df_control_on_exit(struct df_control *c, uint64_t lane, int exit_code, int signal, const struct df_blame *blame,
			uint64_t now_ns);
/* The message in the event is freed here. */
void df_control_on_event(struct df_control *c, struct df_event *event, uint64_t now_ns);
void df_control_tick(struct df_control *c, uint64_t now_ns);
/* Stop early: lease nothing more, wait for what is out, at most grace. */
void df_control_stop(struct df_control *c, const char *reason, uint64_t now_ns);

enum df_outcome df_control_outcome(const struct df_control *c);
const struct df_fail *df_control_fail(const struct df_control *c);

struct df_control_stats {
	struct df_tally tally; /* of this epoch */
	uint32_t n_ready;      /* workers at work */
	uint64_t deaths, leases, redone, poisoned, strikes, source_errors, stale;
	uint64_t bytes_total; /* of plain files; 0 when unknown */
	uint64_t cells_done;
};

struct df_control_stats df_control_stats(const struct df_control *c);
bool df_control_wants_tick(const struct df_control *c); /* something waits for a retry in a millisecond */

#endif
