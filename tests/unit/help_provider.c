// SPDX-License-Identifier: Apache-2.0
/* help_provider: responses out of strings, and plain asks. */
#include "tests/unit/help_provider.h"

#include <math.h>

static struct df_str header(const struct df_http_response *r, const char *name)
{
	const char *p = r->own;
	size_t n = strlen(name);
	while (p && *p) {
		const char *end = strchr(p, '\n');
		size_t line = end ? (size_t)(end - p) : strlen(p);
		if (line > n + 1 && strncmp(p, name, n) == 0 && p[n] == ':')
			return df_str_trim((struct df_str){p + n + 1, line - n - 1});
		p = end ? end + 1 : NULL;
	}
	return (struct df_str){NULL, 0};
}

struct df_http_response help_response(long status, const char *headers, const char *body)
{
	return (struct df_http_response){
		.phase = DF_HTTP_DONE, .status = status, .body = df_str_from(body), .header = header, .own = headers};
}

const struct df_provider *help_provider(const char *name)
{
	for (size_t i = 0; df_provider_registry[i]; i++)
		if (strcmp(df_provider_registry[i]->name, name) == 0)
			return df_provider_registry[i];
	return NULL;
}

struct df_ask help_chat(const char *model)
{
	static const struct df_ask_turn turn[] = {{DF_TURN_SYSTEM, {"Be brief.", 9}},
						  {DF_TURN_USER, {"Say \"hi\"\n\xe2\x9c\x93", 12}}};
	return (struct df_ask){.kind = DF_ASK_CHAT,
			       .model = df_str_from(model),
			       .turn = turn,
			       .n_turn = 2,
			       .temperature = (double)NAN,
			       .top_p = (double)NAN,
			       .seed = -1,
			       .tokens_in = 20};
}

struct df_ask help_embed(const char *model, size_t n)
{
	static const struct df_str input[] = {{"alpha", 5}, {"beta", 4}, {"gamma", 5}};
	return (struct df_ask){.kind = DF_ASK_EMBED,
			       .model = df_str_from(model),
			       .temperature = (double)NAN,
			       .top_p = (double)NAN,
			       .seed = -1,
			       .input = input,
			       .n_input = n,
			       .tokens_in = 5};
}
