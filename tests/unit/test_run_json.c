// SPDX-License-Identifier: Apache-2.0
/* run.json as text: for people in lines, and still the same JSON whatever is in its strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "coordinator/rundir/run_json.h"

static const struct df_json *formatted(const struct df_run_summary *s, struct df_buf *b, struct df_arena *arena)
{
	struct df_json *root = NULL;
	df_buf_init(b, DF_RUN_JSON_BYTES_MAX);
	df_arena_init(arena, 64U << 20, 0);
	assert_int_equal(df_run_json_format(s, b), DF_OK);
	assert_int_equal(df_json_parse(df_buf_str(b), arena, &root, NULL), DF_OK);
	return root;
}

static void test_run_json__strings_stay_what_they_are(void **state)
{
	static const char *const text[] = {
		"", "\\", "\"", "\\\"", "a\\", "{\"a\": [1,2], \"b\":{}}", "x,y:z", "a\nb\tc", "]}\\\\\"{[", "\\\\",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(text) / sizeof(*text); i++) {
		struct df_buf b;
		struct df_arena arena;
		struct df_str input[2] = {df_str_from(text[i]), DF_STR("other")};
		struct df_run_summary s = {
			.state = DF_STR("failed"),
			.error = df_str_from(text[i]),
			.pipeline = df_str_from(text[i]),
			.input = input,
			.n_input = 2,
		};
		const struct df_json *root = formatted(&s, &b, &arena);
		assert_true(df_str_is(df_json_get_str(root, "pipeline"), text[i]));
		const struct df_json *first = df_json_get(df_json_get(root, "inputs"), "first");
		assert_int_equal(first->n, 2);
		assert_true(df_str_is(first->child->string, text[i]));
		df_arena_release(&arena);
		df_buf_release(&b);
	}
}

static void test_run_json__each_member_has_a_line_and_two_blanks_a_level(void **state)
{
	struct df_buf b;
	struct df_arena arena;
	struct df_run_summary s = {.state = DF_STR("running"), .faults = {.source_errors = 3, .leases_redone = 7}};
	(void)state;
	const struct df_json *root = formatted(&s, &b, &arena);
	assert_int_equal(df_buf_addc(&b, '\0'), DF_OK);
	assert_int_equal(memcmp(b.p, "{\n  \"format_version\": 1,\n", 25), 0);
	assert_non_null(strstr(b.p, "\n  \"state\": \"running\",\n"));
	assert_non_null(strstr(b.p, "\n    \"filtered\": {},\n"));
	assert_non_null(strstr(b.p, "\n  \"parts\": []\n}\n"));
	const struct df_json *faults = df_json_get(root, "faults");
	assert_int_equal(df_json_get_u64(faults, "source_errors", 0), 3);
	assert_int_equal(df_json_get_u64(df_json_get(faults, "last_epoch"), "leases_redone", 0), 7);
	df_arena_release(&arena);
	df_buf_release(&b);
}

static void test_run_json__very_many_processes_are_counted_and_not_all_listed(void **state)
{
	enum { N = 300000 };
	struct df_buf b;
	struct df_arena arena;
	struct df_run_process *p = calloc(N, sizeof(*p));
	(void)state;
	assert_non_null(p);
	for (size_t i = 0; i < N; i++)
		p[i] = (struct df_run_process){DF_STR("worker"), i, 1, 0.5};
	struct df_run_summary s = {.state = DF_STR("finished"), .process = p, .n_process = N};
	const struct df_json *root = formatted(&s, &b, &arena);
	assert_int_equal(df_json_get_u64(root, "processes_total", 0), N);
	assert_int_equal(df_json_get(root, "processes")->n, DF_RUN_JSON_PROCESSES);
	free(p);
	df_arena_release(&arena);
	df_buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run_json__strings_stay_what_they_are),
		cmocka_unit_test(test_run_json__each_member_has_a_line_and_two_blanks_a_level),
		cmocka_unit_test(test_run_json__very_many_processes_are_counted_and_not_all_listed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
