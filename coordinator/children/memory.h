// SPDX-License-Identifier: Apache-2.0
/*
 * memory: how much the run may use, what a process uses, and whether the kernel ended one for lack of it.
 *
 * `root` goes before every path ("" on a real machine), so that tests bring their own /proc and /sys.
 * Sources: proc(5); Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.events) and cgroup-v1/memory.rst
 * (memory.limit_in_bytes, memory.oom_control) of the Linux kernel.
 */
#ifndef DF_COORDINATOR_CHILDREN_MEMORY_H
#define DF_COORDINATOR_CHILDREN_MEMORY_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* The least of MemAvailable and the limits of the control groups that this process is in; UINT64_MAX: unknown. */
uint64_t df_memory_available(const char *root);

/* What a process has for itself: resident pages that no file backs. 0: it cannot be read, or has none. */
uint64_t df_memory_own(const char *root, pid_t pid);

/* Processes that the kernel killed for memory, in this control group, else in the whole system. Rises; 0: unknown. */
uint64_t df_memory_oom_kills(const char *root);

/* The limit of the run and the share of each of its n_child children. */
struct df_memory_plan {
	uint64_t limit;
	uint64_t share;
};

/* `wanted`: --mem-limit, 0: nine tenths of `available`. DF_ERR_LIMIT: a share would be less than a child needs. */
enum df_err df_memory_plan(uint64_t wanted, uint64_t available, uint32_t n_child, struct df_memory_plan *ret_plan,
			   struct df_fail *fail) DF_MUST_CHECK;

#endif
