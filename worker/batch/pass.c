// SPDX-License-Identifier: Apache-2.0
/*
 * pass: all documents through the pipeline once, in this thread: the same job that a worker runs (worker/lease/job.h), lease after lease.
 *
 * Rows are kept as long as no call of the pass had to be asked. A lease is a piece of a JSONL file, a text file, or one cell of a reader.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "proto/example.h"
#include "worker/batch/own.h"
#include "worker/lease/cellblock.h"
#include "worker/lease/job.h"
#include "worker/lease/pipeline_run.h"

#define PIECE_BYTES (UINT64_C(4) << 20)
#define READER_CELL_BYTES ((size_t)1 << 20)

struct pass {
	struct df_batch_run *b;
	struct df_heritage heritage;
	struct df_job *job;
	struct df_arena message;
	uint64_t lease;
	bool lease_failed;
	struct df_fail *fail; /* why the lease in work failed */
};

static struct df_heritage heritage_of(const struct df_batch_options *o)
{
	return (struct df_heritage){
		.epoch = 1,
		.lane = df_lane_id(1, 1),
		.number = 1,
		.pipeline = o->pipeline,
		.id_key = o->id_key,
		.text_key = o->text_key,
		.model_dir = o->model_dir,
		.max_record = o->max_record,
		.sample = 1,
		.want = {[DF_OUTPUT_JSONL] = o->want_rows, [DF_OUTPUT_NPY] = o->want_npy, [DF_OUTPUT_REJECTS] = true},
		.embed_in_rows = !o->want_npy,
	};
}

enum df_err df_batch_open_pipeline(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_heritage h = heritage_of(b->o);
	struct df_outside outside = {.caller = b->caller, .stream_fd = -1};
	return df_pipeline_run_open(&h, b->slot, NULL, &outside, &b->pipeline, fail);
}

/* ------------------------------------------------------------------ what the job answers */

/* Each lease may have one of a kind; the first is enough. */
static bool has_example(const struct df_counters *c, struct df_str name)
{
	struct df_example one, other;
	if (!df_example_split(name, &one))
		return false;
	for (size_t i = 0; i < c->map.n_slot; i++)
		if (c->map.slots[i].key.p && c->map.slots[i].value && df_example_split(c->map.slots[i].key, &other) &&
		    df_str_eq(one.kind, other.kind))
			return true;
	return false;
}

static enum df_err add_counters(struct pass *p, const struct df_result *r)
{
	for (size_t i = 0; i < r->n_counter; i++) {
		struct df_str name = df_arena_copy(&p->message, r->counter[i].name); /* with a NUL */
		if (!name.p)
			return DF_ERR_NOMEM;
		if (!has_example(&p->b->counters, name))
			df_counters_add(&p->b->counters, name.p, r->counter[i].value);
	}
	return p->b->counters.err;
}

static enum df_err take_result(struct pass *p, const struct df_msg *msg, struct df_blob **payload, size_t n)
{
	const struct df_result *r = &msg->result;
	for (size_t i = 0; i < r->n_output && i < n; i++)
		DF_TRY(df_batch_out_add(&p->b->out, r->output[i].kind, payload[i]->p, payload[i]->n, r->output[i].rows,
					p->fail));
	if (r->last && add_counters(p, r) != DF_OK)
		return df_fail(p->fail, DF_ERR_NOMEM, "no memory to count what was done");
	return DF_OK;
}

static enum df_err send(void *self, struct df_buf *header, struct df_blob **payload, size_t n, bool last)
{
	struct pass *p = self;
	struct df_msg msg;
	(void)last;
	df_arena_reset(&p->message);
	enum df_err err = df_msg_unpack(df_buf_str(header), &p->message, &msg, p->fail);
	if (err == DF_OK && msg.type == DF_MSG_FAILED)
		(void)df_fail(p->fail, msg.failed.code, DF_STR_FMT, DF_STR_ARG(msg.failed.message));
	else if (err == DF_OK)
		err = take_result(p, &msg, payload, n);
	for (size_t i = 0; i < n; i++)
		df_blob_unref(&payload[i]);
	return err == DF_OK ? DF_OK : DF_ERR_CLOSED; /* p->fail has the reason */
}

/* ------------------------------------------------------------------ leases */

static enum df_err run_lease(struct pass *p, struct df_segment *segment, struct df_blob *payload)
{
	struct df_msg msg = {
		.type = DF_MSG_LEASE, .epoch = p->heritage.epoch, .lane = p->heritage.lane, .lease = ++p->lease};
	msg.lease_msg = (struct df_lease_msg){.segment = segment, .n_segment = 1};
	if (df_remote_stopped(p->b->remote))
		return df_fail(p->fail, DF_ERR_INTERRUPTED, "stopped on request");
	p->fail->code = DF_OK;
	enum df_err err = df_job_run(p->job, &msg, &payload, payload ? 1 : 0);
	if (p->b->fault.code != DF_OK)
		*p->fail = p->b->fault;
	else if (err != DF_OK && p->fail->code == DF_OK)
		return df_fail(p->fail, err, "the pass over the documents failed: %s", df_err_name(err));
	return p->fail->code;
}

static struct df_segment segment_of(const struct df_batch_source *s, uint32_t no, uint64_t first)
{
	return (struct df_segment){
		.cells = {.source = no, .first = first, .n = 1},
		.kind = s->kind,
		.end = s->id.size,
		.cell_bytes = PIECE_BYTES,
		.path = df_str_from(s->path),
		.name = df_str_from(s->name),
		.id = s->id,
	};
}

static enum df_err run_pieces(struct pass *p, const struct df_batch_source *s, uint32_t no)
{
	uint64_t step = s->kind == DF_SOURCE_JSONL ? PIECE_BYTES : s->id.size;
	uint64_t i = 0;
	for (uint64_t at = 0; at < s->id.size || i == 0; at += step, i++) {
		struct df_segment segment = segment_of(s, no, i);
		segment.start = at;
		segment.end = s->id.size - at < step ? s->id.size : at + step;
		DF_TRY(run_lease(p, &segment, NULL));
	}
	return DF_OK;
}

static enum df_err run_cells(struct pass *p, const struct df_batch_source *s, uint32_t no, struct df_reader *reader)
{
	struct df_cell_block cell;
	for (;;) {
		enum df_err err = df_reader_next_cell(reader, &cell, p->fail);
		if (err == DF_ERR_AGAIN)
			continue;
		if (err != DF_OK)
			return err == DF_ERR_END ? DF_OK : err;
		struct df_blob *blob = df_cellblock_pack(&cell);
		if (!blob)
			return df_fail(p->fail, DF_ERR_NOMEM, "no memory for a part of '%s'", s->name);
		struct df_segment segment = segment_of(s, no, cell.ordinal);
		err = run_lease(p, &segment, blob);
		df_blob_unref(&blob);
		p->lease_failed = err != DF_OK;
		DF_TRY(err);
	}
}

static bool is_of_the_source(enum df_err err)
{
	return err == DF_ERR_CORRUPT || err == DF_ERR_PARSE || err == DF_ERR_UNSUPPORTED || err == DF_ERR_IO;
}

static enum df_err run_reader(struct pass *p, const struct df_batch_source *s, uint32_t no)
{
	struct df_reader *reader = NULL;
	struct df_reader_spec spec = {
		.path = s->path,
		.fd = -1,
		.name = s->name,
		.format = (enum df_format)s->format,
		.id_key = p->heritage.id_key.p,
		.text_key = p->heritage.text_key.p,
		.max_record = p->heritage.max_record,
		.cell_bytes = READER_CELL_BYTES,
		.limit = UINT64_MAX,
		.check_id = true,
		.id = s->id,
	};
	DF_TRY(df_reader_open(&spec, &reader, p->fail));
	enum df_err err = run_cells(p, s, no, reader);
	df_reader_close(&reader);
	if (is_of_the_source(err) && !p->lease_failed) {
		df_warn("%s", p->fail->msg);
		p->b->source_errors++;
		return DF_OK;
	}
	return err;
}

static enum df_err run_sources(struct pass *p)
{
	const struct df_batch_options *o = p->b->o;
	for (size_t i = 0; i < o->n_source; i++) {
		const struct df_batch_source *s = &o->source[i];
		DF_TRY(s->kind == DF_SOURCE_READER ? run_reader(p, s, (uint32_t)i) : run_pieces(p, s, (uint32_t)i));
	}
	return DF_OK;
}

enum df_err df_batch_pass(struct df_batch_run *b, struct df_fail *fail)
{
	struct pass p = {.b = b, .heritage = heritage_of(b->o), .fail = fail};
	struct df_job_config config = {
		.heritage = &p.heritage, .slot = b->slot, .send = send, .self = &p, .pipeline = b->pipeline};
	df_arena_init(&p.message, (size_t)64 << 20, 1U << 20);
	enum df_err err = df_job_create(&config, &p.job, fail);
	if (err == DF_OK)
		err = run_sources(&p);
	df_job_destroy(&p.job);
	df_arena_release(&p.message);
	return err;
}
