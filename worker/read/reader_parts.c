// SPDX-License-Identifier: Apache-2.0
/* reader_parts: what a source is: compression is peeled off by what the first bytes say, and what is below is one part, or an archive of members that are parts. A
 * member may be compressed by itself. What holds no documents is read past in slices, so that nobody waits for it inside one call. */
#include <unistd.h>

#include "worker/read/reader_own.h"

void df_reader_part_close(struct df_reader_part *part)
{
	df_stream_destroy(&part->inflate);
	df_stream_destroy(&part->look);
	part->open = false;
}

static void part_open(struct df_reader *r, enum df_format format, struct df_stream *stream, uint64_t base)
{
	struct df_reader_part *part = &r->part;
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

enum df_err df_reader_detect(struct df_reader *r, struct df_fail *fail)
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

enum df_err df_reader_pass(struct df_reader *r, struct df_fail *fail)
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
enum df_err df_reader_next_member(struct df_reader *r, struct df_fail *fail)
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
