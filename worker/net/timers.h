// SPDX-License-Identifier: Apache-2.0
/*
 * timers: what is to happen at which time: a heap of (time, order of setting). Pure: it is told the time. One thread.
 */
#ifndef DF_WORKER_NET_TIMERS_H
#define DF_WORKER_NET_TIMERS_H

#include <stdint.h>

#include "base/err.h"

struct df_timer {
	uint64_t id, at_ns;
	void (*fn)(void *self);
	void *self;
	uint32_t place; /* in the heap */
	uint32_t next;  /* free slot behind it, counted from 1 */
};

struct df_timers { /* zeroed: empty */
	struct df_timer *timer;
	uint32_t *heap; /* indices of timers, the earliest first */
	uint32_t n, n_slot, cap, free;
	uint64_t last; /* id; its low bits are the slot */
};

#define DF_TIMER_NEVER UINT64_MAX

void df_timers_release(struct df_timers *t);
/* *ret_id is never 0 and never comes twice. DF_ERR_NOMEM. */
enum df_err df_timers_set(struct df_timers *t, uint64_t at_ns, void (*fn)(void *self), void *self,
			  uint64_t *ret_id) DF_MUST_CHECK;
void df_timers_unset(struct df_timers *t, uint64_t id); /* what has fired or never was is passed over */
uint64_t df_timers_next(const struct df_timers *t);     /* DF_TIMER_NEVER: none */
/* Runs what is due at now_ns, the earliest first and equal times in the order of setting; what that sets anew waits for the next call. */
void df_timers_fire(struct df_timers *t, uint64_t now_ns);

#endif
