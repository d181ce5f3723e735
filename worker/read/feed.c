// SPDX-License-Identifier: Apache-2.0
/* feed: a window over a stream, and the search for records in it. */
#include "worker/read/feed.h"

#include <stdlib.h>

#define BOM "\xef\xbb\xbf"
#define BOM_BYTES 3
#define FRAME_BYTES 4 /* of a line besides its record: BOM and CR */

void df_feed_init(struct df_feed *f, size_t block, size_t max_record)
{
	memset(f, 0, sizeof(*f));
	f->block = block;
	f->max_record = max_record;
	f->stop = UINT64_MAX;
}

void df_feed_release(struct df_feed *f)
{
	free(f->p);
	f->p = NULL;
	f->cap = f->begin = f->end = 0;
}

void df_feed_restart(struct df_feed *f, uint64_t at, uint64_t stop, bool skipping)
{
	if (f->cap > 4 * f->block)
		df_feed_release(f);
	f->begin = f->end = f->scanned = 0;
	f->at = at;
	f->stop = stop;
	f->skipping = skipping;
	f->eof = false;
}

static enum df_err grow(struct df_feed *f, size_t need)
{
	size_t max = f->max_record + FRAME_BYTES + 1 + f->block;
	size_t cap = f->cap ? f->cap : f->block;
	while (cap < need && cap < max)
		cap *= 2;
	if (cap > max)
		cap = max;
	if (cap < need) /* a whole block beyond the largest record: cannot happen */
		cap = need;
	char *p = realloc(f->p, cap + DF_RECORD_PADDING);
	if (!p)
		return DF_ERR_NOMEM;
	memset(p + cap, 0, DF_RECORD_PADDING);
	f->p = p;
	f->cap = cap;
	return DF_OK;
}

enum df_err df_feed_room(struct df_feed *f, size_t want, char **ret_p, size_t *ret_n)
{
	size_t held = f->end - f->begin;
	if (f->begin) {
		memmove(f->p, f->p + f->begin, held);
		f->at += f->begin;
		f->begin = 0;
		f->end = held;
	}
	if (f->cap == 0 || held + want > f->cap)
		DF_TRY(grow(f, held + want));
	*ret_p = f->p + f->end;
	*ret_n = want;
	return DF_OK;
}

void df_feed_added(struct df_feed *f, size_t n)
{
	DF_ASSERT(n <= f->cap - f->end);
	f->end += n;
	memset(f->p + f->end, 0, DF_RECORD_PADDING); /* cap has the padding behind it */
}

void df_feed_end(struct df_feed *f)
{
	f->eof = true;
}

/* Pass over the rest of a line that is not wanted. DF_OK: a line starts at `begin`. */
static enum df_err skip_line(struct df_feed *f)
{
	size_t held = f->end - f->begin;
	const char *lf = held ? memchr(f->p + f->begin, '\n', held) : NULL;
	f->scanned = 0;
	if (lf) {
		f->begin = (size_t)(lf - f->p) + 1;
		f->skipping = false;
		return DF_OK;
	}
	f->begin = f->end;
	return f->eof || f->at + f->end >= f->stop ? DF_ERR_END : DF_ERR_AGAIN;
}

bool df_line_is_blank(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
			return false;
	return true;
}

struct df_line df_feed_give_up(struct df_feed *f)
{
	struct df_line line = {f->at + f->begin, NULL, 0, DF_ERR_NOMEM};
	f->at += f->end;
	df_feed_release(f);
	f->scanned = 0;
	f->skipping = true;
	return line;
}

/* The line's bytes [begin, begin + n), LF left out: strip what is not the record. */
static struct df_line frame(const struct df_feed *f, size_t n)
{
	struct df_line line = {f->at + f->begin, f->p + f->begin, n, DF_OK};
	if (line.offset == 0 && line.n >= BOM_BYTES && memcmp(line.p, BOM, BOM_BYTES) == 0) {
		line.p += BOM_BYTES;
		line.n -= BOM_BYTES;
	}
	if (line.n && line.p[line.n - 1] == '\r')
		line.n--;
	return line;
}

static struct df_line too_long(uint64_t offset)
{
	return (struct df_line){offset, NULL, 0, DF_ERR_LIMIT};
}

/* May a record begin here? DF_OK, or what the callers answer. */
static enum df_err at_start(struct df_feed *f)
{
	if (f->skipping)
		DF_TRY(skip_line(f));
	if (f->at + f->begin >= f->stop)
		return DF_ERR_END;
	if (f->begin == f->end)
		return f->eof ? DF_ERR_END : DF_ERR_AGAIN;
	return DF_OK;
}

/*
 * The end of the record that begins at `begin` was looked for in `seen` bytes. Found: its length with the LF. Else the
 * record is longer than allowed (give it up), or more bytes are wanted, or the input ends it.
 */
static enum df_err finish(struct df_feed *f, bool found, size_t seen, struct df_line *ret_line)
{
	size_t most = f->max_record + FRAME_BYTES;
	if (!found && seen > most) {
		*ret_line = too_long(f->at + f->begin);
		f->begin += most;
		f->scanned = 0;
		f->skipping = true;
		return DF_OK;
	}
	if (!found && !f->eof) {
		f->scanned = seen;
		return DF_ERR_AGAIN;
	}
	struct df_line line = frame(f, seen - found);
	*ret_line = line.n > f->max_record ? too_long(line.offset) : line;
	f->begin += seen;
	f->scanned = 0;
	return DF_OK;
}

/* Bytes in which the end of a record may lie: one more than a record that is just short enough. */
static size_t searchable(const struct df_feed *f)
{
	size_t held = f->end - f->begin, most = f->max_record + FRAME_BYTES + 1;
	return held < most ? held : most;
}

enum df_err df_feed_line(struct df_feed *f, struct df_line *ret_line)
{
	for (;;) {
		DF_TRY(at_start(f));
		const char *start = f->p + f->begin;
		size_t n = searchable(f);
		const char *lf = memchr(start + f->scanned, '\n', n - f->scanned);
		struct df_line line;
		DF_TRY(finish(f, lf != NULL, lf ? (size_t)(lf - start) + 1 : n, &line));
		if (line.err == DF_OK && df_line_is_blank(line.p, line.n))
			continue;
		*ret_line = line;
		return DF_OK;
	}
}

/* The BOM is no part of the first field, whose quotes it would hide. */
static size_t bom_bytes(const struct df_feed *f, size_t n)
{
	if (f->at + f->begin != 0)
		return 0;
	return n >= BOM_BYTES && memcmp(f->p + f->begin, BOM, BOM_BYTES) == 0 ? BOM_BYTES : 0;
}

enum df_err df_feed_row(struct df_feed *f, struct df_csv_scan *scan, struct df_line *ret_line)
{
	for (;;) {
		DF_TRY(at_start(f));
		size_t n = searchable(f);
		if (f->at + f->begin == 0 && n < BOM_BYTES && !f->eof)
			return DF_ERR_AGAIN;
		size_t from = f->scanned ? f->scanned : bom_bytes(f, n), more = 0;
		bool found = df_csv_scan_row(scan, f->p + f->begin + from, n - from, &more);
		bool open = !found && scan->state == DF_CSV_QUOTED;
		struct df_line line;
		DF_TRY(finish(f, found, from + more, &line));
		scan->state = DF_CSV_FIELD_START;
		if (line.err == DF_OK && open)
			line.err = DF_ERR_PARSE;
		if (line.err == DF_OK && df_line_is_blank(line.p, line.n))
			continue;
		*ret_line = line;
		return DF_OK;
	}
}
