// SPDX-License-Identifier: Apache-2.0
/* HTTP and time: each time-out in the phase that is its own, cancelling in every phase, timers, posts. ctest: threaded, ctest: serial */
#include <arpa/inet.h>
#include <netdb.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "help_http.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LATE_MS 500  /* what a loaded machine may add */
#define STALL_MS 400 /* longer than a loaded machine takes for the part of an answer that comes */
#else
#define LATE_MS 100
#define STALL_MS 150
#endif

static struct df_http *http;
static struct server server;
static struct ask ask;

static void begin(void (*serve)(struct conn *c), void *arg)
{
	struct df_fail fail = {.msg = ""};
	server_open(&server, serve, arg);
	if (df_http_open(NULL, &http, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	ask_init(&ask, http, &server, "/");
}

static void finish(void)
{
	df_http_close(&http);
	server_close(&server);
	ask_release(&ask);
}

/* --- names: look-ups that take their time; the program's getaddrinfo stands before the system's --- */

static atomic_uint n_lookup;

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	atomic_fetch_add(&n_lookup, 1);
	if (strstr(name, "slow"))
		nap(1500);
	else
		nap(30);
	if (strstr(name, "missing"))
		return EAI_NONAME;
	struct addrinfo *a = calloc(1, sizeof(*a) + sizeof(at));
	if (!a)
		return EAI_MEMORY;
	at.sin_port = htons((uint16_t)strtoul(service ? service : "0", NULL, 10));
	memcpy(a + 1, &at, sizeof(at));
	*a = (struct addrinfo){.ai_family = AF_INET,
			       .ai_socktype = hints->ai_socktype,
			       .ai_addrlen = sizeof(at),
			       .ai_addr = (struct sockaddr *)(a + 1)};
	*ret = a;
	return 0;
}

void freeaddrinfo(struct addrinfo *a)
{
	free(a);
}

static void serve_ok(struct conn *c)
{
	while (conn_read(c))
		conn_answer(c, 200, "ok");
}

static void at_name(struct ask *a, const char *name)
{
	ask_init(a, http, &server, "/");
	(void)snprintf(a->url, sizeof(a->url), "http://%s:%d/", name, server.port);
}

static void test_http__a_hundred_requests_to_one_name_look_it_up_once(void **state)
{
	(void)state;
	static struct ask many[100];
	begin(serve_ok, NULL);
	atomic_store(&n_lookup, 0);
	for (size_t i = 0; i < 100; i++) {
		at_name(&many[i], "api.test");
		ask_start(&many[i]);
	}
	for (size_t i = 0; i < 100; i++) {
		ask_wait(&many[i]);
		if (many[i].err != DF_OK)
			fail_msg("%s", many[i].message);
		ask_release(&many[i]);
	}
	assert_int_equal(atomic_load(&n_lookup), 1);
	finish();
}

static void test_http__a_look_up_that_fails_has_failed_for_all_who_wait(void **state)
{
	(void)state;
	static struct ask many[50];
	begin(serve_ok, NULL);
	atomic_store(&n_lookup, 0);
	for (size_t i = 0; i < 50; i++) {
		at_name(&many[i], "missing.test");
		ask_start(&many[i]);
	}
	for (size_t i = 0; i < 50; i++) {
		ask_wait(&many[i]);
		assert_int_equal(many[i].err, DF_ERR_IO);
		assert_non_null(strstr(many[i].message, "resolve"));
		ask_release(&many[i]);
	}
	assert_int_equal(atomic_load(&n_lookup), 1);
	finish();
}

static void test_http__a_slow_look_up_holds_up_nobody_else(void **state)
{
	(void)state;
	struct ask other, third;
	begin(serve_ok, NULL);
	at_name(&ask, "slow.test");
	at_name(&third, "slow.test");
	ask.request.timeout.connect = 200;
	third.request.timeout.connect = 300; /* waits behind the first, then leads */
	ask_init(&other, http, &server, "/");
	ask_start(&ask);
	ask_start(&third);
	ask_wait(&ask);
	ask_run(&other);
	ask_wait(&third);
	assert_int_equal(ask.err, DF_ERR_TIMEOUT);
	assert_int_equal(third.err, DF_ERR_TIMEOUT);
	assert_in_range(ask.total_ns / DF_MS, 200, 200 + LATE_MS);
	assert_in_range(third.total_ns / DF_MS, 300, 300 + LATE_MS);
	assert_int_equal(other.err, DF_OK);
	assert_true(other.total_ns / DF_MS < LATE_MS);
	nap(1600); /* its threads end */
	ask_release(&other);
	ask_release(&third);
	finish();
}

/* --- time-outs --- */

enum stall { NOTHING, IN_STATUS, AFTER_HEAD_LINE, AFTER_HEAD, IN_BODY, IN_CHUNKS, N_STALL };

static const char *const stalls[N_STALL] = {
	[NOTHING] = "",
	[IN_STATUS] = "HTTP/1.1 2",
	[AFTER_HEAD_LINE] = "HTTP/1.1 200 OK\r\nContent-Le",
	[AFTER_HEAD] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	[IN_BODY] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
	[IN_CHUNKS] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
};

static void serve_stall(struct conn *c)
{
	/* Which one is in the step. */
	if (conn_read(c) && conn_say(c, stalls[atomic_load(&c->server->step)]))
		conn_wait_gone(c);
}

static void test_http__each_stall_ends_within_its_time_out(void **state)
{
	(void)state;
	enum stall s;
	char told[32];
	(void)snprintf(told, sizeof(told), " %d ms", STALL_MS);
	begin(serve_stall, NULL);
	for (int total = 0; total < 2; total++) {
		for (s = NOTHING; s < N_STALL; s++) {
			bool begun = s >= AFTER_HEAD_LINE;
			atomic_store(&server.step, s);
			ask.request.timeout = total ? (struct df_http_timeouts){5000, 5000, 5000, STALL_MS}
						    : (struct df_http_timeouts){5000, begun ? 5000 : STALL_MS,
										begun ? STALL_MS : 5000, 9000};
			ask_run(&ask);
			if (ask.err != DF_ERR_TIMEOUT || !strstr(ask.message, told))
				fail_msg("stall %d: %s: %s", (int)s, df_err_name(ask.err), ask.message);
			assert_int_equal(ask.phase, begun ? DF_HTTP_BODY : DF_HTTP_FIRST_BYTE);
			assert_in_range(ask.total_ns / DF_MS, STALL_MS, STALL_MS + LATE_MS);
		}
	}
	finish();
}

static void serve_drip(struct conn *c)
{
	if (!conn_read(c) || !conn_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"))
		return;
	while (conn_say(c, "x"))
		nap(10);
}

static void test_http__a_slow_loris_ends_by_the_total(void **state)
{
	(void)state;
	begin(serve_drip, NULL);
	ask.request.timeout = (struct df_http_timeouts){1000, 1000, 2000, 300};
	ask_run(&ask);
	assert_int_equal(ask.err, DF_ERR_TIMEOUT);
	assert_in_range(ask.total_ns / DF_MS, 300, 300 + LATE_MS);
	assert_true(ask.n_body > 2);
	finish();
}

static void serve_slow_but_steady(struct conn *c)
{
	if (!conn_read(c) || !conn_say(c, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"))
		return;
	for (int i = 0; i < 8 && conn_say(c, "x"); i++)
		nap(100);
}

static void test_http__what_moves_is_not_idle(void **state)
{
	(void)state;
	begin(serve_slow_but_steady, NULL);
	ask.request.timeout = (struct df_http_timeouts){500, 500, 500, 30000};
	ask_run(&ask);
	assert_int_equal(ask.err, DF_OK);
	assert_true(ask.total_ns / DF_MS >= 700);
	assert_true(ask.connect_ns <= ask.first_byte_ns && ask.first_byte_ns < ask.total_ns);
	finish();
}

/* --- cancelling --- */

static void cancel_it(void *self)
{
	struct ask *a = self;
	int before = a->n_done;
	df_http_cancel(a->http, a->id);
	if (a->n_done != before + (before == 0)) /* only this thread counts it */
		abort();
	df_http_cancel(a->http, a->id); /* the second time: nothing */
	df_http_cancel(a->http, a->id + 1);
	df_http_cancel(a->http, 0);
}

static void test_http__cancels_in_every_phase(void **state)
{
	(void)state;
	enum stall s;
	begin(serve_stall, NULL);
	for (s = NOTHING; s < N_STALL; s++) {
		atomic_store(&server.step, s);
		ask_start(&ask);
		nap(20);
		on_network(http, cancel_it, &ask);
		assert_int_equal(ask.n_done, 1);
		assert_int_equal(ask.err, DF_ERR_INTERRUPTED);
		assert_non_null(strstr(ask.message, "cancelled"));
	}
	finish();
	/* before it was handed over, and while its name is looked up, first and second in line */
	begin(serve_ok, NULL);
	struct ask second;
	at_name(&ask, "slow.test");
	at_name(&second, "slow.test");
	ask_start(&ask);
	ask_start(&second);
	on_network(http, cancel_it, &second);
	on_network(http, cancel_it, &ask);
	ask_start(&ask);
	ask_start(&second);
	nap(20);
	on_network(http, cancel_it, &ask);
	on_network(http, cancel_it, &second);
	assert_int_equal(second.err, DF_ERR_INTERRUPTED);
	ask_release(&second);
	nap(1600);
	finish();
}

static bool cancel_inside(void *self, const char *p, size_t n)
{
	struct ask *a = self, *other = a->arg;
	(void)p, (void)n;
	df_http_cancel(a->http, other->id);
	df_http_cancel(a->http, a->id);
	ask_release(a); /* nothing of it may be touched from here on */
	memset(&a->request, 0xee, sizeof(a->request));
	return true;
}

static void send_another(struct ask *a)
{
	if (a->arg)
		ask_send(a->arg);
}

static void test_http__cancels_itself_and_others_and_sends_from_inside_its_callbacks(void **state)
{
	(void)state;
	struct ask other, third;
	begin(serve_stall, NULL);
	atomic_store(&server.step, IN_BODY);
	ask_init(&other, http, &server, "/");
	ask_init(&third, http, &server, "/");
	third.request.timeout.total = 100;
	other.arg = &third;
	other.then = send_another; /* when the first one cancels it, from inside on_data */
	ask_start(&other);
	ask.arg = &other;
	ask.request.on_data = cancel_inside;
	nap(20);
	ask_run(&ask);
	ask_wait(&other);
	ask_wait(&third);
	assert_int_equal(ask.err, DF_ERR_INTERRUPTED);
	assert_int_equal(other.err, DF_ERR_INTERRUPTED);
	assert_int_equal(third.err, DF_ERR_TIMEOUT);
	assert_int_equal(ask.n_done + other.n_done + third.n_done, 3);
	ask_release(&other);
	ask_release(&third);
	finish();
}

static atomic_int n_chain;

static void chain(struct ask *a)
{
	if (a->err == DF_OK && ++n_chain < 200) {
		a->n_done--;
		ask_send(a);
	}
}

static void test_http__sends_from_on_done(void **state)
{
	(void)state;
	begin(serve_ok, NULL);
	n_chain = 0;
	ask.then = chain;
	ask_start(&ask);
	for (int i = 0; i < 500 && n_chain < 200; i++)
		nap(10);
	assert_int_equal(n_chain, 200);
	assert_int_equal(atomic_load(&server.n_asked), 200);
	assert_int_equal(atomic_load(&server.n_conn), 1);
	finish();
}

static void test_http__close_ends_what_is_in_flight(void **state)
{
	(void)state;
	static struct ask many[30], late[30];
	begin(serve_stall, NULL);
	atomic_store(&server.step, IN_BODY);
	for (size_t i = 0; i < 30; i++) {
		ask_init(&many[i], http, &server, "/");
		ask_init(&late[i], http, &server, "/");
		many[i].arg = &late[i]; /* refused: it is the end */
		many[i].then = send_another;
		ask_start(&many[i]);
		if (i == 14)
			nap(30);
	}
	finish();
	for (size_t i = 0; i < 30; i++) {
		assert_int_equal(many[i].n_done, 1);
		assert_int_equal(many[i].err, DF_ERR_INTERRUPTED);
		assert_int_equal(late[i].n_done, 1);
		assert_int_equal(late[i].err, DF_ERR_CLOSED);
		ask_release(&many[i]);
	}
}

/* --- posts --- */

#define POSTERS 8
#define POSTS 5000

static unsigned posted[POSTERS], n_disorder;

static void count_post(void *self)
{
	unsigned who = (unsigned)((uintptr_t)self >> 20), number = (unsigned)((uintptr_t)self & 0xfffff);
	n_disorder += posted[who] != number;
	posted[who]++;
}

static void *post_many(void *self)
{
	uintptr_t who = (uintptr_t)self;
	for (uintptr_t i = 0; i < POSTS; i++) {
		if (df_http_post(http, count_post, (void *)(who << 20 | i)) != DF_OK)
			abort();
	}
	return NULL;
}

static void test_http__runs_posts_of_many_threads_in_order(void **state)
{
	(void)state;
	pthread_t thread[POSTERS];
	begin(serve_ok, NULL);
	memset(posted, 0, sizeof(posted));
	n_disorder = 0;
	for (uintptr_t i = 0; i < POSTERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, post_many, (void *)i), 0);
	for (size_t i = 0; i < POSTERS; i++)
		(void)pthread_join(thread[i], NULL);
	df_http_close(&http); /* what was posted before runs */
	for (size_t i = 0; i < POSTERS; i++)
		assert_int_equal(posted[i], POSTS);
	assert_int_equal(n_disorder, 0);
	finish();
}

/* --- timers --- */

struct alarm {
	uint64_t at, rang, id;
	unsigned order;
};

static struct alarm alarms[40];
static unsigned n_rang;

static void ring(void *self)
{
	struct alarm *a = self;
	a->rang = df_clock_mono(&df_clock_real);
	a->order = n_rang++;
}

static void set_alarms(void *self)
{
	uint64_t now = df_http_now(http);
	(void)self;
	for (unsigned i = 0; i < 40; i++) {
		alarms[i].at = now + (uint64_t)(i * 17 % 40 + 1) * 1234567;
		if (df_http_at(http, alarms[i].at, ring, &alarms[i], &alarms[i].id) != DF_OK)
			abort();
	}
	for (unsigned i = 0; i < 40; i += 5)
		df_http_unset(http, alarms[i].id);
}

static int by_lateness(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void test_http__timers_ring_in_order_and_in_time(void **state)
{
	(void)state;
	uint64_t late[32];
	size_t n = 0;
	begin(serve_ok, NULL);
	memset(alarms, 0, sizeof(alarms));
	n_rang = 0;
	on_network(http, set_alarms, NULL);
	nap(300);
	df_http_close(&http);
	assert_int_equal(n_rang, 32);
	for (unsigned i = 0; i < 40; i++) {
		if (i % 5 == 0) {
			assert_int_equal(alarms[i].rang, 0);
			continue;
		}
		assert_true(alarms[i].rang >= alarms[i].at);
		late[n++] = alarms[i].rang - alarms[i].at;
		for (unsigned j = 0; j < 40; j++)
			assert_true(j % 5 == 0 || (alarms[i].at < alarms[j].at) == (alarms[i].order < alarms[j].order));
	}
	qsort(late, n, sizeof(late[0]), by_lateness);
	assert_true(late[n / 2] < DF_MS); /* the median, since others may use the machine too */
	finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http__a_hundred_requests_to_one_name_look_it_up_once),
		cmocka_unit_test(test_http__a_look_up_that_fails_has_failed_for_all_who_wait),
		cmocka_unit_test(test_http__a_slow_look_up_holds_up_nobody_else),
		cmocka_unit_test(test_http__each_stall_ends_within_its_time_out),
		cmocka_unit_test(test_http__a_slow_loris_ends_by_the_total),
		cmocka_unit_test(test_http__what_moves_is_not_idle),
		cmocka_unit_test(test_http__cancels_in_every_phase),
		cmocka_unit_test(test_http__cancels_itself_and_others_and_sends_from_inside_its_callbacks),
		cmocka_unit_test(test_http__sends_from_on_done),
		cmocka_unit_test(test_http__close_ends_what_is_in_flight),
		cmocka_unit_test(test_http__runs_posts_of_many_threads_in_order),
		cmocka_unit_test(test_http__timers_ring_in_order_and_in_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
