// SPDX-License-Identifier: Apache-2.0
/*
 * run_rows: the options of `docflume run` as rows: the command line, YAML settings, help and the man page are made of
 * them; and the parsing of a whole command line into df_run_options.
 */
#ifndef DF_CLI_RUN_ROWS_H
#define DF_CLI_RUN_ROWS_H

#include "cli/args.h"
#include "coordinator/life/run_options.h"

/* What the rows fill. */
struct df_run_request {
	struct df_run_options run;
	struct df_str file;  /* -f */
	struct df_str cache; /* --cache, as typed */
	bool help;
};

extern const struct df_opt df_run_rows[];
extern const struct df_arg df_run_args[];

/* argv[0] is the command's name. Reads the pipeline file if there is one; no input is touched. `stdin_is_terminal`
 * decides whether no operand means stdin or a usage error. With --help the rest of *ret_request is not complete.
 * All memory from `arena`. DF_ERR_USAGE, DF_ERR_NOMEM, errors of reading the file. */
enum df_err df_run_request_parse(int argc, char **argv, bool stdin_is_terminal, struct df_arena *arena,
				 struct df_run_request *ret_request, struct df_fail *fail) DF_MUST_CHECK;

#endif
