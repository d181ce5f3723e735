// SPDX-License-Identifier: Apache-2.0
/*
 * call_alarm: many times to wake up at, as a binary heap, so that one timer serves them all. Alarms are embedded in what they wake; setting, moving and
 * clearing one costs O(log n) and no memory but the heap's own.
 */
#ifndef DF_WORKER_CALL_CALL_ALARM_H
#define DF_WORKER_CALL_CALL_ALARM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct df_alarm {
	uint64_t at_ns;
	size_t place; /* in the heap, from 1; 0: not set */
	void (*ring)(struct df_alarm *self);
};

struct df_alarms {
	struct df_alarm **heap;
	size_t n, cap;
};

void df_alarms_release(struct df_alarms *a);
/* Room for `n` alarms at once. It is made when what they are embedded in is made, so that setting one never fails. */
enum df_err df_alarms_room(struct df_alarms *a, size_t n) DF_MUST_CHECK;
void df_alarm_set(struct df_alarms *a, struct df_alarm *alarm, uint64_t at_ns); /* or moves it */
void df_alarm_clear(struct df_alarms *a, struct df_alarm *alarm);               /* also when it is not set */
/* The earliest that is due, taken out; NULL: none. */
struct df_alarm *df_alarm_due(struct df_alarms *a, uint64_t now_ns);
uint64_t df_alarm_next(const struct df_alarms *a); /* UINT64_MAX: none is set */

#endif
