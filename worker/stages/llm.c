// SPDX-License-Identifier: Apache-2.0
/*
 * llm: one call of a language model for each row; its answer becomes a field.
 *
 * DESIGN: here are options, opening and closing, and what becomes of answers; llm_prompt.c makes prompts, llm_rounds.c asks. Nothing is kept between
 * batches: `state` is read-only after open, since several batches wait inside process() at the same time. An answer out of the cache passes the same
 * checks as a fresh one.
 */
#include "base/limits.h"
#include "base/pipeline.h"
#include "worker/stages/llm_own.h"

#define AT(member) offsetof(struct df_llm_options, member)
static const struct df_opt option_rows[] = {
	{.name = "model",
	 .type = DF_OPT_STRING,
	 .offset = AT(model),
	 .required = true,
	 .max = 256,
	 .value_name = "NAME",
	 .help = "The model: gpt-4o-mini, claude-sonnet-4-5, ollama/any, ...; fake/any answers at no cost. 'docflume "
		 "models' lists them"},
	{.name = "prompt",
	 .type = DF_OPT_STRING,
	 .offset = AT(prompt),
	 .required = true,
	 .file = true,
	 .max = DF_TEMPLATE_BYTES,
	 .value_name = "TEXT|@FILE",
	 .help = "What is asked, with places for the document's fields: {{text}}, {{id}}, {{metadata.x}}, {{tags.0}}; "
		 "{{{{ is two braces. A field that is missing rejects the document"},
	{.name = "system",
	 .type = DF_OPT_STRING,
	 .offset = AT(system),
	 .file = true,
	 .max = DF_TEMPLATE_BYTES,
	 .value_name = "TEXT|@FILE",
	 .help = "What the model is told beforehand; places as in the prompt"},
	{.name = "output",
	 .type = DF_OPT_STRING,
	 .offset = AT(output),
	 .initial = "answer",
	 .max = 256,
	 .value_name = "FIELD",
	 .help = "The field that gets the answer: a string, or JSON with a schema"},
	{.name = "schema",
	 .type = DF_OPT_STRING,
	 .offset = AT(schema),
	 .file = true,
	 .max = DF_TEMPLATE_BYTES,
	 .value_name = "JSON|@FILE",
	 .help = "A JSON Schema (draft 2020-12) that the answer must fit. Every answer is checked, also those from the "
		 "cache; none that does not fit reaches an output"},
	{.name = "repair",
	 .type = DF_OPT_INT,
	 .offset = AT(repair),
	 .initial = "1",
	 .min = 0,
	 .max = DF_LLM_REPAIR_MAX,
	 .help = "How often an answer that does not fit the schema goes back to the model, with what is wrong with it"},
	{.name = "truncated",
	 .type = DF_OPT_ENUM,
	 .offset = AT(truncated),
	 .initial = "reject",
	 .choices = "reject|keep",
	 .help = "An answer that ended at max_tokens: reject its document (class limit), or keep what there is. One "
		 "that a "
		 "filter ended, or anything else, is never kept"},
	{.name = "preset",
	 .type = DF_OPT_STRING,
	 .offset = AT(preset),
	 .max = 128,
	 .value_name = "NAME",
	 .help = "Several options by one name: analyst (temperature 0.1, max_tokens 800), creative (1, top_p 0.95, "
		 "1500), strict (0, 400, seed 7, repair 2), or one of your own in ~/.config/docflume/presets.yaml; "
		 "options that are written win"},
	{.name = "temperature",
	 .type = DF_OPT_FLOAT,
	 .offset = AT(temperature),
	 .initial = "-1",
	 .min = -1,
	 .max = 2,
	 .help = "0 to 2; -1: the provider's own"},
	{.name = "top_p",
	 .type = DF_OPT_FLOAT,
	 .offset = AT(top_p),
	 .initial = "-1",
	 .min = -1,
	 .max = 1,
	 .help = "0 to 1; -1: the provider's own"},
	{.name = "max_tokens",
	 .type = DF_OPT_INT,
	 .offset = AT(max_tokens),
	 .min = 0,
	 .max = 10000000,
	 .help = "Tokens of an answer; 0: the provider's own limit"},
	{.name = "seed",
	 .type = DF_OPT_INT,
	 .offset = AT(seed),
	 .initial = "-1",
	 .min = -1,
	 .max = 9007199254740991.0,
	 .help = "For providers that take one; -1: none"},
	DF_API_ROWS(struct df_llm_options),
	{.name = NULL},
};

/* ------------------------------------------------------------------ opening */

static bool between(double v, double low)
{
	return v >= low || v == -1;
}

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct df_llm_options *o = options;
	struct df_arena scratch;
	struct df_template *t = NULL;
	struct df_schema *schema = NULL;
	struct df_fail why = {.msg = ""};
	if (o->preset.n)
		return df_fail(fail, DF_ERR_USAGE,
			       "option 'preset' stands for others, which a command puts in its place");
	if (!between(o->temperature, 0) || !between(o->top_p, 0))
		return df_fail(fail, DF_ERR_USAGE, "temperature and top_p are not negative (-1: the provider's own)");
	if (!o->output.n)
		return df_fail(fail, DF_ERR_USAGE, "option 'output' needs the name of a field");
	if (!df_str_trim(o->prompt).n)
		return df_fail(fail, DF_ERR_USAGE,
			       "option 'prompt' is empty; it says what is asked, e.g. prompt='Sum up: {{text}}'");
	if (o->schema.p && !df_str_trim(o->schema).n) /* it would switch checking off */
		return df_fail(fail, DF_ERR_USAGE,
			       "option 'schema' is empty; leave it out, or give a JSON Schema ({} allows any JSON)");
	DF_TRY(df_api_check(&o->api, o->model, fail));
	df_arena_init(&scratch, (size_t)16 << 20, 0);
	enum df_err err = df_template_compile(o->prompt, &scratch, &t, &why);
	if (err == DF_OK)
		err = df_template_compile(o->system, &scratch, &t, &why);
	df_arena_release(&scratch);
	if (err == DF_OK && o->schema.n)
		err = df_schema_compile(o->schema, &schema, &why);
	df_schema_free(&schema);
	if (err == DF_ERR_PARSE)
		return df_fail(fail, DF_ERR_USAGE, "option 'schema' is no JSON: %s", why.msg);
	if (err != DF_OK)
		return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE, "%s", why.msg);
	const struct df_ask_turn turn = {DF_TURN_USER, DF_STR("word")};
	struct df_ask like = {.kind = DF_ASK_CHAT, .turn = &turn, .n_turn = 1};
	df_llm_set(o, &like);
	return df_api_check_ask(&o->api, o->model, &like, fail);
}

static enum df_err open_schema(struct df_llm *l, struct df_fail *fail)
{
	if (!l->options->schema.n)
		return DF_OK;
	DF_TRY(df_schema_compile(l->options->schema, &l->schema, fail));
	for (size_t i = 0; i < l->api.n_route; i++) {
		const struct df_route *r = l->api.route[i];
		struct df_ask ask = {.model = df_route_name(r), .schema = l->options->schema};
		struct df_arena scratch;
		df_arena_init(&scratch, (size_t)64 << 20, 0);
		l->told_in_words |= !df_provider_holds(df_route_provider(r), &ask, &scratch);
		df_arena_release(&scratch);
	}
	return DF_OK;
}

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct df_llm_options *o = s->options;
	struct df_llm *l = df_arena_zalloc(env->arena, sizeof(*l));
	if (!l)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a stage");
	s->state = l;
	l->options = o;
	l->output = o->output;
	bool last = env->stage_no + 1 == (env->pipeline ? env->pipeline->n_stage : 0);
	l->show = df_show_on(last ? env->stream_fd : -1, env->shown);
	DF_TRY(df_api_open(&l->api, &o->api, o->model, env, s->call_name, fail));
	DF_TRY(df_template_compile(o->prompt, env->arena, &l->prompt, fail));
	if (o->system.n)
		DF_TRY(df_template_compile(o->system, env->arena, &l->system, fail));
	return open_schema(l, fail);
}

static void close_(struct df_stage *s)
{
	struct df_llm *l = s->state;
	if (!l)
		return;
	df_schema_free(&l->schema);
	df_api_close(&l->api);
	s->state = NULL;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	const struct df_llm *l = s->state;
	struct df_llm_item *all = NULL, **todo = df_arena_array(b->arena, b->n_row + 1, sizeof(*todo));
	size_t n = 0;
	if (!todo || df_llm_collect(l, b, &all, todo, &n) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the prompts of %zu rows", b->n_row);
	DF_TRY(df_llm_ask_all(l, b, todo, n, fail));
	for (size_t i = 0; i < n; i++) {
		if (!df_row_live(all[i].row))
			continue;
		if (df_row_add(b, all[i].row, l->output, all[i].answer) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the answers of %zu rows", n);
		if (l->show.fd >= 0) {
			if (l->schema)
				df_show(&l->show, all[i].answer);
			df_show(&l->show, DF_STR("\n"));
		}
	}
	return DF_OK;
}

const struct df_stage_class df_stage_llm = {
	.name = "llm",
	.summary = "ask a language model about each row",
	.help = "Sends a prompt for each row, all of a batch at once and within the provider's limits, and puts the "
		"answer into "
		"a field.\n\n"
		"The prompt is a template. With a schema, the answer is JSON: providers that can be held to a schema "
		"are, others "
		"are told it in the system prompt, and every answer is checked; one that does not fit goes back with "
		"what is "
		"wrong with it (repair), and then its document is rejected.\n\n"
		"An answer that was cut off at max_tokens rejects its document (class limit), so does one that the "
		"provider's "
		"filter ended, or that ended for another reason than being done (class unsupported, with the reason's "
		"name). The run's counters have calls, cached, tokens_in, tokens_out, "
		"repaired and "
		"usd_nano (billionths of a dollar).\n\n"
		"  docflume run \"llm model=gpt-4o-mini preset=analyst prompt='Sum up in one sentence: {{text}}' "
		"output=summary\" docs.jsonl\n",
	.options = option_rows,
	.options_size = sizeof(struct df_llm_options),
	.flags = DF_STAGE_NETWORK | DF_STAGE_SIDE_EFFECTS,
	.check = check,
	.open = open_,
	.process = process,
	.close = close_,
};
