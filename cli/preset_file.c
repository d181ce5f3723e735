// SPDX-License-Identifier: Apache-2.0
/* preset_file: the user's presets, from YAML: a mapping of names to mappings of options. */
#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/resolve.h"

#define PRESETS_MAX 256
#define OPTIONS_MAX 64
#define FILE_BYTES_MAX (256U << 10)

struct reader {
	const char *path;
	struct df_arena *arena;
	struct df_fail *fail;
};

static enum df_err bad(const struct reader *r, const char *what, struct df_str name)
{
	return df_fail(r->fail, DF_ERR_USAGE, "%.300s: %s ('%.*s')", r->path, what, (int)(name.n < 80 ? name.n : 80),
		       name.n ? name.p : "");
}

static enum df_err no_memory(const struct reader *r)
{
	return df_fail(r->fail, DF_ERR_NOMEM, "no memory for '%.300s'", r->path);
}

static enum df_err scalar(const struct reader *r, struct fy_node *node, struct df_str *ret)
{
	size_t n = 0;
	const char *p = node && fy_node_get_type(node) == FYNT_SCALAR ? fy_node_get_scalar(node, &n) : NULL;
	if (!p)
		return bad(r, "names and values must be plain text", (struct df_str){NULL, 0});
	struct df_str copy = df_arena_copy(r->arena, (struct df_str){p, n});
	if (!copy.p)
		return no_memory(r);
	if (df_str_utf8_prefix(copy) != copy.n || (copy.n && memchr(copy.p, '\0', copy.n)))
		return bad(r, "not valid text", copy);
	*ret = copy;
	return DF_OK;
}

static enum df_err options(const struct reader *r, struct fy_node *map, struct df_preset *to)
{
	void *at = NULL;
	if (!map || fy_node_get_type(map) != FYNT_MAPPING)
		return bad(r, "a preset is a mapping of options", to->name);
	to->opt = df_arena_array(r->arena, OPTIONS_MAX, sizeof(*to->opt));
	if (!to->opt)
		return no_memory(r);
	for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(map, &at));) {
		struct df_pipeline_opt o = {.key_at = SIZE_MAX, .value_at = SIZE_MAX};
		if (to->n_opt == OPTIONS_MAX)
			return bad(r, "a preset with too many options", to->name);
		DF_TRY(scalar(r, fy_node_pair_key(p), &o.key));
		DF_TRY(scalar(r, fy_node_pair_value(p), &o.value));
		to->opt[to->n_opt++] = o;
	}
	return DF_OK;
}

static enum df_err presets(const struct reader *r, struct fy_node *root, struct df_presets *ret)
{
	void *at = NULL;
	if (!root)
		return DF_OK; /* an empty file */
	if (fy_node_get_type(root) != FYNT_MAPPING)
		return bad(r, "it must be a mapping of names to options", (struct df_str){NULL, 0});
	ret->item = df_arena_zalloc(r->arena, PRESETS_MAX * sizeof(*ret->item));
	if (!ret->item)
		return no_memory(r);
	for (struct fy_node_pair *p; (p = fy_node_mapping_iterate(root, &at));) {
		struct df_preset *to = &ret->item[ret->n];
		if (ret->n == PRESETS_MAX)
			return bad(r, "too many presets", (struct df_str){NULL, 0});
		to->from = df_str_from(r->path);
		DF_TRY(scalar(r, fy_node_pair_key(p), &to->name));
		DF_TRY(options(r, fy_node_pair_value(p), to));
		ret->n++;
	}
	return DF_OK;
}

enum df_err df_preset_file_parse(struct df_str text, const char *path, struct df_arena *arena,
				 struct df_presets *ret_presets, struct df_fail *fail)
{
	struct df_str kept = df_arena_copy(arena, df_str_from(path));
	struct reader r = {kept.p, arena, fail};
	struct df_presets all = {NULL, 0};
	if (!kept.p)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for '%.300s'", path);
	if (df_str_utf8_prefix(text) != text.n || (text.n && memchr(text.p, '\0', text.n)))
		return bad(&r, "not valid text", (struct df_str){NULL, 0});
	struct fy_diag *diag = fy_diag_create(NULL); /* else it writes to stderr */
	if (!diag)
		return no_memory(&r);
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
	struct fy_document *doc = fy_document_build_from_string(&cfg, text.n ? text.p : "", text.n);
	enum df_err err = DF_OK;
	if (doc)
		err = presets(&r, fy_document_root(doc), &all);
	else if (df_str_trim(text).n)
		err = bad(&r, "no valid YAML", (struct df_str){NULL, 0});
	fy_document_destroy(doc);
	fy_diag_destroy(diag);
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
