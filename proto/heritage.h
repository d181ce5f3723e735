// SPDX-License-Identifier: Apache-2.0
/*
 * heritage: what a local child process inherits, by descriptor, so that it can work at once.
 *
 * Descriptor 3 is the heritage (a sealed memory file: a JSON object, format_version first), 4 the child's slot (shared memory
 * that outlives it). Descriptor 0 is the run's stdin for the reader that reads it, and /dev/null otherwise. Workers of a pipeline that calls
 * out have the run's purse on 5 (purse.h) and its trace on 6, when there is one. Nothing secret is in a heritage: keys are in the environment, or in
 * files that it names.
 */
#ifndef DF_PROTO_HERITAGE_H
#define DF_PROTO_HERITAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "proto/messages.h"

#define DF_HERITAGE_VERSION 1
#define DF_HERITAGE_FD 3
#define DF_SLOT_FD 4
#define DF_TRACE_FD 6          /* 5 is DF_PURSE_FD */
#define DF_INHERITED_FDS 7     /* 0 .. 6 have their meaning in a child */
#define DF_CHILD_EXIT_USAGE 13 /* a child cannot start, and no other could: the slot says why */
#define DF_CHILD_EXIT_NOMEM 12 /* a child left since its memory did not suffice; the slot says over what */

struct df_heritage {
	uint32_t epoch;
	uint64_t lane;
	uint64_t nonce;
	uint32_t role;       /* enum df_role */
	uint32_t number;     /* for names in logs: worker 1, 2, ... */
	uint32_t parent_pid; /* the coordinator; a child that finds another parent leaves */
	struct df_str lane_endpoint, control_endpoint, bulk_endpoint, notices_endpoint, results_endpoint;
	/* what the run was asked to do */
	struct df_str pipeline; /* canonical text */
	struct df_str id_key, text_key;
	struct df_str model_dir; /* empty: the cache */
	uint64_t max_record;
	uint64_t cell_bytes; /* how much belongs together: what one request of an API may hold */
	bool retry;          /* the inputs are rejects of an earlier run: --resume-failed */
	double sample;
	uint64_t sample_seed;
	bool want[DF_N_OUTPUT];
	bool embed_in_rows; /* vectors go into JSONL rows as "embedding" */
	bool f16;
	uint32_t zstd; /* level; 0: no */
	uint32_t log_level, log_format;
	uint64_t memory_max;      /* bytes of its own that the child may use; 0: no limit */
	bool confine;             /* give up what it does not need before the first byte of input */
	struct df_str *read_path; /* files and folders that hold the inputs */
	size_t n_read_path;
	/* --- of a pipeline that calls out --- */
	bool purse, trace;   /* descriptors 5 and 6 are there */
	uint64_t run_id;     /* of the trace: the same for all processes of a run, also after a restart */
	bool cached;         /* answers are kept */
	struct df_str cache; /* folder of answers; empty: the usual one */
	uint64_t cache_bytes;
	struct df_str record; /* file that answers are recorded in; empty: none */
	uint64_t grace_ns;    /* what calls in flight may take when the run is asked to stop */
	bool stream;          /* descriptor 1 is the run's stdout, for the text of one answer */
};

/* A memory file with the heritage in it; *ret_fd is close-on-exec. */
enum df_err df_heritage_write(const struct df_heritage *h, int *ret_fd, struct df_fail *fail) DF_MUST_CHECK;
/* Strings from `arena`. DF_ERR_VERSION, DF_ERR_CORRUPT. */
enum df_err df_heritage_read(int fd, struct df_arena *arena, struct df_heritage *ret_h,
			     struct df_fail *fail) DF_MUST_CHECK;

/*
 * The slot: who is to blame when the process dies, and that it is alive. Written by the child's compute thread (the counter by
 * its link thread), read by the coordinator after the process was reaped. `seq` is odd while the fields change.
 */
#define DF_SLOT_WAITS UINT64_MAX
#define DF_LAST_WORDS_BYTES 800

/* What calls wait for that are not in flight. */
enum df_calls_wait {
	DF_WAIT_NONE,
	DF_WAIT_ROOM,   /* as many are in flight as `concurrency` allows */
	DF_WAIT_LIMIT,  /* a limit of requests or tokens, told, learned or asked for by the server */
	DF_WAIT_MONEY,  /* what others have reserved of the budget */
	DF_WAIT_SERVER, /* a host or a model that does not answer */
	DF_WAIT_AGAIN,  /* the time until they are tried again */
	DF_N_WAIT
};

struct df_slot {
	atomic_uint_fast64_t seq;
	atomic_uint_fast64_t alive;     /* rises while the link thread runs */
	atomic_uint_fast64_t computing; /* 1 between begin and end */
	atomic_uint_fast64_t lease;
	atomic_uint_fast64_t source;
	atomic_uint_fast64_t offset;         /* of the first record in work */
	atomic_uint_fast64_t n_record;       /* of the batch */
	atomic_uint_fast64_t alone;          /* one record, alone in its lease */
	atomic_uint_fast64_t since_ns;       /* CLOCK_MONOTONIC; begin, or the last df_slot_tick; DF_SLOT_WAITS */
	atomic_uint_fast64_t stage;          /* number of the stage in work; DF_NO_STAGE */
	atomic_uint_fast64_t peak_rss_bytes; /* of the child since its exec; see df_slot_note_memory */
	char last_words
		[DF_LAST_WORDS_BYTES]; /* of a child that exits with DF_CHILD_EXIT_USAGE; written once, just before */
	/* Calls of a pipeline that waits for the network; by the link thread, beside the sequence. */
	atomic_uint_fast64_t calls_moved; /* changes whenever a call was sent, answered, or put off */
	atomic_uint_fast64_t calls_out;   /* in flight or waiting for their time */
	atomic_uint_fast64_t
		calls_due_ns; /* CLOCK_MONOTONIC: until then they wait on purpose, for a limit or a server that said when; 0: for none */
	atomic_uint_fast64_t
		shown; /* 1: text of an answer stands on the run's stdout (--stream), and cannot be taken back */
	/* Of calls_out: in flight; what most of the others wait for (enum df_calls_wait), and until when (CLOCK_MONOTONIC; 0: nobody knows). */
	atomic_uint_fast64_t calls_sent, calls_wait, calls_until_ns;
};

enum df_err df_slot_create(struct df_slot **ret_slot, int *ret_fd, struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_slot_map(int fd, struct df_slot **ret_slot, struct df_fail *fail) DF_MUST_CHECK;
void df_slot_unmap(struct df_slot **slot);

void df_slot_begin(struct df_slot *s, uint64_t lease, struct df_record_id first, uint64_t n_record, bool alone,
		   uint64_t now_ns);
void df_slot_end(struct df_slot *s);
/* The stage in work from now on; DF_NO_STAGE: none. */
void df_slot_stage(struct df_slot *s, uint32_t stage);
/* What a child says when it cannot start. */
void df_slot_last_words(struct df_slot *s, const char *words);
/* A sign of progress within a long piece of work: the deadline counts from here. */
void df_slot_tick(struct df_slot *s, uint64_t now_ns);
/* The work waits for the sink to take what it made: no deadline counts until the next tick. */
void df_slot_wait(struct df_slot *s);

/* Note the calling process's peak resident memory, at most every 20 ms. The parent's rusage of a child will not do: it counts what the
 * parent's memory was when the child was started. */
uint64_t df_peak_rss_bytes(void); /* VmHWM of this process; 0 when it cannot be read */
void df_slot_note_memory(struct df_slot *s, uint64_t now_ns);

#endif
