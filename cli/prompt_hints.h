// SPDX-License-Identifier: Apache-2.0
/* prompt_hints: what is allowed in a prompt and hardly ever meant: told once, before anything is asked. */
#ifndef DF_CLI_PROMPT_HINTS_H
#define DF_CLI_PROMPT_HINTS_H

#include "base/pipeline.h"

/* Warns (log) of each llm stage whose prompt and system have no place for a field, so that every document is asked the same. `p` is checked. */
void df_prompt_hints(const struct df_pipeline *p);

#endif
