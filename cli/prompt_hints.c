// SPDX-License-Identifier: Apache-2.0
/* prompt_hints: looks at the templates of stages that ask. */
#include "cli/prompt_hints.h"

#include "base/arena.h"
#include "base/log.h"
#include "worker/stages/template.h"

#define ARENA_BYTES ((size_t)64 << 20)
#define NAME_SHOWN 60 /* bytes of a name */

static struct df_str option(const struct df_pipeline_stage *s, const char *key)
{
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_str_is(s->opt[i].key, key))
			return s->opt[i].value;
	return (struct df_str){NULL, 0};
}

static bool is_plain(struct df_str text)
{
	struct df_arena arena;
	struct df_template *t = NULL;
	struct df_fail why = {.msg = ""};
	df_arena_init(&arena, ARENA_BYTES, 0);
	bool plain = df_template_compile(text, &arena, &t, &why) == DF_OK && df_template_is_plain(t);
	df_arena_release(&arena);
	return plain;
}

static void look_at(const struct df_pipeline_stage *s)
{
	struct df_str prompt = option(s, "prompt"), system = option(s, "system"), who = df_pipeline_call_name(s);
	if (!is_plain(prompt) || !is_plain(system))
		return;
	struct df_str name = df_template_single_braces(prompt);
	int n = (int)(name.n < NAME_SHOWN ? name.n : NAME_SHOWN);
	if (name.p)
		df_warn("stage '" DF_STR_FMT
			"': the prompt has no place for a field, so that every document is asked the "
			"same: '{%.*s}' is only text; '{{%.*s}}' is a place",
			DF_STR_ARG(who), n, name.p, n, name.p);
	else
		df_warn("stage '" DF_STR_FMT
			"': the prompt has no place for a field, so that every document is asked the "
			"same; {{text}} puts in its text",
			DF_STR_ARG(who));
}

void df_prompt_hints(const struct df_pipeline *p)
{
	for (size_t i = 0; i < p->n_stage; i++)
		if (df_str_is(p->stage[i].name, "llm"))
			look_at(&p->stage[i]);
}
