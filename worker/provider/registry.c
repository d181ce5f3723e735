// SPDX-License-Identifier: Apache-2.0
/* registry: every provider, and which of them a model's id means. The first whose pattern matches wins, so the particular stand before the general. */
#include <stdio.h>

#include "worker/provider/table.h"

extern const struct df_provider df_provider_openai, df_provider_responses, df_provider_anthropic, df_provider_gemini,
	df_provider_cohere, df_provider_voyage, df_provider_mistral, df_provider_ollama, df_provider_tei,
	df_provider_vllm, df_provider_raw, df_provider_fake, df_provider_recorded;

const struct df_provider *const df_provider_registry[] = {&df_provider_responses, &df_provider_openai,
							  &df_provider_anthropic, &df_provider_gemini,
							  &df_provider_cohere,    &df_provider_voyage,
							  &df_provider_mistral,   &df_provider_ollama,
							  &df_provider_tei,       &df_provider_vllm,
							  &df_provider_raw,       &df_provider_fake,
							  &df_provider_recorded,  NULL};

static void add(char *z, size_t cap, const char *separator, struct df_str s)
{
	size_t n = strlen(z);
	(void)snprintf(z + n, cap - n, "%s" DF_STR_FMT, n ? separator : "", DF_STR_ARG(s));
}

/* The nearest ids of these rows, at most three, none that is too far to be meant. */
static void nearest(struct df_str id, const struct df_model_info *row, size_t n, char *z, size_t cap)
{
	size_t n_near = 0;
	z[0] = '\0';
	for (size_t distance = 1; distance <= 4 && n_near < 3; distance++)
		for (size_t i = 0; i < n && n_near < 3; i++)
			if (df_str_distance(id, row[i].id) == distance && distance * 3 <= id.n) {
				add(z, cap, ", ", row[i].id);
				n_near++;
			}
}

enum df_err df_table_unknown(struct df_str id, const struct df_model_info *row, size_t n, struct df_fail *fail)
{
	char near[200], known[300] = "";
	nearest(id, row, n, near, sizeof(near));
	for (size_t i = 0; df_provider_registry[i]; i++)
		add(known, sizeof(known), ", ", df_str_from(df_provider_registry[i]->name));
	return df_fail(fail, DF_ERR_NOT_FOUND,
		       "no provider is known for model '%.*s'%s%s; write it as PROVIDER/MODEL with one of: %s "
		       "('docflume models' "
		       "lists models)",
		       (int)(id.n < 100 ? id.n : 100), id.n ? id.p : "", near[0] ? "; near it: " : "", near, known);
}

enum df_err df_provider_find(struct df_str id, const struct df_provider **ret_provider, struct df_str *ret_model,
			     struct df_fail *fail)
{
	const char *slash = id.n ? memchr(id.p, '/', id.n) : NULL;
	struct df_str prefix = {id.p, slash ? (size_t)(slash - id.p) : 0};
	for (size_t i = 0; slash && df_provider_registry[i]; i++)
		if (df_str_is(prefix, df_provider_registry[i]->name)) {
			struct df_str model = {slash + 1, id.n - prefix.n - 1};
			if (model.n == 0)
				return df_fail(fail, DF_ERR_USAGE, "model '%.*s' names a provider and no model",
					       (int)id.n, id.p);
			*ret_provider = df_provider_registry[i];
			*ret_model = model;
			return DF_OK;
		}
	for (size_t i = 0; df_provider_registry[i]; i++)
		if (df_wire_match(id, df_provider_registry[i]->pattern)) {
			*ret_provider = df_provider_registry[i];
			*ret_model = id;
			return DF_OK;
		}
	size_t n = 0;
	const struct df_model_info *row = df_table_rows(&n);
	return df_table_unknown(id, row, n, fail);
}

bool df_provider_needs_key(const struct df_provider *p, struct df_str base_url)
{
	return p->key_env && !p->key_optional && (base_url.n == 0 || df_str_is(base_url, p->base_url));
}

bool df_provider_holds(const struct df_provider *p, const struct df_ask *ask, struct df_arena *scratch)
{
	return p->schema_mode && (!p->holds || p->holds(ask, scratch));
}
