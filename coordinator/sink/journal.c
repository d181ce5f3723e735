// SPDX-License-Identifier: Apache-2.0
/* journal: encoding records and appending them in checksummed pieces. */
#include "coordinator/sink/journal.h"

#include <endian.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "coordinator/sink/parts.h"
#include "proto/cell_info.h"

#define PIECE_PAYLOAD (DF_JOURNAL_PIECE - DF_JOURNAL_HEAD)
#define OUT_MAX (DF_JOURNAL_RECORD_MAX + (DF_JOURNAL_RECORD_MAX / PIECE_PAYLOAD + 2) * DF_JOURNAL_HEAD)

/* --- payloads --- */

static void put_u64(struct df_buf *b, uint64_t v)
{
	v = htole64(v);
	(void)df_buf_add(b, &v, sizeof(v));
}

static void put_varint(struct df_buf *b, uint64_t v)
{
	uint8_t p[10];
	size_t n = 0;
	while (v >= 0x80) {
		p[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	(void)df_buf_add(b, p, n);
}

/* The difference of two unsigned numbers, small in both directions (wraps, so that no input is undefined). */
static void put_difference(struct df_buf *b, uint64_t to, uint64_t from)
{
	uint64_t d = to - from;
	put_varint(b, d << 1 ^ (d >> 63 ? UINT64_MAX : 0));
}

static void put_string(struct df_buf *b, struct df_str s)
{
	put_varint(b, s.n);
	(void)df_buf_add_str(b, s);
}

static void put_file(struct df_buf *b, const struct df_journal_file *f)
{
	put_varint(b, f->kind);
	put_varint(b, f->no);
	put_varint(b, f->dim);
	put_varint(b, f->end);
	put_varint(b, f->rows);
	put_u64(b, f->hash);
}

static void put_files(struct df_buf *b, const struct df_journal_file *file, size_t n)
{
	put_varint(b, n);
	for (size_t i = 0; i < n; i++)
		put_file(b, &file[i]);
}

static void put_cells(struct df_buf *b, const struct df_commit_cells *cells, size_t n)
{
	uint64_t source = 0, end = 0;
	put_varint(b, n);
	for (size_t i = 0; i < n; i++) {
		const struct df_commit_cells *c = &cells[i];
		bool info = df_cell_info_said(&c->info);
		put_difference(b, c->cells.source, source);
		put_difference(b, c->cells.first, end);
		put_varint(b, c->cells.n << 1 | info);
		if (info) {
			put_varint(b, c->info.start);
			put_varint(b, c->info.bytes);
			put_varint(b, c->info.records);
			put_u64(b, c->info.hash);
		}
		source = c->cells.source;
		end = c->cells.first + c->cells.n;
	}
}

void df_counter_names_init(struct df_counter_names *names)
{
	df_map_init(&names->ids, DF_REPLAY_TEXT_MAX);
}

void df_counter_names_release(struct df_counter_names *names)
{
	df_map_release(&names->ids);
}

static enum df_err put_counters(struct df_buf *b, struct df_counter_names *names, const struct df_counter *counter,
				size_t n)
{
	put_varint(b, n);
	for (size_t i = 0; i < n; i++) {
		uint64_t n_known = names->ids.n, *id = NULL;
		if (counter[i].name.n > DF_STRING_BYTES_MAX)
			return DF_ERR_LIMIT;
		DF_TRY(df_map_put(&names->ids, counter[i].name, n_known, &id));
		if (names->ids.n > DF_REPLAY_COUNTERS_MAX)
			return DF_ERR_LIMIT;
		put_varint(b, *id);
		if (*id == n_known)
			put_string(b, counter[i].name);
		put_varint(b, counter[i].value);
	}
	return DF_OK;
}

static enum df_err put_sources(struct df_buf *b, const struct df_source_state *source, size_t n)
{
	put_varint(b, n);
	for (size_t i = 0; i < n; i++) {
		if (source[i].message.n > DF_STRING_BYTES_MAX)
			return DF_ERR_LIMIT;
		put_varint(b, source[i].source);
		put_varint(b, (uint64_t)source[i].err << 1 | source[i].ended);
		put_varint(b, source[i].n_cell);
		put_string(b, source[i].message);
	}
	return DF_OK;
}

enum df_err df_journal_put_header(struct df_buf *out, const struct df_journal_header *header)
{
	put_u64(out, header->run_id);
	put_u64(out, header->fingerprint);
	put_varint(out, header->want);
	put_varint(out, header->zstd);
	put_varint(out, header->npy_item_bytes);
	put_string(out, header->version);
	return df_buf_err(out);
}

enum df_err df_journal_put_epoch(struct df_buf *out, uint32_t epoch, uint64_t boot_id)
{
	put_varint(out, epoch);
	put_u64(out, boot_id);
	return df_buf_err(out);
}

enum df_err df_journal_put_commit(struct df_buf *out, struct df_counter_names *names, const struct df_commit *commit,
				  const struct df_journal_file *file, size_t n_file)
{
	put_cells(out, commit->cells, commit->n_cells);
	put_files(out, file, n_file);
	DF_TRY(put_counters(out, names, commit->counter, commit->n_counter));
	put_varint(out, commit->n_strike);
	for (size_t i = 0; i < commit->n_strike; i++) {
		const struct df_strike *s = &commit->strike[i];
		put_varint(out, s->record.source);
		put_varint(out, s->record.offset);
		put_varint(out, s->n);
		put_varint(out, s->cause);
		put_varint(out, s->detail);
		put_varint(out, s->stage);
	}
	DF_TRY(put_sources(out, commit->source, commit->n_source));
	return df_buf_err(out);
}

enum df_err df_journal_put_finish(struct df_buf *out, const struct df_grid_size *complete)
{
	put_varint(out, complete->n_source);
	put_varint(out, complete->n_cell);
	return df_buf_err(out);
}

enum df_err df_journal_put_rotate(struct df_buf *out, const struct df_journal_file *file, size_t n_file)
{
	put_files(out, file, n_file);
	return df_buf_err(out);
}

/* --- ranges --- */

static int by_place(const void *a, const void *b)
{
	const struct df_cells *x = &((const struct df_commit_cells *)a)->cells,
			      *y = &((const struct df_commit_cells *)b)->cells;
	if (x->source != y->source)
		return x->source < y->source ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

static bool is_sorted(const struct df_commit_cells *cells, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (by_place(&cells[i - 1], &cells[i]) > 0)
			return false;
	return true;
}

struct key {
	uint64_t place; /* source << 40 | first */
	size_t at;
};

/* One pass of a stable counting sort by a byte of the place; false when all have the same. */
static bool sort_by_byte(const struct key *from, struct key *to, size_t n, unsigned shift)
{
	size_t start[257] = {0};
	for (size_t i = 0; i < n; i++)
		start[(from[i].place >> shift & 0xff) + 1]++;
	if (start[(from[0].place >> shift & 0xff) + 1] == n)
		return false;
	for (int i = 0; i < 256; i++)
		start[i + 1] += start[i];
	for (size_t i = 0; i < n; i++)
		to[start[from[i].place >> shift & 0xff]++] = from[i];
	return true;
}

/* Many ranges of any order, as a replay has them: three times as fast as comparing. False: nothing was done (no memory, or a place
 * that does not fit a key). */
static bool sort_many(struct df_commit_cells *cells, size_t n)
{
	struct key *a = calloc(n, sizeof(*a)), *b = calloc(n, sizeof(*b));
	struct df_commit_cells *copy = malloc(n * sizeof(*copy));
	bool fits = a && b && copy;
	for (size_t i = 0; fits && i < n; i++) {
		fits = cells[i].cells.source < DF_MAX_SOURCES && cells[i].cells.first < DF_MAX_CELLS;
		a[i] = (struct key){(uint64_t)cells[i].cells.source << 40 | cells[i].cells.first, i};
	}
	for (unsigned shift = 0; fits && shift < 64; shift += 8) {
		if (sort_by_byte(a, b, n, shift)) {
			struct key *swap = a;
			a = b;
			b = swap;
		}
	}
	if (fits) {
		memcpy(copy, cells, n * sizeof(*copy));
		for (size_t i = 0; i < n; i++)
			cells[i] = copy[a[i].at];
	}
	free(a);
	free(b);
	free(copy);
	return fits;
}

static void sort(struct df_commit_cells *cells, size_t n)
{
	if (is_sorted(cells, n) || (n > 4096 && sort_many(cells, n)))
		return;
	qsort(cells, n, sizeof(*cells), by_place);
}

size_t df_commit_cells_merge(struct df_commit_cells *cells, size_t n, bool *ret_overlap)
{
	size_t kept = 0;
	bool overlap = false;
	sort(cells, n);
	for (size_t i = 0; i < n; i++) {
		struct df_commit_cells *last = kept ? &cells[kept - 1] : NULL;
		const struct df_cells *c = &cells[i].cells;
		if (c->n == 0)
			continue;
		bool same = last && last->cells.source == c->source;
		if (same && c->first - last->cells.first < last->cells.n)
			overlap = true;
		bool adjacent = same && c->first - last->cells.first == last->cells.n;
		bool said = df_cell_info_said(&cells[i].info);
		if (adjacent && said == df_cell_info_said(&last->info) &&
		    (!said || last->cells.n + c->n <= DF_INFO_CELLS_MAX)) {
			last->cells.n += c->n;
			df_cell_info_join(&last->info, &cells[i].info);
		} else {
			cells[kept++] = cells[i];
		}
	}
	*ret_overlap = overlap;
	return kept;
}

/* --- the file --- */

void df_journal_init(struct df_journal *j, const struct df_io *io, int fd)
{
	*j = (struct df_journal){.io = io, .fd = fd};
	df_buf_init(&j->out, OUT_MAX);
}

void df_journal_release(struct df_journal *j)
{
	df_buf_release(&j->out);
}

static void store_le(char *p, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (char)(v >> 8 * i);
}

static uint64_t put_piece(struct df_buf *out, const struct df_journal *j, unsigned type, bool more, uint64_t chain,
			  struct df_str payload)
{
	char head[DF_JOURNAL_HEAD] = "DFJ1";
	store_le(head + 4, DF_JOURNAL_VERSION, 2);
	head[6] = (char)more;
	head[7] = (char)type;
	store_le(head + 8, payload.n, 4);
	store_le(head + 16, j->seq, 8);
	store_le(head + 24, chain, 8);
	store_le(head + 32, j->durable, 8);
	uint64_t sum = df_hash64_seed(payload.p, payload.n, df_hash64(head, 40));
	store_le(head + 40, sum, 8);
	(void)df_buf_add(out, head, sizeof(head));
	(void)df_buf_add_str(out, payload);
	return sum;
}

enum df_err df_journal_append(struct df_journal *j, enum df_journal_type type, struct df_str payload,
			      struct df_fail *fail)
{
	if (payload.n > DF_JOURNAL_RECORD_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "a journal record of %zu bytes is larger than %u", payload.n,
			       DF_JOURNAL_RECORD_MAX);
	df_buf_reset(&j->out);
	uint64_t chain = j->chain;
	size_t at = 0;
	do {
		size_t n = payload.n - at < PIECE_PAYLOAD ? payload.n - at : PIECE_PAYLOAD;
		struct df_str piece = {n ? payload.p + at : "", n};
		at += n;
		chain = put_piece(&j->out, j, type, at < payload.n, chain, piece);
	} while (at < payload.n);
	if (df_buf_err(&j->out) != DF_OK)
		return df_fail(fail, df_buf_err(&j->out), "no memory for a journal record of %zu bytes", payload.n);

	struct iovec iov = {j->out.p, j->out.n};
	if (j->io->write_all(j->io->self, j->fd, &iov, 1, j->end) < 0)
		return df_parts_fail(fail, DF_JOURNAL_NAME);
	j->end += j->out.n;
	j->chain = chain;
	j->seq++;
	return DF_OK;
}

enum df_err df_journal_sync(struct df_journal *j, struct df_fail *fail)
{
	if (j->io->sync_data(j->io->self, j->fd) < 0)
		return df_parts_fail(fail, DF_JOURNAL_NAME);
	j->durable = j->seq;
	return DF_OK;
}
