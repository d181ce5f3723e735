// SPDX-License-Identifier: Apache-2.0
/*
 * control: the state machine of the coordinator's control thread. It is told of messages, deaths, the sink's events and time,
 * and acts through a table of effects (the transport); the same machine runs under simulation.
 *
 * A *peer* is one worker or reader process behind one lane: STARTING -> READY -> FENCING -> gone. Its lane is never used
 * again; a replacement is a new peer. Peers that compute for too long, fall silent, are stopped or take too much memory are killed.
 * Readers' sources are handed out one per reader; bytes in flight are bounded by credits.
 */
#ifndef DF_COORDINATOR_CONTROL_CONTROL_H
#define DF_COORDINATOR_CONTROL_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pipeline.h"
#include "coordinator/cells/dataset.h"
#include "coordinator/control/effects.h"
#include "coordinator/dispatch/dispatch.h"
#include "proto/messages.h"

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
	uint64_t lease_bytes_max;           /* 0: DF_LEASE_BYTES_MAX */
	bool tail_redo;                     /* the pipeline has no side effects: late work may be done twice */
	bool waits;                         /* the pipeline waits for the network (dispatch.h) */
	const struct df_pipeline *pipeline; /* names of stages, for messages; may be NULL */
	uint64_t doc_timeout_ns;            /* computing for longer without a sign of progress; 0: for ever */
	uint64_t mem_limit, mem_share;      /* bytes: of all processes, of one child; 0: no limit (memory.h) */
	uint64_t stall_ns; /* nothing has moved: the run ends. 0: DF_STALL_MS, or four deadlines when that is more */
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

/* A budget or a limit of the day is used up, and the run stops for it as if asked to: what the first call that met it said. NULL: not so. */
const struct df_fail *df_control_quota(const struct df_control *c);

enum df_outcome df_control_outcome(const struct df_control *c);
const struct df_fail *df_control_fail(const struct df_control *c);

struct df_control_stats {
	struct df_tally tally; /* of this epoch */
	uint32_t n_ready;      /* workers at work */
	uint64_t deaths, leases, redone, poisoned, strikes, source_errors, stale;
	uint64_t twins;                        /* late work that was given out a second time */
	uint64_t deadline_kills, memory_kills; /* processes that the run itself ended */
	uint64_t memory_bytes;                 /* of all processes, own and resident, when last looked at */
	uint64_t bytes_total;                  /* of plain files; 0 when unknown */
	uint64_t cells_done;
};

struct df_control_stats df_control_stats(const struct df_control *c);
/* As df_dispatch_slowest. */
size_t df_control_slowest(const struct df_control *c, struct df_slow *ret, size_t max);
bool df_control_wants_tick(const struct df_control *c); /* something waits for a retry in a millisecond */
/* How long the caller may wait for events before the next tick. */
int df_control_wait_ms(const struct df_control *c, uint64_t now_ns);

#endif
