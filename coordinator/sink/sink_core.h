// SPDX-License-Identifier: Apache-2.0
/*
 * sink_core: what the files of the sink share; for nobody else.
 *
 *   sink.c        its life, orders, how it speaks         sink_take.c    messages: staging, each cell taken once
 *   sink_lanes.c  who may send; fences, gaps              sink_write.c   a complete result into the store
 *   sink_order.c  -k: results in the order of input       sink_commit.c  when commits begin and end, the last look
 *
 * All belong to the sink thread. A failing helper has told control (DF_EVENT_FATAL) before it returns: the sink is over then.
 */
#ifndef DF_COORDINATOR_SINK_SINK_CORE_H
#define DF_COORDINATOR_SINK_SINK_CORE_H

#include "coordinator/cells/cellset.h"
#include "coordinator/sink/sink.h"
#include "coordinator/sink/stage.h"

struct df_sink_lane {
	uint64_t id;
	uint64_t seq;    /* of the last message; the next has one more */
	bool lost;       /* a message is missing or was nonsense: nothing more is taken of it */
	uint64_t got;    /* last parts received */
	uint64_t expect; /* as the last HELLO said */
	bool check, fencing;
	uint64_t noted; /* as an earlier HELLO said; the watch is for this number */
	uint32_t gaps;  /* looks in a row at an empty socket that found fewer results than `noted` */
};

/* What a reader said of one cell. */
struct df_cell_note {
	uint64_t cell;
	struct df_cell_info info;
};

struct df_sink_source {
	struct df_cellset taken;               /* in this epoch or an earlier one */
	struct df_cellset before;              /* ordered: committed by earlier epochs, never written again */
	uint64_t n_cell;                       /* UINT64_MAX: unknown yet */
	bool plain;                            /* a file on disk: n_cell is known from the first */
	bool failed;                           /* a source error: plain cells that are not taken by now never come */
	struct df_cell_note *info;             /* of reader's cells not yet written, rising by cell: a ring */
	uint64_t info_first, n_info, cap_info; /* cap_info is a power of two */
};

struct df_cells_list {
	struct df_commit_cells *item;
	size_t n, cap;
};

/* The state machine; its parts are those of the files below. */
struct df_sink {
	struct df_sink_config config;
	struct df_sink_lane *lane;
	size_t n_lane, cap_lane;
	struct df_sink_source *source;
	uint32_t n_source;
	struct df_staging staging;
	struct df_staged *staged;  /* incomplete results */
	struct df_staged *waiting; /* ordered: complete ones, by first cell */
	struct df_cells cursor;    /* ordered: the next cell to write */
	struct df_cells_list batch, in_flight;
	struct df_map totals;
	struct df_source_state *note; /* source states for the next commit */
	size_t n_note, cap_note;
	struct df_strike *strike;
	size_t n_strike, cap_strike;
	uint64_t batch_since_ns, now_ns;
	bool finishing, complete, over;
	struct df_sink_stats stats;
	struct df_arena scratch;
};

/* --- sink.c --- */

void df_sink_emit(struct df_sink *s, struct df_event event);
/* The first one is told, and ends the sink. */
void df_sink_fatal(struct df_sink *s, const struct df_fail *fail);
/* Fatal: "the sink cannot WHAT: ..." */
void df_sink_cannot(struct df_sink *s, enum df_err err, const char *what);
/* True for DF_OK; else as above. */
static inline bool df_sink_check(struct df_sink *s, enum df_err err, const char *what)
{
	if (err == DF_OK)
		return true;
	df_sink_cannot(s, err, what);
	return false;
}
void df_sink_free_results(struct df_sink *s, struct df_staged *list);

/* --- sink_lanes.c --- */

struct df_sink_lane *df_sink_find_lane(struct df_sink *s, uint64_t id); /* NULL: unknown or fenced */
void df_sink_on_hello(struct df_sink_lane *lane, uint64_t sent);        /* of NULL: nothing */

/* --- sink_take.c --- */

/* The results of a lane that are not complete. */
void df_sink_drop_staged(struct df_sink *s, uint64_t lane);

/* --- sink_write.c --- */

/* Appends the rows, notes the cells for the next commit and adds the counters. Consumes the result. */
bool df_sink_write(struct df_sink *s, struct df_staged *r);
void df_sink_note_info(struct df_sink *s, const struct df_order *o);
void df_sink_forget_info(struct df_sink *s, uint32_t source);

/* --- sink_order.c --- */

/* A complete result, behind those that wait already; writes what is due. Consumes it. */
void df_sink_wait_turn(struct df_sink *s, struct df_staged *r);
void df_sink_write_waiting(struct df_sink *s);

#endif
