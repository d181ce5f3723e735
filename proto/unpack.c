// SPDX-License-Identifier: Apache-2.0
/*
 * unpack: MessagePack into messages, strictly.
 *
 * DESIGN. df_unpack_check has walked the whole frame before; the second pass reads it with the same cursor, straight into the
 * structs: no tree of objects in between, and no memory but the arena's. A reader keeps its first error and answers zeros after it,
 * so that the functions below read like the tables of PROTOCOL.md. Loops stop at an error, so a bad count costs nothing.
 * Lengths of arrays are exact: a later version that adds a field raises the version.
 */
#include "base/limits.h"
#include "proto/check.h"
#include "proto/messages.h"

struct reader {
	struct df_cursor c;
	struct df_arena *arena;
	struct df_fail *fail;
	const char *type; /* the message's, for errors */
	enum df_err err;
};

/* --- items --- */

static void refuse(struct reader *r, enum df_err err, const char *field, const char *why)
{
	if (r->err == DF_OK)
		r->err = df_fail(r->fail, err, "%s: %s %s", r->type, field, why);
}

static bool next(struct reader *r, enum df_item_type type, const char *field, const char *why, struct df_item *ret_item)
{
	struct df_item item = {0};
	if (r->err != DF_OK)
		return false;
	enum df_err err = df_cursor_next(&r->c, &item);
	if (err != DF_OK || item.type != type) {
		refuse(r, err == DF_OK ? DF_ERR_PARSE : err, field, why);
		return false;
	}
	*ret_item = item;
	return true;
}

static uint64_t get_uint(struct reader *r, const char *field, uint64_t max)
{
	struct df_item item = {0};
	if (!next(r, DF_ITEM_UINT, field, "is no unsigned integer", &item))
		return 0;
	if (item.u64 <= max)
		return item.u64;
	refuse(r, DF_ERR_PARSE, field, "is out of range");
	return 0;
}

static uint64_t get_u64(struct reader *r, const char *field)
{
	return get_uint(r, field, UINT64_MAX);
}

static uint32_t get_u32(struct reader *r, const char *field)
{
	return (uint32_t)get_uint(r, field, UINT32_MAX);
}

static uint32_t get_source(struct reader *r)
{
	return (uint32_t)get_uint(r, "source", DF_MAX_SOURCES - 1);
}

static int64_t get_i64(struct reader *r, const char *field)
{
	struct df_cursor ahead = r->c;
	struct df_item item = {0};
	if (r->err == DF_OK && df_cursor_next(&ahead, &item) == DF_OK && item.type == DF_ITEM_INT) {
		r->c = ahead;
		return item.i64;
	}
	return (int64_t)get_uint(r, field, INT64_MAX);
}

static bool get_bool(struct reader *r, const char *field)
{
	struct df_item item = {0};
	return next(r, DF_ITEM_BOOL, field, "is no boolean", &item) && item.u64 != 0;
}

static struct df_str get_str(struct reader *r, const char *field)
{
	struct df_item item = {.str = {NULL, 0}};
	if (!next(r, DF_ITEM_STR, field, "is no string", &item))
		return (struct df_str){NULL, 0};
	return item.str;
}

/* A path goes to the kernel as a C string: a NUL inside would name another file than the one that is shown. */
static struct df_str get_path(struct reader *r)
{
	struct df_str path = get_str(r, "path");
	if (path.n && memchr(path.p, '\0', path.n))
		refuse(r, DF_ERR_PARSE, "path", "has a NUL byte");
	return path;
}

static enum df_err get_err(struct reader *r)
{
	struct df_str name = get_str(r, "code");
	for (int e = 0; r->err == DF_OK && e < DF_N_ERR; e++) {
		if (df_str_is(name, df_err_name((enum df_err)e)))
			return (enum df_err)e;
	}
	refuse(r, DF_ERR_PARSE, "code", "is no error that this build knows");
	return DF_OK;
}

static size_t get_array(struct reader *r, const char *field, uint64_t max)
{
	struct df_item item = {0};
	if (!next(r, DF_ITEM_ARRAY, field, "is no array", &item))
		return 0;
	if (item.u64 <= max)
		return (size_t)item.u64;
	refuse(r, DF_ERR_LIMIT, field, "has too many elements");
	return 0;
}

static void get_tuple(struct reader *r, const char *field, uint64_t n)
{
	struct df_item item = {0};
	if (next(r, DF_ITEM_ARRAY, field, "is no array", &item) && item.u64 != n)
		refuse(r, DF_ERR_PARSE, field, "has the wrong number of fields");
}

/* NULL for n = 0, and when the arena is out, which the reader keeps as its error. */
static void *new_array(struct reader *r, const char *field, size_t n, size_t size)
{
	if (n == 0 || r->err != DF_OK)
		return NULL;
	void *p = df_arena_array(r->arena, n, size);
	if (!p)
		refuse(r, DF_ERR_NOMEM, field, "does not fit into memory");
	return p;
}

/* --- parts that messages share --- */

static void check_cells(struct reader *r, uint64_t first, uint64_t n)
{
	if (first > DF_MAX_CELLS || n > DF_MAX_CELLS - first)
		refuse(r, DF_ERR_PARSE, "cells", "are out of range");
}

static struct df_file_id get_file_id(struct reader *r)
{
	struct df_file_id id = {0};
	id.dev = get_u64(r, "dev");
	id.ino = get_u64(r, "ino");
	id.size = get_u64(r, "size");
	id.mtime_ns = get_i64(r, "mtime_ns");
	return id;
}

static struct df_segment get_segment(struct reader *r)
{
	struct df_segment s = {0};
	get_tuple(r, "segment", 13);
	s.cells.source = get_source(r);
	s.kind = (uint32_t)get_uint(r, "kind", DF_SOURCE_READER);
	s.cells.first = get_u64(r, "first");
	s.cells.n = get_u64(r, "n");
	check_cells(r, s.cells.first, s.cells.n);
	s.start = get_u64(r, "start");
	s.end = get_u64(r, "end");
	s.cell_bytes = get_u64(r, "cell_bytes");
	if (s.kind == DF_SOURCE_JSONL && s.start > s.end)
		refuse(r, DF_ERR_PARSE, "segment", "ends before it starts");
	s.path = get_path(r);
	s.name = get_str(r, "name");
	s.id = get_file_id(r);
	return s;
}

static struct df_strike get_poison(struct reader *r)
{
	struct df_strike p = {0};
	get_tuple(r, "poison", 6);
	p.record.source = get_source(r);
	p.record.offset = get_u64(r, "offset");
	p.n = (uint32_t)get_uint(r, "strikes", UINT32_MAX);
	p.cause = (uint32_t)get_uint(r, "cause", DF_N_CAUSE - 1);
	p.detail = (uint32_t)get_uint(r, "detail", UINT32_MAX);
	p.stage = (uint32_t)get_uint(r, "stage", UINT32_MAX);
	return p;
}

static struct df_cells get_cells(struct reader *r)
{
	struct df_cells c = {0};
	get_tuple(r, "cells", 3);
	c.source = get_source(r);
	c.first = get_u64(r, "first");
	c.n = get_u64(r, "n");
	check_cells(r, c.first, c.n);
	return c;
}

static struct df_output get_output(struct reader *r)
{
	struct df_output o = {0};
	get_tuple(r, "output", 4);
	o.kind = (uint32_t)get_uint(r, "kind", DF_N_OUTPUT - 1);
	o.rows = get_u64(r, "rows");
	o.raw_bytes = get_u64(r, "raw_bytes");
	o.hash = get_u64(r, "hash");
	return o;
}

static void get_info(struct reader *r, struct df_cell_info *ret_info)
{
	ret_info->start = get_u64(r, "start");
	ret_info->bytes = get_u64(r, "bytes");
	ret_info->records = get_u64(r, "records");
	ret_info->hash = get_u64(r, "hash");
}

static struct df_range get_range(struct reader *r)
{
	struct df_range g = {0};
	get_tuple(r, "done", 6);
	g.first = get_u64(r, "first");
	g.n = get_u64(r, "n");
	check_cells(r, g.first, g.n);
	get_info(r, &g.info);
	return g;
}

static struct df_cell_info get_cell_info(struct reader *r)
{
	struct df_cell_info c = {0};
	get_tuple(r, "cell", 4);
	get_info(r, &c);
	return c;
}

/* The elements of `array` (n of them), each by `get`, while nothing went wrong. */
#define GET_EACH(r, array, n, get)                                                                                     \
	for (size_t i = 0; i < (n) && (r)->err == DF_OK; i++)                                                          \
	(array)[i] = get(r)

static size_t get_map(struct reader *r, const char *field, uint64_t max)
{
	struct df_item item = {0};
	if (!next(r, DF_ITEM_MAP, field, "is no map", &item))
		return 0;
	if (item.u64 <= max)
		return (size_t)item.u64;
	refuse(r, DF_ERR_LIMIT, field, "has too many entries");
	return 0;
}

static struct df_counter get_counter(struct reader *r)
{
	struct df_counter c = {0};
	c.name = get_str(r, "counter");
	c.value = get_u64(r, "counter");
	return c;
}

/* --- one function per message, in the order of PROTOCOL.md --- */

static void unpack_hello(struct reader *r, struct df_msg *m)
{
	struct df_hello *h = &m->hello;
	h->nonce = get_u64(r, "nonce");
	h->role = (uint32_t)get_uint(r, "role", DF_ROLE_READER);
	h->pid = get_u32(r, "pid");
	h->seq = get_u64(r, "seq");
	h->sent = get_u64(r, "sent");
	h->held = get_u32(r, "held");
	h->peak_rss_bytes = get_u64(r, "peak_rss_bytes");
}

static void unpack_notice(struct reader *r, struct df_msg *m)
{
	m->notice.seq = get_u64(r, "seq");
	m->notice.state = (uint32_t)get_uint(r, "state", DF_STATE_STOP);
	m->notice.nonce = get_u64(r, "nonce");
	m->notice.reason = get_str(r, "reason");
}

static void unpack_lease(struct reader *r, struct df_msg *m)
{
	struct df_lease_msg *l = &m->lease_msg;
	l->flags = (uint32_t)get_uint(r, "flags", DF_LEASE_ALONE | DF_LEASE_REDO);
	l->n_segment = get_array(r, "segments", DF_LEASE_SEGMENTS_MAX);
	l->segment = new_array(r, "segments", l->n_segment, sizeof(*l->segment));
	GET_EACH(r, l->segment, l->n_segment, get_segment);
	l->n_poison = get_array(r, "poison", DF_POISON_PER_LEASE);
	l->poison = new_array(r, "poison", l->n_poison, sizeof(*l->poison));
	GET_EACH(r, l->poison, l->n_poison, get_poison);
}

static void unpack_result(struct reader *r, struct df_msg *m)
{
	struct df_result *s = &m->result;
	s->seq = get_u64(r, "seq");
	s->part = get_u32(r, "part");
	s->last = get_bool(r, "last");
	s->n_cells = get_array(r, "cells", DF_LEASE_CELLS_MAX);
	s->cells = new_array(r, "cells", s->n_cells, sizeof(*s->cells));
	GET_EACH(r, s->cells, s->n_cells, get_cells);
	s->n_output = get_array(r, "outputs", DF_MESSAGE_FRAMES_MAX - 1);
	s->output = new_array(r, "outputs", s->n_output, sizeof(*s->output));
	GET_EACH(r, s->output, s->n_output, get_output);
	s->n_counter = get_map(r, "counters", DF_COUNTERS_MAX);
	s->counter = new_array(r, "counters", s->n_counter, sizeof(*s->counter));
	GET_EACH(r, s->counter, s->n_counter, get_counter);
}

static void unpack_failed(struct reader *r, struct df_msg *m)
{
	m->failed.seq = get_u64(r, "seq");
	m->failed.code = get_err(r);
	if (m->failed.code == DF_OK)
		refuse(r, DF_ERR_PARSE, "code", "says that nothing failed");
	m->failed.message = get_str(r, "message");
	m->failed.source = get_u32(r, "source");
	if (m->failed.source >= DF_MAX_SOURCES && m->failed.source != UINT32_MAX)
		refuse(r, DF_ERR_PARSE, "source", "is out of range");
	m->failed.offset = get_u64(r, "offset");
}

static void unpack_read(struct reader *r, struct df_msg *m)
{
	struct df_read *d = &m->read;
	d->source = get_source(r);
	d->format = get_u32(r, "format");
	d->flags = (uint32_t)get_uint(r, "flags", DF_READ_STDIN);
	d->path = get_path(r);
	d->name = get_str(r, "name");
	d->id = get_file_id(r);
	d->cell_bytes = get_u64(r, "cell_bytes");
	d->skip_records = get_u64(r, "skip_records");
	d->limit_records = get_u64(r, "limit_records");
	d->credit_bytes = get_u64(r, "credit_bytes");
	d->n_done = get_array(r, "done", DF_READ_DONE_MAX);
	d->done = new_array(r, "done", d->n_done, sizeof(*d->done));
	GET_EACH(r, d->done, d->n_done, get_range);
}

static void unpack_credit(struct reader *r, struct df_msg *m)
{
	m->credit.bytes = get_u64(r, "bytes");
}

static void unpack_cells(struct reader *r, struct df_msg *m)
{
	struct df_cells_msg *c = &m->cells;
	c->source = get_source(r);
	c->first = get_u64(r, "first");
	c->n_cell = get_array(r, "cells", DF_MESSAGE_FRAMES_MAX - 1);
	check_cells(r, c->first, c->n_cell);
	c->cell = new_array(r, "cells", c->n_cell, sizeof(*c->cell));
	GET_EACH(r, c->cell, c->n_cell, get_cell_info);
}

static void unpack_source_end(struct reader *r, struct df_msg *m)
{
	struct df_source_end *e = &m->source_end;
	e->source = get_source(r);
	e->n_cell = get_uint(r, "n_cell", DF_MAX_CELLS);
	e->bytes = get_u64(r, "bytes");
	e->records = get_u64(r, "records");
	e->code = get_err(r);
	e->message = get_str(r, "message");
	e->flags = (uint32_t)get_uint(r, "flags", DF_SOURCE_END_DIFFERS);
}

static const struct {
	const char *name;
	uint32_t n_rest; /* fields behind the five that every message has */
	void (*unpack)(struct reader *, struct df_msg *);
} types[] = {
	[0] = {"header", 0, NULL},
	[DF_MSG_HELLO] = {"hello", 7, unpack_hello},
	[DF_MSG_NOTICE] = {"notice", 4, unpack_notice},
	[DF_MSG_LEASE] = {"lease", 3, unpack_lease},
	[DF_MSG_RESULT] = {"result", 6, unpack_result},
	[DF_MSG_FAILED] = {"failed", 5, unpack_failed},
	[DF_MSG_READ] = {"read", 14, unpack_read},
	[DF_MSG_CREDIT] = {"credit", 1, unpack_credit},
	[DF_MSG_CELLS] = {"cells", 3, unpack_cells},
	[DF_MSG_SOURCE_END] = {"source_end", 7, unpack_source_end},
};

/* The version is judged before anything that another version may have changed. */
static enum df_err unpack_head(struct reader *r, struct df_msg *m)
{
	size_t n = get_array(r, "message", UINT32_MAX);
	uint64_t version = get_u64(r, "version");
	if (r->err == DF_OK && version != DF_PROTO_VERSION)
		return df_fail(r->fail, DF_ERR_VERSION, "header has protocol version %llu; this build speaks %d",
			       (unsigned long long)version, DF_PROTO_VERSION);
	m->type = (uint32_t)get_uint(r, "type", DF_MSG_SOURCE_END);
	if (m->type == 0)
		refuse(r, DF_ERR_PARSE, "type", "is no message");
	r->type = types[m->type].name;
	if (n != 5 + types[m->type].n_rest)
		refuse(r, DF_ERR_PARSE, "message", "has the wrong number of fields");
	m->epoch = get_u32(r, "epoch");
	m->lane = get_u64(r, "lane");
	m->lease = get_u64(r, "lease");
	return r->err;
}

enum df_err df_msg_unpack(struct df_str frame, struct df_arena *arena, struct df_msg *ret_msg, struct df_fail *fail)
{
	struct df_msg m = {0};
	struct reader r = {.c = df_cursor_of(frame), .arena = arena, .fail = fail, .type = types[0].name};
	DF_TRY(df_unpack_check(frame, fail));
	DF_TRY(unpack_head(&r, &m));
	types[m.type].unpack(&r, &m);
	if (r.err == DF_OK)
		*ret_msg = m;
	return r.err;
}
