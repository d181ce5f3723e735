// SPDX-License-Identifier: Apache-2.0
/*
 * test_call_breaker: hosts that do not answer and models that answer with errors alone, in a simulated world (call_world.h): who waits, who goes elsewhere, what
 * people are told, and when it is over.
 */
#include "call_world.h"

static struct df_route *route_of(struct world *w, const char *model, uint32_t concurrency)
{
	return open_route(w, (struct df_route_options){.model = df_str_from(model), .concurrency = concurrency});
}

static void run_until(struct world *w, uint64_t at_ns)
{
	while (w->http.now_ns < at_ns && w->http.events)
		(void)step(&w->http);
}

/* One call with an answer: the host is known then. */
static void meet(struct world *w, struct df_route *const *route)
{
	struct job *j = submit_chats(w, route, 1, 1);
	run_all(w, 1);
	assert_int_equal(j->call.err, DF_OK);
	release(j, 1);
	w->n_done = 0;
}

/* ------------------------------------------------------------------ a model that answers 5xx */

/* A gateway: many models behind one host, one of which fails. */
static void test_breaker__a_fallback_on_the_same_host_is_asked_while_the_first_model_answers_5xx(void **state)
{
	(void)state;
	struct world w;
	enum { N = 2000 };
	open_world(&w, 6, -1, false);
	(void)snprintf(w.http.model_failing, sizeof(w.http.model_failing), "\"gpt-4o-mini\"");
	struct df_route *route[2] = {route_of(&w, "gpt-4o-mini", 50), route_of(&w, "gpt-4o", 50)};
	struct job *j = submit_chats(&w, route, 2, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_OK);
		check_chat(&j[i]);
	}
	print_message("%llu answers of 500, all %u answered after %llu ms\n", (unsigned long long)w.http.n_failing, N,
		      (unsigned long long)((w.http.now_ns - 5 * DF_SEC) / DF_MS));
	assert_true(w.http.n_failing < 60); /* those that were out, and a probe or two */
	assert_true(w.http.now_ns < 10 * DF_SEC);
	assert_int_equal(w.n_warned, 1);
	assert_non_null(strstr(w.warned[0], "\"gpt-4o-mini\" at 'http://sim.test' answers with errors alone"));
	release(j, N);
	df_route_close(&route[0]);
	df_route_close(&route[1]);
	close_world(&w);
}

static void test_breaker__a_model_that_answers_429_alone_is_left_alone_where_there_is_a_fallback(void **state)
{
	(void)state;
	struct world w;
	enum { N = 500 };
	open_world(&w, 6, -1, false);
	(void)snprintf(w.http.model_failing, sizeof(w.http.model_failing), "\"gpt-4o-mini\"");
	w.http.failing_status = 429;
	struct df_route *route[2] = {route_of(&w, "gpt-4o-mini", 50), route_of(&w, "gpt-4o", 50)};
	uint64_t begun_ns = w.http.now_ns;
	struct job *j = submit_chats(&w, route, 2, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_OK);
		check_chat(&j[i]);
	}
	print_message("%llu answers of 429, all %u answered after %llu ms\n", (unsigned long long)w.http.n_failing, N,
		      (unsigned long long)((w.http.now_ns - begun_ns) / DF_MS));
	assert_true(w.http.now_ns - begun_ns >= DF_RATE_ALONE_MS * DF_MS); /* a limit is waited for first */
	assert_true(w.http.now_ns - begun_ns < 3 * DF_RATE_ALONE_MS * DF_MS);
	assert_int_equal(w.n_warned, 1);
	assert_non_null(strstr(w.warned[0], "has answered 429 and nothing else for"));
	release(j, N);
	w.n_done = 0;
	w.http.model_failing[0] = '\0'; /* when it has cooled down it is asked again */
	w.http.now_ns += df_retry_defaults.cool_down_ms * DF_MS;
	uint64_t n_before = w.http.n_request;
	j = submit_chats(&w, route, 1, 1);
	run_all(&w, 1);
	assert_int_equal(j->call.err, DF_OK);
	assert_int_equal(w.http.n_request, n_before + 1);
	release(j, 1);
	df_route_close(&route[0]);
	df_route_close(&route[1]);
	close_world(&w);
}

static void test_breaker__a_model_that_answers_429_alone_is_waited_for_where_there_is_none(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 6, -1, false);
	(void)snprintf(w.http.model_failing, sizeof(w.http.model_failing), "\"gpt-4o-mini\"");
	w.http.failing_status = 429;
	struct df_route *route = route_of(&w, "gpt-4o-mini", 50);
	struct job *j = submit_chats(&w, &route, 1, 10);
	run_until(&w, w.http.now_ns + 2 * DF_RATE_ALONE_MS * DF_MS);
	assert_int_equal(w.n_done, 0);
	w.http.model_failing[0] = '\0';
	run_all(&w, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	assert_int_equal(w.n_warned, 0);
	release(j, 10);
	df_route_close(&route);
	close_world(&w);
}

static void test_breaker__another_model_of_the_same_host_is_not_held_up(void **state)
{
	(void)state;
	struct world w;
	enum { N = 100 };
	open_world(&w, 6, -1, false);
	(void)snprintf(w.http.model_failing, sizeof(w.http.model_failing), "\"gpt-4o-mini\"");
	struct df_route *bad = route_of(&w, "gpt-4o-mini", 50), *good = route_of(&w, "gpt-4o", 50);
	struct job *of_bad = submit_chats(&w, &bad, 1, N), *of_good = submit_chats(&w, &good, 1, N);
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(of_good[i].n_done, 1);
	assert_true(w.http.now_ns < 10 * DF_SEC);
	w.http.model_failing[0] = '\0'; /* and when it is well again, its calls are answered too */
	run_all(&w, 2 * N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(of_bad[i].call.err, DF_OK);
	assert_int_equal(w.n_warned, 2);
	assert_non_null(strstr(w.warned[1], "answers well again"));
	release(of_bad, N);
	release(of_good, N);
	df_route_close(&bad);
	df_route_close(&good);
	close_world(&w);
}

static void test_breaker__a_model_that_answers_5xx_for_ten_minutes_ends_the_run_in_true_words(void **state)
{
	(void)state;
	struct world w;
	enum { N = 1000 };
	open_world(&w, 8, -1, false);
	(void)snprintf(w.http.model_failing, sizeof(w.http.model_failing), "\"gpt-4o-mini\"");
	struct df_route *route = route_of(&w, "gpt-4o-mini", 50);
	struct job *j = submit_chats(&w, &route, 1, N);
	run_all(&w, N);
	unsigned n_ended = 0;
	char count[64];
	(void)snprintf(count, sizeof(count), "(%llu of them, the last: ", (unsigned long long)w.http.n_failing);
	for (unsigned i = 0; i < N; i++) {
		n_ended += j[i].call.err == DF_ERR_USAGE && strstr(j[i].call.message, "with errors alone for 10 min") &&
			   strstr(j[i].call.message, count) && strstr(j[i].call.message, "500");
		assert_null(strstr(j[i].call.message, "answered nothing"));
	}
	print_message("%s\n", j[N - 1].call.message);
	assert_true(n_ended >= N - 10); /* the others were probes until their attempts were used up */
	assert_true(w.http.now_ns < 700 * DF_SEC);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

/* What a model always refuses with 500 is asked first, and is more than the breaker takes: it must not speak for the others. */
static void with_bad_ones(bool last, uint64_t most_s)
{
	struct world w;
	enum { N = 200, BAD = 20 };
	open_world(&w, 9, -1, false);
	(void)snprintf(w.http.text_failing, sizeof(w.http.text_failing), "question 50");
	struct df_route *route = route_of(&w, "gpt-4o-mini", 8);
	struct job *j = calloc(N, sizeof(*j));
	for (unsigned i = 0; i < N; i++) {
		make_chat(&w, &j[i], &route, 1,
			  (last ? i >= N - BAD : i < BAD) ? (last ? 5000 - (N - BAD) + i : 5000 + i) : 600 + i);
		submit(&w, &j[i]);
	}
	run_all(&w, N);
	unsigned n_bad = 0;
	for (unsigned i = 0; i < N; i++) {
		bool bad = strstr(j[i].text[0], "question 50") != NULL;
		n_bad += bad;
		assert_int_equal(j[i].call.err, bad ? DF_ERR_CLOSED : DF_OK);
		if (bad)
			assert_non_null(strstr(j[i].call.message, "500"));
		else
			check_chat(&j[i]);
	}
	print_message("over after %llu s\n", (unsigned long long)(w.http.now_ns / DF_SEC));
	assert_int_equal(n_bad, BAD);
	assert_true(w.http.now_ns < most_s * DF_SEC);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_breaker__documents_that_a_model_always_fails_on_do_not_hold_up_the_others(void **state)
{
	(void)state;
	with_bad_ones(false, 120);
}

/* With nobody else left to ask, they are all that the model is known by. */
static void test_breaker__the_last_documents_that_a_model_always_fails_on_are_rejected_and_end_no_run(void **state)
{
	(void)state;
	with_bad_ones(true, 720);
}

/* ------------------------------------------------------------------ a host that does not answer */

static void test_breaker__a_dead_host_is_asked_seldom_and_calls_come_through_when_it_is_back(void **state)
{
	(void)state;
	struct world w;
	enum { N = 100 };
	open_world(&w, 8, -1, false);
	w.http.dead = true;
	struct df_route *route =
		open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .concurrency = 10});
	struct job *j = submit_chats(&w, &route, 1, N);
	while (w.http.now_ns < 35 * DF_SEC)
		(void)step(&w.http);
	print_message("30 s without a host: %llu requests\n", (unsigned long long)w.http.n_request);
	assert_true(w.http.n_request <= 30);
	w.http.dead = false;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_OK); /* a host that was never reached costs nobody an attempt */
	assert_int_equal(w.n_warned, 2);
	assert_non_null(strstr(w.warned[0], "cannot reach 'http://sim.test'"));
	assert_non_null(strstr(w.warned[0], "connection refused; trying again"));
	assert_string_equal(w.warned[1], "'http://sim.test' answers again");
	assert_true(w.http.now_ns < 120 * DF_SEC);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_breaker__a_host_that_stays_dead_ends_the_run_and_not_its_documents(void **state)
{
	(void)state;
	struct world w;
	enum { N = 100 };
	open_world(&w, 8, -1, false);
	struct df_route *route = route_of(&w, "gpt-4o-mini", 10);
	meet(&w, &route);
	w.http.dead = true;
	struct job *j = submit_chats(&w, &route, 1, N);
	run_all(&w, N);
	unsigned n_ended = 0;
	for (unsigned i = 0; i < N; i++)
		n_ended += j[i].call.err == DF_ERR_USAGE &&
			   strstr(j[i].call.message, "has answered nothing for 10 minutes");
	print_message("%u of %u calls ended with the run, after %llu s\n", n_ended, N,
		      (unsigned long long)(w.http.now_ns / DF_SEC));
	assert_true(n_ended >= N - 10); /* the others were probes until their attempts were used up */
	assert_true(w.http.now_ns < 700 * DF_SEC);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_breaker__a_host_that_was_never_reached_ends_the_run_after_a_minute(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 1000; n *= 10) {
		struct world w;
		open_world(&w, 8, -1, false);
		w.http.dead = true;
		struct df_route *route = route_of(&w, "gpt-4o-mini", 10);
		struct job *j = submit_chats(&w, &route, 1, n);
		run_until(&w, 5 * DF_SEC + DF_HOST_SILENT_MS * DF_MS + DF_SEC);
		assert_int_equal(w.n_warned, 1); /* not after ten minutes */
		assert_non_null(strstr(w.warned[0], "cannot reach 'http://sim.test': "));
		run_all(&w, n);
		for (unsigned i = 0; i < n; i++) {
			assert_int_equal(j[i].call.err, DF_ERR_USAGE); /* of the run, not of a document */
			assert_non_null(strstr(j[i].call.message, "cannot reach 'http://sim.test' for a minute: "));
			assert_non_null(strstr(j[i].call.message, "connection refused"));
		}
		assert_int_equal(w.n_warned, 1);
		assert_true(w.http.now_ns > 60 * DF_SEC && w.http.now_ns < 110 * DF_SEC);
		release(j, n);
		df_route_close(&route);
		close_world(&w);
	}
}

static void test_breaker__a_host_that_is_reached_but_slow_has_the_long_patience(void **state)
{
	(void)state;
	struct world w;
	enum { N = 20 };
	open_world(&w, 8, -1, false);
	w.http.faults.stall = 1; /* it is connected, and no byte comes for two minutes: a model that is being loaded */
	struct df_route *route = route_of(&w, "gpt-4o-mini", 20);
	struct job *j = submit_chats(&w, &route, 1, N);
	run_until(&w, 250 * DF_SEC);
	assert_int_equal(w.n_done, 0);
	w.http.faults.stall = 0;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	assert_non_null(strstr(w.warned[0], "'http://sim.test' does not answer"));
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void
test_breaker__who_waits_for_a_dead_host_ends_at_once_when_the_run_stops_and_who_is_asked_does_not(void **state)
{
	(void)state;
	for (int with_cache = 0; with_cache < 2; with_cache++) {
		struct world w;
		enum { N = 60 };
		open_world(&w, 8, -1, false);
		(void)snprintf(w.http.host_dead, sizeof(w.http.host_dead), "dead.test");
		struct df_route *dead =
			open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o"),
								 .base_url = DF_STR("http://dead.test/v1")});
		struct df_route *alive = route_of(&w, "gpt-4o-mini", N);
		struct job *waits = submit_chats(&w, &dead, 1, N);
		run_until(&w, 10 * DF_SEC);
		w.http.latency_ns = 20 * DF_SEC;
		struct job *flies = submit_chats(&w, &alive, 1, N);
		run_until(&w, 12 * DF_SEC);
		assert_int_equal(w.n_done, 0);
		if (with_cache)
			df_caller_stop(w.caller, 60 * DF_SEC);
		else
			df_caller_hurry(w.caller);
		run_until(&w, 14 * DF_SEC);
		for (unsigned i = 0; i < N; i++) {
			assert_int_equal(waits[i].n_done, 1);
			assert_int_equal(waits[i].call.err, DF_ERR_INTERRUPTED);
		}
		run_all(&w, 2 * N);
		for (unsigned i = 0; i < N; i++)
			assert_int_equal(flies[i].call.err, DF_OK);
		release(waits, N);
		release(flies, N);
		df_route_close(&dead);
		df_route_close(&alive);
		close_world(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_breaker__a_fallback_on_the_same_host_is_asked_while_the_first_model_answers_5xx),
		cmocka_unit_test(test_breaker__a_model_that_answers_429_alone_is_left_alone_where_there_is_a_fallback),
		cmocka_unit_test(test_breaker__a_model_that_answers_429_alone_is_waited_for_where_there_is_none),
		cmocka_unit_test(test_breaker__another_model_of_the_same_host_is_not_held_up),
		cmocka_unit_test(test_breaker__a_model_that_answers_5xx_for_ten_minutes_ends_the_run_in_true_words),
		cmocka_unit_test(test_breaker__documents_that_a_model_always_fails_on_do_not_hold_up_the_others),
		cmocka_unit_test(
			test_breaker__the_last_documents_that_a_model_always_fails_on_are_rejected_and_end_no_run),
		cmocka_unit_test(test_breaker__a_dead_host_is_asked_seldom_and_calls_come_through_when_it_is_back),
		cmocka_unit_test(test_breaker__a_host_that_stays_dead_ends_the_run_and_not_its_documents),
		cmocka_unit_test(test_breaker__a_host_that_was_never_reached_ends_the_run_after_a_minute),
		cmocka_unit_test(test_breaker__a_host_that_is_reached_but_slow_has_the_long_patience),
		cmocka_unit_test(
			test_breaker__who_waits_for_a_dead_host_ends_at_once_when_the_run_stops_and_who_is_asked_does_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
