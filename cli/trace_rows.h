// SPDX-License-Identifier: Apache-2.0
/* trace_rows: the options of `docflume trace` and `docflume cache`. */
#ifndef DF_CLI_TRACE_ROWS_H
#define DF_CLI_TRACE_ROWS_H

#include "cli/args.h"

extern const struct df_opt df_trace_rows[];
extern const struct df_arg df_trace_args[];
extern const struct df_opt df_cache_rows[];
extern const struct df_arg df_cache_args[];

#endif
