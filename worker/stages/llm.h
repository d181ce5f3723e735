// SPDX-License-Identifier: Apache-2.0
/* llm: what the two halves of the stage share: asking (llm.c) and what an answer must be (llm_answer.c). */
#ifndef DF_WORKER_STAGES_LLM_H
#define DF_WORKER_STAGES_LLM_H

#include "worker/check/schema.h"
#include "worker/stages/api.h"

enum df_llm_truncated { DF_LLM_REJECT, DF_LLM_KEEP };

struct df_llm_options {
	struct df_str model, prompt, system, schema, output, preset;
	double temperature, top_p;
	int64_t max_tokens, seed, repair;
	int truncated; /* enum df_llm_truncated */
	struct df_api_options api;
};

extern const struct df_stage_class df_stage_llm;

/* The words that a model without a schema mode is told, behind the system prompt. */
#define DF_LLM_SCHEMA_WORDS                                                                                            \
	"Answer with one JSON value and nothing else: no words before or after it, no code fence. It must be valid "   \
	"against this JSON Schema:\n"

/* JSON as a model wrote it: without blanks around it and without the code fence that some put around it. */
struct df_str df_llm_bare_json(struct df_str answer);
/* `json` is valid: without blanks between its tokens, so that it fits on one line. DF_ERR_NOMEM. */
enum df_err df_llm_compact(struct df_str json, struct df_arena *arena, struct df_str *ret_json) DF_MUST_CHECK;
/* As df_schema_check, in memory of its own: at most DF_ANSWER_CHECK_BYTES, and all given back. More is DF_ERR_LIMIT, as are
 * too many steps, and `why` says which. */
enum df_err df_llm_check(const struct df_schema *schema, struct df_str json, struct df_buf *why) DF_MUST_CHECK;
/* What goes back to the model with an answer that is not valid. DF_ERR_NOMEM. */
enum df_err df_llm_complaint(struct df_str why, struct df_arena *arena, struct df_str *ret_text) DF_MUST_CHECK;

#endif
