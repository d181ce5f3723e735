// SPDX-License-Identifier: Apache-2.0
/*
 * cores: how many processors this process may use: the affinity mask, cut by the CPU quota of its control groups.
 * Sources: sched_getaffinity(2); cgroup v2 cpu.max ("200000 100000": 2 processors; "max": all), cgroup v1 cfs quota.
 */
#ifndef DF_CLI_CORES_H
#define DF_CLI_CORES_H

#include "base/str.h"

/* At least 1. */
unsigned df_cores(void);

/* Processors that a cpu.max line allows, rounded up; 0: no limit, or not such a line. */
unsigned df_cores_of_quota(struct df_str cpu_max);

#endif
