// SPDX-License-Identifier: Apache-2.0
/*
 * decimal: JSON numbers compared as what they say, not as the double nearest to it: 0.1 is a tenth, and 9007199254740993 is not
 * 9007199254740992. A decimal points into the number's text; nothing is allocated.
 */
#ifndef DF_WORKER_CHECK_DECIMAL_H
#define DF_WORKER_CHECK_DECIMAL_H

#include <stdint.h>

#include "base/str.h"

/* (-1)^negative x digits x 10^exponent; the first and the last digit are not 0; zero has no digits. */
struct df_decimal {
	bool negative;
	const char *p;    /* the first digit; a '.' among them is passed over */
	size_t n;         /* digits */
	int64_t exponent; /* of the last digit; beyond +-2^40 it stays there */
};

/* `text` is a JSON number. */
struct df_decimal df_decimal_of(struct df_str text);
/* -1, 0, 1 */
int df_decimal_compare(const struct df_decimal *a, const struct df_decimal *b);
bool df_decimal_is_integer(const struct df_decimal *d);
/* UINT64_MAX when it is more than that; d is an integer and not negative. */
uint64_t df_decimal_u64(const struct df_decimal *d);
/* by > 0. Exact when `by` has at most 19 digits; a longer one is taken by its first 19. */
bool df_decimal_is_multiple(const struct df_decimal *d, const struct df_decimal *by);
uint64_t df_decimal_hash(const struct df_decimal *d); /* equal numbers, equal hashes */

#endif
