// SPDX-License-Identifier: Apache-2.0
/* sites: for each route of the pipeline, where its batches are created, in which form, as whom. */
#include <math.h>

#include "worker/batch/own.h"

static bool has_batches(const struct df_provider *p)
{
	return strcmp(p->name, "openai") == 0 || strcmp(p->name, "anthropic") == 0 || strcmp(p->name, "raw") == 0;
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
	DF_TRY(df_batch_split_url(df_str_from(parts.url), to->base_url, &b->arena, &site->place.base, &site->endpoint,
				  fail));
	site->place.form = df_str_ends(site->endpoint, DF_BATCH_INLINE_END) ? DF_REMOTE_INLINE : DF_REMOTE_FILES;
	return DF_OK;
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
		return df_fail(
			fail, DF_ERR_USAGE,
			"model '%s': provider '%s' has no batches that docflume knows; those of openai (also at "
			"another base_url) and anthropic can be used, and 'docflume run' asks any model one by one",
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
