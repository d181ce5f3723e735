// SPDX-License-Identifier: Apache-2.0
/* cmd_status: `docflume status DIR`: how a run stands, live or dead, once or again and again. */
#include "cli/commands.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "cli/batch_show.h"
#include "cli/status_rows.h"
#include "cli/status_text.h"

#define TEXT_BYTES ((size_t)64 << 20)

struct status_options {
	bool watch, json, help;
	uint64_t every_ns;
};

const struct df_opt df_status_rows[] = {
	{.name = "watch",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct status_options, watch),
	 .help = "Look again and again until the run is over"},
	{.name = "every",
	 .type = DF_OPT_TIME,
	 .offset = offsetof(struct status_options, every_ns),
	 .initial = "2s",
	 .min = 0.1,
	 .max = 3600,
	 .help = "With --watch: how often"},
	{.name = "json",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct status_options, json),
	 .help = "One JSON object (one a line with --watch), for scripts"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct status_options, help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_status_args[] = {{"help", 'h', NULL}, {"watch", 'w', NULL}, {NULL, 0, NULL}};

/* The exit code says how the run stands, as `run` itself would: 0 finished or running, 3 finished with rejects, 75 it can go on. */
static int code_of(const struct df_view *v)
{
	const char *state = df_view_state(v);
	if (v->live)
		return DF_EXIT_OK;
	if (df_str_is(df_str_from(state), "finished"))
		return df_replay_count(&v->journal, "rejected") ? DF_EXIT_REJECTS : DF_EXIT_OK;
	return df_str_is(df_str_from(state), "failed") ? DF_EXIT_FATAL : DF_EXIT_STOPPED;
}

static int print_one(const char *path, const struct status_options *o, bool screen, bool *ret_live)
{
	struct df_view v;
	struct df_fail fail = {.msg = ""};
	struct df_buf text;
	if (df_batch_show_is(path))
		return df_batch_show_status(path, o->json, screen, ret_live);
	enum df_err err = df_view_open(path, &v, &fail);
	*ret_live = false;
	if (err != DF_OK)
		return df_cli_fail("status", err, &fail);
	df_buf_init(&text, TEXT_BYTES);
	if (screen)
		(void)df_buf_addz(&text, "\033[H\033[J"); /* from the top of a clean screen */
	if (o->json)
		df_status_add_json(&v, &text);
	else
		df_status_add_text(&v, &text);
	*ret_live = v.live;
	int code = df_buf_err(&text) == DF_OK ? df_cli_print(&text) : df_cli_fail("status", df_buf_err(&text), &fail);
	if (code == DF_EXIT_OK)
		code = code_of(&v);
	df_buf_release(&text);
	df_view_close(&v);
	return code;
}

static void sleep_for(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / DF_SEC), (long)(ns % DF_SEC)};
	(void)nanosleep(&t, NULL);
}

int df_cmd_status(int argc, char **argv)
{
	struct status_options o;
	struct df_args args;
	struct df_fail fail = {.msg = ""};
	struct df_arena arena;
	df_arena_init(&arena, 1U << 20, 0);
	df_conf_defaults(df_status_rows, &arena, &o, sizeof(o));
	enum df_err err = df_args_parse(df_status_rows, df_status_args, false, argc, argv, &arena, &o, &args, &fail);
	if (err == DF_OK && !o.help && args.n_operand != 1)
		err = df_fail(&fail, DF_ERR_USAGE, "'status' takes one run directory");
	int code = DF_EXIT_OK;
	if (err != DF_OK) {
		code = df_cli_fail("status", err, &fail);
	} else if (o.help) {
		char word[] = "help", name[] = "status";
		char *help[] = {word, name, NULL};
		code = df_cmd_help(2, help);
	} else {
		bool live = false, screen = o.watch && !o.json && isatty(STDOUT_FILENO) == 1;
		do {
			code = print_one(args.operand[0].p, &o, screen, &live);
			if (live && o.watch)
				sleep_for(o.every_ns);
		} while (live && o.watch);
	}
	df_arena_release(&arena);
	return code;
}
