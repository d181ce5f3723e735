// SPDX-License-Identifier: Apache-2.0
/*
 * sink: the exactly-once gate in front of the store.
 *
 * DESIGN. A lane is known from its LANE order until it is fenced; messages of any other lane are stale. Results are staged
 * per (lane, lease); a complete one is *taken* (its cells marked in `taken`), tallied to control, and written at once or in
 * its turn. What is written joins `batch`; a commit makes the batch durable together with the totals, and only then are its
 * cells DONE. Events leave through config.emit in the order in which things happened.
 */
#include "coordinator/sink/sink_core.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"

void df_sink_emit(struct df_sink *s, struct df_event event)
{
	event.held_bytes = s->staging.memory_bytes + s->staging.file_bytes;
	s->config.emit(s->config.self, &event);
}

void df_sink_fatal(struct df_sink *s, const struct df_fail *fail)
{
	if (s->over)
		return;
	s->over = true;
	df_sink_emit(s, (struct df_event){.type = DF_EVENT_FATAL,
					  .err = fail->code,
					  .message = df_str_dup(df_str_from(fail->msg))});
}

void df_sink_fail(struct df_sink *s, const struct df_fail *fail)
{
	df_sink_fatal(s, fail);
}

void df_sink_cannot(struct df_sink *s, enum df_err err, const char *what)
{
	struct df_fail fail;
	(void)df_fail(&fail, err, "the sink cannot %s: %s", what, df_err_name(err));
	df_sink_fatal(s, &fail);
}

/* ------------------------------------------------------------------ life */

static enum df_err recover(struct df_sink *s, const struct df_recovered *r)
{
	for (size_t i = 0; i < r->n_cells; i++) {
		const struct df_cells c = r->cells[i].cells;
		if (c.source >= s->n_source)
			return DF_ERR_CORRUPT;
		DF_TRY(df_cellset_add(&s->source[c.source].taken, c.first, c.n, NULL));
		if (s->config.ordered)
			DF_TRY(df_cellset_add(&s->source[c.source].before, c.first, c.n, NULL));
	}
	for (size_t i = 0; i < r->n_counter; i++) {
		uint64_t *value = NULL;
		DF_TRY(df_map_put(&s->totals, r->counter[i].name, 0, &value));
		*value = r->counter[i].value;
	}
	for (size_t i = 0; i < r->n_source; i++) {
		const struct df_source_state *state = &r->source[i];
		if (state->source >= s->n_source)
			return DF_ERR_CORRUPT;
		struct df_sink_source *src = &s->source[state->source];
		/* a reader's source that ended with an error and is not complete is read again: its end is not known */
		if (!src->plain && state->ended && (state->err == DF_OK || src->taken.n_set == state->n_cell))
			src->n_cell = state->n_cell;
		src->failed = state->err != DF_OK;
	}
	return DF_OK;
}

enum df_err df_sink_create(const struct df_sink_config *config, const uint64_t *n_cell, uint32_t n_source,
			   const struct df_recovered *recovered, struct df_sink **ret_sink)
{
	struct df_sink *s = calloc(1, sizeof(*s));
	if (!s)
		return DF_ERR_NOMEM;
	s->config = *config;
	df_map_init(&s->totals, 1U << 20);
	df_arena_init(&s->scratch, 64U << 20, 1U << 20);
	df_staging_init(&s->staging, config->ordered ? DF_ORDER_WINDOW_BYTES : DF_STAGED_BYTES_MAX,
			config->spill_dirfd);
	s->source = calloc(n_source ? n_source : 1, sizeof(*s->source));
	enum df_err err = s->source ? DF_OK : DF_ERR_NOMEM;
	if (err == DF_OK) {
		s->n_source = n_source;
		for (uint32_t i = 0; i < n_source; i++)
			s->source[i] = (struct df_sink_source){.n_cell = n_cell[i], .plain = n_cell[i] != UINT64_MAX};
		err = recover(s, recovered);
	}
	if (err != DF_OK) {
		df_sink_destroy(&s);
		return err;
	}
	*ret_sink = s;
	return DF_OK;
}

void df_sink_free_results(struct df_sink *s, struct df_staged *list)
{
	while (list) {
		struct df_staged *next = list->next;
		df_staged_destroy(&s->staging, &list);
		list = next;
	}
}

void df_sink_destroy(struct df_sink **sink)
{
	struct df_sink *s = *sink;
	if (!s)
		return;
	df_sink_free_results(s, s->staged);
	df_sink_free_results(s, s->waiting);
	df_staging_release(&s->staging);
	for (uint32_t i = 0; i < s->n_source; i++) {
		df_cellset_release(&s->source[i].taken);
		df_cellset_release(&s->source[i].before);
		free(s->source[i].info);
	}
	for (size_t i = 0; i < s->n_note; i++)
		free((char *)(uintptr_t)s->note[i].message.p);
	free(s->source);
	free(s->lane);
	free(s->batch.item);
	free(s->in_flight.item);
	free(s->note);
	free(s->strike);
	df_map_release(&s->totals);
	df_arena_release(&s->scratch);
	free(s);
	*sink = NULL;
}

/* ------------------------------------------------------------------ orders */

static void on_source(struct df_sink *s, const struct df_order *o)
{
	if (!df_sink_check(s, df_array_room((void **)&s->note, s->n_note, &s->cap_note, sizeof(*s->note)),
			   "note a source"))
		return;
	if (s->n_note + s->n_strike + s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	s->note[s->n_note++] = o->source;
	struct df_sink_source *src = &s->source[o->source.source];
	if (o->source.ended)
		src->n_cell = o->source.n_cell;
	src->failed = o->source.err != DF_OK;
	if (s->config.ordered)
		df_sink_write_waiting(s);
}

static void on_strike(struct df_sink *s, const struct df_order *o)
{
	if (!df_sink_check(s, df_array_room((void **)&s->strike, s->n_strike, &s->cap_strike, sizeof(*s->strike)),
			   "note a strike"))
		return;
	if (s->n_note + s->n_strike + s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	s->strike[s->n_strike++] = o->strike;
}

void df_sink_on_order(struct df_sink *s, const struct df_order *o)
{
	struct df_sink_lane *lane = df_sink_find_lane(s, o->lane);
	if (s->over) {
		free((char *)(uintptr_t)o->source.message.p);
		return;
	}
	switch (o->type) {
	case DF_ORDER_LANE:
		if (df_sink_check(s, df_array_room((void **)&s->lane, s->n_lane, &s->cap_lane, sizeof(*s->lane)),
				  "add a lane"))
			s->lane[s->n_lane++] = (struct df_sink_lane){.id = o->lane};
		break;
	case DF_ORDER_FENCE:
		if (lane)
			lane->fencing = true;
		else
			df_sink_emit(s, (struct df_event){.type = DF_EVENT_FENCED, .lane = o->lane});
		break;
	case DF_ORDER_HELLO:
		df_sink_on_hello(lane, o->n);
		break;
	case DF_ORDER_SOURCE:
		on_source(s, o);
		break;
	case DF_ORDER_STRIKE:
		on_strike(s, o);
		break;
	case DF_ORDER_INFO:
		df_sink_note_info(s, o);
		break;
	case DF_ORDER_FINISH:
		s->finishing = true;
		s->complete = o->n != 0;
		break;
	}
}

bool df_sink_over(const struct df_sink *s)
{
	return s->over;
}

struct df_sink_stats df_sink_stats(const struct df_sink *s)
{
	return s->stats;
}

const struct df_map *df_sink_totals(const struct df_sink *s)
{
	return &s->totals;
}
