// SPDX-License-Identifier: Apache-2.0
/*
 * intake: readers and their sources.
 *
 * DESIGN. Bytes held by the coordinator plus bytes that readers may still send never pass DF_READER_TOTAL_BYTES by more than one cell per reader.
 * `have` of a source marks cells that arrived in this epoch or were done before it; a cell is passed on once. What readers said of them is
 * kept in ranges, so that the next reader can compare; few of them, since neighbours are joined up to DF_INFO_CELLS_MAX cells.
 * Nothing here looks at all sources more than once in a life: `turn` is the first that may be waiting.
 */
#include "coordinator/control/intake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/cells/known.h"
#include "coordinator/control/control.h"

enum progress { WAITING, READING, ENDED };

struct input {
	uint32_t source;
	enum progress progress;
	uint64_t lane; /* of its reader, while READING */
	struct df_cellset have;
	struct df_known known; /* of `have`; empty once the source has ended */
	uint64_t n_cell;       /* highest cell that arrived + 1 */
	uint64_t records;      /* seen, skipped ones too; when ENDED */
	uint64_t delivered;    /* records of the cells in `have` */
	uint32_t deaths;
	bool resumed;   /* an earlier life of the coordinator knew cells of it */
	bool known_end; /* journalled already: */
	uint64_t known_n_cell;
};

struct reader {
	uint64_t lane;
	struct input *input; /* NULL: idle */
	int64_t in_flight;   /* bytes granted and not yet arrived */
};

struct df_intake {
	const struct df_control_config *config;
	struct df_dispatch *dispatch;
	struct input *input; /* in the order of the sources */
	size_t n_input, n_ended, n_reading;
	size_t turn;    /* no input before it is WAITING */
	size_t counted; /* inputs before it, which have ended, used up of skip and limit: */
	uint64_t skipped, delivered;
	struct reader *reader;
	size_t n_reader, cap_reader;
	uint64_t source_errors;
	bool failed;
	struct df_fail fail;
};

static void order(struct df_intake *in, struct df_order o)
{
	in->config->effects.order(in->config->effects.self, &o);
}

/* ------------------------------------------------------------------ life */

static struct input *find_input(const struct df_intake *in, uint32_t source)
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
	struct input *input = find_input(in, s->source);
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
		input->progress = ENDED;
		df_known_release(&input->known);
		in->n_ended++;
		in->source_errors += s->err != DF_OK;
	}
}

static enum df_err recover(struct df_intake *in, const struct df_recovered *r)
{
	for (size_t k = 0; k < r->n_cells; k++) {
		const struct df_cells c = r->cells[k].cells;
		struct input *input = find_input(in, c.source);
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

static bool one_by_one(const struct df_intake *in)
{
	return in->config->sequential || in->config->ordered;
}

uint32_t df_intake_readers_wanted(const struct df_intake *in)
{
	size_t open = in->n_input - in->n_ended;
	if (open > 1 && one_by_one(in))
		open = 1;
	return open > in->config->n_reader_max ? in->config->n_reader_max : (uint32_t)open;
}

/* ------------------------------------------------------------------ handing out sources */

static struct reader *find_reader(struct df_intake *in, uint64_t lane)
{
	for (size_t i = 0; i < in->n_reader; i++)
		if (in->reader[i].lane == lane)
			return &in->reader[i];
	return NULL;
}

static enum df_err add_reader(struct df_intake *in, uint64_t lane, struct reader **ret_reader)
{
	DF_TRY(df_array_room((void **)&in->reader, in->n_reader, &in->cap_reader, sizeof(*in->reader)));
	in->reader[in->n_reader] = (struct reader){.lane = lane};
	*ret_reader = &in->reader[in->n_reader++];
	return DF_OK;
}

/* What is left of skip and limit behind the inputs before `input`, which have all ended: sources are read one by one then. */
static void counted_before(struct df_intake *in, const struct input *input, uint64_t *ret_skip, uint64_t *ret_limit)
{
	const uint64_t skip = in->config->skip, limit = in->config->limit;
	for (; in->config->sequential && &in->input[in->counted] < input; in->counted++) {
		const struct input *i = &in->input[in->counted];
		uint64_t left = skip - in->skipped, skipped = i->records < left ? i->records : left;
		in->skipped += skipped;
		in->delivered += i->records - skipped;
	}
	*ret_skip = skip - in->skipped;
	*ret_limit = limit;
	if (limit != UINT64_MAX)
		*ret_limit -= limit < in->delivered ? limit : in->delivered;
}

static void end_input(struct df_intake *in, struct input *input, uint64_t n_cell, enum df_err err,
		      struct df_str message)
{
	in->n_reading -= input->progress == READING;
	input->progress = ENDED;
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
	order(in, (struct df_order){.type = DF_ORDER_SOURCE, .source = state});
}

static struct input *next_input(struct df_intake *in)
{
	if (in->n_reading && one_by_one(in))
		return NULL;
	for (; in->turn < in->n_input; in->turn++) {
		struct input *input = &in->input[in->turn];
		if (in->config->ordered && input->source > df_dispatch_turn(in->dispatch))
			return NULL;
		if (input->progress != WAITING)
			continue;
		uint64_t skip = 0, limit = 0;
		counted_before(in, input, &skip, &limit);
		if (in->config->sequential && limit == 0) {
			end_input(in, input, 0, DF_OK, (struct df_str){NULL, 0});
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

static enum df_err assign(struct df_intake *in, struct reader *r, struct input *input)
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
	counted_before(in, input, &msg.read.skip_records, &msg.read.limit_records);
	enum df_err err = in->config->effects.send(in->config->effects.self, r->lane, &msg, NULL, 0);
	free(done);
	DF_TRY(err);
	input->progress = READING;
	in->n_reading++;
	input->lane = r->lane;
	r->input = input;
	r->in_flight = (int64_t)msg.read.credit_bytes;
	return DF_OK;
}

static enum df_err top_up(struct df_intake *in, struct reader *r)
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
	struct reader *r = find_reader(in, lane);
	if (!r)
		DF_TRY(add_reader(in, lane, &r));
	if (r->input)
		return top_up(in, r);
	struct input *input = next_input(in);
	return input ? assign(in, r, input) : DF_OK;
}

/* ------------------------------------------------------------------ what readers say */

static enum df_err on_cells(struct df_intake *in, struct reader *r, const struct df_cells_msg *m,
			    struct df_frames *frames)
{
	struct input *input = r->input;
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
		order(in, (struct df_order){.type = DF_ORDER_INFO,
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
static bool refused(struct df_intake *in, const struct input *input, const struct df_source_end *end, bool changed)
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

static void on_end(struct df_intake *in, struct reader *r, const struct df_source_end *end)
{
	struct input *input = r->input;
	r->input = NULL;
	r->in_flight = 0;
	input->records = end->records;
	bool changed = end->n_cell < input->n_cell || (input->known_end && end->n_cell != input->known_n_cell);
	if (refused(in, input, end, changed))
		return;
	if (end->code != DF_OK)
		df_warn(DF_STR_FMT, DF_STR_ARG(end->message));
	end_input(in, input, end->n_cell > input->n_cell ? end->n_cell : input->n_cell, end->code, end->message);
}

enum df_err df_intake_on_message(struct df_intake *in, const struct df_msg *msg, struct df_frames *frames)
{
	struct reader *r = find_reader(in, msg->lane);
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
	struct reader *r = find_reader(in, lane);
	struct input *input = r ? r->input : NULL;
	if (r)
		*r = in->reader[--in->n_reader];
	if (!input)
		return;
	const struct df_source *src = &in->config->dataset->source[input->source];
	input->progress = WAITING;
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
		counted_before(in, input, &skip, &limit);
		input->records = input->delivered ? skip + input->delivered : 0;
		end_input(in, input, input->n_cell, DF_ERR_CHILD, (struct df_str){z, n > 0 ? (size_t)n : 0});
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
