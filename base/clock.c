// SPDX-License-Identifier: Apache-2.0
/* clock: the real clocks, the kernel's randomness, and a seeded generator. */
#include "base/clock.h"

#include <stddef.h>
#include <sys/random.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts = {0};
	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * DF_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t mono(void *self)
{
	(void)self;
	return read_clock(CLOCK_MONOTONIC);
}

static uint64_t wall(void *self)
{
	(void)self;
	return read_clock(CLOCK_REALTIME);
}

uint64_t df_clock_boot(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

static uint64_t kernel_random(void *self)
{
	(void)self;
	uint64_t v = 0;
	if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
		v = read_clock(CLOCK_MONOTONIC) * UINT64_C(0x9e3779b97f4a7c15);
	return v;
}

const struct df_clock df_clock_real = {mono, wall, NULL};
const struct df_rand df_rand_real = {kernel_random, NULL};

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
static uint64_t splitmix(void *self)
{
	uint64_t *state = self;
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

struct df_rand df_rand_seeded(uint64_t *state)
{
	return (struct df_rand){splitmix, state};
}
