// SPDX-License-Identifier: Apache-2.0
/* job_sources: where records come from: a byte range of a JSONL file, a whole text, or the cells that a reader has made. A source that has changed or cannot be
 * read is an error of the lease; a record that is too long or damaged is an input with an error of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "worker/lease/cellblock.h"
#include "worker/lease/job_own.h"

static enum df_err open_source(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	if (j->fd >= 0 && df_str_is(seg->path, j->path) && df_file_id_eq(&j->id, &seg->id))
		return DF_OK;
	if (j->fd >= 0)
		(void)close(j->fd);
	j->fd = -1;
	if (seg->path.n >= sizeof(j->path))
		return df_fail(fail, DF_ERR_IO, "the path '%.200s...' is too long", seg->path.p);
	memcpy(j->path, seg->path.p, seg->path.n);
	j->path[seg->path.n] = '\0';
	j->id = seg->id;
	j->fd = TEMP_FAILURE_RETRY(open(j->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	return j->fd < 0 ? df_file_not_opened(j->path, &seg->id, j->path, fail) : DF_OK;
}

static enum df_err run_jsonl(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	DF_TRY(open_source(j, seg, fail));
	char name[256];
	(void)snprintf(name, sizeof(name), "%.*s", (int)(seg->name.n < 250 ? seg->name.n : 250), seg->name.p);
	struct df_file_at file = {j->fd, seg->id, name};
	struct df_bytes_at bytes = df_bytes_of_file(&file);
	DF_TRY(df_range_reader_open(j->range, &bytes, seg->start, seg->end, seg->id.size, fail));
	for (;;) {
		size_t n = 0;
		enum df_err err = df_range_reader_next(j->range, j->line, j->block_records, &n, fail);
		if (err == DF_ERR_END)
			return DF_OK;
		if (err != DF_OK)
			return err;
		for (size_t i = 0; i < n; i++)
			j->input[i] = (struct df_job_input){
				j->line[i].offset, {j->line[i].p, j->line[i].n}, j->line[i].err, NULL, NULL, false};
		DF_TRY(df_job_run_inputs(j, seg, j->input, n, fail));
	}
}

static enum df_err run_text(struct df_job *j, const struct df_segment *seg, struct df_fail *fail)
{
	DF_TRY(open_source(j, seg, fail));
	struct df_file_at file = {j->fd, seg->id, j->path};
	struct df_bytes_at bytes = df_bytes_of_file(&file);
	struct df_job_input in = {0};
	df_buf_reset(&j->text);
	uint64_t max = df_job_record_bytes_max(j->config.heritage);
	enum df_err err = df_lines_read_whole(&bytes, seg->id.size, max, &j->text, &in.raw, fail);
	if (err == DF_ERR_NOMEM) { /* memory may be back */
		df_buf_reset(&j->text);
		err = df_lines_read_whole(&bytes, seg->id.size, max, &j->text, &in.raw, fail);
	}
	if (err == DF_ERR_LIMIT || err == DF_ERR_NOMEM)
		in.err = err;
	else if (err != DF_OK)
		return err;
	err = df_job_run_inputs(j, seg, &in, 1, fail);
	if (j->text.cap > 4 * DF_BLOCK_BYTES)
		df_buf_release(&j->text); /* one huge file must not stay in memory for ever */
	return err;
}

static enum df_err run_block(struct df_job *j, const struct df_segment *seg, const struct df_blob *blob,
			     struct df_fail *fail)
{
	struct df_cellblock_view view;
	if (df_cellblock_view(blob->p, blob->n, &view) != DF_OK)
		return df_fail(fail, DF_ERR_BUG, "a reader's cell of '%.*s' is damaged", DF_STR_ARG(seg->name));
	df_counters_add(&j->counters, "bytes_in", view.n_payload);
	for (uint32_t at = 0; at < view.n_record;) {
		size_t n = 0;
		df_arena_reset(&j->message_arena);
		for (; at < view.n_record && n < j->block_records; at++, n++) {
			struct df_cell_record r;
			if (df_cellblock_record(&view, at, &r) != DF_OK)
				return df_fail(fail, DF_ERR_BUG, "a reader's cell of '%.*s' is damaged",
					       DF_STR_ARG(seg->name));
			j->input[n] = (struct df_job_input){
				r.offset, {view.payload + r.start, r.length}, (enum df_err)r.err, NULL, NULL, false};
			if (r.err && r.n_message) {
				struct df_str m = {view.payload + r.start + r.length, r.n_message};
				j->input[n].message = df_arena_copy(&j->message_arena, m).p;
			}
		}
		DF_TRY(df_job_run_inputs(j, seg, j->input, n, fail));
	}
	return DF_OK;
}

enum df_err df_job_run_segment(struct df_job *j, const struct df_segment *seg, struct df_blob *const **payload,
			       size_t *n_payload, struct df_fail *fail)
{
	switch (seg->kind) {
	case DF_SOURCE_JSONL:
		return run_jsonl(j, seg, fail);
	case DF_SOURCE_TEXT:
		return run_text(j, seg, fail);
	default:
		break;
	}
	for (uint64_t i = 0; i < seg->cells.n; i++) {
		if (*n_payload == 0)
			return df_fail(fail, DF_ERR_BUG, "a lease came without its cells' bytes");
		DF_TRY(run_block(j, seg, **payload, fail));
		++*payload;
		--*n_payload;
	}
	return DF_OK;
}
