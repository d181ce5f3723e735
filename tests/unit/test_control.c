// SPDX-License-Identifier: Apache-2.0
/*
 * Control: peers come and go, leases flow, and the run ends when it should. (Whole runs under faults: tests/sim/test_spine.c.)
 * Traps tried here: a lane is fenced first and its cells leased again afterwards; a random kill never poisons; what cannot live at all ends
 * the run instead of being started for ever.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "tests/unit/help_control.h"

static void test_control__a_worker_gets_leases_when_it_said_hello(void **state)
{
	struct bench *b = bench_set_up(10, 2);
	(void)state;
	assert_int_equal(b->n_spawned, 2);
	assert_int_equal(b->spawned[0], df_lane_id(3, 1));
	assert_int_equal(b->n_sent, 0);
	bench_hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	bench_hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	assert_int_equal(df_control_stats(b->c).n_ready, 1);
	bench_tear_down(b);
}

static void test_control__strangers_and_other_epochs_are_dropped_and_counted(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	struct df_frames junk = {.header = df_blob_copy("\xc1", 1)};
	(void)state;
	bench_hello_of(b, 2, b->spawned[0]);
	bench_hello(b, 999);
	df_control_on_message(b->c, &junk, 0);
	assert_int_equal(b->n_sent, 0);
	assert_int_equal(df_control_stats(b->c).stale, 3);
	df_blob_unref(&junk.header);
	bench_tear_down(b);
}

static void test_control__a_full_lane_is_tried_again_with_the_same_lease(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	b->lane_full = true;
	bench_hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, 0);
	assert_true(df_control_wants_tick(b->c));
	b->lane_full = false;
	df_control_tick(b->c, 1);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	assert_int_equal(b->sent[0].lease, 1);
	assert_int_equal(b->sent[0].cells.first, 0);
	bench_tear_down(b);
}

static void test_control__a_dead_lanes_cells_are_leased_again_only_behind_the_fence(void **state)
{
	struct bench *b = bench_set_up(2, 2);
	(void)state;
	uint64_t first = b->spawned[0];
	bench_hello(b, first);
	bench_hello(b, b->spawned[1]); /* four cells, all leased */
	assert_int_equal(b->n_sent, 4);
	bench_die(b, first, SIGKILL, (struct df_blame){0});
	assert_int_equal(bench_last_order(b, DF_ORDER_FENCE)->lane, first);
	assert_int_equal(b->n_closed, 1);
	bench_seen(b, &b->sent[2]);
	assert_int_equal(b->n_sent, 4); /* there is credit, but the fence does not stand yet */
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = first});
	assert_int_equal(b->n_sent, 6); /* one of them above its credits */
	assert_int_equal(b->sent[4].lane, b->spawned[1]);
	assert_true(b->sent[4].flags & b->sent[5].flags & DF_LEASE_REDO);
	assert_int_equal(b->n_spawned, 3);
	assert_true(bench_newest(b) != first);
	bench_tear_down(b);
}

static void test_control__a_lease_that_was_never_sent_is_not_lost_with_its_lane(void **state)
{
	struct bench *b = bench_set_up(1, 1);
	(void)state;
	b->lane_full = true;
	bench_hello(b, b->spawned[0]);
	b->lane_full = false;
	bench_die(b, b->spawned[0], SIGKILL, (struct df_blame){0});
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = b->spawned[0]});
	bench_hello(b, bench_newest(b));
	assert_int_equal(b->n_sent, 2); /* one of each file */
	bench_tear_down(b);
}

static void test_control__a_record_that_crashes_alone_three_times_is_poison(void **state)
{
	struct bench *b = bench_set_up(1, 1);
	struct df_blame blame = {.cause = DF_CAUSE_SIGNAL, .computing = true, .record = {0, 123}};
	(void)state;
	for (int death = 0; death < 4; death++) { /* the first one in company */
		bench_hello(b, bench_newest(b));
		const struct sent *s = &b->sent[b->n_sent - 1];
		if (death == 0)
			s--; /* of two leases the first */
		blame.lease = s->lease;
		blame.alone = (s->flags & DF_LEASE_ALONE) != 0;
		assert_int_equal(blame.alone, death > 0);
		const struct df_order *told = bench_last_order(b, DF_ORDER_STRIKE);
		assert_true(told ? told->strike.n == (uint32_t)death - 1 : death <= 1);
		bench_die(b, bench_newest(b), SIGSEGV, blame);
		bench_fenced(b, bench_newest(b));
	}
	assert_int_equal(bench_last_order(b, DF_ORDER_STRIKE)->strike.record.offset, 123);
	bench_hello(b, bench_newest(b));
	assert_int_equal(b->sent[b->n_sent - 1].n_poison, 1);
	assert_int_equal(df_control_stats(b->c).poisoned, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_tear_down(b);
}

static void test_control__workers_that_cannot_live_end_the_run(void **state)
{
	struct bench *b = bench_set_up(10, 2);
	(void)state;
	for (int i = 0; i < 100 && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; i++) {
		uint64_t lane = bench_newest(b);
		df_control_on_exit(b->c, lane, 127, 0, &(struct df_blame){0}, b->now_ns);
		bench_fenced(b, lane);
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_CHILD);
	assert_non_null(strstr(df_control_fail(b->c)->msg, "127"));
	bench_tear_down(b);
}

static void test_control__a_silent_worker_and_one_with_a_gap_are_killed(void **state)
{
	struct bench *b = bench_set_up(10, 2);
	(void)state;
	bench_hello(b, b->spawned[0]);
	bench_hello(b, b->spawned[1]);
	b->now_ns = (DF_SILENT_MS - 1) * DF_MS;
	bench_hello(b, b->spawned[1]);
	df_control_tick(b->c, (DF_SILENT_MS + 1) * DF_MS);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], b->spawned[0]);
	bench_event(b, (struct df_event){.type = DF_EVENT_GAP, .lane = b->spawned[1]});
	assert_int_equal(b->n_killed, 2);
	bench_tear_down(b);
}

/* The process is stopped or frozen, and its workers with it: the first tick afterwards finds all of them silent. */
static void test_control__nobody_is_killed_for_a_time_in_which_the_coordinator_itself_stood_still(void **state)
{
	struct bench *b = bench_set_up(10, 2);
	uint64_t woken_ns = DF_SEC + 5 * DF_SILENT_MS * DF_MS;
	(void)state;
	bench_hello(b, b->spawned[0]);
	bench_hello(b, b->spawned[1]);
	df_control_tick(b->c, DF_SEC);
	df_control_tick(b->c, woken_ns);
	assert_int_equal(b->n_killed, 0);
	b->now_ns = woken_ns + DF_SEC;
	bench_hello(b, b->spawned[1]); /* the other one never comes back, and then it counts again */
	for (uint64_t now_ns = woken_ns; now_ns <= woken_ns + DF_SILENT_MS * DF_MS; now_ns += DF_SEC / 10)
		df_control_tick(b->c, now_ns);
	assert_int_equal(b->n_killed, 0);
	df_control_tick(b->c, woken_ns + (DF_SILENT_MS + DF_WATCH_MS) * DF_MS);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], b->spawned[0]);
	bench_tear_down(b);
}

static size_t n_told(const struct bench *b, uint64_t sent)
{
	size_t n = 0;
	for (size_t i = 0; i < b->n_order; i++)
		n += b->order[i].type == DF_ORDER_HELLO && b->order[i].n == sent;
	return n;
}

/* The sink takes no order while nobody reads stdout, and a worker says HELLO once a second for days. */
static void test_control__hellos_that_tell_nothing_new_do_not_pile_up(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	for (int i = 0; i < 400; i++)
		bench_hello_that(b, 3, b->spawned[0], 5);
	assert_in_range(n_told(b, 5), 2, 20); /* two find a gap */
	bench_hello_that(b, 3, b->spawned[0], 6);
	bench_hello_that(b, 3, b->spawned[0], 6);
	assert_int_equal(n_told(b, 6), 2);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ failures */

static void test_control__a_lease_that_fails_three_times_ends_the_run_with_its_reason(void **state)
{
	struct bench *b = bench_set_up(1, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
		uint64_t lease = i ? b->sent[b->n_sent - 1].lease : b->sent[0].lease;
		bench_event(b, (struct df_event){.type = DF_EVENT_FAILED,
						 .lane = b->spawned[0],
						 .lease = lease,
						 .err = DF_ERR_NOMEM,
						 .source = UINT32_MAX,
						 .message = strdup("no memory for a model")});
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_string_equal(df_control_fail(b->c)->msg, "no memory for a model");
	bench_tear_down(b);
}

static void fail_source_0(struct bench *b, const struct sent *s)
{
	bench_event(b, (struct df_event){.type = DF_EVENT_FAILED,
					 .lane = s->lane,
					 .lease = s->lease,
					 .err = DF_ERR_CHANGED,
					 .source = 0,
					 .message = strdup("'x.jsonl' changed")});
}

static void test_control__the_sink_hears_of_a_failed_source_when_nothing_of_it_can_follow(void **state)
{
	struct bench *b = bench_set_up(4, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, 2);
	fail_source_0(b, &b->sent[0]);
	assert_null(bench_last_order(b, DF_ORDER_SOURCE)); /* the second lease still has a cell of it */
	assert_int_equal(b->sent[2].cells.source, 1);
	bench_seen(b, &b->sent[1]);
	assert_int_equal(bench_last_order(b, DF_ORDER_SOURCE)->source.err, DF_ERR_CHANGED);
	assert_int_equal(df_control_stats(b->c).source_errors, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_tear_down(b);
}

static void test_control__a_failed_source_is_told_once(void **state)
{
	struct bench *b = bench_set_up(4, 1);
	size_t n = 0;
	(void)state;
	bench_hello(b, b->spawned[0]);
	fail_source_0(b, &b->sent[0]);
	fail_source_0(b, &b->sent[1]);
	for (size_t i = 0; i < b->n_order; i++)
		n += b->order[i].type == DF_ORDER_SOURCE;
	assert_int_equal(n, 1);
	bench_tear_down(b);
}

/* ------------------------------------------------------------------ the end */

static void work_all(struct bench *b)
{
	for (size_t i = 0; i < b->n_sent; i++)
		bench_seen(b, &b->sent[i]);
}

static void test_control__it_is_done_when_the_sink_has_finished_and_not_before(void **state)
{
	struct bench *b = bench_set_up(3, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	assert_null(bench_last_order(b, DF_ORDER_FINISH));
	work_all(b);
	assert_int_equal(bench_last_order(b, DF_ORDER_FINISH)->n, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_DONE);
	bench_tear_down(b);
}

static void test_control__an_empty_run_needs_no_worker(void **state)
{
	struct bench *b = bench_set_up(0, 4);
	(void)state;
	assert_int_equal(b->n_spawned, 0);
	assert_int_equal(bench_last_order(b, DF_ORDER_FINISH)->n, 1);
	bench_tear_down(b);
}

static void test_control__a_finish_with_cells_that_were_never_done_is_a_bug(void **state)
{
	struct bench *b = bench_set_up(1, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	for (size_t i = 0; i < b->n_sent; i++)
		bench_event(b, (struct df_event){
				       .type = DF_EVENT_SEEN, .lane = b->sent[i].lane, .lease = b->sent[i].lease});
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_BUG);
	bench_tear_down(b);
}

static void test_control__stopping_waits_for_what_is_out_and_leases_nothing_more(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	df_control_stop(b->c, "asked to stop", 0);
	bench_seen(b, &b->sent[0]);
	assert_int_equal(b->n_sent, 2);
	assert_null(bench_last_order(b, DF_ORDER_FINISH));
	bench_seen(b, &b->sent[1]);
	assert_int_equal(bench_last_order(b, DF_ORDER_FINISH)->n, 0);
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	bench_tear_down(b);
}

static void test_control__stopping_waits_no_longer_than_its_grace(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	bench_hello(b, b->spawned[0]);
	df_control_stop(b->c, "asked to stop", 0);
	df_control_tick(b->c, DF_SEC - 1);
	assert_null(bench_last_order(b, DF_ORDER_FINISH));
	df_control_tick(b->c, DF_SEC);
	assert_int_equal(bench_last_order(b, DF_ORDER_FINISH)->n, 0);
	bench_tear_down(b);
}

static void test_control__a_broken_store_ends_the_run_with_its_words(void **state)
{
	struct bench *b = bench_set_up(10, 1);
	(void)state;
	bench_event(b, (struct df_event){
			       .type = DF_EVENT_FATAL, .err = DF_ERR_NOSPACE, .message = strdup("the disk is full")});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_NOSPACE);
	assert_string_equal(df_control_fail(b->c)->msg, "the disk is full");
	bench_tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control__a_worker_gets_leases_when_it_said_hello),
		cmocka_unit_test(test_control__strangers_and_other_epochs_are_dropped_and_counted),
		cmocka_unit_test(test_control__a_full_lane_is_tried_again_with_the_same_lease),
		cmocka_unit_test(test_control__a_dead_lanes_cells_are_leased_again_only_behind_the_fence),
		cmocka_unit_test(test_control__a_lease_that_was_never_sent_is_not_lost_with_its_lane),
		cmocka_unit_test(test_control__a_record_that_crashes_alone_three_times_is_poison),
		cmocka_unit_test(test_control__workers_that_cannot_live_end_the_run),
		cmocka_unit_test(test_control__a_silent_worker_and_one_with_a_gap_are_killed),
		cmocka_unit_test(test_control__nobody_is_killed_for_a_time_in_which_the_coordinator_itself_stood_still),
		cmocka_unit_test(test_control__hellos_that_tell_nothing_new_do_not_pile_up),
		cmocka_unit_test(test_control__a_lease_that_fails_three_times_ends_the_run_with_its_reason),
		cmocka_unit_test(test_control__the_sink_hears_of_a_failed_source_when_nothing_of_it_can_follow),
		cmocka_unit_test(test_control__a_failed_source_is_told_once),
		cmocka_unit_test(test_control__it_is_done_when_the_sink_has_finished_and_not_before),
		cmocka_unit_test(test_control__an_empty_run_needs_no_worker),
		cmocka_unit_test(test_control__a_finish_with_cells_that_were_never_done_is_a_bug),
		cmocka_unit_test(test_control__stopping_waits_for_what_is_out_and_leases_nothing_more),
		cmocka_unit_test(test_control__stopping_waits_no_longer_than_its_grace),
		cmocka_unit_test(test_control__a_broken_store_ends_the_run_with_its_words),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
