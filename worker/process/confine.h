// SPDX-License-Identifier: Apache-2.0
/*
 * confine: a worker or reader gives up what it does not need, since what it is about to read is nobody's friend.
 *
 * Two steps, because libraries start threads and open files between them:
 *
 *   df_confine_begin   in main after exec, before any thread: no_new_privs, capabilities, limits, Landlock. All of them
 *                      bind the calling thread and what it starts later. From here on a file can be opened when it lies
 *                      beneath `read_path` or the models, and then for reading alone.
 *   df_confine_end     when models and stages are open, before the first byte of input: a seccomp filter, put on all threads of
 *                      the process (TSYNC). From here on: no socket but AF_UNIX (network: and AF_INET, AF_INET6, AF_NETLINK), no new
 *                      process, no signal to others, nothing opened for writing, nothing renamed, linked, removed or changed in
 *                      its attributes, no ptrace, mount, bpf, keys, io_uring and the like. What is refused fails with EPERM,
 *                      so that a library that merely tries goes on; a call of a foreign architecture ends the process.
 *
 * A worker that calls out (`network`) keeps what that needs, and no other worker does: sockets of the internet and of netlink, as many descriptors as
 * the user may have, files of the resolver and of certificates, and the folders of `write_path` (limits and answers, which all
 * processes of a machine share). It is not dumpable: its memory and environment hold keys.
 *
 * What stays: descriptors that are open, memory, threads, time, connecting to AF_UNIX sockets by path, signals to
 * itself (abort). RLIMIT_CORE is left as the user has it: 0 unless raised on purpose.
 *
 * A kernel that cannot do one of the two says so by a bit, and the caller tells people; everything else still holds.
 */
#ifndef DF_WORKER_PROCESS_CONFINE_H
#define DF_WORKER_PROCESS_CONFINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

struct df_confine {
	const struct df_str *read_path; /* absolute; files, or folders with all that is in them */
	size_t n_read_path;
	const char *model_dir;           /* folder of models; links in it are followed; NULL: none */
	bool network;                    /* a stage calls out */
	uint64_t memory_max;             /* bytes of its own that the process may use; 0: no limit */
	const struct df_str *write_path; /* folders that exist, beneath which files are made, written and removed */
	size_t n_write_path;
	bool files_bound; /* set by df_confine_begin: the kernel holds the process to these paths, so that df_confine_end need not refuse
			   * writing itself */
};

enum {
	DF_CONFINE_NO_LANDLOCK = 1, /* this kernel does not restrict files */
	DF_CONFINE_NO_SECCOMP = 2,  /* this kernel does not restrict system calls */
};

/* Returns what this kernel cannot do (bits as above). DF_ERR_IO: it can, and refused all the same. */
enum df_err df_confine_begin(struct df_confine *c, unsigned *ret_missing, struct df_fail *fail) DF_MUST_CHECK;

/* DF_OK also where the kernel cannot. DF_ERR_IO as above; the process should not go on. */
enum df_err df_confine_end(const struct df_confine *c, struct df_fail *fail) DF_MUST_CHECK;

/* True when the kernel takes seccomp filters and this build has one for the machine. */
bool df_confine_has_seccomp(void);
/* The version of Landlock's interface, 0: none. */
int df_confine_landlock_abi(void);

/*
 * RLIMIT_DATA counts what is mapped, not what is used: beyond memory_max it leaves room for what is mostly never touched. Measured: the
 * stacks of three threads are 24 MB, and OpenBLAS maps 128 MB at its first product and touches 10 of them.
 */
#define DF_CONFINE_DATA_SLACK ((uint64_t)32 << 20)
#define DF_CONFINE_MODEL_SLACK ((uint64_t)160 << 20) /* and this with a model */
#define DF_CONFINE_NETWORK_SLACK                                                                                       \
	((uint64_t)320 << 20) /* and this for stacks of many threads (257 MB), TLS, and a mapped cache */

#endif
