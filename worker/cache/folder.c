// SPDX-License-Identifier: Apache-2.0
/* folder: where the cache lies, and its folder made. */
#include "worker/cache/disk_open.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define SUFFIX "docflume/answers"

enum df_err df_cache_folder_name(const char *path, char ret_folder[DF_CACHE_PATH_BYTES], struct df_fail *fail)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;
	if (path && *path)
		n = snprintf(ret_folder, DF_CACHE_PATH_BYTES, "%s", path);
	else if (base && base[0] == '/')
		n = snprintf(ret_folder, DF_CACHE_PATH_BYTES, "%s/" SUFFIX, base);
	else if (home && home[0] == '/')
		n = snprintf(ret_folder, DF_CACHE_PATH_BYTES, "%s/.cache/" SUFFIX, home);
	else
		return df_fail(fail, DF_ERR_NOT_FOUND,
			       "no place for the cache of answers: set HOME or XDG_CACHE_HOME, or name a folder");
	if (n < 0 || n >= DF_CACHE_PATH_BYTES - 64)
		return df_fail(fail, DF_ERR_LIMIT, "the path of the cache of answers is too long: '%.200s...'",
			       ret_folder);
	return DF_OK;
}

enum df_err df_cache_folder(const char *path, char ret_folder[DF_CACHE_PATH_BYTES], struct df_fail *fail)
{
	struct stat st;
	const char *home = getenv("HOME");
	DF_TRY(df_cache_folder_name(path, ret_folder, fail));
	/* the user's home is never made here: one that is not there is a mistake that must be seen */
	if (home && !(path && *path) && df_str_starts(df_str_from(ret_folder), home) && stat(home, &st) != 0)
		return df_fail_errno(fail, "no place for the cache of answers: HOME is '%.500s'", home);
	for (char *slash = ret_folder + 1;; slash++) {
		slash = strchr(slash, '/');
		if (slash)
			*slash = '\0';
		/* EROFS, EACCES of a folder that is there already: mkdir may say those before EEXIST */
		if (mkdir(ret_folder, 0700) != 0 && errno != EEXIST && stat(ret_folder, &st) != 0)
			return df_fail_errno(fail, "cannot make the cache's folder '%s'", ret_folder);
		if (!slash)
			break;
		*slash = '/';
	}
	if (stat(ret_folder, &st) != 0)
		return df_fail_errno(fail, "cannot look at the cache's folder '%s'", ret_folder);
	if (!S_ISDIR(st.st_mode))
		return df_fail(fail, DF_ERR_IO, "the cache's folder '%s' is a file: name another", ret_folder);
	return DF_OK;
}
