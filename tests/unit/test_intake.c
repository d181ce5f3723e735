// SPDX-License-Identifier: Apache-2.0
/*
 * Intake: readers and their sources: credits, known cells, deaths, skip and limit.
 * Traps tried here: a reader that dies is followed by one that passes over what is known; three deaths at one place are one source error,
 * and strangers who kill here and there are not; skip and limit run over several inputs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/cells/known.h"
#include "coordinator/control/control.h"
#include "coordinator/control/intake.h"

#define N_SENT 256

struct bench {
	struct df_grid grid;
	struct df_source source[4];
	struct df_dataset dataset;
	struct df_dispatch *dispatch;
	struct df_intake *in;
	struct df_control_config config;
	struct df_msg sent[N_SENT];
	struct df_range done[N_SENT][4]; /* of sent[i].read */
	size_t n_sent;
	struct df_order order[N_SENT];
	size_t n_order;
	bool lane_full;
	uint32_t flags; /* of SOURCE_END */
};

static enum df_err keep_sent(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			     size_t n)
{
	struct bench *b = self;
	(void)payload;
	assert_int_equal(msg->lane, lane);
	assert_int_equal(n, 0);
	assert_true(b->n_sent < N_SENT);
	if (b->lane_full)
		return DF_ERR_AGAIN;
	if (msg->type == DF_MSG_READ) {
		assert_true(msg->read.n_done <= 4);
		memcpy(b->done[b->n_sent], msg->read.done, msg->read.n_done * sizeof(struct df_range));
	}
	b->sent[b->n_sent++] = *msg;
	return DF_OK;
}

static void keep_order(void *self, const struct df_order *order)
{
	struct bench *b = self;
	free((char *)(uintptr_t)order->source.message.p);
	assert_true(b->n_order < N_SENT);
	b->order[b->n_order] = *order;
	b->order[b->n_order++].source.message.p = NULL;
}

static struct bench *set_up(uint32_t n_source, bool sequential, bool ordered, const struct df_recovered *recovered)
{
	static const struct df_recovered nothing;
	struct bench *b = calloc(1, sizeof(*b));
	assert_int_equal(df_grid_init(&b->grid, 1000), DF_OK);
	for (uint32_t i = 0; i < n_source; i++) {
		b->source[i] = (struct df_source){.path = "x.gz", .name = "x.gz", .kind = DF_SOURCE_READER};
		assert_int_equal(df_grid_add(&b->grid, DF_SOURCE_READER, 0), DF_OK);
	}
	b->dataset = (struct df_dataset){.source = b->source, .n_source = n_source};
	b->config = (struct df_control_config){.dataset = &b->dataset,
					       .grid = &b->grid,
					       .effects = {.send = keep_sent, .order = keep_order, .self = b},
					       .epoch = 1,
					       .n_worker = 2,
					       .n_reader_max = 3,
					       .ordered = ordered,
					       .sequential = sequential,
					       .limit = UINT64_MAX};
	struct df_dispatch_config d = {.grid = &b->grid,
				       .target_ns = 1,
				       .lease_bytes_max = 1U << 20,
				       .credits = 2,
				       .window_bytes = ordered ? 1U << 20 : 0,
				       .n_lane_hint = 1};
	assert_int_equal(df_dispatch_create(&d, &b->dispatch), DF_OK);
	assert_int_equal(df_intake_create(&b->config, b->dispatch, recovered ? recovered : &nothing, &b->in), DF_OK);
	return b;
}

static void tear_down(struct bench *b)
{
	df_intake_destroy(&b->in);
	df_dispatch_destroy(&b->dispatch);
	df_grid_release(&b->grid);
	free(b);
}

/* What a reader is sent next; its type, or 0. */
static uint32_t feed(struct bench *b, uint64_t lane)
{
	size_t before = b->n_sent;
	assert_int_equal(df_intake_feed(b->in, lane), DF_OK);
	return b->n_sent > before ? b->sent[b->n_sent - 1].type : 0;
}

static const struct df_read *last_read(const struct bench *b)
{
	assert_int_equal(b->sent[b->n_sent - 1].type, DF_MSG_READ);
	return &b->sent[b->n_sent - 1].read;
}

static void cell(struct bench *b, uint64_t lane, uint32_t source, uint64_t no, size_t n_byte, uint64_t records)
{
	struct df_cell_info info = {no, n_byte, records, no};
	struct df_blob *payload[1] = {df_blob_create(n_byte)};
	struct df_frames frames = {NULL, payload, 1, 1};
	struct df_msg msg = {.type = DF_MSG_CELLS, .epoch = 1, .lane = lane};
	memset(payload[0]->p, 0, n_byte);
	msg.cells = (struct df_cells_msg){source, no, &info, 1};
	assert_int_equal(df_intake_on_message(b->in, &msg, &frames), DF_OK);
	df_blob_unref(&payload[0]);
}

static void end(struct bench *b, uint64_t lane, uint32_t source, uint64_t n_cell, uint64_t records, enum df_err code)
{
	struct df_frames frames = {0};
	struct df_msg msg = {.type = DF_MSG_SOURCE_END, .epoch = 1, .lane = lane};
	msg.source_end = (struct df_source_end){source, n_cell, 0, records, code, DF_STR("why"), b->flags};
	assert_int_equal(df_intake_on_message(b->in, &msg, &frames), DF_OK);
}

static const struct df_source_state *last_state(const struct bench *b)
{
	for (size_t i = b->n_order; i-- > 0;)
		if (b->order[i].type == DF_ORDER_SOURCE)
			return &b->order[i].source;
	return NULL;
}

/* ------------------------------------------------------------------ credits */

static void test_intake__readers_get_no_more_than_the_credits_of_all(void **state)
{
	struct bench *b = set_up(4, false, false, NULL);
	uint64_t granted = 0;
	(void)state;
	for (uint64_t lane = 1; lane <= 4; lane++) {
		assert_int_equal(feed(b, lane), DF_MSG_READ);
		assert_true(last_read(b)->credit_bytes <= DF_READER_CREDIT_BYTES);
		granted += last_read(b)->credit_bytes;
		assert_int_equal(feed(b, lane), 0);
	}
	assert_true(granted <= DF_READER_TOTAL_BYTES);
	tear_down(b);
}

static void test_intake__credit_is_renewed_as_bytes_arrive_and_stops_when_they_pile_up(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	uint64_t granted = 0, arrived = 0, no = 0;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	granted = last_read(b)->credit_bytes;
	while (arrived < granted) { /* nobody takes the cells: it must end */
		assert_true(no < 1000);
		cell(b, 1, 0, no++, 1U << 20, 1);
		arrived += 1U << 20;
		if (feed(b, 1) == DF_MSG_CREDIT)
			granted += b->sent[b->n_sent - 1].credit.bytes;
	}
	assert_true(granted > DF_READER_CREDIT_BYTES);
	assert_true(df_dispatch_reader_bytes(b->dispatch) <= DF_READER_TOTAL_BYTES + (1U << 20));
	const struct df_lease *l = NULL;
	assert_int_equal(df_dispatch_add_lane(b->dispatch, 9), DF_OK);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(df_dispatch_next(b->dispatch, 9, 0, &l), DF_OK);
		df_dispatch_seen(b->dispatch, 9, l->id, 1);
	}
	assert_int_equal(feed(b, 1), DF_MSG_CREDIT); /* seen: there is room again */
	tear_down(b);
}

static void test_intake__a_cell_larger_than_all_credit_does_not_stop_its_reader(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	const struct df_lease *l = NULL;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 1, 0, 0, 2 * DF_READER_TOTAL_BYTES, 1);
	assert_int_equal(feed(b, 1), 0);
	assert_int_equal(df_dispatch_add_lane(b->dispatch, 9), DF_OK);
	assert_int_equal(df_dispatch_next(b->dispatch, 9, 0, &l), DF_OK);
	df_dispatch_seen(b->dispatch, 9, l->id, 1);
	assert_int_equal(feed(b, 1), DF_MSG_CREDIT);
	assert_true(b->sent[b->n_sent - 1].credit.bytes > DF_READER_TOTAL_BYTES / 2);
	tear_down(b);
}

static void test_intake__a_full_lane_is_asked_again_and_the_source_is_not_lost(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	b->lane_full = true;
	assert_int_equal(df_intake_feed(b->in, 1), DF_ERR_AGAIN);
	b->lane_full = false;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	tear_down(b);
}

/* ------------------------------------------------------------------ deaths */

static void test_intake__a_successor_is_told_what_is_known_and_repeats_are_dropped(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 1, 0, 0, 10, 1);
	cell(b, 1, 0, 1, 10, 1);
	df_intake_reader_died(b->in, 1);
	cell(b, 1, 0, 2, 10, 1); /* its tail, too late */
	assert_int_equal(df_dispatch_reader_bytes(b->dispatch), 20);
	assert_int_equal(feed(b, 2), DF_MSG_READ);
	assert_int_equal(last_read(b)->n_done, 1);
	assert_int_equal(b->done[b->n_sent - 1][0].first, 0);
	assert_int_equal(b->done[b->n_sent - 1][0].n, 2);
	cell(b, 2, 0, 1, 10, 1); /* a repeat */
	assert_int_equal(df_dispatch_reader_bytes(b->dispatch), 20);
	cell(b, 2, 0, 2, 10, 1);
	end(b, 2, 0, 3, 3, DF_OK);
	assert_true(df_intake_ended(b->in));
	assert_int_equal(b->grid.source[0].n_cell, 3);
	assert_int_equal(df_dispatch_reader_bytes(b->dispatch), 30);
	tear_down(b);
}

static struct df_cell_info said(uint64_t first, uint64_t n)
{
	struct df_cell_info sum = {0};
	for (uint64_t no = first; no < first + n; no++) {
		struct df_cell_info one = {no, 10, 1, no};
		df_cell_info_add(&sum, no, &one);
	}
	return sum;
}

static void test_intake__a_successor_is_told_what_was_said_of_known_cells_journalled_or_not(void **state)
{
	struct df_commit_cells done[] = {{{0, 2, 3}, said(2, 3)}};
	struct df_recovered r = {.cells = done, .n_cells = 1};
	struct bench *b = set_up(1, false, false, &r);
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->n_done, 1);
	cell(b, 1, 0, 0, 10, 1);
	cell(b, 1, 0, 1, 10, 1); /* closes the hole */
	cell(b, 1, 0, 7, 10, 1);
	df_intake_reader_died(b->in, 1);
	assert_int_equal(feed(b, 2), DF_MSG_READ);
	assert_int_equal(last_read(b)->n_done, 2);
	const struct df_range *range = b->done[b->n_sent - 1];
	struct df_cell_info first = said(0, 5), second = said(7, 1);
	assert_true(range[0].first == 0 && range[0].n == 5 && df_cell_info_eq(&range[0].info, &first));
	assert_true(range[1].first == 7 && range[1].n == 1 && df_cell_info_eq(&range[1].info, &second));
	tear_down(b);
}

static void test_intake__what_is_not_the_same_as_in_an_earlier_life_ends_the_run(void **state)
{
	struct df_commit_cells done[] = {{{0, 0, 3}, said(0, 3)}};
	struct df_recovered r = {.cells = done, .n_cells = 1};
	struct bench *b = set_up(1, false, false, &r);
	struct df_fail why;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	b->flags = DF_SOURCE_END_DIFFERS;
	end(b, 1, 0, 3, 3, DF_ERR_CHANGED);
	assert_true(df_intake_failed(b->in, &why));
	assert_int_equal(why.code, DF_ERR_CHANGED);
	assert_non_null(strstr(why.msg, "why"));
	assert_non_null(strstr(why.msg, "--force-restart"));
	tear_down(b);
}

static void test_intake__what_differs_between_two_readers_of_one_life_is_a_source_error(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	struct df_fail why;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 1, 0, 0, 10, 1);
	df_intake_reader_died(b->in, 1);
	assert_int_equal(feed(b, 2), DF_MSG_READ);
	b->flags = DF_SOURCE_END_DIFFERS;
	end(b, 2, 0, 1, 1, DF_ERR_CHANGED);
	assert_false(df_intake_failed(b->in, &why));
	assert_true(df_intake_ended(b->in));
	assert_int_equal(df_intake_source_errors(b->in), 1);
	tear_down(b);
}

/* ------------------------------------------------------------------ what is known, as ranges */

static uint64_t random_next(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void test_known__ten_million_cells_in_any_order_of_leases_are_few_ranges(void **state)
{
	enum { LEASE = 4, N = 10000000 / LEASE };
	struct df_known k = {0};
	uint64_t seed = 1, most = 0;
	(void)state;
	uint64_t *turn = malloc(64 * sizeof(*turn)), n_out = 0, next = 0;
	for (uint64_t i = 0; i < N; i++) { /* 64 leases are out, and any of them comes back next */
		for (; n_out < 64 && next < N; n_out++)
			turn[n_out] = next++;
		uint64_t at = random_next(&seed) % n_out, lease = turn[at];
		turn[at] = turn[--n_out];
		struct df_cell_info info = {lease + 1, 1, LEASE, lease};
		assert_int_equal(df_known_add(&k, lease * LEASE, LEASE, &info), DF_OK);
		most = k.n > most ? k.n : most;
	}
	assert_in_range(most, 0, 2 * (10000000 / DF_INFO_CELLS_MAX) + 128);
	uint64_t end = 0, records = 0;
	for (size_t i = 0; i < k.n; i++) {
		assert_int_equal(k.item[i].first, end);
		end += k.item[i].n;
		records += k.item[i].info.records;
	}
	assert_int_equal(end, (uint64_t)N * LEASE);
	assert_int_equal(records, (uint64_t)N * LEASE);
	free(turn);
	df_known_release(&k);
}

static void test_known__the_list_joins_further_and_then_leaves_out(void **state)
{
	struct df_known k = {0};
	struct df_range list[16];
	struct df_cell_info all = {0};
	(void)state;
	for (uint64_t i = 0; i < 8; i++) {
		struct df_cell_info info = {i + 1, 1, 1, i * 77};
		assert_int_equal(df_known_add(&k, i * DF_INFO_CELLS_MAX, DF_INFO_CELLS_MAX, &info), DF_OK);
		if (i == 0)
			all = info;
		else
			df_cell_info_join(&all, &info);
	}
	assert_int_equal(k.n, 8);
	assert_int_equal(df_known_list(&k, 16, list), 8);
	assert_int_equal(df_known_list(&k, 4, list), 4);
	assert_int_equal(df_known_list(&k, 1, list), 1);
	assert_true(list[0].n == 8 * DF_INFO_CELLS_MAX && df_cell_info_eq(&list[0].info, &all));
	struct df_cell_info info = {9, 9, 9, 9};
	assert_int_equal(df_known_add(&k, 1U << 20, 1, &info), DF_OK);
	assert_int_equal(df_known_list(&k, 1, list), 1);
	assert_int_equal(list[0].first, 0);
	df_known_release(&k);
}

static void test_intake__three_deaths_at_one_place_are_one_source_error(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	for (uint64_t lane = 1; lane <= 3; lane++) {
		assert_false(df_intake_ended(b->in));
		assert_int_equal(feed(b, lane), DF_MSG_READ);
		if (lane == 1)
			cell(b, lane, 0, 0, 10, 1);
		df_intake_reader_died(b->in, lane);
	}
	assert_true(df_intake_ended(b->in));
	assert_int_equal(df_intake_source_errors(b->in), 1);
	assert_int_equal(last_state(b)->err, DF_ERR_CHILD);
	assert_int_equal(last_state(b)->n_cell, 1);
	tear_down(b);
}

/* It was read to its end in an earlier life, but some of its results were not committed. */
static void test_intake__an_error_behind_a_journalled_end_is_told(void **state)
{
	struct df_commit_cells done = {{0, 0, 2}, {0, 0, 2, 0}};
	struct df_source_state source = {0, true, DF_OK, 3, {NULL, 0}};
	struct df_recovered r = {.cells = &done, .n_cells = 1, .source = &source, .n_source = 1};
	struct bench *b = set_up(1, false, false, &r);
	(void)state;
	for (uint64_t lane = 1; lane <= 3; lane++) {
		assert_int_equal(feed(b, lane), DF_MSG_READ);
		if (lane == 1)
			cell(b, lane, 0, 2, 10, 1);
		df_intake_reader_died(b->in, lane);
	}
	assert_true(df_intake_ended(b->in));
	assert_non_null(last_state(b)); /* or the sink would wait for the cells that never come */
	assert_int_equal(last_state(b)->err, DF_ERR_CHILD);
	tear_down(b);
}

static void test_intake__deaths_here_and_there_are_no_source_error(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	for (uint64_t lane = 1; lane <= 50; lane++) {
		assert_int_equal(feed(b, lane), DF_MSG_READ);
		cell(b, lane, 0, lane - 1, 10, 1);
		df_intake_reader_died(b->in, lane);
	}
	assert_false(df_intake_ended(b->in));
	assert_int_equal(df_intake_source_errors(b->in), 0);
	tear_down(b);
}

static void test_intake__an_idle_readers_death_costs_no_source(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	for (uint64_t lane = 2; lane < 9; lane++) {
		assert_int_equal(feed(b, lane), 0);
		assert_false(df_intake_reading(b->in, lane));
		df_intake_reader_died(b->in, lane);
	}
	assert_true(df_intake_reading(b->in, 1));
	assert_false(df_intake_ended(b->in));
	tear_down(b);
}

static void test_intake__a_dead_reader_of_stdin_ends_the_run(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	struct df_fail why;
	(void)state;
	b->source[0].live = true;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_false(df_intake_failed(b->in, &why));
	df_intake_reader_died(b->in, 1);
	assert_true(df_intake_failed(b->in, &why));
	assert_int_equal(why.code, DF_ERR_CHILD);
	tear_down(b);
}

/* ------------------------------------------------------------------ ends */

static void test_intake__an_input_that_shrank_between_two_readers_is_a_change(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	struct df_fail why;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 1, 0, 0, 10, 1);
	cell(b, 1, 0, 1, 10, 1);
	df_intake_reader_died(b->in, 1);
	assert_int_equal(feed(b, 2), DF_MSG_READ);
	end(b, 2, 0, 1, 1, DF_OK);
	assert_true(df_intake_failed(b->in, &why));
	assert_int_equal(why.code, DF_ERR_CHANGED);
	tear_down(b);
}

static void test_intake__an_error_ends_a_source_behind_its_whole_cells(void **state)
{
	struct bench *b = set_up(1, false, false, NULL);
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 1, 0, 0, 10, 1);
	end(b, 1, 0, 1, 1, DF_ERR_CORRUPT);
	assert_true(df_intake_ended(b->in));
	assert_int_equal(last_state(b)->err, DF_ERR_CORRUPT);
	assert_int_equal(last_state(b)->n_cell, 1);
	assert_int_equal(df_intake_source_errors(b->in), 1);
	tear_down(b);
}

static void test_intake__what_an_earlier_life_finished_is_not_read_again(void **state)
{
	struct df_commit_cells done[] = {{{0, 0, 2}, {0, 0, 2, 0}}, {{1, 0, 1}, {0, 0, 1, 0}}};
	struct df_source_state source[] = {{0, true, DF_OK, 2, {NULL, 0}}, {1, true, DF_OK, 3, {NULL, 0}}};
	struct df_recovered r = {.cells = done, .n_cells = 2, .source = source, .n_source = 2};
	struct bench *b = set_up(2, false, false, &r);
	(void)state;
	assert_int_equal(df_intake_readers_wanted(b->in), 1);
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->source, 1);
	assert_int_equal(last_read(b)->n_done, 1);
	assert_false(b->grid.source[1].ended); /* its cells have to come again first */
	cell(b, 1, 1, 1, 10, 1);
	cell(b, 1, 1, 2, 10, 1);
	end(b, 1, 1, 3, 3, DF_OK);
	assert_true(df_intake_ended(b->in));
	assert_null(last_state(b)); /* journalled already */
	tear_down(b);
}

static void test_intake__an_input_that_ends_elsewhere_than_journalled_is_a_change(void **state)
{
	struct df_source_state source = {0, true, DF_OK, 3, {NULL, 0}};
	struct df_recovered r = {.source = &source, .n_source = 1};
	struct bench *b = set_up(1, false, false, &r);
	struct df_fail why;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	end(b, 1, 0, 4, 4, DF_OK);
	assert_true(df_intake_failed(b->in, &why));
	assert_int_equal(why.code, DF_ERR_CHANGED);
	tear_down(b);
}

static void test_intake__messages_of_strangers_and_of_other_sources_are_dropped(void **state)
{
	struct bench *b = set_up(2, false, false, NULL);
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	cell(b, 77, 0, 0, 10, 1);
	cell(b, 1, 1, 0, 10, 1);
	cell(b, 1, 0, DF_MAX_CELLS, 10, 1);
	end(b, 1, 1, 0, 0, DF_OK);
	end(b, 77, 0, 0, 0, DF_OK);
	assert_int_equal(df_dispatch_reader_bytes(b->dispatch), 0);
	assert_false(df_intake_ended(b->in));
	assert_true(df_intake_reading(b->in, 1));
	tear_down(b);
}

/* ------------------------------------------------------------------ one by one */

static void test_intake__skip_and_limit_run_over_several_inputs(void **state)
{
	struct bench *b = set_up(4, true, false, NULL);
	(void)state;
	b->config.skip = 15;
	b->config.limit = 12;
	assert_int_equal(df_intake_readers_wanted(b->in), 1);
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->skip_records, 15);
	assert_int_equal(last_read(b)->limit_records, 12);
	assert_int_equal(feed(b, 2), 0); /* not before the first has ended */
	end(b, 1, 0, 0, 10, DF_OK);
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->skip_records, 5);
	assert_int_equal(last_read(b)->limit_records, 12);
	end(b, 1, 1, 1, 10, DF_OK); /* five skipped, five delivered */
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->skip_records, 0);
	assert_int_equal(last_read(b)->limit_records, 7);
	end(b, 1, 2, 1, 7, DF_OK);
	assert_int_equal(feed(b, 1), 0); /* the limit is reached: the last is not opened */
	assert_true(df_intake_ended(b->in));
	tear_down(b);
}

static void test_intake__a_source_that_ended_early_counts_for_those_behind_it(void **state)
{
	struct bench *b = set_up(2, true, false, NULL);
	(void)state;
	b->config.skip = 3;
	b->config.limit = 100;
	for (uint64_t lane = 1; lane <= 3; lane++) {
		assert_int_equal(feed(b, lane), DF_MSG_READ);
		if (lane == 1)
			cell(b, lane, 0, 0, 10, 40);
		df_intake_reader_died(b->in, lane);
	}
	assert_int_equal(feed(b, 4), DF_MSG_READ);
	assert_int_equal(last_read(b)->source, 1);
	assert_int_equal(last_read(b)->skip_records, 0);
	assert_int_equal(last_read(b)->limit_records, 60);
	tear_down(b);
}

static void test_intake__with_order_the_next_source_waits_for_its_turn(void **state)
{
	struct bench *b = set_up(2, false, true, NULL);
	const struct df_lease *l = NULL;
	(void)state;
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(feed(b, 2), 0);
	cell(b, 1, 0, 0, 10, 1);
	end(b, 1, 0, 1, 1, DF_OK);
	assert_int_equal(feed(b, 1), 0); /* its cells are not leased yet */
	assert_int_equal(df_dispatch_add_lane(b->dispatch, 9), DF_OK);
	assert_int_equal(df_dispatch_next(b->dispatch, 9, 0, &l), DF_OK);
	assert_int_equal(df_dispatch_next(b->dispatch, 9, 0, &l), DF_ERR_AGAIN);
	assert_int_equal(feed(b, 1), DF_MSG_READ);
	assert_int_equal(last_read(b)->source, 1);
	tear_down(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intake__readers_get_no_more_than_the_credits_of_all),
		cmocka_unit_test(test_intake__credit_is_renewed_as_bytes_arrive_and_stops_when_they_pile_up),
		cmocka_unit_test(test_intake__a_cell_larger_than_all_credit_does_not_stop_its_reader),
		cmocka_unit_test(test_intake__a_full_lane_is_asked_again_and_the_source_is_not_lost),
		cmocka_unit_test(test_intake__a_successor_is_told_what_is_known_and_repeats_are_dropped),
		cmocka_unit_test(test_intake__a_successor_is_told_what_was_said_of_known_cells_journalled_or_not),
		cmocka_unit_test(test_intake__what_is_not_the_same_as_in_an_earlier_life_ends_the_run),
		cmocka_unit_test(test_intake__what_differs_between_two_readers_of_one_life_is_a_source_error),
		cmocka_unit_test(test_known__ten_million_cells_in_any_order_of_leases_are_few_ranges),
		cmocka_unit_test(test_known__the_list_joins_further_and_then_leaves_out),
		cmocka_unit_test(test_intake__three_deaths_at_one_place_are_one_source_error),
		cmocka_unit_test(test_intake__an_error_behind_a_journalled_end_is_told),
		cmocka_unit_test(test_intake__deaths_here_and_there_are_no_source_error),
		cmocka_unit_test(test_intake__an_idle_readers_death_costs_no_source),
		cmocka_unit_test(test_intake__a_dead_reader_of_stdin_ends_the_run),
		cmocka_unit_test(test_intake__an_input_that_shrank_between_two_readers_is_a_change),
		cmocka_unit_test(test_intake__an_error_ends_a_source_behind_its_whole_cells),
		cmocka_unit_test(test_intake__what_an_earlier_life_finished_is_not_read_again),
		cmocka_unit_test(test_intake__an_input_that_ends_elsewhere_than_journalled_is_a_change),
		cmocka_unit_test(test_intake__messages_of_strangers_and_of_other_sources_are_dropped),
		cmocka_unit_test(test_intake__skip_and_limit_run_over_several_inputs),
		cmocka_unit_test(test_intake__a_source_that_ended_early_counts_for_those_behind_it),
		cmocka_unit_test(test_intake__with_order_the_next_source_waits_for_its_turn),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
