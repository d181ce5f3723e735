// SPDX-License-Identifier: Apache-2.0
/*
 * cmd_batch: `docflume batch`: a pipeline whose calls go through a provider's batch service (worker/batch), in one process that may be ended at any moment.
 *
 * DESIGN. It is a command of its own and no option of run: a run's workers wait for seconds, are killed and restarted, and hold leases; a batch takes hours,
 * and all of its state is what was sent and what came back.
 */
#include "cli/commands.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/human.h"
#include "base/log.h"
#include "cli/batch_rows.h"
#include "cli/cache_option.h"
#include "cli/resolve.h"
#include "coordinator/cells/dataset.h"
#include "worker/batch/batch.h"
#include "worker/stages/registry.h"

#define ARENA_BYTES ((size_t)64 << 20)

struct job {
	struct df_batch_request r;
	struct df_args args;
	struct df_arena *arena;
	struct df_str pipeline; /* empty: request lines */
	bool has_vectors, no_cache;
	struct df_dataset dataset;
	struct df_fail *fail;
};

/* One word that is the name of a file, where a pipeline is expected: the inputs are request lines. */
static bool is_file(struct df_str operand)
{
	struct stat st;
	return operand.n && stat(operand.p, &st) == 0 && S_ISREG(st.st_mode);
}

static enum df_err check_stages(const struct df_stage_class *const *class, size_t n, struct df_fail *fail)
{
	for (size_t i = 0; i < n; i++)
		if (class[i] -> flags & DF_STAGE_COMMANDS)
			return df_fail(fail, DF_ERR_USAGE,
				       "stage '%s' starts commands; in batch mode documents go through the stages more "
				       "than once, so do that by 'docflume run' before or behind",
				       class[i] -> name);
	return DF_OK;
}

static enum df_err read_pipeline(struct job *j)
{
	const struct df_stage_class **class = NULL;
	void **options = NULL;
	struct df_buf text;
	struct df_pipeline *p = df_arena_zalloc(j->arena, sizeof(*p));
	if (!p)
		return df_fail(j->fail, DF_ERR_NOMEM, "no memory for the command line");
	DF_TRY(df_pipeline_parse(j->args.operand[0], j->arena, p, j->fail));
	for (size_t i = 0; i < j->args.n_override; i++) {
		const struct df_arg_override *o = &j->args.override[i];
		DF_TRY(df_pipeline_override(p, j->arena, o->stage, o->key, o->value, j->fail));
	}
	DF_TRY(df_resolve_pipeline(p, j->arena, j->fail));
	DF_TRY(df_stage_check_pipeline(p, j->arena, &class, &options, j->fail));
	DF_TRY(check_stages(class, p->n_stage, j->fail));
	for (size_t i = 0; i < p->n_stage; i++)
		j->has_vectors |= (class[i] -> flags &DF_STAGE_VECTORS) != 0;
	df_buf_init(&text, 2 * DF_PIPELINE_BYTES_MAX);
	enum df_err err = df_pipeline_format(p, &text);
	if (err == DF_OK)
		j->pipeline = df_arena_copy(j->arena, df_buf_str(&text));
	df_buf_release(&text);
	j->args.operand++;
	j->args.n_operand--;
	return j->pipeline.p ? DF_OK : df_fail(j->fail, DF_ERR_NOMEM, "no memory for the command line");
}

static enum df_err open_inputs(struct job *j)
{
	struct df_dataset_spec spec = {.n_operand = j->args.n_operand, .format = (enum df_format)j->r.input_format};
	const char **operand = df_arena_array(j->arena, j->args.n_operand + 1, sizeof(*operand));
	if (!operand)
		return df_fail(j->fail, DF_ERR_NOMEM, "no memory for the command line");
	if (!j->args.n_operand)
		return df_fail(j->fail, DF_ERR_USAGE, "no input; name files, globs or folders");
	for (size_t i = 0; i < j->args.n_operand; i++)
		operand[i] = j->args.operand[i].p;
	spec.operand = operand;
	if (!j->pipeline.n)
		spec.format = DF_FORMAT_JSONL;
	DF_TRY(df_dataset_open(&spec, &j->dataset, j->fail));
	for (size_t i = 0; i < j->dataset.n_source; i++)
		if (j->dataset.source[i].live)
			return df_fail(
				j->fail, DF_ERR_USAGE,
				"'%s' can be read only once, and batch mode reads its inputs again; keep it in a "
				"file first",
				j->dataset.source[i].name);
	return DF_OK;
}

static enum df_err check_options(struct job *j)
{
	const struct df_batch_request *r = &j->r;
	DF_TRY(df_cache_option(r->cache, &j->no_cache, j->fail));
	if (!r->out.n || df_str_is(r->out, "-"))
		return df_fail(j->fail, DF_ERR_USAGE, "a batch run needs a directory: -o DIR");
	if (r->budget == 0 && df_args_given(df_batch_rows, &j->args, "budget"))
		return df_fail(j->fail, DF_ERR_USAGE, "'--budget' must be more than 0");
	if (r->poll_max_ns < r->poll_ns)
		return df_fail(j->fail, DF_ERR_USAGE, "'--poll-max' is less than '--poll'");
	if (!r->id_key.n || !r->text_key.n || df_str_eq(r->id_key, r->text_key))
		return df_fail(j->fail, DF_ERR_USAGE, "'--id-key' and '--text-key' must name two different members");
	if (!j->args.n_operand)
		return df_fail(
			j->fail, DF_ERR_USAGE,
			"no pipeline; e.g. docflume batch \"llm model=gpt-4o-mini prompt='...'\" -o DIR docs.jsonl");
	return DF_OK;
}

static enum df_err read_command(struct job *j, int argc, char **argv)
{
	df_conf_defaults(df_batch_rows, j->arena, &j->r, sizeof(j->r));
	DF_TRY(df_args_parse(df_batch_rows, df_batch_args, true, argc, argv, j->arena, &j->r, &j->args, j->fail));
	if (j->r.help)
		return DF_OK;
	DF_TRY(check_options(j));
	if (!is_file(j->args.operand[0]))
		DF_TRY(read_pipeline(j));
	else if (j->args.n_override)
		return df_fail(j->fail, DF_ERR_USAGE, "request lines have no stages: '--STAGE.KEY' means nothing here");
	if (j->pipeline.n && (j->r.base_url.n || j->r.key_env.n))
		return df_fail(
			j->fail, DF_ERR_USAGE,
			"'--base-url' and '--key-env' are for request lines; a stage has base_url= and key_env=");
	if (j->r.output_format == DF_BATCH_AUTO)
		j->r.output_format = j->has_vectors ? DF_BATCH_BOTH : DF_BATCH_JSONL;
	if (j->r.output_format != DF_BATCH_JSONL && !j->has_vectors)
		return df_fail(j->fail, DF_ERR_USAGE,
			       "'--output-format' with .npy files needs a stage that makes vectors, e.g. embed");
	return open_inputs(j);
}

static enum df_err sources_of(const struct job *j, struct df_batch_options *o)
{
	struct df_batch_source *s = df_arena_array(j->arena, j->dataset.n_source + 1, sizeof(*s));
	if (!s)
		return df_fail(j->fail, DF_ERR_NOMEM, "no memory for the inputs");
	for (size_t i = 0; i < j->dataset.n_source; i++) {
		const struct df_source *from = &j->dataset.source[i];
		s[i] = (struct df_batch_source){from->path, from->name, from->id, from->kind, from->format};
	}
	o->source = s;
	o->n_source = j->dataset.n_source;
	o->inputs = j->dataset.fingerprint;
	return DF_OK;
}

/* Whoever stops it is heard between two steps: by a descriptor, so that no call is interrupted. */
static int signals(void)
{
	const struct rlimit none = {0, 0};
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)setrlimit(RLIMIT_CORE, &none); /* keys are in memory */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int exit_code(enum df_err err, const struct df_fail *fail)
{
	switch (err) {
	case DF_ERR_AGAIN:
	case DF_ERR_INTERRUPTED:
		df_info("%s", fail->msg);
		return DF_EXIT_STOPPED;
	case DF_ERR_CLOSED:
	case DF_ERR_TIMEOUT:
		(void)df_cli_fail("batch", DF_ERR_CLOSED, fail);
		df_info("stopped early; the same command goes on from here");
		return DF_EXIT_STOPPED;
	case DF_ERR_QUOTA:
		(void)df_cli_fail("batch", err, fail);
		return DF_EXIT_QUOTA;
	default:
		return df_cli_fail("batch", err, fail);
	}
}

static int tell(const struct df_batch_counts *c)
{
	char in[48], rows[48], calls[48], cached[32], usd[32], unpriced[80];
	char out[32], filtered[32], rejected[32];
	df_info("%s in = %s out + %s filtered + %s rejected; %s", df_human_number_of(c->in, "document", in),
		df_human_count(c->out, out), df_human_count(c->filtered, filtered),
		df_human_count(c->rejected, rejected), df_human_number_of(c->rows, "row", rows));
	df_info("%s for %s%s, %s of them in the cache", df_human_number_of(c->calls, "call", calls),
		df_human_usd(c->usd, usd),
		df_human_unpriced(c->unpriced, c->calls - (c->cached < c->calls ? c->cached : 0), unpriced),
		df_human_count(c->cached, cached));
	return c->rejected || c->source_errors ? DF_EXIT_REJECTS : DF_EXIT_OK;
}

static int run(const struct job *j)
{
	const struct df_batch_request *r = &j->r;
	struct df_batch_counts counts = {0};
	struct df_batch_options o = {
		.out = r->out.p,
		.pipeline = j->pipeline,
		.id_key = r->id_key,
		.text_key = r->text_key,
		.model_dir = r->model_dir,
		.max_record = r->max_record,
		.want_rows = r->output_format != DF_BATCH_NPY,
		.want_npy = r->output_format == DF_BATCH_NPY || r->output_format == DF_BATCH_BOTH,
		.budget = r->budget,
		.no_cache = j->no_cache,
		.cache = r->cache.n && !j->no_cache ? r->cache.p : NULL,
		.cache_bytes = r->cache_size,
		.poll_ns = r->poll_ns,
		.poll_max_ns = r->poll_max_ns,
		.no_wait = !r->wait,
		.attempts = (uint32_t)r->attempts,
		.file_lines = (uint64_t)r->file_lines,
		.file_bytes = r->file_bytes,
		.base_url = r->base_url.n ? r->base_url.p : NULL,
		.key_env = r->key_env.n ? r->key_env.p : NULL,
	};
	enum df_log_level level = r->quiet ? DF_LOG_WARN : r->verbose ? DF_LOG_DEBUG : DF_LOG_INFO;
	df_log_setup(level, DF_LOG_TEXT, "docflume");
	if (sources_of(j, &o) != DF_OK)
		return df_cli_fail("batch", DF_ERR_NOMEM, j->fail);
	o.signal_fd = signals();
	enum df_err err = df_batch_run(&o, &counts, j->fail);
	if (o.signal_fd >= 0)
		(void)close(o.signal_fd);
	return err == DF_OK ? tell(&counts) : exit_code(err, j->fail);
}

int df_cmd_batch(int argc, char **argv)
{
	struct df_fail fail = {.msg = ""};
	struct df_arena arena;
	struct job j = {.arena = &arena, .fail = &fail};
	int code;
	df_arena_init(&arena, ARENA_BYTES, 0);
	enum df_err err = read_command(&j, argc, argv);
	if (err == DF_OK && j.r.help) {
		char word[] = "help", name[] = "batch";
		char *help[] = {word, name, NULL};
		code = df_cmd_help(2, help);
	} else {
		code = err == DF_OK ? run(&j) : df_cli_fail("batch", err, &fail);
	}
	df_dataset_release(&j.dataset);
	df_arena_release(&arena);
	return code;
}
