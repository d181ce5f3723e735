// SPDX-License-Identifier: Apache-2.0
/*
 * reader: one source, from its bytes to cells.
 *
 * DESIGN. A chain of streams (descriptor, look-ahead, decompressor, look-ahead) ends either in one `part` (the
 * source is its content) or in an archive whose members are parts one after the other. A part is searched through a
 * feed for lines or rows, or taken whole as text; what is found goes to the gathering cell. `end` holds what ends
 * the source, while the last cell is handed out before it.
 */
#include "worker/read/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/read/archive.h"
#include "worker/read/cells.h"
#include "worker/read/feed.h"
#include "worker/read/record.h"
#include "worker/read/zstd_frames.h"

#define FEED_BYTES (256U << 10)
#define NAME_BYTES_MAX (128U << 10)
#define PASS_BYTES                                                                                                     \
	(8U << 20) /* decompressed bytes, and steps, that may pass without a record before the caller hears of it */
#define PASS_STEPS 65536U

/* What is being read now: the source itself, or a member of it. */
struct part {
	bool open;
	enum df_format format;
	struct df_stream *stream; /* content, decompressed */
	struct df_stream *look;   /* of a member: look-ahead and decompressor of its own */
	struct df_stream *inflate;
	uint64_t base; /* offset of its first byte in the source */
	struct df_csv_scan scan;
	bool has_header;
	bool text_lost; /* a text that is too long: read on to its end, keep nothing */
};

struct csv_header {
	char *bytes; /* owns what the names point to */
	struct df_str *name;
	size_t n;
	struct df_str *field; /* scratch for a row, n + 1 */
	struct df_buf scratch;
	struct df_buf made; /* names for nameless columns */
};

struct df_reader {
	struct df_reader_spec spec;
	int fd;
	bool owns_fd, detected, ending;
	bool direct; /* the archive reads the descriptor by position */
	struct df_stream *file, *look, *inflate, *inner_look;
	enum df_codec codec;        /* of `inflate` */
	struct df_zstd_place frame; /* the last one that was sought */
	struct df_archive *archive;
	struct part part;
	struct df_stream *passing; /* a member without documents that is read past, a slice at a time; NULL: none */
	uint64_t passed;           /* bytes read past so */
	struct csv_header header;
	struct df_feed feed;
	struct df_cells cells;
	struct df_buf name; /* of the part: "source" or "source/member" */
	struct df_reader_stats stats;
	enum df_err end;
	struct df_fail fail; /* with `end` */
};

/* ------------------------------------------------------------------ open and close */

static enum df_err open_file(struct df_reader *r, struct df_fail *fail)
{
	const struct df_reader_spec *s = &r->spec;
	r->fd = s->fd;
	if (s->path) {
		r->fd = TEMP_FAILURE_RETRY(open(s->path, O_RDONLY | O_CLOEXEC | O_NOCTTY));
		if (r->fd < 0)
			return s->check_id ? df_file_not_opened(s->path, &s->id, s->name, fail)
					   : df_fail_errno(fail, "cannot read '%s'", s->name);
		r->owns_fd = true;
	}
	if (s->check_id)
		DF_TRY(df_file_id_check(r->fd, &s->id, s->name, fail));
	int idle_ms = !s->live ? -1 : s->idle_ms > 0 ? s->idle_ms : DF_STDIN_SILENCE_MS;
	if (df_stream_of_fd(r->fd, s->name, idle_ms, &r->file) != DF_OK ||
	    df_stream_peekable(r->file, &r->look) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read '%s'", s->name);
	return DF_OK;
}

enum df_err df_reader_open(const struct df_reader_spec *spec, struct df_reader **ret_reader, struct df_fail *fail)
{
	struct df_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read '%s'", spec->name);
	r->spec = *spec;
	r->spec.max_record = spec->max_record ? spec->max_record : DF_RECORD_BYTES;
	r->spec.cell_bytes = spec->cell_bytes ? spec->cell_bytes : DF_CELL_BYTES;
	r->fd = -1;
	df_feed_init(&r->feed, FEED_BYTES, r->spec.max_record);
	df_buf_init(&r->name, NAME_BYTES_MAX);
	df_buf_init(&r->header.made, DF_CSV_COLUMNS * 16);
	df_buf_init(&r->header.scratch, r->spec.max_record + 8);
	enum df_err err = df_cells_init(&r->cells, r->spec.cell_bytes, r->spec.max_record);
	r->cells.id_key = df_str_from(r->spec.id_key);
	r->cells.text_key = df_str_from(r->spec.text_key);
	if (err == DF_OK)
		err = open_file(r, fail);
	else
		(void)df_fail(fail, err, "out of memory to read '%s'", spec->name);
	if (err != DF_OK) {
		df_reader_close(&r);
		return err;
	}
	*ret_reader = r;
	return DF_OK;
}

static void header_clear(struct csv_header *h)
{
	free(h->bytes);
	free(h->name);
	free(h->field);
	h->bytes = NULL;
	h->name = h->field = NULL;
	h->n = 0;
	df_buf_reset(&h->made);
}

static void part_close(struct part *part)
{
	df_stream_destroy(&part->inflate);
	df_stream_destroy(&part->look);
	part->open = false;
}

void df_reader_close(struct df_reader **reader)
{
	struct df_reader *r = *reader;
	if (!r)
		return;
	part_close(&r->part);
	df_archive_close(&r->archive);
	df_stream_destroy(&r->inner_look);
	df_stream_destroy(&r->inflate);
	df_stream_destroy(&r->look);
	df_stream_destroy(&r->file);
	header_clear(&r->header);
	df_buf_release(&r->header.made);
	df_buf_release(&r->header.scratch);
	df_buf_release(&r->name);
	df_feed_release(&r->feed);
	df_cells_release(&r->cells);
	if (r->owns_fd)
		(void)close(r->fd);
	free(r);
	*reader = NULL;
}

/* ------------------------------------------------------------------ what is it? */

static void part_open(struct df_reader *r, enum df_format format, struct df_stream *stream, uint64_t base)
{
	struct part *part = &r->part;
	part->open = true;
	part->format = format == DF_FORMAT_AUTO ? DF_FORMAT_JSONL : format;
	part->stream = stream;
	part->base = base;
	part->scan = (struct df_csv_scan){part->format == DF_FORMAT_TSV ? '\t' : ',', DF_CSV_FIELD_START};
	part->has_header = part->text_lost = false;
	df_feed_restart(&r->feed, 0, UINT64_MAX, false);
}

static enum df_err set_name(struct df_reader *r, struct df_str member)
{
	df_buf_reset(&r->name);
	(void)df_buf_addz(&r->name, r->spec.name);
	if (member.n) {
		(void)df_buf_addc(&r->name, '/');
		(void)df_buf_add_str(&r->name, member);
	}
	return df_buf_err(&r->name);
}

static enum df_err open_archive(struct df_reader *r, struct df_stream *in, enum df_archive_format format,
				struct df_fail *fail)
{
	off_t at = lseek(r->fd, 0, SEEK_CUR);
	r->direct = format == DF_ARCHIVE_ZIP && in == r->look && r->spec.path && at >= 0;
	return df_archive_open(in, r->direct ? r->fd : -1, format, &r->archive, fail);
}

/* Peels off the compression. *ret_peekable: the stream below it, whose head is at *ret_p. */
static enum df_err peel(struct df_reader *r, struct df_stream **ret_peekable, const uint8_t **ret_p, size_t *ret_n,
			struct df_fail *fail)
{
	if (!r->inflate) {
		DF_TRY(df_stream_peek(r->look, ret_p, ret_n, fail));
		*ret_peekable = r->look;
		enum df_codec codec = df_codec_of(*ret_p, *ret_n);
		if (codec == DF_CODEC_NONE)
			return DF_OK;
		DF_TRY(df_stream_decompress(r->look, codec, &r->inflate, fail));
		r->codec = codec;
		if (df_stream_peekable(r->inflate, &r->inner_look) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "out of memory to read '%s'", r->spec.name);
	}
	*ret_peekable = r->inner_look;
	return df_stream_peek(r->inner_look, ret_p, ret_n, fail);
}

static enum df_err detect(struct df_reader *r, struct df_fail *fail)
{
	struct df_stream *stream = NULL;
	const uint8_t *p = NULL;
	size_t n = 0;
	DF_TRY(peel(r, &stream, &p, &n, fail));
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	(void)df_file_kind_of(df_str_from(r->spec.name), &kind);
	enum df_archive_format archive = df_archive_format_of(p, n);
	if (archive == DF_ARCHIVE_NONE && kind.archive && n)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s' is not the archive its name says", r->spec.name);
	if (archive != DF_ARCHIVE_NONE)
		DF_TRY(open_archive(r, stream, archive, fail));
	else
		part_open(r, r->spec.format != DF_FORMAT_AUTO ? r->spec.format : kind.format, stream, 0);
	r->detected = true;
	return set_name(r, (struct df_str){NULL, 0}) == DF_OK ? DF_OK
							      : df_fail(fail, DF_ERR_NOMEM, "a name is too long");
}

/* A member may be compressed by itself ("notes.jsonl.gz" in a tar). */
static enum df_err member_stream(struct df_reader *r, struct df_stream *content, struct df_stream **ret_stream,
				 struct df_fail *fail)
{
	const uint8_t *p = NULL;
	size_t n = 0;
	if (df_stream_peekable(content, &r->part.look) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read '%s'", r->spec.name);
	DF_TRY(df_stream_peek(r->part.look, &p, &n, fail));
	enum df_codec codec = df_codec_of(p, n);
	*ret_stream = r->part.look;
	if (codec == DF_CODEC_NONE)
		return DF_OK;
	DF_TRY(df_stream_decompress(r->part.look, codec, &r->part.inflate, fail));
	*ret_stream = r->part.inflate;
	return DF_OK;
}

static enum df_err pass(struct df_reader *r, struct df_fail *fail)
{
	char slice[64U << 10];
	size_t n = 0;
	enum df_err err = r->passing->read(r->passing, slice, sizeof(slice), &n, fail);
	r->passed += n;
	if (err != DF_ERR_END)
		return err;
	r->passing = NULL;
	return DF_OK;
}

/* The next member; opened when it holds documents. */
static enum df_err next_member(struct df_reader *r, struct df_fail *fail)
{
	struct df_member member;
	struct df_file_kind kind = {DF_FORMAT_AUTO, false, false};
	DF_TRY(df_archive_next(r->archive, &member, fail));
	(void)df_file_kind_of(member.name, &kind);
	enum df_format format = kind.format != DF_FORMAT_AUTO || kind.archive ? kind.format : r->spec.format;
	if (!member.is_file || format == DF_FORMAT_AUTO) {
		r->stats.members_skipped += member.name.n && member.name.p[member.name.n - 1] != '/';
		/* libarchive would read past it inside one call, however long that takes; a zip on disk is sought */
		r->passing = member.is_file && !r->direct ? member.stream : NULL;
		return DF_OK; /* step() comes again */
	}
	r->stats.members++;
	if (set_name(r, member.name) != DF_OK)
		return df_fail(fail, DF_ERR_LIMIT, "a member of '%s' has too long a name", r->spec.name);
	struct df_stream *stream = NULL;
	DF_TRY(member_stream(r, member.stream, &stream, fail));
	part_open(r, format, stream, r->stats.bytes_out + r->stats.members - 1);
	return DF_OK;
}

/* ------------------------------------------------------------------ records */

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

static enum df_err nameless_column(struct csv_header *h, size_t i)
{
	size_t start = h->made.n;
	DF_TRY(df_buf_addf(&h->made, "column_%zu", i + 1));
	h->name[i] = (struct df_str){h->made.p + start, h->made.n - start};
	return DF_OK;
}

static enum df_err check_header(const struct df_reader *r, struct df_fail *fail)
{
	const struct csv_header *h = &r->header;
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
	struct csv_header *h = &r->header;
	struct df_str row = {line->p, line->n};
	header_clear(h);
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
	struct csv_header *h = &r->header;
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
	part_close(&r->part);
	if (!take(r))
		return DF_OK;
	if (r->part.text_lost)
		return add_too_long(r, &line, "a document");
	return df_cells_add_text(&r->cells, r->part.base, df_buf_str(&r->name), text);
}

static enum df_err one_record(struct df_reader *r, struct df_fail *fail)
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

/* ------------------------------------------------------------------ the loop */

static enum df_err fill(struct df_reader *r, struct df_fail *fail)
{
	char *p;
	size_t room, got = 0;
	if (df_feed_room(&r->feed, FEED_BYTES, &p, &room) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a record of '%s'", r->spec.name);
	enum df_err err = df_stream_read(r->part.stream, p, room, &got, fail);
	if (err == DF_ERR_END) {
		df_feed_end(&r->feed);
		return DF_OK;
	}
	if (err != DF_OK)
		return err;
	df_feed_added(&r->feed, got);
	r->stats.bytes_out += got;
	return DF_OK;
}

/* One step towards a full cell. DF_ERR_END: the source is at its end. */
static enum df_err step(struct df_reader *r, struct df_fail *fail)
{
	if (!r->detected)
		return detect(r, fail);
	if (r->passing)
		return pass(r, fail);
	if (!r->part.open) {
		if (!r->archive)
			return DF_ERR_END;
		return next_member(r, fail);
	}
	if (r->stats.delivered >= r->spec.limit)
		return DF_ERR_END;
	enum df_err err = one_record(r, fail);
	if (err == DF_ERR_AGAIN)
		return fill(r, fail);
	if (err != DF_ERR_END)
		return err;
	part_close(&r->part);
	return DF_OK;
}

/* The source has ended in `err`: the cell in the making goes out first. */
static void remember_end(struct df_reader *r, enum df_err err, const struct df_fail *fail)
{
	r->ending = true;
	r->end = err;
	r->fail = *fail;
	if (err != DF_ERR_END && !fail->msg[0])
		(void)df_fail(&r->fail, err, "out of memory for a cell of '%s'", r->spec.name);
	if (r->spec.check_id && err != DF_ERR_NOMEM) { /* a file that was changed explains any fault */
		enum df_err changed = df_file_id_check(r->fd, &r->spec.id, r->spec.name, &r->fail);
		r->end = changed != DF_OK ? changed : err;
	}
}

static enum df_err tell_end(const struct df_reader *r, struct df_fail *fail)
{
	if (fail)
		*fail = r->fail;
	return r->end;
}

enum df_err df_reader_next_cell(struct df_reader *r, struct df_cell_block *ret_block, struct df_fail *fail)
{
	struct df_fail why = {DF_OK, ""};
	uint64_t far = r->stats.bytes_out + r->passed + PASS_BYTES;
	for (unsigned n = 0; !r->ending && !df_cells_full(&r->cells); n++) {
		if (r->cells.n_record == 0 && (r->stats.bytes_out + r->passed >= far || n == PASS_STEPS))
			return df_fail(fail, DF_ERR_AGAIN, "'%s' has had nothing to deliver for a while", r->spec.name);
		enum df_err err = step(r, &why);
		if (err == DF_ERR_AGAIN) {
			if (r->cells.n_record)
				break;
			return df_fail(fail, err, "'%s' is silent", r->spec.name);
		}
		if (err != DF_OK)
			remember_end(r, err, &why);
	}
	if (r->cells.n_record == 0)
		return tell_end(r, fail);
	if (df_cells_take(&r->cells, ret_block) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a cell of '%s'", r->spec.name);
	return DF_OK;
}

/* ------------------------------------------------------------------ seeking */

/* Could anything be sought here? Looks what the source is, if nobody did yet. */
static bool can_seek(struct df_reader *r)
{
	struct df_fail why;
	const struct df_reader_spec *s = &r->spec;
	if (r->ending || r->cells.n_record || !s->path || s->live || s->skip || s->limit != UINT64_MAX)
		return false;
	if (!r->detected && detect(r, &why) != DF_OK)
		return false; /* the next cell says why */
	return r->codec == DF_CODEC_ZSTD && !r->archive && r->part.open && r->part.format == DF_FORMAT_JSONL;
}

/* The chain of streams anew from a frame's start. */
static enum df_err reopen_at(struct df_reader *r, const struct df_zstd_place *place, struct df_fail *fail)
{
	df_stream_destroy(&r->inner_look);
	df_stream_destroy(&r->inflate);
	df_stream_destroy(&r->look);
	r->part.stream = NULL;
	if (lseek(r->fd, (off_t)place->compressed, SEEK_SET) < 0)
		return df_fail_errno(fail, "cannot seek in '%s'", r->spec.name);
	r->file->offset = place->compressed;
	if (df_stream_peekable(r->file, &r->look) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory to read '%s'", r->spec.name);
	DF_TRY(df_stream_decompress(r->look, DF_CODEC_ZSTD, &r->inflate, fail));
	r->look->offset = place->compressed;
	r->inflate->offset = place->decompressed;
	r->part.stream = r->inflate;
	return DF_OK;
}

static enum df_err read_past(struct df_reader *r, uint64_t n, struct df_fail *fail)
{
	char slice[64U << 10];
	while (n) {
		size_t got = 0;
		enum df_err err =
			df_stream_read(r->inflate, slice, n < sizeof(slice) ? (size_t)n : sizeof(slice), &got, fail);
		if (err == DF_ERR_END)
			return df_fail(fail, DF_ERR_CHANGED, "'%s' ends before a place that was read before",
				       r->spec.name);
		DF_TRY(err);
		n -= got;
	}
	return DF_OK;
}

enum df_err df_reader_seek(struct df_reader *r, uint64_t ordinal, uint64_t offset, uint64_t records,
			   struct df_fail *fail)
{
	struct df_fail why = {DF_OK, ""};
	if (!can_seek(r) || ordinal < r->cells.ordinal)
		return DF_ERR_UNSUPPORTED;
	struct df_zstd_place place = r->frame;
	df_zstd_hop(r->fd, offset, &place);
	if (place.decompressed <= df_feed_read_offset(&r->feed) + FEED_BYTES)
		return DF_ERR_UNSUPPORTED;
	r->frame = place;
	enum df_err err = reopen_at(r, &place, &why);
	if (err == DF_OK)
		err = read_past(r, offset - place.decompressed, &why);
	if (err != DF_OK) {
		remember_end(r, err, &why);
		return tell_end(r, fail);
	}
	df_feed_restart(&r->feed, offset, UINT64_MAX, false);
	r->cells.ordinal = ordinal;
	r->stats.bytes_out = offset;
	r->stats.records += records;
	return DF_OK;
}

void df_reader_stats(const struct df_reader *r, struct df_reader_stats *ret_stats)
{
	*ret_stats = r->stats;
	ret_stats->bytes_in = r->file ? r->file->offset : 0;
}
