// SPDX-License-Identifier: Apache-2.0
/*
 * socket_dir: the folder of a coordinator's socket files: private (mode 0700), locked as long as its maker lives, and removed by
 * whoever comes after when its maker was killed.
 *
 * A folder is stale when it is called docflume-XXXXXXXX (hexadecimal), is a real folder of this user with mode 0700, and nobody holds
 * the lock of the file `lock` in it. Only then, and only names that docflume gives, are removed. One without a lock is left
 * alone, unless it is empty and older than a minute.
 */
#ifndef DF_COORDINATOR_SOCKET_DIR_H
#define DF_COORDINATOR_SOCKET_DIR_H

#include "base/err.h"
#include "coordinator/life/life.h"

struct df_socket_dir {
	char path[DF_SOCKET_DIR_BYTES]; /* empty: none */
	int lock_fd;
};

/* In XDG_RUNTIME_DIR, TMPDIR or /tmp, the first that is a path short enough for a socket's address and can be written. Stale ones
 * beside it are removed first. `life` (may be NULL) gets the path before the folder is there. DF_ERR_IO and other errors of the system. */
enum df_err df_socket_dir_make(struct df_life *life, struct df_socket_dir *ret_dir, struct df_fail *fail) DF_MUST_CHECK;
/* Removes it and gives the lock back. Accepts a zeroed struct, and one that was removed. */
void df_socket_dir_remove(struct df_socket_dir *dir);
/* After its maker's death. True: it is gone now. */
bool df_socket_dir_remove_stale(const char *path);

#endif
