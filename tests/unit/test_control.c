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
#include "coordinator/control.h"

#define N_KEPT 512

struct sent {
	uint64_t lane, lease;
	uint32_t flags, n_poison;
	struct df_cells cells; /* of the first segment */
};

struct bench {
	struct df_grid grid;
	struct df_source source[2];
	struct df_dataset dataset;
	struct df_control *c;
	struct sent sent[N_KEPT];
	struct df_order order[N_KEPT];
	uint64_t spawned[N_KEPT], killed[N_KEPT];
	size_t n_sent, n_order, n_spawned, n_killed, n_closed;
	bool lane_full;
	uint64_t now_ns;
};

static enum df_err keep_sent(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			     size_t n)
{
	struct bench *b = self;
	(void)payload;
	(void)n;
	if (b->lane_full)
		return DF_ERR_AGAIN;
	const struct df_lease_msg *l = &msg->lease_msg;
	assert_true(b->n_sent < N_KEPT && msg->type == DF_MSG_LEASE);
	b->sent[b->n_sent++] = (struct sent){lane, msg->lease, l->flags, (uint32_t)l->n_poison, l->segment[0].cells};
	return DF_OK;
}

static void keep_order(void *self, const struct df_order *order)
{
	struct bench *b = self;
	free((char *)(uintptr_t)order->source.message.p);
	assert_true(b->n_order < N_KEPT);
	b->order[b->n_order] = *order;
	b->order[b->n_order++].source.message.p = NULL;
}

static enum df_err keep_spawn(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	struct bench *b = self;
	(void)role;
	(void)fail;
	assert_true(b->n_spawned < N_KEPT);
	b->spawned[b->n_spawned++] = lane;
	return DF_OK;
}

static void keep_kill(void *self, uint64_t lane, int sig)
{
	struct bench *b = self;
	assert_int_equal(sig, SIGKILL);
	assert_true(b->n_killed < N_KEPT);
	b->killed[b->n_killed++] = lane;
}

static void keep_close(void *self, uint64_t lane)
{
	struct bench *b = self;
	(void)lane;
	b->n_closed++;
}

/* Two files of n_cell cells each. */
static struct bench *set_up(uint64_t n_cell, uint32_t n_worker)
{
	static const struct df_recovered nothing;
	struct bench *b = calloc(1, sizeof(*b));
	assert_int_equal(df_grid_init(&b->grid, 1000), DF_OK);
	for (uint32_t i = 0; i < 2; i++) {
		b->source[i] = (struct df_source){.path = "x.jsonl", .name = "x.jsonl"};
		assert_int_equal(df_grid_add(&b->grid, DF_SOURCE_JSONL, n_cell * 1000), DF_OK);
	}
	b->dataset = (struct df_dataset){.source = b->source, .n_source = 2};
	struct df_control_config config = {.dataset = &b->dataset,
					   .grid = &b->grid,
					   .effects = {keep_sent, keep_order, keep_spawn, keep_kill, keep_close, b},
					   .epoch = 3,
					   .n_worker = n_worker,
					   .n_reader_max = 1,
					   .limit = UINT64_MAX,
					   .grace_ns = DF_SEC};
	assert_int_equal(df_control_create(&config, &nothing, &b->c), DF_OK);
	df_control_start(b->c, 0);
	return b;
}

static void tear_down(struct bench *b)
{
	df_control_destroy(&b->c);
	df_grid_release(&b->grid);
	free(b);
}

static void hello_that(struct bench *b, uint32_t epoch, uint64_t lane, uint64_t sent)
{
	struct df_buf buf;
	struct df_msg msg = {.type = DF_MSG_HELLO, .epoch = epoch, .lane = lane, .hello = {.sent = sent}};
	df_buf_init(&buf, 4096);
	assert_int_equal(df_msg_pack(&msg, &buf), DF_OK);
	struct df_frames frames = {.header = df_blob_copy(buf.p, buf.n)};
	df_control_on_message(b->c, &frames, b->now_ns);
	df_blob_unref(&frames.header);
	df_buf_release(&buf);
}

static void hello_of(struct bench *b, uint32_t epoch, uint64_t lane)
{
	hello_that(b, epoch, lane, 0);
}

static void hello(struct bench *b, uint64_t lane)
{
	hello_of(b, 3, lane);
}

static void event(struct bench *b, struct df_event e)
{
	df_control_on_event(b->c, &e, b->now_ns);
}

static void seen(struct bench *b, const struct sent *s)
{
	struct df_cells cells = s->cells;
	event(b,
	      (struct df_event){.type = DF_EVENT_SEEN, .lane = s->lane, .lease = s->lease, .busy_ns = 1000 * DF_SEC});
	event(b, (struct df_event){.type = DF_EVENT_DONE, .cells = cells});
}

static void die(struct bench *b, uint64_t lane, int sig, struct df_blame blame)
{
	df_control_on_exit(b->c, lane, 0, sig, &blame, b->now_ns);
}

static const struct df_order *last_order(const struct bench *b, enum df_order_type type)
{
	for (size_t i = b->n_order; i-- > 0;)
		if (b->order[i].type == type)
			return &b->order[i];
	return NULL;
}

static uint64_t newest(const struct bench *b)
{
	return b->spawned[b->n_spawned - 1];
}

static void test_control__a_worker_gets_leases_when_it_said_hello(void **state)
{
	struct bench *b = set_up(10, 2);
	(void)state;
	assert_int_equal(b->n_spawned, 2);
	assert_int_equal(b->spawned[0], df_lane_id(3, 1));
	assert_int_equal(b->n_sent, 0);
	hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	assert_int_equal(df_control_stats(b->c).n_ready, 1);
	tear_down(b);
}

static void test_control__strangers_and_other_epochs_are_dropped_and_counted(void **state)
{
	struct bench *b = set_up(10, 1);
	struct df_frames junk = {.header = df_blob_copy("\xc1", 1)};
	(void)state;
	hello_of(b, 2, b->spawned[0]);
	hello(b, 999);
	df_control_on_message(b->c, &junk, 0);
	assert_int_equal(b->n_sent, 0);
	assert_int_equal(df_control_stats(b->c).stale, 3);
	df_blob_unref(&junk.header);
	tear_down(b);
}

static void test_control__a_full_lane_is_tried_again_with_the_same_lease(void **state)
{
	struct bench *b = set_up(10, 1);
	(void)state;
	b->lane_full = true;
	hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, 0);
	assert_true(df_control_wants_tick(b->c));
	b->lane_full = false;
	df_control_tick(b->c, 1);
	assert_int_equal(b->n_sent, DF_LANE_CREDITS);
	assert_int_equal(b->sent[0].lease, 1);
	assert_int_equal(b->sent[0].cells.first, 0);
	tear_down(b);
}

static void test_control__a_dead_lanes_cells_are_leased_again_only_behind_the_fence(void **state)
{
	struct bench *b = set_up(2, 2);
	(void)state;
	uint64_t first = b->spawned[0];
	hello(b, first);
	hello(b, b->spawned[1]); /* four cells, all leased */
	assert_int_equal(b->n_sent, 4);
	die(b, first, SIGKILL, (struct df_blame){0});
	assert_int_equal(last_order(b, DF_ORDER_FENCE)->lane, first);
	assert_int_equal(b->n_closed, 1);
	seen(b, &b->sent[2]);
	assert_int_equal(b->n_sent, 4); /* there is credit, but the fence does not stand yet */
	event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = first});
	assert_int_equal(b->n_sent, 5);
	assert_int_equal(b->sent[4].lane, b->spawned[1]);
	assert_true(b->sent[4].flags & DF_LEASE_REDO);
	assert_int_equal(b->n_spawned, 3);
	assert_true(newest(b) != first);
	tear_down(b);
}

static void test_control__a_lease_that_was_never_sent_is_not_lost_with_its_lane(void **state)
{
	struct bench *b = set_up(1, 1);
	(void)state;
	b->lane_full = true;
	hello(b, b->spawned[0]);
	b->lane_full = false;
	die(b, b->spawned[0], SIGKILL, (struct df_blame){0});
	event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = b->spawned[0]});
	hello(b, newest(b));
	assert_int_equal(b->n_sent, 2); /* one of each file */
	tear_down(b);
}

static void test_control__a_record_that_crashes_alone_three_times_is_poison(void **state)
{
	struct bench *b = set_up(1, 1);
	struct df_blame blame = {.cause = DF_CAUSE_SIGNAL, .computing = true, .record = {0, 123}};
	(void)state;
	for (int death = 0; death < 4; death++) { /* the first one in company */
		hello(b, newest(b));
		const struct sent *s = &b->sent[b->n_sent - 1];
		if (death == 0)
			s--; /* of two leases the first */
		blame.lease = s->lease;
		blame.alone = (s->flags & DF_LEASE_ALONE) != 0;
		assert_int_equal(blame.alone, death > 0);
		const struct df_order *told = last_order(b, DF_ORDER_STRIKE);
		assert_true(told ? told->strike.n == (uint32_t)death - 1 : death <= 1);
		die(b, newest(b), SIGSEGV, blame);
		event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = newest(b)});
	}
	assert_int_equal(last_order(b, DF_ORDER_STRIKE)->strike.record.offset, 123);
	hello(b, newest(b));
	assert_int_equal(b->sent[b->n_sent - 1].n_poison, 1);
	assert_int_equal(df_control_stats(b->c).poisoned, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	tear_down(b);
}

static void test_control__workers_that_cannot_live_end_the_run(void **state)
{
	struct bench *b = set_up(10, 2);
	(void)state;
	for (int i = 0; i < 100 && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; i++) {
		uint64_t lane = newest(b);
		df_control_on_exit(b->c, lane, 127, 0, &(struct df_blame){0}, 0);
		event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = lane});
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_CHILD);
	assert_non_null(strstr(df_control_fail(b->c)->msg, "127"));
	tear_down(b);
}

static void test_control__a_silent_worker_and_one_with_a_gap_are_killed(void **state)
{
	struct bench *b = set_up(10, 2);
	(void)state;
	hello(b, b->spawned[0]);
	hello(b, b->spawned[1]);
	b->now_ns = (DF_SILENT_MS - 1) * DF_MS;
	hello(b, b->spawned[1]);
	df_control_tick(b->c, (DF_SILENT_MS + 1) * DF_MS);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], b->spawned[0]);
	event(b, (struct df_event){.type = DF_EVENT_GAP, .lane = b->spawned[1]});
	assert_int_equal(b->n_killed, 2);
	tear_down(b);
}

/* The process is stopped or frozen, and its workers with it: the first tick afterwards finds all of them silent. */
static void test_control__nobody_is_killed_for_a_time_in_which_the_coordinator_itself_stood_still(void **state)
{
	struct bench *b = set_up(10, 2);
	uint64_t woken_ns = DF_SEC + 5 * DF_SILENT_MS * DF_MS;
	(void)state;
	hello(b, b->spawned[0]);
	hello(b, b->spawned[1]);
	df_control_tick(b->c, DF_SEC);
	df_control_tick(b->c, woken_ns);
	assert_int_equal(b->n_killed, 0);
	b->now_ns = woken_ns + DF_SEC;
	hello(b, b->spawned[1]); /* the other one never comes back, and then it counts again */
	for (uint64_t now_ns = woken_ns; now_ns <= woken_ns + DF_SILENT_MS * DF_MS; now_ns += DF_SEC / 10)
		df_control_tick(b->c, now_ns);
	assert_int_equal(b->n_killed, 0);
	df_control_tick(b->c, woken_ns + DF_SILENT_MS * DF_MS + 1);
	assert_int_equal(b->n_killed, 1);
	assert_int_equal(b->killed[0], b->spawned[0]);
	tear_down(b);
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
	struct bench *b = set_up(10, 1);
	(void)state;
	for (int i = 0; i < 400; i++)
		hello_that(b, 3, b->spawned[0], 5);
	assert_in_range(n_told(b, 5), 2, 20); /* two find a gap */
	hello_that(b, 3, b->spawned[0], 6);
	hello_that(b, 3, b->spawned[0], 6);
	assert_int_equal(n_told(b, 6), 2);
	tear_down(b);
}

/* ------------------------------------------------------------------ failures */

static void test_control__a_lease_that_fails_three_times_ends_the_run_with_its_reason(void **state)
{
	struct bench *b = set_up(1, 1);
	(void)state;
	hello(b, b->spawned[0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
		uint64_t lease = i ? b->sent[b->n_sent - 1].lease : b->sent[0].lease;
		event(b, (struct df_event){.type = DF_EVENT_FAILED,
					   .lane = b->spawned[0],
					   .lease = lease,
					   .err = DF_ERR_NOMEM,
					   .source = UINT32_MAX,
					   .message = strdup("no memory for a model")});
	}
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_string_equal(df_control_fail(b->c)->msg, "no memory for a model");
	tear_down(b);
}

static void fail_source_0(struct bench *b, const struct sent *s)
{
	event(b, (struct df_event){.type = DF_EVENT_FAILED,
				   .lane = s->lane,
				   .lease = s->lease,
				   .err = DF_ERR_CHANGED,
				   .source = 0,
				   .message = strdup("'x.jsonl' changed")});
}

static void test_control__the_sink_hears_of_a_failed_source_when_nothing_of_it_can_follow(void **state)
{
	struct bench *b = set_up(4, 1);
	(void)state;
	hello(b, b->spawned[0]);
	assert_int_equal(b->n_sent, 2);
	fail_source_0(b, &b->sent[0]);
	assert_null(last_order(b, DF_ORDER_SOURCE)); /* the second lease still has a cell of it */
	assert_int_equal(b->sent[2].cells.source, 1);
	seen(b, &b->sent[1]);
	assert_int_equal(last_order(b, DF_ORDER_SOURCE)->source.err, DF_ERR_CHANGED);
	assert_int_equal(df_control_stats(b->c).source_errors, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	tear_down(b);
}

static void test_control__a_failed_source_is_told_once(void **state)
{
	struct bench *b = set_up(4, 1);
	size_t n = 0;
	(void)state;
	hello(b, b->spawned[0]);
	fail_source_0(b, &b->sent[0]);
	fail_source_0(b, &b->sent[1]);
	for (size_t i = 0; i < b->n_order; i++)
		n += b->order[i].type == DF_ORDER_SOURCE;
	assert_int_equal(n, 1);
	tear_down(b);
}

/* ------------------------------------------------------------------ the end */

static void work_all(struct bench *b)
{
	for (size_t i = 0; i < b->n_sent; i++)
		seen(b, &b->sent[i]);
}

static void test_control__it_is_done_when_the_sink_has_finished_and_not_before(void **state)
{
	struct bench *b = set_up(3, 1);
	(void)state;
	hello(b, b->spawned[0]);
	assert_null(last_order(b, DF_ORDER_FINISH));
	work_all(b);
	assert_int_equal(last_order(b, DF_ORDER_FINISH)->n, 1);
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_RUNNING);
	event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_DONE);
	tear_down(b);
}

static void test_control__an_empty_run_needs_no_worker(void **state)
{
	struct bench *b = set_up(0, 4);
	(void)state;
	assert_int_equal(b->n_spawned, 0);
	assert_int_equal(last_order(b, DF_ORDER_FINISH)->n, 1);
	tear_down(b);
}

static void test_control__a_finish_with_cells_that_were_never_done_is_a_bug(void **state)
{
	struct bench *b = set_up(1, 1);
	(void)state;
	hello(b, b->spawned[0]);
	for (size_t i = 0; i < b->n_sent; i++)
		event(b, (struct df_event){.type = DF_EVENT_SEEN, .lane = b->sent[i].lane, .lease = b->sent[i].lease});
	event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_BUG);
	tear_down(b);
}

static void test_control__stopping_waits_for_what_is_out_and_leases_nothing_more(void **state)
{
	struct bench *b = set_up(10, 1);
	(void)state;
	hello(b, b->spawned[0]);
	df_control_stop(b->c, "asked to stop", 0);
	seen(b, &b->sent[0]);
	assert_int_equal(b->n_sent, 2);
	assert_null(last_order(b, DF_ORDER_FINISH));
	seen(b, &b->sent[1]);
	assert_int_equal(last_order(b, DF_ORDER_FINISH)->n, 0);
	event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_STOPPED);
	tear_down(b);
}

static void test_control__stopping_waits_no_longer_than_its_grace(void **state)
{
	struct bench *b = set_up(10, 1);
	(void)state;
	hello(b, b->spawned[0]);
	df_control_stop(b->c, "asked to stop", 0);
	df_control_tick(b->c, DF_SEC - 1);
	assert_null(last_order(b, DF_ORDER_FINISH));
	df_control_tick(b->c, DF_SEC);
	assert_int_equal(last_order(b, DF_ORDER_FINISH)->n, 0);
	tear_down(b);
}

static void test_control__a_broken_store_ends_the_run_with_its_words(void **state)
{
	struct bench *b = set_up(10, 1);
	(void)state;
	event(b,
	      (struct df_event){.type = DF_EVENT_FATAL, .err = DF_ERR_NOSPACE, .message = strdup("the disk is full")});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_FAILED);
	assert_int_equal(df_control_fail(b->c)->code, DF_ERR_NOSPACE);
	assert_string_equal(df_control_fail(b->c)->msg, "the disk is full");
	tear_down(b);
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
