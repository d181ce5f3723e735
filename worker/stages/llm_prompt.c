// SPDX-License-Identifier: Apache-2.0
/* llm_prompt: from a row to what a model is asked: the templates filled in, the turns, the parameters. */
#include <math.h>

#include "worker/stages/llm_own.h"
#include "worker/stages/rows.h"

void df_llm_add_turn(struct df_llm_item *it, enum df_turn_role role, struct df_str text)
{
	DF_ASSERT(it->n_turn < DF_LLM_TURNS_MAX);
	it->turn[it->n_turn++] = (struct df_ask_turn){role, text};
}

static enum df_err system_text(const struct df_llm *l, const struct df_row *row, struct df_arena *arena,
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
static enum df_err first_turns(const struct df_llm *l, struct df_batch *b, struct df_llm_item *it)
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
		df_llm_add_turn(it, DF_TURN_SYSTEM, system);
	df_llm_add_turn(it, DF_TURN_USER, prompt);
	return DF_OK;
}

static void on_text(void *self, struct df_str text)
{
	df_show(&((const struct df_llm *)self)->show, text);
}

void df_llm_set(const struct df_llm_options *o, struct df_ask *ask)
{
	ask->temperature = o->temperature < 0 ? NAN : o->temperature;
	ask->top_p = o->top_p < 0 ? NAN : o->top_p;
	ask->max_tokens = o->max_tokens;
	ask->seed = o->seed;
	ask->schema = o->schema;
	ask->schema_name = o->schema.n ? DF_STR("answer") : (struct df_str){NULL, 0};
}

void df_llm_fill_ask(const struct df_llm *l, struct df_llm_item *it, struct df_call *call)
{
	const struct df_llm_options *o = l->options;
	struct df_ask *ask = &call->ask;
	size_t bytes = 0;
	call->fresh = it->fresh;
	ask->kind = DF_ASK_CHAT;
	ask->turn = it->turn;
	ask->n_turn = it->n_turn;
	df_llm_set(o, ask);
	if (l->schema)
		bytes = o->schema.n;
	for (size_t i = 0; i < it->n_turn; i++)
		bytes += it->turn[i].text.n + 16;
	ask->tokens_in = df_api_tokens(bytes);
	if (l->show.fd >= 0 && !l->schema) { /* with a schema nothing is shown before it is checked */
		ask->stream = true;
		call->on_text = on_text;
		call->text_self = (void *)(uintptr_t)l;
	}
}

enum df_err df_llm_collect(const struct df_llm *l, struct df_batch *b, struct df_llm_item **ret_all,
			   struct df_llm_item **todo, size_t *ret_n)
{
	struct df_llm_item *all = df_arena_zalloc(b->arena, (b->n_row + 1) * sizeof(*all));
	size_t n = 0;
	if (!all)
		return DF_ERR_NOMEM;
	DF_EACH_LIVE_ROW(row, b)
	{
		struct df_llm_item *it = &all[n];
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
