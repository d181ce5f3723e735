// SPDX-License-Identifier: Apache-2.0
/* help_provider: responses out of strings, for tests of worker/provider. */
#ifndef DF_TESTS_UNIT_HELP_PROVIDER_H
#define DF_TESTS_UNIT_HELP_PROVIDER_H

#include "worker/provider/provider.h"

/* headers: "name: value\nname: value"; names in lower case; may be NULL. */
struct df_http_response help_response(long status, const char *headers, const char *body);
const struct df_provider *help_provider(const char *name);
/* A chat of one system and one user turn, everything else unset; an ask for embeddings of "alpha", "beta", "gamma" (n of them). */
struct df_ask help_chat(const char *model);
struct df_ask help_embed(const char *model, size_t n);

#endif
