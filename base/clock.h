// SPDX-License-Identifier: Apache-2.0
/*
 * clock: time and randomness behind small tables, so that every state machine also runs under a
 * simulated clock from a seed. Durations use mono_ns (CLOCK_MONOTONIC); wall_ns is for logs only; a limit that people set on a
 * run as a whole counts the time that the machine slept (df_clock_boot).
 */
#ifndef DF_BASE_CLOCK_H
#define DF_BASE_CLOCK_H

#include <stdint.h>

struct df_clock {
	uint64_t (*mono_ns)(void *self);
	uint64_t (*wall_ns)(void *self); /* since the Unix epoch */
	void *self;
};

struct df_rand {
	uint64_t (*next)(void *self); /* 64 uniform bits */
	void *self;
};

extern const struct df_clock df_clock_real;
extern const struct df_rand df_rand_real; /* getrandom(2) */

static inline uint64_t df_clock_mono(const struct df_clock *c)
{
	return c->mono_ns(c->self);
}

/* CLOCK_BOOTTIME: monotonic, and goes on while the machine sleeps. */
uint64_t df_clock_boot(void);

/* A seeded generator (splitmix64): self points at the uint64_t state. */
struct df_rand df_rand_seeded(uint64_t *state);

#define DF_MS UINT64_C(1000000)
#define DF_SEC UINT64_C(1000000000)

#endif
