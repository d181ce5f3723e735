// SPDX-License-Identifier: Apache-2.0
/*
 * journal_replay: reading a journal's file back, and telling a crash's torn tail from damage.
 *
 * DESIGN: the file is read once through a window; pieces are checked one by one against magic, version, sequence, chain and
 * checksum, and gathered into records. Nothing that the file says is believed before its checksum held.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/sink/journal.h"

#define WINDOW_BYTES (1U << 20)

struct piece {
	unsigned type;
	bool more;
	uint32_t n;
	uint64_t seq, chain, durable, sum;
	const char *payload;
};

struct window {
	const struct df_io *io;
	int fd;
	char *p;
	uint64_t start; /* offset of p[0] in the file */
	size_t n;
	uint64_t size; /* of the file */
};

static uint64_t load_le(const char *p, size_t n)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)(uint8_t)p[i] << 8 * i;
	return v;
}

/* Up to `want` (<= WINDOW_BYTES) bytes at `offset`; fewer only at the end of the file. */
static enum df_err look(struct window *w, uint64_t offset, size_t want, const char **ret_p, size_t *ret_n,
			struct df_fail *fail)
{
	uint64_t left = offset < w->size ? w->size - offset : 0;
	size_t need = want < left ? want : (size_t)left;
	if (offset < w->start || offset + need > w->start + w->n) {
		size_t n = WINDOW_BYTES < left ? WINDOW_BYTES : (size_t)left;
		ssize_t r = w->io->read_at(w->io->self, w->fd, w->p, n, offset);
		if (r < 0)
			return df_fail_errno(fail, "cannot read '%s' at byte %llu", DF_JOURNAL_NAME,
					     (unsigned long long)offset);
		w->start = offset;
		w->n = (size_t)r;
		if (w->n < need)
			need = w->n;
	}
	*ret_p = w->p + (offset - w->start);
	*ret_n = need;
	return DF_OK;
}

/* True when p[0..n) begins with a piece whose checksum holds. */
static bool parse_piece(const char *p, size_t n, struct piece *ret_piece)
{
	/* look() has filled what it says it has; the analyzer loses count there. */
	// NOLINTBEGIN(clang-analyzer-core.UndefinedBinaryOperatorResult)
	if (n < DF_JOURNAL_HEAD || memcmp(p, "DFJ1", 4) != 0 || load_le(p + 4, 2) != DF_JOURNAL_VERSION ||
	    (uint8_t)p[6] > 1 || load_le(p + 12, 4) != 0)
		return false;
	// NOLINTEND(clang-analyzer-core.UndefinedBinaryOperatorResult)
	struct piece piece = {.type = (uint8_t)p[7],
			      .more = p[6],
			      .n = (uint32_t)load_le(p + 8, 4),
			      .seq = load_le(p + 16, 8),
			      .chain = load_le(p + 24, 8),
			      .durable = load_le(p + 32, 8),
			      .sum = load_le(p + 40, 8),
			      .payload = p + DF_JOURNAL_HEAD};
	if (piece.n > DF_JOURNAL_PIECE - DF_JOURNAL_HEAD || piece.n > n - DF_JOURNAL_HEAD)
		return false;
	if (df_hash64_seed(piece.payload, piece.n, df_hash64(p, 40)) != piece.sum)
		return false;
	*ret_piece = piece;
	return true;
}

/* The piece at `bad` is not as it must be. Was its record (number `seq`) durable when something behind it was written? */
static enum df_err judge_tail(struct window *w, uint64_t bad, uint64_t seq, struct df_fail *fail)
{
	for (uint64_t at = bad; at < w->size;) {
		const char *p = NULL;
		size_t n = 0;
		DF_TRY(look(w, at, WINDOW_BYTES / 2, &p, &n, fail));
		if (n < DF_JOURNAL_HEAD)
			break;
		const char *found = memmem(p, n, "DFJ1", 4);
		if (!found) {
			at += n - 3;
			continue;
		}
		at += (uint64_t)(found - p);
		DF_TRY(look(w, at, DF_JOURNAL_PIECE, &p, &n, fail));
		struct piece piece;
		if (parse_piece(p, n, &piece) && piece.durable > seq)
			return df_fail(fail, DF_ERR_CORRUPT,
				       "'%s' is damaged at byte %llu: record %llu is bad, and a later one at byte %llu "
				       "is good; start afresh "
				       "with --force-restart",
				       DF_JOURNAL_NAME, (unsigned long long)bad, (unsigned long long)seq,
				       (unsigned long long)at);
		at++;
	}
	return DF_OK;
}

static enum df_err check_beginning(struct window *w, struct df_fail *fail)
{
	const char *p = NULL;
	size_t n = 0;
	DF_TRY(look(w, 0, DF_JOURNAL_HEAD, &p, &n, fail));
	if (n >= DF_JOURNAL_HEAD && memcmp(p, "DFJ1", 4) == 0 && load_le(p + 4, 2) != DF_JOURNAL_VERSION)
		return df_fail(fail, DF_ERR_VERSION, "'%s' has format version %u; this docflume reads version %d",
			       DF_JOURNAL_NAME, (unsigned)load_le(p + 4, 2), DF_JOURNAL_VERSION);
	return DF_OK;
}

static enum df_err no_memory(struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_NOMEM, "no memory to replay the journal");
}

static enum df_err replay_pieces(struct window *w, struct df_replay *r, struct df_buf *record, struct df_fail *fail)
{
	uint64_t at = 0, chain = 0;
	unsigned type = 0;
	while (r->seq < r->stop) {
		const char *p = NULL;
		size_t n = 0;
		struct piece piece;
		DF_TRY(look(w, at, DF_JOURNAL_PIECE, &p, &n, fail));
		bool good = parse_piece(p, n, &piece) && piece.seq == r->seq && piece.chain == chain &&
			    (record->n == 0 || piece.type == type);
		if (!good)
			break;
		enum df_err err = df_buf_add(record, piece.payload, piece.n);
		if (err == DF_ERR_LIMIT)
			return df_fail(fail, DF_ERR_CORRUPT, "'%s': the record at byte %llu is too large",
				       DF_JOURNAL_NAME, (unsigned long long)r->good_bytes);
		if (err != DF_OK)
			return no_memory(fail);
		at += DF_JOURNAL_HEAD + piece.n;
		chain = piece.sum;
		type = piece.type;
		if (piece.more)
			continue;
		err = df_replay_apply(r, type, df_buf_str(record), NULL);
		if (err == DF_ERR_NOMEM)
			return no_memory(fail);
		if (err != DF_OK)
			return df_fail(fail, err, "'%s': record %llu at byte %llu does not hold together",
				       DF_JOURNAL_NAME, (unsigned long long)r->seq, (unsigned long long)r->good_bytes);
		df_buf_reset(record);
		r->durable = piece.durable > r->durable ? piece.durable : r->durable;
		r->good_bytes = at;
		r->chain = chain;
		r->seq++;
	}
	r->torn_bytes = w->size - r->good_bytes;
	return r->torn_bytes && r->seq < r->stop ? judge_tail(w, at, r->seq, fail) : DF_OK;
}

enum df_err df_journal_replay(const struct df_io *io, int fd, struct df_replay *r, struct df_fail *fail)
{
	struct window w = {.io = io, .fd = fd};
	if (io->size(io->self, fd, &w.size) < 0)
		return df_fail_errno(fail, "cannot read '%s'", DF_JOURNAL_NAME);
	w.p = malloc(WINDOW_BYTES);
	if (!w.p)
		return no_memory(fail);
	struct df_buf record;
	df_buf_init(&record, DF_JOURNAL_RECORD_MAX);
	enum df_err err = check_beginning(&w, fail);
	if (err == DF_OK)
		err = replay_pieces(&w, r, &record, fail);
	/* nothing follows a journal's first record before that is durable: more bytes than it has are no crash's work */
	if (err == DF_OK && !r->has_header && w.size > DF_JOURNAL_PIECE)
		err = df_fail(
			fail, DF_ERR_CORRUPT,
			"'%s' is not the journal of a run: no record at byte 0; start afresh with --force-restart",
			DF_JOURNAL_NAME);
	if (err == DF_OK)
		err = df_replay_settle(r, fail);
	df_buf_release(&record);
	free(w.p);
	return err;
}
