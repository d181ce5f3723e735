// SPDX-License-Identifier: Apache-2.0
/*
 * commands: the sub-commands. Each gets argv with its own name at [0] and returns the exit code of the process:
 * 0 done; 1 fatal; 2 usage; 3 done with rejects; 4 a budget or the day is used up; 75 stopped early, the same command goes on.
 */
#ifndef DF_CLI_COMMANDS_H
#define DF_CLI_COMMANDS_H

#include "base/buf.h"
#include "base/err.h"
#include "cli/args.h"

#include "base/exit.h"

struct df_command {
	const char *name;     /* NULL ends the table */
	const char *operands; /* "PIPELINE [INPUT...]" */
	const char *summary;  /* one line */
	const char *help;     /* paragraphs; NULL: only the options */
	int (*main)(int argc, char **argv);
	const struct df_opt *rows; /* NULL: the command writes its own help (it is called with --help) */
	const struct df_arg *args;
	bool hidden;
};

extern const struct df_command df_commands[];

int df_cmd_run(int argc, char **argv);
int df_cmd_verify(int argc, char **argv);
int df_cmd_search(int argc, char **argv);
int df_cmd_models(int argc, char **argv);
int df_cmd_stages(int argc, char **argv);
int df_cmd_status(int argc, char **argv);
int df_cmd_trace(int argc, char **argv);
int df_cmd_cache(int argc, char **argv);
int df_cmd_batch(int argc, char **argv);
int df_cmd_help(int argc, char **argv);
int df_cmd_version(int argc, char **argv);

/* The whole program: finds the sub-command of argv[1] and runs it. */
int df_cli_main(int argc, char **argv);

/* "docflume: message" and, for a usage error, where to read more. The exit code that belongs to the error. */
int df_cli_fail(const char *command, enum df_err err, const struct df_fail *fail);

/* Write and forget: 0, or DF_EXIT_FATAL with a message when stdout does not take it. */
int df_cli_print(const struct df_buf *text);

/* Help of one command; the whole man page. */
enum df_err df_cli_help_command(const struct df_command *c, struct df_buf *out);
enum df_err df_cli_help_all(struct df_buf *out);
enum df_err df_cli_man(struct df_buf *out);

#endif
