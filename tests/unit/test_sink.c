// SPDX-License-Identifier: Apache-2.0
/*
 * Sink: what it takes, refuses, drops and orders. The store is a real one on stdout's kind, whose descriptor is a memory file.
 * Traps tried here: a worker under back-pressure is not a gap; a retired lane may still send; what a fenced lane staged is dropped with it;
 * with an order kept the head is never refused. ctest: threaded
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/sink/sink.h"

#define N_EVENT 64

struct bench {
	struct df_arena arena;
	struct df_store *store;
	struct df_sink *sink;
	struct df_event event[N_EVENT];
	size_t n_event;
	int fd;
	char text[4096];
	uint64_t seq[3]; /* messages of lanes 1 and 2 */
};

static void keep_event(void *self, struct df_event *event)
{
	struct bench *b = self;
	assert_true(b->n_event < N_EVENT);
	free(event->message);
	event->message = NULL;
	b->event[b->n_event++] = *event;
}

static void drop_event(void *self, struct df_event *event)
{
	(void)self;
	if (event->type == DF_EVENT_FATAL)
		fail_msg("%s", event->message);
	free(event->message);
}

/* n_cell: of each source, UINT64_MAX for a reader's. Lanes 1 and 2 may send. */
static void set_up_recovered(struct bench *b, const uint64_t *n_cell, uint32_t n, bool ordered,
			     const struct df_recovered *recovered)
{
	struct df_recovered fresh;
	struct df_fail fail;
	*b = (struct bench){.fd = memfd_create("rows", MFD_CLOEXEC)};
	df_arena_init(&b->arena, 1U << 20, 0);
	struct df_store_config store = {
		.dir_fd = -1, .out_fd = b->fd, .rejects_fd = -1, .want = {true, false, false}, .inline_sync = true};
	assert_int_equal(df_store_open(&store, &df_io_real, &b->arena, &b->store, &fresh, &fail), DF_OK);
	struct df_sink_config config = {.store = b->store,
					.ordered = ordered,
					.commit_ns = 1000,
					.commit_bytes = 1U << 20,
					.spill_dirfd = -1,
					.emit = keep_event,
					.self = b};
	assert_int_equal(df_sink_create(&config, n_cell, n, recovered ? recovered : &fresh, &b->sink), DF_OK);
	for (uint64_t lane = 1; lane <= 2; lane++)
		df_sink_on_order(b->sink, &(struct df_order){.type = DF_ORDER_LANE, .lane = lane});
}

static void set_up(struct bench *b, const uint64_t *n_cell, uint32_t n, bool ordered)
{
	set_up_recovered(b, n_cell, n, ordered, NULL);
}

static void tear_down(struct bench *b)
{
	df_sink_destroy(&b->sink);
	df_store_close(&b->store);
	df_arena_release(&b->arena);
	(void)close(b->fd);
}

static const char *written(struct bench *b)
{
	ssize_t n = pread(b->fd, b->text, sizeof(b->text) - 1, 0);
	b->text[n] = '\0';
	return b->text;
}

/* How many events of this type have come. */
static int count(const struct bench *b, enum df_event_type type)
{
	int n = 0;
	for (size_t i = 0; i < b->n_event; i++)
		n += b->event[i].type == type;
	return n;
}

static const struct df_event *last(const struct bench *b)
{
	assert_true(b->n_event > 0);
	return &b->event[b->n_event - 1];
}

/* The number of a lane's next message. */
static uint64_t next_seq(struct bench *b, uint64_t lane)
{
	return lane <= 2 ? ++b->seq[lane] : 1;
}

static void deliver(struct bench *b, const struct df_msg *msg, const char *rows)
{
	struct df_buf header;
	struct df_blob *payload[1];
	df_buf_init(&header, 1U << 16);
	assert_int_equal(df_msg_pack(msg, &header), DF_OK);
	struct df_frames frames = {df_blob_copy(header.p, header.n), payload, 0, 1};
	if (rows)
		payload[frames.n_payload++] = df_blob_copy(rows, strlen(rows));
	df_sink_on_message(b->sink, &frames);
	df_blob_unref(&frames.header);
	if (frames.n_payload)
		df_blob_unref(&payload[0]);
	df_buf_release(&header);
}

struct part {
	uint64_t lane, lease;
	uint32_t part;
	bool last;
	struct df_cells cells;
	const char *rows;
	uint64_t in, out;
	uint64_t wrong_hash; /* flips bits */
	uint64_t seq;        /* 0: the next */
};

static void send_part(struct bench *b, struct part p)
{
	struct df_output output = {DF_OUTPUT_JSONL, 1, 0, 0};
	struct df_counter counter[] = {{DF_STR("in"), p.in}, {DF_STR("out"), p.out}};
	struct df_msg msg = {.type = DF_MSG_RESULT, .epoch = 1, .lane = p.lane, .lease = p.lease};
	msg.result = (struct df_result){.part = p.part, .last = p.last, .output = &output, .n_output = p.rows ? 1 : 0};
	msg.result.seq = p.seq ? p.seq : next_seq(b, p.lane);
	if (p.rows)
		output.hash = df_hash64(p.rows, strlen(p.rows)) ^ p.wrong_hash;
	if (p.last) {
		msg.result.cells = &p.cells;
		msg.result.n_cells = 1;
		msg.result.counter = counter;
		msg.result.n_counter = 2;
	}
	deliver(b, &msg, p.rows);
}

/* A whole result in one part: one document a cell. */
static void answer(struct bench *b, uint64_t lane, uint64_t lease, struct df_cells cells, const char *rows)
{
	send_part(b, (struct part){.lane = lane,
				   .lease = lease,
				   .last = true,
				   .cells = cells,
				   .rows = rows,
				   .in = cells.n,
				   .out = cells.n});
}

static void tell(struct bench *b, enum df_order_type type, uint64_t lane, uint64_t n)
{
	df_sink_on_order(b->sink, &(struct df_order){.type = type, .lane = lane, .n = n});
}

static void end_source(struct bench *b, uint32_t source, uint64_t n_cell, enum df_err err)
{
	df_sink_on_order(b->sink,
			 &(struct df_order){.type = DF_ORDER_SOURCE, .source = {source, true, err, n_cell, {NULL, 0}}});
}

/* ------------------------------------------------------------------ parts */

static void test_sink__a_result_is_written_when_its_last_part_is_there(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 0, .rows = "a\n"});
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 1, .rows = "b\n"});
	assert_string_equal(written(&b), "");
	assert_int_equal(b.n_event, 0);
	send_part(&b,
		  (struct part){.lane = 1, .lease = 5, .part = 2, .last = true, .cells = {0, 0, 2}, .in = 2, .out = 2});
	assert_string_equal(written(&b), "a\nb\n");
	assert_int_equal(count(&b, DF_EVENT_SEEN), 1);
	assert_int_equal(last(&b)->lease, 5);
	assert_int_equal(last(&b)->tally.out, 2);
	tear_down(&b);
}

static void test_sink__parts_out_of_order_are_refused_and_the_lane_is_reported(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 0, .rows = "a\n"});
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 2, .last = true, .cells = {0, 0, 1}, .rows = "c\n"});
	assert_string_equal(written(&b), "");
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	assert_int_equal(df_sink_stats(b.sink).malformed, 1);
	tear_down(&b);
}

static void test_sink__a_part_that_does_not_begin_a_result_is_refused(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 1, .last = true, .cells = {0, 0, 1}, .rows = "c\n"});
	assert_string_equal(written(&b), "");
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	tear_down(&b);
}

static void test_sink__parts_of_several_leases_may_come_between_each_other(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .rows = "a\n"});
	send_part(&b, (struct part){.lane = 2, .lease = 6, .rows = "x\n"});
	answer(&b, 1, 7, (struct df_cells){0, 2, 1}, "m\n");
	send_part(&b, (struct part){.lane = 2, .lease = 6, .part = 1, .last = true, .cells = {0, 1, 1}, .rows = "y\n"});
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 1, .last = true, .cells = {0, 0, 1}, .rows = "b\n"});
	assert_string_equal(written(&b), "m\nx\ny\na\nb\n");
	assert_int_equal(count(&b, DF_EVENT_SEEN), 3);
	tear_down(&b);
}

static void test_sink__bytes_that_changed_on_the_way_are_refused(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){
			      .lane = 1, .lease = 5, .last = true, .cells = {0, 0, 1}, .rows = "a\n", .wrong_hash = 1});
	assert_string_equal(written(&b), "");
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	tear_down(&b);
}

static void test_sink__cells_that_the_input_does_not_have_are_refused(void **state)
{
	static const struct df_cells bad[] = {{1, 0, 1}, {0, 4, 1},          {0, 3, 2},
					      {0, 0, 0}, {0, UINT64_MAX, 2}, {0, 1, UINT64_MAX}};
	struct bench b;
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set_up(&b, (uint64_t[]){4}, 1, false);
		send_part(&b, (struct part){.lane = 1, .lease = i + 1, .last = true, .cells = bad[i], .rows = "a\n"});
		assert_string_equal(written(&b), "");
		assert_int_equal(count(&b, DF_EVENT_SEEN), 0);
		assert_int_equal(df_sink_stats(b.sink).malformed, 1);
		tear_down(&b);
	}
}

static void test_sink__a_message_that_came_before_is_dropped_and_counts_for_nothing(void **state)
{
	struct bench b;
	struct part half = {.lane = 1, .lease = 5, .rows = "a\n", .in = 1, .out = 1, .seq = 1},
		    rest = {.lane = 1,
			    .lease = 5,
			    .part = 1,
			    .last = true,
			    .cells = {0, 0, 1},
			    .rows = "b\n",
			    .in = 1,
			    .out = 1,
			    .seq = 2};
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, half);
	send_part(&b, half);
	send_part(&b, rest);
	send_part(&b, half);
	send_part(&b, rest);
	assert_string_equal(written(&b), "a\nb\n");
	assert_int_equal(df_sink_stats(b.sink).doubled, 3);
	assert_int_equal(count(&b, DF_EVENT_SEEN), 1);
	assert_int_equal(count(&b, DF_EVENT_GAP), 0);
	for (int i = 0; i < 3; i++) { /* of two that it sent one is missing, whatever came twice */
		tell(&b, DF_ORDER_HELLO, 1, 2);
		df_sink_on_empty(b.sink);
	}
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	tear_down(&b);
}

static void test_sink__a_missing_message_retires_its_lane_and_nothing_more_is_taken_of_it(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .rows = "a\n", .seq = 1});
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 1, .last = true, .cells = {0, 0, 1}, .seq = 3});
	assert_int_equal(last(&b)->type, DF_EVENT_GAP);
	assert_int_equal(last(&b)->lane, 1);
	assert_int_equal(last(&b)->held_bytes, 0);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .part = 1, .rows = "b\n", .seq = 2});
	send_part(&b, (struct part){.lane = 1, .lease = 6, .last = true, .cells = {0, 1, 1}, .rows = "c\n", .seq = 4});
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	assert_int_equal(count(&b, DF_EVENT_SEEN), 0);
	assert_string_equal(written(&b), "");
	answer(&b, 2, 7, (struct df_cells){0, 0, 1}, "d\n"); /* others are not touched by it */
	assert_string_equal(written(&b), "d\n");
	tear_down(&b);
}

/* ------------------------------------------------------------------ exactly once */

static void test_sink__a_second_result_for_the_same_cells_is_dropped(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	answer(&b, 1, 5, (struct df_cells){0, 0, 2}, "a\n");
	answer(&b, 2, 6, (struct df_cells){0, 0, 2}, "a\n");
	assert_string_equal(written(&b), "a\n");
	assert_int_equal(df_sink_stats(b.sink).doubled, 1);
	assert_int_equal(count(&b, DF_EVENT_SEEN), 2); /* the second lane gets its credit back */
	assert_int_equal(last(&b)->tally.in, 0);
	tear_down(&b);
}

static void test_sink__a_result_of_cells_half_taken_is_a_bug(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	answer(&b, 1, 5, (struct df_cells){0, 0, 2}, "a\n");
	answer(&b, 2, 6, (struct df_cells){0, 1, 2}, "b\n");
	assert_string_equal(written(&b), "a\n");
	assert_int_equal(last(&b)->type, DF_EVENT_FATAL);
	assert_int_equal(last(&b)->err, DF_ERR_BUG);
	tear_down(&b);
}

static void test_sink__cells_of_an_earlier_life_are_not_written_again(void **state)
{
	struct df_commit_cells done = {{0, 1, 1}, {0, 0, 0, 0}};
	struct df_recovered recovered = {.cells = &done, .n_cells = 1};
	struct bench b;
	(void)state;
	set_up_recovered(&b, (uint64_t[]){4}, 1, false, &recovered);
	answer(&b, 1, 5, (struct df_cells){0, 1, 1}, "a\n");
	assert_string_equal(written(&b), "");
	assert_int_equal(df_sink_stats(b.sink).doubled, 1);
	tear_down(&b);
}

static void test_sink__counts_that_do_not_add_up_are_a_bug(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b,
		  (struct part){
			  .lane = 1, .lease = 5, .last = true, .cells = {0, 0, 1}, .rows = "a\n", .in = 3, .out = 2});
	assert_string_equal(written(&b), "");
	assert_int_equal(last(&b)->type, DF_EVENT_FATAL);
	assert_int_equal(last(&b)->err, DF_ERR_BUG);
	assert_true(df_sink_over(b.sink));
	tear_down(&b);
}

/* ------------------------------------------------------------------ lanes */

static void test_sink__messages_of_unknown_lanes_and_not_of_its_kind_are_dropped(void **state)
{
	struct bench b;
	struct df_frames frames = {.header = df_blob_copy("not msgpack \xc1", 13)};
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	answer(&b, 3, 5, (struct df_cells){0, 0, 1}, "a\n");
	assert_int_equal(df_sink_stats(b.sink).stale, 1);
	df_sink_on_message(b.sink, &frames);
	deliver(&b, &(struct df_msg){.type = DF_MSG_HELLO, .epoch = 1, .lane = 1}, NULL);
	assert_int_equal(df_sink_stats(b.sink).malformed, 2);
	assert_int_equal(b.n_event, 0);
	df_blob_unref(&frames.header);
	tear_down(&b);
}

static void test_sink__a_lane_is_fenced_only_when_the_socket_was_empty(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	tell(&b, DF_ORDER_FENCE, 1, 0);
	assert_int_equal(b.n_event, 0);
	answer(&b, 1, 5, (struct df_cells){0, 0, 1}, "a\n"); /* sent before it died */
	assert_string_equal(written(&b), "a\n");
	df_sink_on_empty(b.sink);
	assert_int_equal(last(&b)->type, DF_EVENT_FENCED);
	assert_int_equal(last(&b)->lane, 1);
	tear_down(&b);
}

static void test_sink__a_fenced_lanes_late_result_is_dropped(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .rows = "half\n"});
	tell(&b, DF_ORDER_FENCE, 1, 0);
	df_sink_on_empty(b.sink);
	assert_int_equal(last(&b)->held_bytes, 0); /* what it staged went with it */
	send_part(&b,
		  (struct part){.lane = 1, .lease = 5, .part = 1, .last = true, .cells = {0, 0, 1}, .rows = "late\n"});
	assert_int_equal(df_sink_stats(b.sink).stale, 1);
	answer(&b, 2, 6, (struct df_cells){0, 0, 1}, "again\n");
	assert_string_equal(written(&b), "again\n");
	tear_down(&b);
}

static void test_sink__fencing_twice_or_an_unknown_lane_is_answered_at_once(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	tell(&b, DF_ORDER_FENCE, 9, 0);
	assert_int_equal(last(&b)->type, DF_EVENT_FENCED);
	tear_down(&b);
}

static void test_sink__a_gap_is_found_only_when_the_socket_was_empty_and_twice(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	tell(&b, DF_ORDER_HELLO, 1, 1);
	tell(&b, DF_ORDER_HELLO, 1, 1); /* two HELLOs without an empty socket between are one look */
	df_sink_on_empty(b.sink);
	df_sink_on_empty(b.sink); /* an empty socket without a HELLO is none */
	assert_int_equal(count(&b, DF_EVENT_GAP), 0);
	tell(&b, DF_ORDER_HELLO, 1, 1);
	df_sink_on_empty(b.sink);
	assert_int_equal(count(&b, DF_EVENT_GAP), 0); /* missing once */
	tell(&b, DF_ORDER_HELLO, 1, 1);
	df_sink_on_empty(b.sink);
	assert_int_equal(count(&b, DF_EVENT_GAP), 1);
	assert_int_equal(last(&b)->lane, 1);
	tear_down(&b);
}

static void test_sink__results_on_their_way_at_every_hello_are_no_gap(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){20}, 1, false);
	for (uint64_t i = 0; i < 20; i++) { /* a busy lane is always one behind what it says */
		tell(&b, DF_ORDER_HELLO, 1, i + 1);
		df_sink_on_empty(b.sink);
		answer(&b, 1, 5 + i, (struct df_cells){0, i, 1}, "a\n");
	}
	assert_int_equal(count(&b, DF_EVENT_GAP), 0);
	tear_down(&b);
}

static void test_sink__a_result_that_was_only_late_is_no_gap(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	tell(&b, DF_ORDER_HELLO, 1, 1);
	df_sink_on_empty(b.sink);
	answer(&b, 1, 5, (struct df_cells){0, 0, 1}, "a\n");
	for (int i = 0; i < 3; i++) {
		tell(&b, DF_ORDER_HELLO, 1, 1);
		df_sink_on_empty(b.sink);
	}
	tell(&b, DF_ORDER_HELLO, 1, 2); /* one look that finds it short, after others that did not */
	df_sink_on_empty(b.sink);
	assert_int_equal(count(&b, DF_EVENT_GAP), 0);
	tear_down(&b);
}

static void test_sink__a_failed_answer_drops_its_parts_and_counts_as_sent(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	send_part(&b, (struct part){.lane = 1, .lease = 5, .rows = "half\n"});
	struct df_msg msg = {.type = DF_MSG_FAILED, .epoch = 1, .lane = 1, .lease = 5};
	msg.failed = (struct df_failed){DF_ERR_CHANGED, DF_STR("'x' changed"), 0, 0, next_seq(&b, 1)};
	deliver(&b, &msg, NULL);
	assert_int_equal(last(&b)->type, DF_EVENT_FAILED);
	assert_int_equal(last(&b)->err, DF_ERR_CHANGED);
	assert_int_equal(last(&b)->held_bytes, 0);
	for (int i = 0; i < 3; i++) {
		tell(&b, DF_ORDER_HELLO, 1, 1);
		df_sink_on_empty(b.sink);
	}
	assert_int_equal(count(&b, DF_EVENT_GAP), 0);
	tear_down(&b);
}

/* ------------------------------------------------------------------ order */

static void test_sink__with_order_results_wait_for_the_cells_before_them(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){2, 1}, 2, true);
	answer(&b, 1, 3, (struct df_cells){1, 0, 1}, "c\n");
	answer(&b, 1, 2, (struct df_cells){0, 1, 1}, "b\n");
	assert_string_equal(written(&b), "");
	assert_int_equal(count(&b, DF_EVENT_SEEN), 2);
	assert_int_equal(last(&b)->held_bytes, 4);
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	assert_string_equal(written(&b), "a\nb\nc\n");
	assert_int_equal(count(&b, DF_EVENT_WRITTEN), 3);
	assert_int_equal(last(&b)->held_bytes, 0);
	tear_down(&b);
}

static void test_sink__with_order_the_end_of_a_readers_source_lets_the_next_go(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){UINT64_MAX, UINT64_MAX, 1}, 3, true);
	answer(&b, 1, 3, (struct df_cells){2, 0, 1}, "z\n");
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	assert_string_equal(written(&b), "a\n");
	end_source(&b, 0, 1, DF_OK);
	assert_string_equal(written(&b), "a\n");
	end_source(&b, 1, 0, DF_OK); /* an empty one */
	assert_string_equal(written(&b), "a\nz\n");
	tear_down(&b);
}

static void test_sink__with_order_a_readers_error_is_an_end_that_waits_for_its_cells(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){UINT64_MAX, 1}, 2, true);
	answer(&b, 1, 3, (struct df_cells){1, 0, 1}, "z\n");
	end_source(&b, 0, 2, DF_ERR_CORRUPT);
	answer(&b, 1, 2, (struct df_cells){0, 1, 1}, "b\n");
	assert_string_equal(written(&b), "");
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	assert_string_equal(written(&b), "a\nb\nz\n");
	tear_down(&b);
}

static void test_sink__with_order_the_missing_cells_of_a_failed_source_are_passed_over(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){9, 2}, 2, true);
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	answer(&b, 1, 3, (struct df_cells){0, 5, 1}, "f\n");
	answer(&b, 1, 4, (struct df_cells){1, 0, 1}, "y\n");
	assert_string_equal(written(&b), "a\n");
	end_source(&b, 0, 9, DF_ERR_CHANGED);
	assert_string_equal(written(&b), "a\nf\ny\n");
	answer(&b, 1, 5, (struct df_cells){1, 1, 1}, "z\n");
	assert_string_equal(written(&b), "a\nf\ny\nz\n");
	tear_down(&b);
}

static void test_sink__with_order_ends_and_failures_of_an_earlier_life_hold(void **state)
{
	struct df_commit_cells done[] = {{{0, 0, 2}, {0, 0, 0, 0}}, {{1, 0, 1}, {0, 0, 0, 0}}};
	struct df_source_state source[] = {{0, true, DF_OK, 2, {NULL, 0}}, {1, true, DF_ERR_IO, 7, {NULL, 0}}};
	struct df_recovered recovered = {.cells = done, .n_cells = 2, .source = source, .n_source = 2};
	struct bench b;
	(void)state;
	set_up_recovered(&b, (uint64_t[]){UINT64_MAX, 7, 1}, 3, true, &recovered);
	answer(&b, 1, 1, (struct df_cells){2, 0, 1}, "z\n");
	assert_string_equal(written(&b), "z\n");
	tear_down(&b);
}

/* ------------------------------------------------------------------ commits and the end */

static void test_sink__cells_are_done_only_when_their_commit_is(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){4}, 1, false);
	df_sink_tick(b.sink, 500);
	answer(&b, 1, 1, (struct df_cells){0, 0, 3}, "a\n");
	df_sink_tick(b.sink, 1000);
	assert_int_equal(count(&b, DF_EVENT_DONE), 0);
	assert_int_equal(df_sink_deadline(b.sink), 1500);
	df_sink_tick(b.sink, 1500);
	if (count(&b, DF_EVENT_DONE) == 0)
		df_sink_tick(b.sink, 1501);
	assert_int_equal(count(&b, DF_EVENT_DONE), 1);
	assert_int_equal(last(&b)->cells.n, 3);
	assert_int_equal(df_sink_deadline(b.sink), UINT64_MAX);
	tear_down(&b);
}

static void finish(struct bench *b, bool complete)
{
	tell(b, DF_ORDER_FINISH, 0, complete);
	for (uint64_t t = 5000; t < 5010 && !df_sink_over(b->sink); t++)
		df_sink_tick(b->sink, t);
	assert_true(df_sink_over(b->sink));
}

static void test_sink__finishing_commits_what_is_left_first(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){2}, 1, false);
	answer(&b, 1, 1, (struct df_cells){0, 0, 2}, "a\n");
	finish(&b, true);
	assert_int_equal(count(&b, DF_EVENT_DONE), 1);
	assert_int_equal(last(&b)->type, DF_EVENT_FINISHED);
	assert_int_equal(*df_map_get(df_sink_totals(b.sink), DF_STR("in")), 2);
	tear_down(&b);
}

static void test_sink__a_run_that_is_called_complete_with_a_cell_missing_is_a_bug(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){3}, 1, false);
	answer(&b, 1, 1, (struct df_cells){0, 0, 2}, "a\n");
	finish(&b, true);
	assert_int_equal(last(&b)->type, DF_EVENT_FATAL);
	assert_int_equal(last(&b)->err, DF_ERR_BUG);
	tear_down(&b);
}

static void test_sink__stopping_early_writes_nothing_out_of_order(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){3}, 1, true);
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	answer(&b, 1, 3, (struct df_cells){0, 2, 1}, "c\n");
	finish(&b, false);
	assert_int_equal(last(&b)->type, DF_EVENT_FINISHED);
	assert_string_equal(written(&b), "a\n");
	assert_int_equal(*df_map_get(df_sink_totals(b.sink), DF_STR("in")), 1);
	tear_down(&b);
}

static void test_sink__orders_after_the_end_leak_nothing(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b, (uint64_t[]){0}, 1, false);
	finish(&b, true);
	struct df_source_state late = {0, true, DF_ERR_IO, 0, {strdup("late"), 4}};
	df_sink_on_order(b.sink, &(struct df_order){.type = DF_ORDER_SOURCE, .source = late});
	answer(&b, 1, 1, (struct df_cells){0, 0, 1}, "a\n");
	assert_string_equal(written(&b), "");
	tear_down(&b);
}

/* --- a disk that takes its time --- */

struct slow {
	struct df_io io;
	char path[32];
	int dir_fd;
	atomic_bool go;
};

static int slow_sync(void *self, int fd)
{
	struct slow *slow = self;
	while (!atomic_load(&slow->go))
		(void)usleep(500);
	return fdatasync(fd);
}

static void slow_set_up(struct bench *b, struct slow *slow, const uint64_t *n_cell, uint32_t n)
{
	struct df_recovered fresh;
	struct df_fail fail;
	*b = (struct bench){.fd = -1};
	*slow = (struct slow){.io = df_io_real, .path = "/tmp/df-sink-XXXXXX"};
	assert_non_null(mkdtemp(slow->path));
	slow->dir_fd = open(slow->path, O_RDONLY | O_DIRECTORY);
	slow->io.sync_data = slow_sync;
	slow->io.self = slow;
	atomic_store(&slow->go, true);
	df_arena_init(&b->arena, 256U << 20, 0);
	struct df_store_config store = {.dir_fd = slow->dir_fd, .want = {true, false, true}};
	assert_int_equal(df_store_open(&store, &slow->io, &b->arena, &b->store, &fresh, &fail), DF_OK);
	struct df_sink_config config = {.store = b->store,
					.commit_ns = 1000,
					.commit_bytes = 1000,
					.spill_dirfd = -1,
					.emit = drop_event,
					.self = b};
	assert_int_equal(df_sink_create(&config, n_cell, n, &fresh, &b->sink), DF_OK);
	df_sink_on_order(b->sink, &(struct df_order){.type = DF_ORDER_LANE, .lane = 1});
}

/* Closes, and opens again to see what was made durable. */
static struct df_recovered slow_reopen(struct bench *b, struct slow *slow)
{
	struct df_recovered r;
	struct df_fail fail;
	struct df_store_config store = {.dir_fd = slow->dir_fd, .want = {true, false, true}};
	df_sink_destroy(&b->sink);
	df_store_close(&b->store);
	assert_int_equal(df_store_open(&store, &slow->io, &b->arena, &b->store, &r, &fail), DF_OK);
	return r;
}

static void slow_tear_down(struct bench *b, struct slow *slow)
{
	char command[64];
	df_sink_destroy(&b->sink);
	df_store_close(&b->store);
	df_arena_release(&b->arena);
	(void)close(slow->dir_fd);
	(void)snprintf(command, sizeof(command), "rm -rf %s", slow->path);
	assert_int_equal(system(command), 0);
}

static void wait_commit(struct bench *b, uint64_t *now)
{
	struct pollfd pfd = {.fd = df_store_event_fd(b->store), .events = POLLIN};
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	df_sink_tick(b->sink, *now += 5000);
}

static void result_of(struct bench *b, uint64_t cell, const char *rows)
{
	send_part(b, (struct part){.lane = 1,
				   .lease = cell + 1,
				   .last = true,
				   .cells = {0, cell, 1},
				   .rows = rows,
				   .in = 1,
				   .out = 1});
}

static void test_sink__a_slow_disk_holds_results_back(void **state)
{
	(void)state;
	struct bench b;
	struct slow slow;
	uint64_t now = 1, cell = 0;
	char row[202];
	(void)snprintf(row, sizeof(row), "%0200d\n", 7);
	slow_set_up(&b, &slow, &(uint64_t){1000}, 1);
	result_of(&b, cell++, row);
	assert_false(df_sink_full(b.sink)); /* nothing in flight: it can begin a commit */
	atomic_store(&slow.go, false);
	df_sink_tick(b.sink, now += 5000);
	assert_true(df_store_committing(b.store));
	while (!df_sink_full(b.sink)) {
		result_of(&b, cell++, row);
		df_sink_tick(b.sink, now += 5000);
		assert_true(df_store_pending_bytes(b.store) <= DF_BATCH_COMMITS_MAX * 1000 + sizeof(row));
	}
	assert_true(cell > 15);
	atomic_store(&slow.go, true);
	wait_commit(&b, &now);
	assert_int_equal(df_store_pending_bytes(b.store), 0); /* the next one has begun with all of it */
	assert_false(df_sink_full(b.sink));
	wait_commit(&b, &now);
	struct df_recovered r = slow_reopen(&b, &slow);
	assert_true(r.n_cells == 1 && r.cells[0].cells.n == cell);
	slow_tear_down(&b, &slow);
}

static void test_sink__the_ranges_of_a_commit_fit_a_journal_record(void **state)
{
	(void)state;
	struct bench b;
	struct slow slow;
	uint64_t now = 1, cell = 0;
	slow_set_up(&b, &slow, &(uint64_t){4 * DF_BATCH_RANGES_MAX}, 1);
	result_of(&b, cell, "x\n");
	atomic_store(&slow.go, false);
	df_sink_tick(b.sink, now += 5000);
	while (!df_sink_full(b.sink))
		result_of(&b, cell += 2, NULL);
	assert_int_equal(cell, 2 * DF_BATCH_RANGES_MAX);
	atomic_store(&slow.go, true);
	wait_commit(&b, &now);
	wait_commit(&b, &now);
	assert_int_equal(slow_reopen(&b, &slow).n_cells, DF_BATCH_RANGES_MAX + 1);
	slow_tear_down(&b, &slow);
}

/* A folder of unreadable files: their messages are far more than a record may hold. */
static void test_sink__many_source_errors_go_into_several_commits(void **state)
{
	(void)state;
	enum { N = 1000, BYTES = 60000 };
	struct bench b;
	struct slow slow;
	static uint64_t n_cell[N];
	uint64_t now = 1;
	for (uint32_t i = 0; i < N; i++)
		n_cell[i] = 1;
	slow_set_up(&b, &slow, n_cell, N);
	for (uint32_t i = 0; i < N; i++) {
		char *message = malloc(BYTES);
		assert_non_null(message);
		memset(message, 'a' + (int)(i % 26), BYTES);
		df_sink_on_order(b.sink, &(struct df_order){.type = DF_ORDER_SOURCE,
							    .source = {i, true, DF_ERR_IO, 1, {message, BYTES}}});
		df_sink_on_order(b.sink, &(struct df_order){.type = DF_ORDER_STRIKE,
							    .strike = {{i, 7}, 1, DF_CAUSE_EXIT, 1, 0}});
	}
	df_sink_on_order(b.sink, &(struct df_order){.type = DF_ORDER_FINISH, .n = 0});
	df_sink_tick(b.sink, now += 5000);
	while (!df_sink_over(b.sink))
		wait_commit(&b, &now);
	assert_true(df_sink_stats(b.sink).commits >= N * BYTES / DF_COMMIT_NOTE_BYTES);
	struct df_recovered r = slow_reopen(&b, &slow);
	assert_int_equal(r.n_source, N);
	assert_int_equal(r.n_strike, N);
	for (uint32_t i = 0; i < N; i++)
		assert_true(r.source[i].message.n == BYTES && r.source[i].message.p[BYTES - 1] == 'a' + (int)(i % 26));
	slow_tear_down(&b, &slow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sink__a_result_is_written_when_its_last_part_is_there),
		cmocka_unit_test(test_sink__parts_out_of_order_are_refused_and_the_lane_is_reported),
		cmocka_unit_test(test_sink__a_part_that_does_not_begin_a_result_is_refused),
		cmocka_unit_test(test_sink__parts_of_several_leases_may_come_between_each_other),
		cmocka_unit_test(test_sink__bytes_that_changed_on_the_way_are_refused),
		cmocka_unit_test(test_sink__cells_that_the_input_does_not_have_are_refused),
		cmocka_unit_test(test_sink__a_message_that_came_before_is_dropped_and_counts_for_nothing),
		cmocka_unit_test(test_sink__a_missing_message_retires_its_lane_and_nothing_more_is_taken_of_it),
		cmocka_unit_test(test_sink__a_second_result_for_the_same_cells_is_dropped),
		cmocka_unit_test(test_sink__a_result_of_cells_half_taken_is_a_bug),
		cmocka_unit_test(test_sink__cells_of_an_earlier_life_are_not_written_again),
		cmocka_unit_test(test_sink__counts_that_do_not_add_up_are_a_bug),
		cmocka_unit_test(test_sink__messages_of_unknown_lanes_and_not_of_its_kind_are_dropped),
		cmocka_unit_test(test_sink__a_lane_is_fenced_only_when_the_socket_was_empty),
		cmocka_unit_test(test_sink__a_fenced_lanes_late_result_is_dropped),
		cmocka_unit_test(test_sink__fencing_twice_or_an_unknown_lane_is_answered_at_once),
		cmocka_unit_test(test_sink__a_gap_is_found_only_when_the_socket_was_empty_and_twice),
		cmocka_unit_test(test_sink__results_on_their_way_at_every_hello_are_no_gap),
		cmocka_unit_test(test_sink__a_result_that_was_only_late_is_no_gap),
		cmocka_unit_test(test_sink__a_failed_answer_drops_its_parts_and_counts_as_sent),
		cmocka_unit_test(test_sink__with_order_results_wait_for_the_cells_before_them),
		cmocka_unit_test(test_sink__with_order_the_end_of_a_readers_source_lets_the_next_go),
		cmocka_unit_test(test_sink__with_order_a_readers_error_is_an_end_that_waits_for_its_cells),
		cmocka_unit_test(test_sink__with_order_the_missing_cells_of_a_failed_source_are_passed_over),
		cmocka_unit_test(test_sink__with_order_ends_and_failures_of_an_earlier_life_hold),
		cmocka_unit_test(test_sink__cells_are_done_only_when_their_commit_is),
		cmocka_unit_test(test_sink__finishing_commits_what_is_left_first),
		cmocka_unit_test(test_sink__a_run_that_is_called_complete_with_a_cell_missing_is_a_bug),
		cmocka_unit_test(test_sink__stopping_early_writes_nothing_out_of_order),
		cmocka_unit_test(test_sink__orders_after_the_end_leak_nothing),
		cmocka_unit_test(test_sink__a_slow_disk_holds_results_back),
		cmocka_unit_test(test_sink__the_ranges_of_a_commit_fit_a_journal_record),
		cmocka_unit_test(test_sink__many_source_errors_go_into_several_commits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
