// SPDX-License-Identifier: Apache-2.0
/* memory: small files of /proc and /sys, read without allocating. */
#include "coordinator/children/memory.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"

#define MB (1U << 20)
#define TEXT_BYTES 16384

/* Files of the kernel come whole in one read, or as much of them as fits. */
static bool read_text(const char *root, const char *path, char text[TEXT_BYTES])
{
	char full[PATH_MAX];
	if (snprintf(full, sizeof(full), "%s%s", root, path) >= (int)sizeof(full))
		return false;
	int fd = open(full, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	size_t n = 0;
	for (ssize_t k = 1; k > 0 && n<TEXT_BYTES - 1; n += k> 0 ? (size_t)k : 0)
		k = read(fd, text + n, TEXT_BYTES - 1 - n);
	(void)close(fd);
	text[n] = '\0';
	return n > 0;
}

/* The number behind `key` at the beginning of a line. */
static bool find_number(const char *text, const char *key, uint64_t *ret_number)
{
	size_t n = strlen(key);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) != 0)
			continue;
		*ret_number = strtoull(line + n, NULL, 10);
		return true;
	}
	return false;
}

/* ------------------------------------------------------------------ control groups */

/* The path of this process's group: the line "0::PATH" of version 2, "N:...,memory,...:PATH" of version 1. */
static bool group_path(const char *root, bool v2, char path[PATH_MAX])
{
	char text[TEXT_BYTES], *save = NULL;
	if (!read_text(root, "/proc/self/cgroup", text))
		return false;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':');
		char *at = names ? strchr(names + 1, ':') : NULL;
		if (!at)
			continue;
		*at++ = '\0';
		char list[256];
		(void)snprintf(list, sizeof(list), ",%s,", names + 1);
		bool ours = v2 ? strcmp(line, "0:") == 0 : strstr(list, ",memory,") != NULL;
		if (ours) {
			(void)snprintf(path, PATH_MAX, "%s", strcmp(at, "/") == 0 ? "" : at);
			return true;
		}
	}
	return false;
}

static bool read_group_file(const char *root, const char *mount, const char *group, const char *file,
			    char text[TEXT_BYTES])
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s%s/%s", mount, group, file) >= (int)sizeof(path))
		return false;
	return read_text(root, path, text);
}

/* The least limit of the group and of all above it. In a container the groups above may be out of sight: its own root is tried last. */
static uint64_t group_limit(const char *root, const char *mount, const char *file, char group[PATH_MAX])
{
	char text[TEXT_BYTES];
	uint64_t limit = UINT64_MAX;
	for (;;) {
		if (read_group_file(root, mount, group, file, text) && strncmp(text, "max", 3) != 0) {
			uint64_t v = strtoull(text, NULL, 10);
			limit = v && v < limit ? v : limit;
		}
		char *slash = strrchr(group, '/');
		if (!slash)
			return limit;
		*slash = '\0';
	}
}

uint64_t df_memory_available(const char *root)
{
	char text[TEXT_BYTES], group[PATH_MAX];
	uint64_t kb = 0, least = UINT64_MAX;
	if (read_text(root, "/proc/meminfo", text) && find_number(text, "MemAvailable:", &kb) && kb)
		least = kb * 1024;
	for (int v2 = 0; v2 < 2; v2++) {
		if (!group_path(root, v2, group))
			continue;
		uint64_t limit = group_limit(root, v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory",
					     v2 ? "memory.max" : "memory.limit_in_bytes", group);
		least = limit < least ? limit : least;
	}
	return least;
}

uint64_t df_memory_oom_kills(const char *root)
{
	char text[TEXT_BYTES], group[PATH_MAX];
	uint64_t n = 0;
	if (group_path(root, true, group) && read_group_file(root, "/sys/fs/cgroup", group, "memory.events", text) &&
	    find_number(text, "oom_kill ", &n))
		return n;
	if (group_path(root, false, group) &&
	    read_group_file(root, "/sys/fs/cgroup/memory", group, "memory.oom_control", text) &&
	    find_number(text, "oom_kill ", &n))
		return n;
	if (read_text(root, "/proc/vmstat", text) && find_number(text, "oom_kill ", &n))
		return n;
	return 0;
}

/* ------------------------------------------------------------------ processes */

uint64_t df_memory_own(const char *root, pid_t pid)
{
	char path[64], text[TEXT_BYTES];
	(void)snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
	if (!read_text(root, path, text)) /* pages: size, resident, those of them that a file backs, ... */
		return 0;
	char *at = NULL;
	(void)strtoull(text, &at, 10);
	uint64_t resident = strtoull(at, &at, 10);
	uint64_t shared = strtoull(at, &at, 10);
	return resident > shared ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

/* ------------------------------------------------------------------ the plan */

enum df_err df_memory_plan(uint64_t wanted, uint64_t available, uint32_t n_child, struct df_memory_plan *ret_plan,
			   struct df_fail *fail)
{
	uint64_t limit = wanted ? wanted : available == UINT64_MAX ? 0 : available / 10 * 9;
	*ret_plan = (struct df_memory_plan){0};
	if (!limit || !n_child)
		return DF_OK;
	uint64_t own = limit / 8 > DF_COORDINATOR_BYTES ? limit / 8 : DF_COORDINATOR_BYTES;
	own = own > DF_COORDINATOR_BYTES_MAX ? DF_COORDINATOR_BYTES_MAX : own;
	uint64_t share = limit > own ? (limit - own) / n_child : 0;
	if (share < DF_CHILD_BYTES_MIN)
		return df_fail(fail, DF_ERR_LIMIT,
			       "%llu MB of memory are too few for %u processes, which need %u MB each beside the "
			       "coordinator's %llu MB: use fewer workers (-j) or give more (--mem-limit)",
			       (unsigned long long)(limit / MB), n_child, DF_CHILD_BYTES_MIN / MB,
			       (unsigned long long)(own / MB));
	*ret_plan = (struct df_memory_plan){limit, share};
	return DF_OK;
}
