// SPDX-License-Identifier: Apache-2.0
/* exec_lines: rows as lines of JSON for a command, and its lines as changes of the rows: line i of the output belongs to row i. */
#include <stdio.h>

#include "base/json.h"
#include "worker/stages/exec_own.h"
#include "worker/stages/rows.h"
#include "worker/text/utf8.h"

/* ------------------------------------------------------------------ rows to lines */

static void add_member(struct df_buf *b, struct df_str key, struct df_str raw)
{
	(void)df_buf_addc(b, ',');
	(void)df_json_add_string(b, key);
	(void)df_buf_addc(b, ':');
	for (size_t i = 0; i < raw.n; i++) /* a value may be spread over lines; strings hold no line break */
		(void)df_buf_addc(b, raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i]);
}

static bool was_added(const struct df_row *row, struct df_str key)
{
	for (size_t i = 0; i < row->n_added; i++)
		if (df_str_eq(row->added[i].key, key))
			return true;
	return false;
}

void df_exec_add_line(struct df_buf *b, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	(void)df_buf_addz(b, "{\"id\":");
	if (doc->id_raw.n)
		(void)df_buf_add_str(b, doc->id_raw);
	else
		(void)df_json_add_string(b, doc->id);
	(void)df_buf_addz(b, ",\"text\":");
	(void)df_json_add_string(b, row->text);
	for (size_t i = 0; i < doc->n_field; i++)
		if (i != doc->text_field && i != doc->id_field && !was_added(row, doc->field[i].key) &&
		    !df_str_is(doc->field[i].key, "id") && !df_str_is(doc->field[i].key, "text"))
			add_member(b, doc->field[i].key, doc->field[i].raw);
	for (size_t i = 0; i < row->n_added; i++)
		add_member(b, row->added[i].key, row->added[i].raw);
	if (row->is_chunk && !was_added(row, DF_STR("chunk")))
		(void)df_buf_addf(b, ",\"chunk\":%u", row->chunk_no);
	(void)df_buf_addz(b, "}\n");
}

/* ------------------------------------------------------------------ lines to rows */

static bool same_id(const struct df_doc *doc, const struct df_json *id)
{
	return id->type == DF_JSON_STRING ? df_str_eq(id->string, doc->id)
					  : df_str_eq(id->raw, doc->id_raw) || df_str_eq(id->raw, doc->id);
}

/* What the command did to the text is not known: all between the common beginning and the common end counts as one
 * edit, so that offsets outside it still lead to the very place in the source. */
static enum df_err replace_text(struct df_batch *b, struct df_row *row, struct df_str text)
{
	struct df_str old = row->text;
	size_t least = old.n < text.n ? old.n : text.n, from = 0, tail = 0;
	while (from < least && old.p[from] == text.p[from])
		from++;
	while (from > 0 &&
	       ((from < old.n && df_utf8_is_tail(old.p[from])) || (from < text.n && df_utf8_is_tail(text.p[from]))))
		from--;
	while (tail < least - from && old.p[old.n - tail - 1] == text.p[text.n - tail - 1])
		tail++;
	while (tail > 0 && df_utf8_is_tail(text.p[text.n - tail]))
		tail--;
	struct df_offsets_builder builder;
	struct df_offsets *map = NULL;
	df_offsets_begin(&builder, b->arena);
	df_offsets_add(&builder, from, old.n - tail, from, text.n - tail);
	DF_TRY(df_offsets_finish(&builder, &map));
	return df_row_retext(b, row, text, map);
}

static enum df_err take_line(struct df_stage *s, struct df_batch *b, struct df_row *row, struct df_str line)
{
	struct df_json *object = NULL;
	struct df_fail fail = {.msg = ""};
	enum df_err err = df_json_parse(line, b->arena, &object, &fail);
	if (err == DF_ERR_NOMEM)
		return err;
	const struct df_json *id = err == DF_OK ? df_json_get(object, "id") : NULL;
	const struct df_json *text = err == DF_OK ? df_json_get(object, "text") : NULL;
	if (err != DF_OK)
		df_doc_reject(b, row->doc, s->call_name, err, "the command's line for this document: %s", fail.msg);
	else if (object->type != DF_JSON_OBJECT)
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_TYPE, "the command's line is not a JSON object");
	else if (text && text->type != DF_JSON_STRING)
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_TYPE, "the command's \"text\" is not a string");
	else if (id && !same_id(row->doc, id))
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_CHILD,
			      "the command's line has another id: lines must come back in order");
	if (row->doc->fate != DF_FATE_OUT)
		return DF_OK;
	if (text && !df_str_eq(text->string, row->text))
		DF_TRY(replace_text(b, row, text->string));
	for (const struct df_json *m = object->child; m; m = m->next) {
		struct df_str old = df_row_get(row, m->key);
		bool ours = df_str_is(m->key, "id") || df_str_is(m->key, "text") ||
			    (row->is_chunk && df_str_is(m->key, "chunk"));
		if (!ours && !(old.p && df_str_eq(old, m->raw)))
			DF_TRY(df_row_add(b, row, m->key, m->raw));
	}
	return DF_OK;
}

static size_t count_lines(struct df_str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\n';
	return n + (s.n && s.p[s.n - 1] != '\n');
}

void df_exec_reject_all(struct df_stage *s, struct df_batch *b, struct df_exec_rows live, enum df_err err,
			const char *message)
{
	for (size_t i = 0; i < live.n; i++)
		if (df_row_live(live.row[i]))
			df_doc_reject(b, live.row[i]->doc, s->call_name, err, "%s", message);
}

enum df_err df_exec_take_lines(struct df_stage *s, struct df_batch *b, struct df_exec_rows live, struct df_str output)
{
	char message[160];
	size_t n_line = count_lines(output), at = 0;
	if (n_line != live.n) {
		(void)snprintf(message, sizeof(message),
			       "the command wrote %zu lines for %zu rows; it must write one for each", n_line, live.n);
		df_exec_reject_all(s, b, live, DF_ERR_CHILD, message);
		return DF_OK;
	}
	struct df_str text = df_arena_copy(b->arena, output);
	if (!text.p)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < live.n; i++) {
		const char *end = memchr(text.p + at, '\n', text.n - at);
		struct df_str line = {text.p + at, end ? (size_t)(end - text.p) - at : text.n - at};
		at += line.n + 1;
		if (df_row_live(live.row[i])) /* not when an earlier row rejected the same document */
			DF_TRY(take_line(s, b, live.row[i], line));
	}
	return DF_OK;
}
