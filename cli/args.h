// SPDX-License-Identifier: Apache-2.0
/*
 * args: a command line against option rows.
 *
 *   --name value   --name=value   -x value   -xvalue   -abc (options without a value, the last may take one)   --
 *   --stage.key value   --stage.key=value      collected apart: overrides of a pipeline's stages
 *
 * A BOOL takes no value unless it is written --name=value; `--no-name` sets it to false. An option whose letter row has
 * a `bare` text takes its value only as --name=value, and means `bare` without one. Options may stand between operands; a lone "-" is an
 * operand. An option that is given twice has its last value. Every error names the option.
 */
#ifndef DF_CLI_ARGS_H
#define DF_CLI_ARGS_H

#include "base/conf.h"

/* What an option row cannot say about the command line. Tables end with a NULL name. */
struct df_arg {
	const char *name; /* of the row */
	char letter;      /* 0: none */
	const char *bare; /* the value that the option means without one; NULL: it needs one (BOOL: "true") */
};

struct df_arg_override {
	struct df_str stage, key, value;
};

struct df_args {
	struct df_str *operand;
	size_t n_operand;
	struct df_arg_override *override;
	size_t n_override;
	bool *given; /* one for each row of the table: set on the command line */
};

/* argv[0] is skipped. Sets options that are given and leaves the others as they are. `overrides` false makes
 * "--a.b" an unknown option. All memory from `arena`; operands point into argv. DF_ERR_USAGE, DF_ERR_NOMEM. */
enum df_err df_args_parse(const struct df_opt *rows, const struct df_arg *args, bool overrides, int argc, char **argv,
			  struct df_arena *arena, void *options, struct df_args *ret_args,
			  struct df_fail *fail) DF_MUST_CHECK;

/* True when the row of that name was given. */
bool df_args_given(const struct df_opt *rows, const struct df_args *args, const char *name);

/* "  -o, --out=DIR   help" for every row. */
enum df_err df_args_help(const struct df_opt *rows, const struct df_arg *args, size_t width, struct df_buf *out);

/* The same as a list of a man page (man(7): .TP). */
enum df_err df_args_man(const struct df_opt *rows, const struct df_arg *args, struct df_buf *out);

#endif
