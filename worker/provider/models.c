// SPDX-License-Identifier: Apache-2.0
/* models: the table of models as a user sees it (users' rows before the built-in ones), and what asks cost by it. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/limits.h"
#include "worker/provider/table.h"

/* What providers add: around a turn and an input, and what they make of a schema (closed objects, a tool, words of their own). */
#define TURN_TOKENS 16
#define INPUT_TOKENS 8
#define SCHEMA_TOKENS 512

struct df_models {
	struct df_arena arena;
	struct df_user_row *row; /* of patterns that match the last counts */
	size_t n_row;
	struct df_model_info *all;
	size_t n_all;
};

/* ------------------------------------------------------------------ opening */

/* ${XDG_CONFIG_HOME:-~/.config}/docflume/models.yaml; false: there is no such place. */
static bool default_path(char *path, size_t cap)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = config && config[0] == '/' ? snprintf(path, cap, "%s/docflume/models.yaml", config)
		: home && home[0] == '/'   ? snprintf(path, cap, "%s/.config/docflume/models.yaml", home)
					   : -1;
	return n > 0 && (size_t)n < cap;
}

/* Whatever is the matter with the file is the user's to mend. */
static enum df_err read_text(const char *path, char **ret_text, size_t *ret_n, struct df_fail *fail)
{
	struct df_fail why = {.msg = ""};
	struct stat st;
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) /* a pipe would keep us waiting */
		return df_fail(fail, DF_ERR_USAGE, "the table of models '%s' is %s", path,
			       S_ISDIR(st.st_mode) ? "a directory" : "no regular file");
	enum df_err err = df_io_read_file(&df_io_real, AT_FDCWD, path, DF_PIPELINE_BYTES_MAX, ret_text, ret_n, &why);
	if (err == DF_OK)
		return DF_OK;
	if (err != DF_ERR_NOT_FOUND && err != DF_ERR_NOMEM)
		err = DF_ERR_USAGE;
	return df_fail(fail, err, "the table of models: %s", why.msg);
}

static enum df_err read_yaml(struct df_models *m, const char *path, struct df_fail *fail)
{
	char standard[4096], *text = NULL;
	size_t n = 0;
	if (!path && !default_path(standard, sizeof(standard)))
		return DF_OK;
	if (!path && access(standard, F_OK) != 0 && (errno == ENOENT || errno == ENOTDIR)) /* HOME=/dev/null */
		return DF_OK;
	DF_TRY(read_text(path ? path : standard, &text, &n, fail));
	enum df_err err =
		df_table_yaml((struct df_str){text, n}, path ? path : standard, &m->arena, &m->row, &m->n_row, fail);
	free(text);
	return err;
}

static bool overridden(const struct df_models *m, struct df_str provider, struct df_str id)
{
	for (size_t i = 0; i < m->n_row; i++)
		if (df_str_eq(m->row[i].info.provider, provider) && df_str_eq(m->row[i].info.id, id))
			return true;
	return false;
}

static bool gather(struct df_models *m)
{
	size_t n = 0;
	const struct df_model_info *row = df_table_rows(&n);
	m->all = df_arena_array(&m->arena, n + m->n_row, sizeof(*m->all));
	if (!m->all)
		return false;
	for (size_t i = 0; i < m->n_row; i++)
		m->all[m->n_all++] = m->row[i].info;
	for (size_t i = 0; i < n; i++)
		if (!overridden(m, row[i].provider, row[i].id)) {
			m->all[m->n_all] = row[i];
			m->all[m->n_all++].tokenizer = df_table_tokenizer(row[i].provider, row[i].id);
		}
	return true;
}

enum df_err df_models_open(const char *yaml_path, struct df_models **ret_models, struct df_fail *fail)
{
	struct df_models *m = calloc(1, sizeof(*m));
	if (!m)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the table of models");
	df_arena_init(&m->arena, 64U << 20, 0);
	enum df_err err = read_yaml(m, yaml_path, fail);
	if (err == DF_OK && !gather(m))
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for the table of models");
	if (err != DF_OK)
		df_models_close(&m);
	else
		*ret_models = m;
	return err;
}

void df_models_close(struct df_models **models)
{
	if (!models || !*models)
		return;
	df_arena_release(&(*models)->arena);
	free(*models);
	*models = NULL;
}

enum df_err df_models_shared(const struct df_models **ret_models, struct df_fail *fail)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct df_models *shared;
	(void)pthread_mutex_lock(&lock);
	enum df_err err = shared ? DF_OK : df_models_open(NULL, &shared, fail);
	if (err == DF_OK)
		*ret_models = shared;
	(void)pthread_mutex_unlock(&lock);
	return err;
}

const struct df_model_info *df_models_all(const struct df_models *m, size_t *ret_n)
{
	*ret_n = m->n_all;
	return m->all;
}

/* ------------------------------------------------------------------ looking up */

static bool row_is(const struct df_user_row *row, struct df_str id, bool as_pattern)
{
	char z[257];
	size_t n_prefix = row->info.provider.n + 1;
	struct df_str rest = {id.p + n_prefix, id.n > n_prefix ? id.n - n_prefix : 0};
	bool prefixed = rest.n && df_str_starts(id, row->by->name) && id.p[n_prefix - 1] == '/';
	if (!as_pattern)
		return df_str_eq(row->info.id, id) || (prefixed && df_str_eq(row->info.id, rest));
	(void)snprintf(z, sizeof(z), "%.*s", (int)(row->info.id.n < 256 ? row->info.id.n : 256), row->info.id.p);
	const char *const pattern[] = {z, NULL};
	return df_wire_match(id, pattern) || (prefixed && df_wire_match(rest, pattern));
}

static const struct df_user_row *user_row(const struct df_models *m, struct df_str id)
{
	for (int as_pattern = 0; m && as_pattern < 2; as_pattern++)
		for (size_t i = m->n_row; i-- > 0;)
			if (row_is(&m->row[i], id, as_pattern != 0))
				return &m->row[i];
	return NULL;
}

static struct df_model_info built_in(const struct df_provider *p, struct df_str model, struct df_str id)
{
	struct df_str provider = df_str_from(p->kin ? p->kin : p->name);
	const struct df_model_info *row = df_table_find(provider, model);
	double unknown = p->free ? 0 : (double)NAN;
	struct df_model_info info = {
		.kind = DF_ASK_CHAT, .price_in = unknown, .price_cached_in = unknown, .price_out = unknown};
	if (row)
		info = *row;
	info.kind_known = row != NULL;
	info.id = id;
	info.provider = df_str_from(p->name);
	info.tokenizer = df_table_tokenizer(provider, model);
	return info;
}

/* What a pattern's row leaves open of a model that is known by itself: limits for all of "gpt-*" take no prices away. */
static struct df_model_info filled(const struct df_user_row *row, struct df_str model, struct df_str id)
{
	struct df_model_info info = row->info, known = built_in(row->by, model, id);
	if (row->is_known)
		return info;
	info.kind = row->has_kind ? info.kind : known.kind;
	info.kind_known = row->has_kind || known.kind_known;
	info.context = info.context ? info.context : known.context;
	info.max_output = info.max_output ? info.max_output : known.max_output;
	info.dim = info.dim ? info.dim : known.dim;
	info.long_from = info.long_from ? info.long_from : known.long_from;
	info.tokenizer = info.tokenizer.n ? info.tokenizer : known.tokenizer;
	if (isnan(info.price_cached_in) && isnan(info.price_in))
		info.price_cached_in = known.price_cached_in;
	info.price_in = isnan(info.price_in) ? known.price_in : info.price_in;
	info.price_out = isnan(info.price_out) ? known.price_out : info.price_out;
	return info;
}

enum df_err df_models_find(const struct df_models *m, struct df_str id, const struct df_provider **ret_provider,
			   struct df_str *ret_model, struct df_model_info *ret_info, struct df_fail *fail)
{
	const struct df_user_row *row = user_row(m, id);
	const struct df_provider *p = NULL;
	struct df_str model = id;
	if (!row) {
		enum df_err err = df_provider_find(id, &p, &model, fail);
		if (err != DF_OK)
			return m && err == DF_ERR_NOT_FOUND ? df_table_unknown(id, m->all, m->n_all, fail) : err;
		*ret_info = built_in(p, model, id);
		*ret_provider = p;
		*ret_model = model;
		return DF_OK;
	}
	size_t n_prefix = strlen(row->by->name) + 1;
	if (row->info.model.n)
		model = row->info.model;
	else if (id.n > n_prefix && df_str_starts(id, row->by->name) && id.p[n_prefix - 1] == '/')
		model = (struct df_str){id.p + n_prefix, id.n - n_prefix};
	*ret_info = filled(row, model, id);
	ret_info->id = id;
	*ret_provider = row->by;
	*ret_model = model;
	return DF_OK;
}

struct df_model_info df_models_get(const struct df_models *m, struct df_str id)
{
	const struct df_provider *p = NULL;
	struct df_str model = {NULL, 0};
	struct df_model_info info = {.id = id,
				     .provider = DF_STR(""),
				     .price_in = (double)NAN,
				     .price_cached_in = (double)NAN,
				     .price_out = (double)NAN};
	(void)(df_models_find(m, id, &p, &model, &info, NULL) == DF_OK);
	return info;
}

/* ------------------------------------------------------------------ money */

static double usd(uint64_t tokens, double price)
{
	return tokens ? (double)tokens * price / 1e6 : 0; /* none of an unknown price is nothing */
}

double df_price_of(const struct df_model_info *model, const struct df_usage *usage)
{
	uint64_t cached = usage->cached_in < usage->in ? usage->cached_in : usage->in;
	bool is_long = model->long_from && usage->in > model->long_from;
	double price_cached = isnan(model->price_cached_in) ? model->price_in : model->price_cached_in;
	double in = usd(usage->in - cached, model->price_in) + usd(cached, price_cached);
	return in * (is_long ? 2 : 1) + usd(usage->out, model->price_out) * (is_long ? 1.5 : 1);
}

/* Figures and signs are a token each, so that an estimate by two bytes a token (ask.h) is none from above: but no text has more tokens than bytes. */
static uint64_t most_tokens(const struct df_ask *ask)
{
	uint64_t n = 0;
	if (ask->tokens_exact)
		return ask->tokens_in;
	for (size_t i = 0; ask->kind == DF_ASK_CHAT && i < ask->n_turn; i++)
		n += ask->turn[i].text.n + TURN_TOKENS;
	for (size_t i = 0; ask->kind == DF_ASK_EMBED && i < ask->n_input; i++)
		n += ask->input[i].n + INPUT_TOKENS;
	if (ask->schema.n)
		n += 2 * ask->schema.n + SCHEMA_TOKENS;
	return n > 2 * ask->tokens_in ? n : 2 * ask->tokens_in;
}

double df_price_worst(const struct df_model_info *model, const struct df_ask *ask)
{
	struct df_usage worst = {.in = most_tokens(ask)};
	if (ask->kind == DF_ASK_EMBED)
		return df_price_of(model, &worst);
	worst.out = ask->max_tokens > 0                       ? (uint64_t)ask->max_tokens
		    : df_str_is(model->provider, "anthropic") ? DF_ANTHROPIC_TOKENS
		    : model->max_output                       ? model->max_output
							      : model->context;
	if (worst.out == 0 && model->price_out > 0) /* it may answer for ever */
		return (double)NAN;
	return df_price_of(model, &worst);
}
