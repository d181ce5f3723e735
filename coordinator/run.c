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
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control.h"
#include "coordinator/outputs.h"
#include "coordinator/progress.h"
#include "coordinator/report.h"
#include "coordinator/sink_thread.h"
#include "coordinator/supervise.h"
#include "coordinator/wire.h"

#define GRACE_NS (30 * DF_SEC)
#define SINK_GRACE_MS 5000 /* for the sink to come to an end of what it writes, when the run has not ended by itself */
#define READERS_MAX 8
#define DESCRIPTORS_OWN 64
#define DESCRIPTORS_PER_CHILD 8 /* measured: 7 */

struct run {
	const struct df_run_options *options;
	struct df_dataset dataset;
	struct df_grid grid;
	struct df_outputs outputs;
	struct df_wire wire;
	struct df_queue *events;
	struct df_sink_thread *sink;
	struct df_supervisor *supervisor;
	struct df_control *control;
	struct df_progress progress;
	struct df_heritage heritage; /* what all children have in common */
	struct df_frames frames;
	uint32_t n_child;
	int signal_fd;
	uint64_t start_ns, next_notice_ns;
	uint64_t stop_ns;   /* of the first signal; 0: none yet */
	bool second_signal; /* or a first one whose grace has gone by twice */
};

/* ------------------------------------------------------------------ effects of the state machine */

static enum df_err effect_send(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			       size_t n)
{
	struct run *r = self;
	return df_wire_send(&r->wire, lane, msg, payload, n);
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
					       r->wire.results, r->events, &r->sink, fail);
	if (err == DF_OK)
		r->wire.results = NULL; /* the thread's now */
	free(n_cell);
	return err;
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
	};
}

static enum df_err start(struct run *r, struct df_fail *fail)
{
	const struct df_run_options *o = r->options;
	uint32_t n_worker = (uint32_t)o->jobs;
	DF_TRY(df_wire_open(&r->wire, n_worker * 2, fail));
	if (df_queue_create(sizeof(struct df_event), &r->events) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the event queue");
	DF_TRY(df_supervisor_create(&r->supervisor, fail));
	DF_TRY(start_sink(r, fail));
	fill_heritage(r);
	struct df_control_config config = {
		.dataset = &r->dataset,
		.grid = &r->grid,
		.effects = {effect_send, effect_order, effect_spawn, effect_kill, effect_close_lane, r},
		.epoch = r->outputs.recovered.epoch,
		.n_worker = n_worker,
		.n_reader_max = n_worker < 2                 ? 1
				: n_worker / 2 > READERS_MAX ? READERS_MAX
							     : n_worker / 2,
		.ordered = o->keep_order,
		.sequential = o->skip > 0 || o->limit >= 0,
		.skip = (uint64_t)o->skip,
		.limit = o->limit < 0 ? UINT64_MAX : (uint64_t)o->limit,
		.grace_ns = GRACE_NS,
		.lease_bytes_max = o->output_format == DF_OUTFMT_NONE ? DF_LEASE_BYTES_MAX_NONE : DF_LEASE_BYTES_MAX,
	};
	enum df_err err = df_control_create(&config, &r->outputs.recovered, &r->control);
	if (err != DF_OK)
		return df_fail(fail, err, "cannot start the coordinator: %s", df_err_name(err));
	return DF_OK;
}

/* ------------------------------------------------------------------ the loop */

static void take_signals(struct run *r, uint64_t now_ns)
{
	struct signalfd_siginfo info;
	while (read(r->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGCHLD)
			continue;
		if (r->stop_ns) {
			r->second_signal = true;
			return;
		}
		r->stop_ns = now_ns;
		df_control_stop(r->control, info.ssi_signo == SIGINT ? "interrupted" : "asked to stop", now_ns);
		df_wire_notice(&r->wire, r->heritage.epoch, DF_STATE_DRAIN);
	}
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

static void show(struct run *r, uint64_t now_ns)
{
	char states[72];
	struct df_control_stats stats = df_control_stats(r->control);
	if (r->options->quiet || now_ns < r->progress.next_ns)
		return;
	df_supervisor_states(r->supervisor, states, sizeof(states));
	df_progress_tick(&r->progress, &stats, states, now_ns);
}

static enum df_err loop(struct run *r, struct df_fail *fail)
{
	while (df_control_outcome(r->control) == DF_OUTCOME_RUNNING && !r->second_signal) {
		struct df_wait w[] = {
			{.socket = r->wire.control},
			{.socket = r->wire.bulk},
			{.fd = df_queue_fd(r->events)},
			{.fd = r->signal_fd},
		};
		enum df_err err = df_wait(w, 4, df_control_wants_tick(r->control) ? 1 : 100);
		if (err != DF_OK)
			return df_fail(fail, err, "waiting for messages failed: %s", df_err_name(err));
		uint64_t now = df_clock_mono(&df_clock_real);
		if (w[3].ready) {
			take_signals(r, now);
			take_deaths(r, now);
		}
		take_events(r, now);
		take_messages(r, r->wire.control, now);
		take_messages(r, r->wire.bulk, now);
		df_control_tick(r->control, now);
		/* control gave the sink the order to finish; a sink that cannot write (nobody reads stdout) must not hold us for ever */
		if (r->stop_ns && now > r->stop_ns + 2 * GRACE_NS)
			r->second_signal = true;
		if (now >= r->next_notice_ns) {
			df_wire_notice(&r->wire, r->heritage.epoch, DF_STATE_RUN);
			r->next_notice_ns = now + DF_HELLO_MS * DF_MS;
		}
		show(r, now);
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ the end */

static void end_children(struct run *r)
{
	if (r->supervisor)
		df_supervisor_end_all(r->supervisor, 2000);
}

static int tell(struct run *r, enum df_err err, const struct df_fail *fail)
{
	enum df_outcome outcome = r->control ? df_control_outcome(r->control) : DF_OUTCOME_FAILED;
	const struct df_fail *why = outcome == DF_OUTCOME_FAILED && r->control ? df_control_fail(r->control) : fail;
	if (err != DF_OK)
		why = fail;
	else if (r->second_signal)
		outcome = DF_OUTCOME_STOPPED;
	struct df_report report = {
		.options = r->options,
		.dataset = &r->dataset,
		.grid = &r->grid,
		.outputs = &r->outputs,
		.totals = r->sink ? df_sink_totals(df_sink_thread_sink(r->sink)) : NULL,
		.outcome = err != DF_OK ? DF_OUTCOME_FAILED : outcome,
		.fail = why,
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
	df_outputs_close(&r->outputs);
	df_grid_release(&r->grid);
	df_dataset_release(&r->dataset);
	if (r->signal_fd >= 0)
		(void)close(r->signal_fd);
}

/* Signals become a descriptor, in this thread and all that it starts. */
static enum df_err block_signals(struct run *r, struct df_fail *fail)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGUSR1);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return r->signal_fd < 0 ? df_fail_errno(fail, "cannot watch for signals") : DF_OK;
}

/* libzmq ends the process when accept() or an eventfd finds no descriptor: make sure of them before it is asked. */
static enum df_err provide_descriptors(const struct df_run_options *o, struct df_fail *fail)
{
	struct rlimit limit;
	rlim_t need = DESCRIPTORS_OWN + ((rlim_t)o->jobs + READERS_MAX) * DESCRIPTORS_PER_CHILD;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need)
		return DF_OK;
	limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
	if (limit.rlim_cur < need || setrlimit(RLIMIT_NOFILE, &limit) != 0)
		return df_fail(fail, DF_ERR_LIMIT,
			       "%lld workers need %llu open files, and the limit is %llu: raise it (ulimit -n) or use "
			       "fewer (-j)",
			       (long long)o->jobs, (unsigned long long)need, (unsigned long long)limit.rlim_max);
	return DF_OK;
}

static enum df_err prepare(struct run *r, struct df_fail *fail)
{
	DF_TRY(block_signals(r, fail));
	DF_TRY(provide_descriptors(r->options, fail));
	DF_TRY(plan(r, fail));
	DF_TRY(df_outputs_open(&r->outputs, r->options, &r->dataset, fail));
	return recover(r, fail);
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
	df_wire_remove_dir(&r->wire);
	_exit(err == DF_OK ? DF_EXIT_STOPPED : DF_EXIT_FATAL);
}

int df_coordinator_run(const struct df_run_options *options)
{
	struct df_fail fail = {0};
	uint64_t now = df_clock_mono(&df_clock_real);
	struct run r = {.options = options, .signal_fd = -1, .start_ns = now};
	(void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
	bool terminal = isatty(STDERR_FILENO) == 1;
	bool bar = options->bar == DF_BAR_ALWAYS ||
		   (options->bar == DF_BAR_AUTO && terminal && options->log_format == DF_LOG_TEXT);
	df_progress_init(&r.progress, bar, options->quiet, bar && !getenv("NO_COLOR"), now);
	enum df_err err = prepare(&r, &fail);
	if (err == DF_OK && r.outputs.recovered.finished) {
		df_progress_end(&r.progress);
		int code = df_report_finished(&r.outputs);
		release(&r);
		return code;
	}
	if (err == DF_OK)
		err = announce(&r, &fail);
	if (err == DF_OK)
		err = start(&r, &fail);
	if (err == DF_OK) {
		df_control_start(r.control, now);
		err = loop(&r, &fail);
	}
	df_progress_end(&r.progress);
	end_children(&r);
	if (r.sink && !df_sink_thread_join(r.sink, r.second_signal ? SINK_GRACE_MS / 5 : SINK_GRACE_MS))
		leave_at_once(&r, err, &fail);
	int code = tell(&r, err, &fail);
	release(&r);
	return code;
}
