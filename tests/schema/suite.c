// SPDX-License-Identifier: Apache-2.0
/*
 * suite: runs the official JSON-Schema-Test-Suite against worker/check.
 *
 *   schema_suite DIR EXPECTED [URI FILE]...
 *
 * DIR is tests/draft2020-12 of the suite; further documents come as pairs. Prints the rate of each file and of all; exits 1 when a test fails that
 * EXPECTED does not name ("file: case: test" on a line, or "file: *"), or one is named there that passes.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "worker/check/schema.h"

#define DOCS_MAX 512
#define NAMES_MAX 256
#define FILE_BYTES_MAX ((size_t)16 << 20)

struct rate {
	unsigned passed, all;
};

static struct df_schema_doc docs[DOCS_MAX];
static size_t n_docs;
static struct df_arena arena; /* of the whole run */
static struct df_str expected;
static unsigned n_surprises, n_expected;

static struct df_str slurp(const char *path)
{
	FILE *f = fopen(path, "rb");
	long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
	char *p = size >= 0 && (size_t)size < FILE_BYTES_MAX ? df_arena_alloc(&arena, (size_t)size + 1) : NULL;
	if (!p || fseek(f, 0, SEEK_SET) != 0 || fread(p, 1, (size_t)size, f) != (size_t)size) {
		(void)fprintf(stderr, "cannot read '%s'\n", path);
		exit(2);
	}
	(void)fclose(f);
	p[size] = '\0';
	return (struct df_str){p, (size_t)size};
}

/* Is there a line that says so? */
static bool has_line(const char *line)
{
	size_t n = strlen(line);
	for (const char *p = expected.p; (p = strstr(p, line)); p++)
		if ((p == expected.p || p[-1] == '\n') && (p[n] == '\n' || p[n] == '\0'))
			return true;
	return false;
}

static bool is_expected(const char *file, const char *full)
{
	char all[512];
	(void)snprintf(all, sizeof(all), "%.200s: *", file);
	return has_line(full) || has_line(all);
}

static void judge(const char *file, struct df_str title, struct df_str test, bool passed, const char *got)
{
	char full[1024];
	(void)snprintf(full, sizeof(full), "%.200s: " DF_STR_FMT ": " DF_STR_FMT, file, DF_STR_ARG(title),
		       DF_STR_ARG(test));
	if (!passed && is_expected(file, full)) {
		n_expected++;
	} else if (!passed) {
		printf("FAILED %s (%s)\n", full, got);
		n_surprises++;
	} else if (has_line(full)) {
		printf("PASSED although it is on the list: %s\n", full);
		n_surprises++;
	}
}

static void run_case(const char *file, const struct df_json *one, struct rate *rate)
{
	struct df_schema *schema = NULL;
	struct df_fail fail = {.msg = ""};
	struct df_str title = df_json_get_str(one, "description");
	enum df_err made = df_schema_compile_among(df_json_get(one, "schema")->raw, docs, n_docs, &schema, &fail);
	for (const struct df_json *t = df_json_get(one, "tests")->child; t; t = t->next) {
		struct df_arena scratch;
		df_arena_init(&scratch, (size_t)64 << 20, 0);
		bool want = df_json_get(t, "valid")->boolean;
		enum df_err err = made;
		struct df_buf why;
		df_buf_init(&why, 65536);
		if (made == DF_OK)
			err = df_schema_check(schema, df_json_get(t, "data")->raw, &scratch, &why);
		bool passed = made == DF_OK && err == (want ? DF_OK : DF_ERR_TYPE) && (want || why.n > 0);
		rate->all++;
		rate->passed += passed;
		judge(file, title, df_json_get_str(t, "description"), passed,
		      made != DF_OK ? fail.msg : df_err_name(err));
		df_buf_release(&why);
		df_arena_release(&scratch);
	}
	df_schema_free(&schema);
}

static void run_file(const char *dir, const char *name, struct rate *sum)
{
	char path[1024];
	struct df_arena mine;
	struct df_json *root = NULL;
	struct df_fail fail = {.msg = ""};
	struct rate rate = {0, 0};
	(void)snprintf(path, sizeof(path), "%.700s/%.300s", dir, name);
	struct df_str text = slurp(path);
	df_arena_init(&mine, (size_t)256 << 20, 0);
	if (df_json_parse(text, &mine, &root, &fail) != DF_OK) {
		printf("FAILED %s: %s\n", name, fail.msg);
		n_surprises++;
	}
	for (const struct df_json *one = root ? root->child : NULL; one; one = one->next)
		run_case(name, one, &rate);
	printf("%-45s %4u of %4u\n", name, rate.passed, rate.all);
	sum->passed += rate.passed;
	sum->all += rate.all;
	df_arena_release(&mine);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static struct rate run_folder(const char *dir, const char *below)
{
	static char name[NAMES_MAX][256];
	char path[1024];
	size_t n = 0;
	struct rate sum = {0, 0};
	(void)snprintf(path, sizeof(path), "%.700s/%.300s", dir, below);
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d)) && n < NAMES_MAX;)
		if (df_str_ends(df_str_from(e->d_name), ".json"))
			(void)snprintf(name[n++], sizeof(name[0]), "%s%.200s", below, e->d_name);
	if (d)
		(void)closedir(d);
	qsort(name, n, sizeof(name[0]), by_name);
	for (size_t i = 0; i < n; i++)
		run_file(dir, name[i], &sum);
	return sum;
}

static void print_sum(const char *what, struct rate r)
{
	printf("%s: %u of %u tests pass (%.2f %%)\n", what, r.passed, r.all, r.all ? 100.0 * r.passed / r.all : 0);
}

int main(int argc, char **argv)
{
	if (argc < 3 || argc % 2 == 0)
		return 2;
	df_arena_init(&arena, (size_t)4 << 30, 0);
	expected = slurp(argv[2]);
	for (int i = 3; i + 1 < argc && n_docs < DOCS_MAX; i += 2)
		docs[n_docs++] = (struct df_schema_doc){df_str_from(argv[i]), slurp(argv[i + 1])};
	struct rate mandatory = run_folder(argv[1], "");
	struct rate optional = run_folder(argv[1], "optional/");
	struct rate format = run_folder(argv[1], "optional/format/");
	print_sum("mandatory", mandatory);
	print_sum("optional", optional);
	print_sum("optional formats (annotations here)", format);
	printf("%u failures are expected, %u are surprises\n", n_expected, n_surprises);
	bool thin = mandatory.all < 1000;
	if (thin)
		printf("that cannot be all of the suite\n");
	df_arena_release(&arena);
	return n_surprises || thin ? 1 : 0;
}
