// SPDX-License-Identifier: Apache-2.0
/* api: routes and runs of calls, for all stages that ask models. */
#include "worker/stages/api.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/url.h"

enum df_err df_api_check_url(const char *option, struct df_str url, struct df_fail *fail)
{
	char what[80];
	(void)snprintf(what, sizeof(what), "option '%s'", option);
	return df_url_check(what, url, fail);
}

/* Is it known, and does the variable that says where it is make sense? (base_url= and rows of models.yaml are looked at where they are read) */
static enum df_err check_model(const struct df_models *models, struct df_str model, struct df_str base_url,
			       struct df_fail *fail)
{
	const struct df_provider *p = NULL;
	struct df_model_info info;
	struct df_str id;
	char what[80];
	DF_TRY(df_models_find(models, model, &p, &id, &info, fail));
	const char *url = p->base_url_env ? getenv(p->base_url_env) : NULL;
	if (base_url.n || info.base_url.n || p->answer || !url || !*url)
		return DF_OK;
	(void)snprintf(what, sizeof(what), "variable %s", p->base_url_env);
	return df_url_check(what, df_str_trim(df_str_from(url)), fail);
}

enum df_err df_api_check(const struct df_api_options *o, struct df_str model, struct df_fail *fail)
{
	const struct df_models *models = NULL;
	if (o->fallback.n > DF_API_FALLBACKS_MAX)
		return df_fail(fail, DF_ERR_USAGE, "option 'fallback': more than %d models", DF_API_FALLBACKS_MAX);
	DF_TRY(df_models_shared(&models, fail));
	if (o->base_url.n)
		DF_TRY(df_api_check_url("base_url", o->base_url, fail));
	if (o->key_env.n &&
	    !df_url_is_variable(o->key_env)) /* a key itself would be shown, and written into run.json */
		return df_fail(fail, DF_ERR_USAGE, "option 'key_env' is the name of a variable, not a key");
	DF_TRY(check_model(models, model, o->base_url, fail));
	for (size_t i = 0; i < o->fallback.n; i++)
		DF_TRY(check_model(models, o->fallback.item[i], o->base_url, fail));
	return DF_OK;
}

static enum df_err check_ask(const struct df_models *models, struct df_str model, const struct df_ask *like,
			     struct df_fail *fail)
{
	const struct df_provider *p = NULL;
	const struct df_endpoint there = {.base_url = {NULL, 0}};
	struct df_model_info info;
	struct df_http_parts parts;
	struct df_arena scratch;
	struct df_ask ask = *like;
	DF_TRY(df_models_find(models, model, &p, &ask.model, &info, fail));
	if (info.kind_known && info.kind != ask.kind)
		return df_fail(fail, DF_ERR_USAGE, "model '%.*s' %s; 'docflume models %s' lists others",
			       (int)(model.n < 100 ? model.n : 100), model.p,
			       ask.kind == DF_ASK_EMBED ? "answers in words and makes no embeddings"
							: "makes embeddings and answers nothing",
			       ask.kind == DF_ASK_EMBED ? "embed" : "chat");
	if (!p->build)
		return DF_OK;
	df_arena_init(&scratch, (size_t)64 << 20, 0);
	enum df_err err = p->build(&ask, &there, &scratch, &parts, fail);
	df_arena_release(&scratch);
	return err;
}

enum df_err df_api_check_ask(const struct df_api_options *o, struct df_str model, const struct df_ask *like,
			     struct df_fail *fail)
{
	const struct df_models *models = NULL;
	DF_TRY(df_models_shared(&models, fail));
	DF_TRY(check_ask(models, model, like, fail));
	for (size_t i = 0; i < o->fallback.n; i++)
		DF_TRY(check_ask(models, o->fallback.item[i], like, fail));
	return DF_OK;
}

/* Two APIs of one place (openai, responses) count as one. */
static bool same_place(const struct df_provider *a, const struct df_provider *b)
{
	return a == b || (a->base_url_env && b->base_url_env && strcmp(a->base_url_env, b->base_url_env) == 0);
}

/* A stage that names its place sends no document elsewhere on its own: a fall-back of the same provider is asked there too, unless its row in models.yaml has a
 * URL; and no key goes to another place than the one it was given for. */
static enum df_err place_of(const struct df_api_options *o, struct df_str first, struct df_str fallback,
			    struct df_route_options *r, struct df_fail *fail)
{
	const struct df_models *models = NULL;
	const struct df_provider *p = NULL, *of_first = NULL;
	struct df_model_info info;
	struct df_str id;
	DF_TRY(df_models_shared(&models, fail));
	DF_TRY(df_models_find(models, first, &of_first, &id, &info, fail));
	DF_TRY(df_models_find(models, fallback, &p, &id, &info, fail));
	if (!same_place(p, of_first) || info.base_url.n)
		return DF_OK;
	r->base_url = o->base_url;
	if (!info.key_env.n)
		r->key_env = o->key_env;
	return DF_OK;
}

/* fallback NULL: the first. */
static enum df_err open_route(struct df_api *api, const struct df_api_options *o, struct df_str first,
			      const struct df_str *fallback, struct df_fail *fail)
{
	struct df_route_options r = {
		.model = fallback ? *fallback : first,
		.rpm = (uint64_t)o->rpm,
		.tpm = (uint64_t)o->tpm,
		.rpd = (uint64_t)o->rpd,
		.tpd = (uint64_t)o->tpd,
		.concurrency = (uint32_t)o->concurrency,
	};
	if (fallback) {
		DF_TRY(place_of(o, first, *fallback, &r, fail));
	} else {
		r.base_url = o->base_url;
		r.key_env = o->key_env;
	}
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
	DF_TRY(open_route(api, o, model, NULL, fail));
	for (size_t i = 0; i < o->fallback.n; i++)
		DF_TRY(open_route(api, o, model, &o->fallback.item[i], fail));
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
