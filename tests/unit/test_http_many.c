// SPDX-License-Identifier: Apache-2.0
/* HTTP with thousands in flight at once, on few connections and on many. ctest: threaded, ctest: serial */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "help_http.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MANY 400
#else
#define MANY 2000
#endif

static struct df_http *http;
static struct server server;
static struct ask ask[MANY];

static void begin(void (*serve)(struct conn *c), void *arg, long max_connections)
{
	struct df_fail fail = {.msg = ""};
	const struct df_http_config config = {.max_connections = max_connections};
	server_open(&server, serve, arg);
	if (df_http_open(&config, &http, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
}

static void finish(void)
{
	df_http_close(&http);
	server_close(&server);
	for (size_t i = 0; i < MANY; i++)
		ask_release(&ask[i]);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t all_asked = PTHREAD_COND_INITIALIZER;

static void set_step(unsigned step)
{
	(void)pthread_mutex_lock(&lock);
	atomic_store(&server.step, step);
	(void)pthread_cond_broadcast(&all_asked);
	(void)pthread_mutex_unlock(&lock);
}

static void wait_for_all(const struct server *s)
{
	(void)pthread_mutex_lock(&lock);
	if (atomic_load(&s->n_asked) >= atomic_load(&s->step))
		(void)pthread_cond_broadcast(&all_asked);
	while (atomic_load(&s->n_asked) < atomic_load(&s->step))
		(void)pthread_cond_wait(&all_asked, &lock);
	(void)pthread_mutex_unlock(&lock);
}

/* Says what it was asked, when everybody has asked. */
static void serve_echo_at_last(struct conn *c)
{
	char text[64];
	while (conn_read(c)) {
		wait_for_all(c->server);
		(void)snprintf(text, sizeof(text), "%.*s", (int)(c->body.n < 63 ? c->body.n : 63), c->body.p);
		if (!conn_answer(c, 200, text))
			return;
	}
}

static char body[MANY][16];

static void start_all(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ask_release(&ask[i]);
		ask_init(&ask[i], http, &server, "/");
		(void)snprintf(body[i], sizeof(body[i]), "call %zu", i);
		ask[i].request.method = "POST";
		ask[i].request.body = df_str_from(body[i]);
		ask[i].request.timeout = (struct df_http_timeouts){60000, 60000, 60000, 60000};
		ask_start(&ask[i]);
	}
}

static void wait_all(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		ask_wait(&ask[i]);
		if (ask[i].err != DF_OK)
			fail_msg("%zu: %s", i, ask[i].message);
		assert_string_equal(ask[i].body, body[i]);
	}
}

static void test_http__has_thousands_in_flight_and_mixes_none_up(void **state)
{
	(void)state;
	begin(serve_echo_at_last, NULL, 0);
	set_step(MANY);
	start_all(MANY);
	wait_all(MANY);
	assert_int_equal(atomic_load(&server.n_conn), MANY);
	start_all(MANY); /* and again, on the same connections */
	wait_all(MANY);
	assert_int_equal(atomic_load(&server.n_asked), 2 * MANY);
	assert_true(df_http_stats(http).connections <= MANY + MANY / 50);
	assert_int_equal(df_http_stats(http).in_flight, 0);
	finish();
}

static void test_http__opens_no_more_connections_than_allowed(void **state)
{
	(void)state;
	static const long allowed[] = {1, 7, 200};
	for (size_t i = 0; i < 3; i++) {
		begin(serve_echo_at_last, NULL, allowed[i]);
		start_all(300);
		wait_all(300);
		assert_true((long)atomic_load(&server.n_conn) <= allowed[i]);
		assert_int_equal(atomic_load(&server.n_asked), 300);
		finish();
	}
}

static void cancel_all(void *self)
{
	(void)self;
	for (size_t i = 0; i < MANY; i += 2)
		df_http_cancel(http, ask[i].id);
}

static void test_http__cancels_half_of_them(void **state)
{
	(void)state;
	begin(serve_echo_at_last, NULL, 0);
	set_step(MANY + 1);
	start_all(MANY);
	while (atomic_load(&server.n_asked) < MANY)
		nap(5);
	on_network(http, cancel_all, NULL);
	set_step(0);
	for (size_t i = 0; i < MANY; i++) {
		ask_wait(&ask[i]);
		assert_int_equal(ask[i].err, i % 2 ? DF_OK : DF_ERR_INTERRUPTED);
		assert_int_equal(ask[i].n_done, 1);
	}
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http__has_thousands_in_flight_and_mixes_none_up),
		cmocka_unit_test(test_http__opens_no_more_connections_than_allowed),
		cmocka_unit_test(test_http__cancels_half_of_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
