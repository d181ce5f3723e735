// SPDX-License-Identifier: Apache-2.0
/* verify_lines: the lines of a part as `docflume verify` looks at them: decompressed, each one a JSON object. */
#ifndef DF_CLI_VERIFY_LINES_H
#define DF_CLI_VERIFY_LINES_H

#include "coordinator/verify/verify.h"

/* As struct df_verify_lines wants it; may be called from several threads. Memory: a block, and the largest line. */
extern const struct df_verify_lines df_verify_lines_real;

#endif
