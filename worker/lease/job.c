// SPDX-License-Identifier: Apache-2.0
/*
 * job: from a lease to its result.
 *
 * DESIGN. run() walks the segments; each kind of source (job_sources.c) becomes batches of `struct df_job_input` (bytes, offset, or an error),
 * and what follows is the same for all (job_batch.c): documents, sample, stages, rows, frames. Frames are sent as they fill, at most
 * DF_JOB_FRAMES to a message; the last message carries cells and counters. An error of a source or a stage ends the lease with
 * FAILED, and the sink drops what was sent of it.
 */
#include "worker/lease/job.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/lease/job_own.h"
#include "worker/process/turn.h"

#define BATCH_BYTES_MAX ((size_t)16 << 30) /* where there is no other limit */
#define BATCH_KEEP_BYTES (4U << 20)        /* between batches */

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
	return j->n_frame == DF_JOB_FRAMES ? send_result(j, false) : DF_OK;
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

/* ------------------------------------------------------------------ a lease */

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
		err = df_job_run_segment(j, seg, &payload, &n_payload, &fail);
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

static size_t block_bytes(const struct df_job *j)
{
	uint64_t cell = j->config.heritage->cell_bytes;
	if (!one_of_many(j) || cell > DF_BLOCK_BYTES)
		return DF_BLOCK_BYTES;
	return cell > DF_NETWORK_BLOCK_BYTES ? (size_t)cell : DF_NETWORK_BLOCK_BYTES;
}

static size_t block_records(const struct df_job *j)
{
	if (!one_of_many(j))
		return DF_BLOCK_RECORDS;
	return block_bytes(j) > DF_NETWORK_BLOCK_BYTES ? DF_NETWORK_BLOCK_RECORDS_MAX : DF_NETWORK_BLOCK_RECORDS;
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
	DF_TRY(df_range_reader_create(block_bytes(j), df_job_record_bytes_max(h), &j->range));
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
	j->block_records = block_records(j);
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
