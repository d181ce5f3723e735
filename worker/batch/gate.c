// SPDX-License-Identifier: Apache-2.0
/*
 * gate: what stands in for the engine of calls. A call is answered from the batches that came back or from the cache, or it is written down to be asked, and
 * its outcome is DF_ERR_AGAIN, which the pass does not take for a document's fate.
 */
#include <math.h>

#include "base/limits.h"
#include "worker/batch/own.h"
#include "worker/cache/cache.h"

/* ------------------------------------------------------------------ sites */

static bool has_batches(const struct df_provider *p)
{
	return strcmp(p->name, "openai") == 0 || strcmp(p->name, "raw") == 0;
}

/* A request that is never sent shows where they go, and with which headers. */
static enum df_err try_build(struct df_batch_run *b, const struct df_route *route, struct df_batch_site *site,
			     struct df_fail *fail)
{
	struct df_http_parts parts = {.method = NULL};
	struct df_ask_turn turn = {DF_TURN_USER, DF_STR("{}")};
	const struct df_endpoint *to = df_route_endpoint(route);
	struct df_ask ask = {
		.kind = DF_ASK_CHAT, .turn = &turn, .n_turn = 1, .temperature = NAN, .top_p = NAN, .seed = -1};
	ask.model = df_route_name(route);
	DF_TRY(df_route_provider(route)->build(&ask, to, &b->arena, &parts, fail));
	struct df_http_header *header = df_arena_array(&b->arena, parts.n_header + 1, sizeof(*header));
	if (!header)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
	site->place.header = header;
	for (size_t i = 0; i < parts.n_header; i++)
		if (strcasecmp(parts.header[i].name, "content-type") != 0)
			header[site->place.n_header++] = parts.header[i];
	site->place.endpoint = to;
	return df_batch_split_url(df_str_from(parts.url), to->base_url, &b->arena, &site->place.base, &site->endpoint,
				  fail);
}

static enum df_err open_site(struct df_batch_run *b, struct df_route *route, struct df_fail *fail)
{
	const struct df_provider *p = df_route_provider(route);
	struct df_fail why = {.msg = ""};
	struct df_batch_site *site = df_arena_zalloc(&b->arena, sizeof(*site));
	struct df_str model = df_arena_copy(&b->arena, df_route_id(route));
	if (!site || !model.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a route");
	if (!has_batches(p))
		return df_fail(fail, DF_ERR_USAGE,
			       "model '%s': provider '%s' has no batches that docflume knows; those of openai (also at "
			       "another base_url) can be used, and 'docflume run' asks any model one by one",
			       model.p, p->name);
	if (b->o->budget > 0 && !b->lines_route && isnan(df_route_model(route)->price_in))
		return df_fail(fail, DF_ERR_USAGE,
			       "model '%s' has no known price, so that a budget cannot be kept: put its prices into "
			       "models.yaml, or run without --budget",
			       model.p);
	enum df_err err = try_build(b, route, site, &why);
	if (err != DF_OK)
		return df_fail(fail, err == DF_ERR_NOMEM ? err : DF_ERR_USAGE, "model '%s': %s", model.p, why.msg);
	const struct df_batch_site *same = df_batch_site_of(b, model.p);
	if (same && !df_str_eq(same->place.base, site->place.base))
		return df_fail(fail, DF_ERR_USAGE,
			       "model '%s' is asked at two places; their batches cannot be told apart", model.p);
	site->route = route;
	site->model = model.p;
	site->next = b->sites;
	b->sites = site;
	return DF_OK;
}

enum df_err df_batch_open_sites(struct df_batch_run *b, struct df_fail *fail)
{
	struct df_route *route;
	for (size_t i = 0; (route = df_caller_route(b->caller, i)); i++)
		DF_TRY(open_site(b, route, fail));
	if (!b->sites)
		return df_fail(fail, DF_ERR_USAGE,
			       "no stage of this pipeline asks a model of an API; 'docflume run' runs it");
	return DF_OK;
}

/* Two routes of one model at two places would mix their batches. */
const struct df_batch_site *df_batch_site_of(const struct df_batch_run *b, const char *model)
{
	for (const struct df_batch_site *s = b->sites; s; s = s->next)
		if (b->lines_route || strcmp(s->model, model) == 0)
			return s;
	return NULL;
}

struct df_model_info df_batch_info(const struct df_batch_run *b, const struct df_batch_file *file)
{
	const struct df_batch_site *site = df_batch_site_of(b, file->model);
	if (b->lines_route || !site)
		return df_models_get(b->models, df_str_from(file->model));
	return *df_route_model(site->route);
}

/* ------------------------------------------------------------------ asking */

enum df_err df_batch_ask(struct df_batch_run *b, struct df_str custom_id, struct df_str model, struct df_str endpoint,
			 struct df_str line, double worst_usd, struct df_fail *fail)
{
	enum df_err err = df_answers_ask(b->answers, custom_id);
	if (err == DF_ERR_EXISTS)
		return err;
	if (err != DF_OK)
		return df_fail(fail, err, "more than %u requests in one run", DF_BATCH_REQUESTS_MAX);
	DF_TRY(df_request_files_add(b->requests, model, endpoint, line, isnan(worst_usd) ? 0 : worst_usd, fail));
	b->pending++;
	b->out.broken = true;
	return DF_OK;
}

static void set_outcome(struct df_call *call, enum df_err err, const char *message)
{
	struct df_fail line;
	call->err = err;
	(void)df_fail(&line, err, "%s", message);
	(void)snprintf(call->message, sizeof(call->message), "%.500s", line.msg);
}

/* What ends the pass is told by the run, not by a document. */
static void set_fault(struct df_batch_run *b, struct df_call *call, const struct df_fail *fail)
{
	if (b->fault.code == DF_OK)
		b->fault = *fail;
	set_outcome(call, DF_ERR_INTERRUPTED, fail->msg);
}

static enum df_err make_line(struct df_batch_run *b, const struct df_ask *ask, const struct df_route *route,
			     struct df_str custom_id, struct df_buf *line, struct df_str *ret_endpoint,
			     struct df_fail *fail)
{
	struct df_http_parts parts = {.method = NULL};
	const struct df_endpoint *to = df_route_endpoint(route);
	struct df_str base;
	DF_TRY(df_route_provider(route)->build(ask, to, &b->scratch, &parts, fail));
	DF_TRY(df_batch_split_url(df_str_from(parts.url), to->base_url, &b->scratch, &base, ret_endpoint, fail));
	if (df_batch_add_request(line, custom_id, *ret_endpoint, parts.body) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	return DF_OK;
}

static void ask_for_it(struct df_batch_run *b, struct df_call *call, const struct df_ask *ask, struct df_str custom_id)
{
	struct df_route *route = call->route[0];
	struct df_fail fail = {.msg = ""};
	struct df_str endpoint;
	struct df_buf line;
	double worst = df_price_worst(df_route_model(route), ask) * DF_BATCH_PRICE;
	df_buf_init(&line, (size_t)4 * DF_PROMPT_BYTES);
	enum df_err err = make_line(b, ask, route, custom_id, &line, &endpoint, &fail);
	if (err == DF_OK && isnan(worst) && b->o->budget > 0)
		err = df_fail(&fail, DF_ERR_USAGE,
			      "the price of this call is not known, so that a budget cannot be kept");
	if (err == DF_OK)
		err = df_batch_ask(b, custom_id, df_route_id(route), endpoint, df_buf_str(&line), worst, &fail);
	df_buf_release(&line);
	if (err == DF_OK || err == DF_ERR_EXISTS)
		set_outcome(call, DF_ERR_AGAIN, "it waits for its batch");
	else if (err == DF_ERR_RANGE || err == DF_ERR_UNSUPPORTED)
		set_outcome(call, err, fail.msg); /* this document's */
	else
		set_fault(b, call, &fail);
}

/* ------------------------------------------------------------------ answers */

/* Of a document: what would stop a whole run is one line's failure here. */
static enum df_err err_of(enum df_call_class class)
{
	static const enum df_err err[DF_N_CALL_CLASS] = {[DF_CALL_OK] = DF_OK,
							 [DF_CALL_RETRY] = DF_ERR_CLOSED,
							 [DF_CALL_RATE] = DF_ERR_LIMIT,
							 [DF_CALL_QUOTA] = DF_ERR_LIMIT,
							 [DF_CALL_AUTH] = DF_ERR_IO,
							 [DF_CALL_BAD_INPUT] = DF_ERR_RANGE,
							 [DF_CALL_NOT_FOUND] = DF_ERR_NOT_FOUND,
							 [DF_CALL_BAD_ANSWER] = DF_ERR_PARSE};
	return class < DF_N_CALL_CLASS ? err[class] : DF_ERR_PARSE;
}

/* What the line at `at` says of this call. */
static enum df_err judge(struct df_batch_run *b, struct df_call *call, const struct df_ask *ask,
			 const struct df_answer_at *at, struct df_fail *fail)
{
	const struct df_route *route = call->route[0];
	struct df_batch_answer said;
	struct df_str line;
	DF_TRY(df_answers_read(b->answers, at, call->arena, &line, fail));
	DF_TRY(df_batch_read_answer(line, call->arena, &said, fail));
	df_batch_judge(df_route_provider(route), ask, &said, call->arena, &call->answer);
	df_answer_mask(&call->answer, df_route_endpoint(route));
	return DF_OK;
}

static void keep(struct df_batch_run *b, const struct df_call *call, struct df_cache_key key)
{
	struct df_buf packed;
	if (!b->cache || call->no_cache)
		return;
	df_buf_init(&packed, DF_CACHE_VALUE_BYTES);
	if (df_cache_pack(&call->answer, 0, &packed) == DF_OK)
		df_cache_put(b->cache, key, df_buf_str(&packed));
	df_buf_release(&packed);
}

/* True: the call has its outcome. */
static bool from_batches(struct df_batch_run *b, struct df_call *call, const struct df_ask *ask,
			 struct df_cache_key key, struct df_str custom_id)
{
	struct df_answer_at at = df_answers_find(b->answers, custom_id);
	struct df_fail fail = {.msg = ""};
	bool spent = at.attempts >= b->o->attempts;
	if (at.state == DF_ANSWER_NONE) {
		if (spent)
			set_outcome(call, DF_ERR_CLOSED, "the provider's batches left this request out");
		return spent;
	}
	enum df_err err = judge(b, call, ask, &at, &fail);
	if (err != DF_OK) {
		set_fault(b, call, &fail);
		return true;
	}
	call->attempts = at.attempts;
	if (call->answer.class == DF_CALL_OK) {
		double usd = df_price_of(df_route_model(call->route[0]), &call->answer.usage) * DF_BATCH_PRICE;
		call->err = DF_OK;
		call->usd = isnan(usd) ? 0 : usd;
		keep(b, call, key);
		return true;
	}
	if (at.state != DF_ANSWER_FAILED && call->answer.class != DF_CALL_BAD_INPUT && !spent)
		return false;
	set_outcome(call, err_of(call->answer.class), call->answer.message);
	return true;
}

static bool from_cache(struct df_batch_run *b, struct df_call *call, struct df_cache_key key)
{
	struct df_str value;
	struct df_answer a = {.retry_after_ms = -1};
	if (!b->cache || call->no_cache || call->fresh || df_cache_get(b->cache, key, call->arena, &value) != DF_OK ||
	    df_cache_unpack(value, call->arena, &a) != DF_OK || a.n_vector)
		return false;
	a.class = DF_CALL_OK;
	call->answer = a;
	call->err = DF_OK;
	call->cached = true;
	return true;
}

void df_batch_gate(void *self, struct df_call *call)
{
	struct df_batch_run *b = self;
	const struct df_route *route = call->route[0];
	struct df_ask ask = call->ask;
	struct df_fail fail;
	char custom_id[DF_CUSTOM_ID_BYTES];
	df_arena_reset(&b->scratch);
	if (ask.kind != DF_ASK_CHAT) {
		(void)df_fail(&fail, DF_ERR_USAGE, "batch mode makes no embeddings; 'docflume run' does");
		set_fault(b, call, &fail);
		return;
	}
	ask.model = df_route_name(route);
	ask.stream = false;
	struct df_cache_key key = df_cache_key_chat(&ask, df_str_from(df_route_provider(route)->name),
						    df_route_endpoint(route)->base_url);
	df_batch_custom_id(key, custom_id);
	if (!from_batches(b, call, &ask, key, df_str_from(custom_id)) && !from_cache(b, call, key))
		ask_for_it(b, call, &ask, df_str_from(custom_id));
}
