// SPDX-License-Identifier: Apache-2.0
/* help_control: keeps everything. */
#include "tests/unit/help_control.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

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
	if (b->n_spawn_fail) {
		b->n_spawn_fail--;
		return df_fail(fail, DF_ERR_AGAIN, "no process to be had");
	}
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

static bool show(void *self, uint64_t lane, unsigned want, struct df_look *ret_look)
{
	struct bench *b = self;
	*ret_look = *bench_look(b, lane);
	if (!(want & DF_LOOK_STOPPED))
		ret_look->stopped = false;
	return true;
}

static bool output_waits(void *self)
{
	return ((struct bench *)self)->output_waits;
}

struct bench *bench_set_up_with(uint64_t n_cell, uint32_t n_worker, const struct df_control_config *with)
{
	static const struct df_recovered nothing;
	struct bench *b = calloc(1, sizeof(*b));
	assert_int_equal(df_grid_init(&b->grid, 1000), DF_OK);
	for (uint32_t i = 0; i < 2; i++) {
		b->source[i] = (struct df_source){.path = "x.jsonl", .name = "x.jsonl"};
		assert_int_equal(df_grid_add(&b->grid, DF_SOURCE_JSONL, n_cell * 1000), DF_OK);
	}
	b->dataset = (struct df_dataset){.source = b->source, .n_source = 2};
	struct df_control_config config = *with;
	config.dataset = &b->dataset;
	config.grid = &b->grid;
	config.effects = (struct df_effects){.send = keep_sent,
					     .order = keep_order,
					     .spawn = keep_spawn,
					     .kill = keep_kill,
					     .close_lane = keep_close,
					     .self = b,
					     .look = show,
					     .output_waits = output_waits};
	config.epoch = 3;
	config.n_worker = n_worker;
	config.n_reader_max = 1;
	config.limit = UINT64_MAX;
	config.grace_ns = DF_SEC;
	assert_int_equal(df_control_create(&config, &nothing, &b->c), DF_OK);
	df_control_start(b->c, 0);
	return b;
}

struct bench *bench_set_up(uint64_t n_cell, uint32_t n_worker)
{
	return bench_set_up_with(n_cell, n_worker, &(struct df_control_config){0});
}

void bench_tear_down(struct bench *b)
{
	df_control_destroy(&b->c);
	df_grid_release(&b->grid);
	free(b);
}

void bench_hello_that(struct bench *b, uint32_t epoch, uint64_t lane, uint64_t sent)
{
	struct df_buf buf;
	struct df_msg msg = {.type = DF_MSG_HELLO, .epoch = epoch, .lane = lane, .hello = {.sent = sent}};
	for (size_t i = 0; i < b->n_sent; i++) /* it got everything */
		msg.hello.held += b->sent[i].lane == lane;
	df_buf_init(&buf, 4096);
	assert_int_equal(df_msg_pack(&msg, &buf), DF_OK);
	struct df_frames frames = {.header = df_blob_copy(buf.p, buf.n)};
	df_control_on_message(b->c, &frames, b->now_ns);
	df_blob_unref(&frames.header);
	df_buf_release(&buf);
}

void bench_hello_of(struct bench *b, uint32_t epoch, uint64_t lane)
{
	bench_hello_that(b, epoch, lane, 0);
}

void bench_hello(struct bench *b, uint64_t lane)
{
	bench_hello_of(b, 3, lane);
}

void bench_event(struct bench *b, struct df_event e)
{
	df_control_on_event(b->c, &e, b->now_ns);
}

void bench_seen(struct bench *b, const struct sent *s)
{
	struct df_cells cells = s->cells;
	bench_event(b, (struct df_event){
			       .type = DF_EVENT_SEEN, .lane = s->lane, .lease = s->lease, .busy_ns = 1000 * DF_SEC});
	bench_event(b, (struct df_event){.type = DF_EVENT_DONE, .cells = cells});
}

void bench_die(struct bench *b, uint64_t lane, int sig, struct df_blame blame)
{
	df_control_on_exit(b->c, lane, 0, sig, &blame, b->now_ns);
}

const struct df_order *bench_last_order(const struct bench *b, enum df_order_type type)
{
	for (size_t i = b->n_order; i-- > 0;)
		if (b->order[i].type == type)
			return &b->order[i];
	return NULL;
}

uint64_t bench_newest(const struct bench *b)
{
	return b->spawned[b->n_spawned - 1];
}

void bench_fenced(struct bench *b, uint64_t lane)
{
	size_t before = b->n_spawned;
	bench_event(b, (struct df_event){.type = DF_EVENT_FENCED, .lane = lane});
	for (int i = 0; i < 200 && b->n_spawned == before && df_control_outcome(b->c) == DF_OUTCOME_RUNNING; i++) {
		b->now_ns += 10 * DF_MS;
		df_control_tick(b->c, b->now_ns);
	}
}

struct df_look *bench_look(struct bench *b, uint64_t lane)
{
	assert_true((lane & 0xfffff) < N_KEPT);
	return &b->look[lane & 0xfffff];
}

void bench_pass(struct bench *b, uint64_t ns, uint64_t step, uint64_t mute)
{
	for (uint64_t end = b->now_ns + ns; b->now_ns < end;) {
		b->now_ns += step;
		for (size_t i = 0; i < b->n_spawned; i++)
			if (b->spawned[i] != mute) {
				bench_look(b, b->spawned[i])->alive++;
				bench_hello(b, b->spawned[i]);
			}
		b->n_order = 0;
		df_control_tick(b->c, b->now_ns);
	}
}
