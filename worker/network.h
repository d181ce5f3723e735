// SPDX-License-Identifier: Apache-2.0
/*
 * network: what a worker calls out with: the network thread, the table of models, the cache of answers, the run's purse and trace, and the
 * engine of calls on top of them. One of each per worker, and only in those whose pipeline has a stage that calls out.
 *
 * Opened while stages may still be opened, before the process gives up system calls; df_network_prepare comes even earlier, while there is one
 * thread and everything can be read: it makes the folders that the worker will write to, and says which files it will want to read.
 */
#ifndef DF_WORKER_NETWORK_H
#define DF_WORKER_NETWORK_H

#include "base/arena.h"
#include "proto/heritage.h"
#include "worker/process/confine.h"
#include "worker/needs.h"

struct df_network;
struct df_caller;

/* While everything can still be opened: libcurl, and the file that answers are recorded in. */
enum df_err df_network_load(const struct df_heritage *h, struct df_fail *fail) DF_MUST_CHECK;

/* Fills c->read_path (those that it has are kept) and c->write_path. Strings from `arena`. */
enum df_err df_network_prepare(const struct df_heritage *h, const struct df_needs *needs, struct df_arena *arena,
			       struct df_confine *c, struct df_fail *fail) DF_MUST_CHECK;

enum df_err df_network_open(const struct df_heritage *h, struct df_network **ret_network,
			    struct df_fail *fail) DF_MUST_CHECK;
/* No call is out (df_network_stop, and everybody who waited has gone). Accepts NULL. */
void df_network_close(struct df_network **network);
struct df_caller *df_network_caller(const struct df_network *n);

/* Nothing new is sent; what is in flight may take grace_ns more. From any thread, also twice: the shorter grace holds. */
void df_network_stop(struct df_network *n, uint64_t grace_ns);

/* The worker goes, whether or not its threads have come to their end: what was answered is in the cache on disk then, within DF_CALLS_KEEP_MS. */
void df_network_keep(struct df_network *n);

/* Calls that wait for a host or a model that does not answer end, now and from now on; all others go on. From any thread. */
void df_network_hurry(struct df_network *n);

/* So many calls wait already, or so much text, that there is no use in handing in more while so many leases are in work. From any thread. */
bool df_network_crowded(const struct df_network *n, uint32_t n_lease);

/* Tells the coordinator by the slot whether calls progress, or wait on purpose. From any thread. */
void df_network_note(struct df_network *n, struct df_slot *slot);

#endif
