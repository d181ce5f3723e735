// SPDX-License-Identifier: Apache-2.0
/*
 * escape: the escapes of JSON strings, RFC 8259 section 7: made characters, or only checked. A whole string goes through one call, so that what is behind it may be as
 * long as speed wants.
 */
#ifndef DF_WORKER_READ_ESCAPE_H
#define DF_WORKER_READ_ESCAPE_H

#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DF_ESCAPE_SLACK 64 /* bytes that may be read, and written, behind a string */

enum df_escape {
	DF_ESCAPE_OK,
	DF_ESCAPE_UNKNOWN,   /* a letter that has no meaning, or no four digits behind \u */
	DF_ESCAPE_SURROGATE, /* half a pair */
};

/* `inside` is what stands between the quotes, and ends where a quote closes it; DF_ESCAPE_SLACK bytes behind it can be read. Writes at most inside.n bytes of text to
 * `to`, which has DF_ESCAPE_SLACK more. On an error *ret_fault is the faulty escape, and what was written says nothing. */
enum df_escape df_escape_copy(struct df_str inside, char *to, size_t *ret_n, const char **ret_fault) DF_MUST_CHECK;

/* The same, with nothing written and nothing read behind it but the closing quote. */
enum df_escape df_escape_check(struct df_str inside, const char **ret_fault) DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
