// SPDX-License-Identifier: Apache-2.0
/* template: pieces of text and places, in order. */
#include "worker/stages/template.h"

#include "base/json.h"
#include "base/limits.h"

struct piece {
	struct df_str text; /* as it stands, or the name of a place */
	bool place;
};

struct df_template {
	struct piece *piece;
	size_t n;
	bool plain;
};

struct reader {
	struct df_str text;
	size_t at;
	struct df_template *t;
	struct df_fail *fail;
};

/* ------------------------------------------------------------------ compiling */

static enum df_err bad(const struct reader *r, size_t at, const char *what)
{
	size_t line = 1, column = 1;
	for (size_t i = 0; i < at; i++) {
		column = r->text.p[i] == '\n' ? 1 : column + 1;
		line += r->text.p[i] == '\n';
	}
	return df_fail(r->fail, DF_ERR_USAGE, "the template has %s at line %zu, column %zu", what, line, column);
}

static bool here(const struct reader *r, const char *z)
{
	return df_str_starts((struct df_str){r->text.p + r->at, r->text.n - r->at}, z);
}

static void add(struct reader *r, struct df_str text, bool place)
{
	if (text.n || place)
		r->t->piece[r->t->n++] = (struct piece){text, place};
}

/* At a "{{" whose name ended at `r->at` with something else than "}}". */
static enum df_err not_closed(const struct reader *r, size_t from)
{
	if (r->at == from + 2 && here(r, "{"))
		return bad(
			r, from,
			"'{{{': a place has two braces on each side, '{{text}}'; a brace of your own before one stands "
			"apart, '{ {{text}} }' (two braces that are only text are written '{{{{')");
	if (here(r, "{"))
		return bad(
			r, from,
			"a '{{' with another '{' before its '}}' (two braces that are only text are written '{{{{')");
	return bad(r, from,
		   "a '{{' without its '}}' on the same line (two braces that are only text are written '{{{{')");
}

/* At "{{". */
static enum df_err place(struct reader *r)
{
	size_t from = r->at;
	for (r->at += 2; r->at < r->text.n && !here(r, "}}"); r->at++)
		if (r->text.p[r->at] == '{' || r->text.p[r->at] == '\n')
			break;
	if (!here(r, "}}"))
		return not_closed(r, from);
	struct df_str name = df_str_trim((struct df_str){r->text.p + from + 2, r->at - from - 2});
	if (!name.n || name.p[0] == '.' || name.p[name.n - 1] == '.' || memmem(name.p, name.n, "..", 2))
		return bad(r, from, "a '{{...}}' without the name of a field");
	r->at += 2;
	r->t->plain = false;
	add(r, name, true);
	return DF_OK;
}

static enum df_err pieces(struct reader *r)
{
	size_t from = 0;
	while (r->at < r->text.n) {
		if (!here(r, "{{")) {
			r->at++;
			continue;
		}
		bool escaped = here(r, "{{{{");
		add(r, (struct df_str){r->text.p + from, r->at - from + (escaped ? 2 : 0)}, false);
		if (escaped)
			r->at += 4;
		else
			DF_TRY(place(r));
		from = r->at;
	}
	add(r, (struct df_str){r->text.p + from, r->at - from}, false);
	return DF_OK;
}

/* How many pieces there can be: one for each "{{", and one behind it. */
static size_t most_pieces(struct df_str text)
{
	size_t n = 1;
	for (size_t i = 0; i + 1 < text.n; i++)
		if (text.p[i] == '{' && text.p[i + 1] == '{') {
			n += 2;
			i++;
		}
	return n;
}

enum df_err df_template_compile(struct df_str text, struct df_arena *arena, struct df_template **ret_template,
				struct df_fail *fail)
{
	size_t most = most_pieces(text);
	if (text.n > DF_TEMPLATE_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "the template has %zu bytes; at most %u are taken", text.n,
			       DF_TEMPLATE_BYTES);
	if (df_str_utf8_prefix(text) != text.n)
		return df_fail(fail, DF_ERR_UTF8, "the template is not valid UTF-8");
	if (most > 2U * DF_TEMPLATE_PLACES)
		return df_fail(fail, DF_ERR_LIMIT, "the template has more than %u places", DF_TEMPLATE_PLACES);
	struct df_template *t = df_arena_zalloc(arena, sizeof(*t));
	struct reader r = {.text = df_arena_copy(arena, text), .t = t, .fail = fail};
	if (t)
		t->piece = df_arena_array(arena, most, sizeof(*t->piece));
	if (!t || !r.text.p || !t->piece)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a template");
	t->plain = true;
	DF_TRY(pieces(&r));
	*ret_template = t;
	return DF_OK;
}

bool df_template_is_plain(const struct df_template *t)
{
	return t->plain;
}

/* ------------------------------------------------------------------ filling */

struct filler {
	const struct df_row *row;
	struct df_arena *arena;
	struct df_buf *out;
	struct df_fail *fail;
};

static enum df_err missing(struct filler *f, struct df_str name)
{
	return df_fail(f->fail, DF_ERR_NOT_FOUND, "field '%.*s' is missing", (int)(name.n < 200 ? name.n : 200),
		       name.p);
}

static const struct df_json *step_into(const struct df_json *v, struct df_str step)
{
	return v->type == DF_JSON_OBJECT ? df_json_member(v, step) : df_json_item(v, step);
}

static struct df_str first_step(struct df_str *rest)
{
	const char *dot = rest->n ? memchr(rest->p, '.', rest->n) : NULL;
	struct df_str step = {rest->p, dot ? (size_t)(dot - rest->p) : rest->n};
	size_t used = step.n + (dot != NULL);
	*rest = (struct df_str){rest->p + used, rest->n - used};
	return step;
}

static enum df_err put_json(struct filler *f, struct df_str raw, struct df_str path, struct df_str name)
{
	struct df_json *root = NULL;
	struct df_fail why = {.msg = ""};
	if (!path.n && raw.n && raw.p[0] != '"')
		return df_buf_add_str(f->out, raw);
	enum df_err err = df_json_parse(raw, f->arena, &root, &why);
	if (err != DF_OK)
		return df_fail(f->fail, err, "field '%.*s': %s", (int)(name.n < 200 ? name.n : 200), name.p, why.msg);
	const struct df_json *v = root;
	while (v && path.n)
		v = step_into(v, first_step(&path));
	if (!v)
		return missing(f, name);
	return df_buf_add_str(f->out, v->type == DF_JSON_STRING ? v->string : v->raw);
}

static enum df_err put_field(struct filler *f, struct df_str name)
{
	struct df_str raw, rest = name;
	if (df_str_is(name, "text"))
		return df_buf_add_str(f->out, f->row->text);
	if (df_str_is(name, "id"))
		return df_buf_add_str(f->out, f->row->doc->id);
	raw = df_row_get(f->row, name);
	if (raw.p)
		return put_json(f, raw, (struct df_str){NULL, 0}, name);
	raw = df_row_get(f->row, first_step(&rest));
	return raw.p && rest.n ? put_json(f, raw, rest, name) : missing(f, name);
}

enum df_err df_template_fill(const struct df_template *t, const struct df_row *row, struct df_arena *arena,
			     struct df_str *ret_text, struct df_fail *fail)
{
	struct df_buf out;
	struct filler f = {row, arena, &out, fail};
	enum df_err err = DF_OK;
	df_buf_init(&out, DF_PROMPT_BYTES);
	for (size_t i = 0; i < t->n && err == DF_OK; i++)
		err = t->piece[i].place ? put_field(&f, t->piece[i].text) : df_buf_add_str(&out, t->piece[i].text);
	if (df_buf_err(&out) == DF_ERR_LIMIT)
		err = df_fail(fail, DF_ERR_LIMIT, "the prompt would have more than %u bytes", DF_PROMPT_BYTES);
	else if (df_buf_err(&out) != DF_OK)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for a prompt");
	struct df_str text = err == DF_OK ? df_arena_copy(arena, df_buf_str(&out)) : (struct df_str){NULL, 0};
	df_buf_release(&out);
	if (err == DF_OK && !text.p)
		err = df_fail(fail, DF_ERR_NOMEM, "no memory for a prompt");
	if (err == DF_OK)
		*ret_text = text;
	return err;
}

static bool is_of_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
}

struct df_str df_template_single_braces(struct df_str text)
{
	for (size_t i = 0; i < text.n; i++) {
		size_t end = i + 1;
		if (text.p[i] != '{')
			continue;
		while (end < text.n && is_of_name(text.p[end]))
			end++;
		if (end > i + 1 && end < text.n && text.p[end] == '}' && (i == 0 || text.p[i - 1] != '{'))
			return (struct df_str){text.p + i + 1, end - i - 1};
	}
	return (struct df_str){NULL, 0};
}
