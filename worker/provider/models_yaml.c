// SPDX-License-Identifier: Apache-2.0
/*
 * models_yaml: users' rows of the table of models.
 *
 *   models:
 *     - id: my-llama            # what pipelines say; * and ? make it a pattern
 *       provider: vllm          # by the id's own pattern or prefix when it is not given
 *       model: meta-llama/Llama-3.1-8B-Instruct
 *       base_url: http://gpu1:8000/v1
 *       price_in: 0
 */
#include <math.h>
#include <stddef.h>

#include "base/limits.h"
#include "base/url.h"
#include "base/yaml/yaml.h"
#include "worker/provider/table.h"

#define NODES_MAX (256U * DF_MODEL_ROWS_MAX) /* a row has 20 pairs at the most, and some are looked at five times */

struct reader {
	struct df_yaml yaml;
	struct df_user_row *row;
	size_t n_row;
};

enum form { TEXT, URL, VARIABLE, COUNT, SIZE32, PRICE, KIND };

static const struct field {
	const char *name;
	enum form form;
	size_t offset;
} field[] = {
	{"id", TEXT, offsetof(struct df_model_info, id)},
	{"provider", TEXT, offsetof(struct df_model_info, provider)},
	{"model", TEXT, offsetof(struct df_model_info, model)},
	{"base_url", URL, offsetof(struct df_model_info, base_url)},
	{"key_env", VARIABLE, offsetof(struct df_model_info, key_env)},
	{"kind", KIND, offsetof(struct df_model_info, kind)},
	{"context", COUNT, offsetof(struct df_model_info, context)},
	{"max_output", COUNT, offsetof(struct df_model_info, max_output)},
	{"dim", SIZE32, offsetof(struct df_model_info, dim)},
	{"price_in", PRICE, offsetof(struct df_model_info, price_in)},
	{"price_cached_in", PRICE, offsetof(struct df_model_info, price_cached_in)},
	{"price_out", PRICE, offsetof(struct df_model_info, price_out)},
	{"long_from", COUNT, offsetof(struct df_model_info, long_from)},
	{"rpm", COUNT, offsetof(struct df_model_info, rpm)},
	{"tpm", COUNT, offsetof(struct df_model_info, tpm)},
	{"rpd", COUNT, offsetof(struct df_model_info, rpd)},
	{"tpd", COUNT, offsetof(struct df_model_info, tpd)},
	{"concurrency", COUNT, offsetof(struct df_model_info, concurrency)},
	{"tokenizer", TEXT, offsetof(struct df_model_info, tokenizer)},
};
#define N_FIELD (sizeof(field) / sizeof(field[0]))

/* ------------------------------------------------------------------ rows */

static enum df_err unknown_key(struct reader *r, struct df_yaml_node *node, struct df_str key)
{
	const char *near = NULL;
	size_t best = 3;
	for (size_t i = 0; i < N_FIELD; i++) {
		size_t d = df_str_distance(key, df_str_from(field[i].name));
		if (d < best) {
			best = d;
			near = field[i].name;
		}
	}
	if (near)
		return df_yaml_bad(&r->yaml, node, "unknown key '%.*s' of a model; did you mean '%s'?",
				   (int)(key.n < 60 ? key.n : 60), key.p, near);
	return df_yaml_bad(
		&r->yaml, node,
		"unknown key '%.*s' of a model; known: id, provider, model, base_url, key_env, kind, context, "
		"max_output, dim, price_in, price_cached_in, price_out, long_from, rpm, tpm, rpd, tpd, concurrency, "
		"tokenizer",
		(int)(key.n < 60 ? key.n : 60), key.p);
}

static enum df_err set(struct reader *r, struct df_yaml_node *node, const struct field *f, struct df_str value,
		       struct df_model_info *info)
{
	void *to = (char *)info + f->offset;
	uint64_t count = 0;
	double price = 0;
	int n = (int)(value.n < 60 ? value.n : 60);
	struct df_fail why = {.msg = ""};
	switch (f->form) {
	case URL:
		if (df_url_check("'base_url'", value, &why) != DF_OK)
			return df_yaml_bad(&r->yaml, node, "%s", why.msg);
		memcpy(to, &value, sizeof(value));
		return DF_OK;
	case VARIABLE: /* the value may be a key, so it is not repeated */
		if (!df_url_is_variable(value))
			return df_yaml_bad(&r->yaml, node, "'%s' is the name of a variable, not a key", f->name);
		memcpy(to, &value, sizeof(value));
		return DF_OK;
	case TEXT:
		memcpy(to, &value, sizeof(value));
		return value.n ? DF_OK : df_yaml_bad(&r->yaml, node, "'%s' is empty", f->name);
	case KIND:
		if (!df_str_is(value, "chat") && !df_str_is(value, "embed"))
			return df_yaml_bad(&r->yaml, node, "'kind' is chat or embed, not '%.*s'", n, value.p);
		info->kind = df_str_is(value, "chat") ? DF_ASK_CHAT : DF_ASK_EMBED;
		return DF_OK;
	case PRICE:
		if (df_str_to_double(value, &price) != DF_OK || price < 0)
			return df_yaml_bad(&r->yaml, node, "'%s' is USD per million tokens, 0 or more, not '%.*s'",
					   f->name, n, value.p);
		memcpy(to, &price, sizeof(price));
		return DF_OK;
	case COUNT:
	case SIZE32:
		if (df_str_to_u64(value, &count) != DF_OK || (f->form == SIZE32 && count > UINT32_MAX))
			return df_yaml_bad(&r->yaml, node, "'%s' is a whole number, not '%.*s'", f->name, n, value.p);
		if (f->form == COUNT)
			memcpy(to, &count, sizeof(count));
		else
			info->dim = (uint32_t)count;
		return DF_OK;
	}
	return DF_OK;
}

/* The value of one key; p NULL: it is not there. */
static enum df_err value_of(struct reader *r, struct df_yaml_node *map, const char *name,
			    struct df_yaml_node **ret_node, struct df_str *ret)
{
	struct df_yaml_node *name_node, *value;
	void *iter = NULL;
	*ret = (struct df_str){NULL, 0};
	while (df_yaml_next_pair(map, &iter, &name_node, &value)) {
		struct df_str key = {NULL, 0};
		DF_TRY(df_yaml_text(&r->yaml, name_node, "a key", &key));
		if (!df_str_is(key, name))
			continue;
		*ret_node = value;
		return df_yaml_text(&r->yaml, *ret_node, name, ret);
	}
	return DF_OK;
}

/* Before the fields that are given: who speaks for the model, and what is known of it anyway. */
static enum df_err begin(struct reader *r, struct df_yaml_node *map, struct df_user_row *row)
{
	struct df_str id, provider, model;
	struct df_yaml_node *node = map;
	DF_TRY(value_of(r, map, "id", &node, &id));
	if (!id.n)
		return df_yaml_bad(&r->yaml, map, "a model without an id");
	for (size_t i = 0; i < r->n_row; i++)
		if (df_str_eq(r->row[i].info.id, id))
			return df_yaml_bad(&r->yaml, node, "model '%.*s' is there twice; one row holds all of a model",
					   (int)(id.n < 100 ? id.n : 100), id.p);
	DF_TRY(value_of(r, map, "model", &node, &model));
	DF_TRY(value_of(r, map, "provider", &node, &provider));
	struct df_str own = model.p ? model : id;
	for (size_t i = 0; provider.p && df_provider_registry[i]; i++)
		if (df_str_is(provider, df_provider_registry[i]->name))
			row->by = df_provider_registry[i];
	if (provider.p && !row->by)
		return df_yaml_bad(&r->yaml, node, "there is no provider '%.*s'",
				   (int)(provider.n < 60 ? provider.n : 60), provider.p);
	if (!provider.p && df_provider_find(id, &row->by, &own, NULL) != DF_OK)
		return df_yaml_bad(&r->yaml, map,
				   "model '%.*s' does not tell its provider by its id; give it a 'provider'",
				   (int)(id.n < 100 ? id.n : 100), id.p);
	if (!row->by)
		return df_fail(r->yaml.fail, DF_ERR_BUG, "a model without a provider");
	struct df_str name = df_str_from(row->by->kin ? row->by->kin : row->by->name);
	const struct df_model_info *known = df_table_find(name, own);
	double price = row->by->free ? 0 : (double)NAN;
	row->info =
		known ? *known
		      : (struct df_model_info){.price_in = price, .price_cached_in = (double)NAN, .price_out = price};
	row->is_known = row->info.kind_known = known != NULL;
	row->info.tokenizer = df_table_tokenizer(name, own);
	row->info.provider = df_str_from(row->by->name);
	row->info.id = id;
	return DF_OK;
}

static const struct field *find_field(struct df_str key)
{
	for (size_t i = 0; i < N_FIELD; i++)
		if (df_str_is(key, field[i].name))
			return &field[i];
	return NULL;
}

/* Before all else: a key that is mistyped is told, not what follows from it. */
static enum df_err check_keys(struct reader *r, struct df_yaml_node *map)
{
	struct df_yaml_node *key_node, *value_node;
	void *iter = NULL;
	while (df_yaml_next_pair(map, &iter, &key_node, &value_node)) {
		struct df_str key = {NULL, 0};
		DF_TRY(df_yaml_text(&r->yaml, key_node, "a key", &key));
		if (!find_field(key))
			return unknown_key(r, key_node, key);
	}
	return DF_OK;
}

static enum df_err read_row(struct reader *r, struct df_yaml_node *node)
{
	struct df_yaml_node *map = NULL, *key_node, *value_node;
	struct df_user_row *row = &r->row[r->n_row];
	void *iter = NULL;
	bool kind_given = false;
	DF_TRY(df_yaml_visit(&r->yaml, node, &map));
	if (df_yaml_kind(map) != DF_YAML_MAP)
		return df_yaml_bad(&r->yaml, node, "a model is a mapping: id, provider, ...");
	*row = (struct df_user_row){.by = NULL};
	DF_TRY(check_keys(r, map));
	DF_TRY(begin(r, map, row));
	while (df_yaml_next_pair(map, &iter, &key_node, &value_node)) {
		struct df_str key = {NULL, 0}, value = {NULL, 0};
		DF_TRY(df_yaml_text(&r->yaml, key_node, "a key", &key));
		const struct field *f = find_field(key);
		if (!f)
			return unknown_key(r, key_node, key);
		DF_TRY(df_yaml_text(&r->yaml, value_node, f->name, &value));
		DF_TRY(set(r, value_node, f, value, &row->info));
		kind_given = kind_given || f->form == KIND;
	}
	if (!kind_given && row->info.dim)
		row->info.kind = DF_ASK_EMBED;
	row->has_kind = kind_given || row->info.dim > 0;
	r->n_row++;
	return DF_OK;
}

/* `models`, of which there may be none. */
static enum df_err read_list(struct reader *r, struct df_yaml_node *list)
{
	size_t n = df_yaml_n_item(list);
	void *iter = NULL;
	if (n > DF_MODEL_ROWS_MAX)
		return df_yaml_bad(&r->yaml, list, "more than %u models", DF_MODEL_ROWS_MAX);
	r->row = df_arena_array(r->yaml.arena, n ? n : 1, sizeof(*r->row));
	if (!r->row)
		return df_yaml_no_memory(&r->yaml);
	for (struct df_yaml_node *row; r->n_row < n && (row = df_yaml_next(list, &iter)) != NULL;)
		DF_TRY(read_row(r, row));
	return DF_OK;
}

static enum df_err read_root(struct reader *r)
{
	struct df_yaml_node *at = NULL, *list = NULL, *key_node, *value;
	void *iter = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, r->yaml.root, &at));
	if (df_yaml_kind(at) != DF_YAML_MAP)
		return df_yaml_bad(&r->yaml, at, "a mapping with 'models' is wanted");
	while (df_yaml_next_pair(at, &iter, &key_node, &value)) {
		struct df_str key = {NULL, 0};
		DF_TRY(df_yaml_text(&r->yaml, key_node, "a key", &key));
		if (!df_str_is(key, "models"))
			return df_yaml_bad(&r->yaml, key_node, "unknown key '%.*s'; only 'models' is known here",
					   (int)(key.n < 60 ? key.n : 60), key.p);
		DF_TRY(df_yaml_visit(&r->yaml, value, &list));
		if (df_yaml_kind(list) != DF_YAML_LIST)
			return df_yaml_bad(&r->yaml, key_node, "'models' is a list");
	}
	return read_list(r, list);
}

enum df_err df_table_yaml(struct df_str text, const char *path, struct df_arena *arena, struct df_user_row **ret_row,
			  size_t *ret_n, struct df_fail *fail)
{
	const struct df_yaml_source source = {text, path, DF_PIPELINE_BYTES_MAX, NODES_MAX};
	struct reader r = {.row = NULL};
	DF_TRY(df_yaml_open(&r.yaml, &source, arena, fail));
	enum df_err err = r.yaml.root ? read_root(&r) : DF_OK;
	df_yaml_close(&r.yaml);
	if (err == DF_OK) {
		*ret_row = r.row;
		*ret_n = r.n_row;
	}
	return err;
}
