// SPDX-License-Identifier: Apache-2.0
/*
 * Dispatch: which cells go where, and what a death or a failure does to them.
 * Traps tried here: a stranger's SIGKILL must never put a slow healthy document among the poisoned; results answer leases of many cells, not
 * single cells; with an order kept, the head cell is never starved.
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
#define LANE 7U

struct bench {
	struct df_grid grid;
	struct df_dispatch *d;
	const struct df_lease *l;
};

static void set_up(struct bench *b, const uint64_t *jsonl_bytes, size_t n, uint64_t window_bytes)
{
	*b = (struct bench){0};
	assert_int_equal(df_grid_init(&b->grid, CELL), DF_OK);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
			df_grid_add(&b->grid, jsonl_bytes[i] ? DF_SOURCE_JSONL : DF_SOURCE_READER, jsonl_bytes[i]),
			DF_OK);
	struct df_dispatch_config config = {.grid = &b->grid,
					    .target_ns = 100 * DF_MS,
					    .lease_bytes_max = 64 * CELL,
					    .credits = 2,
					    .window_bytes = window_bytes,
					    .n_lane_hint = 2};
	assert_int_equal(df_dispatch_create(&config, &b->d), DF_OK);
	assert_int_equal(df_dispatch_add_lane(b->d, LANE), DF_OK);
}

static void one_file(struct bench *b, uint64_t n_cell)
{
	set_up(b, (uint64_t[]){n_cell * CELL}, 1, 0);
}

static void tear_down(struct bench *b)
{
	df_dispatch_destroy(&b->d);
	df_grid_release(&b->grid);
}

static enum df_err next(struct bench *b, uint64_t lane)
{
	return df_dispatch_next(b->d, lane, 0, &b->l);
}

static uint64_t lease(struct bench *b, uint64_t lane)
{
	assert_int_equal(next(b, lane), DF_OK);
	return b->l->id;
}

static void assert_cells(const struct df_lease *l, size_t i, uint32_t source, uint64_t first, uint64_t n)
{
	assert_true(i < l->n_cells);
	assert_int_equal(l->cells[i].source, source);
	assert_int_equal(l->cells[i].first, first);
	assert_int_equal(l->cells[i].n, n);
}

static bool retire(struct bench *b, uint64_t lane, struct df_blame blame)
{
	struct df_strike strike;
	assert_int_equal(df_dispatch_retire(b->d, lane, &blame, &strike), DF_OK);
	if (strike.n) {
		assert_int_equal(strike.record.source, blame.record.source);
		assert_int_equal(strike.record.offset, blame.record.offset);
		assert_int_equal(strike.cause, blame.cause);
	}
	return strike.n >= DF_STRIKES_MAX;
}

static void give(struct bench *b, uint32_t source, uint64_t cell, size_t n_byte)
{
	struct df_blob *blob = df_blob_create(n_byte);
	memset(blob->p, 0, n_byte);
	assert_int_equal(df_dispatch_cell(b->d, source, cell, blob), DF_OK);
}

static void test_dispatch__a_lane_gets_no_more_than_its_credits(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	uint64_t first = lease(&b, LANE);
	lease(&b, LANE);
	assert_int_equal(next(&b, LANE), DF_ERR_AGAIN);
	df_dispatch_seen(b.d, LANE, first, DF_MS);
	assert_int_equal(next(&b, LANE), DF_OK);
	assert_int_equal(df_dispatch_held(b.d, LANE), 2);
	tear_down(&b);
}

static void test_dispatch__an_unknown_lane_gets_nothing(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	assert_int_equal(next(&b, LANE + 1), DF_ERR_AGAIN);
	tear_down(&b);
}

static void test_dispatch__a_seen_of_another_lane_returns_no_credit(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	uint64_t id = lease(&b, LANE);
	df_dispatch_seen(b.d, LANE + 1, id, DF_MS);
	assert_int_equal(df_dispatch_n_leased(b.d), 1);
	df_dispatch_seen(b.d, LANE, id, DF_MS);
	df_dispatch_seen(b.d, LANE, id, DF_MS);
	assert_int_equal(df_dispatch_n_leased(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__every_cell_is_leased_once_and_then_it_is_idle(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){2500, 1, 7000}, 3, 0);
	uint64_t n = 0;
	while (!df_dispatch_idle(b.d)) {
		uint64_t id = lease(&b, LANE);
		for (size_t i = 0; i < b.l->n_cells; i++)
			n += b.l->cells[i].n;
		df_dispatch_seen(b.d, LANE, id, DF_MS);
	}
	assert_int_equal(n, 3 + 1 + 7);
	assert_int_equal(next(&b, LANE), DF_ERR_AGAIN);
	tear_down(&b);
}

static void test_dispatch__cells_of_an_earlier_life_are_not_leased(void **state)
{
	struct bench b = {0};
	(void)state;
	one_file(&b, 6);
	assert_int_equal(df_grid_mark_done(&b.grid, (struct df_cells){0, 0, 2}), DF_OK);
	assert_int_equal(df_grid_mark_done(&b.grid, (struct df_cells){0, 3, 1}), DF_OK);
	lease(&b, LANE);
	assert_cells(b.l, 0, 0, 2, 1);
	lease(&b, LANE);
	assert_cells(b.l, 0, 0, 4, 1);
	tear_down(&b);
}

static void test_dispatch__what_was_lost_goes_before_what_is_fresh(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	lease(&b, LANE);
	retire(&b, LANE, (struct df_blame){0});
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 0, 1);
	assert_true(b.l->flags & DF_LEASE_REDO);
	assert_false(b.l->flags & DF_LEASE_ALONE);
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 1, 1);
	assert_false(b.l->flags & DF_LEASE_REDO);
	tear_down(&b);
}

static void test_dispatch__a_lease_grows_to_its_target_of_work(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 100000);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), 10 * DF_MS); /* 10 ms a cell; 100 ms are wanted */
	lease(&b, LANE);
	assert_cells(b.l, 0, 0, 1, 10);
	tear_down(&b);
}

static void test_dispatch__a_lease_never_passes_its_bytes(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 100000);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), 0); /* work that costs nothing */
	lease(&b, LANE);
	assert_cells(b.l, 0, 0, 1, 64);
	tear_down(&b);
}

static void test_dispatch__the_tail_is_cut_finer(void **state)
{
	struct bench b;
	uint64_t longest = 0, last = 0;
	(void)state;
	one_file(&b, 1000);
	for (uint64_t id = lease(&b, LANE); id; id = next(&b, LANE) == DF_OK ? b.l->id : 0) {
		last = b.l->cells[0].n;
		longest = last > longest ? last : longest;
		df_dispatch_seen(b.d, LANE, id, b.l->bytes * 1000); /* 64 cells are 64 ms */
	}
	assert_int_equal(longest, 64);
	assert_true(last <= 4);
	tear_down(&b);
}

static void test_dispatch__small_files_share_a_lease(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){CELL, 100, 100, 100, 200 * CELL}, 5, 0);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), 10 * DF_MS);
	lease(&b, LANE);
	assert_int_equal(b.l->n_cells, 4);
	assert_cells(b.l, 0, 1, 0, 1);
	assert_cells(b.l, 1, 2, 0, 1);
	tear_down(&b);
}

/* ------------------------------------------------------------------ blame */

static const struct df_record_id culprit = {0, 1234};

static struct df_blame blame_of(uint64_t lease_id, bool crashed, bool alone)
{
	return (struct df_blame){.cause = crashed ? DF_CAUSE_SIGNAL : DF_CAUSE_STRANGER,
				 .computing = true,
				 .alone = alone,
				 .lease = lease_id,
				 .record = culprit};
}

static void test_dispatch__suspects_run_alone_and_innocents_do_not(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	uint64_t guilty = lease(&b, LANE);
	lease(&b, LANE);
	retire(&b, LANE, blame_of(guilty, true, false));
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 0, 1);
	assert_true(b.l->flags & DF_LEASE_ALONE);
	assert_int_equal(next(&b, 8), DF_ERR_AGAIN); /* nothing beside it */
	df_dispatch_seen(b.d, 8, b.l->id, DF_MS);
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 1, 1);
	assert_false(b.l->flags & DF_LEASE_ALONE);
	tear_down(&b);
}

static void test_dispatch__a_suspect_waits_for_a_lane_that_holds_nothing(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 10);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	uint64_t busy = lease(&b, 8);
	uint64_t guilty = lease(&b, LANE);
	retire(&b, LANE, blame_of(guilty, true, false));
	assert_int_equal(next(&b, 8), DF_ERR_AGAIN);
	df_dispatch_seen(b.d, 8, busy, DF_MS);
	lease(&b, 8);
	assert_true(b.l->flags & DF_LEASE_ALONE);
	tear_down(&b);
}

static void test_dispatch__a_suspected_run_of_cells_is_leased_one_by_one(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 100000);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), 20 * DF_MS);
	uint64_t guilty = lease(&b, LANE);
	assert_cells(b.l, 0, 0, 1, 5);
	retire(&b, LANE, blame_of(guilty, true, false));
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	for (uint64_t cell = 1; cell <= 5; cell++) {
		lease(&b, 8);
		assert_cells(b.l, 0, 0, cell, 1);
		assert_int_equal(b.l->n_cells, 1);
		assert_true(b.l->flags & DF_LEASE_ALONE);
		df_dispatch_seen(b.d, 8, b.l->id, DF_MS);
	}
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 6, 5);
	tear_down(&b);
}

/* Lease to a new lane, and let it die of `blame`. Nobody else is there to come to its work sooner. */
static bool die(struct bench *b, uint64_t lane, bool crashed, bool alone)
{
	df_dispatch_lost(b->d, LANE, 0);
	assert_int_equal(df_dispatch_add_lane(b->d, lane), DF_OK);
	return retire(b, lane, blame_of(lease(b, lane), crashed, alone));
}

static void test_dispatch__the_third_crash_of_a_record_alone_makes_it_poison(void **state)
{
	struct bench b;
	struct df_strike list[DF_POISON_PER_LEASE];
	(void)state;
	one_file(&b, 3);
	assert_false(die(&b, 10, true, false)); /* in company: a suspicion only */
	assert_int_equal(df_dispatch_strikes(b.d), 0);
	assert_false(die(&b, 11, true, true));
	assert_false(die(&b, 12, true, true));
	assert_true(die(&b, 13, true, true));
	assert_int_equal(df_dispatch_strikes(b.d), 3);
	assert_int_equal(df_dispatch_add_lane(b.d, 14), DF_OK);
	lease(&b, 14);
	assert_int_equal(df_dispatch_poison(b.d, b.l, list), 0); /* cell 0; the record is in cell 1 */
	struct df_cells one = {0, 1, 1};
	struct df_lease of_cell_1 = {.cells = &one, .n_cells = 1};
	assert_int_equal(df_dispatch_poison(b.d, &of_cell_1, list), 1);
	assert_int_equal(list[0].record.offset, culprit.offset);
	tear_down(&b);
}

static void test_dispatch__crashes_over_a_cell_without_a_document_in_work_are_counted(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 3);
	df_dispatch_lost(b.d, LANE, 0);
	for (uint32_t i = 1; i <= DF_CRASHES_MAX; i++) {
		uint64_t lane = 20 + i;
		assert_int_equal(df_dispatch_add_lane(b.d, lane), DF_OK);
		struct df_blame blame = blame_of(lease(&b, lane), true, false);
		blame.computing = false;
		assert_false(retire(&b, lane, blame));
		assert_int_equal(df_dispatch_crashes(b.d), i);
	}
	assert_int_equal(df_dispatch_strikes(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__a_strangers_kill_is_never_a_strike(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 3);
	for (uint64_t lane = 10; lane < 1010; lane++)
		assert_false(die(&b, lane, false, true));
	assert_int_equal(df_dispatch_strikes(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__a_crash_over_a_lease_that_was_answered_blames_nobody(void **state)
{
	struct bench b;
	(void)state;
	one_file(&b, 3);
	uint64_t answered = lease(&b, LANE);
	df_dispatch_seen(b.d, LANE, answered, DF_MS);
	lease(&b, LANE);
	assert_false(retire(&b, LANE, blame_of(answered, true, true)));
	assert_int_equal(df_dispatch_strikes(b.d), 0);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	lease(&b, 8);
	assert_false(b.l->flags & DF_LEASE_ALONE);
	tear_down(&b);
}

/* ------------------------------------------------------------------ failures */

static void test_dispatch__failures_of_a_lease_are_counted(void **state)
{
	struct bench b;
	uint32_t attempts = 0;
	(void)state;
	one_file(&b, 1);
	for (uint32_t i = 1; i <= 3; i++) {
		uint64_t id = lease(&b, LANE);
		assert_int_equal(df_dispatch_failed(b.d, LANE, id, true, &attempts), DF_OK);
		assert_int_equal(attempts, i);
	}
	assert_int_equal(df_dispatch_failed(b.d, LANE, 99, true, &attempts), DF_ERR_NOT_FOUND);
	assert_int_equal(df_dispatch_held(b.d, LANE), 0);
	tear_down(&b);
}

static void test_dispatch__a_failed_source_is_dropped_and_its_neighbours_go_on(void **state)
{
	struct bench b;
	uint32_t attempts = 9;
	(void)state;
	set_up(&b, (uint64_t[]){CELL, 100, 100, 3 * CELL}, 4, 0);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), DF_MS);
	uint64_t id = lease(&b, LANE);
	assert_true(df_dispatch_source_out(b.d, 1));
	assert_true(df_dispatch_source_out(b.d, 2));
	df_grid_fail(&b.grid, 1);
	df_dispatch_drop_source(b.d, 1);
	assert_int_equal(df_dispatch_failed(b.d, LANE, id, false, &attempts), DF_OK);
	assert_int_equal(attempts, 0);
	assert_false(df_dispatch_source_out(b.d, 1));
	lease(&b, LANE);
	assert_cells(b.l, 0, 2, 0, 1);
	tear_down(&b);
}

static void test_dispatch__a_failed_source_gives_its_window_back(void **state)
{
	struct bench b;
	uint32_t attempts = 0;
	(void)state;
	set_up(&b, (uint64_t[]){4 * CELL, 4 * CELL}, 2, 4 * CELL);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	uint64_t id = lease(&b, LANE); /* four leases of a cell fill the window */
	lease(&b, LANE);
	lease(&b, 8);
	lease(&b, 8);
	retire(&b, 8, (struct df_blame){0}); /* two are pending again */
	df_grid_fail(&b.grid, 0);
	df_dispatch_drop_source(b.d, 0);
	assert_int_equal(df_dispatch_failed(b.d, LANE, id, false, &attempts), DF_OK);
	lease(&b, LANE); /* room again: on to the next source */
	assert_cells(b.l, 0, 1, 0, 1);
	tear_down(&b);
}

/* ------------------------------------------------------------------ order */

static void test_dispatch__with_order_nothing_fresh_is_leased_beyond_the_window(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){100 * CELL}, 1, 2 * CELL);
	uint64_t head = lease(&b, LANE);
	df_dispatch_seen(b.d, LANE, lease(&b, LANE), DF_MS); /* seen, and waiting for the head */
	assert_int_equal(next(&b, LANE), DF_ERR_AGAIN);
	df_dispatch_seen(b.d, LANE, head, DF_MS);
	assert_int_equal(next(&b, LANE), DF_ERR_AGAIN); /* seen is not written */
	df_dispatch_written(b.d, (struct df_cells){0, 0, 2});
	assert_int_equal(next(&b, LANE), DF_OK);
	tear_down(&b);
}

static void test_dispatch__a_full_window_never_starves_the_head_cell(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){100 * CELL}, 1, 2 * CELL);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	lease(&b, LANE);
	df_dispatch_seen(b.d, 8, lease(&b, 8), DF_MS);
	df_dispatch_set_held(b.d, 1000 * CELL); /* results wait, far above the cap */
	retire(&b, LANE, (struct df_blame){0});
	lease(&b, 8);
	assert_cells(b.l, 0, 0, 0, 1);
	tear_down(&b);
}

static void test_dispatch__with_order_a_redone_lease_has_neighbouring_cells_only(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){100 * CELL}, 1, 50 * CELL);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	lease(&b, LANE);            /* 0 */
	uint64_t id = lease(&b, 8); /* 1 */
	lease(&b, LANE);            /* 2 */
	df_dispatch_seen(b.d, 8, id, DF_MS);
	retire(&b, LANE, (struct df_blame){0});
	for (int i = 0; i < 2; i++) {
		lease(&b, 8);
		assert_int_equal(b.l->n_cells, 1);
		assert_int_equal(b.l->cells[0].n, 1);
		assert_true(b.l->flags & DF_LEASE_REDO);
	}
	tear_down(&b);
}

static void test_dispatch__with_order_a_source_waits_for_the_readers_before_it(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){0, 3 * CELL}, 2, 50 * CELL);
	assert_int_equal(next(&b, LANE), DF_ERR_AGAIN);
	assert_int_equal(df_dispatch_turn(b.d), 0);
	give(&b, 0, 0, 500);
	df_grid_end(&b.grid, 0, 1);
	uint64_t id = lease(&b, LANE);
	assert_cells(b.l, 0, 0, 0, 1);
	lease(&b, LANE);
	assert_cells(b.l, 0, 1, 0, 1);
	df_dispatch_seen(b.d, LANE, id, DF_MS);
	tear_down(&b);
}

/* ------------------------------------------------------------------ readers' cells */

static void test_dispatch__readers_bytes_are_kept_until_seen_and_move_with_their_cells(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){0}, 1, 0);
	give(&b, 0, 0, 400);
	give(&b, 0, 1, 300);
	assert_int_equal(df_dispatch_reader_bytes(b.d), 700);
	lease(&b, LANE);
	assert_cells(b.l, 0, 0, 0, 2);
	assert_int_equal(b.l->n_blob, 2);
	retire(&b, LANE, (struct df_blame){0});
	assert_int_equal(df_dispatch_reader_bytes(b.d), 700);
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	uint64_t id = lease(&b, 8);
	assert_cells(b.l, 0, 0, 0, 2);
	assert_int_equal(b.l->blob[0]->n, 400);
	assert_int_equal(b.l->blob[1]->n, 300);
	df_dispatch_seen(b.d, 8, id, DF_MS);
	assert_int_equal(df_dispatch_reader_bytes(b.d), 0);
	tear_down(&b);
}

static void test_dispatch__readers_cells_and_plain_ones_never_share_a_lease(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){0, 5 * CELL}, 2, 0);
	give(&b, 0, 0, 10);
	lease(&b, LANE);
	lease(&b, LANE);
	retire(&b, LANE, (struct df_blame){0});
	assert_int_equal(df_dispatch_add_lane(b.d, 8), DF_OK);
	for (int i = 0; i < 2; i++) {
		lease(&b, 8);
		assert_int_equal(b.l->n_cells, 1);
		assert_int_equal(b.l->n_blob, b.l->cells[0].source == 0);
	}
	tear_down(&b);
}

static void test_dispatch__it_is_not_idle_while_anything_is_pending_or_leased(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){0}, 1, 0);
	assert_true(df_dispatch_idle(b.d));
	give(&b, 0, 0, 10);
	assert_false(df_dispatch_idle(b.d));
	uint64_t id = lease(&b, LANE);
	assert_false(df_dispatch_idle(b.d));
	df_dispatch_seen(b.d, LANE, id, DF_MS);
	assert_true(df_dispatch_idle(b.d));
	tear_down(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch__a_lane_gets_no_more_than_its_credits),
		cmocka_unit_test(test_dispatch__an_unknown_lane_gets_nothing),
		cmocka_unit_test(test_dispatch__a_seen_of_another_lane_returns_no_credit),
		cmocka_unit_test(test_dispatch__every_cell_is_leased_once_and_then_it_is_idle),
		cmocka_unit_test(test_dispatch__cells_of_an_earlier_life_are_not_leased),
		cmocka_unit_test(test_dispatch__what_was_lost_goes_before_what_is_fresh),
		cmocka_unit_test(test_dispatch__a_lease_grows_to_its_target_of_work),
		cmocka_unit_test(test_dispatch__a_lease_never_passes_its_bytes),
		cmocka_unit_test(test_dispatch__the_tail_is_cut_finer),
		cmocka_unit_test(test_dispatch__small_files_share_a_lease),
		cmocka_unit_test(test_dispatch__suspects_run_alone_and_innocents_do_not),
		cmocka_unit_test(test_dispatch__a_suspect_waits_for_a_lane_that_holds_nothing),
		cmocka_unit_test(test_dispatch__a_suspected_run_of_cells_is_leased_one_by_one),
		cmocka_unit_test(test_dispatch__the_third_crash_of_a_record_alone_makes_it_poison),
		cmocka_unit_test(test_dispatch__crashes_over_a_cell_without_a_document_in_work_are_counted),
		cmocka_unit_test(test_dispatch__a_strangers_kill_is_never_a_strike),
		cmocka_unit_test(test_dispatch__a_crash_over_a_lease_that_was_answered_blames_nobody),
		cmocka_unit_test(test_dispatch__failures_of_a_lease_are_counted),
		cmocka_unit_test(test_dispatch__a_failed_source_is_dropped_and_its_neighbours_go_on),
		cmocka_unit_test(test_dispatch__a_failed_source_gives_its_window_back),
		cmocka_unit_test(test_dispatch__with_order_nothing_fresh_is_leased_beyond_the_window),
		cmocka_unit_test(test_dispatch__a_full_window_never_starves_the_head_cell),
		cmocka_unit_test(test_dispatch__with_order_a_redone_lease_has_neighbouring_cells_only),
		cmocka_unit_test(test_dispatch__with_order_a_source_waits_for_the_readers_before_it),
		cmocka_unit_test(test_dispatch__readers_bytes_are_kept_until_seen_and_move_with_their_cells),
		cmocka_unit_test(test_dispatch__readers_cells_and_plain_ones_never_share_a_lease),
		cmocka_unit_test(test_dispatch__it_is_not_idle_while_anything_is_pending_or_leased),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
