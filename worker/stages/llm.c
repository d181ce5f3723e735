// SPDX-License-Identifier: Apache-2.0
/*
 * llm: one call of a language model for each row; its answer becomes a field.
 *
 * DESIGN: all calls of a batch are out at once, in rounds. Round 0 asks for every row; an answer that the schema refuses goes back with the
 * checker's words as a further turn, and the next round asks for those rows alone. Nothing is kept between batches: `state` is read-only after open,
 * since several batches wait inside process() at the same time. An answer out of the cache passes the same checks as a fresh one.
 */
#include "worker/stages/llm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/pipeline.h"
#include "worker/stages/rows.h"
#include "worker/stages/show.h"
#include "worker/stages/template.h"

#define REPAIR_MAX 2
#define TURNS_MAX (2 + 2 * REPAIR_MAX)

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
	 .max = REPAIR_MAX,
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

struct llm {
	const struct df_llm_options *options;
	struct df_api api;
	struct df_template *prompt, *system; /* system NULL: none */
	struct df_schema *schema;            /* NULL: none */
	bool told_in_words;                  /* a route has no schema mode */
	struct df_str output;
	struct df_show show;
};

/* A row on its way. */
struct item {
	struct df_row *row;
	struct df_ask_turn turn[TURNS_MAX];
	size_t n_turn;
	int64_t repaired;
	bool fresh;           /* what the cache had for these turns did not fit */
	struct df_str answer; /* JSON, compact; or text */
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
	DF_TRY(df_api_check(&o->api, o->model, fail));
	df_arena_init(&scratch, (size_t)16 << 20, 0);
	enum df_err err = df_template_compile(o->prompt, &scratch, &t, &why);
	if (err == DF_OK)
		err = df_template_compile(o->system, &scratch, &t, &why);
	df_arena_release(&scratch);
	if (err == DF_OK && o->schema.n)
		err = df_schema_compile(o->schema, &schema, &why);
	df_schema_free(&schema);
	if (err != DF_OK)
		return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE, "%s", why.msg);
	return DF_OK;
}

static enum df_err open_schema(struct llm *l, struct df_fail *fail)
{
	if (!l->options->schema.n)
		return DF_OK;
	DF_TRY(df_schema_compile(l->options->schema, &l->schema, fail));
	for (size_t i = 0; i < l->api.n_route; i++)
		l->told_in_words |= !df_route_provider(l->api.route[i])->schema_mode;
	return DF_OK;
}

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct df_llm_options *o = s->options;
	struct llm *l = df_arena_zalloc(env->arena, sizeof(*l));
	if (!l)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a stage");
	s->state = l;
	l->options = o;
	l->output = o->output;
	bool last = env->stage_no + 1 == (env->pipeline ? env->pipeline->n_stage : 0);
	l->show = df_show_on(last ? env->stream_fd : -1);
	DF_TRY(df_api_open(&l->api, &o->api, o->model, env, s->call_name, fail));
	DF_TRY(df_template_compile(o->prompt, env->arena, &l->prompt, fail));
	if (o->system.n)
		DF_TRY(df_template_compile(o->system, env->arena, &l->system, fail));
	return open_schema(l, fail);
}

static void close_(struct df_stage *s)
{
	struct llm *l = s->state;
	if (!l)
		return;
	df_schema_free(&l->schema);
	df_api_close(&l->api);
	s->state = NULL;
}

/* ------------------------------------------------------------------ asking */

static enum df_err add_turn(struct item *it, enum df_turn_role role, struct df_str text)
{
	DF_ASSERT(it->n_turn < TURNS_MAX);
	it->turn[it->n_turn++] = (struct df_ask_turn){role, text};
	return DF_OK;
}

static enum df_err system_text(const struct llm *l, const struct df_row *row, struct df_arena *arena,
			       struct df_str *ret, struct df_fail *fail)
{
	struct df_str text = {NULL, 0};
	if (l->system)
		DF_TRY(df_template_fill(l->system, row, arena, &text, fail));
	if (l->schema && l->told_in_words) {
		struct df_str schema = l->options->schema;
		static const char words[] = DF_LLM_SCHEMA_WORDS;
		char *p = df_arena_alloc(arena, text.n + 2 + sizeof(words) + schema.n);
		size_t n = 0;
		if (!p)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for a prompt");
		if (text.n) {
			memcpy(p, text.p, text.n);
			memcpy(p + text.n, "\n\n", 2);
			n = text.n + 2;
		}
		memcpy(p + n, words, sizeof(words) - 1);
		memcpy(p + n + sizeof(words) - 1, schema.p, schema.n);
		text = (struct df_str){p, n + sizeof(words) - 1 + schema.n};
	}
	*ret = text;
	return DF_OK;
}

/* DF_ERR_NOMEM is the batch's; anything else has rejected the document. */
static enum df_err first_turns(const struct llm *l, struct df_batch *b, struct item *it)
{
	struct df_str system = {NULL, 0}, prompt = {NULL, 0};
	struct df_fail why = {.msg = ""};
	enum df_err err = system_text(l, it->row, b->arena, &system, &why);
	if (err == DF_OK)
		err = df_template_fill(l->prompt, it->row, b->arena, &prompt, &why);
	if (err == DF_ERR_NOMEM)
		return err;
	if (err == DF_OK && !df_str_trim(prompt).n)
		err = df_fail(&why, DF_ERR_RANGE, "the prompt is empty");
	if (err != DF_OK) {
		df_doc_reject(b, it->row->doc, l->api.call_name, err, "%s", why.msg);
		return err;
	}
	if (system.n)
		DF_TRY(add_turn(it, DF_TURN_SYSTEM, system));
	return add_turn(it, DF_TURN_USER, prompt);
}

static void on_text(void *self, struct df_str text)
{
	df_show(&((const struct llm *)self)->show, text);
}

static void fill_ask(const struct llm *l, struct item *it, struct df_call *call)
{
	const struct df_llm_options *o = l->options;
	struct df_ask *ask = &call->ask;
	size_t bytes = 0;
	call->fresh = it->fresh;
	ask->kind = DF_ASK_CHAT;
	ask->turn = it->turn;
	ask->n_turn = it->n_turn;
	ask->temperature = o->temperature < 0 ? NAN : o->temperature;
	ask->top_p = o->top_p < 0 ? NAN : o->top_p;
	ask->max_tokens = o->max_tokens;
	ask->seed = o->seed;
	if (l->schema) {
		ask->schema = o->schema;
		ask->schema_name = DF_STR("answer");
		bytes = o->schema.n;
	}
	for (size_t i = 0; i < it->n_turn; i++)
		bytes += it->turn[i].text.n + 16;
	ask->tokens_in = df_api_tokens(bytes);
	if (l->show.fd >= 0 && !l->schema) { /* with a schema nothing is shown before it is checked */
		ask->stream = true;
		call->on_text = on_text;
		call->text_self = (void *)(uintptr_t)l;
	}
}

/* ------------------------------------------------------------------ answers */

static void reject(const struct llm *l, struct df_batch *b, struct item *it, enum df_err err, const char *words)
{
	df_doc_reject(b, it->row->doc, l->api.call_name, err, "%s", words);
}

/* True: the answer came whole. */
static bool is_whole(const struct llm *l, struct df_batch *b, struct item *it, const struct df_call *call)
{
	const struct df_answer *a = &call->answer;
	if (call->err != DF_OK) {
		reject(l, b, it, call->err, call->message[0] ? call->message : "the call failed");
		return false;
	}
	if (a->finish == DF_FINISH_STOP)
		return true;
	if (a->finish == DF_FINISH_LENGTH && l->options->truncated == DF_LLM_KEEP && !l->schema) {
		df_counters_add(b->counters, "truncated", 1);
		return true;
	}
	if (a->finish == DF_FINISH_LENGTH)
		reject(l, b, it, DF_ERR_LIMIT,
		       l->schema ? "the answer was cut off at max_tokens; allow more"
				 : "the answer was cut off at max_tokens; allow more, or truncated=keep");
	else
		df_doc_reject(b, it->row->doc, l->api.call_name, DF_ERR_UNSUPPORTED,
			      a->finish == DF_FINISH_FILTER
				      ? "the provider's content filter ended the answer (finish reason '%s')"
				      : "the answer ended neither by itself nor at its length (finish reason '%s')",
			      a->finish_word);
	return false;
}

/* The answer against the schema. *ret_again: it goes back; one that was kept is asked for anew before, or no later run could do better. */
static enum df_err validate(const struct llm *l, struct df_batch *b, struct item *it, struct df_str answer,
			    bool was_kept, bool *ret_again)
{
	struct df_buf why;
	struct df_str json = df_llm_bare_json(answer), complaint = {NULL, 0};
	df_buf_init(&why, 16384);
	enum df_err err = df_llm_check(l->schema, json, &why);
	bool wrong = err == DF_ERR_TYPE || err == DF_ERR_PARSE;
	if (err == DF_OK) {
		err = df_llm_compact(json, b->arena, &it->answer);
	} else if (wrong && was_kept && !it->fresh) {
		it->fresh = *ret_again = true;
		err = DF_OK;
	} else if (wrong && it->repaired < l->options->repair) {
		err = df_llm_complaint(df_buf_str(&why), b->arena, &complaint);
		struct df_str said = df_arena_copy(b->arena, answer);
		if (err == DF_OK && said.p) {
			DF_TRY(add_turn(it, DF_TURN_ASSISTANT, said.n ? said : DF_STR("(nothing)")));
			DF_TRY(add_turn(it, DF_TURN_USER, complaint));
			it->repaired++;
			it->fresh = false;
			df_counters_add(b->counters, "repaired", 1);
			*ret_again = true;
		}
		err = said.p ? err : DF_ERR_NOMEM;
	} else if (wrong) {
		df_doc_reject(b, it->row->doc, l->api.call_name, err,
			      "the answer is not valid against the schema: %.*s", (int)(why.n ? why.n - 1 : 0),
			      why.n ? why.p : "");
		err = DF_OK;
	} else if (err == DF_ERR_LIMIT) {
		df_doc_reject(b, it->row->doc, l->api.call_name, err,
			      "the answer cannot be checked against the schema: %.*s; ask for less at once",
			      (int)(why.n < 300 ? why.n : 300), why.n ? why.p : "");
		err = DF_OK;
	}
	df_buf_release(&why);
	return err;
}

static enum df_err take_answer(const struct llm *l, struct df_batch *b, struct item *it, const struct df_call *call,
			       bool *ret_again)
{
	*ret_again = false;
	if (!is_whole(l, b, it, call))
		return DF_OK;
	if (l->schema)
		return validate(l, b, it, call->answer.text, call->cached, ret_again);
	struct df_buf json;
	df_buf_init(&json, DF_API_ANSWER_BYTES * 6);
	enum df_err err = df_json_add_string(&json, call->answer.text);
	if (err == DF_OK) {
		it->answer = df_arena_copy(b->arena, df_buf_str(&json));
		err = it->answer.p ? DF_OK : DF_ERR_NOMEM;
	}
	df_buf_release(&json);
	return err;
}

/* One round over `item`; those that go back are moved to the front. */
static enum df_err round_(const struct llm *l, struct df_batch *b, struct item **item, size_t n, size_t *ret_again,
			  struct df_fail *fail)
{
	struct df_call *call = calloc(n, sizeof(*call));
	struct df_arena *arena = calloc(n, sizeof(*arena));
	size_t again = 0;
	enum df_err err = call && arena ? DF_OK : DF_ERR_NOMEM;
	for (size_t i = 0; i < n && err == DF_OK; i++) {
		err = df_api_prepare(&l->api, &call[i], &arena[i], item[i]->row->doc);
		fill_ask(l, item[i], &call[i]);
	}
	if (err == DF_OK)
		err = df_api_run(&l->api, call, n, b, fail);
	for (size_t i = 0; i < n && err == DF_OK; i++) {
		bool back = false;
		err = take_answer(l, b, item[i], &call[i], &back);
		if (back)
			item[again++] = item[i];
	}
	for (size_t i = 0; arena && i < n; i++)
		df_arena_release(&arena[i]);
	free(arena);
	free(call);
	*ret_again = again;
	return err == DF_ERR_NOMEM ? df_fail(fail, err, "no memory for %zu calls", n) : err;
}

static enum df_err collect(const struct llm *l, struct df_batch *b, struct item **ret_all, struct item **todo,
			   size_t *ret_n)
{
	struct item *all = df_arena_zalloc(b->arena, (b->n_row + 1) * sizeof(*all));
	size_t n = 0;
	if (!all)
		return DF_ERR_NOMEM;
	DF_EACH_LIVE_ROW(row, b)
	{
		struct item *it = &all[n];
		it->row = row;
		enum df_err err = first_turns(l, b, it);
		if (err == DF_ERR_NOMEM)
			return err;
		if (err == DF_OK)
			todo[n++] = it;
	}
	*ret_all = all;
	*ret_n = n;
	return DF_OK;
}

/* A row whose document was rejected meanwhile (by another of its rows) is not asked for. */
static size_t still_live(struct item **todo, size_t n)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		if (df_row_live(todo[i]->row))
			todo[kept++] = todo[i];
	return kept;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	const struct llm *l = s->state;
	struct item *all = NULL, **todo = df_arena_array(b->arena, b->n_row + 1, sizeof(*todo));
	size_t n = 0, left = 0;
	if (!todo || collect(l, b, &all, todo, &n) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the prompts of %zu rows", b->n_row);
	for (left = still_live(todo, n); left; left = still_live(todo, left)) {
		DF_TRY(round_(l, b, todo, left, &left, fail));
	}
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
