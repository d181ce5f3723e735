// SPDX-License-Identifier: Apache-2.0
/*
 * reader: one source, from its bytes to cells.
 *
 * DESIGN. A chain of streams (descriptor, look-ahead, decompressor, look-ahead) ends either in one `part` (the
 * source is its content) or in an archive whose members are parts one after the other (reader_parts.c). A part is searched through a
 * feed for lines or rows, or taken whole as text; what is found goes to the gathering cell (reader_records.c). `end` holds what ends
 * the source, while the last cell is handed out before it.
 */
#include "worker/read/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/read/reader_own.h"

#define FEED_BYTES (256U << 10)
#define NAME_BYTES_MAX (128U << 10)
#define PASS_BYTES                                                                                                     \
	(8U << 20) /* decompressed bytes, and steps, that may pass without a record before the caller hears of it */
#define PASS_STEPS 65536U

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

void df_reader_close(struct df_reader **reader)
{
	struct df_reader *r = *reader;
	if (!r)
		return;
	df_reader_part_close(&r->part);
	df_archive_close(&r->archive);
	df_stream_destroy(&r->inner_look);
	df_stream_destroy(&r->inflate);
	df_stream_destroy(&r->look);
	df_stream_destroy(&r->file);
	df_reader_header_clear(&r->header);
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
		return df_reader_detect(r, fail);
	if (r->passing)
		return df_reader_pass(r, fail);
	if (!r->part.open) {
		if (!r->archive)
			return DF_ERR_END;
		return df_reader_next_member(r, fail);
	}
	if (r->stats.delivered >= r->spec.limit)
		return DF_ERR_END;
	enum df_err err = df_reader_one_record(r, fail);
	if (err == DF_ERR_AGAIN)
		return fill(r, fail);
	if (err != DF_ERR_END)
		return err;
	df_reader_part_close(&r->part);
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
	if (!r->detected && df_reader_detect(r, &why) != DF_OK)
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
