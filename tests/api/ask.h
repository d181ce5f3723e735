// SPDX-License-Identifier: Apache-2.0
/*
 * ask: a request in the server's own words, read from any of the APIs' bodies; and the words that it is answered with.
 *
 * Answers follow from the request alone. The answer's words are the hash of the last user text (17 characters: 'h' and 16 hex digits), then that
 * text's own words, at most 9 in all; with the option tokens=N exactly N, going round. Usage is counted in words: of all texts of the
 * request (of a token array: its numbers), and of the answer.
 */
#ifndef DF_TESTS_API_ASK_H
#define DF_TESTS_API_ASK_H

#include "tests/api/json.h"
#include "tests/api/options.h"

enum api {
	API_NONE,
	API_CHAT,      /* OpenAI chat completions */
	API_RESPONSES, /* OpenAI responses */
	API_EMBED,     /* OpenAI embeddings; Voyage, Mistral, vLLM */
	API_ANTHROPIC,
	API_COHERE,
	API_COHERE_EMBED,
	API_GEMINI,
	API_GEMINI_EMBED,
	API_GEMINI_EMBEDS, /* batchEmbedContents */
	API_OLLAMA,
	API_OLLAMA_EMBED,
	API_TEI,
};

static inline bool api_embeds(enum api api)
{
	return api == API_EMBED || api == API_COHERE_EMBED || api == API_GEMINI_EMBED || api == API_GEMINI_EMBEDS ||
	       api == API_OLLAMA_EMBED || api == API_TEI;
}

struct input {
	struct span text; /* of a token array: its JSON */
	uint64_t tokens;
};

struct ask {
	enum api api;
	struct span model;
	struct span first, last; /* user texts */
	bool stream, include_usage, base64, marked;
	uint64_t tokens_in, max_tokens; /* 0: as many as there are */
	const struct json *schema;      /* NULL: none */
	uint64_t dimensions;
	struct input *input;
	size_t n_input, cap_input;
	/* --- the answer --- */
	struct bytes text; /* its words */
	uint64_t tokens_out;
	bool cut; /* by max_tokens */
};

/* The tree and the options outlive the ask, whose memory is used again. NULL, or why it is a bad request. */
const char *ask_read(struct ask *a, enum api api, struct span model, const struct json_tree *t,
		     const struct options *o);
/* Makes the answer's text. broken: one that breaks the schema. */
void ask_answer(struct ask *a, const struct json_tree *t, const struct options *o, bool broken);
void ask_free(struct ask *a);

/* schema.c: a value that the schema allows, with `word` where it wants a free string. Knows const, enum, type, properties, required, items, prefixItems,
 * minItems, minLength, minimum, maximum, exclusive ones, multipleOf, allOf, anyOf, oneOf, $ref within the schema; not pattern, format, not. */
void schema_value(const struct json_tree *t, const struct json *schema, struct span word, struct bytes *to);

#endif
