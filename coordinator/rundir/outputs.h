// SPDX-License-Identifier: Apache-2.0
/*
 * outputs: where a run's results go, opened from its options: a run directory (locked, its journal replayed, its inputs and
 * pipeline compared with those of before) or stdout.
 */
#ifndef DF_COORDINATOR_RUNDIR_OUTPUTS_H
#define DF_COORDINATOR_RUNDIR_OUTPUTS_H

#include "coordinator/cells/dataset.h"
#include "coordinator/life/ending.h"
#include "coordinator/life/run_options.h"
#include "coordinator/rundir/run_json.h"
#include "coordinator/rundir/rundir.h"
#include "coordinator/sink/store.h"

struct df_outputs {
	bool open;
	bool is_dir;
	bool announced; /* run.json tells of this run; before that it belongs to an earlier one */
	int dir_fd;     /* -1: stdout */
	int rejects_fd;
	bool told_finished;      /* run.json says already that the run is finished */
	struct df_rundir rundir; /* is_dir */
	bool want[DF_N_OUTPUT];
	struct df_store *store;
	struct df_recovered recovered;
	struct df_arena arena;
	uint64_t fingerprint;
	bool has_inputs;               /* the list of inputs is written */
	const uint64_t *sum;           /* --paranoid: of each input's content */
	struct df_ending *ending;      /* may stop what takes long here */
	uint64_t started_wall_ns;      /* of this epoch */
	double elapsed_before;         /* seconds that earlier epochs ran */
	struct df_costs costs_before;  /* what run.json says of them */
	struct df_run_summary summary; /* what run.json says of the request; memory in arena */
};

enum df_err df_outputs_open(struct df_outputs *o, const struct df_run_options *options,
			    const struct df_dataset *dataset, struct df_ending *ending,
			    struct df_fail *fail) DF_MUST_CHECK;
/* The run directory's part (outputs_dir.c): create or lock it, compare it with this run. */
enum df_err df_outputs_open_dir(struct df_outputs *o, const struct df_run_options *options,
				const struct df_dataset *dataset, struct df_fail *fail) DF_MUST_CHECK;
/* Keep the list of inputs, once the journal is there and before anything is committed; nothing when it is kept already. */
enum df_err df_outputs_list_inputs(struct df_outputs *o, const struct df_dataset *dataset,
				   struct df_fail *fail) DF_MUST_CHECK;
/* Of what must be the same when a run goes on; `dataset`: the fingerprint of the inputs. */
uint64_t df_outputs_fingerprint(const struct df_run_options *options, uint64_t dataset);
void df_outputs_close_dir(struct df_outputs *o);
void df_outputs_close(struct df_outputs *o); /* accepts a zeroed struct */

#endif
