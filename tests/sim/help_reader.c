// SPDX-License-Identifier: Apache-2.0
/* help_reader: a model reader: from READ to cells within its credit, and SOURCE_END. */
#include <signal.h>
#include <string.h>

#include "tests/sim/help_content.h"
#include "tests/sim/help_peer.h"

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
	peer_send(p, &p->bulk, &msg, NULL, 0, now_ns);
	peer_put_away(p);
}

static void send_cell(struct peer *p, size_t first, size_t end, uint64_t now_ns)
{
	struct world_source *s = &p->world->source[p->msg.read.source];
	struct df_cell_info info = {s->record[first].offset, 0, end - first, p->cell};
	for (size_t i = first; i < end; i++)
		info.bytes += s->record[i].length;
	uint64_t name[2] = {p->msg.read.source, p->cell};
	struct df_blob *blob = p->world->content
				       ? content_cell(s, p->cell, first, end)
				       : df_blob_create(info.bytes < 400000 ? info.bytes + sizeof(name) : 400000);
	DF_ASSERT(blob != NULL);
	if (!p->world->content)
		memcpy(blob->p, name, sizeof(name));
	struct df_msg msg = {.type = DF_MSG_CELLS};
	msg.cells = (struct df_cells_msg){p->msg.read.source, p->cell, &info, 1};
	p->credit -= (int64_t)blob->n;
	peer_send(p, &p->bulk, &msg, &blob, 1, now_ns);
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

void reader_step(struct peer *p, uint64_t now_ns)
{
	while (p->alive && pipe_ready(&p->down, now_ns))
		reader_take(p);
	if (!p->reading || p->credit <= 0 || now_ns < p->wake_ns)
		return;
	read_on(p, now_ns);
	p->wake_ns = now_ns + world_roll(p->world, 2000) * 1000;
}
