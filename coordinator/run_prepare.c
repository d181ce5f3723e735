// SPDX-License-Identifier: Apache-2.0
/* run_prepare: before any socket, thread or child: inputs listed, outputs opened, what earlier epochs did taken over. */
#include <malloc.h>
#include <stdlib.h>
#include <time.h>

#include "coordinator/children/descriptors.h"
#include "coordinator/run_core.h"
#include "coordinator/show/status.h"

#define LOCK_MS 1000 /* for the lock of a coordinator that was just killed */

static enum df_err plan(struct df_run *r, struct df_fail *fail)
{
	const struct df_run_options *o = r->options;
	const char **operand = calloc(o->n_input, sizeof(*operand));
	if (!operand)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu inputs", o->n_input);
	for (size_t i = 0; i < o->n_input; i++)
		operand[i] = o->input[i].p;
	struct df_dataset_spec spec = {
		.operand = operand,
		.n_operand = o->n_input,
		.format = (enum df_format)o->input_format,
		.sequential = o->skip > 0 || o->limit >= 0,
		.stdin_path = r->spool.used ? r->spool.path : NULL,
		.stdin_id = r->spool.id,
		.stdin_lines = r->spool.lines,
	};
	enum df_err err = df_dataset_open(&spec, &r->dataset, fail);
	free(operand);
	DF_TRY(err);
	(void)malloc_trim(0); /* listing 100,000 files takes 20 MB that nothing needs again */
	err = df_grid_init(&r->grid, o->cell_size);
	for (size_t i = 0; err == DF_OK && i < r->dataset.n_source; i++)
		err = df_grid_add(&r->grid, (enum df_source_kind)r->dataset.source[i].kind,
				  r->dataset.source[i].id.size);
	return err == DF_OK ? DF_OK : df_fail(fail, err, "the inputs cannot be laid out: %s", df_err_name(err));
}

/* What earlier epochs did. */
static enum df_err recover(struct df_run *r, struct df_fail *fail)
{
	const struct df_recovered *done = &r->outputs.recovered;
	for (size_t i = 0; i < done->n_source; i++) {
		const struct df_source_state *s = &done->source[i];
		if (s->source >= r->grid.n_source)
			return df_fail(fail, DF_ERR_CORRUPT, "the journal names input %u of %u", s->source,
				       r->grid.n_source);
		if (s->err != DF_OK && r->grid.source[s->source].kind != DF_SOURCE_READER)
			df_grid_fail(&r->grid, s->source);
	}
	for (size_t i = 0; i < done->n_cells; i++) {
		enum df_err err = df_grid_mark_done(&r->grid, done->cells[i].cells);
		if (err != DF_OK)
			return df_fail(fail, DF_ERR_CORRUPT, "the journal names cells that these inputs do not have");
		uint64_t start = 0, end = 0;
		df_grid_bytes(&r->grid, done->cells[i].cells, &start, &end);
		r->progress.resumed_bytes += end - start;
	}
	return DF_OK;
}

/* A coordinator that was killed in the middle of a spawn has a child that holds its lock until it reaches exec. */
static enum df_err open_outputs(struct df_run *r, struct df_fail *fail)
{
	for (int ms = 0;; ms += 10) {
		enum df_err err = df_outputs_open(&r->outputs, r->options, &r->dataset, &r->ending, fail);
		if (err != DF_ERR_BUSY || r->life->number <= 1 || ms >= LOCK_MS)
			return err;
		df_outputs_close(&r->outputs);
		(void)nanosleep(&(struct timespec){0, 10 * DF_MS}, NULL);
	}
}

static enum df_err unless_asked_to_stop(struct df_run *r, struct df_fail *fail)
{
	if (!df_ending_take(&r->ending, df_clock_mono(&df_clock_real)))
		return DF_OK;
	return df_fail(fail, DF_ERR_INTERRUPTED, "%s before the work began", df_ending_reason(&r->ending));
}

enum df_err df_run_prepare(struct df_run *r, struct df_fail *fail)
{
	DF_TRY(df_ending_open(&r->ending, r->life, r->options->time_limit_ns, fail));
	DF_TRY(df_descriptors_provide((uint64_t)r->options->jobs, fail));
	DF_TRY(df_spool_open(r->options, r->life, &r->ending, &r->spool, fail));
	DF_TRY(plan(r, fail));
	bool live = false;
	for (size_t i = 0; i < r->dataset.n_source; i++)
		live |= r->dataset.source[i].live;
	atomic_store(&r->life->cannot_go_on, live || r->options->out.n == 0);
	DF_TRY(unless_asked_to_stop(r, fail));
	DF_TRY(open_outputs(r, fail));
	atomic_store(&r->life->opened, true);
	atomic_store(&r->life->epoch, r->outputs.recovered.epoch);
	DF_TRY(recover(r, fail));
	return unless_asked_to_stop(r, fail);
}

void df_run_release(struct df_run *r)
{
	struct df_event event;
	df_supervisor_destroy(&r->supervisor);
	df_control_destroy(&r->control);
	df_sink_thread_destroy(&r->sink);
	while (r->events && df_queue_take(r->events, &event))
		free(event.message);
	df_queue_destroy(&r->events);
	df_frames_free(&r->frames);
	df_wire_close(&r->wire);
	if (r->outputs.is_dir && r->outputs.dir_fd >= 0 && r->news.next_ns)
		df_status_remove(&df_io_real, r->outputs.dir_fd);
	df_outputs_close(&r->outputs);
	df_grid_release(&r->grid);
	df_dataset_release(&r->dataset);
	df_read_paths_release(&r->read_paths);
	df_expenses_close(&r->expenses);
	df_ending_close(&r->ending);
}
