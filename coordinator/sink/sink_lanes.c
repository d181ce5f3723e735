// SPDX-License-Identifier: Apache-2.0
/* sink_lanes: who may send: fences, and results that a lane says it sent but that never came. */
#include "coordinator/sink/sink_core.h"

struct df_sink_lane *df_sink_find_lane(struct df_sink *s, uint64_t id)
{
	for (size_t i = 0; i < s->n_lane; i++)
		if (s->lane[i].id == id)
			return &s->lane[i];
	return NULL;
}

void df_sink_on_hello(struct df_sink_lane *lane, uint64_t sent)
{
	if (lane) {
		lane->expect = sent;
		lane->check = true;
	}
}

static void fence(struct df_sink *s, size_t at)
{
	uint64_t id = s->lane[at].id;
	df_sink_drop_staged(s, id);
	s->lane[at] = s->lane[--s->n_lane];
	df_sink_emit(s, (struct df_event){.type = DF_EVENT_FENCED, .lane = id});
}

void df_sink_on_empty(struct df_sink *s)
{
	for (size_t i = 0; i < s->n_lane && !s->over;) {
		struct df_sink_lane *lane = &s->lane[i];
		if (lane->check && !lane->lost) {
			/* what was sent since may still be on its way: only what an earlier HELLO told can be missing */
			bool missing = lane->got < lane->noted;
			lane->gaps = missing ? lane->gaps + 1 : 0;
			lane->noted = missing ? lane->noted : lane->expect;
			lane->check = false;
			if (lane->gaps == 2)
				df_sink_emit(s, (struct df_event){.type = DF_EVENT_GAP, .lane = lane->id});
		}
		if (lane->fencing)
			fence(s, i);
		else
			i++;
	}
}
