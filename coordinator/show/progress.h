// SPDX-License-Identifier: Apache-2.0
/*
 * progress: what people see on stderr while a run goes on: a bar on a terminal, a plain line every few seconds
 * otherwise, nothing with -q. Belongs to the control thread.
 */
#ifndef DF_COORDINATOR_SHOW_PROGRESS_H
#define DF_COORDINATOR_SHOW_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "coordinator/control/control.h"
#include "coordinator/rundir/expenses.h"

struct df_progress {
	bool bar; /* a terminal's line that is drawn over */
	bool quiet;
	bool shown; /* the bar is on the screen now */
	bool color;
	uint64_t start_ns, next_ns;
	uint64_t resumed_bytes; /* done by earlier epochs */
	char line[512];
	/* a moving rate */
	uint64_t last_ns, last_docs, last_bytes;
	double docs_per_s, bytes_per_s;
	struct df_costs costs; /* set before each tick, as are these */
	uint64_t calls_sent, calls_waiting;
	const char *calls_wait; /* what these wait for, in a word; NULL: for nothing that is out of the ordinary */
};

void df_progress_init(struct df_progress *p, bool bar, bool quiet, bool color, uint64_t now_ns);
/* Draw when it is due. states: one character per worker ('#' at work, '~' waiting for answers, '.' waiting). */
void df_progress_tick(struct df_progress *p, const struct df_control_stats *s, const char *states, uint64_t now_ns);
void df_progress_end(struct df_progress *p); /* takes the bar off the screen */

#endif
