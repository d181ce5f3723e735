// SPDX-License-Identifier: Apache-2.0
/*
 * run_request: from a command line of `docflume run` to a request that is complete and checked, in this order: defaults, command line, pipeline file,
 * overrides of stages, and what options mean together.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/io.h"
#include "cli/cache_option.h"
#include "cli/cores.h"
#include "cli/pipeline_file.h"
#include "cli/resolve.h"
#include "cli/run_rows.h"
#include "worker/trace/trace_export.h"
#include "worker/stages/registry.h"

struct request {
	struct df_run_request *r;
	struct df_args args;
	struct df_pipeline *pipeline;
	struct df_str_list file_inputs;
	struct df_arena *arena;
	struct df_fail *fail;
	bool rows_to_stdout; /* by -o - */
	bool computes;       /* a stage needs the processor more than the network */
	uint64_t in_flight;  /* calls that its stages allow */
};

static enum df_err no_memory(struct request *q)
{
	return df_fail(q->fail, DF_ERR_NOMEM, "no memory for the command line");
}

static enum df_err read_file(struct request *q)
{
	char *text = NULL;
	size_t n = 0;
	struct df_pipeline_file *file = df_arena_zalloc(q->arena, sizeof(*file));
	if (!file)
		return no_memory(q);
	enum df_err read =
		df_io_read_file(&df_io_real, AT_FDCWD, q->r->file.p, DF_PIPELINE_BYTES_MAX, &text, &n, q->fail);
	if (read != DF_OK) /* the command names it */
		return q->fail->code = read == DF_ERR_NOMEM ? read : DF_ERR_USAGE;
	enum df_err err = df_pipeline_file_parse((struct df_str){text, n}, q->r->file.p, df_run_rows, q->r,
						 q->args.given, q->arena, file, q->fail);
	free(text);
	if (err != DF_OK)
		return err;
	*q->pipeline = file->pipeline;
	q->file_inputs = file->inputs;
	return df_resolve_rebase(q->pipeline, q->r->file, q->arena, q->fail);
}

/* The pipeline comes from the file, or else is the first operand. */
static enum df_err find_pipeline(struct request *q)
{
	if (q->r->file.n) {
		DF_TRY(read_file(q));
		if (q->pipeline->n_stage)
			return DF_OK;
	}
	if (q->args.n_operand == 0)
		return df_fail(q->fail, DF_ERR_USAGE, "no pipeline; e.g. docflume run 'strip | count' docs.jsonl");
	DF_TRY(df_pipeline_parse(q->args.operand[0], q->arena, q->pipeline, q->fail));
	q->args.operand++;
	q->args.n_operand--;
	return DF_OK;
}

static uint64_t calls_in_flight(const struct df_stage_class *class, const void *options)
{
	if (!(class->flags & DF_STAGE_NETWORK))
		return 0;
	for (const struct df_opt *row = class->options; row && row->name; row++) {
		int64_t n = 0;
		if (strcmp(row->name, "concurrency") != 0)
			continue;
		memcpy(&n, (const char *)options + row->offset, sizeof(n));
		if (n > 0)
			return (uint64_t)n;
	}
	return DF_CALLS_IN_FLIGHT;
}

/* One network thread sends and reads 15,000 small calls a second; each further process costs its start, memory and connections of its own. */
static int64_t workers_for(uint64_t in_flight)
{
	return (int64_t)((in_flight + DF_CALLS_OF_WORKER - 1) / DF_CALLS_OF_WORKER);
}

static enum df_err format(struct request *q, const struct df_pipeline *p, struct df_str *ret)
{
	struct df_buf text;
	df_buf_init(&text, 2 * DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(p, &text);
	*ret = df_arena_copy(q->arena, df_buf_str(&text));
	df_buf_release(&text);
	return err == DF_OK && ret->p ? DF_OK : no_memory(q);
}

/* Without what may change from life to life: limits that were too high last night do not make another run. */
static enum df_err format_fixed(struct request *q, const struct df_stage_class *const *class, struct df_str *ret)
{
	struct df_pipeline *fixed = df_arena_array(q->arena, 1, sizeof(*fixed));
	if (!fixed)
		return no_memory(q);
	*fixed = *q->pipeline;
	for (size_t i = 0; i < fixed->n_stage; i++) {
		struct df_pipeline_stage *s = &fixed->stage[i];
		const struct df_pipeline_opt *all = s->opt;
		size_t n_all = s->n_opt;
		s->n_opt = 0;
		s->opt = df_arena_array(q->arena, n_all + 1, sizeof(*s->opt));
		if (!s->opt)
			return no_memory(q);
		for (size_t k = 0; k < n_all; k++) {
			const struct df_opt *row =
				class[i]->options ? df_conf_find(class[i] -> options, all[k].key) : NULL;
			if (!row || !row->pace)
				s->opt[s->n_opt++] = all[k];
		}
	}
	return format(q, fixed, ret);
}

static enum df_err check_pipeline(struct request *q)
{
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	struct df_run_options *run = &q->r->run;
	for (size_t i = 0; i < q->args.n_override; i++) {
		const struct df_arg_override *o = &q->args.override[i];
		DF_TRY(df_pipeline_override(q->pipeline, q->arena, o->stage, o->key, o->value, q->fail));
	}
	DF_TRY(df_resolve_pipeline(q->pipeline, q->arena, q->fail));
	DF_TRY(df_stage_check_pipeline(q->pipeline, q->arena, &class, &options, q->fail));
	for (size_t i = 0; i < q->pipeline->n_stage; i++) {
		run->has_side_effects |= (class[i] -> flags &DF_STAGE_SIDE_EFFECTS) != 0;
		run->has_vectors |= (class[i] -> flags &DF_STAGE_VECTORS) != 0;
		run->has_model |= (class[i] -> flags &DF_STAGE_MODEL) != 0;
		run->has_calls |= (class[i] -> flags &DF_STAGE_NETWORK) != 0;
		q->computes |= (class[i] -> flags &(DF_STAGE_MODEL | DF_STAGE_VECTORS | DF_STAGE_COMMANDS)) != 0;
		q->in_flight += calls_in_flight(class[i], options[i]);
	}
	run->pipeline = q->pipeline;
	DF_TRY(format(q, q->pipeline, &run->pipeline_text));
	return format_fixed(q, class, &run->pipeline_fixed);
}

static enum df_err find_inputs(struct request *q, bool stdin_is_terminal)
{
	struct df_run_options *run = &q->r->run;
	static const struct df_str stdin_only = {"-", 1};
	run->input = q->args.n_operand ? q->args.operand : q->file_inputs.item;
	run->n_input = q->args.n_operand ? q->args.n_operand : q->file_inputs.n;
	if (run->n_input || run->resume_failed)
		return DF_OK; /* retry.c finds what was rejected */
	if (stdin_is_terminal)
		return df_fail(q->fail, DF_ERR_USAGE, "no input; name files, globs or folders, or pipe documents in");
	run->input = &stdin_only;
	run->n_input = 1;
	return DF_OK;
}

/* "100" or "2.5%" */
static enum df_err settle_errors(struct request *q)
{
	struct df_run_options *run = &q->r->run;
	struct df_str s = df_str_trim(run->max_errors);
	run->max_errors_n = UINT64_MAX;
	run->max_errors_percent = 101;
	if (s.n == 0)
		return DF_OK;
	bool percent = s.p[s.n - 1] == '%';
	double p = 0;
	if (percent && df_str_to_double((struct df_str){s.p, s.n - 1}, &p) == DF_OK && p >= 0 && p <= 100)
		run->max_errors_percent = p;
	else if (percent || df_str_to_u64(s, &run->max_errors_n) != DF_OK)
		return df_fail(q->fail, DF_ERR_USAGE,
			       "'--max-errors': '" DF_STR_FMT
			       "' is neither a number nor a percentage from 0%% to 100%%",
			       DF_STR_ARG(s));
	return DF_OK;
}

static bool reads_stdin(const struct df_run_options *run)
{
	for (size_t i = 0; i < run->n_input; i++)
		if (df_str_is(run->input[i], "-"))
			return true;
	return false;
}

static enum df_err settle_resume(struct request *q)
{
	struct df_run_options *run = &q->r->run;
	if (run->spool.n && run->out.n == 0)
		return df_fail(q->fail, DF_ERR_USAGE, "'--spool' needs a run directory: -o DIR");
	if (run->spool.n && !reads_stdin(run))
		return df_fail(q->fail, DF_ERR_USAGE, "'--spool' keeps stdin, but this run reads files alone");
	if (run->resume_failed && run->out.n == 0)
		return df_fail(q->fail, DF_ERR_USAGE, "'--resume-failed' needs the run directory: -o DIR");
	if (run->resume_failed && run->force_restart)
		return df_fail(q->fail, DF_ERR_USAGE, "'--resume-failed' and '--force-restart' exclude each other");
	return DF_OK;
}

static enum df_err settle_output(struct request *q)
{
	struct df_run_options *run = &q->r->run;
	q->rows_to_stdout = df_str_is(run->out, "-");
	if (q->rows_to_stdout)
		run->out.n = 0;
	bool to_dir = run->out.n > 0;
	bool named = run->output_format == DF_OUTFMT_NPY || run->output_format == DF_OUTFMT_BOTH;
	if (named && !to_dir)
		return df_fail(q->fail, DF_ERR_USAGE,
			       "'--output-format' with .npy files needs a run directory: -o DIR");
	if (named && !run->has_vectors)
		return df_fail(q->fail, DF_ERR_USAGE,
			       "'--output-format' with .npy files needs a stage that makes vectors, e.g. embed");
	if (run->output_format == DF_OUTFMT_AUTO)
		run->output_format = to_dir && run->has_vectors ? DF_OUTFMT_BOTH : DF_OUTFMT_JSONL;
	if (run->force_restart && !to_dir)
		return df_fail(q->fail, DF_ERR_USAGE, "'--force-restart' needs a run directory: -o DIR");
	if (run->quiet && run->verbose)
		return df_fail(q->fail, DF_ERR_USAGE, "'--quiet' and '--verbose' exclude each other");
	if (run->id_key.n == 0 || run->text_key.n == 0)
		return df_fail(q->fail, DF_ERR_USAGE, "'--id-key' and '--text-key' cannot be empty");
	if (df_str_eq(run->id_key, run->text_key))
		return df_fail(q->fail, DF_ERR_USAGE,
			       "'--id-key' and '--text-key' name the same member '" DF_STR_FMT "'",
			       DF_STR_ARG(run->id_key));
	return DF_OK;
}

/* --stream: one worker writes one answer to stdout, and nobody else anything. */
static enum df_err settle_stream(struct request *q)
{
	struct df_run_options *run = &q->r->run;
	const struct df_pipeline_stage *last = &q->pipeline->stage[q->pipeline->n_stage - 1];
	if (!run->stream)
		return DF_OK;
	if (!df_str_is(last->name, "llm"))
		return df_fail(q->fail, DF_ERR_USAGE, "'--stream' needs llm as the last stage, not '" DF_STR_FMT "'",
			       DF_STR_ARG(last->name));
	if (q->rows_to_stdout)
		return df_fail(
			q->fail, DF_ERR_USAGE,
			"'--stream' and '-o -' both write to stdout; use one, or -o DIR to keep the row as well");
	if (run->n_input > 1)
		return df_fail(q->fail, DF_ERR_USAGE,
			       "'--stream' shows the answer to one document, and %zu inputs are named", run->n_input);
	if (run->out.n == 0)
		run->output_format = DF_OUTFMT_NONE;
	return DF_OK;
}

static enum df_err settle_calls(struct request *q)
{
	struct df_run_options *run = &q->r->run;
	if (run->budget == 0 && df_args_given(df_run_rows, &q->args, "budget"))
		return df_fail(q->fail, DF_ERR_USAGE, "'--budget' must be more than 0");
	if (run->trace == DF_TRACE_YES && run->out.n == 0)
		return df_fail(q->fail, DF_ERR_USAGE, "'--trace' needs a run directory: -o DIR");
	if (run->otlp.n && (run->out.n == 0 || run->trace == DF_TRACE_NO))
		return df_fail(q->fail, DF_ERR_USAGE, "'--otlp' sends the trace of a run directory: -o DIR");
	if (run->otlp.n) /* before anything is paid for */
		DF_TRY(df_trace_export_check(run->otlp.p, q->fail));
	run->trace = run->has_calls && run->out.n && run->trace != DF_TRACE_NO ? DF_TRACE_YES : DF_TRACE_NO;
	DF_TRY(df_cache_option(q->r->cache, &run->no_cache, q->fail));
	run->cache = run->no_cache ? DF_STR("") : q->r->cache;
	return settle_stream(q);
}

enum df_err df_run_request_parse(int argc, char **argv, bool stdin_is_terminal, struct df_arena *arena,
				 struct df_run_request *ret_request, struct df_fail *fail)
{
	struct df_run_request r;
	struct request q = {.r = &r, .arena = arena, .fail = fail};
	df_conf_defaults(df_run_rows, arena, &r, sizeof(r));
	q.pipeline = df_arena_zalloc(arena, sizeof(*q.pipeline));
	if (!q.pipeline)
		return no_memory(&q);
	DF_TRY(df_args_parse(df_run_rows, df_run_args, true, argc, argv, arena, &r, &q.args, fail));
	if (!r.help) {
		DF_TRY(find_pipeline(&q));
		DF_TRY(check_pipeline(&q));
		DF_TRY(find_inputs(&q, stdin_is_terminal));
		DF_TRY(settle_output(&q));
		DF_TRY(settle_errors(&q));
		DF_TRY(settle_resume(&q));
		DF_TRY(settle_calls(&q));
	}
	if (!df_args_given(df_run_rows, &q.args, "jobs")) {
		unsigned cores = df_cores();
		r.run.jobs = cores < DF_WORKERS_MAX ? (int64_t)cores : DF_WORKERS_MAX;
		if (r.run.has_calls && !q.computes && r.run.jobs > workers_for(q.in_flight))
			r.run.jobs = workers_for(q.in_flight);
	}
	if (r.run.stream)
		r.run.jobs = 1;
	if (!df_args_given(df_run_rows, &q.args, "limit"))
		r.run.limit = -1;
	*ret_request = r;
	return DF_OK;
}
