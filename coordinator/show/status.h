// SPDX-License-Identifier: Apache-2.0
/*
 * status: `status.json`, what a live run says of itself about once a second: rates, what each child has in work and since when,
 * the slowest places so far. For `docflume status` and for scripts that watch; it is written beside and renamed over, never
 * synced, and means nothing once the run's lock is free. What is durable is in the journal.
 *
 * All memory of a status is the caller's.
 */
#ifndef DF_COORDINATOR_SHOW_STATUS_H
#define DF_COORDINATOR_SHOW_STATUS_H

#include "base/buf.h"
#include "base/io.h"
#include "coordinator/rundir/expenses.h"
#include "proto/messages.h"

#define DF_STATUS_NAME "status.json"
#define DF_STATUS_VERSION 1
#define DF_STATUS_BYTES_MAX (4U << 20)
#define DF_STATUS_SLOW 8
#define DF_STATUS_CHILDREN_MAX 2048
#define DF_STATUS_EVERY_MS 1000

/* One worker or reader. */
struct df_child_status {
	enum df_role role;
	uint32_t number; /* as in messages: worker 1, 2, ... */
	uint32_t pid;
	uint64_t memory_bytes;         /* its own, now; 0: unknown */
	uint64_t calls_out;            /* calls of models in flight, or waiting for their time */
	uint64_t calls_sent;           /* of them, in flight */
	enum df_calls_wait calls_wait; /* the others; and for how long, 0: nobody knows */
	double calls_wait_seconds;
	bool computing;
	/* while it computes */
	struct df_str source; /* name */
	uint64_t offset, n_record;
	struct df_str stage; /* empty: reading, or writing rows */
	double seconds;      /* since when */
};

/* A lease that took long. */
struct df_slow_status {
	struct df_str source;
	uint64_t offset, bytes;
	double seconds;
};

struct df_status {
	uint32_t pid, epoch;
	uint64_t wall_ns;
	double elapsed_seconds; /* of this epoch */
	uint64_t bytes_total;   /* of plain files; 0: unknown */
	uint64_t bytes_done;    /* of them, all epochs */
	double docs_per_second, bytes_per_second;
	uint64_t docs; /* seen in this epoch, durable or about to be */
	uint64_t deaths, strikes, poisoned, redone, source_errors;
	struct df_costs costs;
	struct df_child_status *child;
	size_t n_child;
	struct df_slow_status slow[DF_STATUS_SLOW]; /* slowest first */
	size_t n_slow;
};

/* What calls wait for, in words: "a limit of requests or tokens"; NULL: for nothing. */
const char *df_calls_wait_words(enum df_calls_wait wait);
/* The same for a narrow place: "rate limit"; NULL also for the usual wait for room. */
const char *df_calls_wait_word(enum df_calls_wait wait);
/* The JSON object and a line break. DF_ERR_NOMEM, DF_ERR_LIMIT. */
enum df_err df_status_format(const struct df_status *s, struct df_buf *out) DF_MUST_CHECK;
/* The member "costs" of such an object, with a comma before it; nothing when they are not known. */
void df_status_add_costs(const struct df_costs *costs, struct df_buf *out);
/* Replaces the file; nothing is synced. An error is the caller's to overlook: a run is worth more than its news. */
enum df_err df_status_write(const struct df_io *io, int dirfd, const struct df_status *s) DF_MUST_CHECK;
/* Of a run that is over. */
void df_status_remove(const struct df_io *io, int dirfd);

#endif
