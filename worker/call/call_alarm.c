// SPDX-License-Identifier: Apache-2.0
/* call_alarm: a binary heap whose elements know their places. */
#include "worker/call/call_alarm.h"

#include <stdlib.h>

#include "base/array.h"

void df_alarms_release(struct df_alarms *a)
{
	free(a->heap);
	*a = (struct df_alarms){0};
}

static void put(struct df_alarms *a, size_t i, struct df_alarm *alarm)
{
	a->heap[i] = alarm;
	alarm->place = i + 1;
}

static void up(struct df_alarms *a, size_t i)
{
	struct df_alarm *alarm = a->heap[i];
	for (; i > 0 && a->heap[(i - 1) / 2]->at_ns > alarm->at_ns; i = (i - 1) / 2)
		put(a, i, a->heap[(i - 1) / 2]);
	put(a, i, alarm);
}

static void down(struct df_alarms *a, size_t i)
{
	struct df_alarm *alarm = a->heap[i];
	for (size_t child; (child = 2 * i + 1) < a->n; i = child) {
		if (child + 1 < a->n && a->heap[child + 1]->at_ns < a->heap[child]->at_ns)
			child++;
		if (a->heap[child]->at_ns >= alarm->at_ns)
			break;
		put(a, i, a->heap[child]);
	}
	put(a, i, alarm);
}

enum df_err df_alarms_room(struct df_alarms *a, size_t n)
{
	while (a->cap < n)
		DF_TRY(df_array_room((void **)&a->heap, a->cap, &a->cap, sizeof(struct df_alarm *)));
	return DF_OK;
}

void df_alarm_set(struct df_alarms *a, struct df_alarm *alarm, uint64_t at_ns)
{
	if (!alarm->place) {
		DF_ASSERT(a->n < a->cap);
		put(a, a->n++, alarm);
	}
	alarm->at_ns = at_ns;
	up(a, alarm->place - 1);
	down(a, alarm->place - 1);
}

void df_alarm_clear(struct df_alarms *a, struct df_alarm *alarm)
{
	if (!alarm->place)
		return;
	size_t i = alarm->place - 1;
	struct df_alarm *last = a->heap[--a->n];
	alarm->place = 0;
	if (last == alarm)
		return;
	put(a, i, last);
	up(a, i);
	down(a, last->place - 1);
}

struct df_alarm *df_alarm_due(struct df_alarms *a, uint64_t now_ns)
{
	if (!a->n || a->heap[0]->at_ns > now_ns)
		return NULL;
	struct df_alarm *first = a->heap[0];
	df_alarm_clear(a, first);
	return first;
}

uint64_t df_alarm_next(const struct df_alarms *a)
{
	return a->n ? a->heap[0]->at_ns : UINT64_MAX;
}
