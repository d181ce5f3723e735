// SPDX-License-Identifier: Apache-2.0
/* pipeline_file: what a pipeline file may say. Its tree is walked once; YAML itself is base/yaml. */
#include "cli/pipeline_file.h"

#include "base/limits.h"
#include "base/yaml/yaml.h"

#define NODES_MAX 65536U

struct reader {
	struct df_yaml yaml;
	const struct df_opt *rows;
	void *options;
	bool *given;
	struct df_arena *arena;
	struct df_pipeline_file *file;
};

/* ------------------------------------------------------------------ values */

static enum df_err joined(struct reader *r, struct df_yaml_node *list, struct df_str *ret)
{
	struct df_buf text;
	struct df_str word = {NULL, 0};
	void *at = NULL;
	enum df_err err = DF_OK;
	df_buf_init(&text, 1U << 20);
	for (struct df_yaml_node *n; err == DF_OK && (n = df_yaml_next(list, &at)) != NULL;) {
		err = df_yaml_text(&r->yaml, n, "an item", &word);
		if (err == DF_OK && word.n && memchr(word.p, ',', word.n))
			err = df_yaml_bad(&r->yaml, n, "a word of a list cannot hold a comma");
		if (err == DF_OK) {
			(void)df_buf_addz(&text, text.n ? "," : "");
			(void)df_buf_add_str(&text, word);
		}
	}
	if (err == DF_OK) {
		*ret = df_arena_copy(r->arena, df_buf_str(&text));
		if (!ret->p || df_buf_err(&text) != DF_OK)
			err = df_yaml_no_memory(&r->yaml);
	}
	df_buf_release(&text);
	return err;
}

/* An option's value: text as it stands, or a list, which becomes words with commas between them. */
static enum df_err option_value(struct reader *r, struct df_yaml_node *key, struct df_yaml_node *node,
				struct df_str *ret)
{
	struct df_yaml_node *at = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, node, &at));
	if (df_yaml_kind(at) == DF_YAML_NULL)
		return df_yaml_bad(&r->yaml, key, "a value is missing; an empty one is written ''");
	if (df_yaml_kind(at) == DF_YAML_LIST)
		return joined(r, at, ret);
	return df_yaml_text(&r->yaml, at, "an option's value", ret);
}

/* ------------------------------------------------------------------ stages */

static enum df_err stage_options(struct reader *r, struct df_pipeline_stage *stage, struct df_yaml_node *key_node,
				 struct df_yaml_node *node)
{
	struct df_yaml_node *at = NULL, *name, *text;
	void *iter = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, node, &at));
	if (df_yaml_kind(at) == DF_YAML_NULL)
		return DF_OK;
	if (df_yaml_kind(at) != DF_YAML_MAP)
		return df_yaml_bad(&r->yaml, key_node,
				   "a stage's options are a mapping, e.g. {clean: {min_chars: 20}}");
	while (df_yaml_next_pair(at, &iter, &name, &text)) {
		struct df_str key = {NULL, 0}, value = {NULL, 0};
		struct df_fail why = {.msg = ""};
		DF_TRY(df_yaml_text(&r->yaml, name, "an option's name", &key));
		DF_TRY(option_value(r, name, text, &value));
		enum df_err err = df_pipeline_set(stage, r->arena, key, value, &why);
		if (err != DF_OK)
			return df_yaml_bad(&r->yaml, name, "%s", why.msg);
	}
	return DF_OK;
}

static enum df_err stage_mapping(struct reader *r, struct df_yaml_node *node)
{
	struct df_pipeline_stage *stage = NULL;
	struct df_yaml_node *name_node = NULL, *body = NULL, *key_node, *value;
	struct df_str label = {NULL, 0}, name = {NULL, 0}, key = {NULL, 0};
	struct df_fail why = {.msg = ""};
	void *iter = NULL;
	while (df_yaml_next_pair(node, &iter, &key_node, &value)) {
		DF_TRY(df_yaml_text(&r->yaml, key_node, "a stage's name", &key));
		if (df_str_is(key, "name")) {
			DF_TRY(df_yaml_text(&r->yaml, value, "a stage's label", &label));
			continue;
		}
		if (name.n)
			return df_yaml_bad(&r->yaml, key_node, "two stages in one item of the list; begin a new item");
		name = key;
		name_node = key_node;
		body = value;
	}
	if (!name.n)
		return df_yaml_bad(&r->yaml, node, "an item of 'stages' names no stage");
	if (df_pipeline_add(&r->file->pipeline, label, name, &stage, &why) != DF_OK)
		return df_yaml_bad(&r->yaml, name_node, "%s", why.msg);
	return stage_options(r, stage, name_node, body);
}

static enum df_err stage_item(struct reader *r, struct df_yaml_node *node)
{
	struct df_yaml_node *at = NULL;
	struct df_pipeline_stage *stage = NULL;
	struct df_str name = {NULL, 0};
	struct df_fail why = {.msg = ""};
	DF_TRY(df_yaml_visit(&r->yaml, node, &at));
	if (df_yaml_kind(at) == DF_YAML_MAP)
		return stage_mapping(r, at);
	DF_TRY(df_yaml_text(&r->yaml, at, "an item of 'stages'", &name));
	if (df_pipeline_add(&r->file->pipeline, (struct df_str){NULL, 0}, name, &stage, &why) != DF_OK)
		return df_yaml_bad(&r->yaml, node, "%s; options are written {stage: {key: value}}", why.msg);
	return DF_OK;
}

/* From stages to their canonical text and back, so that later errors have a line to point into. */
static enum df_err settle(struct reader *r, struct df_yaml_node *node)
{
	struct df_buf text;
	struct df_fail why = {.msg = ""};
	df_buf_init(&text, 2 * DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(&r->file->pipeline, &text);
	if (err == DF_OK)
		err = df_pipeline_parse(df_buf_str(&text), r->arena, &r->file->pipeline, &why);
	df_buf_release(&text);
	return err == DF_OK ? DF_OK : df_yaml_bad(&r->yaml, node, "%s", why.msg);
}

static enum df_err stages(struct reader *r, struct df_yaml_node *key, struct df_yaml_node *node)
{
	struct df_yaml_node *at = NULL;
	void *iter = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, node, &at));
	if (df_yaml_kind(at) != DF_YAML_LIST)
		return df_yaml_bad(&r->yaml, key, "'stages' must be a list");
	for (struct df_yaml_node *n; (n = df_yaml_next(at, &iter)) != NULL;)
		DF_TRY(stage_item(r, n));
	if (r->file->pipeline.n_stage == 0)
		return df_yaml_bad(&r->yaml, key, "'stages' is empty");
	return settle(r, key);
}

static enum df_err pipeline_text(struct reader *r, struct df_yaml_node *key, struct df_yaml_node *node)
{
	struct df_str text = {NULL, 0};
	struct df_fail why = {.msg = ""};
	DF_TRY(df_yaml_text(&r->yaml, node, "'pipeline'", &text));
	enum df_err err = df_pipeline_parse(text, r->arena, &r->file->pipeline, &why);
	return err == DF_OK ? DF_OK : df_yaml_bad(&r->yaml, key, "%s", why.msg);
}

/* ------------------------------------------------------------------ the rest */

static enum df_err inputs(struct reader *r, struct df_yaml_node *key, struct df_yaml_node *node)
{
	struct df_yaml_node *at = NULL;
	struct df_str_list list = {NULL, 0};
	void *iter = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, node, &at));
	bool many = df_yaml_kind(at) == DF_YAML_LIST;
	size_t n = many ? df_yaml_n_item(at) : 1;
	list.item = df_arena_array(r->arena, n > 0 ? n : 1, sizeof(struct df_str));
	if (!list.item)
		return df_yaml_no_memory(&r->yaml);
	if (df_yaml_kind(at) == DF_YAML_NULL)
		return df_yaml_bad(&r->yaml, key, "'inputs' is empty");
	if (!many)
		DF_TRY(df_yaml_text(&r->yaml, at, "'inputs'", &list.item[list.n++]));
	for (struct df_yaml_node *item; many && list.n < n && (item = df_yaml_next(at, &iter)) != NULL;)
		DF_TRY(df_yaml_text(&r->yaml, item, "an item of 'inputs'", &list.item[list.n++]));
	r->file->inputs = list;
	return DF_OK;
}

static enum df_err setting(struct reader *r, struct df_yaml_node *key_node, struct df_str key,
			   struct df_yaml_node *node)
{
	const struct df_opt *row = df_conf_find(r->rows, key);
	struct df_str value = {NULL, 0};
	struct df_fail why = {.msg = ""};
	if (row && r->given[row - r->rows]) /* the command line wins; what is here must still be right */
		return option_value(r, key_node, node, &value);
	DF_TRY(option_value(r, key_node, node, &value));
	enum df_err err = df_conf_set(r->rows, r->arena, r->options, key, value, &why);
	if (err == DF_ERR_NOMEM)
		return df_yaml_no_memory(&r->yaml);
	if (err != DF_OK)
		return df_yaml_bad(&r->yaml, err == DF_ERR_NOT_FOUND ? key_node : node, "%s", why.msg);
	r->given[row - r->rows] = true;
	return DF_OK;
}

static enum df_err top_level(struct reader *r, struct df_yaml_node *root)
{
	struct df_yaml_node *at = NULL, *key_node, *value;
	void *iter = NULL;
	DF_TRY(df_yaml_visit(&r->yaml, root, &at));
	if (df_yaml_kind(at) != DF_YAML_MAP)
		return df_yaml_bad(&r->yaml, at, "a mapping with 'pipeline' or 'stages' is wanted");
	while (df_yaml_next_pair(at, &iter, &key_node, &value)) {
		struct df_str key = {NULL, 0};
		DF_TRY(df_yaml_text(&r->yaml, key_node, "a setting's name", &key));
		bool text = df_str_is(key, "pipeline"), list = df_str_is(key, "stages");
		if ((text || list) && r->file->pipeline.n_stage)
			return df_yaml_bad(&r->yaml, key_node, "both 'pipeline' and 'stages'; give one of them");
		if (text && df_yaml_n_item(value))
			return df_yaml_bad(&r->yaml, value,
					   "'pipeline' is one text; a list of stages goes under 'stages'");
		if (text)
			DF_TRY(pipeline_text(r, key_node, value));
		else if (list)
			DF_TRY(stages(r, key_node, value));
		else if (df_str_is(key, "inputs"))
			DF_TRY(inputs(r, key_node, value));
		else
			DF_TRY(setting(r, key_node, key, value));
	}
	return DF_OK;
}

enum df_err df_pipeline_file_parse(struct df_str text, const char *path, const struct df_opt *rows, void *options,
				   bool *given, struct df_arena *arena, struct df_pipeline_file *ret_file,
				   struct df_fail *fail)
{
	const struct df_yaml_source source = {text, path, DF_PIPELINE_BYTES_MAX, NODES_MAX};
	struct df_pipeline_file *file = df_arena_zalloc(arena, sizeof(*file));
	struct reader r = {.rows = rows, .options = options, .given = given, .arena = arena, .file = file};
	if (!file)
		return df_fail(fail, DF_ERR_NOMEM, "%s: no memory", path);
	DF_TRY(df_yaml_open(&r.yaml, &source, arena, fail));
	enum df_err err = r.yaml.root ? top_level(&r, r.yaml.root) : df_fail(fail, DF_ERR_USAGE, "%s is empty", path);
	df_yaml_close(&r.yaml);
	if (err == DF_OK)
		*ret_file = *file;
	return err;
}
