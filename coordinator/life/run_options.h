// SPDX-License-Identifier: Apache-2.0
/*
 * run_options: what one `docflume run` was asked to do, parsed, checked and complete (no field waits for a default).
 *
 * The command line fills it; the coordinator reads it and never changes it. All memory belongs to the caller and
 * outlives the run. Every df_str made from an option has a NUL behind it, so that `.p` serves as a C string; one that
 * was not given is {NULL or "", 0}. Fields that option rows set have the types of base/conf.h: INT int64_t, SIZE
 * uint64_t, ENUM int (an index of the enum named beside it), FLOAT double.
 */
#ifndef DF_COORDINATOR_LIFE_RUN_OPTIONS_H
#define DF_COORDINATOR_LIFE_RUN_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pipeline.h"
#include "base/str.h"

/* The order of each enum is the order of the words in its option's row. */
enum df_input_format { DF_INPUT_AUTO, DF_INPUT_JSONL, DF_INPUT_TEXT, DF_INPUT_CSV, DF_INPUT_TSV };
enum df_output_format { DF_OUTFMT_AUTO, DF_OUTFMT_JSONL, DF_OUTFMT_NPY, DF_OUTFMT_BOTH, DF_OUTFMT_NONE };
enum df_dtype { DF_DTYPE_F32, DF_DTYPE_F16 };
enum df_halt { DF_HALT_SOON, DF_HALT_NOW };
enum df_bar_when { DF_BAR_AUTO, DF_BAR_ALWAYS, DF_BAR_NEVER };
enum df_trace_when { DF_TRACE_AUTO, DF_TRACE_YES, DF_TRACE_NO };
/* fsync: enum df_fsync of coordinator/sink/store.h, same order as the words. The DF_OUTFMT_ prefix keeps clear of df_output_kind. */

struct df_run_options {
	/* --- the pipeline --- */
	const struct df_pipeline *pipeline; /* overrides applied; every stage and option checked */
	struct df_str pipeline_text;        /* its canonical text: what workers parse and run.json keeps */
	struct df_str
		pipeline_fixed; /* the same without options that may be others when the run goes on (df_opt.pace) */
	bool has_side_effects;  /* a stage is DF_STAGE_SIDE_EFFECTS: nothing is redone at the tail */
	bool has_vectors;       /* a stage is DF_STAGE_VECTORS */
	bool has_model;         /* a stage is DF_STAGE_MODEL: workers start slowly */
	bool has_calls;         /* a stage is DF_STAGE_NETWORK: it waits for the network, and may cost money */

	/* --- input --- */
	const struct df_str
		*input;   /* operands as typed: files, globs, folders, "-"; {"-"} when none and stdin is no terminal */
	size_t n_input;   /* >= 1 */
	int input_format; /* enum df_input_format; AUTO: by the file's name, stdin is JSONL */
	struct df_str id_key;   /* "id" */
	struct df_str text_key; /* "text" */
	uint64_t max_record;    /* bytes, <= DF_RECORD_BYTES_MAX */
	uint64_t cell_size;     /* bytes, <= DF_CELL_BYTES_MAX */
	int64_t limit;          /* documents; -1: all */
	int64_t skip;           /* documents */
	double sample;          /* 0 .. 1: the part of the documents that is taken; 1: all */
	int64_t sample_seed;
	bool paranoid;       /* inputs are the same when their checksums are */
	struct df_str spool; /* folder: stdin is kept there first, so that it can be read again; empty: no */
	bool resume_failed;  /* take the documents that the finished run in `out` rejected, and nothing else */

	/* --- output --- */
	struct df_str out;     /* run directory; empty: rows go to stdout ("-" is made empty) */
	int output_format;     /* enum df_output_format, never AUTO */
	int dtype;             /* enum df_dtype */
	uint64_t part_size;    /* bytes at which parts rotate */
	int64_t zstd;          /* level 1 .. 19; 0: not compressed */
	struct df_str rejects; /* file; empty: in the run directory, or counted only when rows go to stdout */
	bool keep_order;       /* -k */
	bool force_restart;    /* the run directory's earlier contents are thrown away */
	int fsync;             /* enum df_fsync of coordinator/sink/store.h */

	/* --- processes --- */
	int64_t jobs;            /* workers, 1 .. DF_WORKERS_MAX; the cores this process may use when not given */
	struct df_str model_dir; /* empty: the cache */
	uint64_t
		mem_limit; /* bytes of the whole run, the coordinator's among them; 0: chosen by the machine (memory.h) */
	bool confine;      /* workers and readers give up what they do not need */
	uint64_t doc_timeout_ns; /* a document that computes for longer is stopped; 0: never */

	/* --- calls of models (has_calls; else nobody looks at these) --- */
	double budget;       /* USD of the whole run, over all its lives; 0: no limit */
	int trace;           /* enum df_trace_when, never AUTO: DIR/trace.jsonl is written */
	struct df_str otlp;  /* where spans go at the end; empty: nowhere */
	struct df_str cache; /* folder of answers; empty: the usual one */
	bool no_cache;
	uint64_t cache_size;  /* bytes on disk */
	struct df_str record; /* file that answers are recorded in; empty: none */
	bool stream;          /* the text of one answer goes to stdout as it comes, and rows do not */

	/* --- the end --- */
	uint64_t grace_ns;         /* of a stop on request */
	uint64_t time_limit_ns;    /* stop on request after this; 0: never */
	struct df_str max_errors;  /* as typed: "N" or "P%"; empty: no limit */
	uint64_t max_errors_n;     /* rejects and source errors; UINT64_MAX: no limit */
	double max_errors_percent; /* of the documents in, once DF_MAX_ERRORS_SAMPLE of them are; > 100: no limit */
	int halt;                  /* enum df_halt: what happens at max_errors */

	/* --- people --- */
	int bar;        /* enum df_bar_when */
	int log_format; /* enum df_log_format */
	bool quiet;
	bool verbose;
	bool dry_run; /* handled by the command line: never true in a call of the coordinator */
};

#endif
