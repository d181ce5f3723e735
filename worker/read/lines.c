// SPDX-License-Identifier: Apache-2.0
/*
 * lines: a byte range of a file through a feed, and whole files.
 *
 * DESIGN. One read brings the whole range (up to a block) and a little more for the record that runs past its end;
 * if that does not do, the tail is read in growing steps. A range's first line is found by beginning one byte early
 * and passing over everything up to the first LF: if that byte is the LF, nothing is lost.
 */
#include "worker/read/lines.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/read/feed.h"

#define TAIL_BYTES 4096 /* read past the range at first */

struct df_range_reader {
	struct df_feed feed;
	struct df_bytes_at in;
	uint64_t end, size;
	size_t tail;
	bool checked; /* the identity after the last read */
};

static ssize_t file_read_at(void *self, void *p, size_t n, uint64_t offset)
{
	const struct df_file_at *file = self;
	size_t done = 0;
	while (done < n) {
		ssize_t got = pread(file->fd, (char *)p + done, n - done, (off_t)(offset + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)done;
}

static enum df_err file_check(void *self, struct df_fail *fail)
{
	const struct df_file_at *file = self;
	return df_file_id_check(file->fd, &file->id, file->name, fail);
}

static const char *name_of(const struct df_bytes_at *in)
{
	return in->name ? in->name : "input";
}

struct df_bytes_at df_bytes_of_file(struct df_file_at *file)
{
	return (struct df_bytes_at){file_read_at, file_check, file, file->name};
}

enum df_err df_range_reader_create(size_t block_bytes, size_t max_record, struct df_range_reader **ret_reader)
{
	if (max_record > DF_RECORD_BYTES_MAX)
		return DF_ERR_LIMIT;
	struct df_range_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return DF_ERR_NOMEM;
	df_feed_init(&r->feed, block_bytes ? block_bytes : DF_BLOCK_BYTES, max_record);
	r->checked = true;
	*ret_reader = r;
	return DF_OK;
}

void df_range_reader_destroy(struct df_range_reader **reader)
{
	if (!*reader)
		return;
	df_feed_release(&(*reader)->feed);
	free(*reader);
	*reader = NULL;
}

enum df_err df_range_reader_open(struct df_range_reader *r, const struct df_bytes_at *in, uint64_t start, uint64_t end,
				 uint64_t size, struct df_fail *fail)
{
	if (start > end || end > size)
		return df_fail(fail, DF_ERR_BUG, "range %" PRIu64 "..%" PRIu64 " of a file of %" PRIu64 " bytes", start,
			       end, size);
	r->in = *in;
	r->end = end;
	r->size = size;
	r->tail = TAIL_BYTES;
	r->checked = false;
	df_feed_restart(&r->feed, start ? start - 1 : 0, end, start != 0);
	return in->check ? in->check(in->self, fail) : DF_OK;
}

static enum df_err read_more(struct df_range_reader *r, struct df_fail *fail)
{
	uint64_t at = df_feed_read_offset(&r->feed), left = r->size - at;
	uint64_t want = (at < r->end ? r->end - at : 0) + r->tail;
	if (at >= r->end && r->tail < r->feed.block)
		r->tail *= 2;
	if (want > r->feed.block)
		want = r->feed.block;
	if (want > left)
		want = left;
	if (want == 0) {
		df_feed_end(&r->feed);
		return DF_OK;
	}
	char *p;
	size_t room;
	if (df_feed_room(&r->feed, (size_t)want, &p, &room) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a record");
	ssize_t got = r->in.read_at(r->in.self, p, room, at);
	if (got < 0)
		return df_fail_errno(fail, "cannot read '%s' at byte %" PRIu64, name_of(&r->in), at);
	if ((size_t)got < room) {
		if (r->in.check)
			DF_TRY(r->in.check(r->in.self, fail));
		return df_fail(fail, DF_ERR_CHANGED,
			       "'%s' ends at byte %" PRIu64 ", had %" PRIu64 " bytes when the run began",
			       name_of(&r->in), at + (uint64_t)got, r->size);
	}
	/* now, and not when the range is done: answers of models may come hours later, and a change meanwhile is none of what was read */
	if (r->in.check)
		DF_TRY(r->in.check(r->in.self, fail));
	r->checked = true;
	df_feed_added(&r->feed, (size_t)got);
	return DF_OK;
}

static enum df_err finish(struct df_range_reader *r, struct df_fail *fail)
{
	if (!r->checked && r->in.check)
		DF_TRY(r->in.check(r->in.self, fail));
	r->checked = true;
	return DF_ERR_END;
}

enum df_err df_range_reader_next(struct df_range_reader *r, struct df_line *line, size_t cap, size_t *ret_n,
				 struct df_fail *fail)
{
	size_t n = 0;
	while (n < cap) {
		enum df_err err = df_feed_line(&r->feed, &line[n]);
		if (err == DF_OK) {
			n++;
			continue;
		}
		if (n) /* what was found points into the window: hand it over before more is read */
			break;
		if (err == DF_ERR_END)
			return finish(r, fail);
		err = read_more(r, fail);
		if (err == DF_ERR_NOMEM && !r->feed.skipping && r->feed.end > r->feed.begin) {
			line[n++] = df_feed_give_up(&r->feed);
			break;
		}
		DF_TRY(err);
	}
	*ret_n = n;
	return DF_OK;
}

enum df_err df_lines_read_whole(const struct df_bytes_at *in, uint64_t size, size_t max_record, struct df_buf *buf,
				struct df_str *ret_text, struct df_fail *fail)
{
	if (in->check)
		DF_TRY(in->check(in->self, fail));
	if (size > (uint64_t)max_record + 3)
		return df_fail(fail, DF_ERR_LIMIT, "a document of %" PRIu64 " bytes, longer than max-record=%zu", size,
			       max_record);
	if (df_buf_reserve(buf, (size_t)size + DF_RECORD_PADDING) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "out of memory for a document of %" PRIu64 " bytes", size);
	char *p = buf->p + buf->n;
	ssize_t got = in->read_at(in->self, p, (size_t)size, 0);
	if (got < 0)
		return df_fail_errno(fail, "cannot read '%s'", name_of(in));
	if (in->check)
		DF_TRY(in->check(in->self, fail));
	if ((uint64_t)got < size)
		return df_fail(fail, DF_ERR_CHANGED, "'%s' ends at byte %zd, had %" PRIu64 " bytes when the run began",
			       name_of(in), got, size);
	size_t bom = size >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
	if (size - bom > max_record)
		return df_fail(fail, DF_ERR_LIMIT, "a document of %" PRIu64 " bytes, longer than max-record=%zu", size,
			       max_record);
	memset(p + size, 0, DF_RECORD_PADDING);
	buf->n += (size_t)size;
	*ret_text = (struct df_str){p + bom, (size_t)size - bom};
	return DF_OK;
}
