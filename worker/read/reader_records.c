// SPDX-License-Identifier: Apache-2.0
/* reader_records: what is in a part: lines, rows of CSV with the header that names their members, or one text. Each goes to the gathering cell; one that is too
 * long or malformed goes there as an error, and the part goes on. */
#include <stdlib.h>

#include "worker/read/reader_own.h"
#include "worker/read/record.h"

void df_reader_header_clear(struct df_reader_header *h)
{
	free(h->bytes);
	free(h->name);
	free(h->field);
	h->bytes = NULL;
	h->name = h->field = NULL;
	h->n = 0;
	df_buf_reset(&h->made);
}

/* Is the next record wanted? Counts it. */
static bool take(struct df_reader *r)
{
	r->stats.records++;
	if (r->stats.skipped < r->spec.skip) {
		r->stats.skipped++;
		return false;
	}
	r->stats.delivered++;
	return true;
}

static enum df_err add_bad(struct df_reader *r, const struct df_line *line, const char *message)
{
	struct df_str raw = {line->p, line->n};
	return df_cells_add_bad(&r->cells, r->part.base + line->offset, line->err, raw, message);
}

static enum df_err add_too_long(struct df_reader *r, const struct df_line *line, const char *what)
{
	struct df_fail why;
	(void)df_fail(&why, DF_ERR_LIMIT, "%s longer than max-record=%zu bytes", what, r->spec.max_record);
	return add_bad(r, line, why.msg);
}

static enum df_err one_line(struct df_reader *r)
{
	struct df_line line;
	DF_TRY(df_feed_line(&r->feed, &line));
	if (!take(r))
		return DF_OK;
	if (line.err != DF_OK)
		return add_too_long(r, &line, "a line");
	return df_cells_add(&r->cells, r->part.base + line.offset, (struct df_str){line.p, line.n});
}

static enum df_err nameless_column(struct df_reader_header *h, size_t i)
{
	size_t start = h->made.n;
	DF_TRY(df_buf_addf(&h->made, "column_%zu", i + 1));
	h->name[i] = (struct df_str){h->made.p + start, h->made.n - start};
	return DF_OK;
}

static enum df_err check_header(const struct df_reader *r, struct df_fail *fail)
{
	const struct df_reader_header *h = &r->header;
	bool has_text = false;
	for (size_t i = 0; i < h->n; i++) {
		has_text |= df_str_is(h->name[i], r->spec.text_key);
		for (size_t k = 0; k < i; k++)
			if (df_str_eq(h->name[i], h->name[k]))
				return df_fail(fail, DF_ERR_PARSE, "the header of '%s' names column '%.*s' twice",
					       r->name.p, DF_STR_ARG(h->name[i]));
	}
	if (has_text)
		return DF_OK;
	return df_fail(fail, DF_ERR_PARSE,
		       "the header of '%s' has no column '%s', its first is '%.*s'; name one with --text-key",
		       r->name.p, r->spec.text_key, DF_STR_ARG(h->name[0]));
}

/* The first row. Its bytes are copied: names outlive the window. */
static enum df_err read_header(struct df_reader *r, const struct df_line *line, struct df_fail *fail)
{
	struct df_reader_header *h = &r->header;
	struct df_str row = {line->p, line->n};
	df_reader_header_clear(h);
	DF_TRY(df_buf_addc(&r->name, '\0')); /* for messages */
	r->name.n--;
	if (line->err != DF_OK)
		return df_fail(fail, DF_ERR_PARSE, "the header of '%s' is too long or never ends", r->name.p);
	if (!df_record_utf8(row))
		return df_fail(fail, DF_ERR_UTF8, "the header of '%s' is not valid UTF-8", r->name.p);
	h->bytes = malloc(2 * row.n + 2);
	h->name = calloc(DF_CSV_COLUMNS, sizeof(*h->name));
	h->field = calloc(DF_CSV_COLUMNS, sizeof(*h->field));
	if (!h->bytes || !h->name || !h->field || df_buf_reserve(&h->made, DF_CSV_COLUMNS * 16) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for the header of '%s'", r->name.p);
	memcpy(h->bytes, row.p, row.n);
	row.p = h->bytes;
	struct df_fail why;
	enum df_err err =
		df_csv_split(row, r->part.scan.separator, h->bytes + row.n, h->name, DF_CSV_COLUMNS, &h->n, &why);
	if (err != DF_OK)
		return df_fail(fail, DF_ERR_PARSE, "the header of '%s': %s", r->name.p, why.msg);
	for (size_t i = 0; i < h->n; i++)
		if (h->name[i].n == 0)
			DF_TRY(nameless_column(h, i));
	r->part.has_header = true;
	return check_header(r, fail);
}

static enum df_err add_row(struct df_reader *r, struct df_line *line)
{
	struct df_reader_header *h = &r->header;
	struct df_str row = {line->p, line->n};
	struct df_fail why;
	size_t n = 0;
	df_buf_reset(&h->scratch);
	DF_TRY(df_buf_reserve(&h->scratch, row.n + 1));
	line->err = df_csv_split(row, r->part.scan.separator, h->scratch.p, h->field, DF_CSV_COLUMNS, &n, &why);
	if (line->err == DF_OK && n != h->n)
		line->err = df_fail(&why, DF_ERR_PARSE, "a row of %zu columns, the header has %zu", n, h->n);
	if (line->err != DF_OK)
		return add_bad(r, line, why.msg);
	return df_cells_add_row(&r->cells, r->part.base + line->offset, row, h->name, h->field, n);
}

static enum df_err one_row(struct df_reader *r, struct df_fail *fail)
{
	struct df_line line;
	DF_TRY(df_feed_row(&r->feed, &r->part.scan, &line));
	if (!r->part.has_header)
		return read_header(r, &line, fail);
	if (!take(r))
		return DF_OK;
	if (line.err == DF_ERR_LIMIT)
		return add_too_long(r, &line, "a row");
	return add_row(r, &line);
}

/* The whole part is one document. DF_ERR_AGAIN until all of it is in the window. */
static enum df_err one_text(struct df_reader *r)
{
	struct df_feed *f = &r->feed;
	size_t held = f->end - f->begin;
	size_t bom = f->at == 0 && held >= 3 && memcmp(f->p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	r->part.text_lost |= held - bom > r->spec.max_record;
	if (r->part.text_lost)
		f->begin = f->end;
	if (!f->eof)
		return DF_ERR_AGAIN;
	struct df_line line = {0, NULL, 0, DF_ERR_LIMIT};
	struct df_str text = {held ? f->p + bom : "", held - bom};
	df_reader_part_close(&r->part);
	if (!take(r))
		return DF_OK;
	if (r->part.text_lost)
		return add_too_long(r, &line, "a document");
	return df_cells_add_text(&r->cells, r->part.base, df_buf_str(&r->name), text);
}

enum df_err df_reader_one_record(struct df_reader *r, struct df_fail *fail)
{
	switch (r->part.format) {
	case DF_FORMAT_TEXT:
		return one_text(r);
	case DF_FORMAT_CSV:
	case DF_FORMAT_TSV:
		return one_row(r, fail);
	default:
		return one_line(r);
	}
}
