// SPDX-License-Identifier: Apache-2.0
/* test_call_money: what calls cost, in a simulated world (call_world.h): money that others hold, that the dead held, and what is booked for each end of a request. */
#include "tests/unit/call_world.h"

/* gpt-4o-mini: 0.15 and 0.60 USD per million */
#define WORST ((12 * 0.15 + 20 * 0.60) / 1e6)
#define REAL ((10 * 0.15 + 5 * 0.60) / 1e6)

static void assert_usd(double a, double b)
{
	if (fabs(a - b) > 2e-9)
		fail_msg("%.10f USD are not %.10f", a, b);
}

static struct df_route *mini(struct world *w)
{
	return open_route(w, (struct df_route_options){.model = DF_STR("gpt-4o-mini")});
}

/* ------------------------------------------------------------------ what another worker holds */

struct other {
	struct world *w;
	struct df_purse *purse;
	double usd, settles; /* NAN: it dies */
};

static void other_moves(void *self)
{
	struct other *o = self;
	if (isfinite(o->settles))
		df_purse_settle(o->purse, o->usd, o->settles);
	else
		df_purse_died(o->w->purse, 9);
}

/* Another process has `usd` in reserve, and `after_ns` later that comes to its end. */
static void holds(struct other *o, struct world *w, double usd, uint64_t after_ns, double settles)
{
	uint64_t id;
	*o = (struct other){.w = w, .usd = usd, .settles = settles};
	assert_int_equal(df_purse_map(w->purse_fd, 9, &o->purse, NULL), DF_OK);
	assert_int_equal(df_purse_reserve(o->purse, usd), DF_OK);
	assert_int_equal(df_http_at(&w->http, w->http.now_ns + after_ns, other_moves, o, &id), DF_OK);
}

static void test_budget__that_another_worker_holds_is_waited_for_however_long_it_takes(void **state)
{
	(void)state;
	enum { N = 20 };
	struct world w;
	struct other other;
	open_world(&w, 3, 1, false);
	struct df_route *route = mini(&w);
	holds(&other, &w, 1 - WORST / 2, 600 * DF_SEC, 0.5); /* ten minutes: longer than any patience */
	struct job *j = submit_chats(&w, &route, 1, N);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_OK);
	assert_true(w.http.now_ns - start_ns >= 600 * DF_SEC);
	assert_true(w.http.now_ns - start_ns < 602 * DF_SEC);
	assert_usd(df_purse_look(w.purse).spent, 0.5 + N * REAL);
	df_purse_close(&other.purse);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_budget__that_a_dead_worker_held_is_maybe_paid_and_ends_the_run_at_once(void **state)
{
	(void)state;
	enum { N = 20 };
	struct world w;
	struct other other;
	open_world(&w, 3, 1, false);
	struct df_route *route = mini(&w);
	holds(&other, &w, 1 - WORST / 2, 100 * DF_SEC, NAN);
	struct job *j = submit_chats(&w, &route, 1, N);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, DF_ERR_QUOTA);
		assert_non_null(strstr(j[i].call.message, "is used up: the next call may cost"));
	}
	assert_int_equal(w.http.n_request, 0);
	assert_true(w.http.now_ns - start_ns >= 100 * DF_SEC);
	assert_true(w.http.now_ns - start_ns < 101 * DF_SEC);
	assert_usd(df_purse_look(w.purse).maybe, 1 - WORST / 2);
	df_purse_close(&other.purse);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

static void test_budget__whose_rest_is_held_ends_when_all_of_it_is_spent(void **state)
{
	(void)state;
	enum { N = 20 };
	struct world w;
	struct other other;
	open_world(&w, 3, 1, false);
	struct df_route *route = mini(&w);
	holds(&other, &w, 1 - WORST / 2, 40 * DF_SEC, 1 - WORST / 2); /* it really cost that */
	struct job *j = submit_chats(&w, &route, 1, N);
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(j[i].call.err, DF_ERR_QUOTA);
	assert_true(w.http.now_ns - start_ns < 41 * DF_SEC);
	df_purse_close(&other.purse);
	release(j, N);
	df_route_close(&route);
	close_world(&w);
}

/* Whoever stands first may cost more than what is left; those behind it, in its queue or another's, have their turn before the run ends. */
static void test_budget__is_used_up_by_calls_that_still_fit_before_the_run_ends(void **state)
{
	(void)state;
	enum { N = 40, SMALL = 30 };
	struct world w;
	unsigned n_ok = 0;
	open_world(&w, 5, 10 * REAL + WORST, false);
	struct df_route *route[2] = {
		mini(&w), open_route(&w, (struct df_route_options){.model = DF_STR("gpt-4o-mini"),
								   .base_url = DF_STR("http://other.test/v1/")})};
	struct job *j = calloc(N, sizeof(*j));
	for (unsigned i = 0; i < N; i++) {
		make_chat(&w, &j[i], &route[i % 2], 1, i);
		if (i < N - SMALL)
			j[i].call.ask.max_tokens = 5000;
		submit(&w, &j[i]);
	}
	uint64_t start_ns = w.http.now_ns;
	run_all(&w, N);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(j[i].call.err, i < N - SMALL || j[i].call.err ? DF_ERR_QUOTA : DF_OK);
		n_ok += j[i].call.err == DF_OK;
	}
	assert_true(n_ok >= 11);
	assert_true(df_purse_look(w.purse).spent > df_purse_look(w.purse).budget - WORST);
	assert_true(w.http.now_ns - start_ns < 10 * DF_SEC);
	release(j, N);
	df_route_close(&route[0]);
	df_route_close(&route[1]);
	close_world(&w);
}

/* ------------------------------------------------------------------ what is booked */

struct wanted {
	double spent, maybe; /* of one request */
};

/* One request that ends so; `attempts` = 1, so there is one. */
static void assert_booked(const char *what, struct faults faults, long always, bool streamed, struct wanted want)
{
	struct world w;
	struct df_retry_options once = df_retry_defaults;
	once.attempts = 1;
	open_world(&w, 7, 1, false);
	w.http.faults = faults;
	w.http.always = always;
	struct df_route *route = mini(&w);
	struct job *j = calloc(1, sizeof(*j));
	route->host->met = true; /* else no connection is no attempt */
	make_chat(&w, j, &route, 1, 1);
	j->call.retry = &once;
	if (streamed)
		j->call.on_text = on_text;
	submit(&w, j);
	run_all(&w, 1);
	struct df_purse_view v = df_purse_look(w.purse);
	if (w.http.n_request != 1 || fabs(v.spent - want.spent) > 2e-9 || fabs(v.maybe - want.maybe) > 2e-9)
		fail_msg("%s: %llu requests, %.10f booked and %.10f of it maybe, and not %.10f and %.10f", what,
			 (unsigned long long)w.http.n_request, v.spent, v.maybe, want.spent, want.maybe);
	assert_int_equal(v.maybe_calls, want.maybe > 0);
	assert_usd(j->call.usd, want.spent);
	release(j, 1);
	df_route_close(&route);
	close_world(&w);
}

static void test_money__is_booked_by_what_became_of_the_request(void **state)
{
	(void)state;
	const struct faults none = {.rate = 0};
	const struct wanted nothing = {0, 0}, all = {WORST, WORST};
	assert_booked("an answer", none, 0, false, (struct wanted){REAL, 0});
	assert_booked("a stream", none, 0, true, (struct wanted){REAL, 0});
	assert_booked("no connection", (struct faults){.lost = 1}, 0, false, nothing);
	assert_booked("a reset", (struct faults){.reset = 1}, 0, false, all);
	assert_booked("a time-out", (struct faults){.stall = 1}, 0, false, all);
	assert_booked("an answer that cannot be read", (struct faults){.broken = 1}, 0, false, all);
	const long refused[] = {400, 401, 403, 404, 413, 422, 500, 502, 503, 520, 529};
	for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
		assert_booked("a refusal", none, refused[i], false, nothing);
	assert_booked("a gateway that gave up", none, 504, false, all);
	assert_booked("a gateway that gave up", none, 524, true, all);
	assert_booked("a refusal of a stream", none, 503, true, nothing);
}

/* What came of a stream was made; more may have been. An error event before any text is a refusal. */
static void test_money__of_a_cut_stream_is_what_came_and_maybe_the_rest(void **state)
{
	(void)state;
	enum { N = 400 };
	unsigned n_none = 0, n_some = 0, n_refused = 0;
	struct df_retry_options once = df_retry_defaults;
	once.attempts = 1;
	for (unsigned in_stream = 0; in_stream < 2; in_stream++) {
		for (unsigned i = 0; i < N; i++) {
			struct world w;
			open_world(&w, 100 + i, 1, false);
			w.http.faults = in_stream ? (struct faults){.in_stream = 1} : (struct faults){.cut = 1};
			struct df_route *route = mini(&w);
			struct job *j = calloc(1, sizeof(*j));
			make_chat(&w, j, &route, 1, i);
			j->call.retry = &once;
			j->call.on_text = on_text;
			submit(&w, j);
			run_all(&w, 1);
			struct df_purse_view v = df_purse_look(w.purse);
			double came = j->n_shown ? (12 * 0.15 + (double)j->n_shown * 0.60) / 1e6 : 0;
			if (j->call.err == DF_OK || fabs(v.spent - REAL) < 1e-9) {
				assert_usd(v.spent, REAL); /* usage and end had come before it was cut */
			} else if (in_stream && !j->n_shown) {
				assert_usd(v.spent, 0);
				n_refused++;
			} else {
				assert_usd(v.spent, WORST);
				assert_usd(v.maybe, WORST - came);
				n_none += came <= 0;
				n_some += came > 0;
			}
			release(j, 1);
			df_route_close(&route);
			close_world(&w);
		}
	}
	assert_true(n_none > 5 && n_some > 100 && n_refused > 50);
}

/* Whatever happens and whoever dies: what was made is never more than what is booked, and what is booked never more than the budget. */
static void test_money__booked_is_never_less_than_what_servers_made_nor_more_than_the_budget(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 30; seed++) {
		enum { N = 200 };
		struct world w;
		struct other other;
		open_world(&w, seed, 60 * WORST, false);
		w.http.faults = (struct faults){
			.error = 0.05, .reset = 0.05, .stall = 0.01, .broken = 0.02, .cut = 0.1, .in_stream = 0.05};
		struct df_route *route = mini(&w);
		holds(&other, &w, 40 * WORST, seed * DF_SEC, seed % 3 ? 5 * WORST : (double)NAN);
		struct job *j = calloc(N, sizeof(*j));
		for (unsigned i = 0; i < N; i++) {
			make_chat(&w, &j[i], &route, 1, i);
			if (i % 2)
				j[i].call.on_text = on_text;
			submit(&w, &j[i]);
		}
		run_all(&w, N);
		struct df_purse_view v = df_purse_look(w.purse);
		double of_other = seed % 3 ? 5 * WORST : 40 * WORST;
		assert_true(v.spent <= v.budget + 1e-9);
		assert_true(v.spent + 1e-9 >= w.http.n_made * REAL + of_other);
		assert_true(v.maybe <= v.spent);
		df_purse_close(&other.purse);
		release(j, N);
		df_route_close(&route);
		close_world(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_budget__that_another_worker_holds_is_waited_for_however_long_it_takes),
		cmocka_unit_test(test_budget__that_a_dead_worker_held_is_maybe_paid_and_ends_the_run_at_once),
		cmocka_unit_test(test_budget__whose_rest_is_held_ends_when_all_of_it_is_spent),
		cmocka_unit_test(test_budget__is_used_up_by_calls_that_still_fit_before_the_run_ends),
		cmocka_unit_test(test_money__is_booked_by_what_became_of_the_request),
		cmocka_unit_test(test_money__of_a_cut_stream_is_what_came_and_maybe_the_rest),
		cmocka_unit_test(test_money__booked_is_never_less_than_what_servers_made_nor_more_than_the_budget),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
