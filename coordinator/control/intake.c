// SPDX-License-Identifier: Apache-2.0
/*
 * intake: readers and their sources: what is known of them, and what readers say.
 *
 * DESIGN. `have` of a source marks cells that arrived in this epoch or were done before it; a cell is passed on once. What readers said of them is
 * kept in ranges, so that the next reader can compare; few of them, since neighbours are joined up to DF_INFO_CELLS_MAX cells.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/intake_core.h"

/* ------------------------------------------------------------------ life */

static struct df_intake_input *find_input(const struct df_intake *in, uint32_t source)
{
	size_t low = 0, high = in->n_input;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (in->input[mid].source < source)
			low = mid + 1;
		else
			high = mid;
	}
	return low < in->n_input && in->input[low].source == source ? &in->input[low] : NULL;
}

static void recover_end(struct df_intake *in, const struct df_source_state *s)
{
	struct df_intake_input *input = find_input(in, s->source);
	if (!input || !s->ended)
		return;
	bool complete = input->have.n_set == s->n_cell;
	/* after an error its end is final only when all cells before it are there; else it is tried again */
	if (s->err != DF_OK && !complete)
		return;
	input->known_end = true;
	input->known_n_cell = s->n_cell;
	/* else it ends for the grid when its cells have come again: with an order kept, what is behind waits */
	if (complete)
		df_grid_end(in->config->grid, s->source, s->n_cell);
	/* counted records need every source again; else what is complete is not read a second time */
	if (!in->config->sequential && complete) {
		input->progress = DF_INTAKE_ENDED;
		df_known_release(&input->known);
		in->n_ended++;
		in->source_errors += s->err != DF_OK;
	}
}

static enum df_err recover(struct df_intake *in, const struct df_recovered *r)
{
	for (size_t k = 0; k < r->n_cells; k++) {
		const struct df_cells c = r->cells[k].cells;
		struct df_intake_input *input = find_input(in, c.source);
		if (!input)
			continue;
		DF_TRY(df_cellset_add(&input->have, c.first, c.n, NULL));
		DF_TRY(df_known_add(&input->known, c.first, c.n, &r->cells[k].info));
		input->resumed = true;
		input->delivered += r->cells[k].info.records;
		if (c.first + c.n > input->n_cell)
			input->n_cell = c.first + c.n;
	}
	for (size_t k = 0; k < r->n_source; k++)
		recover_end(in, &r->source[k]);
	return DF_OK;
}

enum df_err df_intake_create(const struct df_control_config *config, struct df_dispatch *dispatch,
			     const struct df_recovered *recovered, struct df_intake **ret_intake)
{
	struct df_intake *in = calloc(1, sizeof(*in));
	const struct df_grid *g = config->grid;
	if (!in)
		return DF_ERR_NOMEM;
	in->config = config;
	in->dispatch = dispatch;
	for (uint32_t i = 0; i < g->n_source; i++)
		in->n_input += g->source[i].kind == DF_SOURCE_READER;
	in->input = calloc(in->n_input ? in->n_input : 1, sizeof(*in->input));
	enum df_err err = in->input ? DF_OK : DF_ERR_NOMEM;
	for (uint32_t i = 0, k = 0; err == DF_OK && i < g->n_source; i++)
		if (g->source[i].kind == DF_SOURCE_READER)
			in->input[k++].source = i;
	if (err == DF_OK)
		err = recover(in, recovered);
	if (err != DF_OK) {
		df_intake_destroy(&in);
		return err;
	}
	*ret_intake = in;
	return DF_OK;
}

void df_intake_destroy(struct df_intake **intake)
{
	struct df_intake *in = *intake;
	if (!in)
		return;
	for (size_t i = 0; in->input && i < in->n_input; i++) {
		df_cellset_release(&in->input[i].have);
		df_known_release(&in->input[i].known);
	}
	free(in->input);
	free(in->reader);
	free(in);
	*intake = NULL;
}

uint32_t df_intake_readers_wanted(const struct df_intake *in)
{
	size_t open = in->n_input - in->n_ended;
	if (open > 1 && df_intake_one_by_one(in))
		open = 1;
	return open > in->config->n_reader_max ? in->config->n_reader_max : (uint32_t)open;
}

/* ------------------------------------------------------------------ what readers say */

static enum df_err on_cells(struct df_intake *in, struct df_intake_reader *r, const struct df_cells_msg *m,
			    struct df_frames *frames)
{
	struct df_intake_input *input = r->input;
	for (size_t i = 0; i < m->n_cell; i++) {
		uint64_t cell = m->first + i, added = 0;
		struct df_blob *blob = frames->payload[i];
		r->in_flight -= (int64_t)blob->n;
		DF_TRY(df_cellset_add(&input->have, cell, 1, &added));
		if (!added)
			continue;
		if (cell + 1 > input->n_cell)
			input->n_cell = cell + 1;
		input->deaths = 0; /* deaths count at one place */
		input->delivered += m->cell[i].records;
		struct df_cell_info said = {0};
		df_cell_info_add(&said, cell, &m->cell[i]);
		DF_TRY(df_known_add(&input->known, cell, 1, &said));
		frames->payload[i] = NULL;
		df_intake_order(in, (struct df_order){.type = DF_ORDER_INFO,
						      .source = {.source = input->source},
						      .cell = cell,
						      .info = m->cell[i]});
		enum df_err err = df_dispatch_cell(in->dispatch, input->source, cell, blob);
		if (err != DF_OK) {
			df_blob_unref(&blob);
			return err;
		}
	}
	return DF_OK;
}

/* An input that is not what earlier results were made of ends the run: going on would mix two inputs in one output. */
static bool refused(struct df_intake *in, const struct df_intake_input *input, const struct df_source_end *end,
		    bool changed)
{
	const char *name = in->config->dataset->source[input->source].name;
	if (input->resumed && (end->flags & DF_SOURCE_END_DIFFERS)) {
		(void)df_fail(&in->fail, DF_ERR_CHANGED,
			      DF_STR_FMT "; restore the input as it was, use another directory, or --force-restart",
			      DF_STR_ARG(end->message));
	} else if (end->code == DF_OK && changed) {
		(void)df_fail(&in->fail, DF_ERR_CHANGED,
			      "'%s' has other records than before: it ends behind cell %llu of %llu, with byte %llu",
			      name, (unsigned long long)end->n_cell,
			      (unsigned long long)(input->known_end ? input->known_n_cell : input->n_cell),
			      (unsigned long long)end->bytes);
	} else {
		return false;
	}
	in->failed = true;
	return true;
}

static void on_end(struct df_intake *in, struct df_intake_reader *r, const struct df_source_end *end)
{
	struct df_intake_input *input = r->input;
	r->input = NULL;
	r->in_flight = 0;
	input->records = end->records;
	bool changed = end->n_cell < input->n_cell || (input->known_end && end->n_cell != input->known_n_cell);
	if (refused(in, input, end, changed))
		return;
	if (end->code != DF_OK)
		df_warn(DF_STR_FMT, DF_STR_ARG(end->message));
	df_intake_end_input(in, input, end->n_cell > input->n_cell ? end->n_cell : input->n_cell, end->code,
			    end->message);
}

enum df_err df_intake_on_message(struct df_intake *in, const struct df_msg *msg, struct df_frames *frames)
{
	struct df_intake_reader *r = df_intake_find_reader(in, msg->lane);
	if (!r || !r->input)
		return DF_OK;
	if (msg->type == DF_MSG_CELLS) {
		const struct df_cells_msg *m = &msg->cells;
		bool valid = m->source == r->input->source && m->n_cell == frames->n_payload && m->first < DF_MAX_CELLS;
		return valid ? on_cells(in, r, m, frames) : DF_OK;
	}
	if (msg->source_end.source == r->input->source)
		on_end(in, r, &msg->source_end);
	return DF_OK;
}

bool df_intake_reading(const struct df_intake *in, uint64_t lane)
{
	for (size_t i = 0; i < in->n_reader; i++)
		if (in->reader[i].lane == lane)
			return in->reader[i].input != NULL;
	return false;
}

void df_intake_reader_died(struct df_intake *in, uint64_t lane)
{
	struct df_intake_reader *r = df_intake_find_reader(in, lane);
	struct df_intake_input *input = r ? r->input : NULL;
	if (r)
		*r = in->reader[--in->n_reader];
	if (!input)
		return;
	const struct df_source *src = &in->config->dataset->source[input->source];
	input->progress = DF_INTAKE_WAITING;
	in->n_reading--;
	if ((size_t)(input - in->input) < in->turn)
		in->turn = (size_t)(input - in->input);
	input->deaths++;
	if (src->live) {
		in->failed = true;
		(void)df_fail(&in->fail, DF_ERR_CHILD,
			      "the process that read '%s' died, and this input can not be read again; what was written "
			      "before is whole",
			      src->name);
	} else if (input->deaths >= DF_STRIKES_MAX) {
		char z[512];
		int n = snprintf(z, sizeof(z),
				 "reading '%.400s' ended %u processes; the rest of this input is left out", src->name,
				 input->deaths);
		df_warn("%s", z);
		/* what is known of its records counts for the skip and limit of those behind it */
		uint64_t skip = 0, limit = 0;
		df_intake_counted_before(in, input, &skip, &limit);
		input->records = input->delivered ? skip + input->delivered : 0;
		df_intake_end_input(in, input, input->n_cell, DF_ERR_CHILD, (struct df_str){z, n > 0 ? (size_t)n : 0});
	}
}

bool df_intake_ended(const struct df_intake *in)
{
	return in->n_ended == in->n_input;
}

bool df_intake_failed(const struct df_intake *in, struct df_fail *ret_fail)
{
	if (in->failed)
		*ret_fail = in->fail;
	return in->failed;
}

uint64_t df_intake_source_errors(const struct df_intake *in)
{
	return in->source_errors;
}
