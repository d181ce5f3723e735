// SPDX-License-Identifier: Apache-2.0
/*
 * pack: messages into MessagePack, by msgpack-c's packer.
 *
 * What the other side would refuse for its size is refused here already, where somebody can still do something about it.
 */
#include <msgpack.h>

#include "base/limits.h"
#include "proto/messages.h"

/* The first error is kept in the buffer (it sticks) or in err; the packer's own results carry nothing more. */
struct packer {
	msgpack_packer mp;
	struct df_buf *out;
	enum df_err err;
};

static int write_bytes(void *self, const char *p, size_t n)
{
	return df_buf_add(self, p, n) == DF_OK ? 0 : -1;
}

static void refuse(struct packer *k, enum df_err err)
{
	if (k->err == DF_OK)
		k->err = err;
}

static void put_uint(struct packer *k, uint64_t v)
{
	(void)msgpack_pack_uint64(&k->mp, v);
}

static void put_int(struct packer *k, int64_t v)
{
	(void)msgpack_pack_int64(&k->mp, v);
}

static void put_bool(struct packer *k, bool v)
{
	if (v)
		(void)msgpack_pack_true(&k->mp);
	else
		(void)msgpack_pack_false(&k->mp);
}

static void put_str(struct packer *k, struct df_str s)
{
	if (s.n > DF_STRING_BYTES_MAX) {
		refuse(k, DF_ERR_LIMIT);
		return;
	}
	(void)msgpack_pack_str(&k->mp, s.n);
	if (s.n)
		(void)msgpack_pack_str_body(&k->mp, s.p, s.n);
}

static void put_array(struct packer *k, size_t n, size_t max)
{
	if (n > max)
		refuse(k, DF_ERR_LIMIT);
	(void)msgpack_pack_array(&k->mp, n);
}

static void put_err(struct packer *k, enum df_err err)
{
	put_str(k, df_str_from(df_err_name(err)));
}

static void put_head(struct packer *k, const struct df_msg *m, size_t n_rest)
{
	put_array(k, 5 + n_rest, 5 + n_rest);
	put_uint(k, DF_PROTO_VERSION);
	put_uint(k, m->type);
	put_uint(k, m->epoch);
	put_uint(k, m->lane);
	put_uint(k, m->lease);
}

/* --- parts that messages share --- */

static void put_cells(struct packer *k, const struct df_cells *c)
{
	put_uint(k, c->source);
	put_uint(k, c->first);
	put_uint(k, c->n);
}

static void put_file_id(struct packer *k, const struct df_file_id *id)
{
	put_uint(k, id->dev);
	put_uint(k, id->ino);
	put_uint(k, id->size);
	put_int(k, id->mtime_ns);
}

static void put_segment(struct packer *k, const struct df_segment *s)
{
	put_array(k, 13, 13);
	put_uint(k, s->cells.source);
	put_uint(k, s->kind);
	put_uint(k, s->cells.first);
	put_uint(k, s->cells.n);
	put_uint(k, s->start);
	put_uint(k, s->end);
	put_uint(k, s->cell_bytes);
	put_str(k, s->path);
	put_str(k, s->name);
	put_file_id(k, &s->id);
}

static void put_output(struct packer *k, const struct df_output *o)
{
	put_array(k, 4, 4);
	put_uint(k, o->kind);
	put_uint(k, o->rows);
	put_uint(k, o->raw_bytes);
	put_uint(k, o->hash);
}

static void put_counters(struct packer *k, const struct df_counter *counter, size_t n)
{
	if (n > DF_COUNTERS_MAX)
		refuse(k, DF_ERR_LIMIT);
	(void)msgpack_pack_map(&k->mp, n);
	for (size_t i = 0; i < n; i++) {
		put_str(k, counter[i].name);
		put_uint(k, counter[i].value);
	}
}

/* --- one function per message --- */

static void pack_hello(struct packer *k, const struct df_msg *m)
{
	const struct df_hello *h = &m->hello;
	put_head(k, m, 7);
	put_uint(k, h->nonce);
	put_uint(k, h->role);
	put_uint(k, h->pid);
	put_uint(k, h->seq);
	put_uint(k, h->sent);
	put_uint(k, h->held);
	put_uint(k, h->peak_rss_bytes);
}

static void pack_notice(struct packer *k, const struct df_msg *m)
{
	put_head(k, m, 4);
	put_uint(k, m->notice.seq);
	put_uint(k, m->notice.state);
	put_uint(k, m->notice.nonce);
	put_str(k, m->notice.reason);
}

static void pack_lease(struct packer *k, const struct df_msg *m)
{
	const struct df_lease_msg *l = &m->lease_msg;
	put_head(k, m, 3);
	put_uint(k, l->flags);
	put_array(k, l->n_segment, DF_LEASE_SEGMENTS_MAX);
	for (size_t i = 0; i < l->n_segment; i++)
		put_segment(k, &l->segment[i]);
	put_array(k, l->n_poison, DF_POISON_PER_LEASE);
	for (size_t i = 0; i < l->n_poison; i++) {
		const struct df_strike *s = &l->poison[i];
		put_array(k, 6, 6);
		put_uint(k, s->record.source);
		put_uint(k, s->record.offset);
		put_uint(k, s->n);
		put_uint(k, s->cause);
		put_uint(k, s->detail);
		put_uint(k, s->stage);
	}
}

static void pack_result(struct packer *k, const struct df_msg *m)
{
	const struct df_result *r = &m->result;
	put_head(k, m, 6);
	put_uint(k, r->seq);
	put_uint(k, r->part);
	put_bool(k, r->last);
	put_array(k, r->n_cells, DF_LEASE_CELLS_MAX);
	for (size_t i = 0; i < r->n_cells; i++) {
		put_array(k, 3, 3);
		put_cells(k, &r->cells[i]);
	}
	put_array(k, r->n_output, DF_MESSAGE_FRAMES_MAX - 1);
	for (size_t i = 0; i < r->n_output; i++)
		put_output(k, &r->output[i]);
	put_counters(k, r->counter, r->n_counter);
}

static void pack_failed(struct packer *k, const struct df_msg *m)
{
	if (m->failed.code == DF_OK)
		refuse(k, DF_ERR_BUG); /* a failure that is none */
	put_head(k, m, 5);
	put_uint(k, m->failed.seq);
	put_err(k, m->failed.code);
	put_str(k, m->failed.message);
	put_uint(k, m->failed.source);
	put_uint(k, m->failed.offset);
}

static void put_cell_info(struct packer *k, const struct df_cell_info *c)
{
	put_uint(k, c->start);
	put_uint(k, c->bytes);
	put_uint(k, c->records);
	put_uint(k, c->hash);
}

static void pack_read(struct packer *k, const struct df_msg *m)
{
	const struct df_read *r = &m->read;
	put_head(k, m, 14);
	put_uint(k, r->source);
	put_uint(k, r->format);
	put_uint(k, r->flags);
	put_str(k, r->path);
	put_str(k, r->name);
	put_file_id(k, &r->id);
	put_uint(k, r->cell_bytes);
	put_uint(k, r->skip_records);
	put_uint(k, r->limit_records);
	put_uint(k, r->credit_bytes);
	put_array(k, r->n_done, DF_READ_DONE_MAX);
	for (size_t i = 0; i < r->n_done; i++) {
		put_array(k, 6, 6);
		put_uint(k, r->done[i].first);
		put_uint(k, r->done[i].n);
		put_cell_info(k, &r->done[i].info);
	}
}

static void pack_credit(struct packer *k, const struct df_msg *m)
{
	put_head(k, m, 1);
	put_uint(k, m->credit.bytes);
}

static void pack_cells(struct packer *k, const struct df_msg *m)
{
	const struct df_cells_msg *c = &m->cells;
	put_head(k, m, 3);
	put_uint(k, c->source);
	put_uint(k, c->first);
	put_array(k, c->n_cell, DF_MESSAGE_FRAMES_MAX - 1);
	for (size_t i = 0; i < c->n_cell; i++) {
		put_array(k, 4, 4);
		put_cell_info(k, &c->cell[i]);
	}
}

static void pack_source_end(struct packer *k, const struct df_msg *m)
{
	const struct df_source_end *e = &m->source_end;
	put_head(k, m, 7);
	put_uint(k, e->source);
	put_uint(k, e->n_cell);
	put_uint(k, e->bytes);
	put_uint(k, e->records);
	put_err(k, e->code);
	put_str(k, e->message);
	put_uint(k, e->flags);
}

static void (*const pack_type[])(struct packer *, const struct df_msg *) = {
	[DF_MSG_HELLO] = pack_hello,   [DF_MSG_NOTICE] = pack_notice, [DF_MSG_LEASE] = pack_lease,
	[DF_MSG_RESULT] = pack_result, [DF_MSG_FAILED] = pack_failed, [DF_MSG_READ] = pack_read,
	[DF_MSG_CREDIT] = pack_credit, [DF_MSG_CELLS] = pack_cells,   [DF_MSG_SOURCE_END] = pack_source_end,
};

enum df_err df_msg_pack(const struct df_msg *msg, struct df_buf *out)
{
	struct packer k = {.out = out};
	size_t before = out->n;
	if (msg->type == 0 || msg->type >= sizeof(pack_type) / sizeof(pack_type[0]))
		return DF_ERR_BUG;
	msgpack_packer_init(&k.mp, out, write_bytes);
	pack_type[msg->type](&k, msg);
	if (df_buf_err(out) != DF_OK)
		refuse(&k, df_buf_err(out));
	else if (out->n - before > DF_HEADER_BYTES_MAX)
		refuse(&k, DF_ERR_LIMIT);
	if (k.err != DF_OK)
		out->n = before;
	return k.err;
}
