// SPDX-License-Identifier: Apache-2.0
/*
 * feed: the window over a stream of bytes in which records are found, for ranges of files and for readers alike.
 *
 * The owner asks for a record; DF_ERR_AGAIN means "give me more bytes": df_feed_room(), read, df_feed_added() or
 * df_feed_end(). What is found depends on the bytes alone and never on how they were portioned. The window holds a
 * block, and at most max_record and a little more when a record does not fit into one.
 */
#ifndef DF_WORKER_READ_FEED_H
#define DF_WORKER_READ_FEED_H

#include "worker/read/csv.h"
#include "worker/read/lines.h"

struct df_feed {
	char *p;    /* bytes [begin, end) are held; zeros follow: DF_RECORD_PADDING of them are readable */
	size_t cap; /* without the padding */
	size_t begin, end;
	size_t scanned; /* bytes behind begin that hold no record's end */
	uint64_t at;    /* stream offset of p[0] */
	uint64_t stop;  /* records that start here or later are not wanted */
	size_t block;   /* least free room of a read */
	size_t max_record;
	bool eof;
	bool skipping; /* everything up to the next LF belongs to a record that was given up, or to the range before */
};

void df_feed_init(struct df_feed *f, size_t block, size_t max_record);
void df_feed_release(struct df_feed *f);

/* Begin anew at stream offset `at`; a window that grew large is given back. */
void df_feed_restart(struct df_feed *f, uint64_t at, uint64_t stop, bool skipping);

/* Room for at least one byte; what records pointed at moves. DF_ERR_NOMEM. */
enum df_err df_feed_room(struct df_feed *f, size_t want, char **ret_p, size_t *ret_n) DF_MUST_CHECK;
void df_feed_added(struct df_feed *f, size_t n);
void df_feed_end(struct df_feed *f); /* no more bytes will come */

/* The next line. DF_ERR_AGAIN: more bytes; DF_ERR_END: none left, or `stop`. */
enum df_err df_feed_line(struct df_feed *f, struct df_line *ret_line) DF_MUST_CHECK;

/* There was no room (df_feed_room: DF_ERR_NOMEM) for a record that does not end in what is held: it is given up, all memory with it, and
 * the search goes on behind it. */
struct df_line df_feed_give_up(struct df_feed *f);

/* The next CSV row, as lines are; also err = DF_ERR_PARSE (with its bytes) when the input ends inside quotes. A row of
 * more than max_record bytes is given up at max_record and the search goes on behind the next LF, quoted or not: a
 * stray quote costs max_record bytes at most, not the rest of the file. */
enum df_err df_feed_row(struct df_feed *f, struct df_csv_scan *scan, struct df_line *ret_line) DF_MUST_CHECK;

static inline uint64_t df_feed_read_offset(const struct df_feed *f)
{
	return f->at + f->end;
}

#endif
