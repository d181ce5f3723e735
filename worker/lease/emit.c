// SPDX-License-Identifier: Apache-2.0
/*
 * emit: from rows to frames.
 *
 * DESIGN. Most rows differ from their record in the text and in members added at the end, so the fast path splices: bytes before the text's value,
 * the new value, bytes behind it up to the last brace, the added members. The slow path writes member by member: it
 * serves chunks, records without an id, and added members that replace one of the record's.
 */
#include "worker/lease/emit.h"

#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"
#include "worker/math/kernels.h"

#define VECTOR_KEY "embedding"

struct df_emit {
	struct df_emit_config config;
	struct df_buf out[DF_N_OUTPUT];
	uint64_t rows[DF_N_OUTPUT];
	uint64_t n_frame; /* handed over so far */
	ZSTD_CCtx *zstd;
};

enum df_err df_emit_create(const struct df_emit_config *config, struct df_emit **ret_emit)
{
	struct df_emit *e = calloc(1, sizeof(*e));
	if (!e)
		return DF_ERR_NOMEM;
	e->config = *config;
	for (int k = 0; k < DF_N_OUTPUT; k++)
		df_buf_init(&e->out[k], DF_FRAME_BYTES_MAX);
	if (config->zstd) {
		e->zstd = ZSTD_createCCtx();
		if (!e->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, config->zstd)) ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_checksumFlag, 1))) {
			df_emit_destroy(&e);
			return DF_ERR_NOMEM;
		}
	}
	*ret_emit = e;
	return DF_OK;
}

void df_emit_destroy(struct df_emit **emit)
{
	struct df_emit *e = *emit;
	if (!e)
		return;
	for (int k = 0; k < DF_N_OUTPUT; k++)
		df_buf_release(&e->out[k]);
	(void)ZSTD_freeCCtx(e->zstd);
	free(e);
	*emit = NULL;
}

/* ------------------------------------------------------------------ frames */

static struct df_blob *compress(struct df_emit *e, struct df_str s)
{
	size_t bound = ZSTD_compressBound(s.n);
	char *p = malloc(bound);
	if (!p)
		return NULL;
	size_t n = ZSTD_compress2(e->zstd, p, bound, s.p, s.n);
	struct df_blob *blob = ZSTD_isError(n) ? NULL : df_blob_adopt(p, n);
	if (!blob)
		free(p);
	return blob;
}

/* Takes over the blob; NULL: memory was out. */
static enum df_err hand_over(struct df_emit *e, enum df_output_kind kind, uint64_t rows, size_t raw_bytes,
			     struct df_blob *blob, struct df_fail *fail)
{
	if (!blob)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for an output frame of %zu bytes", raw_bytes);
	struct df_output output = {kind, rows, raw_bytes, df_hash64(blob->p, blob->n)};
	e->n_frame++;
	return e->config.frame(e->config.self, &output, blob);
}

/* A row much larger than a frame goes in slices, counted with the first: queues are bounded by frames, and so by bytes. */
static enum df_err cut_slices(struct df_emit *e, enum df_output_kind kind, struct df_fail *fail)
{
	struct df_buf *b = &e->out[kind];
	uint64_t rows = e->rows[kind];
	for (size_t at = 0; at < b->n; at += DF_FRAME_BYTES) {
		struct df_str slice = {b->p + at, b->n - at < DF_FRAME_BYTES ? b->n - at : DF_FRAME_BYTES};
		struct df_blob *blob = e->config.zstd ? compress(e, slice) : df_blob_copy(slice.p, slice.n);
		DF_TRY(hand_over(e, kind, rows, slice.n, blob, fail));
		rows = 0;
	}
	df_buf_release(b);
	df_buf_reset(b);
	e->rows[kind] = 0;
	return DF_OK;
}

static enum df_err cut(struct df_emit *e, enum df_output_kind kind, struct df_fail *fail)
{
	struct df_buf *b = &e->out[kind];
	uint64_t rows = e->rows[kind];
	size_t n = b->n;
	if (kind != DF_OUTPUT_NPY && n > 2 * DF_FRAME_BYTES)
		return cut_slices(e, kind, fail);
	bool packed = e->config.zstd && kind != DF_OUTPUT_NPY;
	struct df_blob *blob = packed ? compress(e, df_buf_str(b)) : df_blob_adopt(b->p, n);
	if (blob && !packed)
		*b = (struct df_buf){.max = b->max}; /* the bytes have gone with the blob */
	if (blob)
		df_buf_reset(b);
	e->rows[kind] = 0;
	return hand_over(e, kind, rows, n, blob, fail);
}

static enum df_err row_done(struct df_emit *e, enum df_output_kind kind, struct df_fail *fail)
{
	struct df_buf *b = &e->out[kind];
	if (df_buf_err(b) != DF_OK)
		return df_fail(fail, df_buf_err(b), "an output row does not fit into memory");
	e->rows[kind]++;
	return b->n >= DF_FRAME_BYTES ? cut(e, kind, fail) : DF_OK;
}

static struct df_buf *begin(struct df_emit *e, enum df_output_kind kind)
{
	struct df_buf *b = &e->out[kind];
	if (b->cap == 0)
		(void)df_buf_reserve(b, DF_FRAME_BYTES + DF_FRAME_BYTES / 8);
	return b;
}

enum df_err df_emit_flush(struct df_emit *e, struct df_fail *fail)
{
	for (int k = 0; k < DF_N_OUTPUT; k++)
		if (e->rows[k])
			DF_TRY(cut(e, (enum df_output_kind)k, fail));
	return DF_OK;
}

void df_emit_drop(struct df_emit *e)
{
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		df_buf_reset(&e->out[k]);
		e->rows[k] = 0;
	}
}

void df_emit_release(struct df_emit *e)
{
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		df_buf_release(&e->out[k]);
		df_buf_init(&e->out[k], DF_FRAME_BYTES_MAX);
		e->rows[k] = 0;
	}
}

/* ------------------------------------------------------------------ JSON of a row */

static void add_key(struct df_buf *b, struct df_str key)
{
	if (b->n && b->p[b->n - 1] != '{')
		(void)df_buf_addc(b, ',');
	(void)df_json_add_string(b, key);
	(void)df_buf_addc(b, ':');
}

static void add_member(struct df_buf *b, struct df_str key, struct df_str raw)
{
	add_key(b, key);
	(void)df_buf_add_str(b, raw);
}

static const struct df_field *added(const struct df_row *row, struct df_str key)
{
	for (size_t i = row->n_added; i-- > 0;)
		if (df_str_eq(row->added[i].key, key))
			return &row->added[i];
	return NULL;
}

static bool is_member(const struct df_doc *doc, struct df_str key)
{
	for (size_t i = 0; i < doc->n_field; i++)
		if (df_str_eq(doc->field[i].key, key))
			return true;
	return false;
}

/* The row's vector is written as a member of this name, instead of any that the record or a stage has. */
static bool is_vector(const struct df_emit *e, const struct df_row *row, struct df_str key)
{
	return e->config.embed_in_rows && row->vector && df_str_is(key, VECTOR_KEY);
}

static void add_vector(const struct df_emit *e, struct df_buf *b, const struct df_row *row)
{
	if (!e->config.embed_in_rows || !row->vector)
		return;
	add_key(b, DF_STR(VECTOR_KEY));
	(void)df_buf_addc(b, '[');
	for (uint32_t i = 0; i < row->dim; i++) {
		if (i)
			(void)df_buf_addc(b, ',');
		(void)df_json_add_f32(b, row->vector[i]);
	}
	(void)df_buf_addc(b, ']');
}

static bool can_splice(const struct df_emit *e, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	if (row->is_chunk || doc->n_field == 0 || doc->id_field == SIZE_MAX || doc->text_field == SIZE_MAX)
		return false;
	for (size_t i = 0; i < row->n_added; i++)
		if (is_member(doc, row->added[i].key) || is_vector(e, row, row->added[i].key))
			return false;
	return !(e->config.embed_in_rows && row->vector && is_member(doc, DF_STR(VECTOR_KEY)));
}

/* The record up to, and without, its last brace. */
static struct df_str open_object(struct df_str raw)
{
	raw = df_str_trim(raw);
	raw.n--; /* '}' */
	return raw;
}

static void splice(const struct df_emit *e, struct df_buf *b, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	struct df_str raw = open_object(doc->raw);
	if (row->edited) {
		struct df_str old = doc->field[doc->text_field].raw;
		(void)df_buf_add(b, raw.p, (size_t)(old.p - raw.p));
		(void)df_json_add_string(b, row->text);
		const char *rest = old.p + old.n;
		(void)df_buf_add(b, rest, (size_t)(raw.p + raw.n - rest));
	} else {
		(void)df_buf_add_str(b, raw);
	}
	for (size_t i = 0; i < row->n_added; i++)
		add_member(b, row->added[i].key, row->added[i].raw);
	add_vector(e, b, row);
	(void)df_buf_addz(b, "}\n");
}

/* "ID#N", and the document's id beside it. */
static void add_ids(const struct df_emit *e, struct df_buf *b, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	add_key(b, e->config.id_key);
	if (!row->is_chunk) {
		(void)df_buf_add_str(b, doc->id_raw);
		return;
	}
	(void)df_json_add_string(b, doc->id);
	if (df_buf_err(b) == DF_OK)
		b->n--; /* the closing quote */
	(void)df_buf_addf(b, "#%u\"", row->chunk_no);
	add_member(b, DF_STR("doc_id"), doc->id_raw);
}

static void write_members(const struct df_emit *e, struct df_buf *b, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	bool ids_first = row->is_chunk || doc->id_field == SIZE_MAX || doc->n_field == 0;
	(void)df_buf_addc(b, '{');
	if (ids_first)
		add_ids(e, b, row);
	if (doc->n_field == 0) {
		add_key(b, e->config.text_key);
		(void)df_json_add_string(b, row->text);
	}
	for (size_t i = 0; i < doc->n_field; i++) {
		const struct df_field *f = &doc->field[i];
		const struct df_field *instead = added(row, f->key);
		if (df_str_eq(f->key, e->config.id_key) && (ids_first || i != doc->id_field))
			continue;
		if (i == doc->text_field && (row->edited || row->is_chunk)) {
			add_key(b, f->key);
			(void)df_json_add_string(b, row->text);
		} else if (i != doc->text_field && df_str_eq(f->key, e->config.text_key)) {
			continue; /* an earlier one of equal keys: the last counts */
		} else if ((row->is_chunk && df_str_is(f->key, "doc_id")) || is_vector(e, row, f->key)) {
			continue;
		} else {
			add_member(b, f->key, instead ? instead->raw : f->raw);
		}
	}
	for (size_t i = 0; i < row->n_added; i++)
		if (!is_member(doc, row->added[i].key) && !is_vector(e, row, row->added[i].key))
			add_member(b, row->added[i].key, row->added[i].raw);
	add_vector(e, b, row);
	(void)df_buf_addz(b, "}\n");
}

static enum df_err emit_vector(struct df_emit *e, const struct df_row *row, struct df_fail *fail)
{
	struct df_buf *b = begin(e, DF_OUTPUT_NPY);
	if (!row->vector)
		return df_fail(fail, DF_ERR_BUG, "a row has no vector although the pipeline has an embed stage");
	if (!e->config.f16) {
		(void)df_buf_add(b, row->vector, row->dim * sizeof(float));
	} else if (df_buf_reserve(b, row->dim * sizeof(uint16_t)) == DF_OK) {
		df_kernels()->to_f16((uint16_t *)(void *)(b->p + b->n), row->vector, row->dim);
		b->n += row->dim * sizeof(uint16_t);
	}
	return row_done(e, DF_OUTPUT_NPY, fail);
}

/* ------------------------------------------------------------------ rejects */

static void add_base64(struct df_buf *b, struct df_str s)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *p = (const unsigned char *)s.p;
	for (size_t i = 0; i < s.n; i += 3) {
		size_t left = s.n - i;
		uint32_t v =
			(uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (left > 2 ? p[i + 2] : 0);
		char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
				left > 2 ? digits[v & 63] : '='};
		(void)df_buf_add(b, four, 4);
	}
}

static void add_reason(struct df_buf *b, const struct df_doc *doc, uint32_t attempts)
{
	add_key(b, DF_STR(DF_REASON_KEY));
	(void)df_buf_addz(b, "{\"source\":");
	(void)df_json_add_string(b, doc->source_name);
	(void)df_buf_addf(b, ",\"offset\":%llu,\"stage\":", (unsigned long long)doc->offset);
	(void)df_json_add_string(b, df_str_from(doc->stage ? doc->stage : "input"));
	(void)df_buf_addf(b, ",\"class\":\"%s\",\"error\":", df_err_name(doc->err));
	(void)df_json_add_string(b, df_str_from(doc->message ? doc->message : df_err_name(doc->err)));
	(void)df_buf_addf(b, ",\"attempts\":%u}}\n", doc->attempts ? doc->attempts : attempts);
}

static enum df_err emit_reject(struct df_emit *e, const struct df_doc *doc, uint32_t attempts, struct df_fail *fail)
{
	struct df_buf *b = begin(e, DF_OUTPUT_REJECTS);
	(void)df_buf_addc(b, '{');
	for (size_t i = 0; i < doc->n_field; i++) /* rejected again: the newest reason counts */
		if (!df_str_is(doc->field[i].key, DF_REASON_KEY))
			add_member(b, doc->field[i].key, doc->field[i].raw);
	if (doc->n_field == 0 && doc->raw.n && doc->raw.n <= DF_RAW_REJECT_BYTES) {
		(void)df_buf_addz(b, "\"" DF_RAW_KEY "\":\"");
		add_base64(b, doc->raw);
		(void)df_buf_addc(b, '"');
	}
	add_reason(b, doc, attempts);
	return row_done(e, DF_OUTPUT_REJECTS, fail);
}

/* Where the buffers stood before a document: as long as no frame has gone out since, all that it wrote can be taken back. */
struct mark {
	uint64_t n_frame, rows[DF_N_OUTPUT], n_row;
	size_t n[DF_N_OUTPUT];
};

static struct mark mark_here(const struct df_emit *e, uint64_t n_row)
{
	struct mark m = {.n_frame = e->n_frame, .n_row = n_row};
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		m.rows[k] = e->rows[k];
		m.n[k] = e->out[k].n;
	}
	return m;
}

/* False when it is too late. What a huge row made a buffer grow to is given back. */
static bool take_back(struct df_emit *e, const struct mark *m)
{
	if (e->n_frame != m->n_frame)
		return false;
	for (int k = 0; k < DF_N_OUTPUT; k++) {
		struct df_buf *b = &e->out[k];
		char *p = b->cap > 4 * DF_FRAME_BYTES ? realloc(b->p, 2 * DF_FRAME_BYTES) : NULL;
		b->n = m->n[k];
		b->err = DF_OK;
		e->rows[k] = m->rows[k];
		if (p) { /* n is less than a frame: more would have been cut */
			b->p = p;
			b->cap = 2 * DF_FRAME_BYTES;
		}
	}
	return true;
}

static bool does_not_fit(enum df_err err)
{
	return err == DF_ERR_NOMEM || err == DF_ERR_LIMIT;
}

static enum df_err emit_row(struct df_emit *e, const struct df_row *row, struct df_fail *fail)
{
	if (e->config.want[DF_OUTPUT_JSONL]) {
		struct df_buf *b = begin(e, DF_OUTPUT_JSONL);
		if (can_splice(e, row))
			splice(e, b, row);
		else
			write_members(e, b, row);
		DF_TRY(row_done(e, DF_OUTPUT_JSONL, fail));
	}
	return e->config.want[DF_OUTPUT_NPY] ? emit_vector(e, row, fail) : DF_OK;
}

static enum df_err emit_rows(struct df_emit *e, struct df_batch *batch, uint64_t *ret_rows, struct df_fail *fail)
{
	struct mark m = {0};
	uint64_t rows = 0;
	size_t first = 0; /* of the document */
	const struct df_doc *last = NULL, *again = NULL;
	for (size_t i = 0; i < batch->n_row; i++) {
		struct df_row *row = batch->row[i];
		if (!df_row_live(row))
			continue;
		if (row->doc != last) {
			m = mark_here(e, rows);
			first = i;
		}
		last = row->doc;
		rows++;
		enum df_err err = emit_row(e, row, fail);
		if (err == DF_OK)
			continue;
		if (!does_not_fit(err) || !take_back(e, &m))
			return err;
		rows = m.n_row;
		if (err == DF_ERR_NOMEM && again != row->doc) { /* memory may be back */
			again = row->doc;
			i = first - 1;
			continue;
		}
		df_doc_reject(batch, row->doc, "output", err, "%s",
			      err == DF_ERR_LIMIT
				      ? "a row of this document is larger than 1 GB"
				      : "its rows need more memory than a worker may have (--mem-limit divided by -j)");
	}
	*ret_rows = rows;
	return DF_OK;
}

/* A record that cannot even be rejected whole is so by its source and offset. */
static enum df_err emit_reject_or_less(struct df_emit *e, struct df_doc *doc, uint32_t attempts, struct df_fail *fail)
{
	struct mark m = mark_here(e, 0);
	enum df_err err = emit_reject(e, doc, attempts, fail);
	if (!does_not_fit(err) || !take_back(e, &m))
		return err;
	struct df_doc less = *doc;
	less.n_field = 0;
	less.raw.n = 0;
	return emit_reject(e, &less, attempts, fail);
}

enum df_err df_emit_batch(struct df_emit *e, struct df_batch *batch, uint32_t attempts, uint64_t *ret_rows,
			  struct df_fail *fail)
{
	uint64_t rows = 0;
	DF_TRY(emit_rows(e, batch, &rows, fail));
	for (size_t i = 0; e->config.want[DF_OUTPUT_REJECTS] && i < batch->n_doc; i++)
		if (batch->doc[i]->fate == DF_FATE_REJECTED)
			DF_TRY(emit_reject_or_less(e, batch->doc[i], attempts, fail));
	*ret_rows = rows;
	return DF_OK;
}
