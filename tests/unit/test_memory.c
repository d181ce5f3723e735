// SPDX-License-Identifier: Apache-2.0
/* The run's memory: what the machine allows, read from a /proc and a /sys of the test's own; shares; what a process has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "coordinator/children/memory.h"

#define GB (UINT64_C(1) << 30)
#define MB_BYTES (UINT64_C(1) << 20)

static char root[64];

/* Writes a file below `root`, with the folders that it needs. */
static void put(const char *path, const char *text)
{
	char full[512];
	assert_true(snprintf(full, sizeof(full), "%s%s", root, path) < (int)sizeof(full));
	for (char *p = full + strlen(root) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		(void)mkdir(full, 0700);
		*p = '/';
	}
	FILE *f = fopen(full, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int begin(void **state)
{
	(void)state;
	(void)snprintf(root, sizeof(root), "/tmp/docflume-memory-XXXXXX");
	assert_non_null(mkdtemp(root));
	return 0;
}

static int end(void **state)
{
	char command[128];
	(void)state;
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", root);
	return system(command); /* NOLINT(cert-env33-c): the path is the test's own */
}

static void test_memory__without_groups_it_is_what_the_machine_has(void **state)
{
	(void)state;
	put("/proc/meminfo", "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n");
	assert_true(df_memory_available(root) == 8 * GB);
}

static void test_memory__a_group_of_version_2_limits_it_and_so_do_those_above(void **state)
{
	(void)state;
	put("/proc/meminfo", "MemAvailable:    8388608 kB\n");
	put("/proc/self/cgroup", "0::/user/job\n");
	put("/sys/fs/cgroup/user/job/memory.max", "max\n");
	assert_true(df_memory_available(root) == 8 * GB);
	put("/sys/fs/cgroup/user/memory.max", "2147483648\n");
	assert_true(df_memory_available(root) == 2 * GB);
	put("/sys/fs/cgroup/user/job/memory.max", "1073741824\n");
	assert_true(df_memory_available(root) == GB);
}

static void test_memory__a_group_of_version_1_limits_it(void **state)
{
	(void)state;
	put("/proc/meminfo", "MemAvailable:    8388608 kB\n");
	put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n1:name=systemd:/\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "536870912\n");
	assert_true(df_memory_available(root) == GB / 2);
}

static void test_memory__inside_a_container_the_root_group_counts(void **state)
{
	(void)state;
	put("/proc/meminfo", "MemAvailable:    8388608 kB\n");
	put("/proc/self/cgroup", "0::/\n");
	put("/sys/fs/cgroup/memory.max", "3221225472\n");
	put("/sys/fs/cgroup/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n");
	assert_true(df_memory_available(root) == 3 * GB);
	assert_int_equal(df_memory_oom_kills(root), 2);
}

static void test_memory__kills_for_memory_are_counted_in_the_group_else_in_the_system(void **state)
{
	(void)state;
	assert_int_equal(df_memory_oom_kills(root), 0);
	put("/proc/vmstat", "nr_free_pages 5\noom_kill 7\nballoon 1\n");
	assert_int_equal(df_memory_oom_kills(root), 7);
	put("/proc/self/cgroup", "4:memory:/job\n");
	put("/sys/fs/cgroup/memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
	assert_int_equal(df_memory_oom_kills(root), 1);
}

static void test_memory__nothing_known_is_no_limit(void **state)
{
	struct df_memory_plan plan = {1, 1};
	(void)state;
	assert_true(df_memory_available(root) == UINT64_MAX);
	assert_int_equal(df_memory_plan(0, UINT64_MAX, 4, &plan, NULL), DF_OK);
	assert_int_equal(plan.limit, 0);
	assert_int_equal(plan.share, 0);
}

static void test_memory__shares_and_the_coordinators_part_are_the_limit(void **state)
{
	struct df_memory_plan plan;
	(void)state;
	assert_int_equal(df_memory_plan(512 * MB_BYTES, 8 * GB, 4, &plan, NULL), DF_OK);
	assert_true(plan.limit == 512 * MB_BYTES);
	assert_true(plan.share == (512 - 64) * MB_BYTES / 4);
	assert_int_equal(df_memory_plan(0, 10 * GB, 4, &plan, NULL), DF_OK);
	assert_true(plan.limit == 9 * GB);
	assert_true(plan.share * 4 + DF_COORDINATOR_BYTES_MAX == plan.limit);
}

static void test_memory__a_limit_that_is_too_small_for_the_workers_is_refused_with_the_reason(void **state)
{
	struct df_memory_plan plan;
	struct df_fail fail;
	(void)state;
	assert_int_equal(df_memory_plan(64 * MB_BYTES, 8 * GB, 4, &plan, &fail), DF_ERR_LIMIT);
	assert_non_null(strstr(fail.msg, "-j"));
	assert_non_null(strstr(fail.msg, "--mem-limit"));
	assert_int_equal(df_memory_plan(64 * MB_BYTES, 8 * GB, 1, &plan, &fail), DF_OK);
}

static void test_memory__a_process_has_the_pages_that_it_wrote_and_no_files(void **state)
{
	(void)state;
	uint64_t before = df_memory_own("", getpid());
	assert_true(before > 0);
	size_t size = 64 * MB_BYTES;
	char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(p != MAP_FAILED);
	assert_true(df_memory_own("", getpid()) < before + size / 2); /* reserved is not used */
	memset(p, 1, size);
	assert_true(df_memory_own("", getpid()) >= before + size * 9 / 10);
	(void)munmap(p, size);
	assert_true(df_memory_own("", getpid()) < before + size / 2);
	assert_int_equal(df_memory_own("", 0x3fffffff), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory__without_groups_it_is_what_the_machine_has, begin, end),
		cmocka_unit_test_setup_teardown(test_memory__a_group_of_version_2_limits_it_and_so_do_those_above,
						begin, end),
		cmocka_unit_test_setup_teardown(test_memory__a_group_of_version_1_limits_it, begin, end),
		cmocka_unit_test_setup_teardown(test_memory__inside_a_container_the_root_group_counts, begin, end),
		cmocka_unit_test_setup_teardown(
			test_memory__kills_for_memory_are_counted_in_the_group_else_in_the_system, begin, end),
		cmocka_unit_test_setup_teardown(test_memory__nothing_known_is_no_limit, begin, end),
		cmocka_unit_test(test_memory__shares_and_the_coordinators_part_are_the_limit),
		cmocka_unit_test(test_memory__a_limit_that_is_too_small_for_the_workers_is_refused_with_the_reason),
		cmocka_unit_test(test_memory__a_process_has_the_pages_that_it_wrote_and_no_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
