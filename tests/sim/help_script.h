// SPDX-License-Identifier: Apache-2.0
/*
 * help_script: a scripted run through a real store on a simulated disk, which knows what must be there after each commit: for tests that damage
 * the disk, and look whether the run goes on exactly once.
 */
#ifndef DF_TESTS_SIM_HELP_SCRIPT_H
#define DF_TESTS_SIM_HELP_SCRIPT_H

#include "coordinator/sink/parts.h"
#include "tests/sim/help_simio.h"

#define SCRIPT_CELLS 60
#define SCRIPT_LOG_MAX 65536

/* Where the run stands after a commit. */
struct script_mark {
	size_t n[DF_N_OUTPUT];
	uint64_t rows[DF_N_OUTPUT];
	bool done[SCRIPT_CELLS];
	uint64_t n_done, n_commit;
};

struct script {
	struct sim *sim;
	struct df_io io;
	struct df_store_config config;
	struct df_rand rand;
	uint64_t rand_state;
	char log[DF_N_OUTPUT][SCRIPT_LOG_MAX]; /* what was appended, in order */
	struct script_mark now, committed, in_flight;
	struct script_mark history[4 * SCRIPT_CELLS]; /* after each commit */
	bool has_in_flight;
	bool may_step_back; /* committed is not durable: the policy, or damage to what no sync has confirmed */
	uint64_t n_back;    /* commits that were lost so */
	uint32_t epoch;
	bool finished;
};

void script_init(struct script *w, uint64_t seed, enum df_fsync policy);
uint64_t script_below(struct script *w, uint64_t n);
/* What was not synced is at chance's mercy, and the machine boots again. */
void script_power_cut(struct script *w);

/* One life. The disk's faults are set before; DF_OK: the run is complete. Asserts that what is recovered is the state after a commit: the last
 * one (or that in flight), with may_step_back an earlier one, and that the files hold exactly its rows. */
enum df_err script_live(struct script *w, struct df_fail *fail);
/* The same, which must succeed; then once more, which must change nothing. */
void script_live_to_the_end(struct script *w);
/* A run that was killed about half way, with closed sets and an open one of several commits. */
void script_half_way(struct script *w, enum df_fsync policy);

/* The files hold exactly what was appended until `m`, and nothing else is there. */
void script_check_files(const struct script *w, const struct script_mark *m, bool finished);
uint64_t script_counter(const struct df_recovered *r, const char *name);

#endif
