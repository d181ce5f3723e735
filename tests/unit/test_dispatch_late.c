// SPDX-License-Identifier: Apache-2.0
/*
 * Dispatch and time: what is late is done twice and counts once; lost work goes where it is done soonest; slow workers get little.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/dispatch/dispatch.h"

#define CELL 1000U
#define LATE (10 * DF_SEC)

struct bench {
	struct df_grid grid;
	struct df_dispatch *d;
	const struct df_lease *l;
	uint64_t now_ns;
};

/* One file of n_cell cells (0: a reader's source), and lanes 1 .. n_lane. */
static void set_up(struct bench *b, uint64_t n_cell, uint64_t n_lane, bool tail_redo)
{
	*b = (struct bench){0};
	assert_int_equal(df_grid_init(&b->grid, CELL), DF_OK);
	assert_int_equal(df_grid_add(&b->grid, n_cell ? DF_SOURCE_JSONL : DF_SOURCE_READER, n_cell * CELL), DF_OK);
	struct df_dispatch_config config = {.grid = &b->grid,
					    .target_ns = 100 * DF_MS,
					    .lease_bytes_max = 64 * CELL,
					    .credits = 2,
					    .n_lane_hint = 2,
					    .tail_redo = tail_redo};
	assert_int_equal(df_dispatch_create(&config, &b->d), DF_OK);
	for (uint64_t lane = 1; lane <= n_lane; lane++)
		assert_int_equal(df_dispatch_add_lane(b->d, lane), DF_OK);
}

static void tear_down(struct bench *b)
{
	df_dispatch_destroy(&b->d);
	df_grid_release(&b->grid);
}

static enum df_err next(struct bench *b, uint64_t lane)
{
	return df_dispatch_next(b->d, lane, b->now_ns, &b->l);
}

static uint64_t lease(struct bench *b, uint64_t lane)
{
	assert_int_equal(next(b, lane), DF_OK);
	return b->l->id;
}

static void seen(struct bench *b, uint64_t lane, uint64_t id)
{
	df_dispatch_seen(b->d, lane, id, 10 * DF_MS);
}

static void retire(struct bench *b, uint64_t lane, struct df_blame blame)
{
	struct df_strike strike;
	df_dispatch_lost(b->d, lane, b->now_ns);
	assert_int_equal(df_dispatch_retire(b->d, lane, &blame, &strike), DF_OK);
	assert_int_equal(strike.n, 0);
}

/* Two cells, both on lane 1, whose worker has stopped doing anything; lane 2 and others are idle. */
static void stuck(struct bench *b, uint64_t n_lane, uint64_t ret_id[2])
{
	set_up(b, 2, n_lane, true);
	ret_id[0] = lease(b, 1);
	ret_id[1] = lease(b, 1);
	b->now_ns += LATE;
}

static void test_dispatch__nothing_is_done_twice_before_it_is_late(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 3, 2, true);
	seen(&b, 2, lease(&b, 2)); /* 10 ms a cell */
	lease(&b, 1);
	lease(&b, 1);
	b.now_ns = 200 * DF_MS; /* twice the target */
	assert_int_equal(next(&b, 2), DF_ERR_AGAIN);
	b.now_ns += 2;
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].first, 1);
	tear_down(&b);
}

static void test_dispatch__what_is_late_is_done_twice_only_when_that_may_be(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 2, 2, false);
	lease(&b, 1);
	lease(&b, 1);
	b.now_ns += LATE;
	assert_int_equal(next(&b, 2), DF_ERR_AGAIN);
	assert_int_equal(next(&b, 1), DF_ERR_AGAIN);
	tear_down(&b);
}

static void test_dispatch__both_leases_of_a_stuck_worker_go_to_others_oldest_first(void **state)
{
	struct bench b;
	uint64_t id[2];
	(void)state;
	stuck(&b, 4, id);
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].first, 0);
	lease(&b, 3);
	assert_int_equal(b.l->cells[0].first, 1);
	assert_int_equal(next(&b, 4), DF_ERR_AGAIN); /* one twin of each */
	assert_int_equal(next(&b, 2), DF_ERR_AGAIN);
	assert_int_equal(df_dispatch_n_twin(b.d), 2);
	tear_down(&b);
}

static void test_dispatch__one_other_worker_redoes_both_one_after_the_other(void **state)
{
	struct bench b;
	uint64_t id[2];
	(void)state;
	stuck(&b, 2, id);
	for (uint64_t cell = 0; cell < 2; cell++) {
		uint64_t twin = lease(&b, 2);
		assert_int_equal(b.l->cells[0].first, cell);
		assert_int_equal(next(&b, 2), DF_ERR_AGAIN); /* its other credit is for work of its own */
		seen(&b, 2, twin);
	}
	assert_true(df_dispatch_idle(b.d));
	assert_int_equal(df_dispatch_n_leased(b.d), 0);
	assert_int_equal(df_dispatch_held(b.d, 1), 2); /* it has not answered, but nobody waits for it */
	tear_down(&b);
}

static void test_dispatch__fresh_work_goes_before_a_twin(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 4, 2, true);
	lease(&b, 1);
	lease(&b, 1);
	b.now_ns += LATE;
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].first, 2);
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].first, 3);
	assert_int_equal(df_dispatch_n_twin(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__the_first_to_answer_wins_whichever_it_is(void **state)
{
	(void)state;
	for (int original = 0; original < 2; original++) {
		struct bench b;
		uint64_t id[2], attempts_of = 0;
		uint32_t attempts = 9;
		stuck(&b, 2, id);
		seen(&b, 1, id[1]);
		b.now_ns += LATE;
		assert_int_equal(next(&b, 1), DF_ERR_AGAIN);
		b.now_ns += LATE;
		uint64_t twin = lease(&b, 2);
		seen(&b, original ? 1 : 2, original ? id[0] : twin);
		assert_true(df_dispatch_idle(b.d));
		assert_false(df_dispatch_source_out(b.d, 0));
		/* nothing comes back of the other, however it ends */
		attempts_of = original ? twin : id[0];
		if (original) {
			assert_int_equal(df_dispatch_failed(b.d, 2, attempts_of, true, &attempts), DF_OK);
			assert_int_equal(attempts, 0);
		} else {
			struct df_blame blame = {.cause = DF_CAUSE_SIGNAL, .computing = true, .lease = attempts_of};
			retire(&b, 1, blame);
		}
		assert_true(df_dispatch_idle(b.d));
		assert_int_equal(next(&b, 2), DF_ERR_AGAIN);
		tear_down(&b);
	}
}

static void test_dispatch__a_void_lease_is_dropped_by_name_and_others_are_not(void **state)
{
	struct bench b;
	uint64_t id[2];
	(void)state;
	stuck(&b, 2, id);
	uint64_t twin = lease(&b, 2);
	assert_false(df_dispatch_drop_void(b.d, 1, id[0]));
	seen(&b, 2, twin);
	assert_true(df_dispatch_drop_void(b.d, 1, id[0]));
	assert_false(df_dispatch_drop_void(b.d, 1, id[0]));
	assert_false(df_dispatch_drop_void(b.d, 1, id[1]));
	assert_int_equal(df_dispatch_held(b.d, 1), 1);
	tear_down(&b);
}

static void test_dispatch__a_crash_over_a_void_lease_is_held_against_nobody(void **state)
{
	struct bench b;
	uint64_t id[2];
	(void)state;
	stuck(&b, 3, id);
	seen(&b, 2, lease(&b, 2));
	seen(&b, 3, lease(&b, 3));
	retire(&b, 1, (struct df_blame){.cause = DF_CAUSE_EXIT});
	assert_int_equal(df_dispatch_crashes(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__a_death_leaves_the_cells_and_the_suspicion_with_the_twin(void **state)
{
	struct bench b;
	uint64_t id[2];
	(void)state;
	stuck(&b, 3, id);
	seen(&b, 1, id[0]);
	b.now_ns += LATE;
	assert_int_equal(next(&b, 1), DF_ERR_AGAIN);
	b.now_ns += LATE;
	uint64_t twin = lease(&b, 2);
	retire(&b, 1, (struct df_blame){.cause = DF_CAUSE_SIGNAL, .computing = true, .lease = id[1]});
	assert_int_equal(df_dispatch_n_leased(b.d), 1);
	assert_int_equal(next(&b, 3), DF_ERR_AGAIN); /* out with the twin: neither pending nor done by a third */
	b.now_ns += LATE;
	assert_int_equal(next(&b, 2), DF_ERR_AGAIN);
	b.now_ns += LATE;
	assert_int_equal(next(&b, 3), DF_ERR_AGAIN); /* and what ended a process is not done by two at a time */
	retire(&b, 2, (struct df_blame){.cause = DF_CAUSE_STRANGER, .computing = true, .lease = twin});
	lease(&b, 3);
	assert_int_equal(b.l->cells[0].first, 1);
	assert_true(b.l->flags & DF_LEASE_ALONE);
	assert_int_equal(next(&b, 3), DF_ERR_AGAIN);
	tear_down(&b);
}

static void test_dispatch__twins_share_a_readers_bytes_and_they_count_once(void **state)
{
	struct bench b;
	(void)state;
	for (int how = 0; how < 3; how++) {
		set_up(&b, 0, 2, true);
		struct df_blob *blob = df_blob_create(500), *mine = df_blob_ref(blob);
		assert_int_equal(df_dispatch_cell(b.d, 0, 0, blob), DF_OK);
		uint64_t id = lease(&b, 1);
		b.now_ns += LATE;
		uint64_t twin = lease(&b, 2);
		assert_ptr_equal(b.l->blob[0], mine);
		assert_int_equal(mine->refs, 3);
		assert_int_equal(df_dispatch_reader_bytes(b.d), 500);
		if (how == 0)
			seen(&b, 2, twin);
		else if (how == 1)
			retire(&b, 1, (struct df_blame){0});
		else
			seen(&b, 1, id);
		assert_int_equal(mine->refs, how == 1 ? 2 : 1);
		assert_int_equal(df_dispatch_reader_bytes(b.d), how == 1 ? 500 : 0);
		df_blob_unref(&mine);
		tear_down(&b);
	}
}

static void test_dispatch__a_worker_that_is_late_gets_nothing_new(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 100, 2, true);
	uint64_t first = lease(&b, 1);
	b.now_ns += LATE;
	assert_int_equal(next(&b, 1), DF_ERR_AGAIN);
	seen(&b, 1, first);
	assert_int_equal(next(&b, 1), DF_OK);
	tear_down(&b);
}

/* Lane 1 takes a hundred times as long for a cell as lane 2. */
static void slow_and_fast(struct bench *b, uint64_t n_cell)
{
	set_up(b, n_cell, 2, true);
	uint64_t slow = lease(b, 1);
	df_dispatch_seen(b->d, 2, lease(b, 2), 10 * DF_MS);
	for (int i = 0; i < 20; i++) {
		df_dispatch_seen(b->d, 1, slow, b->l->bytes / CELL * DF_SEC);
		slow = lease(b, 1);
	}
	df_dispatch_seen(b->d, 1, slow, DF_SEC);
}

static void test_dispatch__leases_are_of_a_size_for_the_worker_that_gets_them(void **state)
{
	struct bench b;
	(void)state;
	slow_and_fast(&b, 100000);
	lease(&b, 1);
	assert_int_equal(b.l->cells[0].n, 1);
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].n, 10);
	tear_down(&b);
}

static void test_dispatch__what_a_fast_worker_lost_comes_to_a_slow_one_in_small_pieces(void **state)
{
	struct bench b;
	(void)state;
	slow_and_fast(&b, 100000);
	lease(&b, 2);
	assert_int_equal(b.l->cells[0].n, 10);
	retire(&b, 2, (struct df_blame){0});
	lease(&b, 1);
	assert_true(b.l->flags & DF_LEASE_REDO);
	assert_int_equal(b.l->cells[0].n, 1);
	assert_true(df_dispatch_redo_waits(b.d));
	tear_down(&b);
}

static void test_dispatch__the_last_fresh_work_is_not_for_a_worker_that_would_hold_up_the_end(void **state)
{
	struct bench b;
	(void)state;
	slow_and_fast(&b, 200);
	assert_int_equal(next(&b, 1), DF_OK);
	seen(&b, 1, b.l->id);
	for (uint64_t left = 170; left > 60; left -= b.l->cells[0].n)
		df_dispatch_seen(b.d, 2, lease(&b, 2), b.l->bytes / CELL * 10 * DF_MS);
	assert_int_equal(next(&b, 1), DF_ERR_AGAIN); /* what is left is half a second of the fast one */
	assert_int_equal(next(&b, 2), DF_OK);
	df_dispatch_lost(b.d, 2, b.now_ns); /* but when there is nobody else */
	assert_int_equal(next(&b, 1), DF_OK);
	tear_down(&b);
}

static void test_dispatch__lost_work_goes_at_once_to_the_one_that_comes_to_it_soonest(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 100, 3, true);
	for (uint64_t lane = 1; lane <= 3; lane++) {
		lease(&b, lane);
		lease(&b, lane);
	}
	seen(&b, 3, b.l->id - 1);
	b.now_ns = DF_MS;
	lease(&b, 3); /* ten cells: it is the busiest now */
	retire(&b, 1, (struct df_blame){0});
	b.now_ns += 3 * DF_MS;
	assert_int_equal(next(&b, 3), DF_ERR_AGAIN);
	lease(&b, 2);
	assert_true(b.l->flags & DF_LEASE_REDO);
	assert_int_equal(b.l->lost_ns, DF_MS);
	assert_int_equal(df_dispatch_held(b.d, 2), 3);
	assert_int_equal(next(&b, 2), DF_ERR_AGAIN); /* both lost cells were in it, and fresh work must wait */
	tear_down(&b);
}

static void test_dispatch__nothing_goes_to_a_process_that_is_gone(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 10, 1, true);
	lease(&b, 1);
	df_dispatch_lost(b.d, 1, 5);
	assert_int_equal(next(&b, 1), DF_ERR_AGAIN);
	df_dispatch_lost(b.d, 7, 5); /* unknown: nothing */
	tear_down(&b);
}

static void test_dispatch__a_strangers_second_kill_over_the_same_cells_makes_suspects(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 10, 3, true);
	for (uint64_t lane = 1; lane <= 2; lane++) {
		uint64_t id = lease(&b, lane);
		assert_false(b.l->flags & DF_LEASE_ALONE);
		retire(&b, lane, (struct df_blame){.cause = DF_CAUSE_STRANGER, .computing = true, .lease = id});
		df_dispatch_lost(b.d, lane == 1 ? 3 : 0, 0);
	}
	assert_int_equal(df_dispatch_add_lane(b.d, 4), DF_OK);
	lease(&b, 4);
	assert_true(b.l->flags & DF_LEASE_ALONE);
	assert_int_equal(b.l->cells[0].first, 0);
	tear_down(&b);
}

static void test_dispatch__what_strangers_kill_again_goes_out_in_halves(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, 100000, 1, true);
	seen(&b, 1, lease(&b, 1));
	uint64_t lane = 1, id = lease(&b, 1), n = b.l->cells[0].n, kills = 0;
	assert_int_equal(n, 10);
	for (; !(b.l->flags & DF_LEASE_ALONE); kills++) {
		retire(&b, lane++, (struct df_blame){.cause = DF_CAUSE_STRANGER, .computing = true, .lease = id});
		assert_int_equal(df_dispatch_add_lane(b.d, lane), DF_OK);
		id = lease(&b, lane);
		assert_true(b.l->cells[0].first >= 1 && b.l->cells[0].first <= 10);
		assert_true(b.l->cells[0].n == n || b.l->cells[0].n == n / 2);
		n = b.l->cells[0].n;
	}
	assert_int_equal(n, 1);
	assert_in_range(kills, 5, 40); /* whole, in halves, in quarters, ... */
	tear_down(&b);
}

static void test_dispatch__the_slowest_leases_are_remembered(void **state)
{
	struct bench b;
	struct df_slow slow[20];
	struct df_cells slowest = {0};
	(void)state;
	set_up(&b, 5000, 1, true);
	for (uint64_t i = 0; i < 20; i++) {
		uint64_t id = lease(&b, 1), seconds = i * 7 % 20; /* 0 .. 19, mixed */
		slowest = seconds == 19 ? b.l->cells[0] : slowest;
		df_dispatch_seen(b.d, 1, id, seconds * DF_SEC);
	}
	assert_int_equal(df_dispatch_slowest(b.d, slow, 20), 8);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(slow[i].busy_ns, (19 - i) * DF_SEC);
	assert_int_equal(slow[0].first, slowest.first);
	assert_int_equal(slow[0].n_cells, slowest.n);
	assert_int_equal(slow[0].bytes, slowest.n * CELL);
	assert_int_equal(slow[0].lane, 1);
	assert_int_equal(df_dispatch_slowest(b.d, slow, 3), 3);
	tear_down(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch__nothing_is_done_twice_before_it_is_late),
		cmocka_unit_test(test_dispatch__what_is_late_is_done_twice_only_when_that_may_be),
		cmocka_unit_test(test_dispatch__both_leases_of_a_stuck_worker_go_to_others_oldest_first),
		cmocka_unit_test(test_dispatch__one_other_worker_redoes_both_one_after_the_other),
		cmocka_unit_test(test_dispatch__fresh_work_goes_before_a_twin),
		cmocka_unit_test(test_dispatch__the_first_to_answer_wins_whichever_it_is),
		cmocka_unit_test(test_dispatch__a_void_lease_is_dropped_by_name_and_others_are_not),
		cmocka_unit_test(test_dispatch__a_crash_over_a_void_lease_is_held_against_nobody),
		cmocka_unit_test(test_dispatch__a_death_leaves_the_cells_and_the_suspicion_with_the_twin),
		cmocka_unit_test(test_dispatch__twins_share_a_readers_bytes_and_they_count_once),
		cmocka_unit_test(test_dispatch__a_worker_that_is_late_gets_nothing_new),
		cmocka_unit_test(test_dispatch__leases_are_of_a_size_for_the_worker_that_gets_them),
		cmocka_unit_test(test_dispatch__what_a_fast_worker_lost_comes_to_a_slow_one_in_small_pieces),
		cmocka_unit_test(test_dispatch__the_last_fresh_work_is_not_for_a_worker_that_would_hold_up_the_end),
		cmocka_unit_test(test_dispatch__lost_work_goes_at_once_to_the_one_that_comes_to_it_soonest),
		cmocka_unit_test(test_dispatch__nothing_goes_to_a_process_that_is_gone),
		cmocka_unit_test(test_dispatch__a_strangers_second_kill_over_the_same_cells_makes_suspects),
		cmocka_unit_test(test_dispatch__what_strangers_kill_again_goes_out_in_halves),
		cmocka_unit_test(test_dispatch__the_slowest_leases_are_remembered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
