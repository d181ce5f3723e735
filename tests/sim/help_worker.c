// SPDX-License-Identifier: Apache-2.0
/* help_worker: a model worker: from a LEASE to its RESULT parts, or to its death over a record. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "tests/sim/help_content.h"
#include "tests/sim/help_job.h"

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
		if (bad && p->world->content)
			content_change(&p->world->source[source]);
		if (p->world->content || (!bad && !world_once_in(p->world, 400)))
			continue;
		struct df_msg msg = {.type = DF_MSG_FAILED, .lease = p->msg.lease};
		msg.failed = (struct df_failed){bad ? DF_ERR_CHANGED : DF_ERR_TIMEOUT, DF_STR("it went wrong"), source,
						0, ++p->seq};
		p->sent++;
		peer_send(p, &p->results, &msg, NULL, 0, now_ns);
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
			if (p->world->content)
				continue; /* the job looks for itself */
			memcpy(name, p->parcel->frames.payload[blob]->p, sizeof(name));
			DF_ASSERT(name[0] == seg->cells.source && name[1] == seg->cells.first + k);
		}
	}
	DF_ASSERT(blob == p->parcel->frames.n_payload);
	DF_ASSERT(!(p->msg.lease_msg.flags & DF_LEASE_ALONE) ||
		  (p->msg.lease_msg.n_segment == 1 && p->msg.lease_msg.segment[0].cells.n == 1 && p->inbox.n == 0));
}

static void begin_lease(struct peer *p, uint64_t now_ns)
{
	check_lease(p);
	memset(p->tally, 0, sizeof(p->tally));
	p->part = 0;
	if (broken(p, now_ns)) {
		peer_put_away(p);
		return;
	}
	for (size_t i = 0; i < p->msg.lease_msg.n_segment; i++) {
		struct df_cells c = p->msg.lease_msg.segment[i].cells;
		for (uint64_t k = 0; k < c.n; k++)
			add_items(p, c.source, c.first + k);
	}
	if (p->world->content)
		job_begin(p);
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
	peer_send(p, &p->results, &msg, payload, r->n_output, now_ns);
	for (size_t i = 0; i < r->n_output; i++)
		df_blob_unref(&payload[i]);
}

/* The records that the slot names; the fate of one that ends the process, or another. */
static enum fate do_batch(struct peer *p, struct df_buf *rows, struct df_buf *rejects)
{
	for (; p->batch; p->batch--, p->at++) {
		const struct work_item *item = &p->item[p->at];
		enum fate fate = poisoned(p, item) ? FATE_REJECTED : item->record->fate;
		if (fate > FATE_REJECTED)
			return fate;
		p->tally[0]++;
		p->tally[1 + fate]++;
		if (fate != FATE_FILTERED)
			(void)df_buf_addf(fate == FATE_OUT ? rows : rejects, "%u:%llu\n", item->source,
					  (unsigned long long)item->record->offset);
	}
	return FATE_OUT;
}

static void work(struct peer *p, uint64_t now_ns)
{
	struct df_buf rows, rejects;
	df_buf_init(&rows, 1U << 20);
	df_buf_init(&rejects, 1U << 20);
	enum fate fate = do_batch(p, &rows, &rejects);
	bool healthy = fate <= FATE_REJECTED;
	bool last = healthy && p->at == p->n_item;
	if (healthy && p->world->content)
		job_send(p, last, now_ns);
	else if (healthy && (rows.n || rejects.n || last))
		send_part(p, &rows, &rejects, last, now_ns);
	if (fate == FATE_KILLER)
		peer_die(p, SIGSEGV, true, now_ns);
	else if (!healthy)
		p->stuck = fate;
	else if (last)
		peer_put_away(p);
	df_buf_release(&rows);
	df_buf_release(&rejects);
}

/* Leases that arrive wait in the process; one that came twice is dropped. */
static void take_leases(struct peer *p, uint64_t now_ns)
{
	while (pipe_ready(&p->down, now_ns)) {
		struct df_msg msg;
		struct parcel *parcel = pipe_take(&p->down);
		struct df_str header = {parcel->frames.header->p, parcel->frames.header->n};
		if (!p->parcel) /* else what is in work has its memory there */
			df_arena_reset(&p->arena);
		DF_ASSERT(df_msg_unpack(header, &p->arena, &msg, NULL) == DF_OK && msg.type == DF_MSG_LEASE);
		if (df_worker_link_takes(&p->link, msg.lease))
			pipe_move(&p->inbox, parcel);
		else
			parcel_free(parcel);
	}
}

bool worker_works(const struct peer *p)
{
	return !p->stuck && (p->parcel || p->inbox.head);
}

void worker_step(struct peer *p, uint64_t now_ns)
{
	bool alone = p->msg.lease_msg.flags & DF_LEASE_ALONE;
	take_leases(p, now_ns);
	if (now_ns < p->wake_ns || !worker_works(p))
		return;
	if (!p->parcel) {
		p->parcel = pipe_take(&p->inbox);
		df_arena_reset(&p->arena);
		struct df_str header = {p->parcel->frames.header->p, p->parcel->frames.header->n};
		DF_ASSERT(df_msg_unpack(header, &p->arena, &p->msg, NULL) == DF_OK);
		begin_lease(p, now_ns);
	} else if (!p->batch && p->at < p->n_item) {
		size_t left = p->n_item - p->at, most = alone ? 1 : 1 + world_roll(p->world, 16);
		p->batch = left < most ? left : most;
		p->since_ns = now_ns;
	} else {
		work(p, now_ns);
	}
	p->wake_ns = now_ns + world_roll(p->world, 4000) * 1000 * p->slow;
}
