// SPDX-License-Identifier: Apache-2.0
/* unicode: thin wrappers around ICU 72 (Unicode 15). */
#include "worker/text/unicode.h"

#include <stdlib.h>

#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <unicode/ustring.h>

bool df_uc_is_space(uint32_t cp)
{
	if (cp < 0x80)
		return (cp >= 0x09 && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x20);
	return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 ||
	       cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool df_uc_is_line_break(uint32_t cp)
{
	return (cp >= 0x0A && cp <= 0x0D) || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 || cp == 0x2028 || cp == 0x2029;
}

uint32_t df_uc_lower(uint32_t cp)
{
	return (uint32_t)u_tolower((UChar32)cp);
}

bool df_uc_is_cased(uint32_t cp)
{
	return u_hasBinaryProperty((UChar32)cp, UCHAR_CASED);
}

bool df_uc_is_case_ignorable(uint32_t cp)
{
	return u_hasBinaryProperty((UChar32)cp, UCHAR_CASE_IGNORABLE);
}

enum df_uc_kind df_uc_kind(uint32_t cp)
{
	uint32_t mask = U_GET_GC_MASK((UChar32)cp);
	if (mask & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK))
		return DF_UC_CONTROL;
	if (mask & U_GC_P_MASK)
		return DF_UC_PUNCTUATION;
	return mask & U_GC_MN_MASK ? DF_UC_MARK : DF_UC_OTHER;
}

enum df_uc_kind df_uc_kind_unicode8(uint32_t cp)
{
	UVersionInfo age;
	u_charAge((UChar32)cp, age);
	return age[0] > 8 ? DF_UC_OTHER : df_uc_kind(cp);
}

size_t df_uc_decompose(uint32_t cp, uint32_t out[DF_UC_DECOMPOSED_MAX])
{
	UErrorCode status = U_ZERO_ERROR;
	const UNormalizer2 *nfd = unorm2_getNFDInstance(&status);
	UChar units[DF_UC_DECOMPOSED_MAX];
	int32_t n = U_SUCCESS(status)
			    ? unorm2_getDecomposition(nfd, (UChar32)cp, units, (int32_t)DF_UC_DECOMPOSED_MAX, &status)
			    : -1;
	size_t n_out = 0;
	if (n > 0 && U_SUCCESS(status)) {
		for (int32_t i = 0; i < n;) {
			UChar32 c;
			U16_NEXT(units, i, n, c);
			out[n_out++] = (uint32_t)c;
		}
		return n_out;
	}
	out[0] = cp;
	return 1;
}

struct df_uc_nfc_facts df_uc_nfc_facts(uint32_t cp)
{
	UErrorCode status = U_ZERO_ERROR;
	const UNormalizer2 *nfc = unorm2_getNFCInstance(&status);
	struct df_uc_nfc_facts facts = {.combining_class = u_getCombiningClass((UChar32)cp)};
	if (U_FAILURE(status))
		return facts;
	facts.yes = u_getIntPropertyValue((UChar32)cp, UCHAR_NFC_QUICK_CHECK) == UNORM_YES;
	facts.boundary_before = unorm2_hasBoundaryBefore(nfc, (UChar32)cp);
	return facts;
}

/* UTF-16 to UTF-8 behind out->n. */
static enum df_err append_utf8(const UChar *units, int32_t n, struct df_buf *out)
{
	DF_TRY(df_buf_reserve(out, (size_t)n * 3));
	UErrorCode status = U_ZERO_ERROR;
	int32_t bytes = 0;
	(void)u_strToUTF8(out->p + out->n, (int32_t)((size_t)n * 3), &bytes, units, n, &status);
	if (U_FAILURE(status))
		return DF_ERR_BUG;
	out->n += (size_t)bytes;
	return DF_OK;
}

/* units[2 * cap]: the first half receives the text, the second its NFC, which is at most 3 times as long. */
static enum df_err normalize_units(struct df_str s, UChar *units, int32_t cap, struct df_buf *out)
{
	UErrorCode status = U_ZERO_ERROR;
	const UNormalizer2 *nfc = unorm2_getNFCInstance(&status);
	int32_t n = 0;
	(void)u_strFromUTF8(units, cap, &n, s.p, (int32_t)s.n, &status);
	UChar *normal = units + cap;
	int32_t n_normal = U_SUCCESS(status) ? unorm2_normalize(nfc, units, n, normal, 3 * cap, &status) : 0;
	return U_FAILURE(status) ? DF_ERR_BUG : append_utf8(normal, n_normal, out);
}

enum df_err df_uc_nfc(struct df_str s, struct df_buf *out)
{
	enum { SMALL = 256 };
	UChar small[4 * SMALL];
	if (s.n == 0)
		return DF_OK;
	if (s.n < SMALL)
		return normalize_units(s, small, SMALL, out);
	if (s.n > INT32_MAX / 16)
		return DF_ERR_LIMIT;
	UChar *units = malloc(4 * (s.n + 1) * sizeof(*units));
	if (!units)
		return DF_ERR_NOMEM;
	enum df_err err = normalize_units(s, units, (int32_t)s.n + 1, out);
	free(units);
	return err;
}
