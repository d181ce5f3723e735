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

/* A sanitizer is slow: it looks at one seed in PACE. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PACE 5
#else
#define PACE 1
#endif
#define PACED(n) (((n) + PACE - 1) / PACE)

struct outcome {
	double used; /* of what the limit allows in that time */
	uint64_t accepted, refused, noise, alone, early, sent, asks;
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
		.used = s.per_minute ? (double)n / ((double)s.per_minute * (double)duration /
						    (double)(s.window_ns ? s.window_ns : MINUTE))
				     : 0,
		.accepted = s.n_accepted,
		.refused = s.n_refused,
		.noise = s.n_noise,
		.alone = w->n_alone,
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
	for (uint64_t seed = 1; seed <= PACED(8); seed++)
		assert_exact((struct server){.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 10}, seed, 8, DF_MS,
			     40 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_bucket_of_2_does_not_overflow_either(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= PACED(8); seed++)
		assert_exact((struct server){.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 2}, seed, 8, DF_MS,
			     40 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_sliding_window_never_sees_one_too_many(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= PACED(8); seed++)
		assert_exact((struct server){.kind = SERVER_SLIDING, .per_minute = 600, .window_ns = MINUTE}, seed, 8,
			     20 * DF_MS, 100 * DF_MS, 60 * MINUTE);
}

static void test_limit__a_fixed_window_never_sees_one_too_many(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= PACED(8); seed++)
		assert_exact((struct server){.kind = SERVER_FIXED,
					     .per_minute = 600,
					     .window_ns = MINUTE,
					     .offset_ns = seed * 7 * DF_SEC},
			     seed, 8, 20 * DF_MS, 100 * DF_MS, 60 * MINUTE);
}

static void test_limit__slow_and_fast_limits_are_as_exact(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= PACED(3); seed++) {
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
	for (uint64_t i = 0; i < PACED(20); i++) {
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
	for (uint64_t seed = 1; seed <= PACED(4); seed++) {
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
	for (uint64_t seed = 1; seed <= PACED(12); seed++) {
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
				for (uint64_t seed = 1; seed <= PACED(3); seed++)
					assert_learned(&lies[k], 600, seed);
		}
	}
}

/* ------------------------------------------------------------------ refusals at random */

#define SEEDS 6

static struct outcome noisy(struct server s, uint64_t told, uint64_t noise, uint64_t seed, uint64_t duration)
{
	struct world w = {.seed = seed,
			  .n_process = 8,
			  .jitter_ns = DF_MS,
			  .latency_ns = 40 * DF_MS,
			  .in_flight = 8,
			  .config = {.rpm = told}};
	s.noise = noise;
	s.seed = seed * 77;
	return run(&w, s, duration);
}

static void test_limit__chance_alone_slows_nobody_down_whose_rate_is_not_known(void **state)
{
	(void)state;
	const uint64_t noise[] = {10, 50, 150, 300};
	struct outcome calm = noisy((struct server){.kind = SERVER_FREE}, 0, 0, 1, 60 * DF_SEC);
	for (size_t i = 0; i < 4; i++) {
		for (uint64_t seed = 1; seed <= PACED(5); seed++) {
			struct outcome o = noisy((struct server){.kind = SERVER_FREE}, 0, noise[i], seed, 60 * DF_SEC);
			double possible = (double)calm.accepted * (1 - (double)noise[i] / 1000);
			if ((double)o.accepted < 0.90 * possible)
				fail_msg("%d of 1000, seed %d: %d of %d, %d refused, %d alone", (int)noise[i],
					 (int)seed, (int)o.accepted, (int)possible, (int)o.noise, (int)o.alone);
		}
	}
}

static struct outcome noisy_on_average(struct server s, uint64_t told, uint64_t noise, uint64_t duration)
{
	struct outcome sum = {0};
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct outcome o = noisy(s, told, noise, seed, duration);
		sum.used += o.used / SEEDS;
		sum.accepted += o.accepted;
		sum.refused += o.refused;
		sum.noise += o.noise;
		sum.alone += o.alone;
	}
	return sum;
}

static void test_limit__chance_on_top_of_the_limit_that_was_told_costs_little(void **state)
{
	(void)state;
	const uint64_t noise[] = {10, 50, 150, 300}, told[] = {600, 6000};
	for (size_t i = 0; i < (PACE == 1 ? 8 : 4); i++) {
		struct server s = {.kind = SERVER_BUCKET, .per_minute = told[i / 4], .capacity = 10};
		struct outcome o = noisy_on_average(s, told[i / 4], noise[i % 4], 10 * MINUTE);
		double possible = 1 - (double)noise[i % 4] / 1000;
		if (o.used < 0.90 * possible || o.refused)
			fail_msg("%d a minute, %d of 1000: %.3f of %.3f used, %d and %d refused, %d alone",
				 (int)told[i / 4], (int)noise[i % 4], o.used, possible, (int)o.refused, (int)o.noise,
				 (int)o.alone);
	}
}

/* What chance refuses hides a limit: it is used less, and found with more refusals, the more of them there are. */
static void test_limit__a_lower_limit_is_found_beneath_chance(void **state)
{
	(void)state;
	const uint64_t noise[] = {10, 50, 150};
	const double used[] = {0.90, 0.85, 0.75};
	for (size_t i = 0; i < 6; i++) {
		struct server s = {.kind = i / 3 ? SERVER_SLIDING : SERVER_BUCKET,
				   .per_minute = 300,
				   .capacity = 10,
				   .window_ns = i / 3 ? MINUTE : 0};
		struct outcome o = noisy_on_average(s, 600, noise[i % 3], 10 * MINUTE);
		if (o.used < used[i % 3] || o.refused > o.accepted / 4)
			fail_msg("kind %d, %d of 1000: %.3f used, %d and %d refused, %d alone", (int)s.kind,
				 (int)noise[i % 3], o.used, (int)o.refused, (int)o.noise, (int)o.alone);
	}
}

static void test_limit__a_limit_that_nobody_told_is_found(void **state)
{
	(void)state;
	const struct server servers[] = {
		{.kind = SERVER_BUCKET, .per_minute = 600, .capacity = 10},
		{.kind = SERVER_BUCKET, .per_minute = 6000, .capacity = 100},
		{.kind = SERVER_BUCKET, .per_minute = 60, .capacity = 2},
		{.kind = SERVER_SLIDING, .per_minute = 600, .window_ns = MINUTE},
		{.kind = SERVER_FIXED, .per_minute = 600, .window_ns = MINUTE},
	};
	for (size_t i = 0; i < 5; i++) {
		struct outcome o = noisy_on_average(servers[i], 0, 0, 5 * MINUTE);
		/* Those that were in flight at full speed, 64, and some that searched. */
		if (o.used < 0.92 || o.refused > SEEDS * (64 + 40))
			fail_msg("server %d: %.3f used, %d refused, %d alone", (int)i, o.used, (int)o.refused,
				 (int)o.alone);
	}
}

/* nginx's limit_req, 5 a second and burst 2, which says nothing or always a second: that second is kept each time, though the bucket is full after three fifths
 * of it. However many were out when it began, and so however wrong the first guess was. */
static void test_limit__a_leaky_bucket_that_nobody_told_is_found_from_any_first_guess(void **state)
{
	(void)state;
	const uint32_t in_flight[] = {20, 50, 100, 200};
	const enum server_says says[] = {SAYS_NOTHING, SAYS_SECONDS};
	for (size_t i = 0; i < 8; i++) {
		struct outcome sum = {0};
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct world w = {.seed = seed,
					  .n_process = 2,
					  .jitter_ns = DF_MS,
					  .latency_ns = 50 * DF_MS,
					  .in_flight = in_flight[i % 4]};
			struct outcome o = run(
				&w,
				(struct server){
					.kind = SERVER_BUCKET, .per_minute = 300, .capacity = 3, .says = says[i / 4]},
				MINUTE);
			sum.used += o.used / SEEDS;
			sum.refused += o.refused;
			sum.early += o.early;
		}
		print_message("says %d, %u in flight: %.1f %% of the first minute used, %.0f refused\n", says[i / 4],
			      in_flight[i % 4], 100 * sum.used, (double)sum.refused / SEEDS);
		assert_true(sum.used >= 0.85);
		assert_true(sum.refused <=
			    SEEDS * (2 * in_flight[i % 4] + 50)); /* those that were out, and the search */
		assert_int_equal(sum.early, 0);
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
		cmocka_unit_test(test_limit__chance_alone_slows_nobody_down_whose_rate_is_not_known),
		cmocka_unit_test(test_limit__chance_on_top_of_the_limit_that_was_told_costs_little),
		cmocka_unit_test(test_limit__a_lower_limit_is_found_beneath_chance),
		cmocka_unit_test(test_limit__a_limit_that_nobody_told_is_found),
		cmocka_unit_test(test_limit__a_leaky_bucket_that_nobody_told_is_found_from_any_first_guess),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
