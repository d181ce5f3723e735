// SPDX-License-Identifier: Apache-2.0
/*
 * control_core: what the files of the control state machine share, and nobody else sees.
 *
 *   control.c         life, feeding workers, the end
 *   control_events.c  messages of processes, events of the sink
 *   control_deaths.c  processes start, die and are replaced; blame, back-off, giving up
 *   control_watch.c   looks at living processes: deadline, silence, memory; and at the run: does anything move
 */
#ifndef DF_COORDINATOR_CONTROL_CONTROL_CORE_H
#define DF_COORDINATOR_CONTROL_CONTROL_CORE_H

#include "coordinator/control/control.h"
#include "coordinator/control/intake.h"
#include "coordinator/control/peers.h"

/* A process that is to be started. */
struct df_respawn {
	enum df_role role;
	uint64_t due_ns;
};

struct df_control {
	struct df_control_config config;
	struct df_dispatch *dispatch;
	struct df_intake *intake;
	struct df_peers peers;
	uint32_t next_lane;
	bool stopping, finishing, sink_over;
	bool complete; /* the sink was told so */
	bool has_live; /* an input that others write while it is read */
	uint64_t stop_deadline_ns;
	uint64_t tick_ns; /* the last tick; 0: none yet */
	enum df_outcome outcome;
	struct df_fail fail;
	struct df_fail quota; /* DF_OK: none is used up */
	struct df_control_stats stats;
	struct df_arena scratch;
	bool retry_soon;                 /* a send met a full or unconnected lane */
	struct df_source_state *closing; /* plain sources that failed while leases still have cells of them */
	size_t n_closing, cap_closing;

	/* control_deaths.c */
	struct df_respawn *respawn;
	size_t n_respawn, cap_respawn;
	uint32_t fruitless;      /* deaths in a row of processes that had finished nothing; what back-off grows with */
	uint32_t barren;         /* those of them for which neither a document nor an input is to blame */
	uint32_t barren_exits;   /* those of these that left by themselves */
	uint32_t spawn_failures; /* in a row */

	/* control_watch.c */
	uint64_t watch_ns;     /* the last look at all */
	uint64_t progress_ns;  /* when something moved last */
	uint64_t memory_bytes; /* of all processes, as the last look found */
	bool memory_told;
	bool stalled;
};

void df_control_fail_run(struct df_control *c, const struct df_fail *fail);
/* False when err is an error: the run failed then, as the coordinator cannot do `what`. */
bool df_control_check(struct df_control *c, enum df_err err, const char *what);
void df_control_order(struct df_control *c, struct df_order order);
bool df_control_work_left(const struct df_control *c);
void df_control_finish(struct df_control *c);
void df_control_step(struct df_control *c, uint64_t now_ns);

/* control_deaths.c */
void df_control_spawn(struct df_control *c, enum df_role role, uint64_t now_ns);
void df_control_spawn_due(struct df_control *c, uint64_t now_ns);
uint64_t df_control_next_spawn_ns(const struct df_control *c); /* UINT64_MAX: none waits */
void df_control_on_fenced(struct df_control *c, uint64_t lane, uint64_t now_ns);
/* The process is to be ended, for `cause` as far as the slot stays as `look` saw it (NULL: nobody's fault). */
void df_control_condemn(struct df_control *c, struct df_peer *p, const struct df_look *look, enum df_cause cause,
			uint32_t detail, uint64_t now_ns);
/* "worker 3" */
const char *df_control_name(const struct df_peer *p, char z[32]);
/* "chunk" of a stage's number; "" when it is none. */
struct df_str df_control_stage(const struct df_control *c, uint32_t stage);

/* control_watch.c */
void df_control_watch(struct df_control *c, uint64_t now_ns);

#endif
