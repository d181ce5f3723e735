// SPDX-License-Identifier: Apache-2.0
/* stages_rows: the options of `docflume stages`, for its help and the man page. */
#ifndef DF_CLI_STAGES_ROWS_H
#define DF_CLI_STAGES_ROWS_H

#include "cli/args.h"

extern const struct df_opt df_stages_rows[];
extern const struct df_arg df_stages_args[];

#endif
