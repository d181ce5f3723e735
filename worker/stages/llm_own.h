// SPDX-License-Identifier: Apache-2.0
/* llm_own: the stage from inside: what opening (llm.c), prompts (llm_prompt.c) and rounds (llm_rounds.c) share. Not for others. */
#ifndef DF_WORKER_STAGES_LLM_OWN_H
#define DF_WORKER_STAGES_LLM_OWN_H

#include "worker/stages/llm.h"
#include "worker/stages/show.h"
#include "worker/stages/template.h"

#define DF_LLM_REPAIR_MAX 2
#define DF_LLM_TURNS_MAX (2 + 2 * DF_LLM_REPAIR_MAX)

struct df_llm {
	const struct df_llm_options *options;
	struct df_api api;
	struct df_template *prompt, *system; /* system NULL: none */
	struct df_schema *schema;            /* NULL: none */
	bool told_in_words;                  /* a route has no schema mode */
	struct df_str output;
	struct df_show show;
};

/* A row on its way. */
struct df_llm_item {
	struct df_row *row;
	struct df_ask_turn turn[DF_LLM_TURNS_MAX];
	size_t n_turn;
	int64_t repaired;
	bool fresh;           /* what the cache had for these turns did not fit */
	struct df_str answer; /* JSON, compact; or text */
};

/* The prompts of all live rows, one item for each whose document they did not reject; `todo` has room for all rows. DF_ERR_NOMEM. */
enum df_err df_llm_collect(const struct df_llm *l, struct df_batch *b, struct df_llm_item **ret_all,
			   struct df_llm_item **todo, size_t *ret_n) DF_MUST_CHECK;
void df_llm_add_turn(struct df_llm_item *it, enum df_turn_role role, struct df_str text);
/* Parameters and schema. */
void df_llm_set(const struct df_llm_options *o, struct df_ask *ask);
void df_llm_fill_ask(const struct df_llm *l, struct df_llm_item *it, struct df_call *call);

/* Asks until each of `todo` has its answer or its document is rejected; `todo` is used up. Errors are the run's. */
enum df_err df_llm_ask_all(const struct df_llm *l, struct df_batch *b, struct df_llm_item **todo, size_t n,
			   struct df_fail *fail) DF_MUST_CHECK;

#endif
