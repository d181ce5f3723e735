// SPDX-License-Identifier: Apache-2.0
/* test_call_cases: single cases of calls in a simulated world (call_world.h): budgets, batches, cache, streams, fall-backs, hedges, limits, stops. */
#include "tests/unit/call_world.h"

/* ------------------------------------------------------------------ single cases */

static void test_budget__is_never_overshot_and_ends_the_run_quickly(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 20; seed++) {
		struct world w;
		enum { N = 600 };
		unsigned n_ok = 0;
		/* a call's worst case: 12 x 0.15 + 20 x 0.60 USD per million */
		double worst = (12 * 0.15 + 20 * 0.60) / 1e6, real = (10 * 0.15 + 5 * 0.60) / 1e6;
		open_world(&w, seed, 100 * real + worst, false);
		w.http.faults = (struct faults){.error = 0.1, .reset = seed % 2 ? 0.05 : 0};
		struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
		struct job *j = submit_chats(&w, &route, 1, N);
		uint64_t start_ns = w.http.now_ns;
		run_all(&w, N);
		for (unsigned i = 0; i < N; i++) {
			n_ok += j[i].call.err == DF_OK;
			if (j[i].call.err != DF_OK)
				assert_int_equal(j[i].call.err, DF_ERR_QUOTA);
		}
		struct df_purse_view v = df_purse_look(w.purse);
		assert_true(v.spent <= v.budget);
		assert_true(v.spent > v.budget - worst); /* and used up */
		if (seed % 2 == 0)
			assert_true(n_ok >= 100); /* what was only reserved did not end the run */
		assert_true(w.http.now_ns - start_ns < 60 * DF_SEC);
		release(j, N);
		df_route_close(&route);
		close_world(&w);
	}
}

static void test_budget__that_one_slow_call_holds_is_waited_for(void **state)
{
	(void)state;
	struct world w;
	enum { N = 3 };
	double worst = (12 * 0.15 + 20 * 0.60) / 1e6, real = (10 * 0.15 + 5 * 0.60) / 1e6;
	open_world(&w, 1, worst + (N - 1) * real + 1e-9, false);
	w.http.latency_ns = 100 * DF_SEC;
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	struct job *j = submit_chats(&w, &route, 1, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_budget__refuses_a_model_without_a_price(void **state)
{
	(void)state;
	struct world w;
	struct df_route *route = NULL;
	struct df_fail fail = {0};
	open_world(&w, 1, 5, false);
	struct df_route_options o = {.model = DF_STR("openai/unheard-of"), .base_url = DF_STR("http://sim.test/v1")};
	assert_int_equal(df_route_open(w.caller, &o, &route, &fail), DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "no known price"));
	close_world(&w);
}

static void test_batch__with_one_bad_input_costs_that_input_alone(void **state)
{
	(void)state;
	for (unsigned bad = 0; bad < 40; bad += 3) {
		struct world w;
		open_world(&w, bad + 1, -1, true);
		(void)snprintf(w.http.refuse, sizeof(w.http.refuse), "passage %u", 100 + bad);
		struct df_route *route =
			open_route(&w, (struct df_route_options){.model = DF_STR("text-embedding-3-small")});
		struct job *j = calloc(1, sizeof(*j));
		make_embed(&w, j, &route, 1, 100, 40);
		submit(&w, j);
		run_all(&w, 1);
		assert_int_equal(j->call.err, DF_OK);
		assert_non_null(j->call.input_err);
		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(j->call.input_err[i], i == bad ? DF_ERR_RANGE : DF_OK);
		assert_non_null(strstr(j->call.message, "not to our taste"));
		assert_true(w.http.n_request <= 2 * 6 + 1);
		check_embed(j);
		release(j, 1);
		df_route_close(&route);
		close_world(&w);
	}
}

static void test_batch__that_is_wrong_as_a_whole_is_not_cut_to_pieces(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 9, -1, false);
	(void)snprintf(w.http.refuse, sizeof(w.http.refuse), "passage");
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("text-embedding-3-small")});
	struct job *j = calloc(1, sizeof(*j));
	make_embed(&w, j, &route, 1, 100, 64);
	submit(&w, j);
	run_all(&w, 1);
	assert_int_equal(j->call.err, DF_ERR_RANGE);
	assert_true(w.http.n_request < 50);
	release(j, 1);
	df_route_close(&route);
	close_world(&w);
}

static void test_cache__only_what_is_missing_is_asked_for(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 2, 100, true);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("text-embedding-3-small")});
	struct job *j = calloc(4, sizeof(*j));
	make_embed(&w, &j[0], &route, 1, 10, 20);
	submit(&w, &j[0]);
	run_all(&w, 1);
	make_embed(&w, &j[1], &route, 1, 0, 40);
	j[1].input[39] = j[1].input[0]; /* a text that comes twice is asked for once */
	submit(&w, &j[1]);
	run_all(&w, 2);
	check_embed(&j[0]);
	check_embed(&j[1]);
	assert_int_equal(w.http.n_request, 2);
	assert_int_equal(j[1].call.answer.usage.in, 19); /* the simulated server counts a token for each input */
	make_embed(&w, &j[2], &route, 1, 5, 30);
	submit(&w, &j[2]);
	make_embed(&w, &j[3], &route, 1, 5, 30);
	j[3].call.no_cache = true;
	submit(&w, &j[3]);
	run_all(&w, 4);
	check_embed(&j[2]);
	check_embed(&j[3]);
	assert_true(j[2].call.cached && j[2].call.usd == 0);
	assert_false(j[3].call.cached);
	assert_int_equal(w.http.n_request, 3);
	release(j, 4);
	df_route_close(&route);
	close_world(&w);
}

static void test_cache__identical_calls_in_flight_are_sent_once(void **state)
{
	(void)state;
	struct world w;
	enum { N = 50 };
	open_world(&w, 2, 100, true);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	struct job *j = calloc(N, sizeof(*j));
	for (unsigned i = 0; i < N; i++) {
		make_chat(&w, &j[i], &route, 1, 7);
		submit(&w, &j[i]);
	}
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_OK);
		check_chat(&j[i]);
		assert_int_equal(j[i].call.cached, i != 0);
	}
	assert_int_equal(w.http.n_request, 1);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_stream__that_was_cut_is_never_whole_and_not_tried_again_once_text_was_shown(void **state)
{
	(void)state;
	struct world w;
	enum { N = 300 };
	unsigned n_failed = 0;
	open_world(&w, 5, 1000, false);
	w.http.faults = (struct faults){.cut = 0.4};
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	struct job *j = calloc(N, sizeof(*j));
	for (unsigned i = 0; i < N; i++) {
		make_chat(&w, &j[i], &route, 1, i);
		j[i].call.on_text = on_text;
		submit(&w, &j[i]);
	}
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		n_failed += j[i].call.err != DF_OK;
		if (j[i].call.err == DF_OK) {
			check_chat(&j[i]);
			assert_true(j[i].call.answer.usage.known || j[i].call.answer.usage.in);
		} else {
			assert_int_equal(j[i].call.err, DF_ERR_CLOSED);
			/* before any text was shown it may be tried again; afterwards not: what was shown is of one attempt */
			assert_true(j[i].n_shown > 0 && j[i].n_shown <= strlen(j[i].text[0]));
			assert_memory_equal(j[i].shown, j[i].text[0], j[i].n_shown);
			assert_null(j[i].call.answer.text.p);
			assert_true(j[i].call.usd > 0); /* it may have been billed */
		}
	}
	assert_true(n_failed > N / 5 && n_failed < N / 2);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_fallback__takes_over_from_a_model_that_is_over_or_dead(void **state)
{
	(void)state;
	for (int how = 0; how < 3; how++) {
		struct world w;
		enum { N = 60 };
		open_world(&w, 6, -1, false);
		struct df_route *route[2] = {
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o"),
								 .base_url = DF_STR("http://first.test/v1")}),
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")})};
		(void)snprintf(w.http.host_dead, sizeof(w.http.host_dead), "first.test");
		if (how == 1)
			df_route_over(route[0], DF_ERR_QUOTA, DF_CALL_QUOTA, "no money there");
		struct job *j = submit_chats(&w, route, 2, N);
		run_all(&w, N);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(j[i].call.err, DF_OK);
			check_chat(&j[i]);
		}
		if (how == 1)
			assert_int_equal(w.http.n_request, N);
		release(j, N);
		df_route_close(&route[0]);
		df_route_close(&route[1]);
		close_world(&w);
	}
}

static void test_auth__ends_the_run_at_once_and_shows_no_key(void **state)
{
	(void)state;
	struct world w;
	enum { N = 500 };
	open_world(&w, 8, -1, false);
	w.http.always = 401;
	struct df_route *route =
		open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .concurrency = 10});
	struct job *j = submit_chats(&w, &route, 1, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_ERR_USAGE);
		assert_non_null(strstr(j[i].call.message, "gpt-4o-mini"));
		assert_null(strstr(j[i].call.message, "sk-planted"));
	}
	assert_true(w.http.n_request <= 10);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_hedge__a_silent_request_is_overtaken_by_a_second_one(void **state)
{
	(void)state;
	struct world w;
	struct df_retry_options hedged = df_retry_defaults;
	hedged.hedge_ms = 300;
	open_world(&w, 8, 100, false);
	w.http.first_request_silent = true;
	struct df_route *route =
		open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .concurrency = 2});
	struct job *j = calloc(1, sizeof(*j));
	make_chat(&w, j, &route, 1, 1);
	j->call.retry = &hedged;
	submit(&w, j);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, 1);
	assert_int_equal(j->call.err, DF_OK);
	assert_true(w.http.now_ns - start_ns < 400 * DF_MS);
	assert_int_equal(w.http.n_request, 2);
	/* the winner by its usage, the cancelled one by its worst case: it may be billed */
	assert_true(df_purse_look(w.purse).spent > (10 * 0.15 + 5 * 0.60) / 1e6 + (12 * 0.15 + 20 * 0.60) / 1e6 - 1e-9);
	release(j, 1);
	df_route_close(&route);
	close_world(&w);
}

static void test_limit__what_can_never_fit_is_refused_with_the_reason(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 8, -1, false);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .tpm = 1000});
	struct job *j = calloc(2, sizeof(*j));
	make_chat(&w, &j[0], &route, 1, 1);
	j[0].call.ask.tokens_in = 5000;
	make_chat(&w, &j[1], &route, 1, 2);
	submit(&w, &j[0]);
	submit(&w, &j[1]);
	run_all(&w, 2);
	assert_int_equal(j[0].call.err, DF_ERR_LIMIT);
	assert_non_null(strstr(j[0].call.message, "token"));
	assert_int_equal(j[0].call.attempts, 0);
	assert_int_equal(j[1].call.err, DF_OK);
	release(j, 2);
	df_route_close(&route);
	close_world(&w);
}

static void test_limit__of_the_day_ends_the_run_with_its_words(void **state)
{
	(void)state;
	struct world w;
	enum { N = 30 };
	unsigned n_ok = 0;
	open_world(&w, 8, -1, false);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .rpd = 20});
	struct job *j = submit_chats(&w, &route, 1, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		n_ok += j[i].call.err == DF_OK;
		if (j[i].call.err != DF_OK) {
			assert_int_equal(j[i].call.err, DF_ERR_QUOTA);
			assert_non_null(strstr(j[i].call.message, "daily limit hit for model"));
		}
	}
	assert_int_equal(n_ok, 20);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_stop__in_any_phase_leaves_nothing_behind(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 40; seed++) {
		struct world w;
		enum { N = 250 };
		struct df_retry_options hedged = df_retry_defaults;
		hedged.hedge_ms = 15;
		open_world(&w, seed, seed % 3 ? 100 : -1, seed % 2);
		w.http.faults = (struct faults){.rate = 0.1, .error = 0.2, .reset = 0.1, .stall = 0.1};
		struct df_route *route[2] = {
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"),
								 .concurrency = 1 + seed,
								 .rpm = 6000}),
			open_route(&w, (struct df_route_options){.model = DF_STR("text-embedding-3-small")})};
		struct job *j = calloc(N, sizeof(*j));
		for (unsigned i = 0; i < N; i++) {
			if (i % 2)
				make_chat(&w, &j[i], &route[0], 1, i % 60);
			else
				make_embed(&w, &j[i], &route[1], 1, i % 60, 1 + i % 30);
			if (i % 6 == 1)
				j[i].call.on_text = on_text;
			j[i].call.retry = &hedged;
			submit(&w, &j[i]);
		}
		for (unsigned i = 0; i < seed * 40; i++)
			(void)step(&w.http);
		uint64_t asked_ns = w.http.now_ns;
		df_caller_stop(w.caller, 2 * DF_SEC);
		if (seed % 4 == 0)
			df_caller_stop(w.caller, 0);
		run_all(&w, N);
		assert_true(w.http.now_ns <= asked_ns + 2 * DF_SEC + 10 * DF_MS);
		for (unsigned i = 0; i < N; i++)
			if (j[i].call.err != DF_OK)
				assert_true(j[i].call.err == DF_ERR_INTERRUPTED || j[i].call.err == DF_ERR_CLOSED ||
					    j[i].call.err == DF_ERR_TIMEOUT || j[i].n_shown);
		release(j, N);
		df_route_close(&route[0]);
		df_route_close(&route[1]);
		close_world(&w);
	}
}

static void test_stop__a_hedge_that_waits_for_its_time_is_not_sent_any_more(void **state)
{
	(void)state;
	struct world w;
	struct df_retry_options hedged = df_retry_defaults;
	hedged.hedge_ms = 20;
	open_world(&w, 1, -1, false);
	w.http.first_request_silent = true;
	struct df_route *route =
		open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .rpm = 1200}); /* 50 ms */
	struct job *j = calloc(1, sizeof(*j));
	make_chat(&w, j, &route, 1, 1);
	j->call.retry = &hedged;
	submit(&w, j);
	while (!w.http.n_request || w.http.now_ns < w.http.last_sent_ns + 20 * DF_MS)
		assert_true(step(&w.http) || w.http.n_request);
	df_caller_stop(w.caller, 20 * DF_SEC);
	run_all(&w, 1);
	assert_int_equal(w.http.n_request, 1);
	release(j, 1);
	df_route_close(&route);
	close_world(&w);
}

/* An identical ask of a stage with other fall-backs is another call: it gets neither their answers nor the lack of them. */
static void test_cache__identical_calls_with_other_fallbacks_are_not_one(void **state)
{
	(void)state;
	for (size_t first = 0; first < 2; first++) {
		struct world w;
		open_world(&w, 1, -1, true);
		(void)snprintf(w.http.host_dead, sizeof(w.http.host_dead), "dead.test");
		struct df_route *route[2] = {
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"),
								 .base_url = DF_STR("http://dead.test/v1")}),
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o")})};
		struct job *j = calloc(2, sizeof(*j));
		make_chat(&w, &j[0], route, 2, 1);
		make_chat(&w, &j[1], route, 1, 1);
		submit(&w, &j[first]);
		submit(&w, &j[1 - first]);
		run_all(&w, 2);
		assert_int_equal(j[0].call.err, DF_OK);
		assert_true(j[1].call.err != DF_OK);
		release(j, 2);
		df_route_close(&route[0]);
		df_route_close(&route[1]);
		close_world(&w);
	}
}

/* Calls that followed one whose memory was full lead on in their order: else a stop that ends them misses those behind them. */
static void test_stop__ends_all_though_a_call_led_others_that_were_before_it(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 1, -1, true);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	struct job *j = calloc(4, sizeof(*j));
	w.http.first_request_silent = true;
	for (unsigned i = 0; i < 4; i++)
		make_chat(&w, &j[i], &route, 1, i > 0);
	submit(&w, &j[0]);
	while (w.http.n_request < 1)
		assert_true(step(&w.http));
	df_arena_release(&j[1].arena);
	df_arena_init(&j[1].arena, 64, 0);
	for (unsigned i = 1; i < 4; i++)
		submit(&w, &j[i]);
	while (w.http.n_request < 2)
		assert_true(step(&w.http));
	w.http.faults.stall = 1;
	while (w.http.n_request < 3)
		assert_true(step(&w.http));
	assert_int_equal(j[1].call.err, DF_ERR_NOMEM);
	uint64_t asked_ns = w.http.now_ns;
	df_caller_stop(w.caller, DF_SEC);
	run_all(&w, 4);
	assert_true(w.http.now_ns <= asked_ns + DF_SEC + 10 * DF_MS);
	release(j, 4);
	df_route_close(&route);
	close_world(&w);
}

/* It would be asked for again with its whole batch, and paid for again. */
static void test_answer__that_is_too_long_is_its_documents_error_alone(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 1, -1, false);
	struct df_route *route = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
	struct job *j = calloc(1, sizeof(*j));
	make_chat(&w, j, &route, 1, 1);
	df_arena_release(&j->arena);
	df_arena_init_small(&j->arena, 20, 16); /* "re question 1" is more than half of it */
	submit(&w, j);
	run_all(&w, 1);
	assert_int_equal(j->call.err, DF_ERR_LIMIT);
	assert_non_null(strstr(j->call.message, "longer"));
	assert_int_equal(w.http.n_request, 1);
	release(j, 1);
	df_route_close(&route);
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget__is_never_overshot_and_ends_the_run_quickly),
		cmocka_unit_test(test_budget__that_one_slow_call_holds_is_waited_for),
		cmocka_unit_test(test_budget__refuses_a_model_without_a_price),
		cmocka_unit_test(test_batch__with_one_bad_input_costs_that_input_alone),
		cmocka_unit_test(test_batch__that_is_wrong_as_a_whole_is_not_cut_to_pieces),
		cmocka_unit_test(test_cache__only_what_is_missing_is_asked_for),
		cmocka_unit_test(test_cache__identical_calls_in_flight_are_sent_once),
		cmocka_unit_test(test_stream__that_was_cut_is_never_whole_and_not_tried_again_once_text_was_shown),
		cmocka_unit_test(test_fallback__takes_over_from_a_model_that_is_over_or_dead),
		cmocka_unit_test(test_auth__ends_the_run_at_once_and_shows_no_key),
		cmocka_unit_test(test_hedge__a_silent_request_is_overtaken_by_a_second_one),
		cmocka_unit_test(test_limit__what_can_never_fit_is_refused_with_the_reason),
		cmocka_unit_test(test_limit__of_the_day_ends_the_run_with_its_words),
		cmocka_unit_test(test_stop__in_any_phase_leaves_nothing_behind),
		cmocka_unit_test(test_stop__a_hedge_that_waits_for_its_time_is_not_sent_any_more),
		cmocka_unit_test(test_cache__identical_calls_with_other_fallbacks_are_not_one),
		cmocka_unit_test(test_stop__ends_all_though_a_call_led_others_that_were_before_it),
		cmocka_unit_test(test_answer__that_is_too_long_is_its_documents_error_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
