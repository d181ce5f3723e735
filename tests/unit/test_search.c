// SPDX-License-Identifier: Apache-2.0
/* test_search: the nearest rows of parts written here by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cli/search_store.h"
#include "worker/math/kernels.h"

#define DIM 20U

static char dir[64];
static const char *const names[] = {"part-00000.npy",        "part-00000.jsonl",    "part-00001.npy",
				    "part-00001.jsonl",      "part-00002.npy.open", "part-00002.jsonl.open",
				    "part-00001.jsonl.open", "rejects-00000.jsonl", ""};

static int enter(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/docflume-search-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int leave(void **state)
{
	char path[128];
	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (unlink(path) < 0)
			(void)rmdir(path);
	}
	return 0;
}

static void put(const char *name, const void *head, size_t n_head, const void *body, size_t n_body)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_true((!n_head || fwrite(head, n_head, 1, f)) && (!n_body || fwrite(body, n_body, 1, f)));
	assert_int_equal(fclose(f), 0);
}

/* `rows` vectors; the header says `said` rows (a part that is still written to says 0). */
static void put_vectors(const char *name, const float *v, size_t rows, size_t said, bool half)
{
	char head[DF_NPY_HEADER_BYTES];
	uint16_t *h = malloc(rows * DIM * sizeof(*h) + 1);
	assert_non_null(h);
	df_kernels()->to_f16(h, v, rows * DIM);
	df_npy_header(head, half ? DF_NPY_F16 : DF_NPY_F32, said, DIM);
	put(name, head, sizeof(head), half ? (const void *)h : v, rows * DIM * (half ? 2 : 4));
	free(h);
}

static void put_rows(const char *name, size_t from, size_t rows)
{
	char *text = malloc(rows * 32 + 1);
	size_t n = 0;
	assert_non_null(text);
	for (size_t i = 0; i < rows; i++)
		n += (size_t)snprintf(text + n, 32, "{\"id\":\"row %zu\"}\n", from + i);
	put(name, text, n, NULL, 0);
	free(text);
}

static void random_units(float *v, size_t rows, uint64_t seed)
{
	struct df_rand r = df_rand_seeded(&seed);
	for (size_t i = 0; i < rows * DIM; i++)
		v[i] = (float)(r.next(r.self) >> 40) * 0x1p-24F - 0.5F;
	df_kernels()->normalize(v, rows, DIM);
}

/* The rank of each hit must be that of a full comparison, its line that of its row. */
static void check(const float *v, size_t rows, bool unit, float tolerance)
{
	struct df_search_store s;
	struct df_search_hit hit[50];
	struct df_arena arena;
	struct df_fail fail = {.msg = ""};
	float query[DIM], last = 2;
	size_t n = 0;
	df_arena_init(&arena, 1U << 20, 0);
	random_units(query, 1, 99);
	if (df_search_open(&s, dir, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	assert_true(s.rows == rows && s.dim == DIM);
	assert_int_equal(df_search_nearest(&s, query, unit, 50, hit, &n, &fail), DF_OK);
	assert_int_equal(df_search_lines(&s, hit, n, &arena, &fail), DF_OK);
	assert_int_equal(n, rows < 50 ? rows : 50);
	for (size_t i = 0; i < n; i++) {
		char want[32];
		size_t better = 0, all = hit[i].row;
		for (size_t p = 0; p < hit[i].part; p++)
			all += s.part[p].npy.rows;
		for (size_t r = 0; r < rows; r++) {
			float dot = 0;
			for (size_t d = 0; d < DIM; d++)
				dot += query[d] * v[r * DIM + d];
			better += dot > hit[i].score + tolerance;
			if (r == all)
				assert_true(dot < hit[i].score + tolerance && dot > hit[i].score - tolerance);
		}
		assert_true(better <= i && hit[i].score <= last);
		last = hit[i].score;
		(void)snprintf(want, sizeof(want), "{\"id\":\"row %zu\"}", all);
		assert_non_null(hit[i].line.p);
		assert_string_equal(hit[i].line.p, want);
	}
	df_search_close(&s);
	df_search_close(&s);
	df_arena_release(&arena);
}

static void test_search__finds_what_a_full_comparison_finds(void **state)
{
	static float v[5000 * DIM];
	(void)state;
	random_units(v, 5000, 4);
	put_vectors("part-00001.npy", v + 3000 * DIM, 1100, 1100, false);
	put_rows("part-00001.jsonl", 3000, 1100);
	put_vectors("part-00000.npy", v, 3000, 3000, false);
	put_rows("part-00000.jsonl", 0, 3000);
	put_vectors("part-00002.npy.open", v + 4100 * DIM, 900, 0, false);
	put_rows("part-00002.jsonl.open", 4100, 901);
	put("rejects-00000.jsonl", "{}\n", 3, NULL, 0);
	check(v, 5000, true, 1e-6F);
	check(v, 5000, false, 1e-6F);
}

static void test_search__reads_half_precision_and_scales_what_is_not_of_length_one(void **state)
{
	static float v[300 * DIM], scaled[300 * DIM];
	(void)state;
	random_units(v, 300, 5);
	for (size_t i = 0; i < 300 * DIM; i++)
		scaled[i] = v[i] * (float)(1 + i / DIM % 7);
	put_vectors("part-00000.npy", scaled, 300, 300, true);
	put_rows("part-00000.jsonl", 0, 300);
	check(v, 300, false, 2e-3F);
}

static void test_search__of_equal_rows_the_earlier_comes_first(void **state)
{
	static float v[2000 * DIM];
	struct df_search_store s;
	struct df_search_hit hit[3];
	size_t n = 0;
	(void)state;
	for (size_t i = 0; i < 2000; i++)
		v[i * DIM] = i == 7 ? __builtin_nanf("") : 1;
	put_vectors("part-00000.npy", v, 2000, 2000, false);
	assert_int_equal(df_search_open(&s, dir, NULL), DF_OK);
	assert_int_equal(df_search_nearest(&s, v, true, 3, hit, &n, NULL), DF_OK);
	assert_int_equal(n, 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(hit[i].row == i && hit[i].score == 1);
	struct df_arena arena;
	df_arena_init(&arena, 1U << 20, 0);
	assert_int_equal(df_search_lines(&s, hit, 3, &arena, NULL), DF_OK); /* no .jsonl at all: vectors alone */
	assert_null(hit[0].line.p);
	df_arena_release(&arena);
	df_search_close(&s);
}

static void test_search__says_what_is_missing(void **state)
{
	struct df_search_store s;
	struct df_fail fail = {.msg = ""};
	float v[DIM] = {1};
	(void)state;
	assert_int_equal(df_search_open(&s, "/nowhere/at-all", &fail), DF_ERR_NOT_FOUND);
	df_search_close(&s);
	assert_int_equal(df_search_open(&s, dir, &fail), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "no .npy parts; run with --output-format both"));
	df_search_close(&s);
	put_vectors("part-00002.npy.open", v, 0, 0, false);
	assert_int_equal(df_search_open(&s, dir, &fail), DF_ERR_NOT_FOUND);
	assert_non_null(strstr(fail.msg, "no vectors yet"));
	df_search_close(&s);
	put_vectors("part-00000.npy", v, 1, 2, false);
	assert_int_equal(df_search_open(&s, dir, &fail), DF_ERR_CORRUPT);
	df_search_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_search__finds_what_a_full_comparison_finds, enter, leave),
		cmocka_unit_test_setup_teardown(test_search__reads_half_precision_and_scales_what_is_not_of_length_one,
						enter, leave),
		cmocka_unit_test_setup_teardown(test_search__of_equal_rows_the_earlier_comes_first, enter, leave),
		cmocka_unit_test_setup_teardown(test_search__says_what_is_missing, enter, leave),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
