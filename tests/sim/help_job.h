// SPDX-License-Identifier: Apache-2.0
/*
 * help_job: the real worker/lease/job.c inside a model worker: a lease is worked on at once, and its messages leave one by one as the
 * model's time goes by, or are lost with the process.
 */
#ifndef DF_TESTS_SIM_HELP_JOB_H
#define DF_TESTS_SIM_HELP_JOB_H

#include "tests/sim/help_peer.h"

struct sim_job;

/* The lease in p->parcel, from its first byte to its last message. */
void job_begin(struct peer *p);
/* Some of the messages; `all`: the rest. */
void job_send(struct peer *p, bool all, uint64_t now_ns);
void job_forget(struct peer *p); /* the messages that are left */
void job_destroy(struct sim_job **job);

#endif
