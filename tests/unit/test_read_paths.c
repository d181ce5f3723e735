// SPDX-License-Identifier: Apache-2.0
/* test_read_paths: what children may read covers every input, through links, and stays a short list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "coordinator/children/read_paths.h"

#define N_MANY 6000

static char dir[64];
static struct df_read_paths paths;
static struct df_fail fail;

static int setup(void **state)
{
	char real[4096];
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/docflume-paths-XXXXXX");
	assert_non_null(mkdtemp(dir));
	assert_non_null(realpath(dir, real));
	(void)snprintf(dir, sizeof(dir), "%.60s", real);
	return 0;
}

static int teardown(void **state)
{
	char command[128];
	(void)state;
	df_read_paths_release(&paths);
	(void)snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static char *path_of(const char *name)
{
	char *path = NULL;
	assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
	return path;
}

static void make(const char *name)
{
	char *path = path_of(name);
	for (size_t i = strlen(dir) + 1; path[i]; i++) {
		if (path[i] != '/')
			continue;
		path[i] = '\0';
		(void)mkdir(path, 0755);
		path[i] = '/';
	}
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fclose(f);
	free(path);
}

static void find(const char *const *name, size_t n)
{
	struct df_source *source = calloc(n, sizeof(*source));
	assert_non_null(source);
	for (size_t i = 0; i < n; i++)
		source[i].path = name[i][0] == '/' || name[i][0] == '-' ? strdup(name[i]) : path_of(name[i]);
	struct df_dataset d = {.source = source, .n_source = n};
	df_read_paths_release(&paths);
	assert_int_equal(df_read_paths_of(&d, &paths, &fail), DF_OK);
	for (size_t i = 0; i < n; i++)
		free((char *)(uintptr_t)source[i].path);
	free(source);
}

static bool covers(const char *name)
{
	char *path = path_of(name);
	bool found = false;
	for (size_t i = 0; i < paths.n; i++)
		found |= strncmp(path, paths.path[i].p, paths.path[i].n) == 0 &&
			 (path[paths.path[i].n] == '\0' || path[paths.path[i].n] == '/');
	free(path);
	return found;
}

static void test_read_paths__few_inputs_are_named_one_by_one(void **state)
{
	(void)state;
	make("a/x");
	make("a/y");
	make("b/z");
	find((const char *const[]){"a/x", "b/z", "-"}, 3);
	assert_int_equal(paths.n, 2);
	assert_true(covers("a/x") && covers("b/z"));
	assert_false(covers("a/y"));
	assert_false(covers("a"));
}

static void test_read_paths__links_are_followed_to_where_they_lead(void **state)
{
	(void)state;
	make("far/file");
	make("far/other");
	char *link = path_of("link"), *folder = path_of("folder"), *file = path_of("far/file"), *far = path_of("far");
	assert_int_equal(symlink(file, link), 0);
	assert_int_equal(symlink(far, folder), 0);
	find((const char *const[]){"link"}, 1);
	assert_true(covers("far/file"));
	assert_false(covers("far/other"));
	find((const char *const[]){"folder/other"}, 1);
	assert_true(covers("far/other"));
	free(link);
	free(folder);
	free(file);
	free(far);
}

static void test_read_paths__what_is_not_there_has_no_entry(void **state)
{
	(void)state;
	find((const char *const[]){"never/was", "-"}, 2);
	assert_int_equal(paths.n, 0);
}

/* Many folders at several depths, among them names that sort between a folder and what is in it. */
static void test_read_paths__many_inputs_make_a_short_list_that_still_covers_them(void **state)
{
	(void)state;
	char **name = calloc(N_MANY, sizeof(*name));
	assert_non_null(name);
	for (int i = 0; i < N_MANY; i++) {
		assert_true(asprintf(&name[i], "d%d/e%s%d/f%d/x", i % 50, i % 3 ? "-" : "", i % 7, i) > 0);
		make(name[i]);
	}
	make("elsewhere/x");
	find((const char *const *)name, N_MANY);
	assert_in_range(paths.n, 1, DF_READ_PATHS_MAX);
	for (int i = 0; i < N_MANY; i++)
		assert_true(covers(name[i]));
	assert_false(covers("elsewhere/x"));
	for (size_t i = 0; i < paths.n; i++)
		for (size_t k = 0; k < paths.n; k++)
			assert_false(i != k && strncmp(paths.path[i].p, paths.path[k].p, paths.path[k].n) == 0 &&
				     paths.path[i].p[paths.path[k].n] == '/');
	for (int i = 0; i < N_MANY; i++)
		free(name[i]);
	free(name);
}

static void test_read_paths__among_many_a_link_leads_out_of_its_folder(void **state)
{
	(void)state;
	char *name[101];
	for (int i = 0; i < 100; i++) {
		assert_true(asprintf(&name[i], "in/x%03d", i) > 0);
		make(name[i]);
	}
	make("out/there/file");
	make("out/secret");
	char *link = path_of("in/x050b"), *target = path_of("out/there/file");
	assert_int_equal(symlink(target, link), 0);
	name[100] = strdup("in/x050b");
	find((const char *const *)name, 101);
	assert_true(covers("in/x000") && covers("in/x099") && covers("out/there/file"));
	assert_false(covers("out/secret"));
	for (int i = 0; i < 101; i++)
		free(name[i]);
	free(link);
	free(target);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_read_paths__few_inputs_are_named_one_by_one),
		T(test_read_paths__links_are_followed_to_where_they_lead),
		T(test_read_paths__what_is_not_there_has_no_entry),
		T(test_read_paths__many_inputs_make_a_short_list_that_still_covers_them),
		T(test_read_paths__among_many_a_link_leads_out_of_its_folder),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
