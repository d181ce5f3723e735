// SPDX-License-Identifier: Apache-2.0
/* rows: the output of a pass, kept aside until the pass turns out to be the last one. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/npy.h"
#include "worker/batch/own.h"
#include "worker/batch/proof.h"

#define OPEN_END ".open"
#define WRITE_BYTES (1U << 20)

static const char *const out_name[DF_N_OUTPUT] = {[DF_OUTPUT_JSONL] = "part-00000.jsonl",
						  [DF_OUTPUT_NPY] = "part-00000.npy",
						  [DF_OUTPUT_REJECTS] = "rejects-00000.jsonl"};
static const char *const open_name[DF_N_OUTPUT] = {[DF_OUTPUT_JSONL] = "part-00000.jsonl" OPEN_END,
						   [DF_OUTPUT_NPY] = "part-00000.npy" OPEN_END,
						   [DF_OUTPUT_REJECTS] = "rejects-00000.jsonl" OPEN_END};

static enum df_err open_one(struct df_batch_out *o, uint32_t kind, struct df_fail *fail)
{
	static const char header[DF_NPY_HEADER_BYTES];
	int fd = openat(o->dir_fd, open_name[kind], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		enum df_err err = df_fail_errno(fail, "write '%s'", open_name[kind]);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	(void)setvbuf(f, NULL, _IOFBF, WRITE_BYTES);
	o->file[kind] = f;
	if (kind == DF_OUTPUT_NPY && fwrite(header, 1, sizeof(header), f) != sizeof(header))
		return df_fail_errno(fail, "write '%s'", open_name[kind]);
	return DF_OK;
}

enum df_err df_batch_out_begin(struct df_batch_out *o, int dir_fd, const bool want[DF_N_OUTPUT], struct df_fail *fail)
{
	*o = (struct df_batch_out){.dir_fd = dir_fd};
	for (uint32_t kind = 0; kind < DF_N_OUTPUT; kind++)
		if (want[kind])
			DF_TRY(open_one(o, kind, fail));
	return DF_OK;
}

enum df_err df_batch_out_add(struct df_batch_out *o, uint32_t kind, const char *p, size_t n, uint64_t rows,
			     struct df_fail *fail)
{
	if (kind >= DF_N_OUTPUT || !o->file[kind])
		return df_fail(fail, DF_ERR_BUG, "rows of a kind that is not wanted");
	if (o->broken)
		return DF_OK;
	o->rows[kind] += rows;
	o->vector_bytes += kind == DF_OUTPUT_NPY ? n : 0;
	return fwrite(p, 1, n, o->file[kind]) == n ? DF_OK : df_fail_errno(fail, "write '%s'", open_name[kind]);
}

/* Its shape is known only at the end. */
static enum df_err finish_npy(struct df_batch_out *o, struct df_fail *fail)
{
	char header[DF_NPY_HEADER_BYTES];
	FILE *f = o->file[DF_OUTPUT_NPY];
	uint64_t rows = o->rows[DF_OUTPUT_NPY];
	uint64_t dim = rows ? o->vector_bytes / sizeof(float) / rows : 0;
	if (rows * dim * sizeof(float) != o->vector_bytes)
		return df_fail(fail, DF_ERR_BUG, "%llu bytes are no %llu vectors of one length",
			       (unsigned long long)o->vector_bytes, (unsigned long long)rows);
	df_npy_header(header, DF_NPY_F32, rows, dim);
	if (fseek(f, 0, SEEK_SET) != 0 || fwrite(header, 1, sizeof(header), f) != sizeof(header))
		return df_fail_errno(fail, "write '%s'", open_name[DF_OUTPUT_NPY]);
	return DF_OK;
}

static enum df_err close_one(FILE **file, const char *name, struct df_fail *fail)
{
	FILE *f = *file;
	*file = NULL;
	bool bad = fflush(f) != 0 || fsync(fileno(f)) != 0;
	enum df_err err = bad ? df_fail_errno(fail, "write '%s'", name) : DF_OK;
	if (fclose(f) != 0 && err == DF_OK)
		err = df_fail_errno(fail, "write '%s'", name);
	return err;
}

static enum df_err end_one(struct df_batch_out *o, uint32_t kind, struct df_batch_output *to, struct df_fail *fail)
{
	struct df_batch_sum sum;
	DF_TRY(close_one(&o->file[kind], open_name[kind], fail));
	DF_TRY(df_batch_hash_file(o->dir_fd, open_name[kind], &sum, fail));
	*to = (struct df_batch_output){.bytes = sum.bytes, .rows = o->rows[kind], .hash = sum.hash};
	/* A frame's rows are counted where it begins; lines are what is there. */
	if (kind != DF_OUTPUT_NPY)
		to->rows = sum.lines;
	(void)snprintf(to->name, sizeof(to->name), "%s", out_name[kind]);
	if (renameat(o->dir_fd, open_name[kind], o->dir_fd, out_name[kind]) != 0)
		return df_fail_errno(fail, "rename '%s'", open_name[kind]);
	return DF_OK;
}

enum df_err df_batch_out_end(struct df_batch_out *o, struct df_batch_state *state, struct df_fail *fail)
{
	if (o->file[DF_OUTPUT_NPY])
		DF_TRY(finish_npy(o, fail));
	state->n_output = 0;
	for (uint32_t kind = 0; kind < DF_N_OUTPUT; kind++)
		if (o->file[kind])
			DF_TRY(end_one(o, kind, &state->output[state->n_output++], fail));
	return fsync(o->dir_fd) == 0 ? DF_OK : df_fail_errno(fail, "sync the run directory");
}

void df_batch_out_drop(struct df_batch_out *o)
{
	for (uint32_t kind = 0; kind < DF_N_OUTPUT; kind++) {
		if (!o->file[kind])
			continue;
		(void)fclose(o->file[kind]);
		(void)unlinkat(o->dir_fd, open_name[kind], 0);
		o->file[kind] = NULL;
	}
}

uint64_t df_batch_count(const struct df_batch_run *b, const char *name)
{
	const uint64_t *n = df_map_get(&b->counters.map, df_str_from(name));
	return n ? *n : 0;
}
