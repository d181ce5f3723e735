// SPDX-License-Identifier: Apache-2.0
/* test_sink_thread: what control said before it sent a lease is heard before the lease's result. ctest: threaded */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/sink_thread.h"

#define N_CELL 2000U
#define ROW_BYTES 32768U /* the sink is busy with one while the next arrive */
#define DEADLINE_NS (60 * DF_SEC)

struct bench {
	char dir[40], endpoint[80];
	struct df_store_config config;
	struct df_arena arena;
	struct df_store *store;
	struct df_recovered recovered;
	struct df_link *link;
	struct df_socket *push, *pull;
	struct df_queue *events;
	struct df_life life;
	struct df_sink_thread *thread;
	struct df_buf header;
	struct df_blob *row;
	struct df_fail fail;
};

static void must(struct bench *b, enum df_err err)
{
	if (err != DF_OK)
		fail_msg("%s: %s", df_err_name(err), b->fail.msg);
}

static void open_store(struct bench *b)
{
	must(b, df_store_open(&b->config, &df_io_real, &b->arena, &b->store, &b->recovered, &b->fail));
}

static void set_up(struct bench *b)
{
	uint64_t n_cell = UINT64_MAX; /* a reader's source */
	*b = (struct bench){.dir = "/tmp/df-sink-XXXXXX"};
	assert_non_null(mkdtemp(b->dir));
	(void)snprintf(b->endpoint, sizeof(b->endpoint), "ipc://%s/results", b->dir);
	b->config = (struct df_store_config){.dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
					     .out_fd = -1,
					     .rejects_fd = -1,
					     .want = {true, false, true},
					     .part_bytes = DF_PART_BYTES,
					     .fsync = DF_FSYNC_NEVER,
					     .run_id = 1,
					     .fingerprint = 1};
	df_arena_init(&b->arena, 64U << 20, 0);
	df_buf_init(&b->header, DF_HEADER_BYTES_MAX);
	b->row = df_blob_create(ROW_BYTES);
	memset(b->row->p, 'x', ROW_BYTES);
	open_store(b);
	must(b, df_link_open(16, &b->link, &b->fail));
	must(b, df_socket_listen(b->link, DF_SOCKET_PULL, b->endpoint, 64, &b->pull, &b->fail));
	must(b, df_socket_connect(b->link, DF_SOCKET_PUSH, b->endpoint, 64, &b->push, &b->fail));
	must(b, df_queue_create(sizeof(struct df_event), &b->events));
	struct df_sink_config config = {
		.store = b->store, .commit_ns = 5 * DF_MS, .commit_bytes = 1U << 20, .spill_dirfd = -1};
	must(b, df_sink_thread_start(&config, &n_cell, 1, &b->recovered, b->pull, b->events, &b->life, &b->thread,
				     &b->fail));
	df_sink_thread_order(b->thread, &(struct df_order){.type = DF_ORDER_LANE, .lane = 1});
}

static void tear_down(struct bench *b)
{
	char command[80];
	df_store_close(&b->store);
	(void)close(b->config.dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", b->dir);
	assert_int_equal(system(command), 0);
	df_arena_release(&b->arena);
	df_buf_release(&b->header);
	df_blob_unref(&b->row);
}

/* As control and a worker that answers at once. */
static void tell_and_answer(struct bench *b, uint64_t cell)
{
	struct df_cells cells = {0, cell, 1};
	struct df_order info = {.type = DF_ORDER_INFO, .cell = cell, .info = {cell, 10, 1, cell}};
	struct df_msg msg = {.type = DF_MSG_RESULT, .epoch = 1, .lane = 1, .lease = cell + 1};
	struct df_output output = {DF_OUTPUT_JSONL, 1, ROW_BYTES, df_hash64(b->row->p, ROW_BYTES)};
	msg.result = (struct df_result){
		.last = true, .output = &output, .n_output = 1, .cells = &cells, .n_cells = 1, .seq = cell + 1};
	df_buf_reset(&b->header);
	must(b, df_msg_pack(&msg, &b->header));
	df_sink_thread_order(b->thread, &info);
	enum df_err err;
	while ((err = df_socket_send(b->push, df_buf_str(&b->header), &b->row, 1)) == DF_ERR_AGAIN) {
		struct df_wait w = {.socket = b->push, .want_send = true};
		must(b, df_wait(&w, 1, 100));
	}
	must(b, err);
}

static void wait_for_all(struct bench *b)
{
	struct df_event event;
	uint64_t n = 0, start = df_clock_mono(&df_clock_real);
	while (n < N_CELL) {
		struct df_wait w = {.fd = df_queue_fd(b->events)};
		must(b, df_wait(&w, 1, 100));
		while (df_queue_take(b->events, &event)) {
			assert_true(event.type == DF_EVENT_SEEN || event.type == DF_EVENT_DONE);
			n += event.type == DF_EVENT_DONE ? event.cells.n : 0;
		}
		assert_true(df_clock_mono(&df_clock_real) < start + DEADLINE_NS);
	}
}

static void stop(struct bench *b)
{
	assert_true(df_sink_thread_join(b->thread, 10000));
	df_sink_thread_destroy(&b->thread);
	df_socket_close(&b->push);
	df_link_close(&b->link);
	df_queue_destroy(&b->events);
	df_store_close(&b->store);
}

static void test_sink_thread__what_a_reader_said_of_a_cell_is_journalled_with_it(void **state)
{
	struct bench b;
	uint64_t cells = 0, records = 0, bytes = 0;
	(void)state;
	set_up(&b);
	for (uint64_t i = 0; i < N_CELL; i++) { /* at many paces, so that it is sometimes just the sink's own */
		uint64_t until = df_clock_mono(&df_clock_real) + i % 64 * 1000;
		while (df_clock_mono(&df_clock_real) < until)
			continue;
		tell_and_answer(&b, i);
	}
	wait_for_all(&b);
	stop(&b);
	open_store(&b);
	for (size_t i = 0; i < b.recovered.n_cells; i++) {
		cells += b.recovered.cells[i].cells.n;
		records += b.recovered.cells[i].info.records;
		bytes += b.recovered.cells[i].info.bytes;
	}
	assert_int_equal(cells, N_CELL);
	assert_int_equal(records, N_CELL);
	assert_int_equal(bytes, 10 * N_CELL);
	tear_down(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sink_thread__what_a_reader_said_of_a_cell_is_journalled_with_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
