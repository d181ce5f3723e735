// SPDX-License-Identifier: Apache-2.0
/*
 * dispatch_core: what the files of the dispatch share, and nobody else sees.
 *
 *   dispatch.c        life, lanes, what a lane gets next
 *   dispatch_lease.c  leases that are out: answers, twins, putting back
 *   dispatch_blame.c  deaths: suspects, strikes, poison
 *   dispatch_pace.c   what work costs on each lane: sizes, who is late, who comes to it soonest
 *   dispatch_spread.c the same questions where work waits for the network
 */
#ifndef DF_COORDINATOR_DISPATCH_DISPATCH_CORE_H
#define DF_COORDINATOR_DISPATCH_DISPATCH_CORE_H

#include "coordinator/dispatch/dispatch.h"
#include "coordinator/dispatch/work_queue.h"

#define DF_SLOWEST 8

struct df_lane {
	uint64_t id;
	uint32_t held;
	bool alone; /* holds a suspect */
	bool lost;  /* its process is gone */
	uint64_t lost_ns;
	uint64_t bytes;     /* of all that it holds */
	double ns_per_byte; /* running mean of its own results; 0: none yet */
	/* What it is at, as far as can be told from here: leases are answered in the order in which they went (not where they wait for the network,
	 * and there nobody asks). */
	uint64_t head, head_bytes;
	uint64_t since_ns; /* 0: not looked at since the last answer */
};

struct df_dispatch {
	struct df_dispatch_config config;
	struct df_lane *lane;
	size_t n_lane, cap_lane;
	struct df_lease **lease; /* all that are out, void ones too */
	size_t n_lease, cap_lease;
	size_t n_void;          /* of them */
	struct df_lease *spare; /* one kept for reuse */
	uint64_t next_lease;
	struct df_work_queue alone, redo, ready;
	uint32_t fresh_source; /* sources before it have no fresh cells left */
	uint64_t fresh_bytes;  /* plain bytes still behind the cursor, for the tail; an upper bound */
	uint64_t fresh_cells;  /* likewise */
	double rate;           /* bytes per ns of all lanes with a mean; n_rate of them */
	size_t n_rate;
	double last_cost;     /* ns per byte of the last lane that had a mean, when none has */
	uint64_t window_used; /* -k: bytes leased and not written */
	uint64_t held_bytes;
	uint64_t reader_bytes;
	uint64_t n_twin;
	struct df_strike *strike; /* records with one or more */
	size_t n_strike, cap_strike;
	size_t n_poison; /* of them */
	uint64_t strikes;
	uint32_t crashes;                /* outside of documents, over one cell at most */
	struct df_slow slow[DF_SLOWEST]; /* slowest first */
	size_t n_slow;
};

/* dispatch.c */
struct df_lane *df_dispatch_lane(const struct df_dispatch *d, uint64_t lane); /* NULL: unknown */
uint64_t df_dispatch_bytes(const struct df_dispatch *d, struct df_cells cells);
void df_dispatch_window_release(struct df_dispatch *d, uint64_t bytes);

/* dispatch_lease.c */
struct df_lease *df_lease_blank(struct df_dispatch *d); /* NULL: no memory */
enum df_err df_lease_take(struct df_lease *l, struct df_cells cells, struct df_blob *blob,
			  uint64_t bytes) DF_MUST_CHECK;
void df_lease_done_with(struct df_dispatch *d, struct df_lease *l);
void df_lease_free(struct df_lease *l);
/* Out of the list and off its lane; the caller's now. */
struct df_lease *df_lease_remove(struct df_dispatch *d, size_t at);
/* What it holds is pending again, unless its twin holds it too; the lease is done with, whatever is returned. */
enum df_err df_lease_put_back(struct df_dispatch *d, struct df_lease *l, uint64_t lost_ns) DF_MUST_CHECK;
/* Make `l` the twin of the lease that is out longest on a lane that is late; l stays empty when there is none. */
enum df_err df_lease_twin(struct df_dispatch *d, const struct df_lane *lane, struct df_lease *l,
			  uint64_t now_ns) DF_MUST_CHECK;

/* dispatch_spread.c: of pipelines that wait for the network */
uint64_t df_spread_cells(const struct df_dispatch *d);   /* of the next lease */
uint32_t df_spread_credits(const struct df_dispatch *d); /* leases that a lane may hold now, redone ones apart */
/* The lane that is kept free for a suspect: nothing new goes there until it holds nothing. */
bool df_spread_clears(const struct df_dispatch *d, const struct df_lane *lane);
const struct df_lane *df_spread_least(const struct df_dispatch *d); /* NULL: none may have more now */

/* dispatch_pace.c */
double df_pace_cost(const struct df_dispatch *d, const struct df_lane *lane); /* ns per byte; 0: nothing known */
double df_pace_typical(const struct df_dispatch *d);                          /* of a lane of this run; 0: likewise */
uint64_t df_pace_target(const struct df_dispatch *d, const struct df_lane *lane); /* bytes of its next lease */
void df_pace_look(struct df_dispatch *d, struct df_lane *lane, uint64_t now_ns);
void df_pace_seen(struct df_dispatch *d, struct df_lane *lane, const struct df_lease *l, uint64_t busy_ns);
void df_pace_forget(struct df_dispatch *d, const struct df_lane *lane);
/* What the lane is at takes far longer than it should. */
bool df_pace_late(const struct df_dispatch *d, const struct df_lane *lane, uint64_t now_ns);
/* So much slower than others that they would be through with all that is left before it had done one cell. */
bool df_pace_hinders(const struct df_dispatch *d, const struct df_lane *lane, uint64_t now_ns);
/* The lane that would be through with `bytes` of lost work first; NULL: none may have it now. */
const struct df_lane *df_pace_soonest(const struct df_dispatch *d, uint64_t bytes, uint64_t now_ns);

#endif
