// SPDX-License-Identifier: Apache-2.0
/*
 * sink_thread: the thread around the sink's state machine: results socket, orders in, events out, time.
 */
#ifndef DF_COORDINATOR_SINK_THREAD_H
#define DF_COORDINATOR_SINK_THREAD_H

#include "coordinator/queue.h"
#include "coordinator/sink/sink.h"
#include "proto/link.h"

struct df_sink_thread;

/* `config` without emit and self (set here). The socket passes to the thread; events (struct df_event) go to `events`. */
enum df_err df_sink_thread_start(const struct df_sink_config *config, const uint64_t *n_cell, uint32_t n_source,
				 const struct df_recovered *recovered, struct df_socket *results,
				 struct df_queue *events, struct df_sink_thread **ret_thread,
				 struct df_fail *fail) DF_MUST_CHECK;
void df_sink_thread_order(struct df_sink_thread *t, const struct df_order *order);
/* Asks the thread to end (whatever its state), waits for it, closes the socket. The sink may then be read. False: it did not end
 * within timeout_ms (below 0: no limit), since it writes to a stdout that nobody reads; then only _exit() is left. */
bool df_sink_thread_join(struct df_sink_thread *t, int timeout_ms);
struct df_sink *df_sink_thread_sink(struct df_sink_thread *t);
void df_sink_thread_destroy(struct df_sink_thread **t);

#endif
