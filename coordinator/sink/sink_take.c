// SPDX-License-Identifier: Apache-2.0
/* sink_take: a message of the results socket; parts are staged, and a complete result takes its cells, once. */
#include "coordinator/sink/sink_core.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"

static uint64_t staged_total(const struct df_staged *r, const char *name)
{
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, name))
			return r->counter[i].value;
	return 0;
}

static struct df_tally tally_of(const struct df_staged *r)
{
	return (struct df_tally){
		.in = staged_total(r, "in"),
		.out = staged_total(r, "out"),
		.filtered = staged_total(r, "filtered"),
		.rejected = staged_total(r, "rejected"),
		.rows = staged_total(r, "rows"),
		.bytes_in = staged_total(r, "bytes_in"),
		.tokens = staged_total(r, "tokens"),
	};
}

static struct df_staged **find_staged(struct df_sink *s, uint64_t lane, uint64_t lease)
{
	struct df_staged **at = &s->staged;
	while (*at && ((*at)->lane != lane || (*at)->lease != lease))
		at = &(*at)->next;
	return at;
}

static void drop_staged(struct df_sink *s, struct df_staged **at)
{
	struct df_staged *r = *at;
	*at = r->next;
	df_staged_destroy(&s->staging, &r);
}

void df_sink_drop_staged(struct df_sink *s, uint64_t lane)
{
	for (struct df_staged **r = &s->staged; *r;)
		if ((*r)->lane == lane)
			drop_staged(s, r);
		else
			r = &(*r)->next;
}

static bool cells_valid(const struct df_sink *s, const struct df_result *r)
{
	for (size_t i = 0; i < r->n_cells; i++) {
		const struct df_cells c = r->cells[i];
		if (c.source >= s->n_source || c.n == 0 || c.n > DF_MAX_CELLS || c.first > DF_MAX_CELLS)
			return false;
		if (s->source[c.source].plain && c.first + c.n > s->source[c.source].n_cell)
			return false;
	}
	return r->n_cells > 0;
}

static bool any_taken(const struct df_sink *s, const struct df_staged *r, bool *ret_all)
{
	bool any = false, all = true;
	for (size_t i = 0; i < r->n_cells; i++) {
		const struct df_cells c = r->cells[i];
		const struct df_cellset *taken = &s->source[c.source].taken;
		any = any || df_cellset_any(taken, c.first, c.n);
		all = all && df_cellset_next_clear(taken, c.first, c.first + c.n) == c.first + c.n;
	}
	*ret_all = all;
	return any;
}

/* Nothing of it is written. The lease is over when all its cells have their result; a part of them can only be a bug. */
static void drop_doubled(struct df_sink *s, struct df_staged *r, bool all)
{
	struct df_fail fail;
	struct df_event seen = {
		.type = DF_EVENT_SEEN, .lane = r->lane, .lease = r->lease, .busy_ns = staged_total(r, "busy_ns")};
	struct df_cells c = r->cells[0];
	s->stats.doubled++;
	df_staged_destroy(&s->staging, &r);
	if (all) {
		df_sink_emit(s, seen);
		return;
	}
	(void)df_fail(&fail, DF_ERR_BUG,
		      "a result has cells that were taken before and others that were not (input %u, cell %llu)",
		      c.source, (unsigned long long)c.first);
	df_sink_fatal(s, &fail);
}

/* All parts are here: the one place where a cell is taken. */
static void take(struct df_sink *s, struct df_staged *r)
{
	struct df_tally tally = tally_of(r);
	bool all = false;
	if (any_taken(s, r, &all)) {
		drop_doubled(s, r, all);
		return;
	}
	if (tally.in != tally.out + tally.filtered + tally.rejected) {
		struct df_fail fail;
		(void)df_fail(&fail, DF_ERR_BUG,
			      "a worker counted %llu documents in, but %llu out, %llu filtered and %llu rejected",
			      (unsigned long long)tally.in, (unsigned long long)tally.out,
			      (unsigned long long)tally.filtered, (unsigned long long)tally.rejected);
		df_staged_destroy(&s->staging, &r);
		df_sink_fatal(s, &fail);
		return;
	}
	for (size_t i = 0; i < r->n_cells; i++)
		if (!df_sink_check(s,
				   df_cellset_add(&s->source[r->cells[i].source].taken, r->cells[i].first,
						  r->cells[i].n, NULL),
				   "note cells"))
			break;
	struct df_event seen = {.type = DF_EVENT_SEEN,
				.lane = r->lane,
				.lease = r->lease,
				.busy_ns = staged_total(r, "busy_ns"),
				.tally = tally};
	if (s->config.ordered)
		df_sink_wait_turn(s, r);
	else
		(void)df_sink_write(s, r);
	df_sink_emit(s, seen);
}

/* One part; false: the message breaks the protocol and its result is dropped. */
static bool on_result(struct df_sink *s, struct df_sink_lane *lane, const struct df_msg *msg, struct df_frames *frames)
{
	const struct df_result *part = &msg->result;
	struct df_staged **at = find_staged(s, msg->lane, msg->lease);
	struct df_fail fail = {0};
	if (part->n_output != frames->n_payload || part->part != (*at ? (*at)->n_part : 0) ||
	    (part->last && !cells_valid(s, part)))
		return false;
	for (size_t i = 0; i < part->n_output; i++)
		if (df_hash64(frames->payload[i]->p, frames->payload[i]->n) != part->output[i].hash)
			return false;
	if (!*at) {
		struct df_staged *fresh = df_staged_create(msg->lane, msg->lease);
		if (!df_sink_check(s, fresh ? DF_OK : DF_ERR_NOMEM, "stage a result"))
			return true;
		fresh->next = s->staged;
		s->staged = fresh;
		at = &s->staged;
	}
	struct df_staged *r = *at;
	r->n_part++;
	for (size_t i = 0; i < part->n_output; i++) {
		struct df_blob *blob = frames->payload[i];
		frames->payload[i] = NULL;
		if (df_staged_add(&s->staging, r, (enum df_output_kind)part->output[i].kind, part->output[i].rows, blob,
				  &fail) != DF_OK) {
			df_sink_fatal(s, &fail);
			return true;
		}
	}
	if (!part->last)
		return true;
	lane->got++;
	*at = r->next;
	r->next = NULL;
	if (df_sink_check(s, df_staged_end(r, part), "stage a result"))
		take(s, r);
	else
		df_staged_destroy(&s->staging, &r);
	return true;
}

static void on_failed(struct df_sink *s, struct df_sink_lane *lane, const struct df_msg *msg)
{
	struct df_staged **at = find_staged(s, msg->lane, msg->lease);
	if (*at)
		drop_staged(s, at);
	lane->got++;
	df_sink_emit(s, (struct df_event){.type = DF_EVENT_FAILED,
					  .lane = msg->lane,
					  .lease = msg->lease,
					  .err = msg->failed.code,
					  .source = msg->failed.source,
					  .message = df_str_dup(msg->failed.message)});
}

/* A message of it is missing, or it talks nonsense: control will retire it. */
static void lose_lane(struct df_sink *s, struct df_sink_lane *lane)
{
	lane->lost = true;
	df_sink_drop_staged(s, lane->id);
	s->stats.malformed++;
	df_sink_emit(s, (struct df_event){.type = DF_EVENT_GAP, .lane = lane->id});
}

void df_sink_on_message(struct df_sink *s, struct df_frames *frames)
{
	struct df_msg msg;
	struct df_fail fail;
	if (s->over)
		return;
	df_arena_reset(&s->scratch);
	struct df_str header = {frames->header->p, frames->header->n};
	enum df_err err = df_msg_unpack(header, &s->scratch, &msg, &fail);
	if (err == DF_ERR_NOMEM) {
		df_sink_fatal(s, &fail);
		return;
	}
	if (err != DF_OK || (msg.type != DF_MSG_RESULT && msg.type != DF_MSG_FAILED)) {
		s->stats.malformed++;
		return;
	}
	struct df_sink_lane *lane = df_sink_find_lane(s, msg.lane); /* lane ids carry the epoch */
	if (!lane) {
		s->stats.stale++;
		return;
	}
	uint64_t seq = msg.type == DF_MSG_FAILED ? msg.failed.seq : msg.result.seq;
	if (lane->lost || seq <= lane->seq) {
		s->stats.stale += lane->lost;
		s->stats.doubled += !lane->lost;
		return;
	}
	bool next = seq == lane->seq + 1;
	lane->seq = seq;
	if (next && msg.type == DF_MSG_FAILED)
		on_failed(s, lane, &msg);
	else if (!next || !on_result(s, lane, &msg, frames))
		lose_lane(s, lane);
}
