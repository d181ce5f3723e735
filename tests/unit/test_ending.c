// SPDX-License-Identifier: Apache-2.0
/* Requests to stop, counted on two ways; errors, compared with what is allowed. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/limits.h"
#include "coordinator/life/ending.h"

static void test_requests__what_a_process_sends_twice_at_once_is_one(void **state)
{
	struct df_requests q = {0};
	(void)state;
	assert_true(df_requests_add(&q, SI_USER, 1));
	assert_false(df_requests_add(&q, SI_USER, 1 + (DF_SAME_REQUEST_MS - 1) * DF_MS));
	assert_true(df_requests_add(&q, SI_USER, 1 + (DF_SAME_REQUEST_MS + 1) * DF_MS));
	assert_int_equal(q.n, 2);
}

static void test_requests__a_key_that_is_pressed_twice_is_two(void **state)
{
	struct df_requests q = {0};
	(void)state;
	assert_true(df_requests_add(&q, SI_KERNEL, 5));
	assert_true(df_requests_add(&q, SI_KERNEL, 6));
	assert_int_equal(q.n, 2);
}

struct fixture {
	struct df_life life;
	struct df_ending ending;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->life.asked_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f->life.start_boot_ns = df_clock_boot();
	*state = f;
	return df_ending_open(&f->ending, &f->life, 0, NULL) == DF_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	df_ending_close(&f->ending);
	(void)close(f->life.asked_fd);
	free(f);
	return 0;
}

/* The way of the guard. */
static void ask(struct fixture *f, int sig)
{
	atomic_store(&f->life.asked_signal, sig);
	assert_int_equal(eventfd_write(f->life.asked_fd, 1), 0);
}

static void test_ending__a_child_that_ends_is_told_of_also_when_nobody_asks(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(df_ending_take(&f->ending, 1), 0);
	assert_false(f->ending.child);
	assert_int_equal(raise(SIGCHLD), 0);
	assert_int_equal(df_ending_take(&f->ending, 2), 0); /* read on the way to something else */
	assert_true(f->ending.child);
	assert_int_equal(df_ending_take(&f->ending, 3), 0);
	assert_true(f->ending.child); /* until the dead were looked for */
}

static void test_ending__one_signal_to_the_group_is_one_request(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(df_ending_take(&f->ending, 1), 0);
	assert_false(atomic_load(&f->life.stopping));
	assert_int_equal(kill(getpid(), SIGINT), 0);
	ask(f, SIGINT);
	assert_int_equal(df_ending_take(&f->ending, DF_SEC), 1);
	assert_string_equal(df_ending_reason(&f->ending), "interrupted");
	assert_true(atomic_load(&f->life.stopping));
	assert_int_equal(kill(getpid(), SIGINT), 0);
	ask(f, SIGINT);
	assert_int_equal(df_ending_take(&f->ending, 2 * DF_SEC), 2);
}

static void test_ending__two_to_the_guard_alone_are_two(void **state)
{
	struct fixture *f = *state;
	ask(f, SIGTERM);
	assert_int_equal(df_ending_take(&f->ending, DF_SEC), 1);
	assert_string_equal(df_ending_reason(&f->ending), "asked to stop");
	ask(f, SIGTERM);
	assert_int_equal(df_ending_take(&f->ending, DF_SEC + 1), 2); /* the guard told them apart already */
}

static void test_ending__a_way_that_comes_late_adds_nothing(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(kill(getpid(), SIGTERM), 0);
	assert_int_equal(df_ending_take(&f->ending, DF_SEC), 1);
	ask(f, SIGTERM); /* of the same signal, from a guard that was not scheduled for three seconds */
	assert_int_equal(df_ending_take(&f->ending, 4 * DF_SEC), 1);
}

static void test_ending__the_time_limit_counts_from_the_first_life(void **state)
{
	struct fixture *f = *state;
	struct df_ending e;
	assert_false(df_ending_time_is_up(&f->ending));
	f->life.start_boot_ns = df_clock_boot() - 10 * DF_SEC;
	assert_int_equal(df_ending_open(&e, &f->life, 11 * DF_SEC, NULL), DF_OK);
	assert_false(df_ending_time_is_up(&e));
	df_ending_close(&e);
	assert_int_equal(df_ending_open(&e, &f->life, 9 * DF_SEC, NULL), DF_OK);
	assert_true(df_ending_time_is_up(&e));
	df_ending_close(&e);
}

static void test_errors__a_number_is_what_is_allowed(void **state)
{
	struct df_run_options o = {.max_errors_n = 3, .max_errors_percent = 101};
	(void)state;
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){10, 3, 0}, false));
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){10, 2, 1}, true));
	assert_true(df_errors_exceed(&o, &(struct df_error_counts){10, 4, 0}, false));
	assert_true(df_errors_exceed(&o, &(struct df_error_counts){10, 2, 2}, false));
	o.max_errors_n = UINT64_MAX;
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){10, 10, 9}, true));
}

static void test_errors__a_percentage_needs_a_sample_or_the_end(void **state)
{
	struct df_run_options o = {.max_errors_n = UINT64_MAX, .max_errors_percent = 10};
	uint64_t n = DF_MAX_ERRORS_SAMPLE;
	(void)state;
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){n - 1, n - 1, 0}, false));
	assert_true(df_errors_exceed(&o, &(struct df_error_counts){n - 1, n - 1, 0}, true));
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){n, n / 10, 0}, false));
	assert_true(df_errors_exceed(&o, &(struct df_error_counts){n, n / 10 + 1, 0}, false));
	o.max_errors_percent = 0;
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){0, 0, 0}, true));
	assert_true(df_errors_exceed(&o, &(struct df_error_counts){0, 0, 1}, true));
	o.max_errors_percent = 100;
	assert_false(df_errors_exceed(&o, &(struct df_error_counts){0, 0, 1}, true));
}

static void test_errors__the_message_names_the_commonest_reason(void **state)
{
	struct df_run_options o = {.max_errors = DF_STR("2%")};
	struct df_map totals;
	struct df_fail fail;
	uint64_t *v;
	(void)state;
	df_map_init(&totals, 1U << 20);
	assert_int_equal(df_map_put(&totals, DF_STR("rejected"), 99, &v), DF_OK);
	assert_int_equal(df_map_put(&totals, DF_STR("rejected:input:parse"), 4, &v), DF_OK);
	assert_int_equal(df_map_put(&totals, DF_STR("rejected:clean:utf8"), 7, &v), DF_OK);
	assert_int_equal(df_map_put(&totals, DF_STR("filtered:clean:short"), 70, &v), DF_OK);
	assert_int_equal(df_errors_tell(&o, &(struct df_error_counts){120, 11, 1}, &totals, &fail), DF_ERR_LIMIT);
	assert_string_equal(fail.msg,
			    "11 documents and 1 input of 120 failed, more than '--max-errors 2%' allows; the commonest "
			    "reason is clean:utf8 (7); mend them, or go on with a larger limit");
	assert_int_equal(df_errors_tell(&o, &(struct df_error_counts){1, 1, 0}, NULL, &fail), DF_ERR_LIMIT);
	assert_string_equal(fail.msg,
			    "1 document of 1 failed, more than '--max-errors 2%' allows; mend them, or go on with a "
			    "larger limit");
	df_map_release(&totals);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests__what_a_process_sends_twice_at_once_is_one),
		cmocka_unit_test(test_requests__a_key_that_is_pressed_twice_is_two),
		cmocka_unit_test_setup_teardown(test_ending__a_child_that_ends_is_told_of_also_when_nobody_asks, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(test_ending__one_signal_to_the_group_is_one_request, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ending__two_to_the_guard_alone_are_two, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ending__a_way_that_comes_late_adds_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ending__the_time_limit_counts_from_the_first_life, set_up,
						tear_down),
		cmocka_unit_test(test_errors__a_number_is_what_is_allowed),
		cmocka_unit_test(test_errors__a_percentage_needs_a_sample_or_the_end),
		cmocka_unit_test(test_errors__the_message_names_the_commonest_reason),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
