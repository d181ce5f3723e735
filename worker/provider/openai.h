// SPDX-License-Identifier: Apache-2.0
/*
 * openai: chat completions and embeddings as OpenAI words them; Mistral, Voyage, vLLM and many servers speak the same with small differences, which
 * the dialect names.
 */
#ifndef DF_WORKER_PROVIDER_OPENAI_H
#define DF_WORKER_PROVIDER_OPENAI_H

#include "worker/provider/wire/wire.h"

struct df_openai_dialect {
	const char *base_url;
	bool reasoning; /* models by the name o1, gpt-5, ... want max_completion_tokens and refuse temperature and top_p */
	bool stream_options; /* asks for usage in streams; who does not know the word sends it anyway */
	bool any_schema;     /* takes schemas whose root is no object */
	bool base64;         /* embeddings may be asked for so */
	bool input_type;     /* embeddings tell questions from documents; too long inputs are refused, not cut */
	const char *seed;    /* its name */
	const char *dimensions;
};

enum df_err df_openai_build(const struct df_openai_dialect *d, const struct df_ask *ask, const struct df_endpoint *to,
			    struct df_arena *arena, struct df_http_parts *ret, struct df_fail *fail) DF_MUST_CHECK;
/* URL and the headers that all of OpenAI's own calls have. */
enum df_err df_openai_start(const struct df_endpoint *to, const char *base_url, const char *path,
			    struct df_arena *arena, struct df_http_parts *ret, struct df_fail *fail) DF_MUST_CHECK;
void df_openai_parse(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		     struct df_answer *ret);
void df_openai_event(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		     struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret);
/* o1, o3, gpt-5, ...: tokens of thought are counted within the answer's, and sampling cannot be set. */
bool df_openai_reasons(struct df_str model);

#endif
