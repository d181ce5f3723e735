// SPDX-License-Identifier: Apache-2.0
/*
 * dataset_walk: what is in a folder, and in the folders in it.
 *
 * DESIGN. A folder is listed whole and sorted before it is entered, one list per level; a link back to a folder that
 * is being walked is a loop and is passed over (each folder on the way is known by device and inode).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/array.h"
#include "coordinator/cells/dataset_core.h"

static void free_list(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

static enum df_err list_folder(struct df_dataset_build *b, DIR *dir, const char *path, char ***ret_list, size_t *ret_n)
{
	char **list = NULL;
	size_t n = 0, cap = 0;
	enum df_err err = DF_OK;
	errno = 0;
	for (struct dirent *e = readdir(dir); e && err == DF_OK; errno = 0, e = readdir(dir)) {
		if (e->d_name[0] == '.') {
			b->d.n_hidden += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
			continue;
		}
		if (df_array_room((void **)&list, n, &cap, sizeof(*list)) != DF_OK) {
			err = df_dataset_out_of_memory(b);
			break;
		}
		list[n] = strdup(e->d_name);
		err = list[n] ? DF_OK : df_dataset_out_of_memory(b);
		n += list[n] != NULL;
	}
	if (err == DF_OK && errno)
		err = df_fail_errno(b->fail, "cannot read folder '%s'", path);
	if (err != DF_OK) {
		free_list(list, n);
		return err;
	}
	if (n)
		qsort(list, n, sizeof(*list), df_dataset_by_bytes);
	*ret_list = list;
	*ret_n = n;
	return DF_OK;
}

static bool on_the_way(const struct df_dataset_build *b, const struct stat *st)
{
	for (size_t i = 0; i < b->depth; i++)
		if (b->way[i].dev == (uint64_t)st->st_dev && b->way[i].ino == (uint64_t)st->st_ino)
			return true;
	return false;
}

/* @p name is @p path as its folder @p fd has it: no way through all folders for each file. */
static enum df_err enter(struct df_dataset_build *b, int fd, const char *name, const char *path)
{
	struct stat st;
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	if (fstatat(fd, name, &st, 0) != 0) {
		if (errno != ENOENT && errno != ELOOP)
			return df_fail_errno(b->fail, "cannot stat '%s'", path);
		b->d.n_unknown++; /* a link that leads nowhere */
		return DF_OK;
	}
	if (S_ISDIR(st.st_mode))
		return on_the_way(b, &st) ? DF_OK : df_dataset_walk(b, path, &st);
	bool known = df_file_kind_of(df_str_from(path), &kind);
	if (!S_ISREG(st.st_mode) || (!known && b->spec->format == DF_FORMAT_AUTO)) {
		b->d.n_unknown++;
		return DF_OK;
	}
	return df_dataset_add_file(b, path, &st, &kind);
}

enum df_err df_dataset_walk(struct df_dataset_build *b, const char *path, const struct stat *folder)
{
	char **list = NULL;
	size_t n = 0;
	if (b->depth == DF_DATASET_DEPTH_MAX)
		return df_fail(b->fail, DF_ERR_LIMIT, "folders nested deeper than %d at '%s'", DF_DATASET_DEPTH_MAX,
			       path);
	DIR *dir = opendir(path);
	if (!dir)
		return df_fail_errno(b->fail, "cannot open folder '%s'", path);
	b->way[b->depth++] = (struct df_folder_id){(uint64_t)folder->st_dev, (uint64_t)folder->st_ino};
	enum df_err err = list_folder(b, dir, path, &list, &n);
	const char *slash = df_str_ends(df_str_from(path), "/") ? "" : "/";
	for (size_t i = 0; err == DF_OK && i < n; i++) {
		char *inside = NULL;
		if (asprintf(&inside, "%s%s%s", path, slash, list[i]) < 0) {
			err = df_dataset_out_of_memory(b);
			break;
		}
		err = enter(b, dirfd(dir), list[i], inside);
		free(inside);
	}
	free_list(list, n);
	(void)closedir(dir);
	b->depth--;
	return err;
}
