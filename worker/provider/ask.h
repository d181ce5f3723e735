// SPDX-License-Identifier: Apache-2.0
/*
 * ask: what is asked of a model and what it answers, in docflume's own words. Providers translate.
 *
 * All strings are UTF-8. Memory is the caller's: of an ask, whoever made it; of an answer, the arena that the parser was given.
 */
#ifndef DF_WORKER_PROVIDER_ASK_H
#define DF_WORKER_PROVIDER_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

enum df_ask_kind { DF_ASK_CHAT, DF_ASK_EMBED };
enum df_turn_role { DF_TURN_SYSTEM, DF_TURN_USER, DF_TURN_ASSISTANT };

struct df_ask_turn { /* not worker/process/turn.h's df_turn, which passes the right to compute */
	enum df_turn_role role;
	struct df_str text;
};

struct df_ask {
	enum df_ask_kind kind;
	struct df_str model; /* the provider's own id, without its prefix */
	/* --- chat --- */
	const struct df_ask_turn *turn;
	size_t n_turn;
	double temperature; /* NAN: the provider's default */
	double top_p;       /* NAN */
	int64_t max_tokens; /* of the answer; 0: the provider's default (Anthropic needs one: DF_ANTHROPIC_TOKENS is sent) */
	int64_t seed;       /* -1: none */
	struct df_str schema, schema_name; /* JSON text of a schema for the answer; empty: none */
	bool stream;
	/* --- embed --- */
	const struct df_str *input; /* none empty */
	size_t n_input;
	int64_t dimensions; /* 0: the model's */
	bool query; /* the inputs are questions, not documents; Cohere, Voyage and Gemini embed them differently */
	/* --- counted by whoever asks --- */
	uint64_t tokens_in; /* exact when there is a tokenizer, else an estimate: no less than half of the bytes */
	bool tokens_exact;
};

struct df_usage {
	uint64_t in, cached_in, out; /* tokens; cached_in is a part of in */
	bool known;                  /* false: the answer told nothing, and these are estimates */
};

/* Why an answer ended: the model was done; at a limit of tokens; by a filter or a refusal; for any other reason, known or not. Only the first two are
 * answers that may be kept. */
enum df_finish { DF_FINISH_STOP, DF_FINISH_LENGTH, DF_FINISH_FILTER, DF_FINISH_OTHER };

/* How a failed call is to be treated; by the official SDKs' order (x-should-retry, status, codes in the body). */
enum df_call_class {
	DF_CALL_OK,
	DF_CALL_RETRY,     /* 5xx, resets, time-outs, 408/409/425 (these once) */
	DF_CALL_RATE,      /* 429: a limit of the moment; the shared clock moves */
	DF_CALL_QUOTA,     /* 429 insufficient_quota, 402: no money left there: never again in this run */
	DF_CALL_AUTH,      /* 401, 403 */
	DF_CALL_BAD_INPUT, /* 400, 413, 422: this input is refused: bisect a batch, reject a document */
	DF_CALL_NOT_FOUND, /* 404: no such model or path */
	DF_CALL_BAD_ANSWER, /* 200, but not what was asked for: truncated JSON, wrong content type, wrong count of vectors */
	DF_N_CALL_CLASS
};

struct df_answer {
	enum df_call_class class;
	char message[512];      /* with a failure: the provider's words, without secrets */
	char code[64];          /* the provider's code: "rate_limit_exceeded", ...; may be empty */
	int64_t retry_after_ms; /* a floor; -1: not said */
	/* chat */
	struct df_str text;
	enum df_finish finish;
	char finish_word
		[48]; /* the provider's own word for it: "stop", "SAFETY"; one line; may be empty (an answer from the cache) */
	/* embed: n x dim, row i belongs to input i (matched by index) */
	float *vector;
	size_t n_vector;
	uint32_t dim;
	struct df_usage usage;
	struct df_str model; /* that answered, as it calls itself */
};

/* What headers say of limits; 0 or -1: not said. */
struct df_limit_news {
	int64_t requests_limit, requests_left, tokens_limit, tokens_left; /* -1: not said */
	int64_t requests_reset_ms, tokens_reset_ms, retry_after_ms;       /* -1 */
};

#endif
