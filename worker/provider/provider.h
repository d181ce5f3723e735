// SPDX-License-Identifier: Apache-2.0
/*
 * provider: how one kind of API is spoken: pure functions from an ask to a request and from bytes to an answer. One const
 * struct per kind, one file each, named in registry.c; a model id finds its provider by pattern.
 *
 *   "gpt-4o-mini" -> openai; "claude-sonnet-4-5" -> anthropic; "openai/any", "ollama/any", "mistral/any", ... -> by prefix, the rest is the
 *   model's id there; "fake/..." and "recorded/..." cost nothing and need no network.
 *
 * No I/O, no clock, no environment here: keys and base URLs come in by df_endpoint. The fake and the recorded provider answer without a network:
 * they have `answer` instead of build, parse and event.
 */
#ifndef DF_WORKER_PROVIDER_PROVIDER_H
#define DF_WORKER_PROVIDER_PROVIDER_H

#include "base/buf.h"
#include "worker/net/http.h"
#include "worker/provider/ask.h"

struct df_endpoint {
	struct df_str base_url; /* "https://api.openai.com/v1", without a slash at its end */
	struct df_str key;      /* secret; may be empty (local servers) */
	struct df_str key_env;  /* the name of the variable it came from, or would; may be empty */
	struct df_str organization, project, api_version; /* may be empty */
};

/* What a provider wants sent. Memory: the arena. */
struct df_http_parts {
	const char *method, *url;
	struct df_http_header header[12];
	size_t n_header;
	struct df_str body;
};

/* A stream's state between two events: kept by whoever reads, zeroed at first, released by df_stream_release. */
struct df_stream {
	struct df_buf text; /* all of it so far */
	struct df_usage usage;
	enum df_finish finish;
	char finish_word[48];
	struct df_buf whole; /* the body, where one JSON text came instead of events (df_stream_take) */
	bool plain, begun;
	char begin[64]; /* of the body, for messages */
	size_t n_begin;
	char model[64]; /* that answers, as it calls itself */
	bool finished;  /* a finish reason came */
	bool ended; /* the end event came: only then is the answer whole. More events may follow (usage): read on to the body's end */
	bool failed; /* an error event came: see the answer; no more events are wanted */
};

enum df_stream_form {
	DF_STREAM_SSE,  /* worker/net/sse.h */
	DF_STREAM_LINES /* one JSON text per line (NDJSON); an event is a line that is not empty, its type is empty */
};

struct df_provider {
	const char *name;           /* "openai" */
	const char *summary;        /* for `docflume models` */
	const char *const *pattern; /* model ids: "gpt-*", "o?-*"; ends with NULL; the prefix "NAME/" always works */
	const char *base_url;       /* default */
	const char *base_url_env;   /* e.g. OPENAI_BASE_URL; NULL: none */
	const char *key_env;        /* e.g. OPENAI_API_KEY; NULL: it needs no key */
	bool key_optional;          /* it is asked without a key too */
	bool free;                  /* runs on one's own machines: price 0 unless a user's row says otherwise */
	const char *kin;            /* whose rows of the table of models hold here too; NULL: none */
	bool schema_mode;           /* it can be held to a JSON schema */
	/* ... to this one by this model (ask->schema, ask->model)? Else it is not sent with a request, and the model must be told it in words. NULL: to any. */
	bool (*holds)(const struct df_ask *ask, struct df_arena *scratch);
	enum df_stream_form stream_form;
	uint32_t embed_inputs_max; /* inputs of one request (2048) */
	uint64_t embed_tokens_max; /* tokens of one request (300,000); 0: no limit known */
	enum df_err (*build)(const struct df_ask *ask, const struct df_endpoint *to, struct df_arena *arena,
			     struct df_http_parts *ret, struct df_fail *fail);
	/* Any status, also none (response->err). Never fails: what cannot be read is an answer of a failing class. */
	void (*parse)(const struct df_ask *ask, const struct df_http_response *response, struct df_arena *arena,
		      struct df_answer *ret);
	/* One event of a stream. new_text gets what the event added (it lies in stream->text, valid until the next event); `arena` is scratch and may be
	 * reset after each event; ret is filled when stream->failed. */
	void (*event)(const struct df_ask *ask, struct df_str type, struct df_str data, struct df_stream *stream,
		      struct df_str *ret_new_text, struct df_arena *arena, struct df_answer *ret);
	void (*limits)(const struct df_http_response *response, struct df_limit_news *ret); /* from headers */
	/* Without a network: the answer, how long it takes (the engine waits for it by a timer), and for a stream its pieces' number (the text is cut in
	 * that many). NULL: a provider with a network. May read files (cassettes), opened beforehand by `open`. */
	void (*answer)(void *state, const struct df_ask *ask, struct df_arena *arena, struct df_answer *ret,
		       uint64_t *ret_delay_ns, uint32_t *ret_pieces);
	enum df_err (*open)(struct df_str model, void **ret_state,
			    struct df_fail *fail); /* once per route; may be NULL */
	void (*close)(void *state);
};

extern const struct df_provider *const df_provider_registry[]; /* ends with NULL */

/* When the body is at its end: the whole answer from what the events brought, the text copied into the arena; BAD_ANSWER when the end event or any text is
 * missing. Usage that never came is estimated from above. With stream->failed: leaves ret as the event filled it. */
void df_stream_answer(const struct df_ask *ask, const struct df_stream *stream, struct df_arena *arena,
		      struct df_answer *ret);
void df_stream_release(struct df_stream *stream);

/*
 * Some servers pass over "stream": true and answer whole. df_stream_take sees every byte of a stream's body first. True: they are not events but a part of one
 * JSON text, kept in stream->whole; when the body is at its end that is for `parse` (stream->plain). False: they are for the reader of events. More than
 * DF_PLAIN_STREAM_MAX, or no memory: stream->failed, and ret says so.
 */
bool df_stream_take(struct df_stream *stream, enum df_stream_form form, const char *p, size_t n, struct df_answer *ret);
/* At the end of a body of events: may they be of the type that the header names? False: ret is BAD_ANSWER, with the type and what the body begins with. */
bool df_stream_typed(const struct df_stream *stream, enum df_stream_form form, const struct df_http_response *response,
		     struct df_answer *ret);

/* The key gone from message and code, whole or cut at their end, even when a server echoed it. To be called on every answer that is shown or kept. */
void df_answer_mask(struct df_answer *answer, const struct df_endpoint *to);
/* Where a model was asked that a failure ends for the run, by which variable's key (its name), and what to do about it; to be put behind the message. Nothing
 * where there is nothing to do. status 0: none came. */
void df_answer_advise(enum df_call_class class, long status, const struct df_provider *p, const struct df_endpoint *at,
		      char *to, size_t size);
/* Is this provider's model held to ask->schema by what `build` makes of it? */
bool df_provider_holds(const struct df_provider *p, const struct df_ask *ask, struct df_arena *scratch);
/* Can it be asked there without a key? (a server of one's own that speaks like OpenAI: a base URL that is not the default) */
bool df_provider_needs_key(const struct df_provider *p, struct df_str base_url);

/* "openai/any" or "gpt-4o": the provider, and the model's id there (points into `id`). DF_ERR_NOT_FOUND lists what is known and
 * the nearest ids. Rows of users are not looked at: df_models_find does. */
enum df_err df_provider_find(struct df_str id, const struct df_provider **ret_provider, struct df_str *ret_model,
			     struct df_fail *fail) DF_MUST_CHECK;

/* --- the table of models: built in, and the user's YAML --- */

struct df_model_info {
	struct df_str id; /* "gpt-4o-mini"; of the table's rows perhaps a pattern, "gpt-4o-????-??-??" */
	struct df_str provider;
	struct df_str model, base_url, key_env; /* of a user's row; empty: as the provider says */
	enum df_ask_kind kind;
	bool kind_known;              /* false: nobody has said it, and `kind` is a guess */
	uint64_t context, max_output; /* tokens; 0: unknown */
	uint32_t dim;                 /* embed; 0: unknown */
	/* USD per million tokens; NAN: unknown, and then refused under a budget */
	double price_in, price_cached_in, price_out;
	uint64_t long_from; /* inputs of more tokens cost double, and their answers 1.5 times; 0: never */
	/* limits that a user set; 0: none */
	uint64_t rpm, tpm, rpd, tpd, concurrency;
	struct df_str tokenizer; /* "gpt2", ... ; empty: none known */
};

struct df_models;
/* Built-in rows, then `yaml_path` (may be NULL; ${XDG_CONFIG_HOME:-~/.config}/docflume/models.yaml is read when it is there). DF_ERR_USAGE: it has a mistake
 * (path, line and column), or is there and cannot be read; DF_ERR_NOT_FOUND: `yaml_path` is not there. */
enum df_err df_models_open(const char *yaml_path, struct df_models **ret_models, struct df_fail *fail) DF_MUST_CHECK;
void df_models_close(struct df_models **models);
/* That of the default place, read by the first call and kept while the process lives, so that what was checked at the start is what is asked later. Any thread. */
enum df_err df_models_shared(const struct df_models **ret_models, struct df_fail *fail) DF_MUST_CHECK;
/* Never fails: an unknown model has only id and provider, prices NAN (0 where the provider is free). `id` is the caller's, all else the table's. */
struct df_model_info df_models_get(const struct df_models *m, struct df_str id);
/* What a route needs: users' rows first (their `model` and `provider`), then df_provider_find. *ret_model points into `id` or the table. */
enum df_err df_models_find(const struct df_models *m, struct df_str id, const struct df_provider **ret_provider,
			   struct df_str *ret_model, struct df_model_info *ret_info,
			   struct df_fail *fail) DF_MUST_CHECK;
const struct df_model_info *df_models_all(const struct df_models *m, size_t *ret_n);

/* USD of a usage; NAN when a price is unknown (a cached token costs as any other then). The worst case of an ask before it is sent: tokens_in (where
 * it is an estimate, a token for each byte) and max_tokens, or what the provider sends for none, or max_output, or all of the context. */
double df_price_of(const struct df_model_info *model, const struct df_usage *usage);
double df_price_worst(const struct df_model_info *model, const struct df_ask *ask);

#endif
