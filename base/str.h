// SPDX-License-Identifier: Apache-2.0
/*
 * str: a slice of bytes, not owned and not NUL-terminated, and the few things done to slices.
 * Text slices hold valid UTF-8 unless a comment says otherwise.
 */
#ifndef DF_BASE_STR_H
#define DF_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

struct df_str {
	const char *p; /* may be NULL when n is 0 */
	size_t n;      /* bytes */
};

#define DF_STR(lit) ((struct df_str){(lit), sizeof(lit) - 1})
#define DF_STR_FMT "%.*s"
#define DF_STR_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct df_str df_str_from(const char *z)
{
	return (struct df_str){z, z ? strlen(z) : 0};
}

static inline bool df_str_eq(struct df_str a, struct df_str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool df_str_is(struct df_str a, const char *z)
{
	return df_str_eq(a, df_str_from(z));
}

bool df_str_starts(struct df_str s, const char *prefix);
bool df_str_ends(struct df_str s, const char *suffix);

/* ASCII blanks (space, tab, CR, LF) removed at both ends. */
struct df_str df_str_trim(struct df_str s);

/* The length in bytes of the longest prefix that is valid UTF-8 (RFC 3629: no surrogates, nothing overlong); s.n when all is. */
size_t df_str_utf8_prefix(struct df_str s);
/* Each byte of z that is no part of valid UTF-8 becomes '?': for messages, which are written into JSON. */
void df_str_make_utf8(char *z);

/* Damerau-Levenshtein distance (adjacent swaps cost 1) of two short names; at most 64 bytes of each are compared. */
size_t df_str_distance(struct df_str a, struct df_str b);

/* Decimal integers, whole slice. DF_ERR_PARSE or DF_ERR_RANGE. */
enum df_err df_str_to_u64(struct df_str s, uint64_t *ret_value) DF_MUST_CHECK;
enum df_err df_str_to_i64(struct df_str s, int64_t *ret_value) DF_MUST_CHECK;
/* Floating point as strtod reads it in the C locale, whole slice; inf and nan are DF_ERR_PARSE. */
enum df_err df_str_to_double(struct df_str s, double *ret_value) DF_MUST_CHECK;
/* Bytes with an optional k, m, g, t (powers of 1024; kb, KiB, MB, ... mean the same): "8m". */
/* "30s", "250ms", "1.5h", "2m", "1d", "30" (seconds), in nanoseconds. DF_ERR_PARSE, DF_ERR_RANGE (above 2^63 ns). */
enum df_err df_str_to_time(struct df_str s, uint64_t *ret_ns) DF_MUST_CHECK;
enum df_err df_str_to_size(struct df_str s, uint64_t *ret_bytes) DF_MUST_CHECK;

/* A NUL-terminated heap copy, or NULL when memory is out. */
char *df_str_dup(struct df_str s);
/* The same as a string whose `p` is to be freed; empty, with p NULL, when memory is out: for words that are only told. */
struct df_str df_str_copy(struct df_str s);

#endif
