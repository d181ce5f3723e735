// SPDX-License-Identifier: Apache-2.0
/* cells: gather records; JSON text for what is no JSON yet. */
#include "worker/read/cells.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/json.h"
#include "worker/read/record.h"

#define JSON_GROWTH 14        /* bytes of JSON for the worst byte of a row and of the header: six each, and quotes */
#define KEEP_BYTES (4U << 20) /* a larger payload buffer is given back */

enum df_err df_cells_init(struct df_cells *c, size_t cell_bytes, size_t max_record)
{
	memset(c, 0, sizeof(*c));
	c->cell_bytes = cell_bytes;
	c->max_record = max_record;
	df_buf_init(&c->payload, cell_bytes + max_record * JSON_GROWTH + 4 * (size_t)DF_RAW_REJECT_BYTES);
	c->record = calloc(DF_BLOCK_RECORDS, sizeof(*c->record));
	return c->record ? DF_OK : DF_ERR_NOMEM;
}

void df_cells_release(struct df_cells *c)
{
	df_buf_release(&c->payload);
	free(c->record);
	c->record = NULL;
}

/* The first add behind a take begins the next cell: until then the old one is still being read. */
static void begin(struct df_cells *c)
{
	if (c->n_record)
		return;
	if (c->payload.cap > KEEP_BYTES && c->payload.n < c->payload.cap / 2) {
		size_t max = c->payload.max;
		df_buf_release(&c->payload);
		df_buf_init(&c->payload, max);
	}
	df_buf_reset(&c->payload);
}

static void note(struct df_cells *c, uint64_t offset, size_t start, size_t length, enum df_err err, size_t n_message)
{
	c->record[c->n_record++] = (struct df_cell_record){offset,        (uint32_t)start,     (uint32_t)length,
							   (uint16_t)err, (uint16_t)n_message, 0};
}

enum df_err df_cells_add(struct df_cells *c, uint64_t offset, struct df_str record)
{
	begin(c);
	size_t start = c->payload.n;
	DF_TRY(df_buf_reserve(&c->payload, record.n + 1));
	DF_TRY(df_buf_add_str(&c->payload, record));
	DF_TRY(df_buf_addc(&c->payload, '\n'));
	note(c, offset, start, record.n, DF_OK, 0);
	return DF_OK;
}

enum df_err df_cells_add_bad(struct df_cells *c, uint64_t offset, enum df_err err, struct df_str raw,
			     const char *message)
{
	begin(c);
	size_t start = c->payload.n, n_message = strlen(message);
	if (raw.n > DF_RAW_REJECT_BYTES)
		raw.n = DF_RAW_REJECT_BYTES;
	DF_TRY(df_buf_reserve(&c->payload, raw.n + n_message + 1));
	DF_TRY(df_buf_add_str(&c->payload, raw));
	DF_TRY(df_buf_add(&c->payload, message, n_message));
	DF_TRY(df_buf_addc(&c->payload, '\n'));
	note(c, offset, start, raw.n, err, n_message);
	return DF_OK;
}

static enum df_err too_long_as_json(struct df_cells *c, uint64_t offset, size_t start, size_t length)
{
	struct df_fail fail;
	c->payload.n = start;
	(void)df_fail(&fail, DF_ERR_LIMIT, "%zu bytes as JSON, longer than max-record=%zu", length, c->max_record);
	return df_cells_add_bad(c, offset, DF_ERR_LIMIT, (struct df_str){NULL, 0}, fail.msg);
}

/* The record that was written from `start` on is complete. */
static enum df_err close_json(struct df_cells *c, uint64_t offset, size_t start)
{
	DF_TRY(df_buf_err(&c->payload));
	size_t length = c->payload.n - start;
	if (length > c->max_record)
		return too_long_as_json(c, offset, start, length);
	DF_TRY(df_buf_addc(&c->payload, '\n'));
	note(c, offset, start, length, DF_OK, 0);
	return DF_OK;
}

static void add_member(struct df_buf *b, char before, struct df_str key, struct df_str value)
{
	(void)df_buf_addc(b, before);
	(void)df_json_add_string(b, key);
	(void)df_buf_addc(b, ':');
	(void)df_json_add_string(b, value);
}

enum df_err df_cells_add_text(struct df_cells *c, uint64_t offset, struct df_str id, struct df_str text)
{
	if (!df_record_utf8(text))
		return df_cells_add_bad(c, offset, DF_ERR_UTF8, text, "invalid UTF-8");
	begin(c);
	size_t start = c->payload.n;
	add_member(&c->payload, '{', c->id_key, id);
	add_member(&c->payload, ',', c->text_key, text);
	(void)df_buf_addc(&c->payload, '}');
	return close_json(c, offset, start);
}

enum df_err df_cells_add_row(struct df_cells *c, uint64_t offset, struct df_str row, const struct df_str *name,
			     const struct df_str *field, size_t n)
{
	if (!df_record_utf8(row))
		return df_cells_add_bad(c, offset, DF_ERR_UTF8, row, "invalid UTF-8");
	begin(c);
	size_t start = c->payload.n;
	for (size_t i = 0; i < n; i++)
		add_member(&c->payload, i ? ',' : '{', name[i], field[i]);
	(void)df_buf_addc(&c->payload, '}');
	return close_json(c, offset, start);
}

bool df_cells_full(const struct df_cells *c)
{
	return c->n_record == DF_BLOCK_RECORDS || (c->n_record && c->payload.n >= c->cell_bytes);
}

uint64_t df_cell_block_hash(const char *payload, size_t n_payload, const struct df_cell_record *record, size_t n_record)
{
	return df_hash64_seed(record, n_record * sizeof(*record), df_hash64(payload, n_payload));
}

enum df_err df_cells_take(struct df_cells *c, struct df_cell_block *ret_block)
{
	DF_TRY(df_buf_reserve(&c->payload, DF_RECORD_PADDING));
	memset(c->payload.p + c->payload.n, 0, DF_RECORD_PADDING);
	*ret_block = (struct df_cell_block){
		.ordinal = c->ordinal++,
		.payload = c->payload.p,
		.n_payload = c->payload.n,
		.record = c->record,
		.n_record = c->n_record,
		.hash = df_cell_block_hash(c->payload.p, c->payload.n, c->record, c->n_record),
	};
	c->n_record = 0;
	return DF_OK;
}
