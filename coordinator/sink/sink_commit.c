// SPDX-License-Identifier: Apache-2.0
/* sink_commit: when what was written becomes durable, and the end. */
#include "coordinator/sink/sink_core.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define NOTE_BYTES 64 /* of a source state without its message */

static bool anything_to_commit(const struct df_sink *s)
{
	return s->batch.n || s->n_note || s->n_strike;
}

/* Source states for one commit: what is left goes with the next, since 100,000 messages do not fit one record. */
static size_t notes_of_commit(const struct df_sink *s)
{
	size_t n = 0;
	for (size_t bytes = 0; n < s->n_note; n++) {
		bytes += s->note[n].message.n + NOTE_BYTES;
		if (n && bytes > DF_COMMIT_NOTE_BYTES)
			break;
	}
	return n;
}

static void forget_notes(struct df_sink *s, size_t n_note, size_t n_strike)
{
	for (size_t i = 0; i < n_note; i++)
		free((char *)(uintptr_t)s->note[i].message.p);
	s->n_note -= n_note;
	s->n_strike -= n_strike;
	if (s->n_note)
		memmove(s->note, s->note + n_note, s->n_note * sizeof(*s->note));
	if (s->n_strike)
		memmove(s->strike, s->strike + n_strike, s->n_strike * sizeof(*s->strike));
}

static void begin_commit(struct df_sink *s)
{
	struct df_fail fail = {0};
	size_t n_note = notes_of_commit(s);
	size_t n_strike = s->n_strike < DF_COMMIT_STRIKES ? s->n_strike : DF_COMMIT_STRIKES;
	df_arena_reset(&s->scratch);
	struct df_counter *counter = df_arena_array(&s->scratch, s->totals.n + 1, sizeof(*counter));
	if (!df_sink_check(s, counter ? DF_OK : DF_ERR_NOMEM, "commit"))
		return;
	size_t n = 0;
	for (size_t i = 0; i < s->totals.n_slot; i++)
		if (s->totals.slots[i].key.p)
			counter[n++] = (struct df_counter){s->totals.slots[i].key, s->totals.slots[i].value};
	struct df_commit commit = {s->batch.item, s->batch.n, counter, n, s->strike, n_strike, s->note, n_note};
	if (df_store_commit(s->config.store, &commit, &fail) != DF_OK) {
		df_sink_fatal(s, &fail);
		return;
	}
	s->stats.commits++;
	struct df_cells_list swap = s->in_flight;
	s->in_flight = s->batch;
	s->batch = swap;
	s->batch.n = 0;
	forget_notes(s, n_note, n_strike);
}

static void reap(struct df_sink *s)
{
	struct df_fail fail = {0};
	bool done = false;
	if (!df_store_committing(s->config.store))
		return;
	if (df_store_reap(s->config.store, &done, &fail) != DF_OK) {
		df_sink_fatal(s, &fail);
		return;
	}
	if (!done)
		return;
	for (size_t i = 0; i < s->in_flight.n; i++)
		df_sink_emit(s, (struct df_event){.type = DF_EVENT_DONE, .cells = s->in_flight.item[i].cells});
	s->in_flight.n = 0;
}

/* The last look before the journal says for ever that the run is complete. */
static bool nothing_missing(const struct df_sink *s, struct df_fail *fail)
{
	if (s->waiting) {
		(void)df_fail(fail, DF_ERR_BUG,
			      "the run was called complete, but results of input %u wait for cells before them",
			      s->waiting->cells[0].source);
		return false;
	}
	for (uint32_t i = 0; i < s->n_source; i++) {
		const struct df_sink_source *src = &s->source[i];
		uint64_t n_written = src->taken.n_set;
		if (src->failed || n_written == src->n_cell)
			continue;
		(void)df_fail(fail, DF_ERR_BUG,
			      "the run was called complete, but input %u has %llu cells with results of %llu", i,
			      (unsigned long long)n_written, (unsigned long long)src->n_cell);
		return false;
	}
	return true;
}

static struct df_grid_size size_of_grid(const struct df_sink *s)
{
	struct df_grid_size size = {.n_source = s->n_source};
	for (uint32_t i = 0; i < s->n_source; i++)
		size.n_cell += s->source[i].failed ? 0 : s->source[i].n_cell;
	return size;
}

static void finish(struct df_sink *s)
{
	struct df_fail fail = {0};
	struct df_grid_size size = size_of_grid(s);
	if (s->complete && !nothing_missing(s, &fail)) {
		df_sink_fatal(s, &fail);
		return;
	}
	if (s->staged || s->waiting) { /* stopped early: what is not complete or not in order is not written */
		df_sink_free_results(s, s->staged);
		df_sink_free_results(s, s->waiting);
		s->staged = s->waiting = NULL;
	}
	if (anything_to_commit(s) || df_store_committing(s->config.store))
		return;
	if (df_store_finish(s->config.store, s->complete ? &size : NULL, &fail) != DF_OK) {
		df_sink_fatal(s, &fail);
		return;
	}
	s->over = true;
	df_sink_emit(s, (struct df_event){.type = DF_EVENT_FINISHED});
}

bool df_sink_full(const struct df_sink *s)
{
	return df_store_committing(s->config.store) &&
	       (s->batch.n >= DF_BATCH_RANGES_MAX ||
		df_store_pending_bytes(s->config.store) >= DF_BATCH_COMMITS_MAX * s->config.commit_bytes);
}

void df_sink_tick(struct df_sink *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	if (!s->over)
		reap(s);
	bool due = s->finishing || s->batch.n >= DF_BATCH_RANGES_MAX ||
		   now_ns >= s->batch_since_ns + s->config.commit_ns ||
		   df_store_pending_bytes(s->config.store) >= s->config.commit_bytes ||
		   df_store_part_full(s->config.store);
	if (!s->over && due && anything_to_commit(s) && !df_store_committing(s->config.store)) {
		begin_commit(s);
		if (!s->over)
			reap(s); /* stores without a sync thread are done at once */
	}
	if (!s->over && s->finishing)
		finish(s);
}

uint64_t df_sink_deadline(const struct df_sink *s)
{
	if (s->over || df_store_committing(s->config.store) || !anything_to_commit(s))
		return UINT64_MAX;
	return s->finishing ? s->now_ns : s->batch_since_ns + s->config.commit_ns;
}
