// SPDX-License-Identifier: Apache-2.0
/*
 * outputs_dir: a run directory: made or locked, and compared with what is asked for now.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/rundir/checksums.h"
#include "coordinator/rundir/inputs.h"
#include "coordinator/rundir/outputs.h"
#include "coordinator/rundir/run_diff.h"

/* ------------------------------------------------------------------ the request, as run.json keeps it */

#define N_OPTION 12

static struct df_str number(struct df_arena *a, uint64_t v)
{
	char z[24];
	int n = snprintf(z, sizeof(z), "%llu", (unsigned long long)v);
	return df_arena_copy(a, (struct df_str){z, (size_t)n});
}

static struct df_str real(struct df_arena *a, double v)
{
	char z[40];
	int n = snprintf(z, sizeof(z), "%g", v);
	return df_arena_copy(a, (struct df_str){z, (size_t)n});
}

static const char *format_word(int format)
{
	static const char *const word[] = {"auto", "jsonl", "npy", "both", "none"};
	return word[format];
}

static enum df_err describe(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
			    struct df_fail *fail)
{
	struct df_arena *a = &o->arena;
	struct df_run_option *opt = df_arena_array(a, N_OPTION, sizeof(*opt));
	struct df_str *input = df_arena_array(a, r->n_input, sizeof(*input));
	if (!opt || !input)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to describe the run");
	const struct df_run_option options[N_OPTION] = {
		{DF_STR("id_key"), r->id_key},
		{DF_STR("text_key"), r->text_key},
		{DF_STR("max_record"), number(a, r->max_record)},
		{DF_STR("limit"), r->limit < 0 ? DF_STR("none") : number(a, (uint64_t)r->limit)},
		{DF_STR("skip"), number(a, (uint64_t)r->skip)},
		{DF_STR("sample"), real(a, r->sample)},
		{DF_STR("sample_seed"), number(a, (uint64_t)r->sample_seed)},
		{DF_STR("output_format"), df_str_from(format_word(r->output_format))},
		{DF_STR("dtype"), r->dtype == DF_DTYPE_F16 ? DF_STR("f16") : DF_STR("f32")},
		{DF_STR("zstd"), r->zstd > 0 ? DF_STR("true") : DF_STR("false")},
		{DF_STR("model_dir"), r->model_dir},
		{DF_STR("keep_order"), r->keep_order ? DF_STR("true") : DF_STR("false")},
	};
	memcpy(opt, options, sizeof(options));
	memcpy(input, r->input, r->n_input * sizeof(*input));
	o->summary = (struct df_run_summary){
		.run_id = df_rand_real.next(NULL),
		.fingerprint = o->fingerprint,
		.state = DF_STR("running"),
		.started_wall_ns = o->started_wall_ns,
		.pipeline = r->pipeline_text,
		.pipeline_fixed = r->pipeline_fixed.n ? r->pipeline_fixed : r->pipeline_text,
		.option = opt,
		.n_option = N_OPTION,
		.cell_bytes = r->cell_size,
		.n_source = d->n_source,
		.source_bytes = d->total_bytes,
		.input = input,
		.n_input = r->n_input,
	};
	return DF_OK;
}

/* ------------------------------------------------------------------ opening */

#define WAY_OUT "run it as before, use another directory, or --force-restart"
#define LINES_BYTES_MAX (1U << 20)

static void print_lines(const struct df_buf *lines)
{
	for (size_t at = 0; at < lines->n;) {
		const char *end = memchr(lines->p + at, '\n', lines->n - at);
		size_t n = end ? (size_t)(end - lines->p) - at : lines->n - at;
		df_error("%.*s", (int)n, lines->p + at);
		at += n + 1;
	}
}

static enum df_err other_input(const struct df_outputs *o, const struct df_inputs_diff *diff, bool has_sums,
			       struct df_fail *fail)
{
	if (diff->moved)
		return df_fail(fail, DF_ERR_CHANGED, "the input is not that of the run in '%s'; " WAY_OUT,
			       o->rundir.path);
	return df_fail(fail, DF_ERR_CHANGED,
		       "the input is not that of the run in '%s': %llu changed, %llu gone, %llu new; restore it, use "
		       "another directory, or --force-restart%s",
		       o->rundir.path, (unsigned long long)diff->n_changed, (unsigned long long)diff->n_missing,
		       (unsigned long long)diff->n_new,
		       has_sums && !o->sum ? " (--paranoid compares the content alone)" : "");
}

/* The directory has its list of inputs: name what differs. What is forgiven keeps the run's own fingerprint. */
static enum df_err compare_listed(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
				  const struct df_inputs_head *head, struct df_fail *fail)
{
	struct df_inputs_diff diff = {0};
	o->has_inputs = true;
	if (head->fingerprint == d->fingerprint && !o->sum)
		return DF_OK;
	DF_TRY(df_inputs_compare(&df_io_real, o->dir_fd, d, o->sum, &diff, fail));
	print_lines(&diff.lines);
	enum df_err err = df_inputs_differ(&diff) ? other_input(o, &diff, head->has_sums, fail) : DF_OK;
	df_inputs_diff_release(&diff);
	if (err != DF_OK)
		return err;
	o->summary.fingerprint = o->fingerprint = df_outputs_fingerprint(r, head->fingerprint);
	return DF_OK;
}

static enum df_err compare_inputs(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
				  const struct df_run_summary *there, struct df_fail *fail)
{
	struct df_inputs_head head = {0};
	enum df_err err = df_inputs_head(&df_io_real, o->dir_fd, &head, fail);
	if (err == DF_OK)
		return compare_listed(o, r, d, &head, fail);
	if (err != DF_ERR_NOT_FOUND)
		return err;
	/* killed before it was written: the sums that are known tell something, the journal's fingerprint decides */
	if (!there || there->fingerprint == o->fingerprint)
		return DF_OK;
	return df_fail(fail, DF_ERR_CHANGED,
		       "the input is not that of the run in '%s': it was %llu files of %llu bytes, now %llu of "
		       "%llu; restore it, use another directory, or --force-restart",
		       o->rundir.path, (unsigned long long)there->n_source, (unsigned long long)there->source_bytes,
		       (unsigned long long)d->n_source, (unsigned long long)d->total_bytes);
}

static enum df_err compare_request(const struct df_outputs *o, const struct df_run_summary *there, struct df_fail *fail)
{
	struct df_buf lines, what;
	df_buf_init(&lines, LINES_BYTES_MAX);
	df_buf_init(&what, LINES_BYTES_MAX);
	bool same = df_run_diff(there, &o->summary, &lines, &what);
	print_lines(&lines);
	enum df_err err =
		same ? DF_OK
		     : df_fail(fail, DF_ERR_CHANGED, "the run in '%s' was begun with another " DF_STR_FMT "; " WAY_OUT,
			       o->rundir.path, DF_STR_ARG(df_buf_str(&what)));
	df_buf_release(&lines);
	df_buf_release(&what);
	return err;
}

static enum df_err compare(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
			   struct df_fail *fail)
{
	struct df_run_summary there = {0};
	enum df_err err = df_run_json_read(&df_io_real, o->dir_fd, &o->arena, &there, fail);
	if (err == DF_ERR_NOT_FOUND) /* killed before run.json was written */
		return compare_inputs(o, r, d, NULL, fail);
	if (err != DF_OK)
		return err;
	o->summary.run_id = there.run_id;
	o->summary.started_wall_ns = there.started_wall_ns;
	o->elapsed_before = there.elapsed_seconds;
	o->costs_before = there.costs;
	o->told_finished = df_str_is(there.state, "finished");
	DF_TRY(compare_request(o, &there, fail));
	return compare_inputs(o, r, d, &there, fail);
}

static enum df_err take_sums(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
			     struct df_fail *fail)
{
	if (!r->paranoid)
		return DF_OK;
	uint64_t *sum = df_arena_array(&o->arena, d->n_source, sizeof(*sum));
	if (!sum)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the checksums of %zu inputs", d->n_source);
	DF_TRY(df_checksums(d, (unsigned)r->jobs, o->ending, sum, fail));
	o->sum = sum;
	return DF_OK;
}

enum df_err df_outputs_open_dir(struct df_outputs *o, const struct df_run_options *r, const struct df_dataset *d,
				struct df_fail *fail)
{
	DF_TRY(describe(o, r, d, fail));
	DF_TRY(df_rundir_open(r->out.p, r->force_restart, &o->rundir, fail));
	o->dir_fd = o->rundir.dir_fd;
	for (size_t i = 0; o->rundir.was_run && i < d->n_source; i++)
		if (d->source[i].live)
			return df_fail(fail, DF_ERR_CHANGED,
				       "'%s' cannot be read again, so the run in '%s' cannot go on; use "
				       "--force-restart with the whole input, or another -o (and --spool for stdin)",
				       d->source[i].name, r->out.p);
	DF_TRY(take_sums(o, r, d, fail));
	return o->rundir.was_run ? compare(o, r, d, fail) : DF_OK;
}

enum df_err df_outputs_list_inputs(struct df_outputs *o, const struct df_dataset *d, struct df_fail *fail)
{
	if (o->has_inputs || o->recovered.finished)
		return DF_OK;
	if (o->sum && o->recovered.n_cells)
		return df_fail(fail, DF_ERR_UNSUPPORTED,
			       "the run in '%s' has kept no checksums of its inputs; go on without --paranoid, or "
			       "--force-restart",
			       o->rundir.path);
	DF_TRY(df_inputs_write(&df_io_real, o->dir_fd, d, o->sum, fail));
	o->has_inputs = true;
	return DF_OK;
}

void df_outputs_close_dir(struct df_outputs *o)
{
	if (o->is_dir && o->dir_fd >= 0)
		df_rundir_close(&o->rundir);
	o->dir_fd = -1;
}
