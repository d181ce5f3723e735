// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch: which cells go to which lane, when, and again. A pure state machine of the control thread: every decision is
 * a function of the calls made and the times given; no I/O, no clocks, no processes.
 *
 * PENDING cells are of three sorts: *redo* (lost with a lane; first), cells that readers delivered, and *fresh* cells of plain files
 * behind a cursor. A lease is sized to about target_ms of work by a running mean of what the lane's results cost, within the limits
 * of base/limits.h. A suspect cell is leased alone, to a lane that holds nothing else. What was lost goes to the lane that will come
 * to it soonest, above its credits when need be.
 *
 * With `waits` (the pipeline waits for the network), what work costs says nothing about how long it takes: leases are of a few cells whatever
 * lane they go to, spread evenly over lanes, answered in any order, and none is late; what was lost goes to the lane that holds least.
 *
 * With `tail_redo`, an idle lane for which there is nothing else gets a *twin* of the oldest lease on a lane that is late. The first
 * whole result of the two counts; the other lease is *void* from then on: it holds no cells, and nobody waits for it.
 */
#ifndef DF_COORDINATOR_DISPATCH_DISPATCH_H
#define DF_COORDINATOR_DISPATCH_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "coordinator/cells/grid.h"
#include "proto/blob.h"
#include "proto/messages.h"

struct df_dispatch;

struct df_dispatch_config {
	struct df_grid *grid;     /* not owned; outlives the dispatch */
	uint64_t target_ns;       /* work per lease */
	uint64_t lease_bytes_max; /* input bytes of one lease */
	uint32_t credits;         /* leases a lane may hold */
	uint64_t window_bytes;    /* -k: input bytes leased and not yet written out; 0: no order kept */
	uint32_t n_lane_hint;     /* workers: the tail is cut finer so that all end together */
	bool tail_redo;           /* the pipeline has no side effects: late work may be done twice */
	bool waits;               /* for the network: many small leases at once; no twins, whatever tail_redo says */
};

/* A lease as it is sent. Owned by the dispatch until seen, failed, retired or dropped as void. */
struct df_lease {
	uint64_t id, lane;
	uint32_t flags;         /* DF_LEASE_ALONE, DF_LEASE_REDO */
	struct df_cells *cells; /* n_cells runs, each of one source */
	size_t n_cells, cap_cells;
	struct df_blob **blob; /* readers' cells, in order; owned */
	size_t n_blob, cap_blob;
	uint64_t bytes; /* input bytes */
	uint64_t sent_ns;
	uint32_t attempts;     /* failures so far of the unluckiest cell in it */
	uint32_t kills;        /* by strangers, likewise */
	uint64_t lost_ns;      /* when the first process died whose work is in it (df_dispatch_lost); 0: none did */
	bool suspect;          /* it ended a process, or may have: should it come back, each cell goes alone */
	bool is_void;          /* its twin was seen: no cell is held by it */
	struct df_lease *twin; /* the other lease with the same cells, while both are out; not owned */
};

/* A lease that took long. */
struct df_slow {
	uint32_t source;
	uint64_t first, n_cells, bytes, busy_ns, lane;
};

/* What a dead worker's blame slot said. */
struct df_blame {
	enum df_cause cause;
	uint32_t detail;        /* see enum df_cause */
	uint32_t stage;         /* DF_NO_STAGE */
	bool computing;         /* the slot was in use */
	bool alone;             /* a single record was in work, alone in its lease */
	uint64_t seq, since_ns; /* of the slot: the same batch, the same sign of progress */
	uint64_t lease;
	struct df_record_id record; /* the first of the batch */
	bool shown;                 /* text of an answer went to stdout (--stream) */
	const char *
		last_words; /* of a child that could not start and no other could; NULL: none; valid during df_control_on_exit */
};

enum df_err df_dispatch_create(const struct df_dispatch_config *config,
			       struct df_dispatch **ret_dispatch) DF_MUST_CHECK;
void df_dispatch_destroy(struct df_dispatch **dispatch);

enum df_err df_dispatch_add_lane(struct df_dispatch *d, uint64_t lane) DF_MUST_CHECK;

/* The next lease for a lane; DF_ERR_AGAIN: no credit, or nothing to do now. */
enum df_err df_dispatch_next(struct df_dispatch *d, uint64_t lane, uint64_t now_ns,
			     const struct df_lease **ret_lease) DF_MUST_CHECK;

/* The sink has the whole result; busy_ns is what the worker says it cost. Unknown leases are ignored. */
void df_dispatch_seen(struct df_dispatch *d, uint64_t lane, uint64_t lease, uint64_t busy_ns);
/* True when the lease is void, and then it is dropped: its worker could not answer, or it was never sent. */
bool df_dispatch_drop_void(struct df_dispatch *d, uint64_t lane, uint64_t lease);
/* -k: rows of these cells are written out; the window moves. */
void df_dispatch_written(struct df_dispatch *d, struct df_cells cells);
/* -k: the sink holds this many result bytes back; above the window's cap nothing fresh is leased. */
void df_dispatch_set_held(struct df_dispatch *d, uint64_t held_bytes);

/* The worker could not answer. Cells go back to pending; *ret_attempts counts their failures (the caller gives up at 3).
 * `counts` false: a source's own error, for which its neighbours in the lease are not to blame. While a twin lives, it holds the
 * cells on, and *ret_attempts is 0. */
enum df_err df_dispatch_failed(struct df_dispatch *d, uint64_t lane, uint64_t lease, bool counts,
			       uint32_t *ret_attempts) DF_MUST_CHECK;
/* Drop a failed source's pending cells (df_grid_fail was called). */
void df_dispatch_drop_source(struct df_dispatch *d, uint32_t source);
/* Some lease that is out has cells of this source. */
bool df_dispatch_source_out(const struct df_dispatch *d, uint32_t source);

/* The process of a lane has ended: it gets nothing more, and what it holds waits for df_dispatch_retire. */
void df_dispatch_lost(struct df_dispatch *d, uint64_t lane, uint64_t now_ns);
/* Some work that was lost has no lane yet. */
bool df_dispatch_redo_waits(const struct df_dispatch *d);

/* The lane is gone and fenced at the sink: what it held is pending again. A strike is reported in *ret_strike with all of
 * its record's so far (n >= DF_STRIKES_MAX: it is poison now); n = 0: there was none. */
enum df_err df_dispatch_retire(struct df_dispatch *d, uint64_t lane, const struct df_blame *blame,
			       struct df_strike *ret_strike) DF_MUST_CHECK;

/* A reader's cell arrived; takes over the reference. */
enum df_err df_dispatch_cell(struct df_dispatch *d, uint32_t source, uint64_t cell, struct df_blob *blob) DF_MUST_CHECK;
/* -k: the source whose cells are leased now; readers of later ones must wait. UINT32_MAX without -k. */
uint32_t df_dispatch_turn(const struct df_dispatch *d);
uint64_t df_dispatch_reader_bytes(const struct df_dispatch *d); /* readers' bytes held: pending and leased */

/* What an earlier epoch knew. */
enum df_err df_dispatch_add_strike(struct df_dispatch *d, const struct df_strike *strike) DF_MUST_CHECK;
/* The poison records that lie in a lease's sources, for the message; at most DF_POISON_PER_LEASE. */
size_t df_dispatch_poison(const struct df_dispatch *d, const struct df_lease *lease, struct df_strike *ret_poison);

uint32_t df_dispatch_held(const struct df_dispatch *d, uint64_t lane); /* leases of one lane, void ones too */
uint32_t df_dispatch_n_leased(const struct df_dispatch *d);            /* of all lanes, void ones excepted */
/* Nothing pending and nothing leased: what remains is waiting for readers or for the disk. */
bool df_dispatch_idle(const struct df_dispatch *d);
/* Workers that crashed over one and the same cell with no document in work (while reading or sending): the most of any cell. */
uint32_t df_dispatch_crashes(const struct df_dispatch *d);
size_t df_dispatch_n_poison(const struct df_dispatch *d);
uint64_t df_dispatch_strikes(const struct df_dispatch *d);
uint64_t df_dispatch_n_twin(const struct df_dispatch *d); /* twins made so far */
/* The slowest leases that were seen, slowest first; returns how many, at most `max` (and 8). */
size_t df_dispatch_slowest(const struct df_dispatch *d, struct df_slow *ret, size_t max);

#endif
