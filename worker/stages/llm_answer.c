// SPDX-License-Identifier: Apache-2.0
/* llm_answer: from what a model wrote to the JSON that it meant, and words for when it is not what was asked for. */
#include "worker/stages/llm.h"

#include "base/limits.h"

struct df_str df_llm_bare_json(struct df_str answer)
{
	struct df_str s = df_str_trim(answer);
	if (!df_str_starts(s, "```") || !df_str_ends(s, "```") || s.n < 6)
		return s;
	const char *line = memchr(s.p, '\n', s.n);
	if (!line) /* ```{"a":1}``` */
		return df_str_trim((struct df_str){s.p + 3, s.n - 6});
	size_t from = (size_t)(line - s.p) + 1;
	return from <= s.n - 3 ? df_str_trim((struct df_str){s.p + from, s.n - 3 - from}) : s;
}

enum df_err df_llm_check(const struct df_schema *schema, struct df_str json, struct df_buf *why)
{
	struct df_arena arena;
	df_arena_init(&arena, DF_ANSWER_CHECK_BYTES, 0);
	enum df_err err = df_schema_check(schema, json, &arena, why);
	if (err == DF_ERR_LIMIT)
		(void)df_buf_addz(why, "it takes more steps than are allowed");
	if (err == DF_ERR_NOMEM && df_arena_at_max(&arena, json.n)) {
		(void)df_buf_addf(why, "its %zu bytes of JSON take more than %u MB of memory", json.n,
				  DF_ANSWER_CHECK_BYTES >> 20);
		err = DF_ERR_LIMIT;
	}
	df_arena_release(&arena);
	return err;
}

enum df_err df_llm_compact(struct df_str json, struct df_arena *arena, struct df_str *ret_json)
{
	char *out = df_arena_alloc(arena, json.n + 1);
	size_t n = 0;
	bool quoted = false;
	if (!out)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < json.n; i++) {
		char c = json.p[i];
		if (!quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
			continue;
		out[n++] = c;
		if (quoted && c == '\\' && i + 1 < json.n)
			out[n++] = json.p[++i];
		else if (c == '"')
			quoted = !quoted;
	}
	*ret_json = (struct df_str){out, n};
	return DF_OK;
}

enum df_err df_llm_complaint(struct df_str why, struct df_arena *arena, struct df_str *ret_text)
{
	static const char head[] = "Your answer is not valid against the schema:\n";
	static const char tail[] = "Answer again with the whole corrected JSON value and nothing else.";
	char *out = df_arena_alloc(arena, sizeof(head) + sizeof(tail) + why.n);
	if (!out)
		return DF_ERR_NOMEM;
	memcpy(out, head, sizeof(head) - 1);
	if (why.n)
		memcpy(out + sizeof(head) - 1, why.p, why.n);
	memcpy(out + sizeof(head) - 1 + why.n, tail, sizeof(tail) - 1);
	*ret_text = (struct df_str){out, sizeof(head) - 1 + why.n + sizeof(tail) - 1};
	return DF_OK;
}
