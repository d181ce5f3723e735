// SPDX-License-Identifier: Apache-2.0
/* Queue: nothing is lost, doubled or reordered between two threads, and its descriptor never sleeps on an item. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "coordinator/queue.h"

#define N 200000U

static bool readable(const struct df_queue *q, int timeout_ms)
{
	struct pollfd p = {.fd = df_queue_fd(q), .events = POLLIN};
	return poll(&p, 1, timeout_ms) == 1;
}

static void test_queue__gives_back_in_order_while_it_grows(void **state)
{
	struct df_queue *q = NULL;
	uint64_t in = 0, out = 0, item = 0;
	(void)state;
	assert_int_equal(df_queue_create(sizeof(uint64_t), &q), DF_OK);
	for (int round = 0; round < 300; round++) { /* two in, one out: the ring wraps and grows */
		df_queue_put(q, &in), in++;
		df_queue_put(q, &in), in++;
		assert_true(df_queue_take(q, &item));
		assert_int_equal(item, out++);
	}
	while (df_queue_take(q, &item))
		assert_int_equal(item, out++);
	assert_int_equal(out, in);
	df_queue_destroy(&q);
	assert_null(q);
	df_queue_destroy(&q);
}

static void test_queue__its_descriptor_is_readable_until_it_was_found_empty(void **state)
{
	struct df_queue *q = NULL;
	int item = 5;
	(void)state;
	assert_int_equal(df_queue_create(sizeof(int), &q), DF_OK);
	assert_false(readable(q, 0));
	df_queue_put(q, &item);
	df_queue_put(q, &item);
	assert_true(readable(q, 0));
	assert_true(df_queue_take(q, &item));
	assert_true(readable(q, 0));
	assert_true(df_queue_take(q, &item));
	assert_false(df_queue_take(q, &item));
	assert_false(readable(q, 0));
	df_queue_put(q, &item);
	assert_true(readable(q, 0));
	df_queue_destroy(&q);
}

static void *put_all(void *self)
{
	struct df_queue *q = self;
	for (uint64_t i = 0; i < N; i++)
		df_queue_put(q, &i);
	return NULL;
}

static void test_queue__a_thread_that_waits_for_it_misses_nothing(void **state)
{
	struct df_queue *q = NULL;
	pthread_t thread;
	uint64_t expected = 0, item = 0;
	(void)state;
	assert_int_equal(df_queue_create(sizeof(uint64_t), &q), DF_OK);
	assert_int_equal(pthread_create(&thread, NULL, put_all, q), 0);
	while (expected < N) {
		assert_true(readable(q, 10000)); /* else an item lies there and nobody is woken */
		while (df_queue_take(q, &item))
			assert_int_equal(item, expected++);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(df_queue_take(q, &item));
	df_queue_destroy(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queue__gives_back_in_order_while_it_grows),
		cmocka_unit_test(test_queue__its_descriptor_is_readable_until_it_was_found_empty),
		cmocka_unit_test(test_queue__a_thread_that_waits_for_it_misses_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
