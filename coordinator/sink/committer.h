// SPDX-License-Identifier: Apache-2.0
/*
 * committer: makes a commit durable, on a thread of its own or in the caller's.
 *
 * A job is one step of the journal: sync the data files, append the COMMIT record (and ROTATE when the set is full), sync the
 * journal, close the set under its final names, append FINISH. The order is what makes any prefix of it safe. What is synced
 * depends on the policy: commit: everything; rotate: only jobs that rotate or finish; never: nothing.
 *
 * One job is in flight at most. While it is, the job, the journal and the set in `closing` belong to the committer; take() gives
 * them back. While a job syncs an open file, the sink thread goes on writing behind the bytes that the record names.
 *
 * Threads: all functions from one thread. Errors of the work are in job->err and job->fail; nothing is tried twice.
 */
#ifndef DF_COORDINATOR_SINK_COMMITTER_H
#define DF_COORDINATOR_SINK_COMMITTER_H

#include "coordinator/sink/journal.h"
#include "coordinator/sink/parts.h"

struct df_commit_job {
	const struct df_parts *parts; /* the set whose files are listed; its descriptors stay open meanwhile */
	struct df_journal_file file[DF_N_OUTPUT]; /* to sync */
	size_t n_file;
	bool sync_dir;        /* files came into being */
	struct df_buf commit; /* payloads; empty: no such record */
	struct df_buf rotate;
	struct df_parts closing; /* with a rotate payload: the set to close (parts may point to it) */
	struct df_buf finish;
	/* answers */
	bool did_sync_dir;
	enum df_err err;
	struct df_fail fail;
};

void df_commit_job_init(struct df_commit_job *job);
void df_commit_job_release(struct df_commit_job *job);
/* For the next commit: payloads emptied, answers cleared. */
void df_commit_job_reset(struct df_commit_job *job);
/* The work itself, in the calling thread. */
enum df_err df_commit_job_run(struct df_commit_job *job, struct df_journal *j, enum df_fsync policy) DF_MUST_CHECK;

struct df_committer;

/* with_thread false: take() does the work, event_fd is -1. */
enum df_err df_committer_open(struct df_journal *j, enum df_fsync policy, bool with_thread,
			      struct df_committer **ret_committer, struct df_fail *fail) DF_MUST_CHECK;
/* Waits for the job in flight. */
void df_committer_close(struct df_committer **committer);

bool df_committer_busy(const struct df_committer *c);
int df_committer_event_fd(const struct df_committer *c);
/* Nothing may be in flight. */
void df_committer_submit(struct df_committer *c, struct df_commit_job *job);
/* True once per job, when it is over. */
bool df_committer_take(struct df_committer *c);

#endif
