// SPDX-License-Identifier: Apache-2.0
/* where: the folder and the name of a limit's file. Private to this folder. */
#ifndef DF_WORKER_LIMIT_WHERE_H
#define DF_WORKER_LIMIT_WHERE_H

#include "worker/limit/limit.h"

#define DF_LIMIT_NAME 33

bool df_limit_fs_is_shared(uint64_t magic); /* by a network or a host: f_type of statfs(2) */

/* 32 hex digits: HMAC-SHA-256 of the name under the key, cut to 128 bits. */
void df_limit_name(const struct df_limit_config *config, char ret_name[DF_LIMIT_NAME]);

/* The folder: `dir`, $DOCFLUME_LIMITS, ${XDG_STATE_HOME:-~/.local/state}/docflume/limits; made (0700) when it is missing, but never $HOME itself.
 * DF_ERR_USAGE: not this user's own, or others may write there; no such $HOME. DF_ERR_UNSUPPORTED: a network file system. */
enum df_err df_limit_dir(const char *dir, char *ret_path, size_t size, int *ret_fd, struct df_fail *fail) DF_MUST_CHECK;

#endif
