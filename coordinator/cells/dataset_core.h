// SPDX-License-Identifier: Apache-2.0
/*
 * dataset_core: a list of sources while it is being made: what dataset.c (operands, names) and dataset_walk.c (folders) share, and nobody
 * else sees.
 */
#ifndef DF_COORDINATOR_CELLS_DATASET_CORE_H
#define DF_COORDINATOR_CELLS_DATASET_CORE_H

#include <sys/stat.h>

#include "base/map.h"
#include "coordinator/cells/dataset.h"

#define DF_DATASET_PATH_MAX 4096
#define DF_DATASET_DEPTH_MAX 128

struct df_folder_id {
	uint64_t dev, ino;
};

struct df_dataset_build {
	const struct df_dataset_spec *spec;
	struct df_dataset d;
	struct df_map seen; /* names taken */
	struct df_str here; /* the working folder with a slash behind it, or empty */
	char here_bytes[DF_DATASET_PATH_MAX + 2];
	struct df_folder_id way[DF_DATASET_DEPTH_MAX];
	size_t depth;
	bool has_stdin;
	struct df_fail *fail;
};

enum df_err df_dataset_out_of_memory(const struct df_dataset_build *b);
int df_dataset_by_bytes(const void *a, const void *b); /* for qsort of char * */
/* A file of this kind becomes a source, unless its name was there before. */
enum df_err df_dataset_add_file(struct df_dataset_build *b, const char *path, const struct stat *st,
				const struct df_file_kind *kind) DF_MUST_CHECK;
/* Everything in a folder; counts what is passed over. */
enum df_err df_dataset_walk(struct df_dataset_build *b, const char *path, const struct stat *folder) DF_MUST_CHECK;

#endif
