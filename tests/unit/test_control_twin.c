// SPDX-License-Identifier: Apache-2.0
/* Control and late work: the end comes without the loser of two twins, and its words mean nothing. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "tests/unit/help_control.h"

/* Two inputs of one cell each, both out with a worker that does nothing; a second worker has nothing to do. */
static struct bench *one_is_stuck(void)
{
	struct bench *b = bench_set_up_with(1, 2, &(struct df_control_config){.tail_redo = true});
	bench_hello(b, b->spawned[0]);
	bench_hello(b, b->spawned[1]);
	assert_int_equal(b->n_sent, 2);
	return b;
}

static void pass_time(struct bench *b)
{
	b->now_ns += 2 * DF_SEC; /* late by any measure, and no silence yet */
	df_control_tick(b->c, b->now_ns);
}

static void seen(struct bench *b, const struct sent *s)
{
	bench_event(b, (struct df_event){.type = DF_EVENT_SEEN, .lane = s->lane, .lease = s->lease, .busy_ns = DF_MS});
	bench_event(b, (struct df_event){.type = DF_EVENT_DONE, .cells = s->cells});
}

static void test_control__a_run_ends_without_waiting_for_work_that_another_has_done(void **state)
{
	struct bench *b = one_is_stuck();
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		pass_time(b);
		assert_int_equal(b->n_sent, 3 + i);
		const struct sent *twin = &b->sent[2 + i];
		assert_int_equal(twin->lane, b->spawned[1]);
		assert_int_equal(twin->cells.source, b->sent[i].cells.source);
		assert_null(bench_last_order(b, DF_ORDER_FINISH));
		seen(b, twin);
	}
	const struct df_order *finish = bench_last_order(b, DF_ORDER_FINISH);
	assert_non_null(finish);
	assert_int_equal(finish->n, 1);
	bench_die(b, b->spawned[0], SIGTERM, (struct df_blame){0}); /* as it is ended */
	bench_event(b, (struct df_event){.type = DF_EVENT_FINISHED});
	assert_int_equal(df_control_outcome(b->c), DF_OUTCOME_DONE);
	assert_int_equal(b->n_spawned, 2);
	bench_tear_down(b);
}

static void test_control__an_input_that_only_the_loser_could_not_read_is_no_source_error(void **state)
{
	struct bench *b = one_is_stuck();
	(void)state;
	pass_time(b);
	seen(b, &b->sent[2]);
	assert_int_equal(b->n_sent, 4); /* the other one too */
	bench_event(b, (struct df_event){.type = DF_EVENT_FAILED,
					 .lane = b->sent[0].lane,
					 .lease = b->sent[0].lease,
					 .err = DF_ERR_CHANGED,
					 .source = b->sent[0].cells.source});
	assert_int_equal(df_control_stats(b->c).source_errors, 0);
	assert_int_equal(b->n_sent, 4); /* nothing of it goes out again */
	bench_tear_down(b);
}

static void test_control__a_twin_that_could_not_be_sent_in_time_is_never_sent(void **state)
{
	struct bench *b = one_is_stuck();
	(void)state;
	b->lane_full = true;
	pass_time(b);
	assert_true(df_control_wants_tick(b->c));
	seen(b, &b->sent[0]);
	seen(b, &b->sent[1]);
	b->lane_full = false;
	df_control_tick(b->c, b->now_ns);
	assert_int_equal(b->n_sent, 2);
	assert_non_null(bench_last_order(b, DF_ORDER_FINISH));
	bench_tear_down(b);
}

static void test_control__a_second_piece_of_lost_work_does_not_wait_for_the_next_event(void **state)
{
	struct bench *b = bench_set_up(6, 3);
	(void)state;
	for (size_t i = 0; i < 3; i++)
		bench_hello(b, b->spawned[i]);
	assert_int_equal(b->n_sent, 6);
	uint64_t gone = b->spawned[2], before = b->n_spawned;
	bench_die(b, gone, SIGKILL, (struct df_blame){0});
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = gone});
	assert_int_equal(b->n_sent, 8); /* nobody had credit, and both went out */
	assert_true(b->sent[6].flags & b->sent[7].flags & DF_LEASE_REDO);
	assert_int_not_equal(b->sent[6].lane, b->sent[7].lane);
	assert_int_equal(b->n_spawned, before + 1);
	bench_tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control__a_run_ends_without_waiting_for_work_that_another_has_done),
		cmocka_unit_test(test_control__an_input_that_only_the_loser_could_not_read_is_no_source_error),
		cmocka_unit_test(test_control__a_twin_that_could_not_be_sent_in_time_is_never_sent),
		cmocka_unit_test(test_control__a_second_piece_of_lost_work_does_not_wait_for_the_next_event),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
