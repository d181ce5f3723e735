// SPDX-License-Identifier: Apache-2.0
/*
 * sink_thread: orders first, then messages until the socket is empty (or a bounded number), then time. A fence is thus
 * answered only when the socket was found empty after the order. Orders come before each message, too: what control said
 * before it sent a lease is heard before that lease's result, however soon that comes.
 */
#include "coordinator/sink_thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"

#define MESSAGES_PER_TURN 64

struct df_sink_thread {
	pthread_t thread;
	struct df_sink *sink;
	struct df_store *store;
	struct df_socket *results;
	struct df_queue *orders, *events;
	struct df_life *life;
	atomic_bool quit, over;
	atomic_uint_fast64_t busy_since_ns; /* 0: it waits */
	int ended_fd;                       /* raised when the thread leaves */
	bool running;
};

static void emit(void *self, struct df_event *event)
{
	struct df_sink_thread *t = self;
	if (event->type == DF_EVENT_FINISHED || event->type == DF_EVENT_FATAL)
		atomic_store(&t->over, true);
	if (!df_queue_put(t->events, event)) /* the control thread sees that one is missing */
		free(event->message);
}

/* Something is missing that nobody will send again: the run ends here, and the next goes on from the journal. */
static void out_of_memory(struct df_sink_thread *t, const char *what)
{
	struct df_fail fail;
	(void)df_fail(&fail, DF_ERR_NOMEM, "no memory for %s at the sink", what);
	df_sink_fail(t->sink, &fail);
}

static void drain_orders(struct df_sink_thread *t)
{
	struct df_order order;
	while (df_queue_take(t->orders, &order))
		df_sink_on_order(t->sink, &order);
	if (df_queue_lost(t->orders))
		out_of_memory(t, "an order");
}

/* True when the socket was found empty. */
static bool drain_messages(struct df_sink_thread *t, struct df_frames *frames)
{
	for (int i = 0; i < MESSAGES_PER_TURN && !df_sink_full(t->sink); i++) {
		enum df_err err = df_socket_recv(t->results, frames);
		if (err == DF_ERR_AGAIN)
			return true;
		drain_orders(t);
		if (err == DF_OK)
			df_sink_on_message(t->sink, frames);
		else if (err == DF_ERR_NOMEM)
			out_of_memory(t, "a result");
		df_frames_release(frames);
	}
	return false;
}

static uint64_t total(const struct df_map *totals, struct df_str name)
{
	const uint64_t *v = df_map_get(totals, name);
	return v ? *v : 0;
}

/* For the guard, should this process be killed: what the output has been given. */
static void note_written(const struct df_sink_thread *t)
{
	const struct df_map *totals = df_sink_totals(t->sink);
	atomic_store(&t->life->n_document, total(totals, DF_STR("in")));
	atomic_store(&t->life->n_row, total(totals, DF_STR("rows")));
}

static int timeout_ms(const struct df_sink_thread *t, uint64_t now)
{
	uint64_t deadline = df_sink_deadline(t->sink);
	if (deadline == UINT64_MAX)
		return 200;
	return deadline <= now ? 0 : (int)((deadline - now + DF_MS - 1) / DF_MS);
}

static void *run(void *self)
{
	struct df_sink_thread *t = self;
	struct df_frames frames = {0};
	bool empty = true;
	while (!atomic_load(&t->quit)) {
		struct df_wait w[] = {
			{.fd = df_queue_fd(t->orders)},
			{.socket = t->results},
			{.fd = df_store_event_fd(t->store)},
		};
		uint64_t now = df_clock_mono(&df_clock_real);
		bool over = df_sink_over(t->sink), full = !over && df_sink_full(t->sink);
		size_t n = over ? 1 : w[2].fd >= 0 ? 3 : 2;
		if (full) { /* the commit in flight ends first */
			w[1] = w[2];
			n = 2;
		}
		atomic_store(&t->busy_since_ns, 0);
		if (df_wait(w, n, empty || over || full ? timeout_ms(t, now) : 0) != DF_OK) /* at most 200 ms */
			break;
		atomic_store(&t->busy_since_ns, df_clock_mono(&df_clock_real));
		drain_orders(t);
		empty = over || drain_messages(t, &frames);
		if (empty)
			df_sink_on_empty(t->sink);
		df_sink_tick(t->sink, df_clock_mono(&df_clock_real));
		note_written(t);
	}
	atomic_store(&t->busy_since_ns, 0);
	df_frames_free(&frames);
	(void)eventfd_write(t->ended_fd, 1); /* cannot fail: the counter is far from its end */
	return NULL;
}

enum df_err df_sink_thread_start(const struct df_sink_config *config, const uint64_t *n_cell, uint32_t n_source,
				 const struct df_recovered *recovered, struct df_socket *results,
				 struct df_queue *events, struct df_life *life, struct df_sink_thread **ret_thread,
				 struct df_fail *fail)
{
	struct df_sink_thread *t = calloc(1, sizeof(*t));
	if (!t)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the sink");
	struct df_sink_config own = *config;
	own.emit = emit;
	own.self = t;
	t->store = config->store;
	t->results = results;
	t->events = events;
	t->life = life;
	t->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	enum df_err err = t->ended_fd < 0 ? DF_ERR_LIMIT : df_queue_create(sizeof(struct df_order), &t->orders);
	if (err == DF_OK)
		err = df_sink_create(&own, n_cell, n_source, recovered, &t->sink);
	if (err == DF_OK && pthread_create(&t->thread, NULL, run, t) != 0)
		err = DF_ERR_NOMEM;
	if (err != DF_OK) {
		t->results = NULL; /* stays the caller's */
		df_sink_thread_destroy(&t);
		return df_fail(fail, err, "cannot start the sink: %s", df_err_name(err));
	}
	t->running = true;
	*ret_thread = t;
	return DF_OK;
}

void df_sink_thread_order(struct df_sink_thread *t, const struct df_order *order)
{
	if (!df_queue_put(t->orders, order)) /* the sink sees that one is missing */
		free((char *)(uintptr_t)order->source.message.p);
}

uint64_t df_sink_thread_busy_since(const struct df_sink_thread *t)
{
	return atomic_load(&t->busy_since_ns);
}

bool df_sink_thread_over(const struct df_sink_thread *t)
{
	return atomic_load(&t->over);
}

bool df_sink_thread_join(struct df_sink_thread *t, int timeout_ms)
{
	static const struct df_order nudge = {.type = DF_ORDER_HELLO}; /* of no lane: only wakes the thread */
	struct df_wait ended = {.fd = t->ended_fd};
	uint64_t deadline = df_clock_mono(&df_clock_real) + (uint64_t)timeout_ms * DF_MS;
	if (!t->running)
		return true;
	atomic_store(&t->quit, true);
	(void)df_queue_put(t->orders, &nudge);
	while (!ended.ready) {
		uint64_t now = df_clock_mono(&df_clock_real);
		if (now >= deadline || df_wait(&ended, 1, (int)((deadline - now + DF_MS - 1) / DF_MS)) != DF_OK)
			return false;
	}
	(void)pthread_join(t->thread, NULL); /* it has left its loop: this waits for its last instructions */
	t->running = false;
	df_socket_close(&t->results);
	return true;
}

struct df_sink *df_sink_thread_sink(struct df_sink_thread *t)
{
	return t->sink;
}

void df_sink_thread_destroy(struct df_sink_thread **thread)
{
	struct df_sink_thread *t = *thread;
	struct df_order order;
	if (!t)
		return;
	DF_ASSERT(!t->running);
	while (t->orders && df_queue_take(t->orders, &order))
		free((char *)(uintptr_t)order.source.message.p);
	df_sink_destroy(&t->sink);
	df_queue_destroy(&t->orders);
	if (t->ended_fd >= 0)
		(void)close(t->ended_fd);
	free(t);
	*thread = NULL;
}
