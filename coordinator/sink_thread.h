// SPDX-License-Identifier: Apache-2.0
/*
 * sink_thread: the thread around the sink's state machine: results socket, orders in, events out, time.
 */
#ifndef DF_COORDINATOR_SINK_THREAD_H
#define DF_COORDINATOR_SINK_THREAD_H

#include "coordinator/life/life.h"
#include "coordinator/queue.h"
#include "coordinator/sink/sink.h"
#include "proto/link.h"

struct df_sink_thread;

/* `config` without emit and self (set here). The socket passes to the thread; events (struct df_event) go to `events`. `life` learns
 * what was written. */
enum df_err df_sink_thread_start(const struct df_sink_config *config, const uint64_t *n_cell, uint32_t n_source,
				 const struct df_recovered *recovered, struct df_socket *results,
				 struct df_queue *events, struct df_life *life, struct df_sink_thread **ret_thread,
				 struct df_fail *fail) DF_MUST_CHECK;
void df_sink_thread_order(struct df_sink_thread *t, const struct df_order *order);
/* Since when the thread has been at one piece of work without coming back for the next: it writes, and nobody takes it. 0: it waits
 * for work. No deadline ends such a write: a reader of stdout may pause for days, and a disk that hangs is the user's to mend or to
 * leave; whoever asks tells the user. */
uint64_t df_sink_thread_busy_since(const struct df_sink_thread *t);
/* The sink has said FINISHED or FATAL. From any thread. */
bool df_sink_thread_over(const struct df_sink_thread *t);
/* Asks the thread to end (whatever its state), waits for it, closes the socket. The sink may then be read. False: it did not end
 * within timeout_ms, since it writes to what nobody takes; then only _exit() is left. */
bool df_sink_thread_join(struct df_sink_thread *t, int timeout_ms);
struct df_sink *df_sink_thread_sink(struct df_sink_thread *t);
/* Joined before. Accepts NULL. */
void df_sink_thread_destroy(struct df_sink_thread **t);

#endif
