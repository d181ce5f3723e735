// SPDX-License-Identifier: Apache-2.0
/*
 * test_call_stall: engines that were not let run for a moment (a busy machine, a stopped process) lose the places whose time has passed, and no more: what
 * they have reserved for later is used. In a simulated world (call_world.h), several engines on one limit.
 */
#include "call_world.h"

#define N_ENGINE 8 /* at most */
#define N_CALL 1600
#define RPM 6000 /* a place each 10 ms */

struct stalls {
	uint64_t every_ns, for_ns;
};

/* Time passes, and nobody looks at it. */
static void stall(struct world *w, const struct stalls *s, uint64_t *next_ns)
{
	if (!s->every_ns || w->http.now_ns < *next_ns)
		return;
	w->http.now_ns += s->for_ns;
	*next_ns = w->http.now_ns + s->every_ns;
}

/* How much of the rate is used, of 1. */
static double used_with(const struct stalls *s, unsigned n_engine, uint64_t seed)
{
	struct world w;
	struct df_caller *engine[N_ENGINE];
	struct df_route *route[N_ENGINE];
	struct job *j = calloc(N_CALL, sizeof(*j));
	assert_non_null(j);
	open_world(&w, seed, -1, false);
	for (unsigned k = 0; k < n_engine; k++) {
		struct df_caller_config config = {.http = &w.http,
						  .models = w.models,
						  .limits_dir = w.limits,
						  .random = sim_random,
						  .boot_ns = boot,
						  .self = &w.http};
		if (k > 0)
			assert_int_equal(df_caller_create(&config, &engine[k], NULL), DF_OK);
		else
			engine[k] = w.caller;
		w.caller = engine[k];
		route[k] = open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"), .rpm = RPM});
		for (unsigned i = k; i < N_CALL; i += n_engine) {
			make_chat(&w, &j[i], &route[k], 1, i);
			submit(&w, &j[i]);
		}
		w.caller = engine[0];
	}
	uint64_t start_ns = w.http.now_ns, next_ns = start_ns + s->every_ns;
	while (w.n_done < N_CALL) {
		assert_true(step(&w.http));
		stall(&w, s, &next_ns);
	}
	for (unsigned i = 0; i < N_CALL; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	assert_int_equal(w.http.n_request, N_CALL);
	double took_s = (double)(w.http.last_sent_ns - start_ns) / 1e9;
	release(j, N_CALL);
	for (unsigned k = 0; k < n_engine; k++)
		df_route_close(&route[k]);
	w.http.at_once = true;
	for (unsigned k = 1; k < n_engine; k++)
		df_caller_destroy(&engine[k]);
	w.http.at_once = false;
	close_world(&w);
	return (N_CALL - 1) * 60.0 / RPM / took_s;
}

/* One process may hold all calls (few documents are few cells), or many may. */
static const unsigned engines[] = {1, 2, N_ENGINE};

static void test_call__engines_that_run_all_the_time_use_the_whole_rate(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		double used = used_with(&(struct stalls){0}, engines[i], 1);
		print_message("%u engines, no stalls: %.1f %%\n", engines[i], 100 * used);
		assert_true(used >= 0.985);
	}
}

/* What passes while nobody runs is gone; of what was reserved for later, nothing. */
static void test_call__a_stall_costs_the_time_it_lasts_and_no_place_after_it(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		for (uint64_t ms = 30; ms <= 120; ms += 30) {
			struct stalls s = {.every_ns = 300 * DF_MS, .for_ns = ms * DF_MS};
			double used = used_with(&s, engines[i], ms), ran = 300.0 / (300 + (double)ms);
			print_message("%u engines, %d ms every 300 ms: %.1f %% used, %.1f %% of the time they ran\n",
				      engines[i], (int)ms, 100 * used, 100 * ran);
			assert_true(used >= 1.05 * ran); /* what is less than 25 ms late is still sent */
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call__engines_that_run_all_the_time_use_the_whole_rate),
		cmocka_unit_test(test_call__a_stall_costs_the_time_it_lasts_and_no_place_after_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
