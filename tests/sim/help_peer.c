// SPDX-License-Identifier: Apache-2.0
/* help_peer: model processes. */
#include "tests/sim/help_peer.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"

uint64_t peer_delay(struct world *w)
{
	if (world_once_in(w, 300))
		return world_roll(w, 4000) * DF_MS;
	return world_roll(w, world_once_in(w, 10) ? 50000 : 500) * 1000;
}

struct peer *peer_create(struct world *w, enum df_role role, uint64_t lane, uint32_t epoch, uint64_t now_ns)
{
	struct peer *p = calloc(1, sizeof(*p));
	DF_ASSERT(p != NULL);
	p->world = w;
	p->role = role;
	p->lane = lane;
	p->epoch = epoch;
	p->alive = true;
	p->up_ns = p->hello_ns = now_ns + world_roll(w, 20) * DF_MS;
	p->wake_ns = p->up_ns;
	pipe_init(&p->down);
	pipe_init(&p->control);
	pipe_init(&p->bulk);
	pipe_init(&p->results);
	df_arena_init(&p->arena, 16U << 20, 1U << 20);
	return p;
}

static void put_away(struct peer *p)
{
	if (p->parcel)
		parcel_free(p->parcel);
	p->parcel = NULL;
	p->reading = false;
	free(p->item);
	p->item = NULL;
	p->n_item = p->at = p->batch = 0;
}

void peer_destroy(struct peer *p)
{
	put_away(p);
	pipe_cut(&p->down, 0);
	pipe_cut(&p->control, 0);
	pipe_cut(&p->bulk, 0);
	pipe_cut(&p->results, 0);
	df_arena_release(&p->arena);
	free(p);
}

static void lose_tail(struct peer *p, struct pipe *pipe)
{
	if (world_once_in(p->world, 2))
		pipe_cut(pipe, (size_t)world_roll(p->world, pipe->n + 1));
}

void peer_die(struct peer *p, int sig, bool crashed, uint64_t now_ns)
{
	if (!p->alive)
		return;
	p->alive = false;
	p->exit_due = true;
	p->exit_signal = sig;
	p->exit_ns = now_ns + peer_delay(p->world);
	p->blame = (struct df_blame){.cause = crashed ? DF_CAUSE_SIGNAL : DF_CAUSE_STRANGER, .computing = p->batch > 0};
	if (p->batch) {
		p->blame.lease = p->msg.lease;
		p->blame.alone = (p->msg.lease_msg.flags & DF_LEASE_ALONE) && p->batch == 1;
		p->blame.record = (struct df_record_id){p->item[p->at].source, p->item[p->at].record->offset};
	}
	put_away(p);
	pipe_cut(&p->down, 0);
	lose_tail(p, &p->control);
	lose_tail(p, &p->bulk);
	lose_tail(p, &p->results);
}

uint64_t peer_next_ns(const struct peer *p)
{
	uint64_t at = p->hello_ns;
	if (!p->alive)
		return UINT64_MAX;
	bool works = p->n_item || p->parcel || (p->reading && p->credit > 0);
	if (works && p->wake_ns < at)
		at = p->wake_ns;
	if (p->down.head && (p->role == DF_ROLE_READER || !works)) {
		uint64_t message = p->down.head->ready_ns > p->up_ns ? p->down.head->ready_ns : p->up_ns;
		at = message < at ? message : at;
	}
	return at;
}

static void send(struct peer *p, struct pipe *pipe, struct df_msg *msg, struct df_blob *const *payload, size_t n,
		 uint64_t now_ns)
{
	msg->epoch = p->epoch;
	msg->lane = p->lane;
	pipe_put_message(pipe, now_ns + peer_delay(p->world), msg, payload, n);
}

static void hello(struct peer *p, uint64_t now_ns)
{
	struct df_msg msg = {.type = DF_MSG_HELLO};
	p->hello_ns = now_ns + DF_HELLO_MS * DF_MS;
	if (world_once_in(p->world, 12))
		return; /* lost */
	msg.hello = (struct df_hello){.role = p->role, .pid = 1, .sent = p->sent};
	send(p, &p->control, &msg, NULL, 0, now_ns);
}

/* ------------------------------------------------------------------ worker */

static void add_items(struct peer *p, uint32_t source, uint64_t cell)
{
	size_t first = 0, end = 0;
	world_cell(p->world, source, cell, &first, &end);
	p->item = realloc(p->item, (p->n_item + end - first + 1) * sizeof(*p->item));
	DF_ASSERT(p->item != NULL);
	for (; first < end; first++)
		p->item[p->n_item++] = (struct work_item){source, &p->world->source[source].record[first]};
}

static bool broken(struct peer *p, uint64_t now_ns)
{
	for (size_t i = 0; i < p->msg.lease_msg.n_segment; i++) {
		uint32_t source = p->msg.lease_msg.segment[i].cells.source;
		const struct world_source *s = &p->world->source[source];
		bool bad = s->ending == END_BROKEN && now_ns >= s->at * DF_MS;
		if (!bad && !world_once_in(p->world, 400))
			continue;
		struct df_msg msg = {.type = DF_MSG_FAILED, .lease = p->msg.lease};
		msg.failed = (struct df_failed){bad ? DF_ERR_CHANGED : DF_ERR_TIMEOUT, DF_STR("it went wrong"), source,
						0, ++p->seq};
		p->sent++;
		send(p, &p->results, &msg, NULL, 0, now_ns);
		return true;
	}
	return false;
}

/* The segments are as the protocol says, and each reader's cell came with its own bytes. */
static void check_lease(struct peer *p)
{
	size_t blob = 0;
	for (size_t i = 0; i < p->msg.lease_msg.n_segment; i++) {
		const struct df_segment *seg = &p->msg.lease_msg.segment[i];
		DF_ASSERT(seg->kind == p->world->source[seg->cells.source].kind && seg->cells.n > 0);
		for (uint64_t k = 0; k < seg->cells.n && seg->kind == DF_SOURCE_READER; k++, blob++) {
			uint64_t name[2];
			DF_ASSERT(blob < p->parcel->frames.n_payload);
			memcpy(name, p->parcel->frames.payload[blob]->p, sizeof(name));
			DF_ASSERT(name[0] == seg->cells.source && name[1] == seg->cells.first + k);
		}
	}
	DF_ASSERT(blob == p->parcel->frames.n_payload);
	DF_ASSERT(!(p->msg.lease_msg.flags & DF_LEASE_ALONE) ||
		  (p->msg.lease_msg.n_segment == 1 && p->msg.lease_msg.segment[0].cells.n == 1 && p->down.n == 0));
}

static void begin_lease(struct peer *p, uint64_t now_ns)
{
	check_lease(p);
	memset(p->tally, 0, sizeof(p->tally));
	p->part = 0;
	if (broken(p, now_ns)) {
		put_away(p);
		return;
	}
	for (size_t i = 0; i < p->msg.lease_msg.n_segment; i++) {
		struct df_cells c = p->msg.lease_msg.segment[i].cells;
		for (uint64_t k = 0; k < c.n; k++)
			add_items(p, c.source, c.first + k);
	}
}

static bool poisoned(const struct peer *p, const struct work_item *item)
{
	for (size_t i = 0; i < p->msg.lease_msg.n_poison; i++)
		if (p->msg.lease_msg.poison[i].record.source == item->source &&
		    p->msg.lease_msg.poison[i].record.offset == item->record->offset)
			return true;
	return false;
}

static void send_part(struct peer *p, struct df_buf *rows, struct df_buf *rejects, bool last, uint64_t now_ns)
{
	static const char *const name[] = {"in", "out", "filtered", "rejected", "busy_ns"};
	struct df_output output[2];
	struct df_blob *payload[2];
	struct df_counter counter[5];
	struct df_msg msg = {.type = DF_MSG_RESULT, .lease = p->msg.lease};
	struct df_result *r = &msg.result;
	struct df_cells *cells = df_arena_array(&p->arena, p->msg.lease_msg.n_segment + 1, sizeof(*cells));
	*r = (struct df_result){.part = p->part++, .last = last, .output = output, .seq = ++p->seq};
	for (int k = 0; k < 2; k++) {
		struct df_buf *b = k ? rejects : rows;
		if (!b->n)
			continue;
		payload[r->n_output] = df_blob_copy(b->p, b->n);
		output[r->n_output++] =
			(struct df_output){k ? DF_OUTPUT_REJECTS : DF_OUTPUT_JSONL, 1, b->n, df_hash64(b->p, b->n)};
	}
	if (last) {
		for (size_t i = 0; i < p->msg.lease_msg.n_segment; i++)
			cells[r->n_cells++] = p->msg.lease_msg.segment[i].cells;
		for (int k = 0; k < 5; k++)
			counter[k] = (struct df_counter){df_str_from(name[k]),
							 k < 4 ? p->tally[k] : (1 + p->tally[0]) * DF_MS};
		r->cells = cells;
		r->counter = counter;
		r->n_counter = 5;
		p->sent++;
	}
	send(p, &p->results, &msg, payload, r->n_output, now_ns);
	for (size_t i = 0; i < r->n_output; i++)
		df_blob_unref(&payload[i]);
}

/* The records that the slot names. False: one of them ended the process. */
static bool do_batch(struct peer *p, struct df_buf *rows, struct df_buf *rejects)
{
	for (; p->batch; p->batch--, p->at++) {
		const struct work_item *item = &p->item[p->at];
		enum fate fate = item->record->fate;
		if (fate == FATE_KILLER && !poisoned(p, item)) {
			p->batch = p->msg.lease_msg.flags & DF_LEASE_ALONE ? 1 : p->batch;
			return false;
		}
		fate = fate == FATE_KILLER ? FATE_REJECTED : fate;
		p->tally[0]++;
		p->tally[1 + fate]++;
		if (fate != FATE_FILTERED)
			(void)df_buf_addf(fate == FATE_OUT ? rows : rejects, "%u:%llu\n", item->source,
					  (unsigned long long)item->record->offset);
	}
	return true;
}

static void work(struct peer *p, uint64_t now_ns)
{
	struct df_buf rows, rejects;
	df_buf_init(&rows, 1U << 20);
	df_buf_init(&rejects, 1U << 20);
	bool healthy = do_batch(p, &rows, &rejects);
	bool last = healthy && p->at == p->n_item;
	if (healthy && (rows.n || rejects.n || last))
		send_part(p, &rows, &rejects, last, now_ns);
	if (!healthy)
		peer_die(p, SIGSEGV, true, now_ns);
	else if (last)
		put_away(p);
	df_buf_release(&rows);
	df_buf_release(&rejects);
}

static void worker_step(struct peer *p, uint64_t now_ns)
{
	if (!p->parcel) {
		if (!pipe_ready(&p->down, now_ns))
			return;
		p->parcel = pipe_take(&p->down);
		df_arena_reset(&p->arena);
		struct df_str header = {p->parcel->frames.header->p, p->parcel->frames.header->n};
		DF_ASSERT(df_msg_unpack(header, &p->arena, &p->msg, NULL) == DF_OK && p->msg.type == DF_MSG_LEASE);
		begin_lease(p, now_ns);
	} else if (!p->batch && p->at < p->n_item) {
		size_t left = p->n_item - p->at,
		       most = p->msg.lease_msg.flags & DF_LEASE_ALONE ? 1 : 1 + world_roll(p->world, 16);
		p->batch = left < most ? left : most;
	} else {
		work(p, now_ns);
	}
	p->wake_ns = now_ns + world_roll(p->world, 4000) * 1000;
}

/* ------------------------------------------------------------------ reader */

static bool known(const struct peer *p, uint64_t cell)
{
	for (size_t i = 0; i < p->msg.read.n_done; i++)
		if (cell - p->msg.read.done[i].first < p->msg.read.done[i].n)
			return true;
	return false;
}

static void end_source(struct peer *p, enum df_err code, uint64_t now_ns)
{
	const struct df_read *r = &p->msg.read;
	size_t first = 0, end = 0;
	struct df_msg msg = {.type = DF_MSG_SOURCE_END};
	world_window(p->world, r->source, r->skip_records, r->limit_records, &first, &end);
	msg.source_end = (struct df_source_end){
		.source = r->source, .n_cell = p->cell, .records = end, .code = code, .message = DF_STR("that is all")};
	send(p, &p->bulk, &msg, NULL, 0, now_ns);
	put_away(p);
}

static void send_cell(struct peer *p, size_t first, size_t end, uint64_t now_ns)
{
	const struct world_source *s = &p->world->source[p->msg.read.source];
	struct df_cell_info info = {s->record[first].offset, 0, end - first, p->cell};
	for (size_t i = first; i < end; i++)
		info.bytes += s->record[i].length;
	uint64_t name[2] = {p->msg.read.source, p->cell};
	struct df_blob *blob = df_blob_create(info.bytes < 400000 ? info.bytes + sizeof(name) : 400000);
	DF_ASSERT(blob != NULL);
	memcpy(blob->p, name, sizeof(name));
	struct df_msg msg = {.type = DF_MSG_CELLS};
	msg.cells = (struct df_cells_msg){p->msg.read.source, p->cell, &info, 1};
	p->credit -= (int64_t)blob->n;
	send(p, &p->bulk, &msg, &blob, 1, now_ns);
	df_blob_unref(&blob);
}

static void read_on(struct peer *p, uint64_t now_ns)
{
	const struct df_read *r = &p->msg.read;
	const struct world_source *s = &p->world->source[r->source];
	size_t first = 0, end = 0;
	if (s->ending == END_DEADLY && p->cell == s->at) {
		peer_die(p, SIGSEGV, true, now_ns);
	} else if (s->ending == END_TRUNCATED && p->cell == s->at) {
		end_source(p, DF_ERR_CORRUPT, now_ns);
	} else if (!world_reader_cell(p->world, r->source, r->skip_records, r->limit_records, p->cell, &first, &end)) {
		end_source(p, DF_OK, now_ns);
	} else {
		if (!known(p, p->cell))
			send_cell(p, first, end, now_ns);
		p->cell++;
	}
}

static void reader_take(struct peer *p)
{
	struct df_msg msg;
	struct parcel *parcel = pipe_take(&p->down);
	struct df_str header = {parcel->frames.header->p, parcel->frames.header->n};
	if (!p->reading)
		df_arena_reset(&p->arena);
	DF_ASSERT(df_msg_unpack(header, &p->arena, &msg, NULL) == DF_OK);
	if (msg.type == DF_MSG_CREDIT) {
		p->credit += p->reading ? (int64_t)msg.credit.bytes : 0;
		parcel_free(parcel);
		return;
	}
	DF_ASSERT(msg.type == DF_MSG_READ && !p->reading);
	p->msg = msg;
	p->parcel = parcel;
	p->reading = true;
	p->credit = (int64_t)msg.read.credit_bytes;
	p->cell = 0;
}

static void reader_step(struct peer *p, uint64_t now_ns)
{
	while (p->alive && pipe_ready(&p->down, now_ns))
		reader_take(p);
	if (p->reading && p->credit > 0)
		read_on(p, now_ns);
	p->wake_ns = now_ns + world_roll(p->world, 2000) * 1000;
}

void peer_step(struct peer *p, uint64_t now_ns)
{
	if (!p->alive || now_ns < p->up_ns)
		return;
	if (now_ns >= p->hello_ns)
		hello(p, now_ns);
	bool works = p->n_item || p->parcel || p->reading;
	if (works && now_ns < p->wake_ns && p->role == DF_ROLE_WORKER)
		return;
	if (p->role == DF_ROLE_WORKER)
		worker_step(p, now_ns);
	else
		reader_step(p, now_ns);
}
