// SPDX-License-Identifier: Apache-2.0
/*
 * run_json: `run.json`, what a run is and how it went, for people, scripts and the next run in the same directory (run_diff.h compares).
 *
 * Written when a run starts (state "running") and when it ends; always whole (df_io_replace_file). Readers must ignore keys that they
 * do not know. Numbers up to 2^64-1 are written as integers; hashes, fingerprints and run ids as 16 hexadecimal digits. Counts come
 * from the counters of the results (PROTOCOL.md): "filtered:STAGE:REASON" and "rejected:STAGE:CLASS" become
 * counts.filtered and counts.rejected with keys "STAGE:REASON" and "STAGE:CLASS", beside them counts.reject_examples with the id and message of one
 * document of each kind (proto/example.h); "time_ns:STAGE" and "wait_ns:STAGE" become stages with seconds and
 * waiting_seconds; what stages that call models count (calls, cached, tokens_in, ...) becomes costs.of_rows.
 *
 * All memory of a summary is the caller's. Reading takes memory from the arena. A run.json of another format_version is
 * DF_ERR_VERSION; one that is no such file DF_ERR_CORRUPT.
 */
#ifndef DF_COORDINATOR_RUNDIR_RUN_JSON_H
#define DF_COORDINATOR_RUNDIR_RUN_JSON_H

#include "base/arena.h"
#include "base/io.h"
#include "coordinator/rundir/expenses.h"
#include "coordinator/sink/store.h"

#define DF_RUN_JSON_NAME "run.json"
#define DF_RUN_JSON_VERSION 1
#define DF_RUN_JSON_BYTES_MAX (16U << 20)
#define DF_RUN_JSON_INPUTS 16      /* names of inputs that are listed */
#define DF_RUN_JSON_PROCESSES 1000 /* ... and processes; "processes_total" counts all */

struct df_run_option {
	struct df_str name, value;
};

struct df_run_process {
	struct df_str role; /* "coordinator", "worker", "reader" */
	uint64_t id;        /* lane, or 0 */
	uint64_t peak_rss_bytes;
	double cpu_seconds;
};

/* What went wrong: of the whole run, and of its last epoch alone. */
struct df_run_faults {
	uint64_t source_errors, strikes; /* inputs that were not read to their end; deaths over single documents */
	uint64_t deaths, deadline_kills, memory_kills; /* processes; the kills are among the deaths */
	uint64_t leases, leases_redone;
	uint64_t results_doubled, results_stale; /* dropped: of cells taken before; of lanes that had been given up */
};

struct df_run_summary {
	struct df_str version; /* of docflume; empty when writing: this one */
	uint64_t run_id, fingerprint;
	struct df_str state; /* "running", "finished", "stopped", "failed" */
	struct df_str error; /* of a failed run, or one that stopped since its money or day was used up; may be empty */
	uint64_t started_wall_ns, finished_wall_ns; /* since the Unix epoch; 0: not yet */
	double elapsed_seconds;                     /* over all epochs */
	uint32_t epoch;                             /* the last one */
	struct df_str pipeline;                     /* canonical */
	struct df_str pipeline_fixed;               /* what of it must be the same when the run goes on; empty: all */
	const struct df_run_option *option;
	size_t n_option;
	uint64_t cell_bytes, n_source, source_bytes;
	const struct df_str *input; /* names; the first DF_RUN_JSON_INPUTS are listed */
	size_t n_input;
	const struct df_counter *counter; /* totals of the whole run, as the store has them */
	size_t n_counter;
	struct df_costs costs; /* when known */
	struct df_run_faults faults;
	const struct df_run_process *process;
	size_t n_process;
	const struct df_part_info *part;
	size_t n_part;
};

/* The text alone, with a line break at its end. DF_ERR_NOMEM, DF_ERR_LIMIT. */
enum df_err df_run_json_format(const struct df_run_summary *summary, struct df_buf *out) DF_MUST_CHECK;
enum df_err df_run_json_write(const struct df_io *io, int dirfd, const struct df_run_summary *summary,
			      struct df_fail *fail) DF_MUST_CHECK;
/* All (of costs those of the run, not of_rows) but counters, processes and parts, which stay empty. DF_ERR_NOT_FOUND when there is none. */
enum df_err df_run_json_read(const struct df_io *io, int dirfd, struct df_arena *arena,
			     struct df_run_summary *ret_summary, struct df_fail *fail) DF_MUST_CHECK;

#endif
