// SPDX-License-Identifier: Apache-2.0
/*
 * sink: the exactly-once gate in front of the store.
 *
 * DESIGN. A lane is known from its LANE order until it is fenced; messages of any other lane are stale. Results are staged
 * per (lane, lease); a complete one is *taken* (its cells marked in `taken`), tallied to control, and written at once or in
 * its turn. What is written joins `batch`; a commit makes the batch durable together with the totals, and only then are its
 * cells DONE. Events leave through config.emit in the order in which things happened.
 */
#include "coordinator/sink/sink.h"

#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/cellset.h"
#include "coordinator/sink/stage.h"

struct lane {
	uint64_t id;
	uint64_t got;    /* last parts received */
	uint64_t expect; /* as the last HELLO said */
	bool check, fencing;
	uint64_t noted; /* as an earlier HELLO said; the watch is for this number */
	uint32_t gaps;  /* looks in a row at an empty socket that found fewer results than `noted` */
};

/* What a reader said of one cell. */
struct cell_note {
	uint64_t cell;
	struct df_cell_info info;
};

struct source {
	struct df_cellset taken;               /* in this epoch or an earlier one */
	struct df_cellset before;              /* ordered: committed by earlier epochs, never written again */
	uint64_t n_cell;                       /* UINT64_MAX: unknown yet */
	bool plain;                            /* a file on disk: n_cell is known from the first */
	bool failed;                           /* a source error: plain cells that are not taken by now never come */
	struct cell_note *info;                /* of reader's cells not yet written, rising by cell: a ring */
	uint64_t info_first, n_info, cap_info; /* cap_info is a power of two */
};

struct cells_list {
	struct df_commit_cells *item;
	size_t n, cap;
};

struct df_sink {
	struct df_sink_config config;
	struct lane *lane;
	size_t n_lane, cap_lane;
	struct source *source;
	uint32_t n_source;
	struct df_staging staging;
	struct df_staged *staged;  /* incomplete results */
	struct df_staged *waiting; /* ordered: complete ones, by first cell */
	struct df_cells cursor;    /* ordered: the next cell to write */
	struct cells_list batch, in_flight;
	struct df_map totals;
	struct df_source_state *note; /* source states for the next commit */
	size_t n_note, cap_note;
	struct df_strike *strike;
	size_t n_strike, cap_strike;
	uint64_t batch_since_ns, now_ns;
	bool finishing, complete, over;
	struct df_sink_stats stats;
	struct df_arena scratch;
};

static void emit(struct df_sink *s, struct df_event event)
{
	event.held_bytes = s->staging.memory_bytes + s->staging.file_bytes;
	s->config.emit(s->config.self, &event);
}

static void fatal(struct df_sink *s, const struct df_fail *fail)
{
	if (s->over)
		return;
	s->over = true;
	emit(s, (struct df_event){
			.type = DF_EVENT_FATAL, .err = fail->code, .message = df_str_dup(df_str_from(fail->msg))});
}

static bool check(struct df_sink *s, enum df_err err, const char *what)
{
	struct df_fail fail;
	if (err == DF_OK)
		return true;
	(void)df_fail(&fail, err, "the sink cannot %s: %s", what, df_err_name(err));
	fatal(s, &fail);
	return false;
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
		struct source *src = &s->source[state->source];
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
			s->source[i] = (struct source){.n_cell = n_cell[i], .plain = n_cell[i] != UINT64_MAX};
		err = recover(s, recovered);
	}
	if (err != DF_OK) {
		df_sink_destroy(&s);
		return err;
	}
	*ret_sink = s;
	return DF_OK;
}

static void free_list(struct df_sink *s, struct df_staged *list)
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
	free_list(s, s->staged);
	free_list(s, s->waiting);
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

static struct lane *find_lane(struct df_sink *s, uint64_t id)
{
	for (size_t i = 0; i < s->n_lane; i++)
		if (s->lane[i].id == id)
			return &s->lane[i];
	return NULL;
}

/* ------------------------------------------------------------------ writing a complete result */

static uint64_t total(const struct df_staged *r, const char *name)
{
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, name))
			return r->counter[i].value;
	return 0;
}

static struct df_tally tally_of(const struct df_staged *r)
{
	return (struct df_tally){
		.in = total(r, "in"),
		.out = total(r, "out"),
		.filtered = total(r, "filtered"),
		.rejected = total(r, "rejected"),
		.rows = total(r, "rows"),
		.bytes_in = total(r, "bytes_in"),
		.tokens = total(r, "tokens"),
	};
}

static const struct cell_note *note_at(const struct source *src, uint64_t i)
{
	return &src->info[(src->info_first + i) & (src->cap_info - 1)];
}

/* The sum over a range of what the reader said of its cells; zeros for plain files. */
static struct df_cell_info info_of(const struct source *src, struct df_cells c)
{
	struct df_cell_info sum = {0};
	uint64_t low = 0, high = src->n_info;
	while (low < high) {
		uint64_t mid = low + (high - low) / 2;
		if (note_at(src, mid)->cell < c.first)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < src->n_info && note_at(src, low)->cell < c.first + c.n; low++) {
		const struct cell_note *one = note_at(src, low);
		if (one->cell == c.first)
			sum.start = one->info.start;
		sum.bytes += one->info.bytes;
		sum.records += one->info.records;
		sum.hash = df_hash64_seed(&one->info.hash, sizeof(one->info.hash), sum.hash);
	}
	return sum;
}

/* Forget what is written, oldest first; an empty ring is given back, since there may be 100,000 sources. */
static void forget_info(struct df_sink *s, uint32_t source)
{
	struct source *src = &s->source[source];
	if (!src->info)
		return;
	while (src->n_info) {
		uint64_t cell = note_at(src, 0)->cell;
		bool written = s->config.ordered ? s->cursor.source > source ||
							   (s->cursor.source == source && cell < s->cursor.first)
						 : df_cellset_has(&src->taken, cell);
		if (!written)
			return;
		src->info_first++;
		src->n_info--;
	}
	free(src->info);
	src->info = NULL;
	src->cap_info = 0;
}

static enum df_err add_totals(struct df_sink *s, const struct df_staged *r)
{
	for (size_t i = 0; i < r->n_counter; i++) {
		uint64_t *value = NULL;
		DF_TRY(df_map_put(&s->totals, r->counter[i].name, 0, &value));
		*value += r->counter[i].value;
	}
	return DF_OK;
}

static enum df_err write_rows(struct df_sink *s, struct df_staged *r, struct df_fail *fail)
{
	for (size_t i = 0; i < r->n_frame; i++) {
		struct df_blob *blob = NULL;
		DF_TRY(df_staged_take(&s->staging, &r->frame[i], &blob, fail));
		enum df_err err = df_store_append(s->config.store, r->frame[i].kind, blob, r->frame[i].rows, fail);
		df_blob_unref(&blob);
		DF_TRY(err);
	}
	return DF_OK;
}

/* Consumes the result. */
static bool write_result(struct df_sink *s, struct df_staged *r)
{
	struct df_fail fail = {0};
	bool ok = true;
	if (write_rows(s, r, &fail) != DF_OK) {
		fatal(s, &fail);
		ok = false;
	}
	if (ok && s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	for (size_t i = 0; ok && i < r->n_cells; i++) {
		ok = check(s, df_array_room((void **)&s->batch.item, s->batch.n, &s->batch.cap, sizeof(*s->batch.item)),
			   "note cells");
		if (ok)
			s->batch.item[s->batch.n++] = (struct df_commit_cells){
				r->cells[i], info_of(&s->source[r->cells[i].source], r->cells[i])};
	}
	ok = ok && check(s, add_totals(s, r), "count");
	for (size_t i = 0; i < r->n_cells && !s->config.ordered; i++) /* else when the cursor has passed them */
		forget_info(s, r->cells[i].source);
	df_staged_destroy(&s->staging, &r);
	return ok;
}

/* ------------------------------------------------------------------ order */

static int compare(struct df_cells a, struct df_cells b)
{
	if (a.source != b.source)
		return a.source < b.source ? -1 : 1;
	return a.first < b.first ? -1 : a.first > b.first;
}

/* Move the cursor over what earlier epochs wrote and over ends of sources. */
static void settle_cursor(struct df_sink *s)
{
	while (s->cursor.source < s->n_source) {
		const struct source *src = &s->source[s->cursor.source];
		if (src->plain && src->failed) { /* what will ever come of it waits already */
			if (s->waiting && s->waiting->cells[0].source == s->cursor.source) {
				s->cursor.first = s->waiting->cells[0].first;
				return;
			}
			s->cursor.first = src->n_cell;
		}
		uint64_t end = src->n_cell == UINT64_MAX ? s->cursor.first + src->before.n_set + 1 : src->n_cell;
		if (s->cursor.first < end)
			s->cursor.first = df_cellset_next_clear(&src->before, s->cursor.first, end);
		if (src->n_cell == UINT64_MAX || s->cursor.first < src->n_cell)
			return;
		s->cursor = (struct df_cells){s->cursor.source + 1, 0, 0};
	}
}

static void write_waiting(struct df_sink *s)
{
	settle_cursor(s);
	while (s->waiting && !s->over && compare(s->waiting->cells[0], s->cursor) <= 0) {
		struct df_staged *r = s->waiting;
		s->waiting = r->next;
		struct df_cells *cells = r->cells;
		size_t n_cells = r->n_cells;
		struct df_cells last = cells[n_cells - 1];
		r->cells = calloc(n_cells, sizeof(*cells));
		if (!check(s, r->cells ? DF_OK : DF_ERR_NOMEM, "write in order")) {
			free(cells);
			df_staged_destroy(&s->staging, &r);
			return;
		}
		memcpy(r->cells, cells, n_cells * sizeof(*cells));
		bool ok = write_result(s, r);
		struct df_cells next = {last.source, last.first + last.n, 0};
		if (compare(next, s->cursor) > 0)
			s->cursor = next;
		for (size_t i = 0; ok && i < n_cells; i++) {
			emit(s, (struct df_event){.type = DF_EVENT_WRITTEN, .cells = cells[i]});
			forget_info(s, cells[i].source);
		}
		free(cells);
		settle_cursor(s);
	}
}

static void wait_turn(struct df_sink *s, struct df_staged *r)
{
	struct df_staged **at = &s->waiting;
	while (*at && compare((*at)->cells[0], r->cells[0]) < 0)
		at = &(*at)->next;
	r->next = *at;
	*at = r;
	write_waiting(s);
}

/* ------------------------------------------------------------------ messages */

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
		.type = DF_EVENT_SEEN, .lane = r->lane, .lease = r->lease, .busy_ns = total(r, "busy_ns")};
	struct df_cells c = r->cells[0];
	s->stats.doubled++;
	df_staged_destroy(&s->staging, &r);
	if (all) {
		emit(s, seen);
		return;
	}
	(void)df_fail(&fail, DF_ERR_BUG,
		      "a result has cells that were taken before and others that were not (input %u, cell %llu)",
		      c.source, (unsigned long long)c.first);
	fatal(s, &fail);
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
		fatal(s, &fail);
		return;
	}
	for (size_t i = 0; i < r->n_cells; i++)
		if (!check(s,
			   df_cellset_add(&s->source[r->cells[i].source].taken, r->cells[i].first, r->cells[i].n, NULL),
			   "note cells"))
			break;
	struct df_event seen = {.type = DF_EVENT_SEEN,
				.lane = r->lane,
				.lease = r->lease,
				.busy_ns = total(r, "busy_ns"),
				.tally = tally};
	if (s->config.ordered)
		wait_turn(s, r);
	else
		(void)write_result(s, r);
	emit(s, seen);
}

/* One part; false: the message breaks the protocol and its result is dropped. */
static bool on_result(struct df_sink *s, struct lane *lane, const struct df_msg *msg, struct df_frames *frames)
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
		if (!check(s, fresh ? DF_OK : DF_ERR_NOMEM, "stage a result"))
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
			fatal(s, &fail);
			return true;
		}
	}
	if (!part->last)
		return true;
	lane->got++;
	*at = r->next;
	r->next = NULL;
	if (check(s, df_staged_end(r, part), "stage a result"))
		take(s, r);
	else
		df_staged_destroy(&s->staging, &r);
	return true;
}

static void on_failed(struct df_sink *s, struct lane *lane, const struct df_msg *msg)
{
	struct df_staged **at = find_staged(s, msg->lane, msg->lease);
	if (*at)
		drop_staged(s, at);
	lane->got++;
	emit(s, (struct df_event){.type = DF_EVENT_FAILED,
				  .lane = msg->lane,
				  .lease = msg->lease,
				  .err = msg->failed.code,
				  .source = msg->failed.source,
				  .message = df_str_dup(msg->failed.message)});
}

void df_sink_on_message(struct df_sink *s, struct df_frames *frames)
{
	struct df_msg msg;
	struct df_fail fail;
	if (s->over)
		return;
	df_arena_reset(&s->scratch);
	struct df_str header = {frames->header->p, frames->header->n};
	if (df_msg_unpack(header, &s->scratch, &msg, &fail) != DF_OK ||
	    (msg.type != DF_MSG_RESULT && msg.type != DF_MSG_FAILED)) {
		s->stats.malformed++;
		return;
	}
	struct lane *lane = find_lane(s, msg.lane); /* lane ids carry the epoch */
	if (!lane) {
		s->stats.stale++;
		return;
	}
	if (msg.type == DF_MSG_FAILED) {
		on_failed(s, lane, &msg);
	} else if (!on_result(s, lane, &msg, frames)) {
		struct df_staged **at = find_staged(s, msg.lane, msg.lease);
		if (*at)
			drop_staged(s, at);
		s->stats.malformed++;
		emit(s, (struct df_event){.type = DF_EVENT_GAP,
					  .lane = msg.lane}); /* a lane that talks nonsense is retired */
	}
}

/* ------------------------------------------------------------------ orders */

static void on_source(struct df_sink *s, const struct df_order *o)
{
	if (!check(s, df_array_room((void **)&s->note, s->n_note, &s->cap_note, sizeof(*s->note)), "note a source"))
		return;
	if (s->n_note + s->n_strike + s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	s->note[s->n_note++] = o->source;
	struct source *src = &s->source[o->source.source];
	if (o->source.ended)
		src->n_cell = o->source.n_cell;
	src->failed = o->source.err != DF_OK;
	if (s->config.ordered)
		write_waiting(s);
}

static void on_info(struct df_sink *s, const struct df_order *o)
{
	struct source *src = &s->source[o->source.source];
	forget_info(s, o->source.source);
	if (src->n_info == src->cap_info) {
		uint64_t cap = src->cap_info ? src->cap_info * 2 : 64;
		struct cell_note *fresh = calloc(cap, sizeof(*fresh));
		if (!check(s, fresh ? DF_OK : DF_ERR_NOMEM, "note a cell"))
			return;
		for (uint64_t i = 0; i < src->n_info; i++)
			fresh[i] = *note_at(src, i);
		free(src->info);
		src->info = fresh;
		src->info_first = 0;
		src->cap_info = cap;
	}
	/* control passes each cell on once, and every reader goes forwards: cells rise */
	src->info[(src->info_first + src->n_info++) & (src->cap_info - 1)] = (struct cell_note){o->cell, o->info};
}

static void on_strike(struct df_sink *s, const struct df_order *o)
{
	if (!check(s, df_array_room((void **)&s->strike, s->n_strike, &s->cap_strike, sizeof(*s->strike)),
		   "note a strike"))
		return;
	if (s->n_note + s->n_strike + s->batch.n == 0)
		s->batch_since_ns = s->now_ns;
	s->strike[s->n_strike++] = o->strike;
}

static void on_hello(struct lane *lane, uint64_t sent)
{
	if (lane) {
		lane->expect = sent;
		lane->check = true;
	}
}

void df_sink_on_order(struct df_sink *s, const struct df_order *o)
{
	struct lane *lane = find_lane(s, o->lane);
	if (s->over) {
		free((char *)(uintptr_t)o->source.message.p);
		return;
	}
	switch (o->type) {
	case DF_ORDER_LANE:
		if (check(s, df_array_room((void **)&s->lane, s->n_lane, &s->cap_lane, sizeof(*s->lane)), "add a lane"))
			s->lane[s->n_lane++] = (struct lane){.id = o->lane};
		break;
	case DF_ORDER_FENCE:
		if (lane)
			lane->fencing = true;
		else
			emit(s, (struct df_event){.type = DF_EVENT_FENCED, .lane = o->lane});
		break;
	case DF_ORDER_HELLO:
		on_hello(lane, o->n);
		break;
	case DF_ORDER_SOURCE:
		on_source(s, o);
		break;
	case DF_ORDER_STRIKE:
		on_strike(s, o);
		break;
	case DF_ORDER_INFO:
		on_info(s, o);
		break;
	case DF_ORDER_FINISH:
		s->finishing = true;
		s->complete = o->n != 0;
		break;
	}
}

static void fence(struct df_sink *s, size_t at)
{
	uint64_t id = s->lane[at].id;
	for (struct df_staged **r = &s->staged; *r;)
		if ((*r)->lane == id)
			drop_staged(s, r);
		else
			r = &(*r)->next;
	s->lane[at] = s->lane[--s->n_lane];
	emit(s, (struct df_event){.type = DF_EVENT_FENCED, .lane = id});
}

void df_sink_on_empty(struct df_sink *s)
{
	for (size_t i = 0; i < s->n_lane && !s->over;) {
		struct lane *lane = &s->lane[i];
		if (lane->check) {
			/* what was sent since may still be on its way: only what an earlier HELLO told can be missing */
			bool missing = lane->got < lane->noted;
			lane->gaps = missing ? lane->gaps + 1 : 0;
			lane->noted = missing ? lane->noted : lane->expect;
			lane->check = false;
			if (lane->gaps == 2)
				emit(s, (struct df_event){.type = DF_EVENT_GAP, .lane = lane->id});
		}
		if (lane->fencing)
			fence(s, i);
		else
			i++;
	}
}

/* ------------------------------------------------------------------ commits */

static bool anything_to_commit(const struct df_sink *s)
{
	return s->batch.n || s->n_note || s->n_strike;
}

static void begin_commit(struct df_sink *s)
{
	struct df_fail fail = {0};
	df_arena_reset(&s->scratch);
	struct df_counter *counter = df_arena_array(&s->scratch, s->totals.n + 1, sizeof(*counter));
	if (!check(s, counter ? DF_OK : DF_ERR_NOMEM, "commit"))
		return;
	size_t n = 0;
	for (size_t i = 0; i < s->totals.n_slot; i++)
		if (s->totals.slots[i].key.p)
			counter[n++] = (struct df_counter){s->totals.slots[i].key, s->totals.slots[i].value};
	struct df_commit commit = {s->batch.item, s->batch.n, counter, n, s->strike, s->n_strike, s->note, s->n_note};
	if (df_store_commit(s->config.store, &commit, &fail) != DF_OK) {
		fatal(s, &fail);
		return;
	}
	s->stats.commits++;
	struct cells_list swap = s->in_flight;
	s->in_flight = s->batch;
	s->batch = swap;
	s->batch.n = 0;
	for (size_t i = 0; i < s->n_note; i++)
		free((char *)(uintptr_t)s->note[i].message.p);
	s->n_note = s->n_strike = 0;
}

static void reap(struct df_sink *s)
{
	struct df_fail fail = {0};
	bool done = false;
	if (!df_store_committing(s->config.store))
		return;
	if (df_store_reap(s->config.store, &done, &fail) != DF_OK) {
		fatal(s, &fail);
		return;
	}
	if (!done)
		return;
	for (size_t i = 0; i < s->in_flight.n; i++)
		emit(s, (struct df_event){.type = DF_EVENT_DONE, .cells = s->in_flight.item[i].cells});
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
		const struct source *src = &s->source[i];
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

static void finish(struct df_sink *s)
{
	struct df_fail fail = {0};
	if (s->complete && !nothing_missing(s, &fail)) {
		fatal(s, &fail);
		return;
	}
	if (s->staged || s->waiting) { /* stopped early: what is not complete or not in order is not written */
		free_list(s, s->staged);
		free_list(s, s->waiting);
		s->staged = s->waiting = NULL;
	}
	if (anything_to_commit(s) || df_store_committing(s->config.store))
		return;
	if (df_store_finish(s->config.store, s->complete, &fail) != DF_OK) {
		fatal(s, &fail);
		return;
	}
	s->over = true;
	emit(s, (struct df_event){.type = DF_EVENT_FINISHED});
}

void df_sink_tick(struct df_sink *s, uint64_t now_ns)
{
	s->now_ns = now_ns;
	if (!s->over)
		reap(s);
	bool due = s->finishing || now_ns >= s->batch_since_ns + s->config.commit_ns ||
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
