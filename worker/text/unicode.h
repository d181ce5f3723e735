// SPDX-License-Identifier: Apache-2.0
/*
 * unicode: what docflume asks the Unicode Character Database. unicode.c is the only file that includes ICU's headers.
 */
#ifndef DF_WORKER_TEXT_UNICODE_H
#define DF_WORKER_TEXT_UNICODE_H

#include "base/buf.h"
#include "base/str.h"

/* White space as Python's str.isspace(): White_Space and U+001C to U+001F. */
bool df_uc_is_space(uint32_t cp);
/* Line breaks as Python's str.splitlines(): U+000A to U+000D, U+001C to U+001E, U+0085, U+2028, U+2029. */
bool df_uc_is_line_break(uint32_t cp);

/* Lower case of one code point, without U+0130 (two code points) and the final sigma, which need more than one. */
uint32_t df_uc_lower(uint32_t cp);
bool df_uc_is_cased(uint32_t cp);
bool df_uc_is_case_ignorable(uint32_t cp);

enum df_uc_kind { DF_UC_OTHER, DF_UC_CONTROL, DF_UC_PUNCTUATION, DF_UC_MARK };
/* CONTROL: Cc, Cf, Co; PUNCTUATION: Pc Pd Pe Pf Pi Po Ps; MARK: Mn. */
enum df_uc_kind df_uc_kind(uint32_t cp);
/* The same as Unicode 8.0 had it, which the tables of Hugging Face's tokenizers are of: later characters are OTHER. */
enum df_uc_kind df_uc_kind_unicode8(uint32_t cp);

#define DF_UC_DECOMPOSED_MAX 18U
/* Full canonical decomposition (NFD) of one code point; at least 1. */
size_t df_uc_decompose(uint32_t cp, uint32_t out[DF_UC_DECOMPOSED_MAX]);

/* What NFC's quick check needs to know of a code point. */
struct df_uc_nfc_facts {
	bool yes;             /* NFC_Quick_Check=Yes */
	bool boundary_before; /* nothing before it composes with it */
	unsigned combining_class;
};
struct df_uc_nfc_facts df_uc_nfc_facts(uint32_t cp);

/* Append NFC(s) to `out`. DF_ERR_NOMEM, DF_ERR_LIMIT (out is full), DF_ERR_BUG (ICU's data is missing). */
enum df_err df_uc_nfc(struct df_str s, struct df_buf *out) DF_MUST_CHECK;

#endif
