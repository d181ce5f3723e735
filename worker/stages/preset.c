// SPDX-License-Identifier: Apache-2.0
/* preset: names for sets of options. */
#include "worker/stages/preset.h"

#define OPT(k, v)                                                                                                      \
	{                                                                                                              \
		{k, sizeof(k) - 1}, {v, sizeof(v) - 1}, SIZE_MAX, SIZE_MAX                                             \
	}
static struct df_pipeline_opt analyst[] = {OPT("temperature", "0.1"), OPT("max_tokens", "800")};
static struct df_pipeline_opt creative[] = {OPT("temperature", "1"), OPT("top_p", "0.95"), OPT("max_tokens", "1500")};
static struct df_pipeline_opt strict[] = {OPT("temperature", "0"), OPT("max_tokens", "400"), OPT("seed", "7"),
					  OPT("repair", "2")};
static struct df_preset built_in[] = {
	{{"analyst", 7}, analyst, sizeof(analyst) / sizeof(analyst[0]), {"built-in", 8}, NULL},
	{{"creative", 8}, creative, sizeof(creative) / sizeof(creative[0]), {"built-in", 8}, NULL},
	{{"strict", 6}, strict, sizeof(strict) / sizeof(strict[0]), {"built-in", 8}, NULL},
};
const struct df_presets df_presets_built_in = {built_in, sizeof(built_in) / sizeof(built_in[0])};

static const struct df_preset *find(const struct df_presets *all, struct df_str name)
{
	for (size_t i = all ? all->n : 0; i-- > 0;)
		if (df_str_eq(all->item[i].name, name))
			return &all->item[i];
	return NULL;
}

static enum df_err unknown(const struct df_presets *user, struct df_str name, struct df_fail *fail)
{
	struct df_buf list;
	df_buf_init(&list, 600);
	for (size_t i = 0; i < df_presets_built_in.n; i++)
		(void)df_buf_addf(&list, "%s" DF_STR_FMT, i ? ", " : "", DF_STR_ARG(df_presets_built_in.item[i].name));
	for (size_t i = 0; user && i < user->n; i++)
		(void)df_buf_addf(&list, ", %.*s", (int)(user->item[i].name.n < 64 ? user->item[i].name.n : 64),
				  user->item[i].name.p);
	enum df_err err = df_fail(fail, DF_ERR_USAGE, "no preset '%.*s'; there are %s",
				  (int)(name.n < 80 ? name.n : 80), name.n ? name.p : "", df_buf_z(&list));
	df_buf_release(&list);
	return err;
}

static bool given(const struct df_pipeline_stage *s, const struct df_opt *rows, const struct df_opt *row)
{
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_conf_find(rows, s->opt[i].key) == row)
			return true;
	return false;
}

static size_t size_of(const struct df_opt *rows)
{
	size_t size = 0;
	for (const struct df_opt *row = rows; row->name; row++)
		size = row->offset > size ? row->offset : size;
	return size + sizeof(struct df_str_list);
}

/* What is wrong with an option is told with its place in the file, which nobody knows any more later. */
static enum df_err check_option(const struct df_pipeline_stage *s, const struct df_preset *p, size_t i,
				const struct df_opt *rows, struct df_arena *arena, struct df_fail *fail)
{
	const struct df_pipeline_opt *o = &p->opt[i];
	const struct df_opt *row = df_conf_find(rows, o->key);
	struct df_str place = p->place ? p->place[i] : p->from;
	struct df_fail why = {.msg = ""};
	if (!row || strcmp(row->name, "preset") == 0)
		return df_fail(fail, DF_ERR_USAGE,
			       "%.1000s: preset '%.*s' sets '%.*s', which stage '" DF_STR_FMT "' does not have",
			       place.p, (int)(p->name.n < 80 ? p->name.n : 80), p->name.p,
			       (int)(o->key.n < 80 ? o->key.n : 80), o->key.p, DF_STR_ARG(s->name));
	void *scratch = df_arena_zalloc(arena, size_of(rows));
	if (!scratch)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a preset");
	enum df_err err = df_conf_set(rows, arena, scratch, o->key, o->value, &why);
	if (err == DF_OK || err == DF_ERR_NOMEM)
		return err == DF_OK ? err : df_fail(fail, err, "%s", why.msg);
	return df_fail(fail, DF_ERR_USAGE, "%.1000s: preset '%.*s': %s", place.p,
		       (int)(p->name.n < 80 ? p->name.n : 80), p->name.p, why.msg);
}

enum df_err df_preset_apply(struct df_pipeline_stage *s, const struct df_opt *rows, const struct df_presets *user,
			    struct df_arena *arena, struct df_fail *fail)
{
	size_t at = 0;
	while (at < s->n_opt && !df_str_is(s->opt[at].key, "preset"))
		at++;
	if (at == s->n_opt || !df_conf_find(rows, DF_STR("preset")))
		return DF_OK;
	struct df_str name = s->opt[at].value;
	const struct df_preset *p = find(user, name);
	p = p ? p : find(&df_presets_built_in, name);
	if (!p)
		return unknown(user, name, fail);
	memmove(&s->opt[at], &s->opt[at + 1], (s->n_opt - at - 1) * sizeof(s->opt[0]));
	s->n_opt--;
	for (size_t i = 0; i < p->n_opt; i++) {
		const struct df_opt *row = df_conf_find(rows, p->opt[i].key);
		DF_TRY(check_option(s, p, i, rows, arena, fail));
		if (!given(s, rows, row))
			DF_TRY(df_pipeline_set(s, arena, p->opt[i].key, p->opt[i].value, fail));
	}
	return DF_OK;
}
