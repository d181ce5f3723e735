// SPDX-License-Identifier: Apache-2.0
/*
 * sink: takes results, each cell exactly once, and says when they are durable. The state machine of the sink thread:
 * it is told of messages, orders and time, and answers with events; sockets, threads and the clock are the caller's.
 *
 * A result counts when all its parts up to `last` are here, its lane is not fenced, and none of its cells was taken before;
 * until then its frames are staged under (lane, lease). With `ordered` a complete result waits until all cells before
 * it are written. Counters of a result are added when its rows are written, so that a commit's totals are those of its cells.
 */
#ifndef DF_COORDINATOR_SINK_SINK_H
#define DF_COORDINATOR_SINK_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/map.h"
#include "coordinator/sink/store.h"
#include "proto/link.h"
#include "proto/messages.h"

/* What control tells the sink. */
enum df_order_type {
	DF_ORDER_LANE,   /* lane may send */
	DF_ORDER_FENCE,  /* take nothing of lane once the socket was empty; answered by FENCED */
	DF_ORDER_HELLO,  /* lane says it sent `n` last parts */
	DF_ORDER_SOURCE, /* source state: end or error, to be journalled */
	DF_ORDER_STRIKE, /* strike, to be journalled */
	DF_ORDER_FINISH, /* all cells are seen, or none will follow; n = 1: the run is complete */
	DF_ORDER_INFO,   /* what a reader said of one cell */
};

struct df_order {
	enum df_order_type type;
	uint64_t lane;
	uint64_t n;
	struct df_strike strike;
	struct df_source_state source; /* message: malloc()ed, passes to the sink; p may be NULL */
	uint64_t cell;
	struct df_cell_info info;
};

/* What the sink tells control. */
enum df_event_type {
	DF_EVENT_SEEN,     /* lane, lease, busy_ns, tally */
	DF_EVENT_FAILED,   /* lane, lease, err, message, source */
	DF_EVENT_FENCED,   /* lane */
	DF_EVENT_GAP,      /* lane lost results */
	DF_EVENT_WRITTEN,  /* ordered: cells; held_bytes */
	DF_EVENT_DONE,     /* cells became durable */
	DF_EVENT_FATAL,    /* err, message: the store or the counts are broken */
	DF_EVENT_FINISHED, /* everything is closed */
};

/* The few counters that progress shows; differences. */
struct df_tally {
	uint64_t in, out, filtered, rejected, rows, bytes_in, tokens;
};

struct df_event {
	enum df_event_type type;
	uint64_t lane, lease, busy_ns;
	enum df_err err;
	uint32_t source;
	uint64_t held_bytes;
	struct df_cells cells;
	struct df_tally tally;
	char *message; /* malloc()ed, the receiver frees; may be NULL */
};

struct df_sink_config {
	struct df_store *store; /* not owned */
	bool ordered;
	uint64_t commit_ns, commit_bytes;
	int spill_dirfd; /* where staged results above the cap go, unlinked; -1: TMPDIR */
	void (*emit)(void *self, struct df_event *event);
	void *self;
};

struct df_sink;

/* n_cell[i]: cells of source i, UINT64_MAX while unknown; `recovered` gives what earlier epochs committed. */
enum df_err df_sink_create(const struct df_sink_config *config, const uint64_t *n_cell, uint32_t n_source,
			   const struct df_recovered *recovered, struct df_sink **ret_sink) DF_MUST_CHECK;
void df_sink_destroy(struct df_sink **sink);

/* A message from the results socket; payload blobs are taken (their places nulled). Bad ones are counted and dropped. */
void df_sink_on_message(struct df_sink *s, struct df_frames *frames);
void df_sink_on_order(struct df_sink *s, const struct df_order *order);
/* Somebody outside could not do his part: the sink takes nothing more, and says FATAL. */
void df_sink_fail(struct df_sink *s, const struct df_fail *fail);
/* The results socket has just been found empty. */
void df_sink_on_empty(struct df_sink *s);
/* Begin and reap commits as they are due. */
void df_sink_tick(struct df_sink *s, uint64_t now_ns);
/* The next commit has grown as large as it may while one is in flight: read no results until that is over. */
bool df_sink_full(const struct df_sink *s);
/* When tick should be called again; UINT64_MAX: not by time. */
uint64_t df_sink_deadline(const struct df_sink *s);
bool df_sink_over(const struct df_sink *s); /* after FINISHED or FATAL */

struct df_sink_stats {
	uint64_t stale, doubled,
		malformed; /* messages dropped: of other epochs or fenced lanes; of taken cells; unreadable */
	uint64_t commits;
};

struct df_sink_stats df_sink_stats(const struct df_sink *s);
/* Totals of all epochs; call when the sink is over or from its thread. */
const struct df_map *df_sink_totals(const struct df_sink *s);

#endif
