// SPDX-License-Identifier: Apache-2.0
/*
 * help_spine: the coordinator's real state machines (control, sink, store) among model processes, a simulated clock, transport
 * and disk. One life of the coordinator is one epoch; it ends well, or by a fault, and the next begins from the journal.
 */
#ifndef DF_TESTS_SIM_HELP_SPINE_H
#define DF_TESTS_SIM_HELP_SPINE_H

#include "coordinator/control/control.h"
#include "tests/sim/help_peer.h"
#include "tests/sim/help_simio.h"

enum spine_end {
	SPINE_DONE,    /* the outcome is DONE */
	SPINE_STOPPED, /* on request */
	SPINE_FAILED,  /* control gave up; fail says why */
	SPINE_CRASHED, /* a fault of the plan: the coordinator is gone */
	SPINE_NO_OPEN, /* the store could not be opened */
	SPINE_HANGS,   /* too many steps */
};

/* Chances, each once in so many steps; 0: never. */
struct spine_faults {
	uint64_t kill, crash_worker, coordinator, stop, freeze;
	uint32_t n_kill;  /* at most so many of the first two */
	uint64_t die_at;  /* the I/O call from which on all fail; 0: none */
	uint64_t fail_at; /* the I/O call that fails alone */
	int fail_errno;
	uint64_t disk_bytes; /* ENOSPC above; UINT64_MAX: never */
	bool harm_net;       /* net_roll */
	bool lose_disk;      /* what was not synced is at chance's mercy when this epoch ends */
};

/* Faults that were injected, all epochs. */
struct spine_counts {
	uint64_t killed, crashed, frozen, disowned, refused, stopped, coordinators, disks, disk_errors;
	uint64_t deaths, strikes, stale, doubled, malformed; /* what came of them */
	uint64_t deadline_kills, memory_kills, twins, innocent;
};

struct spine {
	struct world *world;
	struct net net;
	struct spine_counts n;
	uint64_t story; /* a hash of all that happened, in order */
	struct sim *disk;
	struct df_io io;
	struct spine_faults faults;
	struct df_grid grid;
	struct df_arena arena;
	struct df_store *store;
	struct df_recovered recovered;
	struct df_control *control;
	struct df_sink *sink;
	struct pipe orders, events;
	struct peer *peer;
	uint64_t now_ns, tick_ns, notice_ns, notice_seq;
	enum df_run_state notice_state;
	uint64_t n_step;
	uint32_t n_kill;
	struct df_fail fail;
	struct df_control_stats stats;
	uint32_t n_reader_kill; /* readers that strangers killed, all epochs */
};

/* Live one epoch and end it. */
enum spine_end spine_live(struct spine *s);

/* Open what is there, as the last epoch left it. */
enum df_err spine_open(struct spine *s);
void spine_close(struct spine *s);
void spine_release(struct spine *s); /* after the last epoch: the disk, too */

#endif
