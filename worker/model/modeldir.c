// SPDX-License-Identifier: Apache-2.0
/* modeldir: names to folders; nothing is created here. */
#include "worker/model/modeldir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static enum df_err fits(int n, struct df_fail *fail)
{
	if (n < 0 || (size_t)n >= DF_MODEL_PATH_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "the path of the model cache is too long");
	return DF_OK;
}

enum df_err df_model_cache(char ret_dir[DF_MODEL_PATH_BYTES], struct df_fail *fail)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (xdg && xdg[0] == '/') /* the XDG specification: a relative path is to be ignored */
		return fits(snprintf(ret_dir, DF_MODEL_PATH_BYTES, "%s/docflume/models", xdg), fail);
	if (home && home[0])
		return fits(snprintf(ret_dir, DF_MODEL_PATH_BYTES, "%s/.cache/docflume/models", home), fail);
	return df_fail(fail, DF_ERR_NOT_FOUND,
		       "no model cache: neither HOME nor XDG_CACHE_HOME is set; use --model-dir");
}

bool df_model_name_ok(struct df_str name)
{
	if (name.n == 0 || name.n > DF_MODEL_NAME_BYTES || name.p[0] == '.')
		return false;
	for (size_t i = 0; i < name.n; i++) {
		char c = name.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
		      c == '_' || c == '-'))
			return false;
	}
	return true;
}

static bool is_folder(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum df_err df_model_find(struct df_str name, const char *model_dir, const char *cache,
			  char ret_dir[DF_MODEL_PATH_BYTES], struct df_fail *fail)
{
	char own[DF_MODEL_PATH_BYTES], dir[DF_MODEL_PATH_BYTES];
	if (model_dir && model_dir[0]) {
		if (!is_folder(model_dir))
			return df_fail(fail, DF_ERR_NOT_FOUND, "the model folder '%s' does not exist", model_dir);
		return fits(snprintf(ret_dir, DF_MODEL_PATH_BYTES, "%s", model_dir), fail);
	}
	if (!df_model_name_ok(name))
		return df_fail(fail, DF_ERR_USAGE,
			       "'" DF_STR_FMT "' is no name of a model; a folder is given by --model-dir",
			       (int)(name.n < 200 ? name.n : 200), name.p ? name.p : "");
	if (!cache) {
		DF_TRY(df_model_cache(own, fail));
		cache = own;
	}
	DF_TRY(fits(snprintf(dir, sizeof(dir), "%s/" DF_STR_FMT, cache, DF_STR_ARG(name)), fail));
	if (!is_folder(dir))
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "model '" DF_STR_FMT "' is not in the cache; run 'docflume models fetch'",
			       DF_STR_ARG(name));
	memcpy(ret_dir, dir, sizeof(dir));
	return DF_OK;
}
