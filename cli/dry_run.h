// SPDX-License-Identifier: Apache-2.0
/*
 * dry_run: what `docflume run --dry-run` prints: the canonical pipeline, every input with its size, and where rows would go.
 */
#ifndef DF_CLI_DRY_RUN_H
#define DF_CLI_DRY_RUN_H

#include "base/buf.h"
#include "coordinator/life/run_options.h"

/* No content is opened; inputs are looked up as the run itself would. Errors: those of df_dataset_open. */
enum df_err df_dry_run(const struct df_run_options *run, struct df_buf *out, struct df_fail *fail) DF_MUST_CHECK;

#endif
