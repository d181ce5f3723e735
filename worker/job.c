// SPDX-License-Identifier: Apache-2.0
/*
 * job: from a lease to its result.
 *
 * DESIGN. run() walks the segments; each kind of source becomes batches of `struct input` (bytes, offset, or an error), and
 * batch() is the same for all: documents, sample, stages, rows, frames. Frames are sent as they fill, at most
 * FRAMES_PER_PART to a message; the last message carries cells and counters. An error of a source or a stage ends the lease with
 * FAILED, and the sink drops what was sent of it.
 */
#include "worker/job.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/pipeline.h"
#include "proto/strike.h"
#include "worker/cellblock.h"
#include "worker/emit.h"
#include "worker/pipeline_run.h"
#include "worker/read/lines.h"
#include "worker/read/record.h"
#include "worker/turn.h"
#include "worker/unwrap.h"

#define FRAMES_PER_PART 4
#define BATCH_BYTES_MAX ((size_t)16 << 30) /* where there is no other limit */
#define BATCH_KEEP_BYTES (4U << 20)        /* between batches */

/* One record as it was read. */
struct input {
	uint64_t offset;
	struct df_str raw; /* padded */
	enum df_err err;
	const char *message; /* with err; NULL: made from it */
	const char *stage;   /* with err DF_ERR_NOMEM: that needed the memory; NULL: none */
	bool again;          /* tried once, and memory was out */
};

struct df_job {
	struct df_job_config config;
	struct df_arena batch_arena, message_arena;
	struct df_pipeline_run *pipeline, *own_pipeline;
	struct df_stage_times times; /* of the lease */
	struct df_record_parser *parser;
	struct df_range_reader *range;
	struct df_emit *emit;
	struct df_counters counters; /* of the lease, and of the batch in work, which may be tried again in parts: */
	struct df_counters batch_counters;
	struct df_buf header, text;
	int fd; /* the file read last */
	char path[PATH_MAX];
	struct df_file_id id;
	/* the lease in work */
	const struct df_msg *msg;
	uint32_t n_part;
	uint64_t own_seq, *seq; /* RESULT and FAILED messages so far, of all leases */
	struct df_output output[FRAMES_PER_PART];
	struct df_blob *frame[FRAMES_PER_PART];
	size_t n_frame;
	struct df_line *line;
	struct input *input;
	size_t block_records; /* of both */
};

/* ------------------------------------------------------------------ messages */

static enum df_err send_result(struct df_job *j, bool last)
{
	struct df_msg out = {
		.type = DF_MSG_RESULT, .epoch = j->msg->epoch, .lane = j->msg->lane, .lease = j->msg->lease};
	struct df_result *r = &out.result;
	r->seq = *j->seq + 1;
	r->part = j->n_part++;
	r->last = last;
	r->output = j->output;
	r->n_output = j->n_frame;
	df_arena_reset(&j->message_arena);
	if (last) {
		const struct df_lease_msg *lease = &j->msg->lease_msg;
		r->cells = df_arena_array(&j->message_arena, lease->n_segment, sizeof(*r->cells));
		r->counter = df_arena_array(&j->message_arena, j->counters.map.n + 1, sizeof(*r->counter));
		if (!r->cells || !r->counter)
			return DF_ERR_NOMEM;
		for (size_t i = 0; i < lease->n_segment; i++)
			r->cells[r->n_cells++] = lease->segment[i].cells;
		for (size_t i = 0; i < j->counters.map.n_slot; i++) {
			const struct df_map_slot *s = &j->counters.map.slots[i];
			if (s->key.p && s->value)
				r->counter[r->n_counter++] = (struct df_counter){s->key, s->value};
		}
	}
	df_buf_reset(&j->header);
	DF_TRY(df_msg_pack(&out, &j->header));
	++*j->seq;
	size_t n = j->n_frame;
	j->n_frame = 0;
	return j->config.send(j->config.self, &j->header, j->frame, n, last);
}

static enum df_err take_frame(void *self, const struct df_output *output, struct df_blob *blob)
{
	struct df_job *j = self;
	j->output[j->n_frame] = *output;
	j->frame[j->n_frame++] = blob;
	return j->n_frame == FRAMES_PER_PART ? send_result(j, false) : DF_OK;
}

static enum df_err send_failed(struct df_job *j, const struct df_fail *fail, uint32_t source, uint64_t offset)
{
	struct df_msg out = {
		.type = DF_MSG_FAILED, .epoch = j->msg->epoch, .lane = j->msg->lane, .lease = j->msg->lease};
	out.failed = (struct df_failed){fail->code, df_str_from(fail->msg), source, offset, ++*j->seq};
	for (; j->n_frame; j->n_frame--)
		df_blob_unref(&j->frame[j->n_frame - 1]);
	df_emit_drop(j->emit);
	df_buf_reset(&j->header);
	DF_TRY(df_msg_pack(&out, &j->header));
	return j->config.send(j->config.self, &j->header, NULL, 0, true);
}

/* ------------------------------------------------------------------ documents */

static const struct df_strike *find_poison(const struct df_job *j, uint32_t source, uint64_t offset)
{
	const struct df_lease_msg *lease = &j->msg->lease_msg;
	for (size_t i = 0; i < lease->n_poison; i++)
		if (lease->poison[i].record.source == source && lease->poison[i].record.offset == offset)
			return &lease->poison[i];
	return NULL;
}

/* The record is not touched, not even parsed: what its last death was is all that is known of it. */
static void reject_poison(const struct df_job *j, struct df_batch *b, struct df_doc *doc,
			  const struct df_strike *strike)
{
	char words[256];
	const char *stage = df_pipeline_run_stage(j->pipeline, strike->stage);
	df_strike_words(strike, df_str_from(stage ? stage : ""), words, sizeof(words));
	doc->attempts = strike->n;
	df_doc_reject(b, doc, stage, df_strike_err(strike), "this record %s and is not tried again", words);
}

/* "name#offset" for a record without an id; a text file is named by its path alone. */
static enum df_err make_id(struct df_job *j, struct df_doc *doc)
{
	struct df_arena *a = &j->batch_arena;
	struct df_buf b;
	char number[24] = "";
	if (doc->n_field)
		(void)snprintf(number, sizeof(number), "#%llu", (unsigned long long)doc->offset);
	df_buf_init(&b, DF_STRING_BYTES_MAX + 64);
	(void)df_buf_add_str(&b, doc->source_name);
	(void)df_buf_addz(&b, number);
	struct df_str id = {0}, raw = {0};
	if (df_buf_err(&b) == DF_OK) {
		id = df_arena_copy(a, df_buf_str(&b));
		df_buf_reset(&b);
		(void)df_json_add_string(&b, id);
	}
	if (id.p && df_buf_err(&b) == DF_OK)
		raw = df_arena_copy(a, df_buf_str(&b));
	df_buf_release(&b);
	if (!raw.p)
		return DF_ERR_NOMEM;
	doc->id = id;
	doc->id_raw = raw;
	return DF_OK;
}

/* What does not even fit a worker's share is not read: it could only be ended for it. */
static size_t record_bytes_max(const struct df_heritage *h)
{
	return (size_t)(h->memory_max && h->memory_max < h->max_record ? h->memory_max : h->max_record);
}

static enum df_err make_doc(struct df_job *j, struct df_batch *b, const struct df_segment *seg, const struct input *in,
			    struct df_doc *doc)
{
	struct df_fail fail;
	*doc = (struct df_doc){.source = seg->cells.source,
			       .offset = in->offset,
			       .source_name = seg->name,
			       .raw = in->raw,
			       .text_field = SIZE_MAX,
			       .id_field = SIZE_MAX};
	enum df_err err = in->err;
	const struct df_strike *strike = find_poison(j, doc->source, doc->offset);
	if (strike) {
		reject_poison(j, b, doc, strike);
		return DF_OK;
	}
	if (err == DF_OK) {
		err = seg->kind == DF_SOURCE_TEXT ? df_record_from_text(in->raw, doc, &fail)
						  : df_record_parse(j->parser, in->raw, &j->batch_arena, doc, &fail);
		if (j->config.heritage->retry)
			err = df_unwrap(j->parser, &j->batch_arena, err, doc, &fail);
		if (err != DF_OK)
			df_doc_reject(b, doc, NULL, err, "%s", fail.msg);
	} else if (in->message) {
		df_doc_reject(b, doc, NULL, err, "%s", in->message);
	} else if (err == DF_ERR_NOMEM || record_bytes_max(j->config.heritage) < j->config.heritage->max_record) {
		df_doc_reject(b, doc, in->stage, DF_ERR_NOMEM,
			      "the record needs more memory than a worker may have (--mem-limit divided by -j)");
		return DF_OK;
	} else {
		df_doc_reject(b, doc, NULL, err, "the record is longer than %llu bytes (--max-record)",
			      (unsigned long long)j->config.heritage->max_record);
	}
	if (err == DF_ERR_NOMEM)
		return err;
	if (err == DF_OK && !doc->id.p)
		return make_id(j, doc);
	return DF_OK;
}

static bool sampled_out(const struct df_job *j, const struct df_doc *doc)
{
	double p = j->config.heritage->sample;
	if (p >= 1.0)
		return false;
	uint64_t h = df_hash64_seed(doc->id.p, doc->id.n, j->config.heritage->sample_seed);
	return (double)(h >> 11) * 0x1.0p-53 >= p;
}

static enum df_err add_row(struct df_job *j, struct df_batch *b, struct df_doc *doc)
{
	struct df_row *row = df_arena_zalloc(&j->batch_arena, sizeof(*row));
	if (!row)
		return DF_ERR_NOMEM;
	row->doc = doc;
	row->text = doc->text;
	doc->n_row = 1;
	b->row[b->n_row++] = row;
	if (sampled_out(j, doc))
		df_row_drop(b, row, "input", "sample");
	return DF_OK;
}

static void count(struct df_job *j, const struct df_batch *b, uint64_t rows)
{
	uint64_t n[3] = {0};
	for (size_t i = 0; i < b->n_doc; i++) {
		const struct df_doc *doc = b->doc[i];
		n[doc->fate]++;
		if (doc->fate != DF_FATE_REJECTED)
			continue;
		char name[128];
		(void)snprintf(name, sizeof(name), "rejected:%.80s:%s", doc->stage ? doc->stage : "input",
			       df_err_name(doc->err));
		df_counters_add(&j->counters, name, 1);
	}
	df_counters_add(&j->counters, "in", b->n_doc);
	df_counters_add(&j->counters, "out", n[DF_FATE_OUT]);
	df_counters_add(&j->counters, "filtered", n[DF_FATE_FILTERED]);
	df_counters_add(&j->counters, "rejected", n[DF_FATE_REJECTED]);
	df_counters_add(&j->counters, "rows", rows);
}

static enum df_err make_batch(struct df_job *j, const struct df_segment *seg, const struct input *in, size_t n,
			      struct df_batch *b)
{
	*b = (struct df_batch){.arena = &j->batch_arena, .counters = &j->batch_counters};
	b->doc = df_arena_array(b->arena, n, sizeof(*b->doc));
	b->row = df_arena_array(b->arena, n, sizeof(*b->row));
	struct df_doc *docs = df_arena_array(b->arena, n, sizeof(*docs));
	if (!b->doc || !b->row || !docs)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < n; i++) {
		b->doc[b->n_doc++] = &docs[i];
		DF_TRY(make_doc(j, b, seg, &in[i], &docs[i]));
		if (docs[i].fate == DF_FATE_OUT)
			DF_TRY(add_row(j, b, &docs[i]));
	}
	return DF_OK;
}

static void add_counters(struct df_job *j)
{
	for (size_t i = 0; i < j->batch_counters.map.n_slot; i++) {
		const struct df_map_slot *s = &j->batch_counters.map.slots[i];
		if (s->key.p)
			df_counters_add(&j->counters, s->key.p, s->value);
	}
}

/* Rows have gone out already, so the batch cannot be tried in parts: the process ends as one that was killed for its memory, while the
 * slot says over what. */
static _Noreturn void leave_for_memory(size_t n, const struct df_fail *fail)
{
	df_error("no memory for the rows of %zu records: %s", n, fail->msg);
	_exit(DF_CHILD_EXIT_NOMEM);
}

static enum df_err run_batch(struct df_job *j, const struct df_segment *seg, const struct input *in, size_t n,
			     struct df_fail *fail);

/* A batch that memory did not suffice for goes in halves, and a record for which it does not is rejected. */
static enum df_err run_smaller(struct df_job *j, const struct df_segment *seg, const struct input *in, size_t n,
			       struct df_fail *fail)
{
	if (n > 1) {
		DF_TRY(run_batch(j, seg, in, n / 2, fail));
		return run_batch(j, seg, in + n / 2, n - n / 2, fail);
	}
	struct input lost = *in;
	if (!in->again) { /* memory may be back */
		lost.again = true;
		return run_batch(j, seg, &lost, 1, fail);
	}
	if (in->err == DF_ERR_NOMEM)
		return DF_ERR_NOMEM; /* not even for saying so */
	lost.err = DF_ERR_NOMEM;
	lost.message = NULL;
	lost.stage = df_pipeline_run_stage(j->pipeline, (uint32_t)atomic_load(&j->config.slot->stage));
	return run_batch(j, seg, &lost, 1, fail);
}

static enum df_err run_batch(struct df_job *j, const struct df_segment *seg, const struct input *in, size_t n,
			     struct df_fail *fail)
{
	struct df_batch b;
	uint64_t rows = 0;
	bool alone = (j->msg->lease_msg.flags & DF_LEASE_ALONE) != 0;
	df_arena_reset(&j->batch_arena);
	df_counters_reset(&j->batch_counters);
	struct df_record_id first = {seg->cells.source, in[0].offset};
	df_slot_begin(j->config.slot, j->msg->lease, first, n, alone && n == 1, df_clock_mono(&df_clock_real));
	enum df_err err = make_batch(j, seg, in, n, &b);
	if (err != DF_OK)
		(void)df_fail(fail, err, "a batch of %zu records needs more memory than there is", n);
	if (err == DF_OK)
		err = df_pipeline_run_batch(j->pipeline, &b, &j->times, fail);
	if (err == DF_OK)
		err = j->batch_counters.err;
	if (err == DF_ERR_NOMEM)
		return run_smaller(j, seg, in, n, fail);
	if (err == DF_OK)
		err = df_emit_batch(j->emit, &b, 1, &rows, fail);
	if (err == DF_ERR_NOMEM || err == DF_ERR_LIMIT)
		leave_for_memory(n, fail);
	df_slot_end(j->config.slot);
	if (err == DF_OK) {
		add_counters(j);
		count(j, &b, rows);
	}
	return err;
}

/* A suspect cell goes record by record, so that the slot can name the one. */
static enum df_err run_inputs(struct df_job *j, const struct df_segment *seg, const struct input *in, size_t n,
			      struct df_fail *fail)
{
	size_t step = j->msg->lease_msg.flags & DF_LEASE_ALONE ? 1 : n;
	for (size_t i = 0; i < n; i += step)
		DF_TRY(run_batch(j, seg, in + i, step, fail));
	return DF_OK;
}

/* ------------------------------------------------------------------ sources */

static enum df_err open_source(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	if (j->fd >= 0 && df_str_is(seg->path, j->path) && df_file_id_eq(&j->id, &seg->id))
		return DF_OK;
	if (j->fd >= 0)
		(void)close(j->fd);
	j->fd = -1;
	if (seg->path.n >= sizeof(j->path))
		return df_fail(fail, DF_ERR_IO, "the path '%.200s...' is too long", seg->path.p);
	memcpy(j->path, seg->path.p, seg->path.n);
	j->path[seg->path.n] = '\0';
	j->id = seg->id;
	j->fd = TEMP_FAILURE_RETRY(open(j->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	return j->fd < 0 ? df_file_not_opened(j->path, &seg->id, j->path, fail) : DF_OK;
}

static enum df_err run_jsonl(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	DF_TRY(open_source(j, seg, fail));
	char name[256];
	(void)snprintf(name, sizeof(name), "%.*s", (int)(seg->name.n < 250 ? seg->name.n : 250), seg->name.p);
	struct df_file_at file = {j->fd, seg->id, name};
	struct df_bytes_at bytes = df_bytes_of_file(&file);
	DF_TRY(df_range_reader_open(j->range, &bytes, seg->start, seg->end, seg->id.size, fail));
	for (;;) {
		size_t n = 0;
		enum df_err err = df_range_reader_next(j->range, j->line, j->block_records, &n, fail);
		if (err == DF_ERR_END)
			return DF_OK;
		if (err != DF_OK)
			return err;
		for (size_t i = 0; i < n; i++)
			j->input[i] = (struct input){
				j->line[i].offset, {j->line[i].p, j->line[i].n}, j->line[i].err, NULL, NULL, false};
		DF_TRY(run_inputs(j, seg, j->input, n, fail));
	}
}

static enum df_err run_text(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	DF_TRY(open_source(j, seg, fail));
	struct df_file_at file = {j->fd, seg->id, j->path};
	struct df_bytes_at bytes = df_bytes_of_file(&file);
	struct input in = {0};
	df_buf_reset(&j->text);
	uint64_t max = record_bytes_max(j->config.heritage);
	enum df_err err = df_lines_read_whole(&bytes, seg->id.size, max, &j->text, &in.raw, fail);
	if (err == DF_ERR_NOMEM) { /* memory may be back */
		df_buf_reset(&j->text);
		err = df_lines_read_whole(&bytes, seg->id.size, max, &j->text, &in.raw, fail);
	}
	if (err == DF_ERR_LIMIT || err == DF_ERR_NOMEM)
		in.err = err;
	else if (err != DF_OK)
		return err;
	err = run_inputs(j, seg, &in, 1, fail);
	if (j->text.cap > 4 * DF_BLOCK_BYTES)
		df_buf_release(&j->text); /* one huge file must not stay in memory for ever */
	return err;
}

static enum df_err run_block(struct df_job *j, const struct df_segment *seg, const struct df_blob *blob,
			     struct df_fail *fail)
{
	struct df_cellblock_view view;
	if (df_cellblock_view(blob->p, blob->n, &view) != DF_OK)
		return df_fail(fail, DF_ERR_BUG, "a reader's cell of '%.*s' is damaged", DF_STR_ARG(seg->name));
	df_counters_add(&j->counters, "bytes_in", view.n_payload);
	for (uint32_t at = 0; at < view.n_record;) {
		size_t n = 0;
		df_arena_reset(&j->message_arena);
		for (; at < view.n_record && n < j->block_records; at++, n++) {
			struct df_cell_record r;
			if (df_cellblock_record(&view, at, &r) != DF_OK)
				return df_fail(fail, DF_ERR_BUG, "a reader's cell of '%.*s' is damaged",
					       DF_STR_ARG(seg->name));
			j->input[n] = (struct input){
				r.offset, {view.payload + r.start, r.length}, (enum df_err)r.err, NULL, NULL, false};
			if (r.err && r.n_message) {
				struct df_str m = {view.payload + r.start + r.length, r.n_message};
				j->input[n].message = df_arena_copy(&j->message_arena, m).p;
			}
		}
		DF_TRY(run_inputs(j, seg, j->input, n, fail));
	}
	return DF_OK;
}

static enum df_err run_segment(struct df_job *j, const struct df_segment *seg, struct df_blob *const **payload,
			       size_t *n_payload, struct df_fail *fail)
{
	switch (seg->kind) {
	case DF_SOURCE_JSONL:
		return run_jsonl(j, seg, fail);
	case DF_SOURCE_TEXT:
		return run_text(j, seg, fail);
	default:
		break;
	}
	for (uint64_t i = 0; i < seg->cells.n; i++) {
		if (*n_payload == 0)
			return df_fail(fail, DF_ERR_BUG, "a lease came without its cells' bytes");
		DF_TRY(run_block(j, seg, **payload, fail));
		++*payload;
		--*n_payload;
	}
	return DF_OK;
}

static enum df_err run_lease(struct df_job *j, const struct df_msg *msg, struct df_blob *const *payload,
			     size_t n_payload)
{
	struct df_fail fail = {0};
	enum df_err err = DF_OK;
	uint64_t start = df_clock_mono(&df_clock_real), bytes = 0;
	uint32_t source = UINT32_MAX;
	j->msg = msg;
	j->n_part = 0;
	df_counters_reset(&j->counters);
	for (size_t i = 0; err == DF_OK && i < msg->lease_msg.n_segment; i++) {
		const struct df_segment *seg = &msg->lease_msg.segment[i];
		source = seg->cells.source;
		bytes += seg->kind == DF_SOURCE_READER ? 0 : seg->end - seg->start;
		err = run_segment(j, seg, &payload, &n_payload, &fail);
	}
	if (err == DF_OK)
		err = df_emit_flush(j->emit, &fail);
	if (err == DF_ERR_CLOSED)
		return err;
	df_counters_add(&j->counters, "bytes_in", bytes);
	uint64_t waited = j->config.turn ? df_turn_waited_ns(j->config.turn) : 0;
	df_counters_add(&j->counters, "busy_ns", df_clock_mono(&df_clock_real) - start - waited);
	df_pipeline_run_times(j->pipeline, &j->times, &j->counters);
	if (err == DF_OK && j->counters.err != DF_OK)
		err = df_fail(&fail, j->counters.err, "no memory to count what was done");
	if (err != DF_OK)
		return send_failed(j, &fail, source, 0);
	df_slot_note_memory(j->config.slot, df_clock_mono(&df_clock_real));
	return send_result(j, true);
}

/* ------------------------------------------------------------------ life */

static bool one_of_many(const struct df_job *j)
{
	return j->config.turn != NULL;
}

static enum df_err open_parts(struct df_job *j, struct df_fail *fail)
{
	const struct df_heritage *h = j->config.heritage;
	struct df_emit_config emit = {
		.want = {h->want[0], h->want[1], h->want[2]},
		.embed_in_rows = h->embed_in_rows,
		.f16 = h->f16,
		.zstd = (int)h->zstd,
		.id_key = h->id_key,
		.text_key = h->text_key,
		.frame = take_frame,
		.self = j,
	};
	struct df_record_keys keys = {h->id_key, h->text_key, false};
	j->line = calloc(j->block_records, sizeof(*j->line));
	j->input = calloc(j->block_records, sizeof(*j->input));
	if (!j->line || !j->input)
		return DF_ERR_NOMEM;
	if (!j->pipeline)
		DF_TRY(df_pipeline_run_open(h, j->config.slot, j->config.spawner, NULL, &j->own_pipeline, fail));
	if (j->own_pipeline)
		j->pipeline = j->own_pipeline;
	keys.text_optional = df_pipeline_run_takes_any(j->pipeline);
	DF_TRY(df_record_parser_create(keys, h->max_record, &j->parser));
	DF_TRY(df_range_reader_create(one_of_many(j) ? DF_NETWORK_BLOCK_BYTES : DF_BLOCK_BYTES, record_bytes_max(h),
				      &j->range));
	return df_emit_create(&emit, &j->emit);
}

/* A quarter of the worker's memory stays for all else, so that it is the batch that meets the limit, and can be told. A worker that is
 * not confined has no limits of its own: the coordinator watches it. */
static size_t batch_bytes_max(const struct df_heritage *h)
{
	return h->confine && h->memory_max ? (size_t)(h->memory_max - h->memory_max / 4) : BATCH_BYTES_MAX;
}

static void init_arenas(struct df_job *j)
{
	df_arena_init(&j->batch_arena, batch_bytes_max(j->config.heritage), one_of_many(j) ? 0 : BATCH_KEEP_BYTES);
	df_arena_init(&j->message_arena, 64U << 20, one_of_many(j) ? 0 : 1U << 20);
}

/* Between two leases a job that is one of many keeps nothing that the last one made large. */
static void give_back(struct df_job *j)
{
	df_arena_release(&j->batch_arena);
	df_arena_release(&j->message_arena);
	init_arenas(j);
	df_emit_release(j->emit);
	df_buf_release(&j->header);
	df_buf_init(&j->header, DF_HEADER_BYTES_MAX);
	if (j->text.cap > DF_NETWORK_BLOCK_BYTES) {
		df_buf_release(&j->text);
		df_buf_init(&j->text, j->config.heritage->max_record + 4096);
	}
}

enum df_err df_job_run(struct df_job *j, const struct df_msg *msg, struct df_blob *const *payload, size_t n_payload)
{
	enum df_err err = run_lease(j, msg, payload, n_payload);
	if (one_of_many(j))
		give_back(j);
	return err;
}

enum df_err df_job_create(const struct df_job_config *config, struct df_job **ret_job, struct df_fail *fail)
{
	struct df_job *j = calloc(1, sizeof(*j));
	if (!j)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
	j->config = *config;
	j->pipeline = config->pipeline;
	j->seq = config->seq ? config->seq : &j->own_seq;
	j->block_records = one_of_many(j) ? DF_NETWORK_BLOCK_RECORDS : DF_BLOCK_RECORDS;
	j->fd = -1;
	init_arenas(j);
	df_buf_init(&j->header, DF_HEADER_BYTES_MAX);
	df_buf_init(&j->text, config->heritage->max_record + 4096);
	df_counters_init(&j->counters);
	df_counters_init(&j->batch_counters);
	(void)df_fail(fail, DF_ERR_NOMEM, "no memory for a worker");
	enum df_err err = open_parts(j, fail);
	if (err != DF_OK) {
		df_job_destroy(&j);
		return err;
	}
	*ret_job = j;
	return DF_OK;
}

void df_job_destroy(struct df_job **job)
{
	struct df_job *j = *job;
	if (!j)
		return;
	df_pipeline_run_close(&j->own_pipeline);
	df_record_parser_destroy(&j->parser);
	df_range_reader_destroy(&j->range);
	df_emit_destroy(&j->emit);
	for (; j->n_frame; j->n_frame--)
		df_blob_unref(&j->frame[j->n_frame - 1]);
	free(j->line);
	free(j->input);
	if (j->fd >= 0)
		(void)close(j->fd);
	df_buf_release(&j->header);
	df_buf_release(&j->text);
	df_counters_release(&j->counters);
	df_counters_release(&j->batch_counters);
	df_arena_release(&j->batch_arena);
	df_arena_release(&j->message_arena);
	free(j);
	*job = NULL;
}
