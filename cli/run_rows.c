// SPDX-License-Identifier: Apache-2.0
/* run_rows: one table, and the order in which it is filled: defaults, command line, file, overrides, checks. */
#include "cli/run_rows.h"

#include <fcntl.h>
#include <stdlib.h>

#include "base/io.h"
#include "cli/cores.h"
#include "cli/pipeline_file.h"
#include "cli/resolve.h"
#include "worker/stages/registry.h"

#define AT(member) offsetof(struct df_run_request, member)
#define RUN(member) offsetof(struct df_run_request, run.member)
#define MANY 1e15

const struct df_opt df_run_rows[] = {
	{.name = "out",
	 .type = DF_OPT_STRING,
	 .offset = RUN(out),
	 .value_name = "DIR|-",
	 .max = 4096,
	 .help = "Make this run directory, or go on with it; without it, or with '-', rows go to stdout"},
	{.name = "jobs",
	 .type = DF_OPT_INT,
	 .offset = RUN(jobs),
	 .min = 1,
	 .max = DF_WORKERS_MAX,
	 .help = "Worker processes; the cores this process may use when not given, but no more than one for each 512 "
		 "calls in flight (concurrency=) where nothing is done but asking; long documents can use more"},
	{.name = "file",
	 .type = DF_OPT_STRING,
	 .offset = AT(file),
	 .value_name = "FILE",
	 .max = 4096,
	 .help = "Read the pipeline and settings from a YAML file"},
	{.name = "keep-order", .type = DF_OPT_BOOL, .offset = RUN(keep_order), .help = "Write rows in input order"},
	{.name = "limit",
	 .type = DF_OPT_INT,
	 .offset = RUN(limit),
	 .min = 0,
	 .max = MANY,
	 .help = "Take at most N documents"},
	{.name = "skip",
	 .type = DF_OPT_INT,
	 .offset = RUN(skip),
	 .min = 0,
	 .max = MANY,
	 .help = "Pass over the first N documents"},
	{.name = "sample",
	 .type = DF_OPT_FLOAT,
	 .offset = RUN(sample),
	 .initial = "1",
	 .min = 0,
	 .max = 1,
	 .value_name = "P",
	 .help = "Take this part of the documents, chosen by a hash of their id: the same ones each time"},
	{.name = "sample-seed", .type = DF_OPT_INT, .offset = RUN(sample_seed), .help = "Another seed, another sample"},
	{.name = "id-key",
	 .type = DF_OPT_STRING,
	 .offset = RUN(id_key),
	 .initial = "id",
	 .value_name = "KEY",
	 .max = 1024,
	 .help = "The member that holds a document's id"},
	{.name = "text-key",
	 .type = DF_OPT_STRING,
	 .offset = RUN(text_key),
	 .initial = "text",
	 .value_name = "KEY",
	 .max = 1024,
	 .help = "The member that holds a document's text"},
	{.name = "input-format",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(input_format),
	 .initial = "auto",
	 .choices = "auto|jsonl|text|csv|tsv",
	 .value_name = "FORMAT",
	 .help = "auto|jsonl|text|csv|tsv; auto goes by the file's name, and takes stdin as JSONL"},
	{.name = "max-record",
	 .type = DF_OPT_SIZE,
	 .offset = RUN(max_record),
	 .initial = "8m",
	 .min = 1024,
	 .max = DF_RECORD_BYTES_MAX,
	 .help = "A longer record is rejected"},
	{.name = "cell-size",
	 .type = DF_OPT_SIZE,
	 .offset = RUN(cell_size),
	 .initial = "16k",
	 .min = 1024,
	 .max = DF_CELL_BYTES_MAX,
	 .help = "The grid on which input is divided"},
	{.name = "output-format",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(output_format),
	 .initial = "auto",
	 .choices = "auto|jsonl|npy|both|none",
	 .value_name = "FORMAT",
	 .help = "auto|jsonl|npy|both|none; auto is both when vectors go to a run directory, else jsonl"},
	{.name = "dtype",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(dtype),
	 .initial = "f32",
	 .choices = "f32|f16",
	 .help = "Numbers of vectors in .npy files"},
	{.name = "part-size",
	 .type = DF_OPT_SIZE,
	 .offset = RUN(part_size),
	 .initial = "1g",
	 .min = 65536,
	 .max = 1125899906842624.0,
	 .help = "Begin a new part at this size"},
	{.name = "zstd",
	 .type = DF_OPT_INT,
	 .offset = RUN(zstd),
	 .min = 0,
	 .max = 19,
	 .value_name = "LEVEL",
	 .help = "Compress parts; level 3 when none is named, 0 is off"},
	{.name = "rejects",
	 .type = DF_OPT_STRING,
	 .offset = RUN(rejects),
	 .value_name = "FILE",
	 .max = 4096,
	 .help = "Where rejected documents go when rows go to stdout"},
	{.name = "model-dir",
	 .type = DF_OPT_STRING,
	 .offset = RUN(model_dir),
	 .value_name = "DIR",
	 .max = 4096,
	 .help = "Read the model here instead of from the cache"},
	{.name = "force-restart",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(force_restart),
	 .help = "Begin again; what the run directory holds is moved aside, to DIR.old-N"},
	{.name = "fsync",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(fsync),
	 .initial = "commit",
	 .choices = "commit|rotate|never",
	 .value_name = "WHEN",
	 .help = "commit|rotate|never: when output is forced to the disk. A kill loses nothing with any of them. After "
		 "a power cut, what was written since "
		 "the last sync is done again; with 'never' the run may be refused instead, with the name of the file"},
	{.name = "paranoid",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(paranoid),
	 .help = "Compare the inputs of a run that goes on by checksum, not by size and time alone"},
	{.name = "spool",
	 .type = DF_OPT_STRING,
	 .offset = RUN(spool),
	 .value_name = "DIR",
	 .max = 4096,
	 .help = "Keep all of stdin in this folder first, so that the run can go on after a fault"},
	{.name = "resume-failed",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(resume_failed),
	 .help = "Try again the documents that the finished run in --out rejected, and only these"},
	{.name = "mem-limit",
	 .type = DF_OPT_SIZE,
	 .offset = RUN(mem_limit),
	 .min = 67108864,
	 .max = 1125899906842624.0,
	 .help = "Memory of the whole run; nine tenths of what this process may use when not given"},
	{.name = "confine",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(confine),
	 .initial = "true",
	 .help = "Workers and readers give up what they do not need: other files, the network, new programs"},
	{.name = "doc-timeout",
	 .type = DF_OPT_TIME,
	 .offset = RUN(doc_timeout_ns),
	 .initial = DF_DOC_TIMEOUT_DEFAULT,
	 .min = 0,
	 .max = 604800,
	 .help = "A document that computes for longer without a sign of progress is stopped; the third time it is "
		 "rejected. 0: never"},
	{.name = "grace",
	 .type = DF_OPT_TIME,
	 .offset = RUN(grace_ns),
	 .initial = "30s",
	 .min = 0,
	 .max = 86400,
	 .help = "How long a run that is asked to stop may finish what is in work"},
	{.name = "time-limit",
	 .type = DF_OPT_TIME,
	 .offset = RUN(time_limit_ns),
	 .min = 0,
	 .max = 31536000,
	 .help = "Stop after this time, with exit code 75; the same command goes on"},
	{.name = "max-errors",
	 .type = DF_OPT_STRING,
	 .offset = RUN(max_errors),
	 .value_name = "N|P%",
	 .max = 32,
	 .help = "End the run when more documents or inputs than this failed"},
	{.name = "halt",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(halt),
	 .initial = "soon",
	 .choices = "soon|now",
	 .value_name = "WHEN",
	 .help = "soon|now: at --max-errors, finish what is in work, or drop it"},
	{.name = "budget",
	 .type = DF_OPT_FLOAT,
	 .offset = RUN(budget),
	 .value_name = "USD",
	 .min = 0,
	 .max = 1e9,
	 .help = "What calls of models may cost, over all lives of this run. Each call reserves its worst case first, "
		 "so "
		 "that this is never passed; when it is used up, the run stops with exit code 4, and goes on with a "
		 "larger one. A run that goes on keeps its budget when none is given"},
	{.name = "cache",
	 .type = DF_OPT_STRING,
	 .offset = AT(cache),
	 .value_name = "DIR|no",
	 .max = 4096,
	 .help = "Where answers of models are kept, so that none is paid for twice; ~/.cache/docflume/answers when not "
		 "given; no: they are not"},
	{.name = "cache-size",
	 .type = DF_OPT_SIZE,
	 .offset = RUN(cache_size),
	 .initial = "10g",
	 .min = 1048576,
	 .max = 1125899906842624.0,
	 .help = "What answers may take on disk; those that were used longest ago go first"},
	{.name = "record",
	 .type = DF_OPT_STRING,
	 .offset = RUN(record),
	 .value_name = "FILE",
	 .max = 4096,
	 .help = "Add each answer that a provider gives to this file (0600, without keys); model=recorded/FILE gives "
		 "them again, at no cost"},
	{.name = "stream",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(stream),
	 .help = "Write the answer's text to stdout as it comes: of one document, with llm as the last stage"},
	{.name = "trace",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(trace),
	 .initial = "auto",
	 .choices = "auto|yes|no",
	 .value_name = "WHEN",
	 .help = "auto|yes|no: write what each call of a model took and cost to DIR/trace.jsonl; auto is yes with a "
		 "run "
		 "directory"},
	{.name = "otlp",
	 .type = DF_OPT_STRING,
	 .offset = RUN(otlp),
	 .value_name = "URL",
	 .max = 4096,
	 .help = "Send the trace to this OpenTelemetry collector at the end, e.g. http://localhost:4318"},
	{.name = "bar",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(bar),
	 .initial = "auto",
	 .choices = "auto|always|never",
	 .value_name = "WHEN",
	 .help = "auto|always|never: the progress bar"},
	{.name = "log-format",
	 .type = DF_OPT_ENUM,
	 .offset = RUN(log_format),
	 .initial = "text",
	 .choices = "text|json",
	 .help = "Lines on stderr"},
	{.name = "quiet", .type = DF_OPT_BOOL, .offset = RUN(quiet), .help = "Only warnings and errors"},
	{.name = "verbose",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(verbose),
	 .help = "Also what is of interest when something is wrong"},
	{.name = "dry-run",
	 .type = DF_OPT_BOOL,
	 .offset = RUN(dry_run),
	 .help = "Check pipeline and inputs, print what would be done, and end"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = AT(help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_run_args[] = {
	{"out", 'o', NULL},   {"jobs", 'j', NULL},  {"file", 'f', NULL}, {"keep-order", 'k', NULL},
	{"limit", 'n', NULL}, {"quiet", 'q', NULL}, {"help", 'h', NULL}, {"verbose", 'v', NULL},
	{"zstd", 0, "3"},     {NULL, 0, NULL},
};

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
	DF_TRY(df_io_read_file(&df_io_real, AT_FDCWD, q->r->file.p, DF_PIPELINE_BYTES_MAX, &text, &n, q->fail));
	enum df_err err = df_pipeline_file_parse((struct df_str){text, n}, q->r->file.p, df_run_rows, q->r,
						 q->args.given, q->arena, file, q->fail);
	free(text);
	if (err != DF_OK)
		return err;
	*q->pipeline = file->pipeline;
	q->file_inputs = file->inputs;
	return DF_OK;
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

static enum df_err check_pipeline(struct request *q)
{
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	struct df_buf text;
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
	df_buf_init(&text, 2 * DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(q->pipeline, &text);
	run->pipeline = q->pipeline;
	run->pipeline_text = df_arena_copy(q->arena, df_buf_str(&text));
	df_buf_release(&text);
	return err == DF_OK && run->pipeline_text.p ? DF_OK : no_memory(q);
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
	run->trace = run->has_calls && run->out.n && run->trace != DF_TRACE_NO ? DF_TRACE_YES : DF_TRACE_NO;
	run->no_cache = df_str_is(q->r->cache, "no");
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
