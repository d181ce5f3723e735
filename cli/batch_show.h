// SPDX-License-Identifier: Apache-2.0
/* batch_show: `docflume status` and `docflume verify` on the directory of a batch run. Their exit codes are those for any run. */
#ifndef DF_CLI_BATCH_SHOW_H
#define DF_CLI_BATCH_SHOW_H

#include <stdbool.h>

/* It holds a batch.json and no journal. */
bool df_batch_show_is(const char *path);
/* screen: begin on a clean one. *ret_live: a process is at work. 0 finished or at work, 3 finished with rejects, 75 it can go on, 1 it cannot be read. */
int df_batch_show_status(const char *path, bool json, bool screen, bool *ret_live);
/* 0 proved, 75 consistent but not finished (or at work), 1 something is wrong. quick: no look into lines. */
int df_batch_show_verify(const char *path, bool json, bool quick);

#endif
