// SPDX-License-Identifier: Apache-2.0
/*
 * human: numbers as people read them, in lines that end runs and draw bars. Each writes into z, with a NUL, and returns it. For programs
 * there are JSON and plain digits.
 */
#ifndef DF_BASE_HUMAN_H
#define DF_BASE_HUMAN_H

#include <stdint.h>

/* "1.2 GB": powers of 1000. */
const char *df_human_bytes(double bytes, char z[32]);
/* "34 ms", "34.0 s", "12:34 min", "2:05 h" */
const char *df_human_time(double seconds, char z[32]);
/* "1,234,567" */
const char *df_human_count(uint64_t n, char z[32]);
/* "1 row", "1,234 rows": one is the word for a single one; all others have an 's' behind it. */
const char *df_human_number_of(uint64_t n, const char *one, char z[48]);
/* "$1.24", "$0.000310": two digits behind the point, or as many as show three that count. */
const char *df_human_usd(double usd, char z[32]);
/* " (at unknown prices)", " (3 calls at unknown prices)", or nothing. */
const char *df_human_unpriced(uint64_t unpriced, uint64_t calls, char z[80]);

#endif
