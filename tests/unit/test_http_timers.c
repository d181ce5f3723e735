// SPDX-License-Identifier: Apache-2.0
/* Timers against a plain list: any order of setting, unsetting and firing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/net/timers.h"

#define N 3000

struct one {
	uint64_t at, id;
	bool set, fired;
	unsigned order; /* of setting */
};

static struct one one[N];
static struct df_timers timers;
static const struct one *last_fired;
static uint64_t now;

static void fire(void *self)
{
	struct one *o = self;
	assert_true(o->set && !o->fired && o->at <= now);
	if (last_fired)
		assert_true(last_fired->at < o->at || (last_fired->at == o->at && last_fired->order < o->order));
	o->fired = true;
	o->set = false;
	last_fired = o;
}

static uint64_t earliest(void)
{
	uint64_t at = DF_TIMER_NEVER;
	for (size_t i = 0; i < N; i++)
		at = one[i].set && one[i].at < at ? one[i].at : at;
	return at;
}

static void test_timers__agree_with_a_list_in_any_order(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		uint64_t s = seed, last_id = 0;
		struct df_rand r = df_rand_seeded(&s);
		unsigned n_set = 0;
		memset(one, 0, sizeof(one));
		now = 0;
		for (unsigned step = 0; step < N; step++) {
			struct one *o = &one[step];
			*o = (struct one){.at = now + r.next(r.self) % 50, .set = true, .order = n_set++};
			assert_int_equal(df_timers_set(&timers, o->at, fire, o, &o->id), DF_OK);
			assert_true(o->id != 0 && (o->id >> 24) > (last_id >> 24));
			last_id = o->id;
			struct one *other = &one[r.next(r.self) % (step + 1)];
			if (r.next(r.self) % 3 == 0) {
				df_timers_unset(&timers, other->id); /* perhaps one that has fired: nothing */
				other->set = false;
			}
			if (r.next(r.self) % 4 == 0) {
				now += r.next(r.self) % 20;
				last_fired = NULL;
				df_timers_fire(&timers, now);
				assert_true(earliest() > now);
			}
			if (step % 50 == 0)
				assert_int_equal(df_timers_next(&timers), earliest());
		}
		now = UINT64_MAX - 1;
		last_fired = NULL;
		df_timers_fire(&timers, now);
		assert_int_equal(df_timers_next(&timers), DF_TIMER_NEVER);
		for (size_t i = 0; i < N; i++)
			assert_false(one[i].set);
	}
	df_timers_unset(&timers, 0);
	df_timers_unset(&timers, UINT64_MAX);
	df_timers_release(&timers);
}

static unsigned n_again;

static void set_again(void *self)
{
	uint64_t id;
	(void)self;
	n_again++;
	assert_int_equal(df_timers_set(&timers, 0, set_again, NULL, &id), DF_OK);
}

static void test_timers__what_is_set_while_they_fire_waits_for_the_next_time(void **state)
{
	uint64_t id;
	(void)state;
	assert_int_equal(df_timers_set(&timers, 5, set_again, NULL, &id), DF_OK);
	for (unsigned i = 1; i <= 5; i++) {
		df_timers_fire(&timers, 10);
		assert_int_equal(n_again, i);
	}
	df_timers_release(&timers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers__agree_with_a_list_in_any_order),
		cmocka_unit_test(test_timers__what_is_set_while_they_fire_waits_for_the_next_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
