// SPDX-License-Identifier: Apache-2.0
/*
 * llm_rounds: asking until every row has its answer.
 *
 * DESIGN: all calls of a batch are out at once, in rounds. Round 0 asks for every row; an answer that the schema refuses goes back with the
 * checker's words as a further turn, and the next round asks for those rows alone.
 */
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "worker/stages/llm_own.h"

static void reject(const struct df_llm *l, struct df_batch *b, struct df_llm_item *it, enum df_err err,
		   const char *words)
{
	df_doc_reject(b, it->row->doc, l->api.call_name, err, "%s", words);
}

/* True: the answer came whole. */
static bool is_whole(const struct df_llm *l, struct df_batch *b, struct df_llm_item *it, const struct df_call *call)
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
static enum df_err validate(const struct df_llm *l, struct df_batch *b, struct df_llm_item *it, struct df_str answer,
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
			df_llm_add_turn(it, DF_TURN_ASSISTANT, said.n ? said : DF_STR("(nothing)"));
			df_llm_add_turn(it, DF_TURN_USER, complaint);
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

static enum df_err take_answer(const struct df_llm *l, struct df_batch *b, struct df_llm_item *it,
			       const struct df_call *call, bool *ret_again)
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
static enum df_err round_(const struct df_llm *l, struct df_batch *b, struct df_llm_item **item, size_t n,
			  size_t *ret_again, struct df_fail *fail)
{
	struct df_call *call = calloc(n, sizeof(*call));
	struct df_arena *arena = calloc(n, sizeof(*arena));
	size_t again = 0;
	enum df_err err = call && arena ? DF_OK : DF_ERR_NOMEM;
	for (size_t i = 0; i < n && err == DF_OK; i++) {
		err = df_api_prepare(&l->api, &call[i], &arena[i], item[i]->row->doc);
		df_llm_fill_ask(l, item[i], &call[i]);
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

/* A row whose document was rejected meanwhile (by another of its rows) is not asked for. */
static size_t still_live(struct df_llm_item **todo, size_t n)
{
	size_t kept = 0;
	for (size_t i = 0; i < n; i++)
		if (df_row_live(todo[i]->row))
			todo[kept++] = todo[i];
	return kept;
}

enum df_err df_llm_ask_all(const struct df_llm *l, struct df_batch *b, struct df_llm_item **todo, size_t n,
			   struct df_fail *fail)
{
	for (size_t left = still_live(todo, n); left; left = still_live(todo, left))
		DF_TRY(round_(l, b, todo, left, &left, fail));
	return DF_OK;
}
