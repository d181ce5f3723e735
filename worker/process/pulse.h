// SPDX-License-Identifier: Apache-2.0
/*
 * pulse: signs of life of a reader while its one thread is inside a call that takes long: a slow disk, a network file system that
 * stands still, a large frame.
 *
 * A second thread with a socket of its own says HELLO while a step lasts longer than DF_HELLO_MS, and says once that it takes long. It falls silent
 * after DF_READ_STALL_MS of one step: then the coordinator takes the reader for lost, and tries the input with another.
 */
#ifndef DF_WORKER_PROCESS_PULSE_H
#define DF_WORKER_PROCESS_PULSE_H

#include "worker/process/link.h"

struct df_pulse;

/* `link` must be open, and outlive the pulse. DF_ERR_NOMEM, DF_ERR_IO. */
enum df_err df_pulse_start(struct df_worker_link *link, struct df_pulse **ret_pulse,
			   struct df_fail *fail) DF_MUST_CHECK;
void df_pulse_stop(struct df_pulse **pulse);

/* Around each step of the owner's thread. `what` (NULL at the end) is said when it takes long; it must stay valid meanwhile. */
void df_pulse_step(struct df_pulse *p, const char *what, uint64_t now_ns);

#endif
