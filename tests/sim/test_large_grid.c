// SPDX-License-Identifier: Apache-2.0
/*
 * Size alone: a hundred gigabytes of JSONL, and a hundred thousand one-cell files, through control and sink with workers that
 * answer at once. The coordinator's memory stays flat, and every cell is done exactly once.
 * Trap tried here: 16 KB cells by the million must be answered by lease, not by cell.
 */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/control.h"
#include "tests/sim/help_pipe.h"

#define N_WORKER 8

struct bench {
	struct df_grid grid;
	struct df_dataset dataset;
	struct df_arena arena, scratch;
	struct df_store *store;
	struct df_sink *sink;
	struct df_control *control;
	struct pipe orders, events, hellos, results;
	uint64_t now_ns, ns_per_byte, n_lease, n_event;
	uint64_t seq[N_WORKER + 1];
	size_t peak_bytes, base_bytes;
};

static size_t heap_bytes(void)
{
#if defined(__SANITIZE_ADDRESS__)
	return 0;
#else
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
#endif
}

static void hello(struct bench *b, uint64_t lane)
{
	struct df_msg msg = {.type = DF_MSG_HELLO, .epoch = 1, .lane = lane, .hello.sent = b->seq[lane & 0xfffff]};
	pipe_put_message(&b->hellos, 0, &msg, NULL, 0);
}

/* The model worker: a whole answer without rows, at once. */
static enum df_err effect_send(void *self, uint64_t lane, const struct df_msg *lease, struct df_blob *const *payload,
			       size_t n)
{
	struct bench *b = self;
	struct df_cells cells[DF_LEASE_SEGMENTS_MAX];
	uint64_t bytes = 0;
	(void)payload;
	(void)n;
	assert_int_equal(lease->type, DF_MSG_LEASE);
	for (size_t i = 0; i < lease->lease_msg.n_segment; i++) {
		cells[i] = lease->lease_msg.segment[i].cells;
		bytes += lease->lease_msg.segment[i].end - lease->lease_msg.segment[i].start;
	}
	struct df_counter counter[] = {{DF_STR("in"), bytes / 100},
				       {DF_STR("filtered"), bytes / 100},
				       {DF_STR("bytes_in"), bytes},
				       {DF_STR("busy_ns"), bytes * b->ns_per_byte}};
	struct df_msg msg = {.type = DF_MSG_RESULT, .epoch = 1, .lane = lane, .lease = lease->lease};
	msg.result = (struct df_result){.last = true,
					.cells = cells,
					.n_cells = lease->lease_msg.n_segment,
					.counter = counter,
					.n_counter = 4,
					.seq = ++b->seq[lane & 0xfffff]};
	pipe_put_message(&b->results, 0, &msg, NULL, 0);
	b->n_lease++;
	return DF_OK;
}

static void effect_order(void *self, const struct df_order *order)
{
	struct bench *b = self;
	pipe_put(&b->orders, 0)->order = *order;
}

static enum df_err effect_spawn(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	(void)fail;
	assert_int_equal(role, DF_ROLE_WORKER);
	hello(self, lane);
	return DF_OK;
}

static void effect_kill(void *self, uint64_t lane, int sig)
{
	(void)self;
	(void)lane;
	fail_msg("a worker is killed with %d", sig);
}

static void effect_close_lane(void *self, uint64_t lane)
{
	(void)self;
	(void)lane;
}

static void on_emit(void *self, struct df_event *event)
{
	struct bench *b = self;
	b->n_event++;
	pipe_put(&b->events, 0)->event = *event;
}

static void set_up(struct bench *b, uint32_t n_source, enum df_source_kind kind, uint64_t size_bytes, bool ordered)
{
	struct df_recovered fresh;
	struct df_fail fail;
	b->base_bytes = heap_bytes();
	df_arena_init(&b->arena, 1U << 20, 0);
	assert_int_equal(df_grid_init(&b->grid, DF_CELL_BYTES), DF_OK);
	b->dataset.source = calloc(n_source, sizeof(*b->dataset.source));
	uint64_t *n_cell = calloc(n_source, sizeof(*n_cell));
	for (uint32_t i = 0; i < n_source; i++) {
		b->dataset.source[i] =
			(struct df_source){.path = "/corpus/file", .name = "file", .kind = (uint8_t)kind};
		assert_int_equal(df_grid_add(&b->grid, kind, size_bytes), DF_OK);
		n_cell[i] = b->grid.source[i].n_cell;
	}
	b->dataset.n_source = n_source;
	struct df_store_config store = {.dir_fd = -1, .out_fd = -1, .rejects_fd = -1, .inline_sync = true};
	assert_int_equal(df_store_open(&store, &df_io_real, &b->arena, &b->store, &fresh, &fail), DF_OK);
	struct df_sink_config sink = {.store = b->store,
				      .ordered = ordered,
				      .commit_ns = DF_COMMIT_MS * DF_MS,
				      .commit_bytes = DF_COMMIT_BYTES,
				      .spill_dirfd = -1,
				      .emit = on_emit,
				      .self = b};
	assert_int_equal(df_sink_create(&sink, n_cell, n_source, &fresh, &b->sink), DF_OK);
	free(n_cell);
	struct df_control_config control = {.dataset = &b->dataset,
					    .grid = &b->grid,
					    .effects = {.send = effect_send,
							.order = effect_order,
							.spawn = effect_spawn,
							.kill = effect_kill,
							.close_lane = effect_close_lane,
							.self = b},
					    .epoch = 1,
					    .n_worker = N_WORKER,
					    .n_reader_max = 1,
					    .ordered = ordered,
					    .limit = UINT64_MAX};
	assert_int_equal(df_control_create(&control, &fresh, &b->control), DF_OK);
}

static void tear_down(struct bench *b)
{
	pipe_cut(&b->orders, 0);
	pipe_cut(&b->events, 0);
	pipe_cut(&b->hellos, 0);
	pipe_cut(&b->results, 0);
	df_control_destroy(&b->control);
	df_sink_destroy(&b->sink);
	df_store_close(&b->store);
	df_grid_release(&b->grid);
	df_arena_release(&b->arena);
	free(b->dataset.source);
}

static void turn_sink(struct bench *b)
{
	while (b->orders.head) {
		struct parcel *p = pipe_take(&b->orders);
		df_sink_on_order(b->sink, &p->order);
		p->order.source.message.p = NULL;
		parcel_free(p);
	}
	while (b->results.head) {
		struct parcel *p = pipe_take(&b->results);
		df_sink_on_message(b->sink, &p->frames);
		parcel_free(p);
	}
	df_sink_on_empty(b->sink);
	df_sink_tick(b->sink, b->now_ns);
}

static void turn_control(struct bench *b)
{
	while (b->hellos.head) {
		struct parcel *p = pipe_take(&b->hellos);
		df_control_on_message(b->control, &p->frames, b->now_ns);
		parcel_free(p);
	}
	while (b->events.head) {
		struct parcel *p = pipe_take(&b->events);
		df_control_on_event(b->control, &p->event, b->now_ns);
		parcel_free(p);
	}
}

static void run(struct bench *b, uint64_t n_cell)
{
	uint64_t turn = 0;
	df_control_start(b->control, 0);
	for (; df_control_outcome(b->control) == DF_OUTCOME_RUNNING; turn++) {
		assert_true(turn < 10 * n_cell + 1000); /* else it hangs */
		b->now_ns += DF_MS;
		turn_sink(b);
		turn_control(b);
		size_t now = turn % 256 == 0 ? heap_bytes() : 0;
		b->peak_bytes = now > b->peak_bytes ? now : b->peak_bytes;
		for (uint64_t lane = 1; turn % 1000 == 999 && lane <= N_WORKER; lane++)
			hello(b, df_lane_id(1, (uint32_t)lane)); /* else it would be silent */
	}
	assert_int_equal(df_control_outcome(b->control), DF_OUTCOME_DONE);
	assert_int_equal(b->grid.n_done, n_cell);
	assert_int_equal(df_control_stats(b->control).cells_done, n_cell); /* each once */
	assert_int_equal(df_sink_stats(b->sink).doubled, 0);
	print_message("%llu cells, %llu leases, %llu events, peak %zu KiB\n", (unsigned long long)n_cell,
		      (unsigned long long)b->n_lease, (unsigned long long)b->n_event,
		      b->peak_bytes > b->base_bytes ? (b->peak_bytes - b->base_bytes) >> 10 : 0);
}

static void test_large_grid__a_hundred_gigabytes_keep_memory_flat(void **state)
{
	uint64_t size_bytes = UINT64_C(100000000000), n_cell = (size_bytes + DF_CELL_BYTES - 1) / DF_CELL_BYTES;
	(void)state;
	for (int ordered = 0; ordered < 2; ordered++) {
		struct bench b = {.ns_per_byte = 2};
		set_up(&b, 1, DF_SOURCE_JSONL, size_bytes, ordered);
		run(&b, n_cell);
		assert_int_equal(df_control_stats(b.control).tally.bytes_in, size_bytes);
		assert_true(b.n_lease < n_cell / 50);
		assert_true(b.peak_bytes < b.base_bytes + (8U << 20));
		tear_down(&b);
	}
}

/* Work that is so slow that a lease is one cell: the worst case of messages. */
static void test_large_grid__slow_work_by_single_cells_keeps_memory_flat(void **state)
{
	uint64_t n_cell = 300000;
	struct bench b = {.ns_per_byte = 100000};
	(void)state;
	set_up(&b, 1, DF_SOURCE_JSONL, n_cell * DF_CELL_BYTES, false);
	run(&b, n_cell);
	assert_true(b.n_lease > n_cell / 2);
	assert_true(b.peak_bytes < b.base_bytes + (8U << 20));
	tear_down(&b);
}

static void test_large_grid__a_hundred_thousand_small_files_share_leases(void **state)
{
	uint32_t n_source = 100000;
	(void)state;
	for (int ordered = 0; ordered < 2; ordered++) {
		struct bench b = {.ns_per_byte = 2};
		set_up(&b, n_source, DF_SOURCE_TEXT, 3000, ordered);
		run(&b, n_source);
		assert_true(b.n_lease < n_source / 20);
		assert_true(b.peak_bytes < b.base_bytes + (48U << 20)); /* 400 bytes a file, and what a commit names */
		tear_down(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_large_grid__a_hundred_gigabytes_keep_memory_flat),
		cmocka_unit_test(test_large_grid__slow_work_by_single_cells_keeps_memory_flat),
		cmocka_unit_test(test_large_grid__a_hundred_thousand_small_files_share_leases),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "sim");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
