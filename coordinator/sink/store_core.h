// SPDX-License-Identifier: Apache-2.0
/*
 * store_core: what the two files of the store share; for nobody else. store_open.c: a directory as a crash left it becomes one that is written on;
 * store.c: everything after that.
 */
#ifndef DF_COORDINATOR_SINK_STORE_CORE_H
#define DF_COORDINATOR_SINK_STORE_CORE_H

#include "coordinator/sink/committer.h"
#include "coordinator/sink/store.h"
#include "coordinator/sink/store_stdout.h"

struct df_store {
	struct df_store_config config;
	const struct df_io *io;
	bool is_stdout, over; /* over: finished, nothing more is taken */
	struct df_fail failed;
	uint64_t pending_bytes;

	struct df_store_stdout out;
	bool out_committing;

	struct df_parts_place place;
	struct df_parts parts; /* the set that is written */
	struct df_journal journal;
	struct df_counter_names names;
	struct df_committer *committer;
	struct df_commit_job job;
	struct df_commit_cells *cells; /* scratch of df_store_commit */
	size_t cap_cells;

	struct df_part_info *info; /* closed parts, and room for the open ones behind them */
	size_t n_info, cap_info;
};

/* A closed part joins the list. DF_ERR_NOMEM. */
enum df_err df_store_add_info(struct df_store *s, const struct df_journal_file *file, bool open);
uint32_t df_store_want_bits(const struct df_store_config *config);
/* Everything but the committer: journal replayed and open, files as the last commit left them, the epoch recorded. */
enum df_err df_store_open_directory(struct df_store *s, struct df_arena *arena, struct df_recovered *ret_recovered,
				    struct df_fail *fail) DF_MUST_CHECK;

#endif
