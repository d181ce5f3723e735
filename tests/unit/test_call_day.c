// SPDX-License-Identifier: Apache-2.0
/*
 * test_call_day: the last calls of a day. What has its place already is sent before the day is called used up, and what calls that are out may give back is
 * waited for. In a simulated world (call_world.h).
 */
#include "call_world.h"

#define N 60

/* A run under these limits; how many calls were answered, the others having been told of the day. */
static unsigned answered(struct world *w, struct df_route_options options)
{
	unsigned n_ok = 0;
	options.model = DF_STR("gpt-4o-mini");
	struct df_route *route = open_route(w, options);
	w->n_done = 0;
	struct job *j = submit_chats(w, &route, 1, N);
	run_all(w, N);
	for (unsigned i = 0; i < N; i++) {
		n_ok += j[i].call.err == DF_OK;
		if (j[i].call.err != DF_OK) {
			assert_int_equal(j[i].call.err, DF_ERR_QUOTA);
			assert_non_null(strstr(j[i].call.message, "daily limit hit for model"));
		}
	}
	release(j, N);
	df_route_close(&route);
	return n_ok;
}

static void test_call__the_last_places_of_a_day_are_used_also_when_they_are_reserved_ahead(void **state)
{
	(void)state;
	const uint64_t rpm[] = {0, 60, 1200, 6000};
	for (unsigned i = 0; i < 4; i++) {
		struct world w;
		open_world(&w, i + 1, -1, false);
		unsigned n = answered(&w, (struct df_route_options){.rpm = rpm[i], .rpd = 20});
		if (n != 20 || w.http.n_request != 20)
			fail_msg("%u a minute: %u answered, %u sent of 20 a day", (unsigned)rpm[i], n,
				 (unsigned)w.http.n_request);
		close_world(&w);
	}
}

/* A call reserves 12 tokens and the 20 of its longest answer, and uses 15. */
static void test_call__a_day_of_tokens_is_not_over_while_calls_that_are_out_may_give_some_back(void **state)
{
	(void)state;
	struct world w;
	open_world(&w, 1, -1, false);
	unsigned n = answered(&w, (struct df_route_options){.tpd = 320});
	assert_int_equal(n, 20); /* 19 x 15 + 32 fit, 20 x 15 + 32 do not; ten reserve all of it */
	close_world(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call__the_last_places_of_a_day_are_used_also_when_they_are_reserved_ahead),
		cmocka_unit_test(test_call__a_day_of_tokens_is_not_over_while_calls_that_are_out_may_give_some_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
