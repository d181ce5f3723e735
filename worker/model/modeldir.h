// SPDX-License-Identifier: Apache-2.0
/*
 * modeldir: where models lie. A model is a folder of the cache, $XDG_CACHE_HOME/docflume/models/NAME, or
 * ~/.cache/docflume/models/NAME when the variable is not set to an absolute path.
 */
#ifndef DF_WORKER_MODEL_MODELDIR_H
#define DF_WORKER_MODEL_MODELDIR_H

#include "base/err.h"
#include "base/str.h"

#define DF_MODEL_DEFAULT "all-MiniLM-L6-v2"
#define DF_MODEL_PATH_BYTES 4096U
#define DF_MODEL_NAME_BYTES 128U

/* The folder of all models. DF_ERR_NOT_FOUND when neither XDG_CACHE_HOME nor HOME says where, DF_ERR_LIMIT. */
enum df_err df_model_cache(char ret_dir[DF_MODEL_PATH_BYTES], struct df_fail *fail) DF_MUST_CHECK;

/* A name is letters, digits, '.', '_', '-', and does not begin with a dot: it cannot leave the cache. */
bool df_model_name_ok(struct df_str name);

/*
 * The folder of one model: `model_dir` as it is when not empty, else `name` in `cache` (NULL: df_model_cache).
 * DF_ERR_NOT_FOUND tells to run 'docflume models fetch'; DF_ERR_USAGE for a bad name.
 */
enum df_err df_model_find(struct df_str name, const char *model_dir, const char *cache,
			  char ret_dir[DF_MODEL_PATH_BYTES], struct df_fail *fail) DF_MUST_CHECK;

#endif
