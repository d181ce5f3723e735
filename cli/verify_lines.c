// SPDX-License-Identifier: Apache-2.0
/* verify_lines: bytes, through zstd if need be, through the search for line ends, through the JSON parser of the readers. */
#include "cli/verify_lines.h"

#include <stdlib.h>

#include "base/limits.h"
#include "worker/read/feed.h"
#include "worker/read/record.h"
#include "worker/read/stream.h"

#define ARENA_BYTES ((size_t)2 << 30)
#define ARENA_KEEP ((size_t)1 << 20)

/* The caller's bytes as a stream. */
struct bytes_stream {
	struct df_stream base;
	struct df_verify_bytes *bytes;
};

struct lines {
	struct df_feed feed;
	struct df_record_parser *parser;
	struct df_arena arena;
	const char *name;
	uint64_t n, unchecked;
};

static enum df_err bytes_read(struct df_stream *s, void *p, size_t n, size_t *ret_n, struct df_fail *fail)
{
	struct bytes_stream *b = (struct bytes_stream *)s;
	return b->bytes->read(b->bytes, p, n, ret_n, fail);
}

static void bytes_destroy(struct df_stream *s)
{
	(void)s; /* on the stack */
}

/* Any JSON object will do: one without the (empty) key of a text is no fault here. */
static enum df_err check_line(struct lines *l, const struct df_line *line, struct df_fail *fail)
{
	struct df_doc doc = {.n_row = 0};
	struct df_fail why = {0};
	enum df_err err = line->err;
	l->n++;
	if (err == DF_OK) {
		df_arena_reset(&l->arena);
		err = df_record_parse(l->parser, (struct df_str){line->p, line->n}, &l->arena, &doc, &why);
	}
	if (err == DF_OK || (err == DF_ERR_TYPE && line->n && line->p[0] == '{'))
		return DF_OK;
	if (err == DF_ERR_LIMIT) {
		l->unchecked++;
		return DF_OK;
	}
	if (err == DF_ERR_NOMEM)
		return df_fail(fail, err, "no memory to check '%s'", l->name);
	return df_fail(fail, err, "line %llu, at byte %llu: %s", (unsigned long long)l->n,
		       (unsigned long long)line->offset, why.msg);
}

static enum df_err next_line(struct lines *l, struct df_stream *in, struct df_line *line, struct df_fail *fail)
{
	for (;;) {
		enum df_err err = df_feed_line(&l->feed, line);
		if (err != DF_ERR_AGAIN)
			return err;
		char *room = NULL;
		size_t n = 0, got = 0;
		if (df_feed_room(&l->feed, DF_BLOCK_BYTES, &room, &n) != DF_OK)
			return df_fail(fail, DF_ERR_NOMEM, "no memory to check '%s'", l->name);
		err = df_stream_read(in, room, n, &got, fail);
		if (err == DF_ERR_END)
			df_feed_end(&l->feed);
		else if (err != DF_OK)
			return err;
		else
			df_feed_added(&l->feed, got);
	}
}

static enum df_err count_all(struct lines *l, struct df_stream *in, struct df_fail *fail)
{
	struct df_line line;
	enum df_err err;
	while ((err = next_line(l, in, &line, fail)) == DF_OK)
		DF_TRY(check_line(l, &line, fail));
	return err == DF_ERR_END ? DF_OK : err;
}

static enum df_err count(void *self, struct df_verify_bytes *bytes, bool zstd, uint64_t *ret_lines,
			 uint64_t *ret_unchecked, struct df_fail *fail)
{
	(void)self;
	const struct df_record_keys keys = {DF_STR(""), DF_STR(""), false};
	struct bytes_stream raw = {{bytes_read, bytes_destroy, bytes->name, 0}, bytes};
	struct df_stream *in = &raw.base, *plain = NULL;
	struct lines l = {.name = bytes->name};
	df_feed_init(&l.feed, DF_BLOCK_BYTES, DF_RECORD_BYTES_MAX);
	df_feed_restart(&l.feed, 0, UINT64_MAX, false);
	df_arena_init(&l.arena, ARENA_BYTES, ARENA_KEEP);
	enum df_err err = df_record_parser_create(keys, DF_RECORD_BYTES_MAX, &l.parser);
	if (err == DF_OK && zstd)
		err = df_stream_decompress(in, DF_CODEC_ZSTD, &plain, fail);
	else if (err != DF_OK)
		(void)df_fail(fail, err, "no memory to check '%s'", bytes->name);
	if (err == DF_OK)
		err = count_all(&l, plain ? plain : in, fail);
	*ret_lines = l.n;
	*ret_unchecked = l.unchecked;
	df_stream_destroy(&plain);
	df_record_parser_destroy(&l.parser);
	df_arena_release(&l.arena);
	df_feed_release(&l.feed);
	return err;
}

const struct df_verify_lines df_verify_lines_real = {count, NULL};
