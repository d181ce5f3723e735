// SPDX-License-Identifier: Apache-2.0
/* cmd_models: `docflume models`: models of APIs, and those in the local cache; `docflume models fetch`: bring one there. */
#include "cli/commands.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "worker/model/bert_config.h"
#include "worker/model/fetch.h"
#include "base/json.h"
#include "worker/model/modeldir.h"
#include "worker/provider/provider.h"

#define OUT_BYTES ((size_t)1 << 20)
#define MODELS_MAX 1000

static const char usage[] =
	"usage: docflume models [list] [WORD] [--json] [--models FILE]\n"
	"       docflume models fetch [NAME]\n\n"
	"Lists models of APIs: id, provider, kind, context and longest answer in tokens, dimension, USD per million "
	"tokens\n"
	"(in, in from the provider's cache, out; '-' is unknown), and limits that were set; then the models in the "
	"local cache\n"
	"($XDG_CACHE_HOME/docflume/models, else ~/.cache/docflume/models). WORD: only those that have it in their id, "
	"provider\n"
	"or kind. Rows of one's own come from FILE, else from ${XDG_CONFIG_HOME:-~/.config}/docflume/models.yaml.\n"
	"A model that is not listed can be used too, as PROVIDER/MODEL; only its prices are unknown then.\n\n"
	"fetch brings a local one: " DF_MODEL_DEFAULT
	" when no NAME is given. It is downloaded with pip, pinned by version\n"
	"and SHA-256, and checked; one that is there already is checked again.\n";

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the cache's folders, sorted, on the heap. */
static size_t read_names(const char *cache, char *name[MODELS_MAX])
{
	size_t n = 0;
	DIR *dir = opendir(cache);
	if (!dir)
		return 0;
	for (struct dirent *e = readdir(dir); e && n < MODELS_MAX; e = readdir(dir))
		if (df_model_name_ok(df_str_from(e->d_name)) && (name[n] = df_str_dup(df_str_from(e->d_name))))
			n++;
	(void)closedir(dir);
	qsort(name, n, sizeof(*name), by_name);
	return n;
}

static void add_model(const char *cache, const char *name, struct df_buf *out)
{
	char dir[DF_MODEL_PATH_BYTES], weights[DF_MODEL_PATH_BYTES + 32];
	struct df_bert_config c = {0};
	struct df_fail fail = {.msg = ""};
	struct stat st = {0};
	if (df_model_find(df_str_from(name), NULL, cache, dir, &fail) != DF_OK)
		return;
	(void)snprintf(weights, sizeof(weights), "%s/model.safetensors", dir);
	bool has_weights = stat(weights, &st) == 0;
	if (df_bert_config_read(dir, &c, &fail) != DF_OK)
		(void)df_buf_addf(out, "%-24s cannot be used: %s\n", name, fail.msg);
	else
		(void)df_buf_addf(out, "%-24s %5u %7u %7.1f MB  %s%s\n", name, c.hidden, c.layers,
				  (double)st.st_size / 1e6, dir, has_weights ? "" : " (no model.safetensors)");
}

static void add_local_json(const char *cache, const char *name, struct df_buf *out)
{
	char dir[DF_MODEL_PATH_BYTES];
	struct df_bert_config c = {0};
	if (df_model_find(df_str_from(name), NULL, cache, dir, NULL) != DF_OK ||
	    df_bert_config_read(dir, &c, NULL) != DF_OK)
		return;
	(void)df_buf_addz(out, "{\"id\":");
	(void)df_json_add_string(out, df_str_from(name));
	(void)df_buf_addf(out, ",\"provider\":\"local\",\"kind\":\"embed\",\"dim\":%u,\"path\":", c.hidden);
	(void)df_json_add_string(out, df_str_from(dir));
	(void)df_buf_addz(out, "}\n");
}

static enum df_err list_local(const char *word, bool json, struct df_buf *out, struct df_fail *fail)
{
	char cache[DF_MODEL_PATH_BYTES], *name[MODELS_MAX];
	DF_TRY(df_model_cache(cache, fail));
	size_t n = read_names(cache, name), n_shown = 0;
	if (n == 0 && !word && !json)
		(void)df_buf_addf(out, "\nno local models in '%s'; 'docflume models fetch' brings %s\n", cache,
				  DF_MODEL_DEFAULT);
	for (size_t i = 0; i < n; i++) {
		bool is_wanted = !word || strstr(name[i], word) || strcmp(word, "local") == 0;
		if (is_wanted && json)
			add_local_json(cache, name[i], out);
		else if (is_wanted) {
			if (n_shown++ == 0)
				(void)df_buf_addf(out, "%s%-24s %5s %7s %10s  %s\n", out->n ? "\n" : "", "NAME", "DIM",
						  "LAYERS", "SIZE", "PATH");
			add_model(cache, name[i], out);
		}
		free(name[i]);
	}
	return df_buf_err(out);
}

/* ------------------------------------------------------------------ models of APIs */

static const char *kind_name(const struct df_model_info *m)
{
	return m->kind == DF_ASK_EMBED ? "embed" : "chat";
}

static bool wanted(const struct df_model_info *m, const char *word)
{
	return !word || memmem(m->id.p, m->id.n, word, strlen(word)) ||
	       memmem(m->provider.p, m->provider.n, word, strlen(word)) || strcmp(word, kind_name(m)) == 0;
}

static void add_price(struct df_buf *out, double usd)
{
	struct df_buf z;
	df_buf_init(&z, 512);
	if (isnan(usd))
		(void)df_buf_addc(&z, '-');
	else
		(void)df_json_add_usd(&z, usd);
	(void)df_buf_addf(out, " %8s", df_buf_z(&z));
	df_buf_release(&z);
}

static void add_count(struct df_buf *out, int width, uint64_t n)
{
	if (n)
		(void)df_buf_addf(out, " %*llu", width, (unsigned long long)n);
	else
		(void)df_buf_addf(out, " %*s", width, "-");
}

static void add_limit(struct df_buf *out, const char *name, uint64_t n)
{
	if (n)
		(void)df_buf_addf(out, " %s=%llu", name, (unsigned long long)n);
}

static void add_row(const struct df_model_info *m, struct df_buf *out)
{
	(void)df_buf_addf(out, "%-30.*s %-9.*s %-5s", (int)m->id.n, m->id.p, (int)m->provider.n, m->provider.p,
			  kind_name(m));
	add_count(out, 8, m->context);
	add_count(out, 7, m->max_output);
	add_count(out, 5, m->dim);
	add_price(out, m->price_in);
	add_price(out, m->price_cached_in);
	add_price(out, m->price_out);
	add_limit(out, "rpm", m->rpm);
	add_limit(out, "tpm", m->tpm);
	add_limit(out, "rpd", m->rpd);
	add_limit(out, "tpd", m->tpd);
	add_limit(out, "concurrency", m->concurrency);
	(void)df_buf_addz(out, "\n");
}

static void add_number(struct df_buf *out, const char *name, uint64_t n)
{
	(void)df_buf_addf(out, n ? ",\"%s\":%llu" : ",\"%s\":null", name, (unsigned long long)n);
}

static void add_usd(struct df_buf *out, const char *name, double usd)
{
	(void)df_buf_addf(out, ",\"%s\":", name);
	(void)df_json_add_usd(out, usd); /* unknown is null */
}

static void add_json(const struct df_model_info *m, struct df_buf *out)
{
	(void)df_buf_addz(out, "{\"id\":");
	(void)df_json_add_string(out, m->id);
	(void)df_buf_addz(out, ",\"provider\":");
	(void)df_json_add_string(out, m->provider);
	(void)df_buf_addf(out, ",\"kind\":\"%s\"", kind_name(m));
	add_number(out, "context", m->context);
	add_number(out, "max_output", m->max_output);
	add_number(out, "dim", m->dim);
	add_usd(out, "price_in", m->price_in);
	add_usd(out, "price_cached_in", m->price_cached_in);
	add_usd(out, "price_out", m->price_out);
	add_number(out, "long_from", m->long_from);
	add_number(out, "rpm", m->rpm);
	add_number(out, "tpm", m->tpm);
	add_number(out, "rpd", m->rpd);
	add_number(out, "tpd", m->tpd);
	add_number(out, "concurrency", m->concurrency);
	(void)df_buf_addz(out, "}\n");
}

static enum df_err list(const char *word, bool json, const char *yaml, struct df_buf *out, struct df_fail *fail)
{
	struct df_models *models = NULL;
	size_t n = 0, n_shown = 0;
	DF_TRY(df_models_open(yaml, &models, fail));
	const struct df_model_info *m = df_models_all(models, &n);
	for (size_t i = 0; i < n; i++) {
		if (!wanted(&m[i], word))
			continue;
		if (!json && n_shown++ == 0)
			(void)df_buf_addf(out, "%-30s %-9s %-5s %8s %7s %5s %8s %8s %8s LIMITS\n", "MODEL", "PROVIDER",
					  "KIND", "CONTEXT", "ANSWER", "DIM", "IN", "CACHED", "OUT");
		if (json)
			add_json(&m[i], out);
		else
			add_row(&m[i], out);
	}
	df_models_close(&models);
	if (!json && !word) {
		(void)df_buf_addz(out, "\nproviders, for models as PROVIDER/MODEL:\n");
		for (size_t i = 0; df_provider_registry[i]; i++)
			(void)df_buf_addf(out, "  %-10s %s\n", df_provider_registry[i]->name,
					  df_provider_registry[i]->summary);
	}
	size_t before = out->n;
	DF_TRY(list_local(word, json, out, fail));
	if (!json && word && n_shown == 0 && out->n == before)
		return df_buf_addf(out, "no model with '%.100s' in its id, provider or kind\n", word);
	return DF_OK;
}

static enum df_err list_with(int argc, char **argv, struct df_buf *out, struct df_fail *fail)
{
	const char *word = NULL, *yaml = NULL;
	bool json = false;
	for (int i = 1; i < argc; i++) {
		if (i == 1 && strcmp(argv[i], "list") == 0)
			continue;
		if (strcmp(argv[i], "--json") == 0)
			json = true;
		else if (strcmp(argv[i], "--models") == 0 && i + 1 < argc)
			yaml = argv[++i];
		else if (argv[i][0] == '-' || word)
			return df_fail(
				fail, DF_ERR_USAGE,
				"'models' takes 'list [WORD] [--json] [--models FILE]' or 'fetch [NAME]', not '%.100s'",
				argv[i]);
		else
			word = argv[i];
	}
	return list(word, json, yaml, out, fail);
}

static enum df_err fetch(const char *name, struct df_buf *out, struct df_fail *fail)
{
	char dir[DF_MODEL_PATH_BYTES];
	bool was_there = false;
	const struct df_model_recipe *r = df_model_recipe(df_str_from(name));
	if (!r)
		return df_fail(fail, DF_ERR_USAGE,
			       "docflume does not know where to get model '%.100s'; it can fetch '%s'", name,
			       DF_MODEL_DEFAULT);
	DF_TRY(df_model_fetch(r, NULL, dir, &was_there, fail));
	return df_buf_addf(out,
			   was_there ? "model '%s' is already in '%s'; its checksums are right\n"
				     : "model '%s' is now in '%s'\n",
			   r->name, dir);
}

static enum df_err models(int argc, char **argv, struct df_buf *out, struct df_fail *fail)
{
	const char *verb = argc > 1 ? argv[1] : "list";
	if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0)
		return df_buf_addz(out, usage);
	if (strcmp(verb, "fetch") != 0)
		return list_with(argc, argv, out, fail);
	if (strcmp(verb, "fetch") == 0 && argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
		return df_buf_addz(out, usage);
	if (strcmp(verb, "fetch") == 0 && argc <= 3)
		return fetch(argc == 3 ? argv[2] : DF_MODEL_DEFAULT, out, fail);
	return df_fail(fail, DF_ERR_USAGE, "'models fetch' takes one NAME");
}

int df_cmd_models(int argc, char **argv)
{
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	df_buf_init(&out, OUT_BYTES);
	enum df_err err = models(argc, argv, &out, &fail);
	int code = err == DF_OK ? df_cli_print(&out) : df_cli_fail("models", err, &fail);
	df_buf_release(&out);
	return code;
}
