// SPDX-License-Identifier: Apache-2.0
/*
 * view: a run directory as an outsider may see it, read-only, while its run lives or after: run.json (what was asked for, how it
 * ended), the journal (what is durable), status.json (what is in work, of a live run only), and whether its lock is held.
 *
 * Opening takes no lock for longer than a look, writes nothing, and accepts a journal whose last record is being written.
 * DF_ERR_NOT_FOUND: no run directory. Damage is reported as by df_journal_replay; more is `docflume verify`'s work.
 */
#ifndef DF_COORDINATOR_SHOW_VIEW_H
#define DF_COORDINATOR_SHOW_VIEW_H

#include "base/json.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/sink/journal.h"

struct df_view {
	char path[4096];
	int dir_fd;
	bool live;         /* the lock is held */
	bool has_run_json; /* without it `run` is empty */
	bool has_journal;
	struct df_run_summary run;
	struct df_replay journal;
	const struct df_json *news; /* of status.json; NULL: none that could be read, or the run does not live */
	struct df_str news_text;
	uint32_t generations; /* DIR/retry-1 .. retry-N */
	struct df_arena arena;
};

enum df_err df_view_open(const char *path, struct df_view *ret_view, struct df_fail *fail) DF_MUST_CHECK;
void df_view_close(struct df_view *v); /* accepts a zeroed one */

/* "running", "dead" (it says that it runs, but nobody does), "finished", "stopped", "failed", "starting". */
const char *df_view_state(const struct df_view *v);

#endif
