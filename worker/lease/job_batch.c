// SPDX-License-Identifier: Apache-2.0
/*
 * job_batch: records become a batch of documents, which goes through the stages and on to the frames.
 *
 * The slot names the batch while it is in work, so that its death has suspects. A batch that needs more memory than there is goes in halves, down to the
 * one record that is rejected for it; counters of a batch count only once it is done.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "proto/example.h"
#include "proto/strike.h"
#include "worker/lease/job_own.h"
#include "worker/lease/unwrap.h"

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

static enum df_err make_doc(struct df_job *j, struct df_batch *b, const struct df_segment *seg,
			    const struct df_job_input *in, struct df_doc *doc)
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
	} else if (err == DF_ERR_NOMEM ||
		   df_job_record_bytes_max(j->config.heritage) < j->config.heritage->max_record) {
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

/* The first of its kind in this lease. */
static void add_example(struct df_job *j, const struct df_doc *doc, struct df_str kind)
{
	struct df_buf name;
	char place[160];
	struct df_str id = doc->id;
	if (!id.n) {
		(void)snprintf(place, sizeof(place), "%.*s, byte %llu",
			       (int)(doc->source_name.n < 100 ? doc->source_name.n : 100),
			       doc->source_name.n ? doc->source_name.p : "", (unsigned long long)doc->offset);
		id = df_str_from(place);
	}
	df_buf_init(&name, 4096);
	df_example_add_name(&name, kind, id, doc->message ? doc->message : "");
	if (df_buf_err(&name) == DF_OK) /* one less is no wrong account */
		df_counters_add(&j->counters, df_buf_z(&name), 1);
	df_buf_release(&name);
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
		if (!df_map_get(&j->counters.map, df_str_from(name)))
			add_example(j, doc, df_str_from(strchr(name, ':') + 1));
		df_counters_add(&j->counters, name, 1);
	}
	df_counters_add(&j->counters, "in", b->n_doc);
	df_counters_add(&j->counters, "out", n[DF_FATE_OUT]);
	df_counters_add(&j->counters, "filtered", n[DF_FATE_FILTERED]);
	df_counters_add(&j->counters, "rejected", n[DF_FATE_REJECTED]);
	df_counters_add(&j->counters, "rows", rows);
}

static enum df_err make_batch(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
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
	df_record_parser_rest(j->parser);
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

static enum df_err run_batch(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
			     struct df_fail *fail);

/* A batch that memory did not suffice for goes in halves, and a record for which it does not is rejected. */
static enum df_err run_smaller(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
			       struct df_fail *fail)
{
	if (n > 1) {
		DF_TRY(run_batch(j, seg, in, n / 2, fail));
		return run_batch(j, seg, in + n / 2, n - n / 2, fail);
	}
	struct df_job_input lost = *in;
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

static enum df_err run_batch(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
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
enum df_err df_job_run_inputs(struct df_job *j, const struct df_segment *seg, const struct df_job_input *in, size_t n,
			      struct df_fail *fail)
{
	size_t step = j->msg->lease_msg.flags & DF_LEASE_ALONE ? 1 : n;
	for (size_t i = 0; i < n; i += step)
		DF_TRY(run_batch(j, seg, in + i, step, fail));
	return DF_OK;
}
