// SPDX-License-Identifier: Apache-2.0
/* cores: affinity and control groups, read once at the start. */
#include "cli/cores.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#define CPUS_MAX 16384

/* /proc and /sys files say size 0: read what is there. */
static struct df_str read_small(const char *path, char *z, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, z, size - 1);
	if (fd >= 0)
		(void)close(fd);
	z[n > 0 ? n : 0] = '\0';
	return (struct df_str){z, n > 0 ? (size_t)n : 0};
}

unsigned df_cores_of_quota(struct df_str cpu_max)
{
	uint64_t quota = 0, period = 0;
	struct df_str s = df_str_trim(cpu_max);
	const char *space = s.n ? memchr(s.p, ' ', s.n) : NULL;
	if (!space)
		return 0;
	size_t n = (size_t)(space - s.p);
	if (df_str_to_u64((struct df_str){s.p, n}, &quota) != DF_OK ||
	    df_str_to_u64((struct df_str){space + 1, s.n - n - 1}, &period) != DF_OK || quota == 0 || period == 0)
		return 0;
	uint64_t cores = quota / period + (quota % period != 0);
	return cores > CPUS_MAX ? CPUS_MAX : (unsigned)cores;
}

static unsigned smaller(unsigned cores, unsigned limit)
{
	return limit > 0 && limit < cores ? limit : cores;
}

/* The own group and all above it: the tightest quota holds. */
static unsigned cut_by_v2(unsigned cores)
{
	char groups[4096], path[4600], line[128];
	struct df_str all = read_small("/proc/self/cgroup", groups, sizeof(groups));
	char *own = all.n ? strstr(groups, "0::/") : NULL;
	if (!own || (own != groups && own[-1] != '\n'))
		return cores;
	own += 3;
	own[strcspn(own, "\n")] = '\0';
	for (;;) {
		(void)snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", own);
		cores = smaller(cores, df_cores_of_quota(read_small(path, line, sizeof(line))));
		char *slash = strrchr(own, '/');
		if (!slash)
			return cores;
		*slash = '\0';
	}
}

static unsigned cut_by_v1(unsigned cores)
{
	char quota[64], period[64], line[136];
	struct df_str q = df_str_trim(read_small("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota, sizeof(quota)));
	struct df_str p = df_str_trim(read_small("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period, sizeof(period)));
	int n = snprintf(line, sizeof(line), "%.*s %.*s", DF_STR_ARG(q), DF_STR_ARG(p));
	return smaller(cores, df_cores_of_quota((struct df_str){line, (size_t)n}));
}

unsigned df_cores(void)
{
	unsigned cores = 0;
	cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
	size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
	if (set && sched_getaffinity(0, size, set) == 0)
		cores = (unsigned)CPU_COUNT_S(size, set);
	if (set)
		CPU_FREE(set);
	if (cores == 0) {
		long online = sysconf(_SC_NPROCESSORS_ONLN);
		cores = online > 0 ? (unsigned)online : 1;
	}
	return cut_by_v1(cut_by_v2(cores));
}
