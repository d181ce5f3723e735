// SPDX-License-Identifier: Apache-2.0
/*
 * journal_apply: a journal's records one after the other become the state of the run.
 *
 * DESIGN: each record is decoded against its own length. No count of it reserves memory: arrays grow with the elements that
 * were really there. What comes several times (a strike, a source's state) is kept as it comes and settled at the end (journal_settle.c).
 */
#include <endian.h>
#include <stdlib.h>

#include "base/array.h"
#include "base/limits.h"
#include "coordinator/sink/journal.h"
#include "coordinator/sink/parts.h"

#define MERGE_FROM (1U << 18) /* ranges: fewer are joined once, at the end */

/* --- a bounded reader of payloads: after a fault everything reads as 0 and `bad` stays --- */

struct cursor {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t get_varint(struct cursor *c)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64 && c->p < c->end; shift += 7) {
		uint8_t b = *c->p++;
		v |= (uint64_t)(b & 0x7f) << shift;
		if (shift == 63 && b > 1)
			break;
		if (b < 0x80)
			return v;
	}
	c->bad = true;
	c->p = c->end;
	return 0;
}

static uint64_t get_max(struct cursor *c, uint64_t max)
{
	uint64_t v = get_varint(c);
	if (v > max)
		c->bad = true;
	return c->bad ? 0 : v;
}

static uint64_t get_difference(struct cursor *c, uint64_t from)
{
	uint64_t z = get_varint(c);
	return from + (z >> 1 ^ (z & 1 ? UINT64_MAX : 0));
}

static uint64_t get_u64(struct cursor *c)
{
	uint64_t v;
	if ((size_t)(c->end - c->p) < sizeof(v)) {
		c->bad = true;
		c->p = c->end;
		return 0;
	}
	memcpy(&v, c->p, sizeof(v));
	c->p += sizeof(v);
	return le64toh(v);
}

static struct df_str get_string(struct cursor *c, size_t max)
{
	size_t n = (size_t)get_max(c, max);
	if (c->bad || n > (size_t)(c->end - c->p)) {
		c->bad = true;
		return (struct df_str){0};
	}
	struct df_str s = {(const char *)c->p, n};
	c->p += n;
	return s;
}

/* A count of elements of at least one byte each. */
static size_t get_count(struct cursor *c)
{
	return (size_t)get_max(c, (uint64_t)(c->end - c->p));
}

/* --- growing arrays --- */

/* Room for one more element of at most `max`, or DF_ERR_NOMEM. */
#define ROOM(array, n, cap, max)                                                                                       \
	do {                                                                                                           \
		if ((n) >= (max))                                                                                      \
			return DF_ERR_NOMEM;                                                                           \
		DF_TRY(df_array_room((void **)&(array), (n), &(cap), sizeof(*(array))));                               \
	} while (0)

void df_replay_init(struct df_replay *r)
{
	*r = (struct df_replay){.stop = UINT64_MAX};
	df_arena_init(&r->text, DF_REPLAY_TEXT_MAX, 0);
}

void df_replay_release(struct df_replay *r)
{
	free(r->cells);
	free(r->counter);
	free(r->strike);
	free(r->source);
	for (size_t i = 0; r->keep_marks && i < r->n_closed; i++)
		free(r->closed_marks[i].mark);
	free(r->closed_marks);
	free(r->closed);
	for (int k = 0; k < DF_N_OUTPUT; k++)
		free(r->mark[k]);
	df_arena_release(&r->text);
	*r = (struct df_replay){0};
}

uint64_t df_replay_count(const struct df_replay *r, const char *name)
{
	for (size_t i = 0; i < r->n_counter; i++)
		if (df_str_is(r->counter[i].name, name))
			return r->counter[i].value;
	return 0;
}

/* --- records --- */

static enum df_err keep_string(struct df_replay *r, struct df_str s, struct df_str *ret_copy)
{
	struct df_str copy = df_arena_copy(&r->text, s);
	if (!copy.p)
		return DF_ERR_NOMEM;
	*ret_copy = copy;
	return DF_OK;
}

static enum df_err apply_header(struct df_replay *r, struct cursor *c)
{
	struct df_journal_header h = {0};
	h.run_id = get_u64(c);
	h.fingerprint = get_u64(c);
	h.want = (uint32_t)get_max(c, (1U << DF_N_OUTPUT) - 1);
	h.zstd = get_max(c, 1);
	h.npy_item_bytes = (uint32_t)get_max(c, 8);
	struct df_str version = get_string(c, 256);
	if (c->bad || r->has_header)
		return DF_ERR_CORRUPT;
	DF_TRY(keep_string(r, version, &h.version));
	r->header = h;
	r->has_header = true;
	return DF_OK;
}

static enum df_err apply_epoch(struct df_replay *r, struct cursor *c)
{
	uint64_t epoch = get_max(c, UINT32_MAX), boot_id = c->p < c->end ? get_u64(c) : 0;
	if (c->bad || epoch <= r->epoch)
		return DF_ERR_CORRUPT;
	r->epoch = (uint32_t)epoch;
	r->boot_id = boot_id;
	return DF_OK;
}

/* When the array is full, what can be joined is joined first: a run's ranges are few once they touch each other. */
static enum df_err room_for_cells(struct df_replay *r)
{
	bool overlap = false;
	if (r->n_cells == r->cap_cells && r->cap_cells >= MERGE_FROM) {
		size_t n = df_commit_cells_merge(r->cells, r->n_cells, &overlap);
		if (overlap)
			return DF_ERR_CORRUPT;
		r->n_cells = n;
		if (n < r->cap_cells / 2)
			return DF_OK;
	}
	ROOM(r->cells, r->n_cells, r->cap_cells, DF_REPLAY_RANGES_MAX);
	return DF_OK;
}

static enum df_err apply_cells(struct df_replay *r, struct cursor *c)
{
	uint64_t source = 0, end = 0;
	for (size_t left = get_count(c); left && !c->bad; left--) {
		struct df_commit_cells cells = {0};
		source = get_difference(c, source);
		cells.cells.first = get_difference(c, end);
		uint64_t n = get_varint(c);
		cells.cells.n = n >> 1;
		if (n & 1) {
			cells.info.start = get_varint(c);
			cells.info.bytes = get_varint(c);
			cells.info.records = get_varint(c);
			cells.info.hash = get_u64(c);
		}
		if (c->bad || source > UINT32_MAX || cells.cells.n == 0 ||
		    cells.cells.first > UINT64_MAX - cells.cells.n)
			return DF_ERR_CORRUPT;
		cells.cells.source = (uint32_t)source;
		end = cells.cells.first + cells.cells.n;
		DF_TRY(room_for_cells(r));
		r->cells[r->n_cells++] = cells;
	}
	return c->bad ? DF_ERR_CORRUPT : DF_OK;
}

static bool get_file(struct cursor *c, struct df_journal_file *f)
{
	f->kind = (uint32_t)get_max(c, DF_N_OUTPUT - 1);
	f->no = (uint32_t)get_max(c, UINT32_MAX);
	f->dim = (uint32_t)get_max(c, UINT32_MAX);
	f->end = get_varint(c);
	f->rows = get_varint(c);
	f->hash = get_u64(c);
	return !c->bad;
}

static enum df_err apply_commit_files(struct df_replay *r, struct cursor *c)
{
	for (size_t left = get_count(c); left && !c->bad; left--) {
		struct df_journal_file f = {0};
		if (!get_file(c, &f))
			break;
		struct df_journal_file *open = &r->open[f.kind];
		f.seq = r->seq;
		if (f.no != r->no || f.end <= open->end || f.rows < open->rows || (open->end && f.dim != open->dim))
			return DF_ERR_CORRUPT;
		*open = f;
		ROOM(r->mark[f.kind], r->n_mark[f.kind], r->cap_mark[f.kind], SIZE_MAX / sizeof(struct df_mark));
		r->mark[f.kind][r->n_mark[f.kind]++] = (struct df_mark){f.end, f.hash, f.rows, r->seq};
	}
	return c->bad ? DF_ERR_CORRUPT : DF_OK;
}

static enum df_err apply_counters(struct df_replay *r, struct cursor *c)
{
	for (size_t left = get_count(c); left && !c->bad; left--) {
		uint64_t id = get_max(c, r->n_counter);
		if (c->bad)
			break;
		if (id == r->n_counter) {
			struct df_counter new = {0};
			struct df_str name = get_string(c, DF_STRING_BYTES_MAX);
			if (c->bad)
				break;
			ROOM(r->counter, r->n_counter, r->cap_counter, DF_REPLAY_COUNTERS_MAX);
			DF_TRY(keep_string(r, name, &new.name));
			r->counter[r->n_counter++] = new;
		}
		r->counter[id].value = get_varint(c);
	}
	return c->bad ? DF_ERR_CORRUPT : DF_OK;
}

static enum df_err apply_strikes(struct df_replay *r, struct cursor *c)
{
	for (size_t left = get_count(c); left && !c->bad; left--) {
		struct df_strike s = {0};
		s.record.source = (uint32_t)get_max(c, UINT32_MAX);
		s.record.offset = get_varint(c);
		s.n = (uint32_t)get_max(c, UINT32_MAX);
		s.cause = (uint32_t)get_max(c, DF_N_CAUSE - 1);
		s.detail = (uint32_t)get_max(c, UINT32_MAX);
		s.stage = (uint32_t)get_max(c, UINT32_MAX);
		if (c->bad)
			break;
		ROOM(r->strike, r->n_strike, r->cap_strike, DF_REPLAY_STRIKES_MAX);
		r->strike[r->n_strike++] = s;
	}
	return c->bad ? DF_ERR_CORRUPT : DF_OK;
}

static enum df_err apply_sources(struct df_replay *r, struct cursor *c)
{
	for (size_t left = get_count(c); left && !c->bad; left--) {
		struct df_source_state s = {0};
		s.source = (uint32_t)get_max(c, UINT32_MAX);
		uint64_t state = get_max(c, 2 * DF_N_ERR - 1);
		s.ended = state & 1;
		s.err = (enum df_err)(state >> 1);
		s.n_cell = get_varint(c);
		struct df_str message = get_string(c, DF_STRING_BYTES_MAX);
		if (c->bad)
			break;
		ROOM(r->source, r->n_source, r->cap_source, 2 * DF_MAX_SOURCES);
		DF_TRY(keep_string(r, message, &s.message));
		r->source[r->n_source++] = s;
	}
	return c->bad ? DF_ERR_CORRUPT : DF_OK;
}

/* The marks of a part that is closed, before it joins the list. */
static enum df_err close_marks(struct df_replay *r, uint32_t kind)
{
	if (r->keep_marks) {
		ROOM(r->closed_marks, r->n_closed, r->cap_closed_marks, SIZE_MAX / sizeof(*r->closed_marks));
		r->closed_marks[r->n_closed] = (struct df_marks){r->mark[kind], r->n_mark[kind]};
		r->mark[kind] = NULL;
		r->cap_mark[kind] = 0;
	}
	r->n_mark[kind] = 0;
	return DF_OK;
}

static enum df_err apply_rotate(struct df_replay *r, struct cursor *c)
{
	size_t n_open = 0;
	for (int k = 0; k < DF_N_OUTPUT; k++)
		n_open += r->open[k].end > 0;
	size_t left = get_count(c);
	if (left != n_open)
		return DF_ERR_CORRUPT;
	for (; left && !c->bad; left--) {
		struct df_journal_file f = {0};
		if (!get_file(c, &f))
			break;
		struct df_journal_file *open = &r->open[f.kind];
		if (f.no != r->no || f.end != open->end || f.rows != open->rows || f.dim != open->dim ||
		    f.hash != open->hash)
			return DF_ERR_CORRUPT;
		f.seq = r->seq;
		ROOM(r->closed, r->n_closed, r->cap_closed, SIZE_MAX / sizeof(f));
		DF_TRY(close_marks(r, f.kind));
		r->closed[r->n_closed++] = f;
		*open = (struct df_journal_file){0};
	}
	r->no++;
	return c->bad || r->no == 0 ? DF_ERR_CORRUPT : DF_OK;
}

static enum df_err apply(struct df_replay *r, unsigned type, struct cursor *c)
{
	if (r->finished || (!r->has_header && type != DF_JOURNAL_HEADER))
		return DF_ERR_CORRUPT;
	switch (type) {
	case DF_JOURNAL_HEADER:
		return apply_header(r, c);
	case DF_JOURNAL_EPOCH:
		return apply_epoch(r, c);
	case DF_JOURNAL_COMMIT:
		DF_TRY(apply_cells(r, c));
		DF_TRY(apply_commit_files(r, c));
		DF_TRY(apply_counters(r, c));
		DF_TRY(apply_strikes(r, c));
		return apply_sources(r, c);
	case DF_JOURNAL_ROTATE:
		return apply_rotate(r, c);
	case DF_JOURNAL_FINISH:
		for (int k = 0; k < DF_N_OUTPUT; k++)
			if (r->open[k].end)
				return DF_ERR_CORRUPT;
		r->has_size = c->p < c->end;
		if (r->has_size)
			r->size.n_source = get_varint(c);
		if (r->has_size)
			r->size.n_cell = get_varint(c);
		r->finished = !c->bad;
		return c->bad ? DF_ERR_CORRUPT : DF_OK;
	default:
		return DF_ERR_CORRUPT;
	}
}

enum df_err df_replay_apply(struct df_replay *r, unsigned type, struct df_str payload, struct df_fail *fail)
{
	struct cursor c = {(const uint8_t *)payload.p, (const uint8_t *)payload.p + payload.n, false};
	enum df_err err = apply(r, type, &c);
	if (err == DF_OK && c.p != c.end)
		err = DF_ERR_CORRUPT;
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory to replay the journal");
	return err == DF_OK ? err : df_fail(fail, err, "a journal record of type %u does not hold together", type);
}
