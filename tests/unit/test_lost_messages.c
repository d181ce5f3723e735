// SPDX-License-Identifier: Apache-2.0
/*
 * Lost messages: what control and a worker's link make of messages that a broken connection lost, doubled or brought in another
 * order. (What the sink makes of them: test_sink.c. All of it together: tests/sim/test_spine.c.)
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/log.h"
#include "coordinator/control/control.h"
#include "worker/process/link.h"

struct bench {
	struct df_grid grid;
	struct df_source source;
	struct df_dataset dataset;
	struct df_control *c;
	uint64_t lane, n_lease, n_killed, now_ns;
};

static enum df_err count_lease(void *self, uint64_t lane, const struct df_msg *msg, struct df_blob *const *payload,
			       size_t n)
{
	struct bench *b = self;
	(void)lane;
	(void)payload;
	(void)n;
	b->n_lease += msg->type == DF_MSG_LEASE;
	return DF_OK;
}

static void drop_order(void *self, const struct df_order *order)
{
	(void)self;
	free((char *)(uintptr_t)order->source.message.p);
}

static enum df_err note_lane(void *self, enum df_role role, uint64_t lane, struct df_fail *fail)
{
	(void)role;
	(void)fail;
	((struct bench *)self)->lane = lane;
	return DF_OK;
}

static void count_kill(void *self, uint64_t lane, int sig)
{
	struct bench *b = self;
	assert_int_equal(lane, b->lane);
	assert_int_equal(sig, SIGKILL);
	b->n_killed++;
}

static void closed(void *self, uint64_t lane)
{
	(void)self;
	(void)lane;
}

static void set_up(struct bench *b)
{
	static const struct df_recovered nothing;
	*b = (struct bench){.source = {.path = "x.jsonl", .name = "x.jsonl"}};
	assert_int_equal(df_grid_init(&b->grid, 1000), DF_OK);
	assert_int_equal(df_grid_add(&b->grid, DF_SOURCE_JSONL, 100000), DF_OK);
	b->dataset = (struct df_dataset){.source = &b->source, .n_source = 1};
	struct df_control_config config = {.dataset = &b->dataset,
					   .grid = &b->grid,
					   .effects = {.send = count_lease,
						       .order = drop_order,
						       .spawn = note_lane,
						       .kill = count_kill,
						       .close_lane = closed,
						       .self = b},
					   .epoch = 1,
					   .n_worker = 1,
					   .limit = UINT64_MAX};
	assert_int_equal(df_control_create(&config, &nothing, &b->c), DF_OK);
	df_control_start(b->c, 0);
}

static void tear_down(struct bench *b)
{
	df_control_destroy(&b->c);
	df_grid_release(&b->grid);
}

/* A HELLO a second after the last. */
static void hello(struct bench *b, uint64_t seq, uint64_t sent, uint32_t held)
{
	struct df_buf buf;
	struct df_msg msg = {.type = DF_MSG_HELLO, .epoch = 1, .lane = b->lane};
	msg.hello = (struct df_hello){.seq = seq, .sent = sent, .held = held};
	df_buf_init(&buf, 4096);
	assert_int_equal(df_msg_pack(&msg, &buf), DF_OK);
	struct df_frames frames = {.header = df_blob_copy(buf.p, buf.n)};
	b->now_ns += DF_HELLO_MS * DF_MS;
	df_control_on_message(b->c, &frames, b->now_ns);
	df_control_tick(b->c, b->now_ns);
	df_blob_unref(&frames.header);
	df_buf_release(&buf);
}

static void test_control__a_worker_that_never_got_its_lease_is_replaced(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b);
	hello(&b, 0, 0, 0);
	assert_int_equal(b.n_lease, DF_LANE_CREDITS);
	for (uint64_t i = 1; i <= DF_SILENT_MS / DF_HELLO_MS; i++) { /* one of two came */
		assert_int_equal(b.n_killed, 0);
		hello(&b, i, 0, DF_LANE_CREDITS - 1);
	}
	hello(&b, 100, 0, DF_LANE_CREDITS - 1);
	assert_int_equal(b.n_killed, 1);
	tear_down(&b);
}

static void test_control__a_lease_that_is_late_or_in_work_for_long_is_not_lost(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b);
	for (uint64_t i = 0; i < DF_SILENT_MS / DF_HELLO_MS; i++)
		hello(&b, i, 0, 0);
	for (uint64_t i = 10; i < 1000; i++)
		hello(&b, i, 0, DF_LANE_CREDITS);
	assert_int_equal(b.n_killed, 0);
	tear_down(&b);
}

static void test_control__an_old_hello_is_no_sign_of_life(void **state)
{
	struct bench b;
	(void)state;
	set_up(&b);
	hello(&b, 0, 0, 0);
	hello(&b, 5, 0, DF_LANE_CREDITS);
	for (uint64_t i = 0; i <= DF_SILENT_MS / DF_HELLO_MS; i++)
		hello(&b, 4, 0, DF_LANE_CREDITS);
	assert_int_equal(b.n_killed, 1);
	assert_true(df_control_stats(b.c).stale > 5);
	tear_down(&b);
}

static void test_worker__takes_a_lease_once_and_none_that_was_overtaken(void **state)
{
	struct df_worker_link l = {0};
	(void)state;
	assert_true(df_worker_link_takes(&l, 3));
	assert_false(df_worker_link_takes(&l, 3));
	assert_true(df_worker_link_takes(&l, 7));
	assert_false(df_worker_link_takes(&l, 3));
	assert_false(df_worker_link_takes(&l, 5));
	assert_true(df_worker_link_takes(&l, UINT64_MAX));
}

static void notice(struct df_worker_link *l, uint32_t epoch, uint64_t seq, enum df_run_state state)
{
	struct df_buf buf;
	struct df_msg msg = {.type = DF_MSG_NOTICE, .epoch = epoch};
	msg.notice = (struct df_notice){.seq = seq, .state = state};
	df_buf_init(&buf, 4096);
	assert_int_equal(df_msg_pack(&msg, &buf), DF_OK);
	df_worker_link_on_notice(l, df_buf_str(&buf));
	df_buf_release(&buf);
}

static void test_worker__the_newest_notice_counts_in_whatever_order_they_come(void **state)
{
	struct df_heritage h = {.epoch = 4};
	struct df_worker_link l = {.h = &h};
	(void)state;
	notice(&l, 4, 1, DF_STATE_RUN);
	notice(&l, 4, 3, DF_STATE_DRAIN);
	assert_int_equal(l.state, DF_STATE_DRAIN);
	notice(&l, 4, 2, DF_STATE_RUN);
	notice(&l, 3, 9, DF_STATE_STOP); /* of another life */
	assert_int_equal(l.state, DF_STATE_DRAIN);
	df_worker_link_on_notice(&l, DF_STR("\xc1"));
	notice(&l, 4, 3, DF_STATE_DRAIN);
	assert_int_equal(l.state, DF_STATE_DRAIN);
	notice(&l, 4, 4, DF_STATE_STOP);
	assert_int_equal(l.state, DF_STATE_STOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control__a_worker_that_never_got_its_lease_is_replaced),
		cmocka_unit_test(test_control__a_lease_that_is_late_or_in_work_for_long_is_not_lost),
		cmocka_unit_test(test_control__an_old_hello_is_no_sign_of_life),
		cmocka_unit_test(test_worker__takes_a_lease_once_and_none_that_was_overtaken),
		cmocka_unit_test(test_worker__the_newest_notice_counts_in_whatever_order_they_come),
	};
	df_log_setup(DF_LOG_ERROR, DF_LOG_TEXT, "test");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
