// SPDX-License-Identifier: Apache-2.0
/* schema_pattern: PCRE2's compiled form and its bounded matching. Home of pcre2.h. */
#include "worker/check/schema_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>

#include "base/limits.h"

#define CHEAP_STEPS 2000U /* most matches need fewer: they are charged as such */
#define CHEAP_WORK 100U
#define STEPS_PER_BYTE 64U
#define HEAP_KB 20480U

struct df_pattern {
	pcre2_code *code;
	pcre2_match_context *cheap;
};

enum df_err df_pattern_compile(struct df_str text, struct df_pattern **ret_pattern, struct df_fail *fail)
{
	struct df_buf to;
	int code = 0;
	PCRE2_SIZE at = 0;
	if (text.n > DF_SCHEMA_PATTERN_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "a pattern of %zu bytes; at most %u are taken", text.n,
			       DF_SCHEMA_PATTERN_BYTES);
	df_buf_init(&to, (size_t)DF_SCHEMA_PATTERN_BYTES * 32);
	enum df_err err = df_pattern_translate(text, &to, fail);
	struct df_pattern *p = err == DF_OK ? calloc(1, sizeof(*p)) : NULL;
	if (err == DF_OK && !p)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for a pattern");
	if (p) {
		p->code =
			pcre2_compile((PCRE2_SPTR)(to.p ? to.p : ""), to.n,
				      PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_ALLOW_EMPTY_CLASS |
					      PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C | PCRE2_NO_UTF_CHECK,
				      &code, &at, NULL);
		p->cheap = pcre2_match_context_create(NULL);
		if (!p->code || !p->cheap) {
			PCRE2_UCHAR words[160] = "";
			(void)pcre2_get_error_message(code, words, sizeof(words));
			err = p->code ? df_fail(fail, DF_ERR_NOMEM, "no memory for a pattern")
				      : df_fail(fail, code == PCRE2_ERROR_HEAP_FAILED ? DF_ERR_NOMEM : DF_ERR_USAGE,
						"the pattern '%.*s' is no regular expression: %s",
						(int)(text.n < 120 ? text.n : 120), text.p, (const char *)words);
			df_pattern_free(&p);
		}
	}
	df_buf_release(&to);
	if (err == DF_OK) {
		(void)pcre2_set_match_limit(p->cheap, CHEAP_STEPS);
		(void)pcre2_set_heap_limit(p->cheap, HEAP_KB);
		*ret_pattern = p;
	}
	return err;
}

void df_pattern_free(struct df_pattern **pattern)
{
	struct df_pattern *p = pattern ? *pattern : NULL;
	if (!p)
		return;
	pcre2_code_free(p->code);
	pcre2_match_context_free(p->cheap);
	free(p);
	*pattern = NULL;
}

static int match(const struct df_pattern *p, struct df_str s, pcre2_match_data *data, pcre2_match_context *context)
{
	return pcre2_match(p->code, (PCRE2_SPTR)(s.p ? s.p : ""), s.n, 0, PCRE2_NO_UTF_CHECK, data, context);
}

/* What a cheap match could not decide is paid in full beforehand. */
static int dear_match(const struct df_pattern *p, struct df_str s, pcre2_match_data *data, uint64_t *work)
{
	uint64_t steps = DF_SCHEMA_MATCH_STEPS + (uint64_t)s.n * STEPS_PER_BYTE;
	pcre2_match_context *context = pcre2_match_context_create(NULL);
	if (!context)
		return PCRE2_ERROR_NOMEMORY;
	steps = steps < *work ? steps : *work;
	*work -= steps;
	(void)pcre2_set_match_limit(context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
	(void)pcre2_set_heap_limit(context, HEAP_KB);
	int n = match(p, s, data, context);
	pcre2_match_context_free(context);
	return n;
}

enum df_err df_pattern_match(const struct df_pattern *p, struct df_str s, uint64_t *work, bool *ret_found)
{
	uint64_t cost = CHEAP_WORK + s.n / 16;
	if (*work < cost)
		return DF_ERR_LIMIT;
	*work -= cost;
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	if (!data)
		return DF_ERR_NOMEM;
	int n = match(p, s, data, p->cheap);
	if (n == PCRE2_ERROR_MATCHLIMIT || n == PCRE2_ERROR_DEPTHLIMIT)
		n = dear_match(p, s, data, work);
	pcre2_match_data_free(data);
	if (n < 0 && n != PCRE2_ERROR_NOMATCH)
		return n == PCRE2_ERROR_NOMEMORY ? DF_ERR_NOMEM : DF_ERR_LIMIT;
	*ret_found = n >= 0;
	return DF_OK;
}
