// SPDX-License-Identifier: Apache-2.0
/* verify_rows: the options of `docflume verify`. */
#ifndef DF_CLI_VERIFY_ROWS_H
#define DF_CLI_VERIFY_ROWS_H

#include "cli/args.h"

extern const struct df_opt df_verify_rows[];
extern const struct df_arg df_verify_args[];

#endif
