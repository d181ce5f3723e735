// SPDX-License-Identifier: Apache-2.0
/* cmd_run: `docflume run`: a checked request, and then either the coordinator or, with --dry-run, a plan on stdout. */
#include "cli/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/dry_run.h"
#include "cli/run_rows.h"
#if __has_include("coordinator/run.h")
#include "coordinator/run.h"
#define coordinator_run df_coordinator_run
#else
static int coordinator_run(const struct df_run_options *options)
{
	(void)options;
	df_error("this build has no coordinator; --dry-run works");
	return DF_EXIT_FATAL;
}
#endif

#define ARENA_BYTES ((size_t)64 << 20)

static int run(const struct df_run_request *r)
{
	enum df_log_level level = r->run.quiet ? DF_LOG_WARN : r->run.verbose ? DF_LOG_DEBUG : DF_LOG_INFO;
	df_log_setup(level, (enum df_log_format)r->run.log_format, "docflume");
	if (!r->run.dry_run)
		return coordinator_run(&r->run);
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
	int code = err != DF_OK ? df_cli_fail("run", err, &fail) : request.help ? print_help() : run(&request);
	df_arena_release(&arena);
	return code;
}
