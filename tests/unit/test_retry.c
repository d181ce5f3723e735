// SPDX-License-Identifier: Apache-2.0
/* test_retry: back-off, quota, breaker, the table of what follows which answer, and the heap of alarms; all by a given clock and given randomness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "worker/call/call_alarm.h"
#include "worker/call/call_retry.h"

static void test_backoff__is_spread_evenly_below_a_doubling_top_that_is_capped(void **state)
{
	(void)state;
	uint64_t seed = 1;
	struct df_rand r = df_rand_seeded(&seed);
	for (uint32_t n = 1; n <= 70; n++) {
		double top_ms = n <= 6 ? 250.0 * (1 << (n - 1)) : 8000, sum_ms = 0, max_ms = 0;
		if (top_ms > 8000)
			top_ms = 8000;
		for (int i = 0; i < 4000; i++) {
			double ms = (double)df_backoff_ns(&df_retry_defaults, n, r.next(r.self), -1) / 1e6;
			assert_true(ms < top_ms);
			sum_ms += ms;
			max_ms = ms > max_ms ? ms : max_ms;
		}
		assert_true(sum_ms / 4000 > 0.47 * top_ms && sum_ms / 4000 < 0.53 * top_ms);
		assert_true(max_ms > 0.99 * top_ms);
	}
}

static void test_backoff__is_never_sooner_than_the_server_said(void **state)
{
	(void)state;
	assert_true(df_backoff_ns(&df_retry_defaults, 1, 0, 3000) == 3000 * DF_MS);
	assert_true(df_backoff_ns(&df_retry_defaults, 1, UINT64_MAX, 3000) == 3000 * DF_MS);
	assert_true(df_backoff_ns(&df_retry_defaults, 9, UINT64_MAX, 3000) > 7999 * DF_MS);
	assert_true(df_backoff_ns(&df_retry_defaults, 1, 0, 0) == 0);
	assert_true(df_backoff_ns(&df_retry_defaults, 1, 0, 60000) == 60000 * DF_MS); /* above the cap too */
}

static void test_quota__gives_out_what_it_has_and_never_holds_more(void **state)
{
	(void)state;
	struct df_retry_quota q;
	uint32_t n = 0;
	df_retry_quota_init(&q);
	while (df_retry_quota_take(&q, df_retry_cost(false)))
		n++;
	assert_int_equal(n, 100);
	df_retry_quota_give(&q, 9);
	assert_false(df_retry_quota_take(&q, df_retry_cost(true)));
	assert_true(df_retry_quota_take(&q, df_retry_cost(false)));
	assert_int_equal(q.left, 4);
	df_retry_quota_give(&q, UINT32_MAX);
	assert_int_equal(q.left, DF_RETRY_QUOTA);
}

static void test_breaker__opens_after_ten_failures_in_a_row_and_lets_one_probe_through(void **state)
{
	(void)state;
	struct df_breaker b = {0};
	for (int i = 0; i < 9; i++)
		df_breaker_bad(&b, 100, false);
	df_breaker_good(&b);
	for (int i = 0; i < 9; i++)
		df_breaker_bad(&b, 100, false);
	assert_int_equal(df_breaker_wait(&b, 100), 0);
	df_breaker_bad(&b, 100, false);
	uint64_t pause_ns = 1000 * DF_MS, now_ns = 100;
	for (int i = 0; i < 8; i++) {
		assert_true(df_breaker_wait(&b, now_ns) == now_ns + pause_ns);
		df_breaker_bad(&b, now_ns + 5, false); /* a straggler from before */
		assert_true(df_breaker_wait(&b, now_ns) == now_ns + pause_ns);
		now_ns += pause_ns;
		assert_int_equal(df_breaker_wait(&b, now_ns), 0);
		assert_true(df_breaker_sent(&b));
		assert_true(df_breaker_wait(&b, now_ns) == DF_BREAKER_PROBE);
		df_breaker_bad(&b, now_ns, true);
		pause_ns = pause_ns * 2 > 30000 * DF_MS ? 30000 * DF_MS : pause_ns * 2;
	}
	now_ns += pause_ns;
	assert_true(df_breaker_sent(&b));
	df_breaker_lost(&b); /* cancelled: the next is the probe */
	assert_int_equal(df_breaker_wait(&b, now_ns), 0);
	assert_true(df_breaker_sent(&b));
	df_breaker_good(&b);
	assert_int_equal(df_breaker_wait(&b, now_ns), 0);
	assert_false(df_breaker_sent(&b));
}

static enum df_next after(enum df_call_class class, long status, uint32_t attempts)
{
	struct df_attempt_facts f = {.class = class, .status = status, .attempts = attempts, .rates = 1, .n_input = 1};
	return df_next_after(&df_retry_defaults, &f);
}

static void test_next__follows_the_class_of_the_answer(void **state)
{
	(void)state;
	assert_int_equal(after(DF_CALL_OK, 200, 1), DF_NEXT_DONE);
	assert_int_equal(after(DF_CALL_RETRY, 500, 4), DF_NEXT_WAIT);
	assert_int_equal(after(DF_CALL_RETRY, 500, 5), DF_NEXT_FALLBACK);
	assert_int_equal(after(DF_CALL_BAD_ANSWER, 200, 4), DF_NEXT_WAIT);
	assert_int_equal(after(DF_CALL_BAD_ANSWER, 200, 5), DF_NEXT_FALLBACK);
	assert_int_equal(after(DF_CALL_RATE, 429, 5), DF_NEXT_RESERVE);
	assert_int_equal(after(DF_CALL_QUOTA, 429, 1), DF_NEXT_OVER);
	assert_int_equal(after(DF_CALL_AUTH, 401, 1), DF_NEXT_OVER);
	assert_int_equal(after(DF_CALL_NOT_FOUND, 404, 1), DF_NEXT_OVER);
	assert_int_equal(after(DF_CALL_BAD_INPUT, 400, 1), DF_NEXT_FAIL);
}

static void test_next__knows_the_exceptions(void **state)
{
	(void)state;
	const struct df_retry_options *o = &df_retry_defaults;
	struct df_attempt_facts f = {.class = DF_CALL_RETRY, .status = 409, .attempts = 1, .n_input = 1};
	assert_int_equal(df_next_after(o, &f), DF_NEXT_WAIT); /* 408, 409, 425: once */
	f.once_used = true;
	assert_int_equal(df_next_after(o, &f), DF_NEXT_FAIL);
	f = (struct df_attempt_facts){
		.class = DF_CALL_RETRY, .status = 503, .attempts = 9, .n_input = 1, .host_good = true};
	assert_int_equal(df_next_after(o, &f), DF_NEXT_WAIT); /* the host serves others well: twice as many */
	f.attempts = 10;
	assert_int_equal(df_next_after(o, &f), DF_NEXT_FALLBACK);
	f = (struct df_attempt_facts){.class = DF_CALL_RATE, .status = 429, .rates = DF_RATE_ANSWERS_MAX, .n_input = 1};
	assert_int_equal(df_next_after(o, &f), DF_NEXT_RESERVE);
	f.rates++;
	assert_int_equal(df_next_after(o, &f), DF_NEXT_FALLBACK);
	f = (struct df_attempt_facts){.class = DF_CALL_BAD_INPUT, .status = 400, .n_input = 2};
	assert_int_equal(df_next_after(o, &f), DF_NEXT_CUT);
	for (int class = DF_CALL_RETRY; class < DF_N_CALL_CLASS; class ++) { /* what was shown cannot be taken back */
		f = (struct df_attempt_facts){.class = (enum df_call_class) class, .text_passed = true, .n_input = 1};
		enum df_next next = df_next_after(o, &f);
		assert_true(next == DF_NEXT_FAIL || next == DF_NEXT_OVER);
	}
}

static void test_host__is_to_blame_for_what_it_did(void **state)
{
	(void)state;
	assert_int_equal(df_blame_of(503, DF_OK), DF_BLAME_ROUTE);
	assert_int_equal(df_blame_of(0, DF_ERR_TIMEOUT), DF_BLAME_HOST);
	assert_int_equal(df_blame_of(200, DF_ERR_CLOSED), DF_BLAME_ROUTE); /* it answers, if badly */
	assert_int_equal(df_blame_of(429, DF_OK), DF_BLAME_NOBODY);
	assert_int_equal(df_blame_of(404, DF_OK), DF_BLAME_NOBODY);
	assert_int_equal(df_blame_of(200, DF_ERR_LIMIT), DF_BLAME_NOBODY);
	assert_int_equal(df_blame_of(0, DF_ERR_INTERRUPTED), DF_BLAME_NOBODY);
}

#define N_ALARM 300

static void test_alarms__ring_in_the_order_of_their_times_whatever_is_set_and_cleared(void **state)
{
	(void)state;
	static struct df_alarm alarm[N_ALARM];
	struct df_alarms a = {0};
	uint64_t seed = 7, now_ns = 0;
	struct df_rand r = df_rand_seeded(&seed);
	assert_int_equal(df_alarms_room(&a, N_ALARM), DF_OK);
	for (int step = 0; step < 200000; step++) {
		struct df_alarm *one = &alarm[r.next(r.self) % N_ALARM];
		switch (r.next(r.self) % 4) {
		case 0:
		case 1:
			df_alarm_set(&a, one, now_ns + r.next(r.self) % 1000);
			break;
		case 2:
			df_alarm_clear(&a, one);
			break;
		default:
			now_ns += r.next(r.self) % 30;
			for (uint64_t last_ns = 0; (one = df_alarm_due(&a, now_ns)); last_ns = one->at_ns)
				assert_true(one->at_ns <= now_ns && one->at_ns >= last_ns && !one->place);
		}
		uint64_t first_ns = UINT64_MAX;
		size_t n = 0;
		if (step % 100)
			continue;
		for (size_t i = 0; i < N_ALARM; i++) {
			n += alarm[i].place != 0;
			if (alarm[i].place && alarm[i].at_ns < first_ns)
				first_ns = alarm[i].at_ns;
		}
		assert_int_equal(n, a.n);
		assert_true(df_alarm_next(&a) == first_ns);
	}
	df_alarms_release(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_backoff__is_spread_evenly_below_a_doubling_top_that_is_capped),
		cmocka_unit_test(test_backoff__is_never_sooner_than_the_server_said),
		cmocka_unit_test(test_quota__gives_out_what_it_has_and_never_holds_more),
		cmocka_unit_test(test_breaker__opens_after_ten_failures_in_a_row_and_lets_one_probe_through),
		cmocka_unit_test(test_next__follows_the_class_of_the_answer),
		cmocka_unit_test(test_next__knows_the_exceptions),
		cmocka_unit_test(test_host__is_to_blame_for_what_it_did),
		cmocka_unit_test(test_alarms__ring_in_the_order_of_their_times_whatever_is_set_and_cleared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
