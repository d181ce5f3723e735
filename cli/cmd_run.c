// SPDX-License-Identifier: Apache-2.0
/* cmd_run: `docflume run`: a checked request, and then either the guard with its coordinator or, with --dry-run, a plan on stdout. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/dry_run.h"
#include "cli/guard.h"
#include "cli/prompt_hints.h"
#include "cli/run_rows.h"
#include "coordinator/rundir/retry.h"
#include "worker/trace/trace_export.h"
#include "worker/model/modeldir.h"
#include "worker/stages/embed.h"

#define ARENA_BYTES ((size_t)64 << 20)

static struct df_str option(const struct df_pipeline_stage *s, const char *key)
{
	for (size_t i = 0; i < s->n_opt; i++)
		if (df_str_is(s->opt[i].key, key))
			return s->opt[i].value;
	return (struct df_str){NULL, 0};
}

/* A model that is not there is said once and before anything is started; workers would all find it out for themselves. */
static enum df_err find_models(const struct df_run_options *o, struct df_fail *fail)
{
	char dir[DF_MODEL_PATH_BYTES];
	bool embeds = false;
	for (size_t i = 0; i < o->pipeline->n_stage; i++)
		embeds |= df_str_is(o->pipeline->stage[i].name, "embed") &&
			  !df_embed_is_api(option(&o->pipeline->stage[i], "model"));
	for (size_t i = 0; i < o->pipeline->n_stage; i++) {
		const struct df_pipeline_stage *s = &o->pipeline->stage[i];
		bool counts = df_str_is(s->name, "chunk") && !option(s, "chars").p && !embeds;
		if (!df_str_is(s->name, "embed") && !df_str_is(s->name, "tokenise") && !counts)
			continue;
		struct df_str name = counts ? (struct df_str){NULL, 0} : option(s, "model");
		if (!name.n)
			name = DF_STR(DF_MODEL_DEFAULT);
		if (df_str_is(s->name, "embed") && df_embed_is_api(name))
			continue;
		DF_TRY(df_model_find(name, o->model_dir.p, NULL, dir, fail));
	}
	return DF_OK;
}

/* --resume-failed: the run is that of the next generation. False: there is nothing to do, or it went wrong; *ret_code says. */
static bool plan_retry(struct df_run_request *r, struct df_arena *arena, int *ret_code)
{
	struct df_fail fail = {.msg = ""};
	struct df_retry retry;
	struct df_run_options planned;
	enum df_err err = df_retry_plan(&r->run, arena, &planned, &retry, &fail);
	*ret_code = err == DF_OK ? DF_EXIT_OK : df_cli_fail("run", err, &fail);
	if (err != DF_OK)
		return false;
	if (retry.nothing) {
		df_info("nothing to retry: the last run in '%.*s' has rejected no document", DF_STR_ARG(r->run.out));
		return false;
	}
	r->run = planned;
	return true;
}

/* --otlp: a collector that does not answer changes nothing of the run, and holds it up for some seconds only: its trace can be sent again. */
static int run_and_export(const struct df_run_options *o)
{
	struct df_fail fail = {.msg = ""};
	struct df_trace_sent sent = {0};
	static const struct df_trace_patience patience = {DF_TRACE_RUN_QUIET_MS, DF_TRACE_RUN_TOTAL_MS};
	pid_t guard = getpid();
	int code = df_guard_run(o);
	if (getpid() != guard) /* the coordinator, a child of the guard, comes by here too */
		return code;
	if (!o->otlp.n || o->trace != DF_TRACE_YES || code == DF_EXIT_USAGE)
		return code;
	if (df_trace_export(o->out.p, o->otlp.p, &patience, &sent, &fail) != DF_OK)
		df_warn("the trace was not sent: %s; 'docflume trace --otlp URL %s' sends it", fail.msg, o->out.p);
	else
		df_info("%llu spans sent to '%s'", (unsigned long long)sent.spans, sent.to);
	if (sent.rejected)
		df_warn("the receiver of traces rejected %llu spans: %s", (unsigned long long)sent.rejected,
			sent.message);
	return code;
}

static int run(struct df_run_request *r, struct df_arena *arena)
{
	enum df_log_level level = r->run.quiet ? DF_LOG_WARN : r->run.verbose ? DF_LOG_DEBUG : DF_LOG_INFO;
	df_log_setup(level, (enum df_log_format)r->run.log_format, "docflume");
	df_prompt_hints(r->run.pipeline);
	int planned = 0;
	if (r->run.resume_failed && !plan_retry(r, arena, &planned))
		return planned;
	struct df_fail no_model = {.msg = ""};
	enum df_err found = find_models(&r->run, &no_model);
	if (found != DF_OK)
		return df_cli_fail("run", found, &no_model);
	if (!r->run.dry_run)
		return run_and_export(&r->run);
	struct df_buf text;
	struct df_fail fail = {.msg = ""};
	df_buf_init(&text, (size_t)1 << 30);
	enum df_err err = df_dry_run(&r->run, &text, &fail);
	int code = err == DF_OK ? df_cli_print(&text) : df_cli_fail("run", err, &fail);
	df_buf_release(&text);
	return code;
}

static int print_help(void)
{
	char word[] = "help", name[] = "run";
	char *argv[] = {word, name, NULL};
	return df_cmd_help(2, argv);
}

int df_cmd_run(int argc, char **argv)
{
	struct df_run_request request;
	struct df_fail fail = {.msg = ""};
	struct df_arena arena;
	df_arena_init(&arena, ARENA_BYTES, 0);
	enum df_err err = df_run_request_parse(argc, argv, isatty(STDIN_FILENO) == 1, &arena, &request, &fail);
	int code = err != DF_OK ? df_cli_fail("run", err, &fail) : request.help ? print_help() : run(&request, &arena);
	df_arena_release(&arena);
	return code;
}
