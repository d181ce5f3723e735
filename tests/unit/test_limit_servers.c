// SPDX-License-Identifier: Apache-2.0
/* Limits against servers that count exactly: buckets, sliding and fixed windows; many processes, simulated hours, seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "help_limit.h"

#define MINUTE (60 * DF_SEC)
#define DAY (86400 * DF_SEC)

struct outcome {
	double used; /* of what the limit allows in that time */
	uint64_t refused, early, sent, asks;
};

static struct outcome run(struct world *w, struct server s, uint64_t duration)
{
	const char *dir = limit_dir_make();
	server_init(&s);
	w->server = &s;
	w->config.dir = dir;
	w->config.name = DF_STR("test http://server model");
	w->now = 1000 * DF_SEC;
	w->wall = 20000 * DAY;
	world_run(w, duration);
	uint64_t n = s.counts_tokens ? s.weight_accepted : s.n_accepted;
	struct outcome o = {
		.used = (double)n /
			((double)s.per_minute * (double)duration / (double)(s.window_ns ? s.window_ns : MINUTE)),
		.refused = s.n_refused,
		.early = w->n_early,
		.sent = w->n_sent,
		.asks = w->n_asks,
	};
	server_release(&s);
	limit_dir_remove(dir);
	return o;
}

static void assert_exact(struct server s, uint64_t seed, uint32_t n_process, uint64_t jitter, uint64_t latency,
			 uint64_t duration)
{
	struct world w = {.seed = seed,
			  .n_process = n_process,
			  .jitter_ns = jitter,
			  .latency_ns = latency,
			  .config = {.rpm = s.per_minute}};
	struct outcome o = run(&w, s, duration);
	if (o.refused || o.used < 0.99)
		fail_msg("kind %d, %llu a minute, seed %llu: %llu refused, %.2f %% used", s.kind,
			 (unsigned long long)s.per_minute, (unsigned long long)seed, (unsigned long long)o.refused,
			 100 * o.used);
	assert_true(o.asks < 60 * o.sent); /* woken in vain, but not all the time */
}

static void test_limit__600_a_minute_by_8_processes_fills_a_bucket_of_10_and_never_overflows_it(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		assert_exact((struct server){.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 10}, seed, 8, DF_MS,
			     40 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_bucket_of_2_does_not_overflow_either(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		assert_exact((struct server){.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 2}, seed, 8, DF_MS,
			     40 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_sliding_window_never_sees_one_too_many(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 600, .window_ns = MINUTE}, seed, 8,
			     20 * DF_MS, 100 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_fixed_window_never_sees_one_too_many(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++)
		assert_exact((struct server){.kind = SERVER_FIXED,
					     .per_minute = 600,
					     .window_ns = MINUTE,
					     .offset_ns = seed * 7 * DF_SEC},
			     seed, 8, 20 * DF_MS, 100 * DF_MS, 60 * MINUTE);
}

static void test_limit__slow_and_fast_limits_are_as_exact(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 3, .window_ns = MINUTE}, seed, 8,
			     20 * DF_MS, 100 * DF_MS, 600 * MINUTE);
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 60, .window_ns = MINUTE}, seed, 8,
			     20 * DF_MS, 100 * DF_MS, 120 * MINUTE);
		assert_exact((struct server){.kind = SERVER_BUCKET, .per_minute = 6000, .capacity = 10}, seed, 8,
			     2 * DF_MS, 10 * DF_MS, 10 * MINUTE);
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 60000, .window_ns = MINUTE}, seed,
			     16, 2 * DF_MS, 10 * DF_MS, 2 * MINUTE);
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 600, .window_ns = MINUTE}, seed, 1,
			     20 * DF_MS, 100 * DF_MS, 60 * MINUTE);
	}
}

static void test_limit__processes_that_begin_anew_after_a_pause_do_not_burst(void **state)
{
	(void)state;
	const struct server servers[] = {
		{.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 2},
		{.kind = SERVER_SLIDING, .per_minute = 600, .window_ns = MINUTE},
		{.kind = SERVER_SLIDING, .per_minute = 20, .window_ns = MINUTE},
		{.kind = SERVER_FIXED, .per_minute = 100, .window_ns = MINUTE, .offset_ns = 11 * DF_SEC},
	};
	for (uint64_t i = 0; i < 20; i++) {
		struct world w = {.seed = i,
				  .n_process = 8,
				  .jitter_ns = DF_MS,
				  .latency_ns = 40 * DF_MS,
				  .pause_every_ns = (7 + i) * DF_SEC,
				  .config = {.rpm = servers[i % 4].per_minute}};
		struct outcome o = run(&w, servers[i % 4], 60 * MINUTE);
		if (o.refused)
			fail_msg("server %d, seed %d: %d refused", (int)i % 4, (int)i, (int)o.refused);
		assert_true(o.sent > 60);
	}
}

static void test_limit__tokens_of_small_calls_fill_a_minute(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct world w = {.seed = seed,
				  .n_process = 8,
				  .jitter_ns = 10 * DF_MS,
				  .latency_ns = 100 * DF_MS,
				  .tokens_min = 1,
				  .tokens_max = 400,
				  .config = {.tpm = 200000, .rpm = 5000}};
		struct outcome o = run(&w,
				       (struct server){.kind = SERVER_SLIDING,
						       .per_minute = 200000,
						       .window_ns = MINUTE,
						       .counts_tokens = true},
				       60 * MINUTE);
		assert_int_equal(o.refused, 0);
		assert_true(o.used >= 0.985);
	}
}

static void test_limit__large_calls_never_overflow_a_minute_of_tokens(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		bool slides = seed % 2;
		struct world w = {.seed = seed,
				  .n_process = 8,
				  .jitter_ns = 10 * DF_MS,
				  .latency_ns = 100 * DF_MS,
				  .tokens_min = seed % 3 == 0 ? 9000 : 1,
				  .tokens_max = seed % 3 == 1 ? 3000 : 30000,
				  .config = {.tpm = 100000}};
		struct outcome o = run(&w,
				       (struct server){.kind = slides ? SERVER_SLIDING : SERVER_FIXED,
						       .per_minute = 100000,
						       .window_ns = MINUTE,
						       .counts_tokens = true},
				       60 * MINUTE);
		assert_int_equal(o.refused, 0);
		assert_true(o.used >= (seed % 3 == 1 ? 0.95 : 0.75)); /* what is left over is smaller than a call */
	}
}

/* ------------------------------------------------------------------ told 600, and it is less */

struct lie {
	struct server server;
	uint64_t minutes;
	uint64_t latency;
};

static void assert_learned(const struct lie *lie, uint64_t told, uint64_t seed)
{
	struct world w = {
		.seed = seed, .n_process = 8, .jitter_ns = DF_MS, .latency_ns = lie->latency, .config = {.rpm = told}};
	struct outcome o = run(&w, lie->server, lie->minutes * MINUTE);
	/* A bucket of 2 that says 1 s each time (five of sixty), and a window that says nothing: the best there is, nearly. */
	bool runs_over = lie->server.capacity == 2 && lie->minutes == 1;
	bool is_silent = lie->server.kind == SERVER_FIXED && lie->server.says != SAYS_EXACTLY;
	if (o.used < (runs_over ? 0.90 : 0.95) || o.refused > (is_silent ? 14 : 10) || o.early)
		fail_msg("kind %d capacity %llu says %d minutes %llu seed %llu: %.1f %% used, %llu refused, %llu early",
			 lie->server.kind, (unsigned long long)lie->server.capacity, lie->server.says,
			 (unsigned long long)lie->minutes, (unsigned long long)seed, 100 * o.used,
			 (unsigned long long)o.refused, (unsigned long long)o.early);
}

static void test_limit__told_600_when_it_is_300_it_learns_that(void **state)
{
	(void)state;
	const enum server_says all[] = {SAYS_NOTHING, SAYS_EXACTLY, SAYS_SECONDS, SAYS_250_MS};
	const uint64_t minutes[] = {1, 2, 5, 10};
	for (size_t m = 0; m < 4; m++) {
		for (size_t i = 0; i < 4; i++) {
			const struct lie lies[] = {
				{{.kind = SERVER_BUCKET, .per_minute = 300, .capacity = 10, .says = all[i]},
				 minutes[m],
				 20 * DF_MS},
				{{.kind = SERVER_BUCKET, .per_minute = 300, .capacity = 2, .says = all[i]},
				 minutes[m],
				 20 * DF_MS},
				{{.kind = SERVER_BUCKET, .per_minute = 300, .capacity = 300, .says = all[i]},
				 minutes[m],
				 20 * DF_MS},
				{{.kind = SERVER_SLIDING, .per_minute = 300, .window_ns = MINUTE, .says = all[i]},
				 minutes[m],
				 20 * DF_MS},
				{{.kind = SERVER_FIXED, .per_minute = 300, .window_ns = MINUTE, .says = all[i]},
				 minutes[m],
				 20 * DF_MS},
			};
			for (size_t k = 0; k < 5; k++)
				for (uint64_t seed = 1; seed <= 3; seed++)
					assert_learned(&lies[k], 600, seed);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limit__600_a_minute_by_8_processes_fills_a_bucket_of_10_and_never_overflows_it),
		cmocka_unit_test(test_limit__a_bucket_of_2_does_not_overflow_either),
		cmocka_unit_test(test_limit__a_sliding_window_never_sees_one_too_many),
		cmocka_unit_test(test_limit__a_fixed_window_never_sees_one_too_many),
		cmocka_unit_test(test_limit__slow_and_fast_limits_are_as_exact),
		cmocka_unit_test(test_limit__processes_that_begin_anew_after_a_pause_do_not_burst),
		cmocka_unit_test(test_limit__tokens_of_small_calls_fill_a_minute),
		cmocka_unit_test(test_limit__large_calls_never_overflow_a_minute_of_tokens),
		cmocka_unit_test(test_limit__told_600_when_it_is_300_it_learns_that),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
