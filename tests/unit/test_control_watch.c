// SPDX-License-Identifier: Apache-2.0
/*
 * Control watches processes: deadlines, stopped and silent ones, memory, starts that fail, a run in which nothing moves.
 * Traps tried here: a deadline's kill is a strike only when the slot is at its reaping as it was when the process was condemned; a stranger's
 * kill and a stopped process are nobody's strike; a coordinator that stood still condemns nobody.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/children/supervise.h"
#include "tests/unit/help_control.h"

#define DEADLINE (3 * DF_SEC)
#define STEP (100 * DF_MS)
#define MB UINT64_C(1048576)

static struct bench *with_deadline(uint32_t n_worker)
{
	struct bench *b = bench_set_up_with(10, n_worker, &(struct df_control_config){.doc_timeout_ns = DEADLINE});
	for (uint32_t i = 0; i < n_worker; i++)
		bench_hello(b, b->spawned[i]);
	return b;
}

/* The lane's worker begins a batch now, of its lease `at`. */
static void begin(struct bench *b, size_t at, bool alone)
{
	struct df_look *l = bench_look(b, b->sent[at].lane);
	*l = (struct df_look){.computing = true,
			      .alone = alone,
			      .seq = l->seq + 2,
			      .since_ns = b->now_ns,
			      .alive = l->alive,
			      .lease = b->sent[at].lease,
			      .record = {0, 123},
			      .n_record = alone ? 1 : 40};
}

/* What the slot says at the reaping, when nothing has changed since. */
static struct df_blame blame_of(struct bench *b, uint64_t lane)
{
	const struct df_look *l = bench_look(b, lane);
	return (struct df_blame){.cause = DF_CAUSE_STRANGER,
				 .detail = SIGKILL,
				 .stage = l->stage,
				 .computing = l->computing,
				 .alone = l->alone,
				 .seq = l->seq,
				 .since_ns = l->since_ns,
				 .lease = l->lease,
				 .record = l->record};
}

/* ------------------------------------------------------------------ deadlines */

static void test_watch__a_document_that_computes_past_the_deadline_ends_its_worker_and_no_other(void **state)
{
	struct bench *b = with_deadline(2);
	(void)state;
	begin(b, 0, false);
	bench_pass(b, DEADLINE - STEP, STEP, 0);
	assert_int_equal(b->n_killed, 0);
	bench_pass(b, 3 * STEP, STEP, 0);
	assert_int_equal(b->n_killed, 1); /* once, though it is still there */
	assert_int_equal(b->killed[0], b->sent[0].lane);
	assert_int_equal(df_control_stats(b->c).deadline_kills, 1);
	bench_tear_down(b);
}

static void test_watch__signs_of_progress_keep_a_long_document_alive(void **state)
{
	struct bench *b = with_deadline(1);
	(void)state;
	begin(b, 0, false);
	for (int i = 0; i < 20; i++) {
		bench_pass(b, DEADLINE - 2 * STEP, STEP, 0);
		bench_look(b, b->sent[0].lane)->since_ns = b->now_ns;
	}
	assert_int_equal(b->n_killed, 0);
	bench_tear_down(b);
}

/* A reader of stdout pauses for an hour: what waits for it is no document's fault. */
static void test_watch__work_that_waits_for_the_sink_has_no_deadline(void **state)
{
	struct bench *b = with_deadline(1);
	(void)state;
	begin(b, 0, false);
	b->output_waits = true;
	bench_look(b, b->sent[0].lane)->since_ns = DF_SLOT_WAITS;
	bench_pass(b, 3600 * DF_SEC, DF_SEC, 0);
	assert_int_equal(b->n_killed, 0);
	bench_look(b, b->sent[0].lane)->since_ns = b->now_ns;
	bench_pass(b, DEADLINE - STEP, STEP, 0);
	assert_int_equal(b->n_killed, 0);
	bench_pass(b, 3 * STEP, STEP, 0);
	assert_int_equal(b->n_killed, 1);
	bench_tear_down(b);
}

static void test_watch__without_a_deadline_a_document_may_compute_for_ever(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	begin(b, 0, false);
	bench_pass(b, 2 * 3600 * DF_SEC, DF_SEC, 0);
	assert_int_equal(b->n_killed, 0);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_tear_down(b);
}

/* One document hangs: its batch makes suspects, then it is alone, three times, and rejected. */
static void test_watch__three_deadlines_alone_make_a_document_poison(void **state)
{
	struct bench *b = with_deadline(1);
	(void)state;
	for (int death = 0; death < 4; death++) {
		uint64_t lane = bench_newest(b);
		bench_hello(b, lane);
		size_t at = death == 0 ? 0 : b->n_sent - 1;
		assert_int_equal((b->sent[at].flags & DF_LEASE_ALONE) != 0, death > 0);
		begin(b, at, death > 0);
		bench_pass(b, DEADLINE + 2 * STEP, STEP, 0);
		assert_int_equal(b->killed[b->n_killed - 1], lane);
		bench_die(b, lane, SIGKILL, blame_of(b, lane));
		bench_fenced(b, lane);
		const struct df_order *told = bench_last_order(b, DF_ORDER_STRIKE);
		assert_int_equal(told ? told->strike.n : 0, death);
		if (told) {
			assert_int_equal(told->strike.cause, DF_CAUSE_DEADLINE);
			assert_int_equal(told->strike.detail, DEADLINE / DF_MS);
			assert_int_equal(told->strike.record.offset, 123);
		}
	}
	assert_int_equal(df_control_stats(b->c).poisoned, 1);
	bench_hello(b, bench_newest(b));
	assert_int_equal(b->sent[b->n_sent - 1].n_poison, 1);
	bench_tear_down(b);
}

/* Trap 10. The kill is on its way when the document ends by itself; the next one in the slot is not to blame either. */
static void test_watch__a_document_that_ends_between_look_and_kill_gets_no_strike(void **state)
{
	(void)state;
	for (int changed = 0; changed < 3; changed++) {
		struct bench *b = with_deadline(1);
		uint64_t lane = b->spawned[0];
		begin(b, 0, false);
		bench_die(b, lane, SIGKILL, blame_of(b, lane)); /* a stranger's: makes suspects */
		bench_fenced(b, lane);
		lane = bench_newest(b);
		bench_hello(b, lane);
		begin(b, b->n_sent - 1, true);
		bench_pass(b, DEADLINE + 2 * STEP, STEP, 0);
		struct df_blame blame = blame_of(b, lane);
		if (changed == 0)
			blame.seq += 2;
		else if (changed == 1)
			blame.since_ns += 1;
		else
			blame.computing = false;
		bench_die(b, lane, SIGKILL, blame);
		bench_fenced(b, lane);
		assert_null(bench_last_order(b, DF_ORDER_STRIKE));
		assert_int_equal(df_control_stats(b->c).strikes, 0);
		bench_tear_down(b);
	}
}

static void test_watch__a_crash_that_comes_before_the_kill_is_that_crash(void **state)
{
	struct bench *b = with_deadline(1);
	uint64_t lane = b->spawned[0];
	(void)state;
	begin(b, 0, false);
	bench_die(b, lane, SIGKILL, blame_of(b, lane));
	bench_fenced(b, lane);
	lane = bench_newest(b);
	bench_hello(b, lane);
	begin(b, b->n_sent - 1, true);
	bench_pass(b, DEADLINE + 2 * STEP, STEP, 0);
	struct df_blame blame = blame_of(b, lane);
	blame.cause = DF_CAUSE_SIGNAL;
	blame.detail = SIGSEGV;
	bench_die(b, lane, SIGSEGV, blame);
	bench_fenced(b, lane);
	assert_int_equal(bench_last_order(b, DF_ORDER_STRIKE)->strike.cause, DF_CAUSE_SIGNAL);
	assert_int_equal(bench_last_order(b, DF_ORDER_STRIKE)->strike.detail, SIGSEGV);
	bench_tear_down(b);
}

static void test_watch__time_in_which_the_coordinator_stood_still_is_no_documents_time(void **state)
{
	struct bench *b = with_deadline(2);
	(void)state;
	begin(b, 0, false);
	bench_pass(b, DF_SEC, STEP, 0);
	b->now_ns += 3600 * DF_SEC; /* Ctrl-Z, lunch, fg */
	df_control_tick(b->c, b->now_ns);
	bench_pass(b, DF_SEC, STEP, 0);
	assert_int_equal(b->n_killed, 0);
	bench_pass(b, DEADLINE, STEP, 0);
	assert_int_equal(b->n_killed, 1);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ stopped */

static void test_watch__a_worker_that_is_stopped_in_a_document_is_replaced_and_nobody_blamed(void **state)
{
	struct bench *b = with_deadline(2);
	uint64_t lane = b->sent[0].lane;
	(void)state;
	begin(b, 0, true);
	bench_look(b, lane)->stopped = true;
	bench_pass(b, DEADLINE + 2 * STEP, STEP, lane);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], lane);
	assert_int_equal(df_control_stats(b->c).deadline_kills, 0);
	bench_die(b, lane, SIGKILL, blame_of(b, lane));
	bench_fenced(b, lane);
	assert_null(bench_last_order(b, DF_ORDER_STRIKE));
	bench_tear_down(b);
}

static void test_watch__a_worker_that_is_stopped_between_documents_is_found_by_its_link_thread(void **state)
{
	struct bench *b = with_deadline(2);
	uint64_t lane = b->spawned[1];
	(void)state;
	bench_pass(b, DF_SEC, STEP, 0);
	bench_look(b, lane)->stopped = true;
	bench_pass(b, DEADLINE - STEP, STEP, lane);
	assert_int_equal(b->n_killed, 0);
	bench_pass(b, 4 * STEP, STEP, lane);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], lane);
	bench_tear_down(b);
}

static void test_watch__a_link_thread_that_is_merely_slow_has_the_time_of_silence(void **state)
{
	struct bench *b = with_deadline(2);
	uint64_t lane = b->spawned[1];
	(void)state;
	bench_pass(b, DF_SILENT_MS * DF_MS - DF_SEC, STEP, lane);
	assert_int_equal(b->n_killed, 0);
	bench_pass(b, 2 * DF_SEC, STEP, lane);
	assert_int_equal(b->n_killed, 1);
	bench_tear_down(b);
}

/* It waits in the kernel for a disk: not even SIGKILL ends it. */
static void test_watch__a_killed_process_that_does_not_go_is_left_behind(void **state)
{
	struct bench *b = with_deadline(2);
	uint64_t lane = b->sent[0].lane;
	(void)state;
	begin(b, 0, false);
	bench_pass(b, DEADLINE + 2 * STEP, STEP, 0);
	assert_int_equal(b->n_killed, 1);
	bench_pass(b, (DF_REAP_MS - 1000) * DF_MS, STEP, 0);
	assert_int_equal(b->n_closed, 0);
	bench_pass(b, 2 * DF_SEC, STEP, 0);
	assert_int_equal(b->n_closed, 1);
	bench_fenced(b, lane);
	assert_int_equal(b->n_spawned, 3);
	bench_die(b, lane, SIGKILL, blame_of(b, lane)); /* years later */
	assert_int_equal(df_control_stats(b->c).deaths, 1);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ memory */

static struct bench *with_memory(void)
{
	struct bench *b =
		bench_set_up_with(10, 3, &(struct df_control_config){.mem_limit = 416 * MB, .mem_share = 100 * MB});
	for (size_t i = 0; i < 3; i++)
		bench_hello(b, b->spawned[i]);
	b->look[0].memory_bytes = 40 * MB;
	return b;
}

static void test_watch__above_the_limit_the_largest_worker_above_its_share_is_ended(void **state)
{
	struct bench *b = with_memory();
	(void)state;
	bench_look(b, b->spawned[0])->memory_bytes = 85 * MB;
	bench_look(b, b->spawned[1])->memory_bytes = 150 * MB;
	bench_look(b, b->spawned[2])->memory_bytes = 110 * MB;
	bench_pass(b, DF_SEC, STEP, 0);
	assert_int_equal(b->n_killed, 0); /* 385 MB: above its share is allowed while there is room */
	bench_look(b, b->spawned[2])->memory_bytes = 116 * MB;
	bench_pass(b, DF_SEC, STEP, 0);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], b->spawned[1]);
	assert_int_equal(df_control_stats(b->c).memory_kills, 1);
	assert_int_equal(df_control_stats(b->c).memory_bytes, 391 * MB);
	bench_tear_down(b);
}

static void test_watch__under_pressure_it_looks_more_often(void **state)
{
	struct bench *b = with_memory();
	(void)state;
	bench_pass(b, DF_SEC, STEP, 0);
	assert_int_equal(df_control_wait_ms(b->c, b->now_ns), DF_WATCH_MS);
	bench_look(b, b->spawned[1])->memory_bytes = 250 * MB;
	bench_pass(b, STEP, STEP, 0);
	assert_int_equal(df_control_wait_ms(b->c, b->now_ns), DF_WATCH_HOT_MS);
	bench_tear_down(b);
}

static void test_watch__nobody_is_ended_when_nobody_is_above_its_share(void **state)
{
	struct bench *b = with_memory();
	(void)state;
	b->look[0].memory_bytes = 900 * MB;
	bench_pass(b, DF_SEC, STEP, 0);
	assert_int_equal(b->n_killed, 0);
	bench_tear_down(b);
}

static void test_watch__a_document_that_takes_all_memory_alone_is_struck_for_it(void **state)
{
	struct bench *b = with_memory();
	uint64_t lane = b->spawned[0];
	(void)state;
	begin(b, 0, false);
	bench_die(b, lane, SIGKILL, blame_of(b, lane));
	bench_fenced(b, lane);
	lane = bench_newest(b);
	bench_hello(b, lane);
	begin(b, b->n_sent - 1, true);
	bench_look(b, lane)->memory_bytes = 700 * MB;
	bench_pass(b, 2 * STEP, STEP, 0);
	assert_int_equal(b->n_killed, 1);
	struct df_blame blame = blame_of(b, lane);
	blame.since_ns += 5; /* a sign of progress in between changes nothing: it is the same document */
	bench_die(b, lane, SIGKILL, blame);
	bench_fenced(b, lane);
	const struct df_strike *s = &bench_last_order(b, DF_ORDER_STRIKE)->strike;
	assert_int_equal(s->cause, DF_CAUSE_MEMORY);
	assert_int_equal(s->detail, 700);
	bench_tear_down(b);
}

/* Reading the same cells takes all memory, each time: no document can be named, and no endless round of kills may follow. */
static void test_watch__memory_that_is_taken_outside_of_documents_ends_the_run(void **state)
{
	struct bench *b = with_memory();
	(void)state;
	int deaths = 0;
	for (; deaths < 60 && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; deaths++) {
		uint64_t lane = bench_newest(b);
		bench_hello(b, lane);
		bench_look(b, lane)->memory_bytes = 700 * MB;
		bench_pass(b, 2 * STEP, STEP, 0);
		assert_int_equal(b->killed[b->n_killed - 1], lane);
		bench_die(b, lane, SIGKILL, blame_of(b, lane));
		bench_look(b, lane)->memory_bytes = 0;
		bench_fenced(b, lane);
		assert_null(bench_last_order(b, DF_ORDER_STRIKE));
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_CHILD);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ starting */

static void test_watch__a_start_that_fails_is_tried_again_later_and_later(void **state)
{
	struct bench *b = bench_set_up(10, 2);
	uint64_t lane = b->spawned[0];
	(void)state;
	bench_hello(b, b->spawned[1]);
	b->n_spawn_fail = 3;
	bench_die(b, lane, SIGKILL, (struct df_blame){0});
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = lane});
	for (int i = 0; i < 60 && b->n_spawned == 2; i++) { /* each failure is fenced like a death */
		uint64_t fenced = bench_last_order(b, DF_ORDER_FENCE)->lane;
		bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = fenced});
		b->now_ns += 5 * DF_MS;
		df_control_tick(b->c, b->now_ns);
	}
	assert_int_equal(b->n_spawn_fail, 0);
	assert_int_equal(b->n_spawned, 3);
	assert_in_range(b->now_ns, 3 * DF_SPAWN_BACKOFF_MS * DF_MS, DF_SEC);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_tear_down(b);
}

static void test_watch__when_no_worker_lives_and_none_can_be_started_the_run_ends_with_the_reason(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	uint64_t lane = b->spawned[0];
	(void)state;
	b->n_spawn_fail = 1000;
	bench_die(b, lane, SIGKILL, (struct df_blame){0});
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = lane});
	for (int i = 0; i < 600 && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; i++) {
		uint64_t fenced = bench_last_order(b, DF_ORDER_FENCE)->lane;
		bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = fenced});
		b->now_ns += 5 * DF_MS;
		df_control_tick(b->c, b->now_ns);
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(1000 - b->n_spawn_fail, DF_SPAWN_FAILURES_MAX);
	assert_non_null(strstr(df_control_fail(b->c)->msg, "no process to be had"));
	bench_tear_down(b);
}

/* All at once, at the start, again and again: nothing but a stranger's whim, until nothing has moved for long. */
static void test_watch__workers_that_strangers_kill_at_their_start_end_the_run_only_after_a_while(void **state)
{
	struct bench *b = bench_set_up(10, 3);
	(void)state;
	int rounds = 0;
	for (; rounds < 100 && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; rounds++) {
		uint64_t lane[3] = {b->spawned[b->n_spawned - 1], b->spawned[b->n_spawned - 2],
				    b->spawned[b->n_spawned - 3]};
		for (int i = 0; i < 3; i++)
			bench_die(b, lane[i], SIGKILL, (struct df_blame){0});
		size_t before = b->n_spawned;
		for (int i = 0; i < 3; i++)
			bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = lane[i]});
		for (int i = 0; i < 200 && b->n_spawned < before + 3; i++) {
			b->now_ns += 10 * DF_MS;
			df_control_tick(b->c, b->now_ns);
		}
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_true(b->now_ns >= DF_BARREN_MS * DF_MS);
	assert_true(rounds > 4);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ a run in which nothing moves */

static struct bench *with_stall(void)
{
	struct bench *b = bench_set_up_with(
		10, 2, &(struct df_control_config){.stall_ns = 20 * DF_SEC, .doc_timeout_ns = 3600 * DF_SEC});
	bench_hello(b, b->spawned[0]);
	bench_hello(b, b->spawned[1]);
	return b;
}

static void test_watch__a_run_in_which_nothing_moves_stops_and_can_go_on(void **state)
{
	struct bench *b = with_stall();
	(void)state;
	bench_pass(b, 19 * DF_SEC, STEP, 0);
	assert_null(bench_last_order(b, DF_ORDER_FINISH));
	b->n_order = 0;
	for (int i = 0; i < 15; i++)
		df_control_tick(b->c, b->now_ns += STEP);
	assert_int_equal(bench_last_order(b, DF_ORDER_FINISH)->n, 0);
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	bench_tear_down(b);
}

static void test_watch__a_sink_that_does_not_end_either_is_not_waited_for(void **state)
{
	struct bench *b = with_stall();
	(void)state;
	bench_pass(b, 60 * DF_SEC, STEP, 0);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	bench_tear_down(b);
}

static void test_watch__results_and_signs_of_progress_are_movement(void **state)
{
	struct bench *b = with_stall();
	(void)state;
	begin(b, 0, false);
	for (int i = 0; i < 6; i++) {
		bench_pass(b, 15 * DF_SEC, STEP, 0);
		if (i % 2)
			bench_look(b, b->sent[0].lane)->since_ns = b->now_ns;
		else
			bench_event(b, (struct df_event){.type = DF_EVENT_WRITTEN, .cells = {0, 0, 1}});
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	assert_null(bench_last_order(b, DF_ORDER_FINISH));
	bench_tear_down(b);
}

static void test_watch__a_reader_of_stdout_may_pause_for_as_long_as_it_likes(void **state)
{
	struct bench *b = with_stall();
	(void)state;
	b->output_waits = true;
	bench_pass(b, 3600 * DF_SEC, DF_SEC, 0);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	b->output_waits = false;
	bench_pass(b, 60 * DF_SEC, DF_SEC, 0);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	bench_tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watch__a_document_that_computes_past_the_deadline_ends_its_worker_and_no_other),
		cmocka_unit_test(test_watch__signs_of_progress_keep_a_long_document_alive),
		cmocka_unit_test(test_watch__work_that_waits_for_the_sink_has_no_deadline),
		cmocka_unit_test(test_watch__without_a_deadline_a_document_may_compute_for_ever),
		cmocka_unit_test(test_watch__three_deadlines_alone_make_a_document_poison),
		cmocka_unit_test(test_watch__a_document_that_ends_between_look_and_kill_gets_no_strike),
		cmocka_unit_test(test_watch__a_crash_that_comes_before_the_kill_is_that_crash),
		cmocka_unit_test(test_watch__time_in_which_the_coordinator_stood_still_is_no_documents_time),
		cmocka_unit_test(test_watch__a_worker_that_is_stopped_in_a_document_is_replaced_and_nobody_blamed),
		cmocka_unit_test(test_watch__a_worker_that_is_stopped_between_documents_is_found_by_its_link_thread),
		cmocka_unit_test(test_watch__a_link_thread_that_is_merely_slow_has_the_time_of_silence),
		cmocka_unit_test(test_watch__a_killed_process_that_does_not_go_is_left_behind),
		cmocka_unit_test(test_watch__above_the_limit_the_largest_worker_above_its_share_is_ended),
		cmocka_unit_test(test_watch__under_pressure_it_looks_more_often),
		cmocka_unit_test(test_watch__nobody_is_ended_when_nobody_is_above_its_share),
		cmocka_unit_test(test_watch__a_document_that_takes_all_memory_alone_is_struck_for_it),
		cmocka_unit_test(test_watch__memory_that_is_taken_outside_of_documents_ends_the_run),
		cmocka_unit_test(test_watch__a_start_that_fails_is_tried_again_later_and_later),
		cmocka_unit_test(test_watch__when_no_worker_lives_and_none_can_be_started_the_run_ends_with_the_reason),
		cmocka_unit_test(test_watch__workers_that_strangers_kill_at_their_start_end_the_run_only_after_a_while),
		cmocka_unit_test(test_watch__a_run_in_which_nothing_moves_stops_and_can_go_on),
		cmocka_unit_test(test_watch__a_sink_that_does_not_end_either_is_not_waited_for),
		cmocka_unit_test(test_watch__results_and_signs_of_progress_are_movement),
		cmocka_unit_test(test_watch__a_reader_of_stdout_may_pause_for_as_long_as_it_likes),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
