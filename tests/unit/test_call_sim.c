// SPDX-License-Identifier: Apache-2.0
/*
 * The engine of calls in a simulated world (call_world.h). Whatever happens, each call ends once and with the right answer, money is within its budget and
 * never left reserved, limits are kept as the server counts them, and nothing is left behind.
 *
 * DF_CALL_SEEDS: how many histories (default 60). A failure prints its seed.
 */
#include "tests/unit/call_world.h"

/* ------------------------------------------------------------------ histories */

static void history(uint64_t seed, struct faults faults, double most_requests, unsigned lost_max)
{
	struct world w;
	enum { N = 400 };
	uint64_t dice = seed * 977 + 1;
	struct df_rand r = df_rand_seeded(&dice);
	bool cached = r.next(r.self) % 2;
	open_world(&w, seed, r.next(r.self) % 2 ? 1000 : -1, cached);
	w.http.faults = faults;
	uint32_t concurrency = r.next(r.self) % 2 ? 1 + (uint32_t)(r.next(r.self) % 40) : 0;
	struct df_route *chat =
		open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .concurrency = concurrency});
	struct df_route *embed = open_route(
		&w, (struct df_route_options){.model = DF_STR("text-embedding-3-small"), .concurrency = concurrency});
	struct job *j = calloc(N, sizeof(*j));
	unsigned n_lost = 0;
	assert_non_null(j);
	for (unsigned i = 0; i < N; i++) {
		unsigned what = cached ? (unsigned)(r.next(r.self) % 300) : i;
		if (r.next(r.self) % 3)
			make_chat(&w, &j[i], &chat, 1, what);
		else
			make_embed(&w, &j[i], &embed, 1, what, 1 + (unsigned)(r.next(r.self) % 40));
		if (faults.cut == 0 && j[i].call.ask.kind == DF_ASK_CHAT && what % 5 == 0)
			j[i].call.on_text = on_text;
		submit(&w, &j[i]);
		if (r.next(r.self) % 8 == 0)
			(void)step(&w.http);
	}
	run_all(&w, N);
	/* faults by chance are no limit: they slow nobody down for long */
	assert_true(w.http.now_ns < (faults.stall > 0 ? 2000 : 150) * DF_SEC); /* a stall takes its time-out */
	for (unsigned i = 0; i < N; i++) {
		if (j[i].call.err != DF_OK) {
			n_lost++;
			continue;
		}
		if (j[i].call.ask.kind == DF_ASK_EMBED)
			check_embed(&j[i]);
		else if (
			!cached ||
			!j[i].call
				 .cached) /* a stream's twin may have been answered in one piece, and the other way round */
			check_chat(&j[i]);
	}
	if (n_lost > lost_max)
		fail_msg("%u calls of %u were lost", n_lost, N);
	if (concurrency)
		assert_true(w.http.most_in_flight <= 2 * concurrency);
	if ((double)w.http.n_request > most_requests * N)
		fail_msg("%llu requests for %u calls", (unsigned long long)w.http.n_request, N);
	assert_true(w.http.n_request <= N + w.http.n_fault);
	release(j, N);
	df_route_close(&chat);
	df_route_close(&embed);
	close_world(&w);
}

static unsigned n_seeds(void)
{
	const char *n = getenv("DF_CALL_SEEDS");
	return n ? (unsigned)strtoul(n, NULL, 10) : 60;
}

static void test_calls__each_ends_once_and_right_with_five_percent_of_faults(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= n_seeds(); seed++) {
		print_message("seed %u\r", seed);
		history(seed, (struct faults){.rate = 0.025, .error = 0.025}, 1.12, 0);
	}
}

static void test_calls__survive_thirty_percent_of_faults_with_few_requests_more(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= n_seeds(); seed++) {
		print_message("seed %u\r", seed);
		history(seed, (struct faults){.rate = 0.1, .error = 0.1, .reset = 0.1}, 1.55, 0);
	}
}

static void test_calls__survive_every_kind_of_fault(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= n_seeds(); seed++) {
		print_message("seed %u\r", seed);
		history(seed,
			(struct faults){.rate = 0.02,
					.error = 0.03,
					.reset = 0.03,
					.lost = 0.03,
					.stall = 0.01,
					.broken = 0.03,
					.cut = 0.1},
			1.4, 2);
	}
}

static void test_calls__keep_a_rate_that_the_server_counts_by_a_sliding_window(void **state)
{
	(void)state;
	struct world w;
	enum { N = 1300 };
	open_world(&w, 3, -1, false);
	w.http.rpm = 600;
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .rpm = 600});
	struct job *j = submit_chats(&w, &route, 1, N);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	double s = (double)(w.http.last_sent_ns - start_ns) / 1e9;
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_OK);
		check_chat(&j[i]);
	}
	assert_int_equal(w.http.n_violation, 0);
	assert_int_equal(w.http.n_request, N);
	print_message("%u calls at 600 a minute: %.2f s, %.2f %% of what is allowed\n", N, s, (N - 1) * 10.0 / s);
	assert_true(s < (N - 1) / 10.0 / 0.99); /* >= 99 % of the rate */
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_calls__find_the_rate_of_a_server_that_allows_half_of_what_was_said(void **state)
{
	(void)state;
	struct world w;
	enum { N = 1500 };
	open_world(&w, 4, -1, false);
	w.http.rpm = 300;
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .rpm = 600});
	struct job *j = submit_chats(&w, &route, 1, N);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	double s = (double)(w.http.last_sent_ns - start_ns) / 1e9;
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	print_message("%u calls, told 600 where 300 are allowed: %.1f s, %llu answers 429, %.1f %% of 300\n", N, s,
		      (unsigned long long)w.http.n_violation, N * 20.0 / s);
	assert_true(w.http.n_violation <= 20);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls__each_ends_once_and_right_with_five_percent_of_faults),
		cmocka_unit_test(test_calls__survive_thirty_percent_of_faults_with_few_requests_more),
		cmocka_unit_test(test_calls__survive_every_kind_of_fault),
		cmocka_unit_test(test_calls__keep_a_rate_that_the_server_counts_by_a_sliding_window),
		cmocka_unit_test(test_calls__find_the_rate_of_a_server_that_allows_half_of_what_was_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
