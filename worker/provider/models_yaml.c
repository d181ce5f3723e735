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
 *
 * libfyaml's second home: cli/pipeline_file.c, the first, is above this folder, and its reader is bound to option rows.
 */
#include <libfyaml.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "base/limits.h"
#include "worker/provider/table.h"

#define ALIASES_MAX 16U

struct reader {
	const char *path;
	struct df_arena *arena;
	struct df_fail *fail;
	struct df_user_row *row;
	size_t n_row;
};

enum form { TEXT, COUNT, SIZE32, PRICE, KIND };

static const struct field {
	const char *name;
	enum form form;
	size_t offset;
} field[] = {
	{"id", TEXT, offsetof(struct df_model_info, id)},
	{"provider", TEXT, offsetof(struct df_model_info, provider)},
	{"model", TEXT, offsetof(struct df_model_info, model)},
	{"base_url", TEXT, offsetof(struct df_model_info, base_url)},
	{"key_env", TEXT, offsetof(struct df_model_info, key_env)},
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

/* ------------------------------------------------------------------ places and errors */

static struct fy_token *token_of(struct fy_node *node)
{
	for (int depth = 0; node && depth < 64; depth++) {
		void *at = NULL;
		switch (fy_node_get_type(node)) {
		case FYNT_SCALAR:
			return fy_node_get_scalar_token(node);
		case FYNT_SEQUENCE:
			node = fy_node_sequence_iterate(node, &at);
			break;
		case FYNT_MAPPING:
			node = fy_node_pair_key(fy_node_mapping_iterate(node, &at));
			break;
		}
	}
	return NULL;
}

static enum df_err bad(struct reader *r, struct fy_node *node, const char *fmt, ...) DF_PRINTF(3, 4);
static enum df_err bad(struct reader *r, struct fy_node *node, const char *fmt, ...)
{
	char msg[512];
	struct fy_token *token = token_of(node);
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (!mark)
		return df_fail(r->fail, DF_ERR_USAGE, "%s: %s", r->path, msg);
	return df_fail(r->fail, DF_ERR_USAGE, "%s:%d:%d: %s", r->path, mark->line + 1, mark->column + 1, msg);
}

static enum df_err no_memory(struct reader *r)
{
	return df_fail(r->fail, DF_ERR_NOMEM, "%s: no memory", r->path);
}

static struct fy_node *follow(struct fy_node *node)
{
	for (unsigned i = 0; node && fy_node_is_alias(node); i++)
		node = i < ALIASES_MAX ? fy_node_resolve_alias(node) : NULL;
	return node;
}

static enum df_err scalar(struct reader *r, struct fy_node *node, const char *what, struct df_str *ret)
{
	struct fy_node *at = follow(node);
	size_t n = 0;
	if (!at || fy_node_get_type(at) != FYNT_SCALAR)
		return bad(r, node, "%s must be plain text, not a list or a mapping", what);
	const char *p = fy_node_get_scalar(at, &n);
	struct df_str s = {p, p ? n : 0}, copy;
	if (df_str_utf8_prefix(s) != s.n || (s.n && memchr(s.p, '\0', s.n)))
		return bad(r, node, "%s is not valid text", what);
	copy = df_arena_copy(r->arena, s.n ? s : DF_STR(""));
	if (!copy.p)
		return no_memory(r);
	*ret = copy;
	return DF_OK;
}

/* ------------------------------------------------------------------ rows */

static enum df_err unknown_key(struct reader *r, struct fy_node *node, struct df_str key)
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
		return bad(r, node, "unknown key '%.*s' of a model; did you mean '%s'?", (int)(key.n < 60 ? key.n : 60),
			   key.p, near);
	return bad(r, node,
		   "unknown key '%.*s' of a model; known: id, provider, model, base_url, key_env, kind, context, "
		   "max_output, dim, price_in, price_cached_in, price_out, long_from, rpm, tpm, rpd, tpd, concurrency, "
		   "tokenizer",
		   (int)(key.n < 60 ? key.n : 60), key.p);
}

static enum df_err set(struct reader *r, struct fy_node *node, const struct field *f, struct df_str value,
		       struct df_model_info *info)
{
	void *to = (char *)info + f->offset;
	uint64_t count = 0;
	double price = 0;
	int n = (int)(value.n < 60 ? value.n : 60);
	switch (f->form) {
	case TEXT:
		memcpy(to, &value, sizeof(value));
		return value.n ? DF_OK : bad(r, node, "'%s' is empty", f->name);
	case KIND:
		if (!df_str_is(value, "chat") && !df_str_is(value, "embed"))
			return bad(r, node, "'kind' is chat or embed, not '%.*s'", n, value.p);
		info->kind = df_str_is(value, "chat") ? DF_ASK_CHAT : DF_ASK_EMBED;
		return DF_OK;
	case PRICE:
		if (df_str_to_double(value, &price) != DF_OK || price < 0)
			return bad(r, node, "'%s' is USD per million tokens, 0 or more, not '%.*s'", f->name, n,
				   value.p);
		memcpy(to, &price, sizeof(price));
		return DF_OK;
	case COUNT:
	case SIZE32:
		if (df_str_to_u64(value, &count) != DF_OK || (f->form == SIZE32 && count > UINT32_MAX))
			return bad(r, node, "'%s' is a whole number, not '%.*s'", f->name, n, value.p);
		if (f->form == COUNT)
			memcpy(to, &count, sizeof(count));
		else
			info->dim = (uint32_t)count;
		return DF_OK;
	}
	return DF_OK;
}

/* The value of one key; p NULL: it is not there. */
static enum df_err value_of(struct reader *r, struct fy_node *map, const char *name, struct fy_node **ret_node,
			    struct df_str *ret)
{
	struct fy_node_pair *pair;
	void *iter = NULL;
	*ret = (struct df_str){NULL, 0};
	while ((pair = fy_node_mapping_iterate(map, &iter)) != NULL) {
		struct df_str key = {NULL, 0};
		DF_TRY(scalar(r, fy_node_pair_key(pair), "a key", &key));
		if (!df_str_is(key, name))
			continue;
		*ret_node = fy_node_pair_value(pair);
		return scalar(r, *ret_node, name, ret);
	}
	return DF_OK;
}

/* Before the fields that are given: who speaks for the model, and what is known of it anyway. */
static enum df_err begin(struct reader *r, struct fy_node *map, struct df_user_row *row)
{
	struct df_str id, provider, model;
	struct fy_node *node = map;
	DF_TRY(value_of(r, map, "id", &node, &id));
	if (!id.n)
		return bad(r, map, "a model without an id");
	DF_TRY(value_of(r, map, "model", &node, &model));
	DF_TRY(value_of(r, map, "provider", &node, &provider));
	struct df_str own = model.p ? model : id;
	for (size_t i = 0; provider.p && df_provider_registry[i]; i++)
		if (df_str_is(provider, df_provider_registry[i]->name))
			row->by = df_provider_registry[i];
	if (provider.p && !row->by)
		return bad(r, node, "there is no provider '%.*s'", (int)(provider.n < 60 ? provider.n : 60),
			   provider.p);
	if (!provider.p && df_provider_find(id, &row->by, &own, NULL) != DF_OK)
		return bad(r, map, "model '%.*s' does not tell its provider by its id; give it a 'provider'",
			   (int)(id.n < 100 ? id.n : 100), id.p);
	if (!row->by)
		return df_fail(r->fail, DF_ERR_BUG, "a model without a provider");
	struct df_str name = df_str_from(row->by->kin ? row->by->kin : row->by->name);
	const struct df_model_info *known = df_table_find(name, own);
	double price = row->by->free ? 0 : (double)NAN;
	row->info = known ? *known
			  : (struct df_model_info){.price_in = price, .price_cached_in = price, .price_out = price};
	row->info.tokenizer = df_table_tokenizer(name, own);
	row->info.provider = df_str_from(row->by->name);
	row->info.id = id;
	return DF_OK;
}

static enum df_err read_row(struct reader *r, struct fy_node *node)
{
	struct fy_node *map = follow(node);
	struct fy_node_pair *pair;
	struct df_user_row *row = &r->row[r->n_row];
	void *iter = NULL;
	bool kind_given = false;
	if (!map || fy_node_get_type(map) != FYNT_MAPPING)
		return bad(r, node, "a model is a mapping: id, provider, ...");
	*row = (struct df_user_row){.by = NULL};
	DF_TRY(begin(r, map, row));
	while ((pair = fy_node_mapping_iterate(map, &iter)) != NULL) {
		struct df_str key = {NULL, 0}, value = {NULL, 0};
		const struct field *f = NULL;
		DF_TRY(scalar(r, fy_node_pair_key(pair), "a key", &key));
		for (size_t i = 0; i < N_FIELD; i++)
			if (df_str_is(key, field[i].name))
				f = &field[i];
		if (!f)
			return unknown_key(r, fy_node_pair_key(pair), key);
		DF_TRY(scalar(r, fy_node_pair_value(pair), f->name, &value));
		DF_TRY(set(r, fy_node_pair_value(pair), f, value, &row->info));
		kind_given = kind_given || f->form == KIND;
	}
	if (!kind_given && row->info.dim)
		row->info.kind = DF_ASK_EMBED;
	r->n_row++;
	return DF_OK;
}

static enum df_err read_root(struct reader *r, struct fy_node *root)
{
	struct fy_node *at = follow(root), *list = NULL, *row;
	struct fy_node_pair *pair;
	void *iter = NULL;
	if (!at || fy_node_get_type(at) != FYNT_MAPPING)
		return bad(r, root, "a mapping with 'models' is wanted");
	while ((pair = fy_node_mapping_iterate(at, &iter)) != NULL) {
		struct df_str key = {NULL, 0};
		DF_TRY(scalar(r, fy_node_pair_key(pair), "a key", &key));
		if (!df_str_is(key, "models"))
			return bad(r, fy_node_pair_key(pair), "unknown key '%.*s'; only 'models' is known here",
				   (int)(key.n < 60 ? key.n : 60), key.p);
		list = follow(fy_node_pair_value(pair));
		if (!list || fy_node_get_type(list) != FYNT_SEQUENCE)
			return bad(r, fy_node_pair_key(pair), "'models' is a list");
	}
	int n = list ? fy_node_sequence_item_count(list) : 0;
	if (n > (int)DF_MODEL_ROWS_MAX)
		return bad(r, root, "more than %u models", DF_MODEL_ROWS_MAX);
	r->row = df_arena_array(r->arena, n > 0 ? (size_t)n : 1, sizeof(*r->row));
	if (!r->row)
		return no_memory(r);
	iter = NULL;
	while (list && r->n_row < (size_t)n && (row = fy_node_sequence_iterate(list, &iter)) != NULL)
		DF_TRY(read_row(r, row));
	return DF_OK;
}

static enum df_err yaml_error(const struct reader *r, struct fy_diag *diag)
{
	void *iter = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);
	if (!e)
		return df_fail(r->fail, DF_ERR_USAGE, "%s: not YAML", r->path);
	return df_fail(r->fail, DF_ERR_USAGE, "%s:%d:%d: %s", r->path, e->line, e->column,
		       e->msg ? e->msg : "not YAML");
}

/* Blank lines and comments alone: libfyaml calls that an error, and users a file with everything commented out. */
static bool says_nothing(struct df_str text)
{
	for (const char *p = text.p, *end = p + text.n; text.n && p < end;) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct df_str line = df_str_trim((struct df_str){p, (size_t)((lf ? lf : end) - p)});
		if (line.n && line.p[0] != '#')
			return false;
		p = lf ? lf + 1 : end;
	}
	return true;
}

enum df_err df_table_yaml(struct df_str text, const char *path, struct df_arena *arena, struct df_user_row **ret_row,
			  size_t *ret_n, struct df_fail *fail)
{
	struct reader r = {.path = path, .arena = arena, .fail = fail};
	size_t valid = df_str_utf8_prefix(text);
	if (valid < text.n)
		return df_fail(fail, DF_ERR_USAGE, "%s: not valid UTF-8 at byte %zu", path, valid);
	if (says_nothing(text))
		return DF_OK;
	struct fy_diag *diag = fy_diag_create(NULL);
	if (!diag)
		return no_memory(&r);
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
	struct fy_document *doc = fy_document_build_from_string(&cfg, text.p, text.n);
	enum df_err err = !doc                    ? yaml_error(&r, diag)
			  : fy_document_root(doc) ? read_root(&r, fy_document_root(doc))
						  : DF_OK;
	fy_document_destroy(doc);
	fy_diag_destroy(diag);
	if (err == DF_OK) {
		*ret_row = r.row;
		*ret_n = r.n_row;
	}
	return err;
}
