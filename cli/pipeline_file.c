// SPDX-License-Identifier: Apache-2.0
/* pipeline_file: the home of libfyaml. A document tree is walked once; aliases are followed within a budget. */
#include "cli/pipeline_file.h"

#include <libfyaml.h>

#define NODES_MAX 65536U
#define ALIASES_MAX 16U /* an alias of an alias of ... */

struct reader {
	const char *path;
	const struct df_opt *rows;
	void *options;
	bool *given;
	struct df_arena *arena;
	struct df_pipeline_file *file;
	struct df_fail *fail;
	size_t n_node; /* visited */
};

/* ------------------------------------------------------------------ places and errors */

/* The first scalar at or below a node: collections have no token of their own. */
static struct fy_token *token_of(struct fy_node *node)
{
	for (int depth = 0; node && depth < 64; depth++) {
		void *at = NULL;
		switch (fy_node_get_type(node)) {
		case FYNT_SCALAR:
			return fy_node_get_scalar_token(node);
		case FYNT_SEQUENCE:
			node = fy_node_sequence_iterate(node, &at);
			break;
		case FYNT_MAPPING:
			node = fy_node_pair_key(fy_node_mapping_iterate(node, &at));
			break;
		}
	}
	return NULL;
}

static enum df_err bad(struct reader *r, struct fy_node *node, const char *fmt, ...) DF_PRINTF(3, 4);
static enum df_err bad(struct reader *r, struct fy_node *node, const char *fmt, ...)
{
	char msg[640];
	struct fy_token *token = token_of(node);
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (!mark)
		return df_fail(r->fail, DF_ERR_USAGE, "%s: %s", r->path, msg);
	return df_fail(r->fail, DF_ERR_USAGE, "%s:%d:%d: %s", r->path, mark->line + 1, mark->column + 1, msg);
}

static enum df_err no_memory(struct reader *r)
{
	return df_fail(r->fail, DF_ERR_NOMEM, "%s: no memory", r->path);
}

/* Follow aliases and count the visit: every node that is looked at passes here. */
static enum df_err visit(struct reader *r, struct fy_node *node, struct fy_node **ret)
{
	struct fy_node *at = node;
	for (unsigned i = 0; at && fy_node_is_alias(at); i++) {
		struct fy_node *to = i < ALIASES_MAX ? fy_node_resolve_alias(at) : NULL;
		if (!to)
			return bad(r, node, "an alias that leads nowhere");
		at = to;
	}
	if (++r->n_node > NODES_MAX)
		return bad(r, node, "more than %u values, aliases counted each time", NODES_MAX);
	*ret = at;
	return DF_OK;
}

static bool is_null(struct fy_node *node)
{
	size_t n = 0;
	if (!node)
		return true;
	if (fy_node_get_type(node) != FYNT_SCALAR)
		return false;
	const char *p = fy_node_get_scalar(node, &n);
	struct df_str s = {p, p ? n : 0};
	return fy_node_get_style(node) == FYNS_PLAIN && (s.n == 0 || df_str_is(s, "~") || df_str_is(s, "null"));
}

/* A copy of a scalar's text; `what` stands in the error. */
static enum df_err scalar(struct reader *r, struct fy_node *node, const char *what, struct df_str *ret)
{
	struct fy_node *at = NULL;
	DF_TRY(visit(r, node, &at));
	if (!at || fy_node_get_type(at) != FYNT_SCALAR)
		return bad(r, node, "%s must be plain text, not a list or a mapping", what);
	size_t n = 0;
	const char *p = fy_node_get_scalar(at, &n);
	struct df_str s = {p, p ? n : 0};
	if (df_str_utf8_prefix(s) != s.n || (s.n && memchr(s.p, '\0', s.n)))
		return bad(r, node, "%s is not valid text", what);
	struct df_str copy = df_arena_copy(r->arena, s);
	if (!copy.p)
		return no_memory(r);
	*ret = copy;
	return DF_OK;
}

/* ------------------------------------------------------------------ values */

static enum df_err joined(struct reader *r, struct fy_node *list, struct df_str *ret)
{
	struct df_buf text;
	struct df_str word = {NULL, 0};
	void *at = NULL;
	enum df_err err = DF_OK;
	df_buf_init(&text, 1U << 20);
	for (struct fy_node *n; err == DF_OK && (n = fy_node_sequence_iterate(list, &at)) != NULL;) {
		err = scalar(r, n, "an item", &word);
		if (err == DF_OK && word.n && memchr(word.p, ',', word.n))
			err = bad(r, n, "a word of a list cannot hold a comma");
		if (err == DF_OK) {
			(void)df_buf_addz(&text, text.n ? "," : "");
			(void)df_buf_add_str(&text, word);
		}
	}
	if (err == DF_OK) {
		*ret = df_arena_copy(r->arena, df_buf_str(&text));
		if (!ret->p || df_buf_err(&text) != DF_OK)
			err = no_memory(r);
	}
	df_buf_release(&text);
	return err;
}

/* An option's value: text as it stands, or a list, which becomes words with commas between them. */
static enum df_err option_value(struct reader *r, struct fy_node *key, struct fy_node *node, struct df_str *ret)
{
	struct fy_node *at = NULL;
	DF_TRY(visit(r, node, &at));
	if (is_null(at))
		return bad(r, key, "a value is missing; an empty one is written ''");
	if (fy_node_get_type(at) == FYNT_SEQUENCE)
		return joined(r, at, ret);
	return scalar(r, at, "an option's value", ret);
}

/* ------------------------------------------------------------------ stages */

static enum df_err stage_options(struct reader *r, struct df_pipeline_stage *stage, struct fy_node *key_node,
				 struct fy_node *node)
{
	struct fy_node *at = NULL;
	struct fy_node_pair *pair;
	void *iter = NULL;
	DF_TRY(visit(r, node, &at));
	if (is_null(at))
		return DF_OK;
	if (fy_node_get_type(at) != FYNT_MAPPING)
		return bad(r, key_node, "a stage's options are a mapping, e.g. {clean: {min_chars: 20}}");
	while ((pair = fy_node_mapping_iterate(at, &iter)) != NULL) {
		struct df_str key = {NULL, 0}, value = {NULL, 0};
		struct df_fail why = {.msg = ""};
		DF_TRY(scalar(r, fy_node_pair_key(pair), "an option's name", &key));
		DF_TRY(option_value(r, fy_node_pair_key(pair), fy_node_pair_value(pair), &value));
		enum df_err err = df_pipeline_set(stage, r->arena, key, value, &why);
		if (err != DF_OK)
			return bad(r, fy_node_pair_key(pair), "%s", why.msg);
	}
	return DF_OK;
}

static enum df_err stage_mapping(struct reader *r, struct fy_node *node)
{
	struct df_pipeline_stage *stage = NULL;
	struct fy_node *name_node = NULL, *body = NULL;
	struct df_str label = {NULL, 0}, name = {NULL, 0}, key = {NULL, 0};
	struct df_fail why = {.msg = ""};
	struct fy_node_pair *pair;
	void *iter = NULL;
	while ((pair = fy_node_mapping_iterate(node, &iter)) != NULL) {
		DF_TRY(scalar(r, fy_node_pair_key(pair), "a stage's name", &key));
		if (df_str_is(key, "name")) {
			DF_TRY(scalar(r, fy_node_pair_value(pair), "a stage's label", &label));
			continue;
		}
		if (name.n)
			return bad(r, fy_node_pair_key(pair), "two stages in one item of the list; begin a new item");
		name = key;
		name_node = fy_node_pair_key(pair);
		body = fy_node_pair_value(pair);
	}
	if (!name.n)
		return bad(r, node, "an item of 'stages' names no stage");
	if (df_pipeline_add(&r->file->pipeline, label, name, &stage, &why) != DF_OK)
		return bad(r, name_node, "%s", why.msg);
	return stage_options(r, stage, name_node, body);
}

static enum df_err stage_item(struct reader *r, struct fy_node *node)
{
	struct fy_node *at = NULL;
	struct df_pipeline_stage *stage = NULL;
	struct df_str name = {NULL, 0};
	struct df_fail why = {.msg = ""};
	DF_TRY(visit(r, node, &at));
	if (fy_node_get_type(at) == FYNT_MAPPING)
		return stage_mapping(r, at);
	DF_TRY(scalar(r, at, "an item of 'stages'", &name));
	if (df_pipeline_add(&r->file->pipeline, (struct df_str){NULL, 0}, name, &stage, &why) != DF_OK)
		return bad(r, node, "%s; options are written {stage: {key: value}}", why.msg);
	return DF_OK;
}

/* From stages to their canonical text and back, so that later errors have a line to point into. */
static enum df_err settle(struct reader *r, struct fy_node *node)
{
	struct df_buf text;
	struct df_fail why = {.msg = ""};
	df_buf_init(&text, 2 * DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(&r->file->pipeline, &text);
	if (err == DF_OK)
		err = df_pipeline_parse(df_buf_str(&text), r->arena, &r->file->pipeline, &why);
	df_buf_release(&text);
	return err == DF_OK ? DF_OK : bad(r, node, "%s", why.msg);
}

static enum df_err stages(struct reader *r, struct fy_node *key, struct fy_node *node)
{
	struct fy_node *at = NULL;
	void *iter = NULL;
	DF_TRY(visit(r, node, &at));
	if (!at || fy_node_get_type(at) != FYNT_SEQUENCE)
		return bad(r, key, "'stages' must be a list");
	for (struct fy_node *n; (n = fy_node_sequence_iterate(at, &iter)) != NULL;)
		DF_TRY(stage_item(r, n));
	if (r->file->pipeline.n_stage == 0)
		return bad(r, key, "'stages' is empty");
	return settle(r, key);
}

static enum df_err pipeline_text(struct reader *r, struct fy_node *key, struct fy_node *node)
{
	struct df_str text = {NULL, 0};
	struct df_fail why = {.msg = ""};
	DF_TRY(scalar(r, node, "'pipeline'", &text));
	enum df_err err = df_pipeline_parse(text, r->arena, &r->file->pipeline, &why);
	return err == DF_OK ? DF_OK : bad(r, key, "%s", why.msg);
}

/* ------------------------------------------------------------------ the rest */

static enum df_err inputs(struct reader *r, struct fy_node *key, struct fy_node *node)
{
	struct fy_node *at = NULL;
	struct df_str_list list = {NULL, 0};
	void *iter = NULL;
	DF_TRY(visit(r, node, &at));
	bool many = at && fy_node_get_type(at) == FYNT_SEQUENCE;
	int n = many ? fy_node_sequence_item_count(at) : 1;
	list.item = df_arena_array(r->arena, n > 0 ? (size_t)n : 1, sizeof(struct df_str));
	if (!list.item)
		return no_memory(r);
	if (is_null(at))
		return bad(r, key, "'inputs' is empty");
	if (!many)
		DF_TRY(scalar(r, at, "'inputs'", &list.item[list.n++]));
	for (struct fy_node *item; many && list.n < (size_t)n && (item = fy_node_sequence_iterate(at, &iter)) != NULL;)
		DF_TRY(scalar(r, item, "an item of 'inputs'", &list.item[list.n++]));
	r->file->inputs = list;
	return DF_OK;
}

static enum df_err setting(struct reader *r, struct fy_node *key_node, struct df_str key, struct fy_node *node)
{
	const struct df_opt *row = df_conf_find(r->rows, key);
	struct df_str value = {NULL, 0};
	struct df_fail why = {.msg = ""};
	if (row && r->given[row - r->rows]) /* the command line wins; what is here must still be right */
		return option_value(r, key_node, node, &value);
	DF_TRY(option_value(r, key_node, node, &value));
	enum df_err err = df_conf_set(r->rows, r->arena, r->options, key, value, &why);
	if (err == DF_ERR_NOMEM)
		return no_memory(r);
	if (err != DF_OK)
		return bad(r, err == DF_ERR_NOT_FOUND ? key_node : node, "%s", why.msg);
	r->given[row - r->rows] = true;
	return DF_OK;
}

static enum df_err top_level(struct reader *r, struct fy_node *root)
{
	struct fy_node *at = NULL;
	struct fy_node_pair *pair;
	void *iter = NULL;
	DF_TRY(visit(r, root, &at));
	if (!at || fy_node_get_type(at) != FYNT_MAPPING)
		return bad(r, at, "a mapping with 'pipeline' or 'stages' is wanted");
	while ((pair = fy_node_mapping_iterate(at, &iter)) != NULL) {
		struct fy_node *key_node = fy_node_pair_key(pair), *value = fy_node_pair_value(pair);
		struct df_str key = {NULL, 0};
		DF_TRY(scalar(r, key_node, "a setting's name", &key));
		bool text = df_str_is(key, "pipeline"), list = df_str_is(key, "stages");
		if ((text || list) && r->file->pipeline.n_stage)
			return bad(r, key_node, "both 'pipeline' and 'stages'; give one of them");
		if (text && value && fy_node_is_sequence(value))
			return bad(r, value, "'pipeline' is one text; a list of stages goes under 'stages'");
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

static enum df_err yaml_error(const struct reader *r, struct fy_diag *diag)
{
	void *iter = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);
	if (!e)
		return df_fail(r->fail, DF_ERR_USAGE, "%s: not YAML", r->path);
	return df_fail(r->fail, DF_ERR_USAGE, "%s:%d:%d: %s", r->path, e->line, e->column,
		       e->msg ? e->msg : "not YAML");
}

enum df_err df_pipeline_file_parse(struct df_str text, const char *path, const struct df_opt *rows, void *options,
				   bool *given, struct df_arena *arena, struct df_pipeline_file *ret_file,
				   struct df_fail *fail)
{
	struct df_pipeline_file *file = df_arena_zalloc(arena, sizeof(*file));
	struct reader r = {path, rows, options, given, arena, file, fail, 0};
	size_t valid = df_str_utf8_prefix(text);
	if (!file)
		return no_memory(&r);
	if (text.n > DF_PIPELINE_BYTES_MAX)
		return df_fail(fail, DF_ERR_USAGE, "%s has %zu bytes; at most %u are read", path, text.n,
			       DF_PIPELINE_BYTES_MAX);
	if (valid < text.n)
		return df_fail(fail, DF_ERR_USAGE, "%s: not valid UTF-8 at byte %zu", path, valid);
	if (df_str_trim(text).n == 0)
		return df_fail(fail, DF_ERR_USAGE, "%s is empty", path);
	struct fy_diag *diag = fy_diag_create(NULL);
	if (!diag)
		return no_memory(&r);
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
	struct fy_document *doc = fy_document_build_from_string(&cfg, text.p, text.n);
	enum df_err err = doc ? top_level(&r, fy_document_root(doc)) : yaml_error(&r, diag);
	fy_document_destroy(doc);
	fy_diag_destroy(diag);
	if (err == DF_OK)
		*ret_file = *file;
	return err;
}
