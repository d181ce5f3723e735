// SPDX-License-Identifier: Apache-2.0
/*
 * intake_feed: which reader reads which source, and how many bytes may be on their way.
 *
 * DESIGN. Bytes held by the coordinator plus bytes that readers may still send never pass DF_READER_TOTAL_BYTES by more than one cell per reader.
 * Nothing here looks at all sources more than once in a life: `turn` is the first that may be waiting.
 */
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "coordinator/control/intake_core.h"

void df_intake_order(struct df_intake *in, struct df_order o)
{
	in->config->effects.order(in->config->effects.self, &o);
}

bool df_intake_one_by_one(const struct df_intake *in)
{
	return in->config->sequential || in->config->ordered;
}

struct df_intake_reader *df_intake_find_reader(struct df_intake *in, uint64_t lane)
{
	for (size_t i = 0; i < in->n_reader; i++)
		if (in->reader[i].lane == lane)
			return &in->reader[i];
	return NULL;
}

static enum df_err add_reader(struct df_intake *in, uint64_t lane, struct df_intake_reader **ret_reader)
{
	DF_TRY(df_array_room((void **)&in->reader, in->n_reader, &in->cap_reader, sizeof(*in->reader)));
	in->reader[in->n_reader] = (struct df_intake_reader){.lane = lane};
	*ret_reader = &in->reader[in->n_reader++];
	return DF_OK;
}

void df_intake_counted_before(struct df_intake *in, const struct df_intake_input *input, uint64_t *ret_skip,
			      uint64_t *ret_limit)
{
	const uint64_t skip = in->config->skip, limit = in->config->limit;
	for (; in->config->sequential && &in->input[in->counted] < input; in->counted++) {
		const struct df_intake_input *i = &in->input[in->counted];
		uint64_t left = skip - in->skipped, skipped = i->records < left ? i->records : left;
		in->skipped += skipped;
		in->delivered += i->records - skipped;
	}
	*ret_skip = skip - in->skipped;
	*ret_limit = limit;
	if (limit != UINT64_MAX)
		*ret_limit -= limit < in->delivered ? limit : in->delivered;
}

void df_intake_end_input(struct df_intake *in, struct df_intake_input *input, uint64_t n_cell, enum df_err err,
			 struct df_str message)
{
	in->n_reading -= input->progress == DF_INTAKE_READING;
	input->progress = DF_INTAKE_ENDED;
	df_known_release(&input->known);
	in->n_ended++;
	df_grid_end(in->config->grid, input->source, n_cell);
	if (err != DF_OK) {
		in->source_errors++;
		df_grid_fail(in->config->grid, input->source); /* earlier lives may have left holes that stay */
	}
	if (err == DF_OK && input->known_end && input->known_n_cell == n_cell)
		return; /* journalled already */
	struct df_source_state state = {input->source, true, err, n_cell, {NULL, 0}};
	if (message.n)
		state.message = df_str_copy(message);
	df_intake_order(in, (struct df_order){.type = DF_ORDER_SOURCE, .source = state});
}

static struct df_intake_input *next_input(struct df_intake *in)
{
	if (in->n_reading && df_intake_one_by_one(in))
		return NULL;
	for (; in->turn < in->n_input; in->turn++) {
		struct df_intake_input *input = &in->input[in->turn];
		if (in->config->ordered && input->source > df_dispatch_turn(in->dispatch))
			return NULL;
		if (input->progress != DF_INTAKE_WAITING)
			continue;
		uint64_t skip = 0, limit = 0;
		df_intake_counted_before(in, input, &skip, &limit);
		if (in->config->sequential && limit == 0) {
			df_intake_end_input(in, input, 0, DF_OK, (struct df_str){NULL, 0});
			continue;
		}
		return input;
	}
	return NULL;
}

static int64_t budget(const struct df_intake *in)
{
	int64_t left = (int64_t)DF_READER_TOTAL_BYTES - (int64_t)df_dispatch_reader_bytes(in->dispatch);
	for (size_t i = 0; i < in->n_reader; i++)
		left -= in->reader[i].in_flight > 0 ? in->reader[i].in_flight : 0;
	return left;
}

static enum df_err assign(struct df_intake *in, struct df_intake_reader *r, struct df_intake_input *input)
{
	const struct df_source *src = &in->config->dataset->source[input->source];
	struct df_range *done = malloc((input->known.n ? input->known.n : 1) * sizeof(*done));
	if (!done)
		return DF_ERR_NOMEM;
	int64_t credit = budget(in);
	if (credit > (int64_t)DF_READER_CREDIT_BYTES)
		credit = DF_READER_CREDIT_BYTES;
	struct df_msg msg = {.type = DF_MSG_READ, .epoch = in->config->epoch, .lane = r->lane};
	msg.read = (struct df_read){
		.source = input->source,
		.format = src->format,
		.flags = strcmp(src->path, "-") == 0 ? DF_READ_STDIN : 0,
		.path = df_str_from(src->path),
		.name = df_str_from(src->name),
		.id = src->id,
		.cell_bytes = in->config->grid->cell_bytes,
		.credit_bytes = credit > 0 ? (uint64_t)credit : 0,
		.done = done,
		.n_done = df_known_list(&input->known, DF_READ_DONE_MAX, done),
	};
	df_intake_counted_before(in, input, &msg.read.skip_records, &msg.read.limit_records);
	enum df_err err = in->config->effects.send(in->config->effects.self, r->lane, &msg, NULL, 0);
	free(done);
	DF_TRY(err);
	input->progress = DF_INTAKE_READING;
	in->n_reading++;
	input->lane = r->lane;
	r->input = input;
	r->in_flight = (int64_t)msg.read.credit_bytes;
	return DF_OK;
}

static enum df_err top_up(struct df_intake *in, struct df_intake_reader *r)
{
	int64_t left = budget(in), want = (int64_t)DF_READER_CREDIT_BYTES - r->in_flight;
	if (want > left)
		want = left;
	if (r->in_flight > (int64_t)DF_READER_CREDIT_BYTES / 2 || want < (int64_t)DF_READER_CREDIT_BYTES / 8)
		return DF_OK;
	struct df_msg msg = {.type = DF_MSG_CREDIT, .epoch = in->config->epoch, .lane = r->lane};
	msg.credit.bytes = (uint64_t)want;
	DF_TRY(in->config->effects.send(in->config->effects.self, r->lane, &msg, NULL, 0));
	r->in_flight += want;
	return DF_OK;
}

enum df_err df_intake_feed(struct df_intake *in, uint64_t lane)
{
	struct df_intake_reader *r = df_intake_find_reader(in, lane);
	if (!r)
		DF_TRY(add_reader(in, lane, &r));
	if (r->input)
		return top_up(in, r);
	struct df_intake_input *input = next_input(in);
	return input ? assign(in, r, input) : DF_OK;
}
