// SPDX-License-Identifier: Apache-2.0
/* preset_file: the user's presets, from YAML: a mapping of names to mappings of options. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "base/yaml/yaml.h"
#include "cli/resolve.h"

#define PRESETS_MAX 256
#define OPTIONS_MAX 64
#define NODES_MAX 65536U
#define FILE_BYTES_MAX (256U << 10)

static enum df_err options(struct df_yaml *y, struct df_yaml_node *node, struct df_preset *to)
{
	struct df_yaml_node *map = NULL, *key, *value;
	void *at = NULL;
	DF_TRY(df_yaml_visit(y, node, &map));
	if (df_yaml_kind(map) != DF_YAML_MAP)
		return df_yaml_bad(y, node, "preset '%.*s' is no mapping of options",
				   (int)(to->name.n < 80 ? to->name.n : 80), to->name.p);
	to->opt = df_arena_array(y->arena, OPTIONS_MAX, sizeof(*to->opt));
	to->place = df_arena_array(y->arena, OPTIONS_MAX, sizeof(*to->place));
	if (!to->opt || !to->place)
		return df_yaml_no_memory(y);
	while (df_yaml_next_pair(map, &at, &key, &value)) {
		struct df_pipeline_opt o = {.key_at = SIZE_MAX, .value_at = SIZE_MAX};
		if (to->n_opt == OPTIONS_MAX)
			return df_yaml_bad(y, key, "more than %d options in preset '%.*s'", OPTIONS_MAX,
					   (int)(to->name.n < 80 ? to->name.n : 80), to->name.p);
		DF_TRY(df_yaml_text(y, key, "an option's name", &o.key));
		DF_TRY(df_yaml_text(y, value, "an option's value", &o.value));
		DF_TRY(df_yaml_place(y, key, &to->place[to->n_opt]));
		to->opt[to->n_opt++] = o;
	}
	return DF_OK;
}

static enum df_err presets(struct df_yaml *y, struct df_str from, struct df_presets *ret)
{
	struct df_yaml_node *root = NULL, *key, *value;
	void *at = NULL;
	DF_TRY(df_yaml_visit(y, y->root, &root));
	if (!root)
		return DF_OK;
	if (df_yaml_kind(root) != DF_YAML_MAP)
		return df_yaml_bad(y, root, "a mapping of presets' names to options is wanted");
	ret->item = df_arena_zalloc(y->arena, PRESETS_MAX * sizeof(*ret->item));
	if (!ret->item)
		return df_yaml_no_memory(y);
	while (df_yaml_next_pair(root, &at, &key, &value)) {
		struct df_preset *to = &ret->item[ret->n];
		if (ret->n == PRESETS_MAX)
			return df_yaml_bad(y, key, "more than %d presets", PRESETS_MAX);
		to->from = from;
		DF_TRY(df_yaml_text(y, key, "a preset's name", &to->name));
		DF_TRY(options(y, value, to));
		ret->n++;
	}
	return DF_OK;
}

enum df_err df_preset_file_parse(struct df_str text, const char *path, struct df_arena *arena,
				 struct df_presets *ret_presets, struct df_fail *fail)
{
	struct df_str kept = df_arena_copy(arena, df_str_from(path));
	const struct df_yaml_source source = {text, path, FILE_BYTES_MAX, NODES_MAX};
	struct df_presets all = {NULL, 0};
	struct df_yaml yaml;
	if (!kept.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '%.300s'", path);
	DF_TRY(df_yaml_open(&yaml, &source, arena, fail));
	enum df_err err = presets(&yaml, kept, &all);
	df_yaml_close(&yaml);
	if (err == DF_OK)
		*ret_presets = all;
	return err;
}

enum df_err df_preset_file_read(struct df_arena *arena, struct df_presets *ret_presets, struct df_fail *fail)
{
	char path[4200];
	char *text = NULL;
	size_t n = 0;
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	if (xdg && xdg[0] == '/')
		(void)snprintf(path, sizeof(path), "%.4000s/docflume/presets.yaml", xdg);
	else if (home && home[0] == '/')
		(void)snprintf(path, sizeof(path), "%.4000s/.config/docflume/presets.yaml", home);
	else
		return DF_OK;
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return DF_OK;
	DF_TRY(df_io_read_file(&df_io_real, AT_FDCWD, path, FILE_BYTES_MAX, &text, &n, fail));
	enum df_err err = df_preset_file_parse((struct df_str){text, n}, path, arena, ret_presets, fail);
	free(text);
	return err;
}
