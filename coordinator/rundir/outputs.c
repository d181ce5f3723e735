// SPDX-License-Identifier: Apache-2.0
/* outputs: open where results go. */
#include "coordinator/rundir/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

/* What must be the same when a run goes on: the pipeline, how records are read and cut, what is written. Not: workers, progress, part size. */
uint64_t df_outputs_fingerprint(const struct df_run_options *o, uint64_t dataset)
{
	const struct df_str text[] = {o->pipeline_fixed.n ? o->pipeline_fixed : o->pipeline_text, o->id_key,
				      o->text_key};
	char numbers[256];
	uint64_t h = dataset;
	for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++)
		h = df_hash64_seed(text[i].p, text[i].n, h);
	int n = snprintf(numbers, sizeof(numbers), "%llu %llu %lld %lld %.17g %lld %d %d %d",
			 (unsigned long long)o->max_record, (unsigned long long)o->cell_size, (long long)o->limit,
			 (long long)o->skip, o->sample, (long long)o->sample_seed, o->output_format, o->dtype,
			 o->zstd > 0);
	h = df_hash64_seed(numbers, (size_t)n, h);
	return h;
}

static void choose_kinds(struct df_outputs *o, const struct df_run_options *r)
{
	o->want[DF_OUTPUT_JSONL] = r->output_format == DF_OUTFMT_JSONL || r->output_format == DF_OUTFMT_BOTH;
	o->want[DF_OUTPUT_NPY] = r->output_format == DF_OUTFMT_NPY || r->output_format == DF_OUTFMT_BOTH;
	o->want[DF_OUTPUT_REJECTS] = o->is_dir || o->rejects_fd >= 0;
}

static enum df_err open_rejects(struct df_outputs *o, const struct df_run_options *r, struct df_fail *fail)
{
	if (!r->rejects.n || o->is_dir)
		return DF_OK;
	o->rejects_fd = TEMP_FAILURE_RETRY(open(r->rejects.p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
	return o->rejects_fd < 0 ? df_fail_errno(fail, "cannot write rejects to '%s'", r->rejects.p) : DF_OK;
}

/* Which boot of the machine this is; 0 when nobody says. */
static uint64_t boot_id(void)
{
	char text[64];
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (fd >= 0)
		(void)close(fd);
	return n > 0 ? df_hash64(text, (size_t)n) : 0;
}

static enum df_err open_parts(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
			      struct df_fail *fail)
{
	o->is_dir = r->out.n > 0;
	if (o->is_dir)
		DF_TRY(df_outputs_open_dir(o, r, d, fail));
	DF_TRY(open_rejects(o, r, fail));
	choose_kinds(o, r);
	struct df_store_config config = {
		.dir_fd = o->dir_fd,
		.out_fd = STDOUT_FILENO,
		.rejects_fd = o->rejects_fd,
		.want = {o->want[0], o->want[1], o->want[2]},
		.zstd = r->zstd > 0,
		.npy_item_bytes = r->dtype == DF_DTYPE_F16 ? 2 : 4,
		.part_bytes = r->part_size,
		.fsync = (enum df_fsync)r->fsync,
		.fingerprint = o->fingerprint,
		.boot_id = boot_id(),
		.run_id = o->summary.run_id,
	};
	DF_TRY(df_store_open(&config, &df_io_real, &o->arena, &o->store, &o->recovered, fail));
	if (o->recovered.run_id) /* run.json may never have been written */
		o->summary.run_id = o->recovered.run_id;
	if (o->recovered.lost.code != DF_OK)
		df_warn("%s: stepped back to the commit before; %llu cells are done again", o->recovered.lost.msg,
			(unsigned long long)o->recovered.lost_cells);
	return o->is_dir ? df_outputs_list_inputs(o, d, fail) : DF_OK;
}

enum df_err df_outputs_open(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
			    struct df_ending *ending, struct df_fail *fail)
{
	*o = (struct df_outputs){.open = true, .dir_fd = -1, .rejects_fd = -1, .ending = ending};
	df_arena_init(&o->arena, (size_t)8 << 30, 0);
	o->fingerprint = df_outputs_fingerprint(r, d->fingerprint);
	o->started_wall_ns = df_clock_real.wall_ns(NULL);
	return open_parts(o, r, d, fail);
}

void df_outputs_close(struct df_outputs *o)
{
	if (!o->open)
		return;
	df_store_close(&o->store);
	df_outputs_close_dir(o);
	if (o->rejects_fd >= 0)
		(void)close(o->rejects_fd);
	df_arena_release(&o->arena);
	o->open = false;
}
