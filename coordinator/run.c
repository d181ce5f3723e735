// SPDX-License-Identifier: Apache-2.0
/*
 * run: set up, loop, tell.
 *
 * DESIGN. The control thread is this one. Its loop waits for sockets, the sink's events, child deaths and signals, feeds each to
 * the state machine (control.c), and lets nothing else decide. What outlives a crash is in the run directory alone.
 */
#include "coordinator/run.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control.h"
#include "coordinator/descriptors.h"
#include "coordinator/ending.h"
#include "coordinator/memory.h"
#include "coordinator/news.h"
#include "coordinator/outputs.h"
#include "coordinator/progress.h"
#include "coordinator/read_paths.h"
#include "coordinator/report.h"
#include "coordinator/sink_thread.h"
#include "coordinator/spool.h"
#include "coordinator/status.h"
#include "coordinator/supervise.h"
#include "coordinator/wire.h"

#define SINK_GRACE_MS 5000 /* for the sink to come to an end of what it writes, when the run has not ended by itself */
#define SINK_HURRY_MS 1000 /* the same when a second request has come, or the sink has failed */
#define STUCK_NS (60 * DF_SEC) /* a write that takes longer is told, and again each time that long */
#define LOCK_MS 1000           /* for the lock of a coordinator that was just killed */

struct run {
	const struct df_run_options *options;
	struct df_spool spool;
	struct df_dataset dataset;
	struct df_grid grid;
	struct df_outputs outputs;
	struct df_wire wire;
	struct df_queue *events;
	struct df_sink_thread *sink;
	struct df_supervisor *supervisor;
	struct df_control *control;
	struct df_progress progress;
	struct df_news news;
	struct df_heritage heritage; /* what all children have in common */
	struct df_read_paths read_paths;
	struct df_memory_plan memory;
	struct df_frames frames;
	uint32_t n_child;
	struct df_life *life;
	struct df_ending ending;
	uint64_t start_ns, next_notice_ns, next_look_ns, told_stuck_ns;
	uint64_t stop_ns;     /* when the run began to stop; 0: it has not */
	bool at_once;         /* leave the loop: a second request, --halt now, or a first one whose grace has gone by */
	bool too_many_errors; /* that is why it stops */
	bool led;             /* a lease has gone out in this life */
};

/* ------------------------------------------------------------------ effects of the state machine */

static enum df_err effect_send(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			       size_t n)
{
	struct run *r = self;
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
	struct run *r = self;
	df_sink_thread_order(r->sink, order);
}

static enum df_err effect_spawn(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	struct run *r = self;
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
	struct run *r = self;
	df_supervisor_kill(r->supervisor, lane, sig);
}

static void effect_close_lane(void *self, uint64_t lane)
{
	struct run *r = self;
	df_wire_close_lane(&r->wire, lane);
}

static bool effect_look(void *self, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	struct run *r = self;
	return df_supervisor_look(r->supervisor, lane, want, ret_look);
}

/* A reader of stdout may pause for as long as it likes. */
static bool effect_output_waits(void *self)
{
	struct run *r = self;
	uint64_t since = df_sink_thread_busy_since(r->sink);
	return !r->outputs.is_dir && since && df_clock_mono(&df_clock_real) > since + DF_SEC;
}

/* ------------------------------------------------------------------ setting up */

static enum df_err plan(struct run *r, struct df_fail *fail)
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
static enum df_err recover(struct run *r, struct df_fail *fail)
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

static enum df_err start_sink(struct run *r, struct df_fail *fail)
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

static uint32_t n_readers_max(const struct run *r)
{
	uint32_t n = (uint32_t)r->options->jobs / 2;
	return n < 1 ? 1 : n > DF_READERS_MAX ? DF_READERS_MAX : n;
}

static enum df_err plan_memory(struct run *r, struct df_fail *fail)
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

static void fill_heritage(struct run *r)
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
		.max_record = o->max_record,
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

static enum df_err start(struct run *r, struct df_fail *fail)
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

/* ------------------------------------------------------------------ the loop */

static void stop(struct run *r, const char *reason, uint64_t now_ns)
{
	if (r->stop_ns)
		return;
	r->stop_ns = now_ns;
	df_control_stop(r->control, reason, now_ns);
	df_wire_notice(&r->wire, r->heritage.epoch, DF_STATE_DRAIN);
}

static struct df_error_counts errors(const struct run *r)
{
	struct df_control_stats s = df_control_stats(r->control);
	struct df_error_counts c = {s.tally.in, s.tally.rejected, s.source_errors};
	for (size_t i = 0; i < r->outputs.recovered.n_counter; i++) {
		const struct df_counter *before = &r->outputs.recovered.counter[i];
		if (df_str_is(before->name, "in"))
			c.in += before->value;
		else if (df_str_is(before->name, "rejected"))
			c.rejected += before->value;
	}
	return c;
}

static bool too_many_errors(const struct run *r, bool at_end)
{
	if (!r->options->max_errors.n)
		return false;
	struct df_error_counts c = errors(r);
	return df_errors_exceed(r->options, &c, at_end);
}

/* Everything that may end a run early, but for its own failures. */
static void see_whether_to_stop(struct run *r, uint64_t now_ns)
{
	uint32_t asked = df_ending_take(&r->ending, now_ns);
	if (asked)
		stop(r, df_ending_reason(&r->ending), now_ns);
	if (df_ending_time_is_up(&r->ending))
		stop(r, "the time limit has come", now_ns);
	if (!r->too_many_errors && too_many_errors(r, false)) {
		r->too_many_errors = true;
		r->at_once |= r->options->halt == DF_HALT_NOW;
		if (!r->at_once)
			stop(r, "too many errors", now_ns);
	}
	/* after the grace control gives the sink the order to finish; one that cannot write must not hold us for ever */
	if (asked > 1 || (r->stop_ns && now_ns > r->stop_ns + r->options->grace_ns + SINK_GRACE_MS * DF_MS))
		r->at_once = true;
}

static void take_deaths(struct run *r, uint64_t now_ns)
{
	struct df_child_exit gone;
	while (df_supervisor_reap(r->supervisor, &gone))
		df_control_on_exit(r->control, gone.lane, gone.exit_code, gone.signal, &gone.blame, now_ns);
}

static void take_events(struct run *r, uint64_t now_ns)
{
	struct df_event event;
	while (df_queue_take(r->events, &event))
		df_control_on_event(r->control, &event, now_ns);
}

static void take_messages(struct run *r, struct df_socket *socket, uint64_t now_ns)
{
	for (int i = 0; i < 256; i++) {
		enum df_err err = df_socket_recv(socket, &r->frames);
		if (err == DF_ERR_AGAIN)
			return;
		if (err == DF_OK)
			df_control_on_message(r->control, &r->frames, now_ns);
		df_frames_release(&r->frames);
	}
}

static void tell_news(struct run *r, uint64_t now_ns)
{
	if (!r->outputs.is_dir)
		return;
	const struct df_news_sources from = {
		.control = r->control,
		.supervisor = r->supervisor,
		.dataset = &r->dataset,
		.grid = &r->grid,
		.pipeline = r->options->pipeline,
		.epoch = r->heritage.epoch,
		.start_ns = r->start_ns,
		.resumed_bytes = r->progress.resumed_bytes,
	};
	df_news_tick(&r->news, &from, r->outputs.dir_fd, now_ns);
}

static void show(struct run *r, uint64_t now_ns)
{
	char states[72];
	struct df_control_stats stats = df_control_stats(r->control);
	if (r->options->quiet || now_ns < r->progress.next_ns)
		return;
	df_supervisor_states(r->supervisor, states, sizeof(states));
	df_progress_tick(&r->progress, &stats, states, now_ns);
}

/* A reader of stdout that goes away is not noticed by a sink that has nothing to write. */
static bool reader_has_gone(const struct run *r)
{
	struct pollfd out = {.fd = STDOUT_FILENO};
	return !r->outputs.is_dir && r->outputs.want[DF_OUTPUT_JSONL] && poll(&out, 1, 0) > 0 &&
	       (out.revents & (POLLERR | POLLHUP)) != 0;
}

static void tell_if_stuck(struct run *r, uint64_t now_ns)
{
	uint64_t since = df_sink_thread_busy_since(r->sink);
	uint64_t last = since > r->told_stuck_ns ? since : r->told_stuck_ns;
	if (!since || now_ns < last + STUCK_NS)
		return;
	r->told_stuck_ns = now_ns;
	df_warn("%s for %llu s; the run waits for %s",
		r->outputs.is_dir ? "the disk has not taken what is written" : "nobody has read stdout",
		(unsigned long long)((now_ns - since) / DF_SEC), r->outputs.is_dir ? "it" : "its reader");
}

/* A few times a second. */
static enum df_err look_around(struct run *r, uint64_t now_ns, struct df_fail *fail)
{
	if (now_ns < r->next_look_ns)
		return DF_OK;
	r->next_look_ns = now_ns + 50 * DF_MS;
	atomic_store(&r->life->n_done, df_control_stats(r->control).cells_done);
	tell_if_stuck(r, now_ns);
	return reader_has_gone(r) ? df_fail(fail, DF_ERR_CLOSED, "the reader of stdout has gone") : DF_OK;
}

static enum df_err loop(struct run *r, struct df_fail *fail)
{
	while (df_control_outcome(r->control) == DF_OUTCOME_RUNNING && !r->at_once) {
		struct df_wait w[] = {
			{.socket = r->wire.control}, {.socket = r->wire.bulk},  {.fd = df_queue_fd(r->events)},
			{.fd = r->ending.signal_fd}, {.fd = r->life->asked_fd},
		};
		enum df_err err = df_wait(w, r->life->asked_fd >= 0 ? 5 : 4,
					  df_control_wait_ms(r->control, df_clock_mono(&df_clock_real)));
		if (err != DF_OK)
			return df_fail(fail, err, "waiting for messages failed: %s", df_err_name(err));
		uint64_t now = df_clock_mono(&df_clock_real);
		see_whether_to_stop(r, now);
		if (w[3].ready) /* SIGCHLD too: it was read before the dead are looked for */
			take_deaths(r, now);
		take_events(r, now);
		take_messages(r, r->wire.control, now);
		take_messages(r, r->wire.bulk, now);
		df_control_tick(r->control, now);
		DF_TRY(look_around(r, now, fail));
		if (now >= r->next_notice_ns) {
			df_wire_notice(&r->wire, r->heritage.epoch, r->stop_ns ? DF_STATE_DRAIN : DF_STATE_RUN);
			r->next_notice_ns = now + DF_HELLO_MS * DF_MS;
		}
		tell_news(r, now);
		show(r, now);
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ the end */

static void end_children(struct run *r)
{
	if (r->supervisor)
		df_supervisor_end_all(r->supervisor, r->at_once ? 0 : 2000);
}

/* What the sink has taken is committed, so that what run.json counts is what the journal has. False: nobody takes what it writes. */
static bool settle(struct run *r, int ms)
{
	struct df_event event = {.type = DF_EVENT_SEEN};
	uint64_t deadline = df_clock_mono(&df_clock_real) + (uint64_t)ms * DF_MS;
	if (!df_sink_thread_over(r->sink))
		df_sink_thread_order(r->sink, &(struct df_order){.type = DF_ORDER_FINISH});
	while (!df_sink_thread_over(r->sink) && df_clock_mono(&df_clock_real) < deadline) {
		struct df_wait w = {.fd = df_queue_fd(r->events)};
		if (df_wait(&w, 1, 10) != DF_OK)
			break;
		while (df_queue_take(r->events, &event))
			free(event.message);
	}
	return df_sink_thread_join(r->sink, ms);
}

/* What it came to, of control's outcome, this thread's own errors, and limits. */
static enum df_outcome judge(struct run *r, enum df_err err, const struct df_map *totals, struct df_fail *fail)
{
	enum df_outcome outcome = r->control ? df_control_outcome(r->control) : DF_OUTCOME_FAILED;
	if (err != DF_OK)
		return err == DF_ERR_INTERRUPTED ? DF_OUTCOME_STOPPED : DF_OUTCOME_FAILED;
	if (outcome == DF_OUTCOME_FAILED) {
		if (r->control)
			*fail = *df_control_fail(r->control);
		return outcome;
	}
	if (r->too_many_errors || (outcome == DF_OUTCOME_DONE && too_many_errors(r, true))) {
		struct df_error_counts c = errors(r);
		(void)df_errors_tell(r->options, &c, totals, fail);
		return DF_OUTCOME_FAILED;
	}
	return outcome == DF_OUTCOME_RUNNING ? DF_OUTCOME_STOPPED : outcome; /* running: it was left at once */
}

static int tell(struct run *r, enum df_err err, struct df_fail *fail)
{
	const struct df_map *totals = r->sink ? df_sink_totals(df_sink_thread_sink(r->sink)) : NULL;
	struct df_report report = {
		.options = r->options,
		.dataset = &r->dataset,
		.grid = &r->grid,
		.outputs = &r->outputs,
		.totals = totals,
		.outcome = judge(r, err, totals, fail),
		.fail = fail,
		.elapsed_ns = df_clock_mono(&df_clock_real) - r->start_ns,
	};
	if (r->sink)
		report.sink = df_sink_stats(df_sink_thread_sink(r->sink));
	if (r->control)
		report.control = df_control_stats(r->control);
	if (r->supervisor)
		report.process = df_supervisor_stats(r->supervisor, &report.n_process);
	return df_report(&report);
}

static void release(struct run *r)
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
	df_ending_close(&r->ending);
}

/* A coordinator that was killed in the middle of a spawn has a child that holds its lock until it reaches exec. */
static enum df_err open_outputs(struct run *r, struct df_fail *fail)
{
	for (int ms = 0;; ms += 10) {
		enum df_err err = df_outputs_open(&r->outputs, r->options, &r->dataset, &r->ending, fail);
		if (err != DF_ERR_BUSY || r->life->number <= 1 || ms >= LOCK_MS)
			return err;
		df_outputs_close(&r->outputs);
		(void)nanosleep(&(struct timespec){0, 10 * DF_MS}, NULL);
	}
}

static enum df_err unless_asked_to_stop(struct run *r, struct df_fail *fail)
{
	if (!df_ending_take(&r->ending, df_clock_mono(&df_clock_real)))
		return DF_OK;
	return df_fail(fail, DF_ERR_INTERRUPTED, "%s before the work began", df_ending_reason(&r->ending));
}

static enum df_err prepare(struct run *r, struct df_fail *fail)
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

/* run.json says "running" from here on, so that a run that is killed at once is known as what it was. */
static enum df_err announce(struct run *r, struct df_fail *fail)
{
	char z[32];
	df_debug("%zu inputs of %s in cells of %llu bytes; %u workers to start; pipeline: " DF_STR_FMT,
		 r->dataset.n_source, df_human_bytes((double)r->dataset.total_bytes, z),
		 (unsigned long long)r->options->cell_size, (unsigned)r->options->jobs,
		 DF_STR_ARG(r->options->pipeline_text));
	struct df_report report = {
		.options = r->options, .dataset = &r->dataset, .grid = &r->grid, .outputs = &r->outputs};
	if (r->outputs.is_dir && r->outputs.rundir.aside[0])
		df_info("the earlier run is now in '%s'", r->outputs.rundir.aside);
	if (!r->outputs.is_dir)
		return DF_OK;
	DF_TRY(df_report_json(&report, "running", fail));
	r->outputs.announced = true;
	return DF_OK;
}

/* The sink thread cannot be stopped and its memory not be read: the counts stay untold, run.json stays "running", and
 * the journal knows what was committed. */
static _Noreturn void leave_at_once(struct run *r, enum df_err err, const struct df_fail *fail)
{
	if (df_control_outcome(r->control) == DF_OUTCOME_FAILED)
		err = (fail = df_control_fail(r->control))->code;
	if (err != DF_OK)
		df_error("%s", fail->msg);
	df_warn("stopped in the middle of writing: nobody takes the output");
	df_progress_end(&r->progress);
	df_wire_remove_dir(&r->wire);
	_exit(err == DF_OK ? DF_EXIT_STOPPED : DF_EXIT_FATAL);
}

static enum df_err work(struct run *r, struct df_fail *fail)
{
	DF_TRY(announce(r, fail));
	DF_TRY(start(r, fail));
	r->too_many_errors = r->at_once = too_many_errors(r, false);
	if (!r->at_once)
		df_control_start(r->control, df_clock_mono(&df_clock_real));
	return loop(r, fail);
}

int df_coordinator_run(const struct df_run_options *options, struct df_life *life)
{
	struct df_fail fail = {0};
	struct run r = {.options = options,
			.life = life,
			.ending = {.signal_fd = -1},
			.start_ns = df_clock_mono(&df_clock_real)};
	(void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
	bool terminal = isatty(STDERR_FILENO) == 1;
	bool bar = options->bar == DF_BAR_ALWAYS ||
		   (options->bar == DF_BAR_AUTO && terminal && options->log_format == DF_LOG_TEXT);
	atomic_store(&life->bar, bar && !options->quiet);
	df_progress_init(&r.progress, bar, options->quiet, bar && !getenv("NO_COLOR"), r.start_ns);
	enum df_err err = prepare(&r, &fail);
	if (err == DF_OK && r.outputs.recovered.finished) {
		df_progress_end(&r.progress);
		int code = df_report_finished(&r.outputs, options);
		df_spool_close(&r.spool, code == DF_EXIT_OK || code == DF_EXIT_REJECTS);
		release(&r);
		return code;
	}
	if (err == DF_OK)
		err = work(&r, &fail);
	df_progress_end(&r.progress);
	end_children(&r);
	if (r.sink && !settle(&r, r.at_once ? SINK_HURRY_MS : SINK_GRACE_MS))
		leave_at_once(&r, err, &fail);
	int code = tell(&r, err, &fail);
	df_spool_close(&r.spool, code == DF_EXIT_OK || code == DF_EXIT_REJECTS);
	release(&r);
	return code;
}
