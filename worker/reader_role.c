// SPDX-License-Identifier: Apache-2.0
/*
 * reader_role: a reader process: takes READ, sends CELLS within its credit, ends with SOURCE_END, and waits for the next.
 *
 * One thread: between two cells it looks at its lane and says HELLO. Cells are gathered into messages of about
 * DF_FRAME_BYTES; live input is sent at once when it falls silent.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "proto/cell_info.h"
#include "worker/lease/cellblock.h"
#include "worker/process/link.h"
#include "worker/process/pulse.h"
#include "worker/role.h"

#define CELLS_PER_MESSAGE 64

struct reading {
	struct df_worker_link link;
	struct df_pulse *pulse;
	struct df_arena arena; /* of the READ message */
	struct df_buf header;
	struct df_frames frames;
	struct df_msg read; /* the source in work; type 0: none */
	struct df_reader *reader;
	const char *path, *name;
	int64_t credit;
	size_t done_at;           /* index into read.read.done */
	struct df_cell_info seen; /* of the range there, as it is now */
	struct df_cell_info info[CELLS_PER_MESSAGE];
	struct df_blob *blob[CELLS_PER_MESSAGE];
	size_t n;
	uint64_t first, bytes, n_cell;
	struct df_frames request;
};

/* ------------------------------------------------------------------ sending */

static enum df_err wait_for(struct reading *r, bool to_send)
{
	uint64_t now = df_clock_mono(&df_clock_real);
	struct df_wait w[] = {
		{.socket = r->link.lane}, {.socket = r->link.notices}, {.socket = r->link.out, .want_send = true}};
	df_worker_link_hello(&r->link, now, 0, 0);
	return df_wait(w, to_send ? 3 : 2, df_worker_link_timeout_ms(&r->link, now));
}

static enum df_err send(struct reading *r, const struct df_msg *msg, struct df_blob **payload, size_t n)
{
	df_buf_reset(&r->header);
	DF_TRY(df_msg_pack(msg, &r->header));
	for (;;) {
		enum df_err err = df_socket_send(r->link.out, df_buf_str(&r->header), payload, n);
		if (err != DF_ERR_AGAIN)
			return err;
		df_worker_link_notices(&r->link);
		if (r->link.state == DF_STATE_STOP)
			return DF_ERR_CLOSED;
		DF_TRY(wait_for(r, true));
	}
}

static enum df_err flush(struct reading *r)
{
	if (r->n == 0)
		return DF_OK;
	struct df_msg msg = {.type = DF_MSG_CELLS, .epoch = r->link.h->epoch, .lane = r->link.h->lane};
	msg.cells = (struct df_cells_msg){r->read.read.source, r->first, r->info, r->n};
	enum df_err err = send(r, &msg, r->blob, r->n);
	for (; r->n; r->n--)
		df_blob_unref(&r->blob[r->n - 1]);
	r->bytes = 0;
	return err;
}

static enum df_err end_source(struct reading *r, enum df_err code, const char *message, uint32_t flags)
{
	struct df_reader_stats stats = {0};
	enum df_err err = flush(r);
	df_slot_note_memory(r->link.slot, df_clock_mono(&df_clock_real));
	if (r->reader)
		df_reader_stats(r->reader, &stats);
	struct df_msg msg = {.type = DF_MSG_SOURCE_END, .epoch = r->link.h->epoch, .lane = r->link.h->lane};
	msg.source_end = (struct df_source_end){
		.source = r->read.read.source,
		.n_cell = r->n_cell,
		.bytes = stats.bytes_out,
		.records = stats.records,
		.code = code,
		.message = df_str_from(message),
		.flags = flags,
	};
	if (err == DF_OK)
		err = send(r, &msg, NULL, 0);
	df_reader_close(&r->reader);
	df_frames_release(&r->request);
	r->read.type = 0;
	return err;
}

/* What is wrong with the input ends it. A lack of memory or descriptors is this process's own, and a successor may have better luck. */
static enum df_err give_up(struct reading *r, enum df_err err, const struct df_fail *fail)
{
	bool again = !(r->read.read.flags & DF_READ_STDIN) && r->read.read.id.ino != 0;
	if (again && df_err_class(err) == DF_CLASS_LIMIT)
		return err;
	return end_source(r, err, fail->msg, 0);
}

/* Cells that the coordinator has already are not sent. */
static bool is_known(struct reading *r, uint64_t cell)
{
	const struct df_read *read = &r->read.read;
	while (r->done_at < read->n_done && cell >= read->done[r->done_at].first + read->done[r->done_at].n)
		r->done_at++;
	return r->done_at < read->n_done && cell >= read->done[r->done_at].first;
}

static struct df_cell_info info_of(const struct df_cell_block *cell)
{
	return (struct df_cell_info){cell->record[0].offset, cell->n_payload, cell->n_record, cell->hash};
}

/* The file is the one that was planned, by name, size and time. */
static bool same_file(const struct reading *r)
{
	struct stat st;
	struct df_file_id now;
	if (stat(r->path, &st) != 0)
		return false;
	df_file_id_of(&st, &now);
	return df_file_id_eq(&now, &r->read.read.id);
}

/* Known cells are not sent but compared: at the end of a range with what was said of it when results were made of it. */
static enum df_err pass_known(struct reading *r, const struct df_cell_block *cell)
{
	const struct df_range *known = &r->read.read.done[r->done_at];
	const struct df_cell_info one = info_of(cell);
	DF_TRY(flush(r)); /* one message holds neighbours only */
	if (cell->ordinal == known->first)
		r->seen = (struct df_cell_info){0};
	df_cell_info_add(&r->seen, cell->ordinal, &one);
	if (cell->ordinal + 1 < known->first + known->n || !df_cell_info_said(&known->info) ||
	    df_cell_info_eq(&r->seen, &known->info))
		return DF_OK;
	struct df_fail fail;
	uint64_t end = cell->record[cell->n_record - 1].offset;
	if (!same_file(r)) {
		(void)df_fail(&fail, DF_ERR_CHANGED, "'%s' changed while it was read", r->name);
		return end_source(r, DF_ERR_CHANGED, fail.msg, 0);
	}
	(void)df_fail(
		&fail, DF_ERR_CHANGED,
		"'%s' has other content than when it was read before, though its size and time are the same: what "
		"differs begins between bytes %" PRIu64 " and %" PRIu64,
		r->name, known->info.start, end);
	return end_source(r, DF_ERR_CHANGED, fail.msg, DF_SOURCE_END_DIFFERS);
}

static enum df_err add_cell(struct reading *r, const struct df_cell_block *cell)
{
	r->n_cell = cell->ordinal + 1;
	if (is_known(r, cell->ordinal))
		return pass_known(r, cell);
	struct df_blob *blob = df_cellblock_pack(cell);
	if (!blob)
		return DF_ERR_NOMEM;
	if (r->n == 0)
		r->first = cell->ordinal;
	r->info[r->n] = info_of(cell);
	r->blob[r->n++] = blob;
	r->bytes += blob->n;
	r->credit -= (int64_t)blob->n;
	return r->n == CELLS_PER_MESSAGE || r->bytes >= DF_FRAME_BYTES ? flush(r) : DF_OK;
}

/* ------------------------------------------------------------------ receiving */

static enum df_err open_source(struct reading *r)
{
	const struct df_read *read = &r->read.read;
	const struct df_heritage *h = r->link.h;
	bool is_stdin = (read->flags & DF_READ_STDIN) != 0;
	struct df_fail fail = {0};
	r->path = df_arena_copy(&r->arena, read->path).p;
	r->name = df_arena_copy(&r->arena, read->name).p;
	if (!r->path || !r->name)
		return DF_ERR_NOMEM;
	bool live = is_stdin || read->id.ino == 0;
	struct df_reader_spec spec = {
		.path = is_stdin ? NULL : r->path,
		.fd = is_stdin ? STDIN_FILENO : -1,
		.name = r->name,
		.format = (enum df_format)read->format,
		.id_key = h->id_key.p,
		.text_key = h->text_key.p,
		.max_record = h->max_record,
		.cell_bytes = read->cell_bytes,
		.skip = read->skip_records,
		.limit = read->limit_records,
		.live = live,
		.check_id = !live,
		.id = read->id,
	};
	r->credit = (int64_t)read->credit_bytes;
	r->done_at = 0;
	r->n_cell = 0;
	df_pulse_step(r->pulse, r->name,
		      df_clock_mono(&df_clock_real)); /* a file system that has gone takes its time */
	enum df_err err = df_reader_open(&spec, &r->reader, &fail);
	df_pulse_step(r->pulse, NULL, 0);
	return err == DF_OK ? DF_OK : give_up(r, err, &fail);
}

/* READ begins a source; CREDIT adds to its credit. */
static enum df_err take_requests(struct reading *r)
{
	enum df_err err = DF_OK;
	while (err == DF_OK && (err = df_socket_recv(r->link.lane, &r->frames)) == DF_OK) {
		struct df_msg msg;
		struct df_str header = {r->frames.header->p, r->frames.header->n};
		struct df_arena scratch;
		df_arena_init(&scratch, 64U << 20, 0);
		err = df_msg_unpack(header, &scratch, &msg, NULL);
		if (err == DF_OK) {
			if (msg.type == DF_MSG_CREDIT) {
				r->credit += (int64_t)msg.credit.bytes;
			} else if (msg.type == DF_MSG_READ && r->read.type == 0) {
				df_arena_reset(&r->arena);
				r->request.header = r->frames.header; /* strings of the message point into it */
				r->frames.header = NULL;
				err = df_msg_unpack(header, &r->arena, &r->read, NULL);
				if (err == DF_OK)
					err = open_source(r);
			}
		} else if (err != DF_ERR_NOMEM) {
			err = DF_OK; /* not of the protocol: dropped */
		}
		df_arena_release(&scratch);
		df_frames_release(&r->frames);
	}
	return err == DF_ERR_AGAIN || err == DF_ERR_LIMIT ? DF_OK : err;
}

/*
 * Where cells begin that are known, up to far behind: seek to the last range of them, if the source can be sought. What lies before it is not
 * compared then: the file's size and time must do (or its checksum, with --paranoid).
 */
static enum df_err skip_known(struct reading *r, struct df_fail *fail)
{
	const struct df_read *read = &r->read.read;
	const struct df_range *done = read->done;
	if (!is_known(r, r->n_cell) || done[r->done_at].first != r->n_cell)
		return DF_OK;
	size_t at = r->done_at, last = at;
	if (at && done[at - 1].first + done[at - 1].n == r->n_cell)
		return DF_OK; /* in the middle: it was tried */
	uint64_t records = 0;
	for (; last + 1 < read->n_done && done[last].first + done[last].n == done[last + 1].first; last++)
		records += done[last].info.records;
	if (last == at || !df_cell_info_said(&done[last].info))
		return DF_OK;
	enum df_err err = df_reader_seek(r->reader, done[last].first, done[last].info.start, records, fail);
	if (err == DF_OK) {
		r->n_cell = done[last].first;
		r->done_at = last;
	}
	return err == DF_ERR_UNSUPPORTED ? DF_OK : err;
}

static enum df_err read_some(struct reading *r)
{
	struct df_cell_block cell;
	struct df_fail fail = {0};
	df_pulse_step(r->pulse, r->name, df_clock_mono(&df_clock_real));
	enum df_err err = skip_known(r, &fail);
	if (err == DF_OK)
		err = df_reader_next_cell(r->reader, &cell, &fail);
	df_pulse_step(r->pulse, NULL, 0);
	switch (err) {
	case DF_OK:
		return add_cell(r, &cell);
	case DF_ERR_AGAIN:
		return flush(r);
	case DF_ERR_END:
		return end_source(r, DF_OK, "", 0);
	default:
		return give_up(r, err, &fail);
	}
}

static enum df_err loop(struct reading *r)
{
	for (;;) {
		df_worker_link_hello(&r->link, df_clock_mono(&df_clock_real), 0, 0);
		df_worker_link_notices(&r->link);
		if (r->link.state == DF_STATE_STOP)
			return DF_OK;
		DF_TRY(take_requests(r));
		if (r->reader && r->credit > 0) {
			DF_TRY(read_some(r));
		} else {
			DF_TRY(flush(r));
			DF_TRY(wait_for(r, false));
		}
	}
}

enum df_err df_reader_run(const struct df_heritage *h, struct df_slot *slot, const struct df_confine *confine,
			  struct df_fail *fail)
{
	struct reading r = {0};
	df_arena_init(&r.arena, 64U << 20, 0);
	df_buf_init(&r.header, DF_HEADER_BYTES_MAX);
	enum df_err err = confine ? df_confine_end(confine, fail) : DF_OK;
	if (err == DF_OK)
		err = df_worker_link_open(&r.link, h, slot, fail);
	if (err == DF_OK)
		err = df_pulse_start(&r.link, &r.pulse, fail);
	if (err == DF_OK) {
		err = loop(&r);
		if (err == DF_ERR_CLOSED)
			err = DF_OK;
		if (err != DF_OK)
			(void)df_fail(fail, err, "reading input failed: %s", df_err_name(err));
		for (; r.n; r.n--)
			df_blob_unref(&r.blob[r.n - 1]);
		df_reader_close(&r.reader);
	}
	df_pulse_stop(&r.pulse);
	df_worker_link_close(&r.link);
	df_frames_free(&r.frames);
	df_frames_free(&r.request);
	df_buf_release(&r.header);
	df_arena_release(&r.arena);
	return err;
}
