// SPDX-License-Identifier: Apache-2.0
/*
 * help_seed: one seed's run from its first epoch to the last check, and what all seeds of a program had to stand.
 *
 * Environment: DF_SIM_SEEDS: how many (default: the caller's), DF_SIM_FIRST: from which on. A failure prints the seed and ends the test.
 */
#ifndef DF_TESTS_SIM_HELP_SEED_H
#define DF_TESTS_SIM_HELP_SEED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/sim/help_spine.h"

extern uint64_t seed_now; /* the one in work */
extern uint64_t seed_one; /* the only one that is asked for; 0: all */

#define REQUIRE(cond, ...)                                                                                             \
	do {                                                                                                           \
		if (!(cond)) {                                                                                         \
			fprintf(stderr, "\nseed %llu: ", (unsigned long long)seed_now);                                \
			fprintf(stderr, __VA_ARGS__);                                                                  \
			fprintf(stderr, "\n");                                                                         \
			fail();                                                                                        \
		}                                                                                                      \
	} while (0)

/* argv[1], when there is one, is the only seed, and its story is told. */
void seed_arguments(int argc, char **argv);
/* A whole run. What happened, as a number. `content`: real records, and workers that process them. */
uint64_t seed_run(uint64_t seed, bool content);
void seed_run_all(uint64_t n, bool content); /* and tell what was injected */
void seed_run_twice(uint64_t n, bool content);

/* What must be true in the end: on the disk of the finished run. (help_check.c) */
void check_everything(struct spine *s);

#endif
