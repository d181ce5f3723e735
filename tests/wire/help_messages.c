// SPDX-License-Identifier: Apache-2.0
/* help_messages: fixed, random and compared messages for the tests of the wire. */
#include "tests/wire/help_messages.h"

#include "base/limits.h"

#define S(lit)                                                                                                         \
	{                                                                                                              \
		(lit), sizeof(lit) - 1                                                                                 \
	}
#define HEAD(t, le) .type = (t), .epoch = 3, .lane = (UINT64_C(3) << 20) | 7, .lease = (le)

static struct df_segment segments[] = {
	{.cells = {.source = 2, .first = 640, .n = 64},
	 .kind = DF_SOURCE_JSONL,
	 .start = 10485760,
	 .end = 11534336,
	 .cell_bytes = 16384,
	 .path = S("/data/a.jsonl"),
	 .name = S("a.jsonl"),
	 .id = {.dev = 65025, .ino = 1234567, .size = 5000000000, .mtime_ns = 1700000000123456789}},
	{.cells = {.source = 9, .first = 0, .n = 1},
	 .kind = DF_SOURCE_READER,
	 .name = S("b.jsonl.gz"),
	 .id = {.mtime_ns = -1}},
};
static struct df_strike poison[] = {{{.source = 2, .offset = 10485999}, 3, DF_CAUSE_SIGNAL, 11, 1}};
static struct df_cells cells[] = {{.source = 2, .first = 640, .n = 64}, {.source = 9, .first = 0, .n = 1}};
static struct df_output outputs[] = {
	{.kind = DF_OUTPUT_JSONL, .rows = 1000, .raw_bytes = 262144, .hash = UINT64_C(0xfedcba9876543210)},
	{.kind = DF_OUTPUT_REJECTS, .rows = 1, .raw_bytes = 300, .hash = 1},
};
static struct df_counter counters[] = {
	{S("in"), 1001}, {S("out"), 1000}, {S("rejected:clean:utf8"), 1}, {S("time_ns:clean"), 4294967296}};
static struct df_range done[] = {{0, 100, {3, 1600000, 8000, UINT64_MAX}}, {.first = 300, .n = 1}};
static struct df_cell_info cell_infos[] = {
	{.start = 0, .bytes = 16400, .records = 80, .hash = UINT64_MAX},
	{.start = 16400, .bytes = 128, .records = 1, .hash = 2},
};

const struct golden help_golden[] = {
	{"hello",
	 {HEAD(DF_MSG_HELLO, 0), .hello = {.nonce = UINT64_C(0x0123456789abcdef),
					   .role = DF_ROLE_READER,
					   .pid = 4711,
					   .seq = 12,
					   .sent = 300,
					   .held = 2,
					   .peak_rss_bytes = 33554432}}},
	{"notice",
	 {.type = DF_MSG_NOTICE,
	  .epoch = UINT32_MAX,
	  .notice = {.seq = 65536, .state = DF_STATE_STOP, .nonce = UINT64_MAX, .reason = S("fertig \xe2\x9c\x93")}}},
	{"lease",
	 {HEAD(DF_MSG_LEASE, 77), .lease_msg = {.flags = DF_LEASE_ALONE | DF_LEASE_REDO,
						.segment = segments,
						.n_segment = 2,
						.poison = poison,
						.n_poison = 1}}},
	{"result_part",
	 {HEAD(DF_MSG_RESULT, 77), .result = {.part = 0, .last = false, .output = outputs, .n_output = 1, .seq = 41}}},
	{"result_last",
	 {HEAD(DF_MSG_RESULT, 77), .result = {.part = 1,
					      .last = true,
					      .cells = cells,
					      .n_cells = 2,
					      .output = outputs,
					      .n_output = 2,
					      .counter = counters,
					      .n_counter = 4,
					      .seq = 42}}},
	{"failed",
	 {HEAD(DF_MSG_FAILED, 78), .failed = {.code = DF_ERR_CHANGED,
					      .message = S("'a.jsonl' changed"),
					      .source = UINT32_MAX,
					      .offset = 0,
					      .seq = 43}}},
	{"read",
	 {HEAD(DF_MSG_READ, 0), .read = {.source = 9,
					 .format = 1,
					 .flags = DF_READ_STDIN,
					 .path = S("/data/b.jsonl.gz"),
					 .name = S("b.jsonl.gz"),
					 .id = {.dev = 1, .ino = 2, .size = 3, .mtime_ns = -4000000000},
					 .cell_bytes = 16384,
					 .skip_records = 5,
					 .limit_records = UINT64_MAX,
					 .credit_bytes = 4194304,
					 .done = done,
					 .n_done = 2}}},
	{"credit", {HEAD(DF_MSG_CREDIT, 0), .credit = {.bytes = 1048576}}},
	{"cells", {HEAD(DF_MSG_CELLS, 0), .cells = {.source = 9, .first = 100, .cell = cell_infos, .n_cell = 2}}},
	{"source_end",
	 {HEAD(DF_MSG_SOURCE_END, 0), .source_end = {.source = 9,
						     .n_cell = 102,
						     .bytes = 1671168,
						     .records = 8001,
						     .code = DF_OK,
						     .flags = DF_SOURCE_END_DIFFERS}}},
};
const size_t help_n_golden = sizeof(help_golden) / sizeof(help_golden[0]);

/* --- random --- */

struct dice {
	struct df_rand rnd;
	struct df_arena *arena;
};

static uint64_t below(struct dice *d, uint64_t n)
{
	return d->rnd.next(d->rnd.self) % n;
}

/* Each width of MessagePack's integers, and their borders, about equally often. */
static uint64_t any_u64(struct dice *d)
{
	uint64_t v = d->rnd.next(d->rnd.self) >> below(d, 64);
	switch (below(d, 8)) {
	case 0:
		return UINT64_MAX >> below(d, 64);
	case 1:
		return (UINT64_C(1) << below(d, 64)) - below(d, 2);
	default:
		return v;
	}
}

static uint32_t any_u32(struct dice *d)
{
	return (uint32_t)(any_u64(d) & UINT32_MAX);
}

static uint32_t any_source(struct dice *d)
{
	return (uint32_t)(any_u64(d) % DF_MAX_SOURCES);
}

static void *any_array(struct dice *d, size_t n, size_t size)
{
	void *p = df_arena_array(d->arena, n ? n : 1, size);
	DF_ASSERT(p);
	memset(p, 0, n * size);
	return p;
}

/* Lengths around the borders of MessagePack's string headers; no NUL, since paths refuse it. */
static struct df_str any_str(struct dice *d)
{
	static const uint16_t lengths[] = {0, 1, 5, 31, 32, 33, 255, 256, 300};
	size_t n = below(d, 200) == 0 ? 65530 + below(d, 7) : lengths[below(d, 9)];
	char *p = any_array(d, n, 1);
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(1 + below(d, 255));
	return (struct df_str){p, n};
}

static size_t any_count(struct dice *d, size_t max)
{
	switch (below(d, 20)) {
	case 0:
		return max;
	case 1:
		return below(d, max + 1);
	default:
		return below(d, 20);
	}
}

static struct df_cells any_cells(struct dice *d)
{
	struct df_cells c = {.source = any_source(d), .first = any_u64(d) % DF_MAX_CELLS};
	c.n = any_u64(d) % (DF_MAX_CELLS - c.first + 1);
	return c;
}

static struct df_file_id any_file_id(struct dice *d)
{
	return (struct df_file_id){any_u64(d), any_u64(d), any_u64(d), (int64_t)any_u64(d)};
}

static void any_segment(struct dice *d, struct df_segment *s)
{
	s->cells = any_cells(d);
	s->kind = (uint32_t)below(d, 3);
	s->end = any_u64(d);
	s->start = s->end ? below(d, s->end) : 0;
	s->cell_bytes = any_u64(d);
	if (below(d, 4))
		s->path = any_str(d);
	s->name = (struct df_str)S("a name");
	s->id = any_file_id(d);
}

static void any_lease(struct dice *d, struct df_lease_msg *l)
{
	l->flags = (uint32_t)below(d, 4);
	l->n_segment = any_count(d, 40);
	l->segment = any_array(d, l->n_segment, sizeof(*l->segment));
	for (size_t i = 0; i < l->n_segment; i++)
		any_segment(d, &l->segment[i]);
	l->n_poison = any_count(d, DF_POISON_PER_LEASE);
	l->poison = any_array(d, l->n_poison, sizeof(*l->poison));
	for (size_t i = 0; i < l->n_poison; i++)
		l->poison[i] = (struct df_strike){{any_source(d), any_u64(d)},
						  (uint32_t)any_u64(d),
						  (uint32_t)(any_u64(d) % DF_N_CAUSE),
						  (uint32_t)any_u64(d),
						  (uint32_t)any_u64(d)};
}

static void any_result(struct dice *d, struct df_result *r)
{
	r->seq = any_u64(d);
	r->part = any_u32(d);
	r->last = below(d, 2);
	r->n_cells = any_count(d, 600);
	r->cells = any_array(d, r->n_cells, sizeof(*r->cells));
	for (size_t i = 0; i < r->n_cells; i++)
		r->cells[i] = any_cells(d);
	r->n_output = any_count(d, DF_MESSAGE_FRAMES_MAX - 1);
	r->output = any_array(d, r->n_output, sizeof(*r->output));
	for (size_t i = 0; i < r->n_output; i++)
		r->output[i] = (struct df_output){(uint32_t)below(d, 3), any_u64(d), any_u64(d), any_u64(d)};
	r->n_counter = any_count(d, 40);
	r->counter = any_array(d, r->n_counter, sizeof(*r->counter));
	for (size_t i = 0; i < r->n_counter; i++)
		r->counter[i] = (struct df_counter){any_str(d), any_u64(d)};
}

static void any_read(struct dice *d, struct df_read *r)
{
	*r = (struct df_read){.source = any_source(d),
			      .format = any_u32(d),
			      .flags = (uint32_t)below(d, 2),
			      .path = any_str(d),
			      .name = any_str(d),
			      .id = any_file_id(d),
			      .cell_bytes = any_u64(d),
			      .skip_records = any_u64(d),
			      .limit_records = any_u64(d),
			      .credit_bytes = any_u64(d)};
	r->n_done = any_count(d, 2000);
	r->done = any_array(d, r->n_done, sizeof(*r->done));
	for (size_t i = 0; i < r->n_done; i++)
		r->done[i] = (struct df_range){
			any_u64(d) % DF_MAX_CELLS, 0, {any_u64(d), any_u64(d), any_u64(d), any_u64(d)}};
}

static void any_cells_msg(struct dice *d, struct df_cells_msg *c)
{
	c->source = any_source(d);
	c->first = any_u64(d) % (DF_MAX_CELLS - DF_MESSAGE_FRAMES_MAX);
	c->n_cell = any_count(d, DF_MESSAGE_FRAMES_MAX - 1);
	c->cell = any_array(d, c->n_cell, sizeof(*c->cell));
	for (size_t i = 0; i < c->n_cell; i++)
		c->cell[i] = (struct df_cell_info){any_u64(d), any_u64(d), any_u64(d), any_u64(d)};
}

static void any_rest(struct dice *d, struct df_msg *m)
{
	switch ((enum df_msg_type)m->type) {
	case DF_MSG_HELLO:
		m->hello = (struct df_hello){
			any_u64(d), (uint32_t)below(d, 2), any_u32(d), any_u64(d), any_u64(d), any_u32(d), any_u64(d)};
		return;
	case DF_MSG_NOTICE:
		m->notice = (struct df_notice){any_u64(d), (uint32_t)below(d, 3), any_u64(d), any_str(d)};
		return;
	case DF_MSG_LEASE:
		any_lease(d, &m->lease_msg);
		return;
	case DF_MSG_RESULT:
		any_result(d, &m->result);
		return;
	case DF_MSG_FAILED:
		m->failed = (struct df_failed){(enum df_err)(1 + below(d, DF_N_ERR - 1)), any_str(d),
					       below(d, 2) ? UINT32_MAX : any_source(d), any_u64(d), any_u64(d)};
		return;
	case DF_MSG_READ:
		any_read(d, &m->read);
		return;
	case DF_MSG_CREDIT:
		m->credit.bytes = any_u64(d);
		return;
	case DF_MSG_CELLS:
		any_cells_msg(d, &m->cells);
		return;
	case DF_MSG_SOURCE_END:
		m->source_end =
			(struct df_source_end){any_source(d),        any_u64(d) % (DF_MAX_CELLS + 1), any_u64(d),
					       any_u64(d),           (enum df_err)below(d, DF_N_ERR), any_str(d),
					       (uint32_t)below(d, 2)};
		return;
	}
}

struct df_msg help_random_message(struct df_rand rnd, struct df_arena *arena)
{
	struct dice d = {rnd, arena};
	struct df_msg m = {.type = (uint32_t)(1 + below(&d, DF_MSG_SOURCE_END)),
			   .epoch = any_u32(&d),
			   .lane = any_u64(&d),
			   .lease = any_u64(&d)};
	any_rest(&d, &m);
	return m;
}

/* --- comparison: field by field, since padding and pointers differ --- */

static bool same_cells(const struct df_cells *a, const struct df_cells *b)
{
	return a->source == b->source && a->first == b->first && a->n == b->n;
}

static bool same_id(const struct df_file_id *a, const struct df_file_id *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

static bool same_segment(const struct df_segment *a, const struct df_segment *b)
{
	return same_cells(&a->cells, &b->cells) && a->kind == b->kind && a->start == b->start && a->end == b->end &&
	       a->cell_bytes == b->cell_bytes && df_str_eq(a->path, b->path) && df_str_eq(a->name, b->name) &&
	       same_id(&a->id, &b->id);
}

static bool same_lease(const struct df_lease_msg *a, const struct df_lease_msg *b)
{
	bool same = a->flags == b->flags && a->n_segment == b->n_segment && a->n_poison == b->n_poison;
	for (size_t i = 0; same && i < a->n_segment; i++)
		same = same_segment(&a->segment[i], &b->segment[i]);
	for (size_t i = 0; same && i < a->n_poison; i++)
		same = df_strike_eq(&a->poison[i], &b->poison[i]);
	return same;
}

static bool same_result(const struct df_result *a, const struct df_result *b)
{
	bool same = a->seq == b->seq && a->part == b->part && a->last == b->last && a->n_cells == b->n_cells &&
		    a->n_output == b->n_output && a->n_counter == b->n_counter;
	for (size_t i = 0; same && i < a->n_cells; i++)
		same = same_cells(&a->cells[i], &b->cells[i]);
	for (size_t i = 0; same && i < a->n_output; i++)
		same = a->output[i].kind == b->output[i].kind && a->output[i].rows == b->output[i].rows &&
		       a->output[i].raw_bytes == b->output[i].raw_bytes && a->output[i].hash == b->output[i].hash;
	for (size_t i = 0; same && i < a->n_counter; i++)
		same = df_str_eq(a->counter[i].name, b->counter[i].name) && a->counter[i].value == b->counter[i].value;
	return same;
}

static bool same_read(const struct df_read *a, const struct df_read *b)
{
	bool same = a->source == b->source && a->format == b->format && a->flags == b->flags &&
		    df_str_eq(a->path, b->path) && df_str_eq(a->name, b->name) && same_id(&a->id, &b->id) &&
		    a->cell_bytes == b->cell_bytes && a->skip_records == b->skip_records &&
		    a->limit_records == b->limit_records && a->credit_bytes == b->credit_bytes &&
		    a->n_done == b->n_done;
	for (size_t i = 0; same && i < a->n_done; i++)
		same = memcmp(&a->done[i], &b->done[i], sizeof(a->done[i])) == 0; /* six u64: no padding */
	return same;
}

static bool same_cells_msg(const struct df_cells_msg *a, const struct df_cells_msg *b)
{
	bool same = a->source == b->source && a->first == b->first && a->n_cell == b->n_cell;
	for (size_t i = 0; same && i < a->n_cell; i++)
		same = memcmp(&a->cell[i], &b->cell[i], sizeof(a->cell[i])) == 0; /* four u64: no padding */
	return same;
}

static bool same_small(const struct df_msg *a, const struct df_msg *b)
{
	const struct df_hello *h = &a->hello, *g = &b->hello;
	const struct df_source_end *e = &a->source_end, *f = &b->source_end;
	switch ((enum df_msg_type)a->type) {
	case DF_MSG_HELLO:
		return h->nonce == g->nonce && h->role == g->role && h->pid == g->pid && h->seq == g->seq &&
		       h->sent == g->sent && h->held == g->held && h->peak_rss_bytes == g->peak_rss_bytes;
	case DF_MSG_NOTICE:
		return a->notice.seq == b->notice.seq && a->notice.state == b->notice.state &&
		       a->notice.nonce == b->notice.nonce && df_str_eq(a->notice.reason, b->notice.reason);
	case DF_MSG_FAILED:
		return a->failed.code == b->failed.code && df_str_eq(a->failed.message, b->failed.message) &&
		       a->failed.source == b->failed.source && a->failed.offset == b->failed.offset &&
		       a->failed.seq == b->failed.seq;
	case DF_MSG_CREDIT:
		return a->credit.bytes == b->credit.bytes;
	case DF_MSG_SOURCE_END:
		return e->source == f->source && e->n_cell == f->n_cell && e->bytes == f->bytes &&
		       e->records == f->records && e->code == f->code && df_str_eq(e->message, f->message) &&
		       e->flags == f->flags;
	default:
		return false;
	}
}

bool help_same_message(const struct df_msg *a, const struct df_msg *b)
{
	if (a->type != b->type || a->epoch != b->epoch || a->lane != b->lane || a->lease != b->lease)
		return false;
	switch (a->type) {
	case DF_MSG_LEASE:
		return same_lease(&a->lease_msg, &b->lease_msg);
	case DF_MSG_RESULT:
		return same_result(&a->result, &b->result);
	case DF_MSG_READ:
		return same_read(&a->read, &b->read);
	case DF_MSG_CELLS:
		return same_cells_msg(&a->cells, &b->cells);
	default:
		return same_small(a, b);
	}
}
