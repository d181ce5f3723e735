// SPDX-License-Identifier: Apache-2.0
/* api: routes and runs of calls, for all stages that ask models. */
#include "worker/stages/api.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

enum df_err df_api_check_url(const char *option, struct df_str url, struct df_fail *fail)
{
	if (!df_str_starts(url, "https://") && !df_str_starts(url, "http://"))
		return df_fail(fail, DF_ERR_USAGE, "option '%s' is neither http:// nor https://", option);
	for (size_t i = 0; i < url.n; i++)
		if ((unsigned char)url.p[i] <= 0x20 || url.p[i] == '@' || url.p[i] == '#' || url.p[i] == '?')
			return df_fail(fail, DF_ERR_USAGE,
				       "option '%s' holds a blank, '@', '?' or '#': passwords and keys do not belong "
				       "there but in a variable that key_env= names",
				       option);
	return DF_OK;
}

enum df_err df_api_check(const struct df_api_options *o, struct df_str model, struct df_fail *fail)
{
	const struct df_provider *p = NULL;
	struct df_str id;
	if (o->fallback.n > DF_API_FALLBACKS_MAX)
		return df_fail(fail, DF_ERR_USAGE, "option 'fallback': more than %d models", DF_API_FALLBACKS_MAX);
	DF_TRY(df_provider_find(model, &p, &id, fail));
	if (o->base_url.n)
		DF_TRY(df_api_check_url("base_url", o->base_url, fail));
	for (size_t i = 0; i < o->key_env.n; i++) /* a key itself would be shown, and written into run.json */
		if (o->key_env.p[i] != '_' && !isalnum((unsigned char)o->key_env.p[i]))
			return df_fail(fail, DF_ERR_USAGE, "option 'key_env' is the name of a variable, not a key");
	for (size_t i = 0; i < o->fallback.n; i++)
		DF_TRY(df_provider_find(o->fallback.item[i], &p, &id, fail));
	return DF_OK;
}

static enum df_err open_route(struct df_api *api, const struct df_api_options *o, struct df_str model, bool first,
			      struct df_fail *fail)
{
	struct df_route_options r = {
		.model = model,
		.base_url = first ? o->base_url : (struct df_str){NULL, 0}, /* fall-backs live elsewhere */
		.key_env = first ? o->key_env : (struct df_str){NULL, 0},
		.rpm = (uint64_t)o->rpm,
		.tpm = (uint64_t)o->tpm,
		.rpd = (uint64_t)o->rpd,
		.tpd = (uint64_t)o->tpd,
		.concurrency = (uint32_t)o->concurrency,
	};
	DF_TRY(df_route_open(api->caller, &r, &api->route[api->n_route], fail));
	api->n_route++;
	return DF_OK;
}

enum df_err df_api_open(struct df_api *api, const struct df_api_options *o, struct df_str model,
			const struct df_stage_env *env, const char *call_name, struct df_fail *fail)
{
	*api = (struct df_api){.caller = env->caller, .turn = env->turn, .call_name = call_name, .no_cache = !o->cache};
	if (!env->caller)
		return df_fail(fail, DF_ERR_BUG, "this worker was started without a way to call models");
	api->retry = df_retry_defaults;
	api->retry.attempts = (uint32_t)o->attempts;
	api->retry.hedge_ms = (o->hedge_ns + 999999) / 1000000;
	api->retry.timeout.total = (o->timeout_ns + 999999) / 1000000;
	if (api->retry.timeout.first_byte > api->retry.timeout.total)
		api->retry.timeout.first_byte = api->retry.timeout.total;
	DF_TRY(open_route(api, o, model, true, fail));
	for (size_t i = 0; i < o->fallback.n; i++)
		DF_TRY(open_route(api, o, o->fallback.item[i], false, fail));
	return DF_OK;
}

void df_api_close(struct df_api *api)
{
	while (api->n_route)
		df_route_close(&api->route[--api->n_route]);
}

enum df_err df_api_prepare(const struct df_api *api, struct df_call *call, struct df_arena *arena,
			   const struct df_doc *doc)
{
	df_arena_init_small(arena, DF_API_ANSWER_BYTES, DF_API_ARENA_BYTES);
	*call = (struct df_call){
		.route = api->route,
		.n_route = api->n_route,
		.retry = &api->retry,
		.doc_id = doc->id,
		.stage = df_str_from(api->call_name),
		.arena = arena,
		.no_cache = api->no_cache,
	};
	call->ask.temperature = call->ask.top_p = NAN;
	call->ask.seed = -1;
	return DF_OK;
}

static void count(const struct df_call *c, struct df_counters *to)
{
	char name[9 + 120];
	df_counters_add(to, "calls", 1);
	if (c->unpriced) {
		(void)snprintf(name, sizeof(name), "unpriced:%s", c->unpriced);
		df_counters_add(to, name, 1);
	}
	if (c->cached) {
		df_counters_add(to, "cached", 1);
		return;
	}
	df_counters_add(to, "tokens_in", c->answer.usage.in);
	df_counters_add(to, "tokens_out", c->answer.usage.out);
	if (c->usd > 0 && c->usd < 1e9)
		df_counters_add(to, "usd_nano", (uint64_t)llround(c->usd * 1e9));
}

static bool stops_the_run(enum df_err err)
{
	return err == DF_ERR_QUOTA || err == DF_ERR_USAGE || err == DF_ERR_INTERRUPTED || err == DF_ERR_NOMEM;
}

enum df_err df_api_run(const struct df_api *api, struct df_call *call, size_t n, struct df_batch *batch,
		       struct df_fail *fail)
{
	if (n == 0)
		return DF_OK;
	if (df_caller_run(api->caller, call, n, api->turn) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu calls", n);
	for (size_t i = 0; i < n; i++) {
		count(&call[i], batch->counters);
		if (stops_the_run(call[i].err))
			return df_fail(fail, call[i].err, "%s", call[i].message);
	}
	return DF_OK;
}
