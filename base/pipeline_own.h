// SPDX-License-Identifier: Apache-2.0
/* pipeline_own: what reading a pipeline (pipeline.c) and making one (pipeline_build.c) share: the alphabet, and a stage's options. */
#ifndef DF_BASE_PIPELINE_OWN_H
#define DF_BASE_PIPELINE_OWN_H

#include "base/pipeline.h"

#define DF_PIPELINE_NAME_MAX 64U /* bytes */
#define DF_PIPELINE_OPTIONS_MAX 256U

static inline bool df_pipeline_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static inline bool df_pipeline_control(char c)
{
	return ((unsigned char)c < 0x20 && !df_pipeline_blank(c)) || c == 0x7f;
}

static inline bool df_pipeline_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool df_pipeline_name_char(char c)
{
	return df_pipeline_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static inline bool df_pipeline_is_name(struct df_str s)
{
	if (s.n == 0 || s.n > DF_PIPELINE_NAME_MAX || !df_pipeline_letter(s.p[0]))
		return false;
	for (size_t i = 1; i < s.n; i++)
		if (!df_pipeline_name_char(s.p[i]))
			return false;
	return true;
}

static inline bool df_pipeline_bare_char(char c)
{
	return !df_pipeline_blank(c) && !df_pipeline_control(c) && c != '|' && c != '\'' && c != '"';
}

/* NULL: it is not given. */
struct df_pipeline_opt *df_pipeline_find_opt(const struct df_pipeline_stage *stage, struct df_str key);
/* One more, whatever its key. DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_pipeline_add_opt(struct df_pipeline_stage *stage, struct df_arena *arena, struct df_pipeline_opt opt,
				struct df_fail *fail) DF_MUST_CHECK;

#endif
