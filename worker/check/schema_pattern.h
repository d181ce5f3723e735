// SPDX-License-Identifier: Apache-2.0
/*
 * schema_pattern: a regular expression of ECMA-262 (its "u" form), run by PCRE2.
 *
 * The expression is read and written anew for PCRE2, so that both mean the same: \d and \w are ASCII, \s is all of Unicode's blanks, "$" is the end alone,
 * "." stops at the four line ends of ECMA, \uXXXX with pairs, \u{X}, \p{Letter}, \p{Script=Greek}. What ECMA does not have is refused: inline
 * options, atomic groups, possessive quantifiers, verbs, \A, \Z, \Q. Not the same: \S inside a class holds U+FEFF; look-behind must have
 * a bounded length. Matching is bounded by steps, never by time, so that an answer is the same on every machine; no code is generated (no JIT).
 */
#ifndef DF_WORKER_CHECK_SCHEMA_PATTERN_H
#define DF_WORKER_CHECK_SCHEMA_PATTERN_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct df_pattern;

/* DF_ERR_USAGE with the reason, DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_pattern_compile(struct df_str text, struct df_pattern **ret_pattern, struct df_fail *fail) DF_MUST_CHECK;
void df_pattern_free(struct df_pattern **pattern); /* accepts NULL */
/* Found anywhere in `s` (valid UTF-8). *work is lowered by what it cost. DF_ERR_LIMIT: too many steps. Thread-safe. */
enum df_err df_pattern_match(const struct df_pattern *p, struct df_str s, uint64_t *work,
			     bool *ret_found) DF_MUST_CHECK;

/* The expression as PCRE2 gets it (tests look at it). DF_ERR_USAGE, DF_ERR_NOMEM, DF_ERR_LIMIT. */
enum df_err df_pattern_translate(struct df_str text, struct df_buf *out, struct df_fail *fail) DF_MUST_CHECK;

#endif
