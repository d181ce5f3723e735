// SPDX-License-Identifier: Apache-2.0
/*
 * run: set up, loop, tell.
 *
 * DESIGN. The control thread is this one. Its loop waits for sockets, the sink's events, child deaths and signals, feeds each to
 * the state machine (control.c), and lets nothing else decide. What outlives a crash is in the run directory alone.
 */
#include "coordinator/run.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/human.h"
#include "base/log.h"
#include "coordinator/run_core.h"
#include "coordinator/show/report.h"
#include "coordinator/show/status.h"

#define SINK_GRACE_MS 5000 /* for the sink to come to an end of what it writes, when the run has not ended by itself */
#define SINK_HURRY_MS 1000 /* the same when a second request has come, or the sink has failed */
#define STUCK_NS (60 * DF_SEC) /* a write that takes longer is told, and again each time that long */

/* ------------------------------------------------------------------ the loop */

static void stop(struct df_run *r, const char *reason, uint64_t now_ns)
{
	if (r->stop_ns)
		return;
	r->stop_ns = now_ns;
	df_control_stop(r->control, reason, now_ns);
	df_wire_notice(&r->wire, r->heritage.epoch, DF_STATE_DRAIN);
}

static struct df_error_counts errors(const struct df_run *r)
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

static bool too_many_errors(const struct df_run *r, bool at_end)
{
	if (!r->options->max_errors.n)
		return false;
	struct df_error_counts c = errors(r);
	return df_errors_exceed(r->options, &c, at_end);
}

/* Everything that may end a run early, but for its own failures. */
static void see_whether_to_stop(struct df_run *r, uint64_t now_ns)
{
	uint32_t asked = df_ending_take(&r->ending, now_ns);
	if (asked)
		stop(r, df_ending_reason(&r->ending), now_ns);
	if (df_control_quota(r->control))
		stop(r, "a budget or a limit of the day is used up",
		     now_ns); /* control has begun to: this tells workers */
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

static void take_deaths(struct df_run *r, uint64_t now_ns)
{
	struct df_child_exit gone;
	if (!r->ending.child)
		return;
	r->ending.child = false; /* before the dead are looked for: one that dies meanwhile is told of again */
	while (df_supervisor_reap(r->supervisor, &gone)) {
		df_expenses_died(&r->expenses, gone.lane);
		df_control_on_exit(r->control, gone.lane, gone.exit_code, gone.signal, &gone.blame, now_ns);
	}
}

static void take_events(struct df_run *r, uint64_t now_ns)
{
	struct df_event event;
	while (df_queue_take(r->events, &event))
		df_control_on_event(r->control, &event, now_ns);
}

static enum df_err take_messages(struct df_run *r, struct df_socket *socket, uint64_t now_ns, struct df_fail *fail)
{
	for (int i = 0; i < 256; i++) {
		enum df_err err = df_socket_recv(socket, &r->frames);
		if (err == DF_ERR_AGAIN)
			break;
		if (err == DF_ERR_NOMEM) /* nobody sends it again */
			return df_fail(fail, err, "no memory for a message of a worker or reader");
		if (err == DF_OK)
			df_control_on_message(r->control, &r->frames, now_ns);
		df_frames_release(&r->frames);
	}
	return DF_OK;
}

static struct df_costs costs(const struct df_run *r)
{
	struct df_control_stats s = df_control_stats(r->control);
	uint64_t done = s.tally.bytes_in + r->progress.resumed_bytes;
	return df_expenses_look(&r->expenses, s.bytes_total ? (double)done / (double)s.bytes_total : -1);
}

static void tell_news(struct df_run *r, uint64_t now_ns)
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
		.costs = costs(r),
	};
	df_news_tick(&r->news, &from, r->outputs.dir_fd, now_ns);
}

static void show(struct df_run *r, uint64_t now_ns)
{
	char states[72];
	struct df_control_stats stats = df_control_stats(r->control);
	if (r->options->quiet || now_ns < r->progress.next_ns)
		return;
	df_supervisor_states(r->supervisor, states, sizeof(states));
	r->progress.costs = costs(r);
	struct df_calls calls = df_supervisor_calls(r->supervisor);
	r->progress.calls_sent = calls.sent;
	r->progress.calls_waiting = calls.waiting;
	r->progress.calls_wait = df_calls_wait_word(calls.wait);
	df_progress_tick(&r->progress, &stats, states, now_ns);
}

/* A reader of stdout that goes away is not noticed by a sink that has nothing to write. */
static bool reader_has_gone(const struct df_run *r)
{
	struct pollfd out = {.fd = STDOUT_FILENO};
	return !r->outputs.is_dir && r->outputs.want[DF_OUTPUT_JSONL] && poll(&out, 1, 0) > 0 &&
	       (out.revents & (POLLERR | POLLHUP)) != 0;
}

static void tell_if_stuck(struct df_run *r, uint64_t now_ns)
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
static enum df_err look_around(struct df_run *r, uint64_t now_ns, struct df_fail *fail)
{
	if (now_ns < r->next_look_ns)
		return DF_OK;
	r->next_look_ns = now_ns + 50 * DF_MS;
	atomic_store(&r->life->n_done, df_control_stats(r->control).cells_done);
	tell_if_stuck(r, now_ns);
	if (r->outputs.is_dir && df_rundir_is_gone(&r->outputs.rundir))
		return df_fail(
			fail, DF_ERR_IO,
			"the run directory '%s' was removed while the run wrote to it; what was done is lost, and the "
			"same command begins anew",
			r->outputs.rundir.path);
	return reader_has_gone(r) ? df_fail(fail, DF_ERR_CLOSED, "the reader of stdout has gone") : DF_OK;
}

static enum df_err loop(struct df_run *r, struct df_fail *fail)
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
		take_deaths(r, now);
		take_events(r, now);
		if (df_queue_lost(r->events))
			return df_fail(fail, DF_ERR_NOMEM, "no memory for an event of the sink");
		DF_TRY(take_messages(r, r->wire.control, now, fail));
		DF_TRY(take_messages(r, r->wire.bulk, now, fail));
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

static void end_children(struct df_run *r)
{
	bool calls = r->expenses.purse != NULL; /* whose answers are brought to the cache, and whose money is booked */
	if (!r->supervisor)
		return;
	if (r->at_once)
		df_supervisor_end_all(r->supervisor, calls ? DF_CALLS_HURRY_MS : 0);
	else
		df_supervisor_end_all(r->supervisor, calls ? DF_CALLS_END_MS : 2000);
	df_expenses_all_died(&r->expenses);
}

/* What the sink has taken is committed, so that what run.json counts is what the journal has. False: nobody takes what it writes. */
static bool settle(struct df_run *r, int ms)
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
static enum df_outcome judge(struct df_run *r, enum df_err err, const struct df_map *totals, struct df_fail *fail)
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

static int tell(struct df_run *r, enum df_err err, struct df_fail *fail)
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
		.costs = df_expenses_look(&r->expenses, -1),
		.quota = r->control ? df_control_quota(r->control) : NULL,
	};
	if (r->sink)
		report.sink = df_sink_stats(df_sink_thread_sink(r->sink));
	if (r->control)
		report.control = df_control_stats(r->control);
	if (r->supervisor)
		report.process = df_supervisor_stats(r->supervisor, &report.n_process);
	return df_report(&report);
}

/* run.json says "running" from here on, so that a run that is killed at once is known as what it was. */
static enum df_err announce(struct df_run *r, struct df_fail *fail)
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
static _Noreturn void leave_at_once(struct df_run *r, enum df_err err, const struct df_fail *fail)
{
	struct df_fail too_many;
	if (df_control_outcome(r->control) == DF_OUTCOME_FAILED) {
		err = (fail = df_control_fail(r->control))->code;
	} else if (r->too_many_errors) {
		struct df_error_counts c = errors(r);
		err = df_errors_tell(r->options, &c, NULL, &too_many);
		fail = &too_many;
	}
	if (err != DF_OK)
		df_error("%s", fail->msg);
	df_warn("stopped in the middle of writing: nobody takes the output");
	df_progress_end(&r->progress);
	df_wire_remove_dir(&r->wire);
	_exit(err == DF_OK ? DF_EXIT_STOPPED : DF_EXIT_FATAL);
}

static enum df_err work(struct df_run *r, struct df_fail *fail)
{
	DF_TRY(announce(r, fail));
	DF_TRY(df_run_start(r, fail));
	r->too_many_errors = r->at_once = too_many_errors(r, false);
	if (!r->at_once)
		df_control_start(r->control, df_clock_mono(&df_clock_real));
	return loop(r, fail);
}

int df_coordinator_run(const struct df_run_options *options, struct df_life *life)
{
	struct df_fail fail = {0};
	struct df_run r = {.options = options,
			   .life = life,
			   .ending = {.signal_fd = -1},
			   .expenses = {.trace_fd = -1},
			   .start_ns = df_clock_mono(&df_clock_real)};
	(void)mallopt(M_MMAP_THRESHOLD, 8 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
	bool terminal = isatty(STDERR_FILENO) == 1;
	bool bar = options->bar == DF_BAR_ALWAYS ||
		   (options->bar == DF_BAR_AUTO && terminal && options->log_format == DF_LOG_TEXT);
	atomic_store(&life->bar, bar && !options->quiet);
	df_progress_init(&r.progress, bar, options->quiet, bar && !getenv("NO_COLOR"), r.start_ns);
	enum df_err err = df_run_prepare(&r, &fail);
	if (err == DF_OK && r.outputs.recovered.finished) {
		df_progress_end(&r.progress);
		int code = df_report_finished(&r.outputs, options);
		df_spool_close(&r.spool, code == DF_EXIT_OK || code == DF_EXIT_REJECTS);
		df_run_release(&r);
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
	df_run_release(&r);
	return code;
}
