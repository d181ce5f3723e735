// SPDX-License-Identifier: Apache-2.0
/*
 * cache_option: what `--cache DIR|no` means. "no", "off", "none", "never", "false" and "0" in any case are no cache; "yes", "on", "true", "auto", "default" and "1" are refused, since a folder of
 * that name is hardly what was meant. A folder that is called so is named by a path: ./no.
 */
#ifndef DF_CLI_CACHE_OPTION_H
#define DF_CLI_CACHE_OPTION_H

#include <stdbool.h>

#include "base/err.h"
#include "base/str.h"

/* DF_ERR_USAGE. */
enum df_err df_cache_option(struct df_str given, bool *ret_no_cache, struct df_fail *fail) DF_MUST_CHECK;

#endif
