// SPDX-License-Identifier: Apache-2.0
/* registry: the table of stages, and pipelines checked against it. */
#include "worker/stages/registry.h"

#include "worker/stages/stages.h"

#define N_STAGE (sizeof(df_stage_registry) / sizeof(df_stage_registry[0]))

const struct df_stage_class *const df_stage_registry[] = {
	&df_stage_strip,
	&df_stage_lower,
	&df_stage_normalize,
	&df_stage_clean,
	&df_stage_count,
	&df_stage_sample,
	&df_stage_chunk,
	&df_stage_tokenise,
	&df_stage_embed,
	&df_stage_llm,
	&df_stage_request,
	&df_stage_exec,
	NULL,
};

const struct df_stage_class *df_stage_find(struct df_str name)
{
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++)
		if (df_str_is(name, (*c)->name))
			return *c;
	return NULL;
}

void df_stage_suggest(struct df_buf *out, struct df_str name)
{
	const char *names[N_STAGE];
	for (size_t i = 0; i < N_STAGE; i++)
		names[i] = df_stage_registry[i] ? df_stage_registry[i]->name : NULL;
	df_conf_suggest(out, name, names);
}

static enum df_err unknown_stage(const struct df_pipeline *p, const struct df_pipeline_stage *s, struct df_fail *fail)
{
	struct df_buf hint;
	df_buf_init(&hint, 512);
	df_stage_suggest(&hint, s->name);
	if (hint.n == 0)
		(void)df_buf_addz(&hint, "; 'docflume stages' lists them");
	enum df_err err = df_pipeline_fail_at(p, s->at, fail, "unknown stage '" DF_STR_FMT "'" DF_STR_FMT,
					      DF_STR_ARG(s->name), DF_STR_ARG(df_buf_str(&hint)));
	df_buf_release(&hint);
	return err;
}

static enum df_err set_option(const struct df_pipeline *p, const struct df_pipeline_stage *s,
			      const struct df_stage_class *class, size_t i, struct df_arena *arena, void *options,
			      struct df_fail *fail)
{
	const struct df_pipeline_opt *o = &s->opt[i];
	struct df_fail why = {.msg = ""};
	enum df_err err = DF_ERR_NOT_FOUND;
	if (class->options)
		err = df_conf_set(class->options, arena, options, o->key, o->value, &why);
	else
		(void)df_fail(&why, err, "unknown option '" DF_STR_FMT "'; this stage has none", DF_STR_ARG(o->key));
	if (err == DF_OK || err == DF_ERR_NOMEM)
		return err == DF_OK ? DF_OK : df_fail(fail, err, "%s", why.msg);
	return df_pipeline_fail_at(p, err == DF_ERR_NOT_FOUND ? o->key_at : o->value_at, fail,
				   "stage '" DF_STR_FMT "': %s", DF_STR_ARG(df_pipeline_call_name(s)), why.msg);
}

/* '-' and '_' are the same in a name, so that "min-chars=1 min_chars=2" would be two values of one option. */
static enum df_err check_twice(const struct df_pipeline *p, const struct df_pipeline_stage *s,
			       const struct df_stage_class *class, size_t i, struct df_fail *fail)
{
	const struct df_opt *row = df_conf_find(class->options, s->opt[i].key);
	for (size_t k = 0; row && k < i; k++)
		if (df_conf_find(class->options, s->opt[k].key) == row)
			return df_pipeline_fail_at(p, s->opt[i].key_at, fail,
						   "stage '" DF_STR_FMT "': option '%s' is given twice",
						   DF_STR_ARG(df_pipeline_call_name(s)), row->name);
	return DF_OK;
}

static enum df_err check_required(const struct df_pipeline *p, const struct df_pipeline_stage *s,
				  const struct df_stage_class *class, struct df_fail *fail)
{
	for (const struct df_opt *row = class->options; row && row->name; row++) {
		bool given = !row->required;
		for (size_t i = 0; i < s->n_opt && !given; i++)
			given = df_conf_find(class->options, s->opt[i].key) == row;
		if (!given)
			return df_pipeline_fail_at(p, s->at, fail, "stage '" DF_STR_FMT "' needs the option '%s=%s'",
						   DF_STR_ARG(df_pipeline_call_name(s)), row->name,
						   df_conf_value_name(row));
	}
	return DF_OK;
}

static enum df_err check_stage(const struct df_pipeline *p, size_t no, struct df_arena *arena,
			       const struct df_stage_class **ret_class, void **ret_options, struct df_fail *fail)
{
	const struct df_pipeline_stage *s = &p->stage[no];
	const struct df_stage_class *class = df_stage_find(s->name);
	struct df_fail why = {.msg = ""};
	if (!class)
		return unknown_stage(p, s, fail);
	void *options = NULL;
	if (class->options) {
		options = df_arena_alloc(arena, class->options_size);
		if (!options)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline's options");
		df_conf_defaults(class->options, arena, options, class->options_size);
	}
	for (size_t i = 0; i < s->n_opt; i++) {
		DF_TRY(set_option(p, s, class, i, arena, options, fail));
		DF_TRY(check_twice(p, s, class, i, fail));
	}
	DF_TRY(check_required(p, s, class, fail));
	if (class->check && class->check(options, &why) != DF_OK)
		return df_pipeline_fail_at(p, s->at, fail, "stage '" DF_STR_FMT "': %s",
					   DF_STR_ARG(df_pipeline_call_name(s)), why.msg);
	const struct df_stage_class *variant = class->variant ? class->variant(options) : NULL;
	*ret_class = variant ? variant : class;
	*ret_options = options;
	return DF_OK;
}

enum df_err df_stage_check_pipeline(const struct df_pipeline *p, struct df_arena *arena,
				    const struct df_stage_class ***ret_class, void ***ret_options, struct df_fail *fail)
{
	const struct df_stage_class **class = df_arena_array(arena, p->n_stage, sizeof(const struct df_stage_class *));
	void **options = df_arena_array(arena, p->n_stage, sizeof(void *));
	if (!class || !options)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline's stages");
	for (size_t i = 0; i < p->n_stage; i++)
		DF_TRY(check_stage(p, i, arena, &class[i], &options[i], fail));
	*ret_class = class;
	*ret_options = options;
	return DF_OK;
}
