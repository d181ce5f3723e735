// SPDX-License-Identifier: Apache-2.0
/*
 * The spine under simulated faults: control, sink and store in one process with model workers and readers, from a seed.
 * After the last epoch every record of the data set has exactly one fate.
 *
 * Usage: test_spine [SEED]: that one alone, with what happened. DF_SIM_SEEDS: how many in a whole run (default 100), DF_SIM_FIRST: from which
 * on. A failure prints its seed, and the same seed is the same story.
 *
 * Traps tried here: what a dead worker held is lost or late; a lane that was retired may still send; a random kill must not poison a healthy
 * document; parts staged by a lane that is fenced; results that are only late are no gap; a reader that dies, three times at one place; order
 * kept without ever starving the head; skip and limit over several inputs; counts that are proved per run.
 */
#include "tests/sim/help_seed.h"

static void test_spine__every_record_has_exactly_one_fate_under_any_faults(void **state)
{
	(void)state;
	seed_run_all(100, false);
}

static void test_spine__a_seed_tells_the_same_story_each_time(void **state)
{
	(void)state;
	seed_run_twice(20, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spine__every_record_has_exactly_one_fate_under_any_faults),
		cmocka_unit_test(test_spine__a_seed_tells_the_same_story_each_time),
	};
	seed_arguments(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
