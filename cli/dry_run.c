// SPDX-License-Identifier: Apache-2.0
/* dry_run: the dataset is opened as a run would open it, listed, and closed. */
#include "cli/dry_run.h"

#include <stdlib.h>

#include "coordinator/cells/dataset.h"

static void add_source(const struct df_source *s, struct df_buf *out)
{
	(void)df_buf_addz(out, "  ");
	(void)df_buf_addz(out, s->live ? "-" : s->name);
	if (!s->live)
		(void)df_buf_addf(out, "  %llu bytes", (unsigned long long)s->id.size);
	(void)df_buf_addc(out, '\n');
}

static void add_plan(const struct df_run_options *run, const struct df_dataset *d, struct df_buf *out)
{
	static const char *const formats[] = {"auto", "jsonl", "npy", "jsonl and npy", "none"};
	(void)df_buf_addz(out, "pipeline: ");
	(void)df_buf_add_str(out, run->pipeline_text);
	(void)df_buf_addf(out, "\ninputs: %zu, %llu bytes\n", d->n_source, (unsigned long long)d->total_bytes);
	for (size_t i = 0; i < d->n_source; i++)
		add_source(&d->source[i], out);
	if (d->n_unknown || d->n_hidden || d->n_repeated)
		(void)df_buf_addf(out, "passed over: %llu of unknown kind, %llu hidden, %llu named twice\n",
				  (unsigned long long)d->n_unknown, (unsigned long long)d->n_hidden,
				  (unsigned long long)d->n_repeated);
	(void)df_buf_addz(out, "output: ");
	(void)df_buf_addz(out, run->out.n ? run->out.p : "stdout");
	(void)df_buf_addf(out, " (%s)\nworkers: %lld\n", formats[run->output_format], (long long)run->jobs);
}

enum df_err df_dry_run(const struct df_run_options *run, struct df_buf *out, struct df_fail *fail)
{
	struct df_dataset d = {0};
	const char **operand = calloc(run->n_input, sizeof(*operand));
	if (!operand)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu inputs", run->n_input);
	for (size_t i = 0; i < run->n_input; i++)
		operand[i] = run->input[i].p;
	struct df_dataset_spec spec = {
		.operand = operand,
		.n_operand = run->n_input,
		.format = (enum df_format)run->input_format,
		.sequential = run->skip > 0 || run->limit >= 0,
	};
	enum df_err err = df_dataset_open(&spec, &d, fail);
	if (err == DF_OK) {
		add_plan(run, &d, out);
		err = df_buf_err(out);
	}
	df_dataset_release(&d);
	free(operand);
	return err;
}
