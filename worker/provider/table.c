// SPDX-License-Identifier: Apache-2.0
/*
 * table: the models that docflume knows from the start: context (the longest input), longest answer, dimension, and USD per million tokens.
 *
 * Noted on 2026-08-06, from LiteLLM's public model_prices_and_context_window.json (its repository of that day, and copies of it of 2026-07-24); dimensions of
 * Mistral, Cohere and Voyage are the providers' defaults. Prices change: docs/PROVIDERS.md says how to set one's own. What is not known is NAN or 0.
 */
#include "worker/provider/table.h"

#include <math.h>

#define S(z)                                                                                                           \
	{                                                                                                              \
		(z), sizeof(z) - 1                                                                                     \
	}
/* context, answer, in, cached, out, long_from */
#define CHAT(p, i, c, a, in, cached, out, from)                                                                        \
	{                                                                                                              \
		.id = S(i), .provider = S(p), .kind = DF_ASK_CHAT, .context = (c), .max_output = (a),                  \
		.price_in = (in), .price_cached_in = (cached), .price_out = (out), .long_from = (from)                 \
	}
/* context, dimension, in */
#define EMBED(p, i, c, d, in)                                                                                          \
	{                                                                                                              \
		.id = S(i), .provider = S(p), .kind = DF_ASK_EMBED, .context = (c), .dim = (d), .price_in = (in),      \
		.price_cached_in = NAN, .price_out = 0                                                                 \
	}

/* clang-format off */
static const struct df_model_info rows[] = {
	CHAT("openai", "gpt-5.6", 1050000, 128000, 5, 0.5, 30, 272000),
	CHAT("openai", "gpt-5.5", 1050000, 128000, 5, 0.5, 30, 272000),
	CHAT("openai", "gpt-5.4", 1050000, 128000, 2.5, 0.25, 15, 272000),
	CHAT("openai", "gpt-5.4-mini", 400000, 128000, 0.75, 0.075, 4.5, 0),
	CHAT("openai", "gpt-5.4-nano", 400000, 128000, 0.2, 0.02, 1.25, 0),
	CHAT("openai", "gpt-5.2", 272000, 128000, 1.75, 0.175, 14, 0),
	CHAT("openai", "gpt-5.1", 272000, 128000, 1.25, 0.125, 10, 0),
	CHAT("openai", "gpt-5", 272000, 128000, 1.25, 0.125, 10, 0),
	CHAT("openai", "gpt-5-mini", 272000, 128000, 0.25, 0.025, 2, 0),
	CHAT("openai", "gpt-5-nano", 272000, 128000, 0.05, 0.005, 0.4, 0),
	CHAT("openai", "gpt-5-chat-latest", 128000, 16384, 1.25, 0.125, 10, 0),
	CHAT("openai", "gpt-5-pro", 400000, 128000, 15, NAN, 120, 0),
	CHAT("openai", "gpt-5.2-pro", 272000, 128000, 21, NAN, 168, 0),
	CHAT("openai", "gpt-5-codex", 272000, 128000, 1.25, 0.125, 10, 0),
	CHAT("openai", "gpt-4.1", 1047576, 32768, 2, 0.5, 8, 0),
	CHAT("openai", "gpt-4.1-mini", 1047576, 32768, 0.4, 0.1, 1.6, 0),
	CHAT("openai", "gpt-4.1-nano", 1047576, 32768, 0.1, 0.025, 0.4, 0),
	CHAT("openai", "gpt-4o", 128000, 16384, 2.5, 1.25, 10, 0),
	CHAT("openai", "gpt-4o-2024-05-13", 128000, 4096, 5, NAN, 15, 0),
	CHAT("openai", "gpt-4o-mini", 128000, 16384, 0.15, 0.075, 0.6, 0),
	CHAT("openai", "gpt-4-turbo", 128000, 4096, 10, NAN, 30, 0),
	CHAT("openai", "gpt-4", 8192, 4096, 30, NAN, 60, 0),
	CHAT("openai", "gpt-3.5-turbo", 16385, 4096, 0.5, NAN, 1.5, 0),
	CHAT("openai", "o4-mini", 200000, 100000, 1.1, 0.275, 4.4, 0),
	CHAT("openai", "o3", 200000, 100000, 2, 0.5, 8, 0),
	CHAT("openai", "o3-mini", 200000, 100000, 1.1, 0.55, 4.4, 0),
	CHAT("openai", "o3-pro", 200000, 100000, 20, NAN, 80, 0),
	CHAT("openai", "o1", 200000, 100000, 15, 7.5, 60, 0),
	CHAT("openai", "o1-pro", 200000, 100000, 150, NAN, 600, 0),
	EMBED("openai", "text-embedding-3-small", 8191, 1536, 0.02),
	EMBED("openai", "text-embedding-3-large", 8191, 3072, 0.13),
	EMBED("openai", "text-embedding-ada-002", 8191, 1536, 0.1),
	CHAT("anthropic", "claude-opus-5", 1000000, 128000, 5, 0.5, 25, 0),
	CHAT("anthropic", "claude-sonnet-5", 1000000, 128000, 2, 0.2, 10, 0),
	CHAT("anthropic", "claude-opus-4-8", 1000000, 128000, 5, 0.5, 25, 0),
	CHAT("anthropic", "claude-opus-4-7", 1000000, 128000, 5, 0.5, 25, 0),
	CHAT("anthropic", "claude-opus-4-6", 1000000, 128000, 5, 0.5, 25, 0),
	CHAT("anthropic", "claude-opus-4-5", 200000, 64000, 5, 0.5, 25, 0),
	CHAT("anthropic", "claude-opus-4-1", 200000, 32000, 15, 1.5, 75, 0),
	CHAT("anthropic", "claude-sonnet-4-6", 1000000, 64000, 3, 0.3, 15, 0),
	CHAT("anthropic", "claude-sonnet-4-5", 200000, 64000, 3, 0.3, 15, 200000),
	CHAT("anthropic", "claude-haiku-4-5", 200000, 64000, 1, 0.1, 5, 0),
	CHAT("anthropic", "claude-opus-4-20250514", 200000, 32000, 15, 1.5, 75, 0),
	CHAT("anthropic", "claude-sonnet-4-20250514", 1000000, 64000, 3, 0.3, 15, 200000),
	CHAT("anthropic", "claude-3-7-sonnet-20250219", 200000, 64000, 3, 0.3, 15, 0),
	CHAT("anthropic", "claude-3-haiku-20240307", 200000, 4096, 0.25, 0.03, 1.25, 0),
	CHAT("gemini", "gemini-3.6-flash", 1048576, 65536, 1.5, 0.15, 7.5, 0),
	CHAT("gemini", "gemini-3.5-flash", 1048576, 65535, 1.5, 0.15, 9, 0),
	CHAT("gemini", "gemini-3.5-flash-lite", 1048576, 65536, 0.3, 0.03, 2.5, 0),
	CHAT("gemini", "gemini-3.1-pro-preview", 1048576, 65536, 2, 0.2, 12, 200000),
	CHAT("gemini", "gemini-3.1-flash-lite", 1048576, 65536, 0.25, 0.025, 1.5, 0),
	CHAT("gemini", "gemini-2.5-pro", 1048576, 65535, 1.25, 0.125, 10, 200000),
	CHAT("gemini", "gemini-2.5-flash", 1048576, 65535, 0.3, 0.03, 2.5, 0),
	CHAT("gemini", "gemini-2.5-flash-lite", 1048576, 65535, 0.1, 0.01, 0.4, 0),
	CHAT("gemini", "gemini-2.0-flash", 1048576, 8192, 0.1, 0.025, 0.4, 0),
	CHAT("gemini", "gemini-2.0-flash-lite", 1048576, 8192, 0.075, 0.01875, 0.3, 0),
	EMBED("gemini", "gemini-embedding-001", 2048, 3072, 0.15),
	EMBED("gemini", "gemini-embedding-2", 8192, 3072, 0.2),
	CHAT("mistral", "mistral-large-latest", 262144, 262144, 0.5, NAN, 1.5, 0),
	CHAT("mistral", "mistral-large-2512", 262144, 262144, 0.5, NAN, 1.5, 0),
	CHAT("mistral", "mistral-large-2411", 128000, 128000, 2, NAN, 6, 0),
	CHAT("mistral", "mistral-medium-latest", 262144, 262144, 1.5, NAN, 7.5, 0),
	CHAT("mistral", "mistral-medium-2508", 131072, 131072, 0.4, NAN, 2, 0),
	CHAT("mistral", "mistral-small-latest", 131072, 131072, 0.06, NAN, 0.18, 0),
	CHAT("mistral", "ministral-8b-latest", 262144, 262144, 0.15, NAN, 0.15, 0),
	CHAT("mistral", "magistral-medium-latest", 40000, 40000, 2, NAN, 5, 0),
	CHAT("mistral", "codestral-2508", 256000, 256000, 0.3, NAN, 0.9, 0),
	CHAT("mistral", "open-mistral-nemo", 128000, 128000, 0.3, NAN, 0.3, 0),
	EMBED("mistral", "mistral-embed", 8192, 1024, 0.1),
	EMBED("mistral", "codestral-embed", 8192, 1536, 0.15),
	CHAT("cohere", "command-a-03-2025", 256000, 8000, 2.5, NAN, 10, 0),
	CHAT("cohere", "command-r-08-2024", 128000, 4096, 0.15, NAN, 0.6, 0),
	CHAT("cohere", "command-r-plus-08-2024", 128000, 4096, 2.5, NAN, 10, 0),
	CHAT("cohere", "command-r7b-12-2024", 128000, 4096, 0.0375, NAN, 0.15, 0),
	EMBED("cohere", "embed-v4.0", 128000, 1536, 0.12),
	EMBED("cohere", "embed-english-v3.0", 512, 1024, 0.1),
	EMBED("cohere", "embed-english-light-v3.0", 512, 384, 0.1),
	EMBED("cohere", "embed-multilingual-v3.0", 512, 1024, 0.1),
	EMBED("voyage", "voyage-3-large", 32000, 1024, 0.18),
	EMBED("voyage", "voyage-3.5", 32000, 1024, 0.06),
	EMBED("voyage", "voyage-3.5-lite", 32000, 1024, 0.02),
	EMBED("voyage", "voyage-3", 32000, 1024, 0.06),
	EMBED("voyage", "voyage-3-lite", 32000, 512, 0.02),
	EMBED("voyage", "voyage-code-3", 32000, 1024, 0.18),
	EMBED("voyage", "voyage-finance-2", 32000, 1024, 0.12),
	EMBED("voyage", "voyage-law-2", 16000, 1024, 0.12),
};
/* clang-format on */

const struct df_model_info *df_table_rows(size_t *ret_n)
{
	*ret_n = sizeof(rows) / sizeof(rows[0]);
	return rows;
}

/* Length of a version at the end: "-2024-08-06", "-20250929"; of Gemini "-001". 0: none. */
static size_t version(struct df_str id)
{
	static const char *const form[] = {"-dddd-dd-dd", "-dddddddd", "-00d"};
	for (size_t f = 0; f < sizeof(form) / sizeof(form[0]); f++) {
		size_t n = strlen(form[f]), i = 0;
		if (id.n <= n)
			continue;
		const char *at = id.p + id.n - n;
		while (i < n && (form[f][i] == 'd' ? at[i] >= '0' && at[i] <= '9' : at[i] == form[f][i]))
			i++;
		if (i == n)
			return n;
	}
	return 0;
}

static const struct df_model_info *exact(struct df_str provider, struct df_str model)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (df_str_eq(rows[i].provider, provider) && df_str_eq(rows[i].id, model))
			return &rows[i];
	return NULL;
}

const struct df_model_info *df_table_find(struct df_str provider, struct df_str model)
{
	const struct df_model_info *row = exact(provider, model);
	return row ? row : exact(provider, (struct df_str){model.p, model.n - version(model)});
}

struct df_str df_table_tokenizer(struct df_str provider, struct df_str model)
{
	static const char *const o200k[] = {"gpt-4o*", "gpt-4.1*", "gpt-5*", "o[1-9]", "o[1-9]-*", "chatgpt-4o*", NULL};
	static const char *const cl100k[] = {"gpt-4", "gpt-4-*", "gpt-3.5-turbo*", "text-embedding-*", NULL};
	if (!df_str_is(provider, "openai"))
		return (struct df_str){"", 0};
	return df_wire_match(model, o200k)    ? DF_STR("o200k_base")
	       : df_wire_match(model, cl100k) ? DF_STR("cl100k_base")
					      : (struct df_str){"", 0};
}
