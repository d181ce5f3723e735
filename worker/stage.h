// SPDX-License-Identifier: Apache-2.0
/*
 * stage: the contract of a stage. One const struct per stage, in one file of worker/stages/, named in registry.c.
 *
 * Life: open() once per worker process, process() for each batch on the compute thread, close() at the end. A stage
 * keeps no state between batches that could change results: any batch may run on any worker, and again after a crash.
 * What differs for a single document is a fate on that document; process() itself fails only when the stage cannot go
 * on at all (memory, model file gone): then the lease is FAILED.
 */
#ifndef DF_WORKER_STAGE_H
#define DF_WORKER_STAGE_H

#include <stdatomic.h>

#include "base/conf.h"
#include "worker/doc.h"

enum df_stage_flags {
	DF_STAGE_SIDE_EFFECTS = 1 << 0, /* at-least-once work outside docflume: never redone at the tail */
	DF_STAGE_VECTORS = 1 << 1,      /* sets row->vector */
	DF_STAGE_MODEL = 1 << 2,        /* opens a model: its start takes time */
	DF_STAGE_COMMANDS = 1 << 3,     /* starts commands: the worker has a spawner (worker/process/spawner.h) */
	DF_STAGE_NETWORK = 1 << 4,      /* calls out: the worker may open sockets */
	DF_STAGE_ANY_RECORD = 1 << 5,   /* as the first stage: records need no text */
};

struct df_stage_class;
struct df_spawner;
struct df_caller;
struct df_compute_turn;

/* One stage of a running pipeline. */
struct df_stage {
	const struct df_stage_class *class;
	const char *call_name; /* label, or the class's name; used in counters and rejects */
	void *options;         /* the class's options struct, filled from rows */
	void *state;           /* the class's own; set by open(), freed by close() */
};

/* What a stage may use of its worker. Lives as long as the stage. */
struct df_stage_env {
	const char *model_dir;              /* --model-dir; NULL: the cache */
	const char *model_cache;            /* e.g. ~/.cache/docflume/models */
	const struct df_pipeline *pipeline; /* so that chunk finds the embedder whose tokens it counts */
	size_t stage_no;                    /* the own place in it */
	struct df_arena *arena;             /* life of the worker */
	void (*progress)(void *self);       /* call now and then in long work: feeds the deadline; may be NULL */
	void *progress_self;
	struct df_spawner *spawner; /* starts commands: those of DF_STAGE_COMMANDS stages, by stage_no; may be NULL */
	/* Of DF_STAGE_NETWORK stages; NULL and -1 in pipelines that have none. Their process() leaves the turn while it waits
	 * (df_caller_run does), so that several batches may be inside it at once, each on a thread of its own: what it keeps in `state` is
	 * read-only after open(), or atomic. */
	struct df_caller *caller;     /* worker/call/call.h */
	struct df_compute_turn *turn; /* worker/process/turn.h */
	int stream_fd;                /* --stream: the answer's text is written here as it comes; -1: it is not */
	atomic_uint_fast64_t *shown;  /* 1 from before its first byte on; NULL: nobody asks */
};

struct df_stage_class {
	const char *name;
	const char *summary;          /* one line */
	const char *help;             /* paragraphs, plain text */
	const struct df_opt *options; /* rows; ends with a NULL name; may be NULL */
	size_t options_size;
	unsigned flags;
	/* Check options that rows cannot express (min <= max); no files are touched but models.yaml. May be NULL. */
	enum df_err (*check)(const void *options, struct df_fail *fail);
	/* Which class does the work with these (checked) options: another one of the same option rows, or NULL for this one. Its flags, open, process
	 * and close are the ones that count. May be NULL. */
	const struct df_stage_class *(*variant)(const void *options);
	enum df_err (*open)(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail); /* may be NULL */
	enum df_err (*process)(struct df_stage *s, struct df_batch *batch, struct df_fail *fail);
	void (*close)(struct df_stage *s); /* accepts a stage whose open failed; may be NULL */
};

#endif
