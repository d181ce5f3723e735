// SPDX-License-Identifier: Apache-2.0
/*
 * peers: the processes behind lanes, as the control thread sees them. Lanes rise: the newest is the last.
 */
#ifndef DF_COORDINATOR_CONTROL_PEERS_H
#define DF_COORDINATOR_CONTROL_PEERS_H

#include <stddef.h>

#include "coordinator/dispatch/dispatch.h"
#include "proto/messages.h"

enum df_peer_state {
	DF_PEER_STARTING, /* spawned, no HELLO yet */
	DF_PEER_READY,
	DF_PEER_FENCING, /* its process is gone; the sink has not fenced the lane yet */
};

/* What watching has seen of a process. */
struct df_sight {
	bool computing, known;
	uint64_t seq, since_ns, alive;
	uint64_t late_ns; /* the same work without a sign of progress, counted while the coordinator itself was awake */
	uint64_t still_ns; /* likewise: its link thread does not run */
	uint64_t calls_moved;
	uint64_t memory_bytes;
};

/* Killed by the run itself, for a cause that counts as long as the slot stays as it was seen. */
struct df_condemned {
	bool done;
	uint64_t at_ns;
	enum df_cause cause;
	uint32_t detail;
	uint64_t seq, since_ns;
};

struct df_peer {
	uint64_t lane;
	enum df_role role;
	enum df_peer_state state;
	uint64_t heard_ns;
	uint64_t n_finished; /* leases answered */
	uint64_t peak_rss_bytes;
	int exit_code, signal;
	bool stillborn; /* it could not be started */
	struct df_blame blame;
	struct df_sight sight;
	struct df_condemned condemned;
	const struct df_lease *unsent; /* leased, but the lane was full */
	uint64_t sent_told;            /* as the sink last heard, and how often it heard the same */
	uint32_t n_told;
	uint64_t hello_seq;    /* of the newest HELLO */
	uint64_t n_leased;     /* LEASE messages sent to it */
	uint64_t leases_noted; /* what an earlier HELLO should have known of them ... */
	uint32_t n_short;      /* ... and how many in a row did not */
};

struct df_peers {
	struct df_peer *item;
	size_t n, cap;
};

void df_peers_release(struct df_peers *p);
enum df_err df_peers_add(struct df_peers *p, uint64_t lane, enum df_role role, uint64_t now_ns) DF_MUST_CHECK;
struct df_peer *df_peers_find(struct df_peers *p,
			      uint64_t lane); /* NULL: unknown; valid until the next add or remove */
void df_peers_remove(struct df_peers *p, uint64_t lane);
const char *df_peer_word(enum df_role role);

#endif
