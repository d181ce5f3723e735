// SPDX-License-Identifier: Apache-2.0
/*
 * The engine of calls on the real network thread: many threads hand calls in, ten thousand are stopped in whatever phase they are, keys come from where
 * they should, and real bytes go over loopback. ctest: threaded
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "tests/unit/help_http.h"
#include "worker/cache/cache.h"
#include "worker/call/call_own.h"

struct desk {
	struct df_http *http;
	struct df_models *models;
	struct df_cache *cache;
	struct df_purse *purse;
	struct df_caller *caller;
	char dir[64];
};

static void open_desk(struct desk *d, double budget, bool cached)
{
	int fd = -1;
	struct df_fail fail = {0};
	memset(d, 0, sizeof(*d));
	(void)snprintf(d->dir, sizeof(d->dir), "/tmp/df-call-XXXXXX");
	assert_non_null(mkdtemp(d->dir));
	assert_int_equal(df_models_open(NULL, &d->models, &fail), DF_OK);
	assert_int_equal(df_http_open(&(struct df_http_config){0}, &d->http, &fail), DF_OK);
	struct df_cache_config memory = df_cache_defaults;
	memory.path = "";
	if (cached)
		assert_int_equal(df_cache_open(&memory, &d->cache, &fail), DF_OK);
	if (budget >= 0)
		assert_int_equal(df_purse_open(-1, budget, &d->purse, &fd, &fail), DF_OK);
	struct df_caller_config config = {
		.http = d->http, .models = d->models, .cache = d->cache, .purse = d->purse, .limits_dir = d->dir};
	assert_int_equal(df_caller_create(&config, &d->caller, &fail), DF_OK);
}

static void close_desk(struct desk *d)
{
	char command[128];
	struct df_caller_stats s = df_caller_stats(d->caller);
	assert_int_equal(s.in_flight, 0);
	assert_int_equal(s.waiting, 0);
	if (d->purse)
		assert_true(df_purse_look(d->purse).reserved < 1e-9);
	df_caller_destroy(&d->caller);
	assert_null(d->caller);
	df_http_close(&d->http);
	df_cache_close(&d->cache);
	df_purse_close(&d->purse);
	df_models_close(&d->models);
	(void)snprintf(command, sizeof(command), "rm -r %s", d->dir);
	assert_int_equal(system(command), 0);
}

static struct df_route *open_route(struct desk *d, struct df_route_options o)
{
	struct df_route *r = NULL;
	struct df_fail fail = {0};
	if (df_route_open(d->caller, &o, &r, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	return r;
}

struct job {
	struct df_call call;
	struct df_ask_turn turn;
	struct df_arena arena;
	char text[40];
	_Atomic unsigned *n_done;
};

static void counted(struct df_call *call)
{
	struct job *j = call->self;
	atomic_fetch_add(j->n_done, 1);
}

static void make(struct job *j, struct df_route *const *route, unsigned what)
{
	memset(j, 0, sizeof(*j));
	df_arena_init(&j->arena, 1 << 20, 0);
	int n = snprintf(j->text, sizeof(j->text), "question %u", what);
	j->turn = (struct df_ask_turn){DF_TURN_USER, {j->text, (size_t)n}};
	j->call = (struct df_call){.ask = {.kind = DF_ASK_CHAT,
					   .turn = &j->turn,
					   .n_turn = 1,
					   .temperature = 0,
					   .top_p = 1,
					   .max_tokens = 20,
					   .seed = -1},
				   .route = route,
				   .n_route = 1,
				   .arena = &j->arena,
				   .on_done = counted,
				   .self = j};
}

static uint64_t now_ns(void)
{
	return df_clock_mono(&df_clock_real);
}

/* ------------------------------------------------------------------ threads */

struct asker {
	struct desk *desk;
	struct df_route *route;
	unsigned first, n;
};

static void *ask(void *self)
{
	struct asker *a = self;
	struct job *j = calloc(a->n, sizeof(*j));
	struct df_call *call = calloc(a->n, sizeof(*call));
	for (unsigned i = 0; i < a->n; i++) {
		make(&j[i], &a->route, a->first + i);
		call[i] = j[i].call;
	}
	enum df_err err = df_caller_run(a->desk->caller, call, a->n, NULL);
	for (unsigned i = 0; i < a->n; i++) {
		if (err != DF_OK || call[i].err != DF_OK || !df_str_is(call[i].answer.text, j[i].text))
			a->n = 0;
		df_arena_release(&j[i].arena);
	}
	free(call);
	free(j);
	return NULL;
}

static void test_threads__wait_for_their_own_calls(void **state)
{
	(void)state;
	enum { THREADS = 4, CALLS = 500 };
	struct desk d;
	pthread_t thread[THREADS];
	struct asker asker[THREADS];
	open_desk(&d, 0, true);
	struct df_route *r = open_route(
		&d, (struct df_route_options){.model = DF_STR("fake/echo?delay=20ms&500=0.02&retry_after=10ms")});
	uint64_t start_ns = now_ns();
	for (unsigned i = 0; i < THREADS; i++) {
		asker[i] = (struct asker){&d, r, i / 2 * CALLS, CALLS}; /* two by two ask the same */
		assert_int_equal(pthread_create(&thread[i], NULL, ask, &asker[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_int_equal(asker[i].n, CALLS);
	}
	struct df_caller_stats s = df_caller_stats(d.caller);
	print_message("%u calls of 20 ms at once: %.0f ms, %llu requests\n", THREADS * CALLS,
		      (double)(now_ns() - start_ns) / 1e6, (unsigned long long)s.requests);
	assert_int_equal(s.calls, THREADS * CALLS);
	assert_int_equal(s.cache_hits, THREADS * CALLS / 2);
	assert_in_range(s.requests, THREADS * CALLS / 2, THREADS * CALLS * 55 / 100);
	df_route_close(&r);
	close_desk(&d);
}

static void test_stop__ten_thousand_calls_end_in_every_phase_and_nothing_stays(void **state)
{
	(void)state;
	enum { N = 10000 };
	for (unsigned round = 0; round < 5; round++) {
		struct desk d;
		_Atomic unsigned n_done = 0;
		open_desk(&d, round % 2 ? 100 : -1, round == 2);
		struct df_route *r[2] = {
			open_route(&d,
				   (struct df_route_options){
					   .model = DF_STR("fake/echo?delay=5ms&jitter=200ms&500=0.3&429=0.1"),
					   .concurrency = 700}),
			open_route(&d, (struct df_route_options){.model = DF_STR("fake/any?delay=1ms"), .rpm = 60000})};
		struct job *j = calloc(N, sizeof(*j));
		for (unsigned i = 0; i < N; i++) {
			make(&j[i], &r[i % 2], i);
			j[i].n_done = &n_done;
			assert_int_equal(df_caller_submit(d.caller, &j[i].call), DF_OK);
		}
		nap(round * 40);
		uint64_t asked_ns = now_ns();
		df_caller_stop(d.caller, round % 2 ? 50 * DF_MS : 0);
		while (atomic_load(&n_done) < N && now_ns() - asked_ns < 20 * DF_SEC)
			nap(1);
		assert_int_equal(atomic_load(&n_done), N);
		unsigned n_stopped = 0;
		for (unsigned i = 0; i < N; i++) {
			n_stopped += j[i].call.err == DF_ERR_INTERRUPTED;
			assert_true(j[i].call.err == DF_OK || j[i].call.err == DF_ERR_INTERRUPTED);
			df_arena_release(&j[i].arena);
		}
		print_message("stopped after %u ms: %u of %u calls, over in %.0f ms\n", round * 40, n_stopped, N,
			      (double)(now_ns() - asked_ns) / 1e6);
		assert_true(n_stopped > N / 10);
		free(j);
		df_route_close(&r[0]);
		df_route_close(&r[1]);
		close_desk(&d);
	}
}

/* ------------------------------------------------------------------ over loopback */

/* By turns: good, 500, the connection reset, and an answer that is cut. */
static void serve(struct conn *c)
{
	static const char good[] =
		"{\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"yes\"},"
		"\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}";
	while (conn_read(c)) {
		unsigned n = atomic_fetch_add(&c->server->step, 1);
		if (!df_str_is(conn_header(c, "authorization"), "Bearer sk-planted-0123456789")) {
			(void)conn_answer(c, 401, "{\"error\":{\"message\":\"who are you, sk-planted-0123456789?\"}}");
		} else if (n % 8 == 3) {
			(void)conn_answer(c, 500, "{\"error\":{\"message\":\"sk-planted-0123456789 did this\"}}");
		} else if (n % 8 == 5) {
			conn_reset(c);
			return;
		} else if (n % 8 == 7) {
			(void)conn_say(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
					  "400\r\n\r\n{\"choices\"");
			return;
		} else {
			(void)conn_answer(c, 200, good);
		}
	}
}

static void test_loopback__every_call_has_its_answer_behind_resets_and_cuts(void **state)
{
	(void)state;
	enum { N = 200 };
	struct desk d;
	struct server server;
	char url[64];
	struct df_call call[N];
	struct job *j = calloc(N, sizeof(*j));
	struct df_retry_options quick = df_retry_defaults;
	quick.base_ms = 5;
	quick.attempts = 12;
	assert_int_equal(setenv("OPENAI_API_KEY", "sk-planted-0123456789", 1), 0);
	open_desk(&d, 10, false);
	server_open(&server, serve, NULL);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", server.port);
	struct df_route *r = open_route(&d, (struct df_route_options){.model = DF_STR("gpt-4o-mini"),
								      .base_url = df_str_from(url),
								      .concurrency = 20});
	for (unsigned i = 0; i < N; i++) {
		make(&j[i], &r, i);
		call[i] = j[i].call;
		call[i].retry = &quick;
	}
	assert_int_equal(df_caller_run(d.caller, call, N, NULL), DF_OK);
	for (unsigned i = 0; i < N; i++) {
		if (call[i].err != DF_OK)
			fail_msg("call %u: %s", i, call[i].message);
		assert_true(df_str_is(call[i].answer.text, "yes"));
		df_arena_release(&j[i].arena);
	}
	struct df_caller_stats s = df_caller_stats(d.caller);
	assert_true(s.requests >= N && s.requests < 2 * N);
	assert_true(s.usd > N * (9 * 0.15 + 1 * 0.60) / 1e6 - 1e-9);
	df_route_close(&r);
	close_desk(&d);
	server_close(&server);
	free(j);
}

static void test_loopback__no_message_shows_the_key_that_a_server_echoes(void **state)
{
	(void)state;
	struct desk d;
	struct server server;
	char url[64];
	struct job j;
	assert_int_equal(setenv("OTHER_KEY", "sk-planted-wrong-98765", 1), 0);
	open_desk(&d, -1, false);
	server_open(&server, serve, NULL);
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", server.port);
	struct df_route *r = open_route(&d, (struct df_route_options){.model = DF_STR("gpt-4o-mini"),
								      .base_url = df_str_from(url),
								      .key_env = DF_STR("OTHER_KEY")});
	make(&j, &r, 1);
	assert_int_equal(df_caller_run(d.caller, &j.call, 1, NULL), DF_OK);
	assert_int_equal(j.call.err, DF_ERR_USAGE);
	assert_null(strstr(j.call.message, "sk-planted"));
	df_arena_release(&j.arena);
	df_route_close(&r);
	close_desk(&d);
	server_close(&server);
}

/* ------------------------------------------------------------------ keys */

static enum df_err try_route(struct desk *d, struct df_fail *fail)
{
	struct df_route *r = NULL;
	struct df_route_options o = {.model = DF_STR("gpt-4o-mini"), .key_env = DF_STR("PLANTED_KEY")};
	enum df_err err = df_route_open(d->caller, &o, &r, fail);
	if (err == DF_OK)
		assert_true(df_str_is(r->to.key, "sk-from-a-file"));
	df_route_close(&r);
	return err;
}

static void test_key__is_read_from_a_file_that_is_its_users_alone(void **state)
{
	(void)state;
	static const mode_t refused[] = {0604, 0640, 0660, 0777, 0601};
	struct df_fail fail = {0};
	struct desk d;
	char path[128];
	open_desk(&d, -1, false);
	(void)snprintf(path, sizeof(path), "%s/key", d.dir);
	assert_int_equal(unsetenv("PLANTED_KEY"), 0);
	assert_int_equal(try_route(&d, &fail), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "neither PLANTED_KEY nor PLANTED_KEY_FILE is set"));
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs("  sk-from-a-file\r\n", f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(setenv("PLANTED_KEY_FILE", path, 1), 0);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(chmod(path, refused[i]), 0);
		assert_int_equal(try_route(&d, &fail), DF_ERR_USAGE);
		assert_non_null(strstr(fail.msg, "chmod 600"));
	}
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(try_route(&d, &fail), DF_OK);
	assert_int_equal(unsetenv("PLANTED_KEY_FILE"), 0);
	close_desk(&d);
}

static void test_key__that_no_header_can_carry_is_refused_without_being_shown(void **state)
{
	(void)state;
	struct df_fail fail = {0};
	struct desk d;
	open_desk(&d, -1, false);
	assert_int_equal(setenv("PLANTED_KEY", "sk-bad\r\nX-Evil: 1", 1), 0);
	assert_int_equal(try_route(&d, &fail), DF_ERR_USAGE);
	assert_null(strstr(fail.msg, "sk-bad"));
	assert_int_equal(unsetenv("PLANTED_KEY"), 0);
	close_desk(&d);
}

/* The flags of the mapping that holds p, from /proc/self/smaps; "dd": not in a core dump. */
static bool out_of_dumps(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	bool here = false, found = false;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long from = 0, to = 0;
		if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
			here = (uintptr_t)p >= from && (uintptr_t)p < to;
		if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, " dd") != NULL;
	}
	(void)fclose(f);
	return found;
}

static void test_key__lies_outside_of_core_dumps(void **state)
{
	(void)state;
	struct desk d;
	open_desk(&d, -1, false);
	assert_int_equal(setenv("OPENAI_API_KEY", "sk-planted-0123456789", 1), 0);
	struct df_route *r = open_route(&d, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	assert_true(out_of_dumps(r->to.key.p));
	assert_true(out_of_dumps(getenv("OPENAI_API_KEY")));
	df_route_close(&r);
	close_desk(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads__wait_for_their_own_calls),
		cmocka_unit_test(test_stop__ten_thousand_calls_end_in_every_phase_and_nothing_stays),
		cmocka_unit_test(test_loopback__every_call_has_its_answer_behind_resets_and_cuts),
		cmocka_unit_test(test_loopback__no_message_shows_the_key_that_a_server_echoes),
		cmocka_unit_test(test_key__is_read_from_a_file_that_is_its_users_alone),
		cmocka_unit_test(test_key__that_no_header_can_carry_is_refused_without_being_shown),
		cmocka_unit_test(test_key__lies_outside_of_core_dumps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
