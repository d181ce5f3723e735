// SPDX-License-Identifier: Apache-2.0
/*
 * Work that waits for the network: many small leases at once, spread over lanes, answered in any order; a run that waits for a limit is not a
 * run that stands still; one that has used up its money or its day stops, and one whose key is wrong ends.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch.h"
#include "tests/unit/help_control.h"

#define CELL 16384U

struct spread {
	struct df_grid grid;
	struct df_dispatch *d;
	const struct df_lease *l;
};

static void set_up(struct spread *b, enum df_source_kind kind, uint64_t bytes, uint32_t n_source, uint32_t n_lane)
{
	*b = (struct spread){0};
	assert_int_equal(df_grid_init(&b->grid, CELL), DF_OK);
	for (uint32_t i = 0; i < n_source; i++)
		assert_int_equal(df_grid_add(&b->grid, kind, bytes), DF_OK);
	struct df_dispatch_config config = {.grid = &b->grid,
					    .target_ns = 150 * DF_MS,
					    .lease_bytes_max = DF_LEASE_BYTES_MAX,
					    .credits = DF_LANE_CREDITS_NETWORK,
					    .n_lane_hint = n_lane,
					    .tail_redo = true,
					    .waits = true};
	assert_int_equal(df_dispatch_create(&config, &b->d), DF_OK);
}

static void tear_down(struct spread *b)
{
	df_dispatch_destroy(&b->d);
	df_grid_release(&b->grid);
}

/* As control does: each lane all that it may have. */
static uint64_t feed(struct spread *b, uint64_t lane)
{
	uint64_t n = 0;
	while (df_dispatch_next(b->d, lane, DF_SEC, &b->l) == DF_OK) {
		assert_int_equal(b->l->n_cells, 1);
		assert_in_range(b->l->cells[0].n, 1, DF_NETWORK_CELLS_MAX);
		n += b->l->cells[0].n;
	}
	return n;
}

static void test_spread__two_thousand_documents_of_1_kb_are_out_together_with_two_to_four_workers(void **state)
{
	(void)state;
	for (uint32_t n_lane = 2; n_lane <= 4; n_lane++) {
		struct spread b;
		uint64_t cells = 0, n_cell = (UINT64_C(2000) * 1024 + CELL - 1) / CELL;
		set_up(&b, DF_SOURCE_JSONL, UINT64_C(2000) * 1024, 1, n_lane);
		for (uint32_t i = 1; i <= n_lane; i++) {
			assert_int_equal(df_dispatch_add_lane(b.d, i), DF_OK);
			cells += feed(&b, i);
			assert_in_range(df_dispatch_held(b.d, i), n_cell / n_lane - n_lane, n_cell / n_lane + 1);
		}
		for (uint32_t i = 1; i <= n_lane; i++) /* rounding leaves a few to whoever asks next */
			cells += feed(&b, i);
		assert_int_equal(cells, n_cell);
		tear_down(&b);
	}
}

static void test_spread__a_hundred_small_text_files_go_out_one_by_one(void **state)
{
	struct spread b;
	(void)state;
	set_up(&b, DF_SOURCE_TEXT, 300, 100, 2);
	uint64_t n = 0;
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(df_dispatch_add_lane(b.d, i), DF_OK);
		n += feed(&b, i);
	}
	assert_int_equal(n, 100);
	assert_int_equal(df_dispatch_held(b.d, 1), 50);
	tear_down(&b);
}

static void test_spread__plenty_of_work_goes_in_larger_leases_and_the_tail_in_small_ones(void **state)
{
	struct spread b;
	(void)state;
	set_up(&b, DF_SOURCE_JSONL, UINT64_C(10000) * CELL, 1, 2);
	assert_int_equal(df_dispatch_add_lane(b.d, 1), DF_OK);
	assert_int_equal(df_dispatch_next(b.d, 1, 0, &b.l), DF_OK);
	assert_int_equal(b.l->cells[0].n, DF_NETWORK_CELLS_MAX);
	uint64_t last = 0;
	do {
		last = b.l->cells[0].n;
		df_dispatch_seen(b.d, 1, b.l->id, DF_SEC); /* a cost that says nothing */
	} while (df_dispatch_next(b.d, 1, 0, &b.l) == DF_OK);
	assert_int_equal(last, 1);
	assert_true(df_dispatch_idle(b.d));
	tear_down(&b);
}

static void test_spread__answers_in_any_order_and_after_any_time_make_nothing_late(void **state)
{
	struct spread b;
	uint64_t id[8];
	(void)state;
	set_up(&b, DF_SOURCE_JSONL, UINT64_C(16) * CELL, 1, 2);
	assert_int_equal(df_dispatch_add_lane(b.d, 1), DF_OK);
	assert_int_equal(df_dispatch_add_lane(b.d, 2), DF_OK);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(df_dispatch_next(b.d, 1, 0, &b.l), DF_OK);
		id[i] = b.l->id;
	}
	assert_int_equal(feed(&b, 2), 8);
	for (int i = 7; i >= 1; i--)
		df_dispatch_seen(b.d, 1, id[i], DF_MS);
	/* lease id[0] is an hour old, lane 1 idle but for it: no twin, however late */
	assert_int_equal(df_dispatch_next(b.d, 1, 3600 * DF_SEC, &b.l), DF_ERR_AGAIN);
	for (int i = 0; i < 8; i++)
		df_dispatch_seen(b.d, 2, id[7] + 1 + (uint64_t)i, DF_MS);
	assert_int_equal(df_dispatch_held(b.d, 2), 0);
	assert_int_equal(df_dispatch_next(b.d, 2, 3600 * DF_SEC, &b.l), DF_ERR_AGAIN);
	assert_int_equal(df_dispatch_n_twin(b.d), 0);
	df_dispatch_seen(b.d, 1, id[0], 3600 * DF_SEC);
	assert_true(df_dispatch_idle(b.d));
	tear_down(&b);
}

/* Nothing is known to be left but what a reader will bring, and it is only asked to when its turn has come. */
static void test_spread__with_keep_order_a_reader_behind_a_file_gets_its_turn(void **state)
{
	struct spread b = {0};
	(void)state;
	assert_int_equal(df_grid_init(&b.grid, CELL), DF_OK);
	assert_int_equal(df_grid_add(&b.grid, DF_SOURCE_JSONL, 100), DF_OK);
	assert_int_equal(df_grid_add(&b.grid, DF_SOURCE_READER, 0), DF_OK);
	struct df_dispatch_config config = {.grid = &b.grid,
					    .target_ns = 150 * DF_MS,
					    .lease_bytes_max = DF_LEASE_BYTES_MAX,
					    .credits = DF_LANE_CREDITS_NETWORK,
					    .n_lane_hint = 1,
					    .window_bytes = DF_ORDER_WINDOW_BYTES,
					    .waits = true};
	assert_int_equal(df_dispatch_create(&config, &b.d), DF_OK);
	assert_int_equal(df_dispatch_add_lane(b.d, 1), DF_OK);
	assert_int_equal(feed(&b, 1), 1);
	assert_int_equal(df_dispatch_turn(b.d), 0);
	df_dispatch_seen(b.d, 1, b.l->id, DF_MS);
	assert_int_equal(df_dispatch_next(b.d, 1, DF_SEC, &b.l), DF_ERR_AGAIN);
	assert_int_equal(df_dispatch_turn(b.d), 1);
	tear_down(&b);
}

static void test_spread__what_a_dead_worker_held_goes_to_the_lane_with_least_and_each_cell_once(void **state)
{
	struct spread b;
	struct df_strike strike;
	(void)state;
	set_up(&b, DF_SOURCE_JSONL, UINT64_C(90) * CELL, 1, 3);
	for (uint32_t i = 1; i <= 3; i++) {
		assert_int_equal(df_dispatch_add_lane(b.d, i), DF_OK);
		assert_int_equal(feed(&b, i), 30);
	}
	struct df_blame blame = {.cause = DF_CAUSE_STRANGER, .detail = SIGKILL};
	df_dispatch_lost(b.d, 2, DF_SEC);
	assert_int_equal(df_dispatch_retire(b.d, 2, &blame, &strike), DF_OK);
	uint64_t again = 0, before;
	bool seen[90] = {false};
	do {
		before = again;
		for (uint64_t lane = 1; lane <= 3; lane += 2)
			while (df_dispatch_next(b.d, lane, 2 * DF_SEC, &b.l) == DF_OK) {
				assert_true(b.l->flags & DF_LEASE_REDO);
				for (uint64_t c = 0; c < b.l->cells[0].n; c++, again++) {
					assert_false(seen[b.l->cells[0].first + c]);
					seen[b.l->cells[0].first + c] = true;
				}
			}
	} while (again != before);
	assert_int_equal(again, 30);
	assert_in_range(df_dispatch_held(b.d, 1), 44, 46);
	assert_in_range(df_dispatch_held(b.d, 3), 44, 46);
	tear_down(&b);
}

/* Answers take long, and so would emptying all lanes for one suspect. */
static void test_spread__a_suspect_waits_for_one_lane_and_the_others_go_on(void **state)
{
	struct spread b;
	struct df_strike strike;
	(void)state;
	set_up(&b, DF_SOURCE_JSONL, UINT64_C(1000) * CELL, 1, 3);
	for (uint32_t i = 1; i <= 3; i++)
		assert_int_equal(df_dispatch_add_lane(b.d, i), DF_OK);
	assert_int_equal(df_dispatch_next(b.d, 1, 0, &b.l), DF_OK);
	struct df_blame crash = {
		.cause = DF_CAUSE_SIGNAL, .detail = SIGSEGV, .computing = true, .lease = b.l->id, .record = {0, 0}};
	for (int i = 0; i < 3; i++) {
		assert_int_equal(df_dispatch_next(b.d, 2, 0, &b.l), DF_OK);
		assert_int_equal(df_dispatch_next(b.d, 3, 0, &b.l), DF_OK);
	}
	uint64_t of_three = b.l->id;
	df_dispatch_seen(b.d, 3, of_three, DF_MS); /* lane 3 holds two, lane 2 three */
	assert_int_equal(df_dispatch_retire(b.d, 1, &crash, &strike), DF_OK);
	assert_int_equal(df_dispatch_next(b.d, 3, 0, &b.l), DF_ERR_AGAIN);
	assert_int_equal(df_dispatch_next(b.d, 2, 0, &b.l), DF_OK);
	assert_false(b.l->flags & DF_LEASE_ALONE);
	df_dispatch_seen(b.d, 3, of_three - 2, DF_MS);
	df_dispatch_seen(b.d, 3, of_three - 4, DF_MS);
	assert_int_equal(df_dispatch_held(b.d, 3), 0);
	assert_int_equal(df_dispatch_next(b.d, 3, 0, &b.l), DF_OK);
	assert_true(b.l->flags & DF_LEASE_ALONE);
	tear_down(&b);
}

/* ------------------------------------------------------------------ control */

static struct bench *waiting(uint64_t n_cell, uint32_t n_worker)
{
	struct bench *b = bench_set_up_with(
		n_cell, n_worker,
		&(struct df_control_config){.waits = true, .stall_ns = 60 * DF_SEC, .doc_timeout_ns = 5 * DF_SEC});
	for (uint32_t i = 0; i < n_worker; i++)
		bench_hello(b, b->spawned[i]);
	return b;
}

/* Whether the run gives up within this time (the bench forgets orders with each step). */
static bool gives_up(struct bench *b, uint64_t ns)
{
	for (uint64_t end = b->now_ns + ns; b->now_ns < end;) {
		bench_pass(b, DF_SEC, DF_SEC, 0);
		if (bench_last_order(b, DF_ORDER_FINISH))
			return true;
	}
	return false;
}

static void failed(struct bench *b, const struct sent *s, enum df_err err, const char *why)
{
	bench_event(b, (struct df_event){.type = DF_EVENT_FAILED,
					 .lane = s->lane,
					 .lease = s->lease,
					 .err = err,
					 .message = strdup(why)});
}

static void test_waits__a_limit_of_one_a_minute_is_no_standstill_as_long_as_a_worker_says_so(void **state)
{
	struct bench *b = waiting(10, 1);
	struct df_look *l = bench_look(b, b->spawned[0]);
	(void)state;
	l->calls_out = 20;
	l->calls_due_ns = 3600 * DF_SEC;
	assert_false(gives_up(b, 3600 * DF_SEC));
	assert_int_equal(b->n_killed, 0);
	assert_true(gives_up(b, 70 * DF_SEC)); /* the time has come, and nothing came of it */
	bench_tear_down(b);
}

static void test_waits__calls_that_neither_move_nor_have_a_time_are_a_standstill(void **state)
{
	struct bench *b = waiting(10, 1);
	struct df_look *l = bench_look(b, b->spawned[0]);
	(void)state;
	l->calls_out = 20;
	for (int i = 0; i < 4; i++) { /* each that moves counts */
		l->calls_moved++;
		assert_false(gives_up(b, 50 * DF_SEC));
	}
	assert_true(gives_up(b, 15 * DF_SEC));
	bench_tear_down(b);
}

static void test_waits__a_budget_that_is_used_up_stops_the_run_and_names_the_first_reason(void **state)
{
	struct bench *b = waiting(200, 2);
	(void)state;
	size_t n = b->n_sent;
	failed(b, &b->sent[0], DF_ERR_QUOTA, "stage 'llm' failed: daily limit hit for model \"m\"");
	failed(b, &b->sent[1], DF_ERR_QUOTA, "another");
	assert_int_equal(b->n_sent, n); /* nothing goes out any more, not even to a lane with room */
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	const struct df_fail *quota = df_control_quota(b->c);
	assert_non_null(quota);
	assert_int_equal(quota->code, DF_ERR_QUOTA);
	assert_non_null(strstr(quota->msg, "daily limit hit for model \"m\""));
	for (size_t i = 2; i < n - 1; i++)
		bench_seen(b, &b->sent[i]);
	assert_null(bench_last_order(b, DF_ORDER_FINISH)); /* what is in flight may finish */
	failed(b, &b->sent[n - 1], DF_ERR_INTERRUPTED, "the run stops");
	const struct df_order *finish = bench_last_order(b, DF_ORDER_FINISH);
	assert_non_null(finish);
	assert_int_equal(finish->n, 0);
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	bench_tear_down(b);
}

static void test_waits__a_key_that_is_refused_ends_the_run_at_the_first_lease(void **state)
{
	struct bench *b = waiting(200, 2);
	(void)state;
	failed(b, &b->sent[0], DF_ERR_USAGE, "stage 'llm' failed: the key in OPENAI_API_KEY is refused");
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_USAGE);
	assert_null(df_control_quota(b->c));
	bench_tear_down(b);
}

static void test_waits__a_worker_that_cannot_start_for_good_ends_the_run_with_its_words(void **state)
{
	struct bench *b = waiting(200, 2);
	(void)state;
	struct df_blame blame = {.cause = DF_CAUSE_EXIT, .last_words = "OPENAI_API_KEY is not set"};
	df_control_on_exit(b->c, b->spawned[0], DF_CHILD_EXIT_USAGE, 0, &blame, b->now_ns);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_string_equal(df_control_fail(b->c)->msg, "OPENAI_API_KEY is not set");
	bench_tear_down(b);
}

static void test_waits__calls_given_up_at_a_stop_count_as_no_attempt(void **state)
{
	struct bench *b = waiting(200, 1);
	(void)state;
	df_control_stop(b->c, "asked to stop", b->now_ns);
	for (size_t i = 0; i < 4; i++)
		failed(b, &b->sent[i], DF_ERR_INTERRUPTED, "the run stops");
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	bench_tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spread__two_thousand_documents_of_1_kb_are_out_together_with_two_to_four_workers),
		cmocka_unit_test(test_spread__a_hundred_small_text_files_go_out_one_by_one),
		cmocka_unit_test(test_spread__plenty_of_work_goes_in_larger_leases_and_the_tail_in_small_ones),
		cmocka_unit_test(test_spread__answers_in_any_order_and_after_any_time_make_nothing_late),
		cmocka_unit_test(test_spread__with_keep_order_a_reader_behind_a_file_gets_its_turn),
		cmocka_unit_test(test_spread__what_a_dead_worker_held_goes_to_the_lane_with_least_and_each_cell_once),
		cmocka_unit_test(test_spread__a_suspect_waits_for_one_lane_and_the_others_go_on),
		cmocka_unit_test(test_waits__a_limit_of_one_a_minute_is_no_standstill_as_long_as_a_worker_says_so),
		cmocka_unit_test(test_waits__calls_that_neither_move_nor_have_a_time_are_a_standstill),
		cmocka_unit_test(test_waits__a_budget_that_is_used_up_stops_the_run_and_names_the_first_reason),
		cmocka_unit_test(test_waits__a_key_that_is_refused_ends_the_run_at_the_first_lease),
		cmocka_unit_test(test_waits__a_worker_that_cannot_start_for_good_ends_the_run_with_its_words),
		cmocka_unit_test(test_waits__calls_given_up_at_a_stop_count_as_no_attempt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
