// SPDX-License-Identifier: Apache-2.0
/*
 * api: what the stages that ask a model over the network share: the options about model, limits and retries, opening routes, running a batch's calls,
 * and what their outcomes mean for documents and for the run.
 */
#ifndef DF_WORKER_STAGES_API_H
#define DF_WORKER_STAGES_API_H

#include "worker/call/call.h"
#include "worker/stage.h"

#define DF_API_FALLBACKS_MAX 8
#define DF_API_ANSWER_BYTES ((size_t)64 << 20) /* of one call's arena */
#define DF_API_ARENA_BYTES 1024U               /* with which it begins: there are thousands */

struct df_api_options {
	struct df_str_list fallback;
	struct df_str base_url, key_env;
	int64_t rpm, tpm, rpd, tpd, concurrency, attempts;
	uint64_t timeout_ns, hedge_ns;
	bool cache;
};

/* Rows for a table whose options struct has a `struct df_api_options api`. */
/* clang-format off */
#define DF_API_ROW(T, m) offsetof(T, api.m)
#define DF_API_ROWS(T)                                                                                                 \
	{.name = "base_url", .type = DF_OPT_STRING, .offset = DF_API_ROW(T, base_url), .max = 2048, .value_name = "URL",   \
	 .help = "Where the API is, for this stage alone, fall-backs of the same provider included; else the model's row "  \
		 "in models.yaml, the provider's variable or its own address counts"},                                          \
	{.name = "key_env", .pace = true, .type = DF_OPT_STRING, .offset = DF_API_ROW(T, key_env), .max = 128, .value_name = "NAME",     \
	 .help = "The variable that holds the key, when it is not the provider's usual one; fall-backs of the same "        \
		 "provider use it too"},                                                                                        \
	{.name = "rpm", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, rpm), .min = 0, .max = 1e9,                            \
	 .help = "Requests per minute, for all processes of this machine together; 0: as the provider says"},              \
	{.name = "tpm", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, tpm), .min = 0, .max = 1e12,                           \
	 .help = "Tokens per minute; 0: as the provider says"},                                                            \
	{.name = "rpd", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, rpd), .min = 0, .max = 1e9,                            \
	 .help = "Requests per day (UTC), over all runs; at the limit the run stops with exit code 4"},                    \
	{.name = "tpd", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, tpd), .min = 0, .max = 1e12,                           \
	 .help = "Tokens per day (UTC), over all runs"},                                                                   \
	{.name = "concurrency", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, concurrency), .min = 0, .max = 16384,          \
	 .help = "Calls in flight, of all processes together; 0: no limit"},                                               \
	{.name = "timeout", .pace = true, .type = DF_OPT_TIME, .offset = DF_API_ROW(T, timeout_ns), .initial = "10m", .min = 0.001,      \
	 .max = 86400, .help = "For one request, from its sending to the answer's end"},                                   \
	{.name = "attempts", .pace = true, .type = DF_OPT_INT, .offset = DF_API_ROW(T, attempts), .initial = "5", .min = 1, .max = 100,  \
	 .help = "Requests for one call, when answers fail for a passing reason"},                                         \
	{.name = "hedge", .pace = true, .type = DF_OPT_TIME, .offset = DF_API_ROW(T, hedge_ns), .min = 0, .max = 86400,                  \
	 .help = "Ask a second time beside a request that is silent for so long; the first answer counts. 0: never"},      \
	{.name = "fallback", .type = DF_OPT_LIST, .offset = DF_API_ROW(T, fallback), .max = 2048,                          \
	 .value_name = "MODEL,MODEL", .help = "Models to be asked, in this order, when the one before fails for good; "    \
		 "those of another provider, and those whose row in models.yaml has a base_url, are asked there with their own key"}, \
	{.name = "cache", .pace = true, .type = DF_OPT_BOOL, .offset = DF_API_ROW(T, cache), .initial = "true",                          \
	 .help = "Keep answers, so that no call is paid for twice"}
/* clang-format on */

struct df_api {
	struct df_caller *caller;
	struct df_compute_turn *turn;
	struct df_route *route[1 + DF_API_FALLBACKS_MAX];
	size_t n_route;
	struct df_retry_options retry;
	bool no_cache;
	const char *call_name;
};

/* An http(s) URL without what may be a secret: a pipeline's text is written down (run.json, status, logs). The message does not repeat it. */
enum df_err df_api_check_url(const char *option, struct df_str url, struct df_fail *fail) DF_MUST_CHECK;
/* The models' names are known (also by the user's models.yaml, which is read here), there are not too many fall-backs, and base URLs can be ones: that of the
 * option, and those of the variables that would count. */
enum df_err df_api_check(const struct df_api_options *o, struct df_str model, struct df_fail *fail) DF_MUST_CHECK;
/* Can each of them be asked so? (words of a model that makes embeddings, a temperature that the provider refuses, ...) `like` is an ask as they will be; its model is
 * not looked at. */
enum df_err df_api_check_ask(const struct df_api_options *o, struct df_str model, const struct df_ask *like,
			     struct df_fail *fail) DF_MUST_CHECK;
enum df_err df_api_open(struct df_api *api, const struct df_api_options *o, struct df_str model,
			const struct df_stage_env *env, const char *call_name, struct df_fail *fail) DF_MUST_CHECK;
void df_api_close(struct df_api *api); /* accepts a zeroed one */

/* Makes `call` ready but for its ask. Its arena is its own (of DF_API_ARENA_BYTES); df_api_release gives it back. */
enum df_err df_api_prepare(const struct df_api *api, struct df_call *call, struct df_arena *arena,
			   const struct df_doc *doc);
/* Asks all, waits for all (without the compute turn) and counts: calls, cached, tokens_in, tokens_out, usd_nano. An error is the run's, not a document's: what
 * stops it (DF_ERR_QUOTA, DF_ERR_USAGE, DF_ERR_INTERRUPTED, DF_ERR_NOMEM); then no outcome means anything. */
enum df_err df_api_run(const struct df_api *api, struct df_call *call, size_t n, struct df_batch *batch,
		       struct df_fail *fail) DF_MUST_CHECK;

/* Upper estimate of a text's tokens without its tokenizer: a byte-pair token has two bytes or more in any text but the oddest. */
static inline uint64_t df_api_tokens(size_t bytes)
{
	return bytes / 2 + 1;
}

#endif
