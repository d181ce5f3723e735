// SPDX-License-Identifier: Apache-2.0
/*
 * The spine with real work: control, sink and store as in test_spine, and in the workers the real job (worker/lease/job.c): it opens real
 * files, parses real records, runs stages and makes frames. Only processes, network, disk and time are simulated. Rows and rejects
 * name the records that they came from, so that each one's fate is seen in the output itself.
 *
 * Usage, environment and faults: as test_spine.
 */
#include "tests/sim/help_seed.h"

static void test_job_spine__every_real_record_has_exactly_one_fate_under_any_faults(void **state)
{
	(void)state;
	seed_run_all(40, true);
}

static void test_job_spine__a_seed_tells_the_same_story_each_time(void **state)
{
	(void)state;
	seed_run_twice(5, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_job_spine__every_real_record_has_exactly_one_fate_under_any_faults),
		cmocka_unit_test(test_job_spine__a_seed_tells_the_same_story_each_time),
	};
	seed_arguments(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
