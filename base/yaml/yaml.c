// SPDX-License-Identifier: Apache-2.0
/* yaml: libfyaml's tree behind a few questions. */
#include "base/yaml/yaml.h"

#include <libfyaml.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/buf.h"

#define ALIASES_MAX 16U /* an alias of an alias of ... */
#define PLACE_BYTES 8192U
#define DEPTH_MAX 64 /* libfyaml's own, for the search of a place */

static struct fy_node *in(struct df_yaml_node *node)
{
	return (struct fy_node *)node;
}

static struct df_yaml_node *out(struct fy_node *node)
{
	return (struct df_yaml_node *)node;
}

/* ------------------------------------------------------------------ places and errors */

/* The first scalar at or below a node: collections have no token of their own. */
static struct fy_token *token_of(struct fy_node *node)
{
	for (int depth = 0; node && depth < DEPTH_MAX; depth++) {
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

enum df_err df_yaml_place(struct df_yaml *y, struct df_yaml_node *node, struct df_str *ret_place)
{
	struct df_buf place;
	struct fy_token *token = token_of(in(node));
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
	df_buf_init(&place, PLACE_BYTES);
	(void)df_buf_addz(&place, y->source.path);
	if (mark)
		(void)df_buf_addf(&place, ":%d:%d", mark->line + 1, mark->column + 1);
	struct df_str copy = df_buf_err(&place) == DF_OK ? df_arena_copy(y->arena, df_buf_str(&place)) : DF_STR("");
	df_buf_release(&place);
	if (!copy.p)
		return df_yaml_no_memory(y);
	*ret_place = copy;
	return DF_OK;
}

enum df_err df_yaml_bad(struct df_yaml *y, struct df_yaml_node *node, const char *fmt, ...)
{
	char msg[640];
	struct fy_token *token = token_of(in(node));
	const struct fy_mark *mark = token ? fy_token_start_mark(token) : NULL;
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (!mark)
		return df_fail(y->fail, DF_ERR_USAGE, "%s: %s", y->source.path, msg);
	return df_fail(y->fail, DF_ERR_USAGE, "%s:%d:%d: %s", y->source.path, mark->line + 1, mark->column + 1, msg);
}

enum df_err df_yaml_no_memory(const struct df_yaml *y)
{
	return df_fail(y->fail, DF_ERR_NOMEM, "%s: no memory", y->source.path);
}

/* What libfyaml says of a text that is no document. */
static enum df_err not_yaml(const struct df_yaml *y, struct fy_diag *diag)
{
	void *iter = NULL;
	const struct fy_diag_error *e = fy_diag_errors_iterate(diag, &iter);
	if (!e)
		return df_fail(y->fail, DF_ERR_USAGE, "%s: not YAML", y->source.path);
	return df_fail(y->fail, DF_ERR_USAGE, "%s:%d:%d: %s", y->source.path, e->line, e->column,
		       e->msg ? e->msg : "not YAML");
}

/* ------------------------------------------------------------------ open and close */

/* Blank lines and comments alone: libfyaml calls that an error, and users a file with everything commented out. */
static bool says_nothing(struct df_str text)
{
	for (const char *p = text.p, *end = p + text.n; text.n && p < end;) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		struct df_str line = df_str_trim((struct df_str){p, (size_t)((lf ? lf : end) - p)});
		if (line.n && line.p[0] != '#')
			return false;
		p = lf ? lf + 1 : end;
	}
	return true;
}

/* Without a diagnostic object of ours libfyaml writes to stderr. */
static enum df_err build(struct df_yaml *y)
{
	struct fy_diag *diag = fy_diag_create(NULL);
	if (!diag)
		return df_yaml_no_memory(y);
	fy_diag_set_collect_errors(diag, true);
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE, .diag = diag};
	struct fy_document *doc = fy_document_build_from_string(&cfg, y->source.text.p, y->source.text.n);
	enum df_err err = doc ? DF_OK : not_yaml(y, diag);
	fy_diag_destroy(diag);
	y->doc = doc;
	y->root = doc ? out(fy_document_root(doc)) : NULL;
	return err;
}

enum df_err df_yaml_open(struct df_yaml *y, const struct df_yaml_source *source, struct df_arena *arena,
			 struct df_fail *fail)
{
	struct df_str text = source->text;
	size_t valid = df_str_utf8_prefix(text);
	*y = (struct df_yaml){.source = *source, .arena = arena, .fail = fail};
	if (text.n > source->bytes_max)
		return df_fail(fail, DF_ERR_USAGE, "%s has %zu bytes; at most %zu are read", source->path, text.n,
			       source->bytes_max);
	if (valid < text.n)
		return df_fail(fail, DF_ERR_USAGE, "%s: not valid UTF-8 at byte %zu", source->path, valid);
	return says_nothing(text) ? DF_OK : build(y);
}

void df_yaml_close(struct df_yaml *y)
{
	fy_document_destroy(y->doc);
	y->doc = NULL;
	y->root = NULL;
}

/* ------------------------------------------------------------------ nodes */

enum df_err df_yaml_visit(struct df_yaml *y, struct df_yaml_node *node, struct df_yaml_node **ret_node)
{
	struct fy_node *at = in(node);
	for (unsigned i = 0; at && fy_node_is_alias(at); i++) {
		at = i < ALIASES_MAX ? fy_node_resolve_alias(at) : NULL;
		if (!at)
			return df_yaml_bad(y, node, "an alias that leads nowhere");
	}
	if (++y->n_visit > y->source.nodes_max)
		return df_yaml_bad(y, node, "more than %zu values, aliases counted each time", y->source.nodes_max);
	*ret_node = out(at);
	return DF_OK;
}

static struct df_str text_of(struct fy_node *scalar)
{
	size_t n = 0;
	const char *p = fy_node_get_scalar(scalar, &n);
	return (struct df_str){p, p ? n : 0};
}

enum df_yaml_kind df_yaml_kind(struct df_yaml_node *visited)
{
	struct fy_node *node = in(visited);
	if (!node)
		return DF_YAML_NULL;
	if (fy_node_get_type(node) != FYNT_SCALAR)
		return fy_node_get_type(node) == FYNT_SEQUENCE ? DF_YAML_LIST : DF_YAML_MAP;
	struct df_str s = text_of(node);
	bool null = fy_node_get_style(node) == FYNS_PLAIN && (s.n == 0 || df_str_is(s, "~") || df_str_is(s, "null"));
	return null ? DF_YAML_NULL : DF_YAML_TEXT;
}

enum df_err df_yaml_text(struct df_yaml *y, struct df_yaml_node *node, const char *what, struct df_str *ret_text)
{
	struct df_yaml_node *at = NULL;
	DF_TRY(df_yaml_visit(y, node, &at));
	if (!at || fy_node_get_type(in(at)) != FYNT_SCALAR)
		return df_yaml_bad(y, node, "%s must be plain text, not a list or a mapping", what);
	struct df_str s = text_of(in(at));
	if (df_str_utf8_prefix(s) != s.n || (s.n && memchr(s.p, '\0', s.n)))
		return df_yaml_bad(y, node, "%s is not valid text", what);
	struct df_str copy = df_arena_copy(y->arena, s);
	if (!copy.p)
		return df_yaml_no_memory(y);
	*ret_text = copy;
	return DF_OK;
}

struct df_yaml_node *df_yaml_next(struct df_yaml_node *list, void **at)
{
	return out(fy_node_sequence_iterate(in(list), at));
}

bool df_yaml_next_pair(struct df_yaml_node *map, void **at, struct df_yaml_node **ret_key,
		       struct df_yaml_node **ret_value)
{
	struct fy_node_pair *pair = fy_node_mapping_iterate(in(map), at);
	if (!pair)
		return false;
	*ret_key = out(fy_node_pair_key(pair));
	*ret_value = out(fy_node_pair_value(pair));
	return true;
}

size_t df_yaml_n_item(struct df_yaml_node *list)
{
	int n = list && fy_node_is_sequence(in(list)) ? fy_node_sequence_item_count(in(list)) : 0;
	return n > 0 ? (size_t)n : 0;
}
