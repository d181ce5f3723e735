// SPDX-License-Identifier: Apache-2.0
/* run_start: sockets, the sink's thread, the state machine and its effects. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "coordinator/run_core.h"

/* ------------------------------------------------------------------ effects of the state machine */

static enum df_err effect_send(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			       size_t n)
{
	struct df_run *r = self;
	enum df_err err = df_wire_send(&r->wire, lane, msg, payload, n);
	if (err == DF_OK && msg->type == DF_MSG_LEASE && !r->led) {
		r->led = true;
		if (r->life->takeover_mono_ns)
			df_info("the run goes on as epoch %u; its first lease went out %.0f ms after the death of the "
				"coordinator",
				r->heritage.epoch,
				(double)(df_clock_mono(&df_clock_real) - r->life->takeover_mono_ns) / 1e6);
	}
	return err;
}

static void effect_order(void *self, const struct df_order *order)
{
	struct df_run *r = self;
	df_sink_thread_order(r->sink, order);
}

static enum df_err effect_spawn(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	struct df_run *r = self;
	char endpoint[128];
	struct df_heritage h = r->heritage;
	DF_TRY(df_wire_add_lane(&r->wire, lane, endpoint, fail));
	h.lane = lane;
	h.role = role;
	h.number = ++r->n_child;
	h.nonce = df_rand_real.next(NULL);
	h.lane_endpoint = df_str_from(endpoint);
	return df_supervisor_spawn(r->supervisor, &h, role == DF_ROLE_READER ? STDIN_FILENO : -1, fail);
}

static void effect_kill(void *self, uint64_t lane, int sig)
{
	struct df_run *r = self;
	df_supervisor_kill(r->supervisor, lane, sig);
}

static void effect_close_lane(void *self, uint64_t lane)
{
	struct df_run *r = self;
	df_wire_close_lane(&r->wire, lane);
}

static bool effect_look(void *self, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	struct df_run *r = self;
	return df_supervisor_look(r->supervisor, lane, want, ret_look);
}

/* A reader of stdout may pause for as long as it likes. */
static bool effect_output_waits(void *self)
{
	struct df_run *r = self;
	uint64_t since = df_sink_thread_busy_since(r->sink);
	return !r->outputs.is_dir && since && df_clock_mono(&df_clock_real) > since + DF_SEC;
}

/* ------------------------------------------------------------------ starting */

static enum df_err start_sink(struct df_run *r, struct df_fail *fail)
{
	uint64_t *n_cell = calloc(r->grid.n_source + 1, sizeof(*n_cell));
	if (!n_cell)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %u inputs", r->grid.n_source);
	for (uint32_t i = 0; i < r->grid.n_source; i++)
		n_cell[i] = r->grid.source[i].ended ? r->grid.source[i].n_cell : UINT64_MAX;
	struct df_sink_config config = {
		.store = r->outputs.store,
		.ordered = r->options->keep_order,
		.commit_ns = DF_COMMIT_MS * DF_MS,
		.commit_bytes = DF_COMMIT_BYTES,
		.spill_dirfd = r->outputs.dir_fd,
	};
	enum df_err err = df_sink_thread_start(&config, n_cell, r->grid.n_source, &r->outputs.recovered,
					       r->wire.results, r->events, r->life, &r->sink, fail);
	if (err == DF_OK)
		r->wire.results = NULL; /* the thread's now */
	free(n_cell);
	return err;
}

static uint32_t n_readers_max(const struct df_run *r)
{
	uint32_t n = (uint32_t)r->options->jobs / 2;
	return n < 1 ? 1 : n > DF_READERS_MAX ? DF_READERS_MAX : n;
}

static enum df_err plan_memory(struct df_run *r, struct df_fail *fail)
{
	const struct df_run_options *o = r->options;
	uint32_t n_child = (uint32_t)o->jobs, n_reader = 0;
	for (uint32_t i = 0; i < r->grid.n_source && n_reader < n_readers_max(r); i++)
		n_reader += r->grid.source[i].kind == DF_SOURCE_READER;
	enum df_err err = df_memory_plan(o->mem_limit, df_memory_available(""), n_child + n_reader, &r->memory, fail);
	if (err == DF_OK || o->mem_limit)
		return err;
	df_warn("%s; going on without a limit", fail->msg); /* it was not asked for */
	return DF_OK;
}

static void fill_heritage(struct df_run *r)
{
	const struct df_run_options *o = r->options;
	static char endpoint[4][128];
	r->heritage = (struct df_heritage){
		.epoch = r->outputs.recovered.epoch,
		.parent_pid = (uint32_t)getpid(),
		.control_endpoint = df_str_from(df_wire_endpoint(&r->wire, "control", endpoint[0])),
		.bulk_endpoint = df_str_from(df_wire_endpoint(&r->wire, "bulk", endpoint[1])),
		.notices_endpoint = df_str_from(df_wire_endpoint(&r->wire, "notices", endpoint[2])),
		.results_endpoint = df_str_from(df_wire_endpoint(&r->wire, "results", endpoint[3])),
		.pipeline = o->pipeline_text,
		.id_key = o->id_key,
		.text_key = o->text_key,
		.model_dir = o->model_dir,
		.max_record = o->max_record + (o->resume_failed ? DF_REJECT_EXTRA_BYTES : 0),
		.cell_bytes = o->cell_size,
		.retry = o->resume_failed,
		.sample = o->sample,
		.sample_seed = (uint64_t)o->sample_seed,
		.want = {r->outputs.want[0], r->outputs.want[1], r->outputs.want[2]},
		.embed_in_rows = o->output_format == DF_OUTFMT_JSONL,
		.f16 = o->dtype == DF_DTYPE_F16,
		.zstd = (uint32_t)o->zstd,
		.log_level = (uint32_t)(o->verbose ? DF_LOG_DEBUG
					: o->quiet ? DF_LOG_ERROR
						   : DF_LOG_WARN),
		.log_format = (uint32_t)o->log_format,
		.memory_max = r->memory.share,
		.confine = o->confine,
		.read_path = r->read_paths.path,
		.n_read_path = r->read_paths.n,
	};
}

/* Of earlier lives: what the rows cost that are written, or what run.json says when one has come to its end. */
static struct df_costs costs_before(const struct df_run *r)
{
	struct df_costs c = r->outputs.costs_before;
	for (size_t i = 0; i < r->outputs.recovered.n_counter; i++) {
		const struct df_counter *n = &r->outputs.recovered.counter[i];
		if (df_str_is(n->name, "usd_nano") && c.spent < (double)n->value / 1e9)
			c.spent = (double)n->value / 1e9;
	}
	return c;
}

enum df_err df_run_start(struct df_run *r, struct df_fail *fail)
{
	const struct df_run_options *o = r->options;
	uint32_t n_worker = (uint32_t)o->jobs;
	DF_TRY(df_wire_open(&r->wire, n_worker * 2, r->life, fail));
	if (df_queue_create(sizeof(struct df_event), &r->events) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the event queue");
	DF_TRY(df_supervisor_create(&r->supervisor, fail));
	DF_TRY(start_sink(r, fail));
	DF_TRY(plan_memory(r, fail));
	DF_TRY(df_read_paths_of(&r->dataset, &r->read_paths, fail));
	fill_heritage(r);
	struct df_costs before = costs_before(r);
	DF_TRY(df_expenses_open(&r->expenses, o, r->outputs.is_dir ? r->outputs.dir_fd : -1, r->outputs.summary.run_id,
				&before, r->supervisor, &r->heritage, fail));
	struct df_control_config config = {
		.dataset = &r->dataset,
		.grid = &r->grid,
		.effects = {effect_send, effect_order, effect_spawn, effect_kill, effect_close_lane, r, effect_look,
			    effect_output_waits},
		.epoch = r->outputs.recovered.epoch,
		.n_worker = n_worker,
		.n_reader_max = n_readers_max(r),
		.ordered = o->keep_order,
		.sequential = o->skip > 0 || o->limit >= 0,
		.skip = (uint64_t)o->skip,
		.limit = o->limit < 0 ? UINT64_MAX : (uint64_t)o->limit,
		.grace_ns = o->grace_ns,
		.lease_bytes_max = o->output_format == DF_OUTFMT_NONE ? DF_LEASE_BYTES_MAX_NONE : DF_LEASE_BYTES_MAX,
		.tail_redo = !o->has_side_effects,
		.waits = o->has_calls,
		.pipeline = o->pipeline,
		.doc_timeout_ns = o->doc_timeout_ns,
		.mem_limit = r->memory.limit,
		.mem_share = r->memory.share,
	};
	enum df_err err = df_control_create(&config, &r->outputs.recovered, &r->control);
	if (err != DF_OK)
		return df_fail(fail, err, "cannot start the coordinator: %s", df_err_name(err));
	return DF_OK;
}
