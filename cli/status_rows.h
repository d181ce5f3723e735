// SPDX-License-Identifier: Apache-2.0
/* status_rows: the options of `docflume status`. */
#ifndef DF_CLI_STATUS_ROWS_H
#define DF_CLI_STATUS_ROWS_H

#include "cli/args.h"

extern const struct df_opt df_status_rows[];
extern const struct df_arg df_status_args[];

#endif
