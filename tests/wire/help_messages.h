// SPDX-License-Identifier: Apache-2.0
/* help_messages: one fixed message of each type (the golden ones), random ones from a seed, and a deep comparison. */
#ifndef DF_TESTS_WIRE_HELP_MESSAGES_H
#define DF_TESTS_WIRE_HELP_MESSAGES_H

#include "base/clock.h"
#include "proto/messages.h"

struct golden {
	const char *name; /* tests/wire/golden/NAME.hex */
	struct df_msg msg;
};

extern const struct golden help_golden[];
extern const size_t help_n_golden;

/* A message that is within all bounds; arrays and strings in `arena`. */
struct df_msg help_random_message(struct df_rand rnd, struct df_arena *arena);

/* Every field, followed through pointers. */
bool help_same_message(const struct df_msg *a, const struct df_msg *b);

#endif
