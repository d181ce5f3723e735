// SPDX-License-Identifier: Apache-2.0
/* test_yaml_tree: any YAML as a tree: kinds, aliases, texts, bounds, places. (What files of the three kinds may say: test_yaml, test_template, test_models_table.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/yaml/yaml.h"

static struct df_arena arena;
static struct df_yaml y;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, 64 << 20, 0);
	memset(&y, 0, sizeof(y));
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_yaml_close(&y);
	df_arena_release(&arena);
	return 0;
}

static enum df_err open_bounded(const char *text, size_t bytes_max, size_t nodes_max)
{
	const struct df_yaml_source source = {df_str_from(text), "f.yaml", bytes_max, nodes_max};
	df_yaml_close(&y);
	return df_yaml_open(&y, &source, &arena, &fail);
}

static enum df_err open_text(const char *text)
{
	return open_bounded(text, 1 << 20, 1000);
}

static struct df_yaml_node *root_of(const char *text)
{
	struct df_yaml_node *root = NULL;
	assert_int_equal(open_text(text), DF_OK);
	assert_int_equal(df_yaml_visit(&y, y.root, &root), DF_OK);
	return root;
}

/* The value of a pair of the root, not yet visited. */
static struct df_yaml_node *value_of(const char *text, const char *name)
{
	struct df_yaml_node *root = root_of(text), *key, *value;
	void *at = NULL;
	while (df_yaml_next_pair(root, &at, &key, &value)) {
		struct df_str s = {NULL, 0};
		assert_int_equal(df_yaml_text(&y, key, "a key", &s), DF_OK);
		if (df_str_is(s, name))
			return value;
	}
	fail_msg("no '%s' in %s", name, text);
	return NULL;
}

static enum df_yaml_kind kind_in(const char *text, const char *name)
{
	struct df_yaml_node *node = NULL;
	assert_int_equal(df_yaml_visit(&y, value_of(text, name), &node), DF_OK);
	return df_yaml_kind(node);
}

static void test_yaml_tree__tells_the_kinds_apart(void **state)
{
	(void)state;
	assert_int_equal(kind_in("a: {b: c}", "a"), DF_YAML_MAP);
	assert_int_equal(kind_in("a: [b, c]", "a"), DF_YAML_LIST);
	assert_int_equal(kind_in("a: 5", "a"), DF_YAML_TEXT);
	assert_int_equal(kind_in("a: true", "a"), DF_YAML_TEXT);
	static const char *const null[] = {"a:", "a: ~", "a: null", "{\"a\": null}", "a: &x\nb: *x", "b: &x\na: *x"};
	for (size_t i = 0; i < sizeof(null) / sizeof(null[0]); i++)
		assert_int_equal(kind_in(null[i], "a"), DF_YAML_NULL);
	static const char *const quoted[] = {"a: ''", "a: \"~\"", "a: 'null'", "a: Null5", "a: |\n  null\n"};
	for (size_t i = 0; i < sizeof(quoted) / sizeof(quoted[0]); i++)
		assert_int_equal(kind_in(quoted[i], "a"), DF_YAML_TEXT);
}

static void test_yaml_tree__a_text_outlives_its_document(void **state)
{
	(void)state;
	struct df_str s = {NULL, 0};
	assert_int_equal(df_yaml_text(&y, value_of("a: \"two\\nlines\"", "a"), "it", &s), DF_OK);
	df_yaml_close(&y);
	assert_true(df_str_is(s, "two\nlines"));
	assert_int_equal(df_yaml_text(&y, value_of("a: ''", "a"), "it", &s), DF_OK);
	assert_true(s.n == 0 && s.p);
}

static void test_yaml_tree__an_alias_is_what_it_names(void **state)
{
	(void)state;
	struct df_str s = {NULL, 0};
	assert_int_equal(df_yaml_text(&y, value_of("a: &x word\nb: *x", "b"), "it", &s), DF_OK);
	assert_true(df_str_is(s, "word"));
	assert_int_equal(kind_in("a: &x [1]\nb: *x", "b"), DF_YAML_LIST);
	struct df_yaml_node *node = value_of("a: &x [*x]", "a"), *list = NULL, *item;
	void *at = NULL;
	assert_int_equal(df_yaml_visit(&y, node, &list), DF_OK);
	assert_non_null(item = df_yaml_next(list, &at)); /* itself, for ever: the walk ends at the budget */
	enum df_err err = DF_OK;
	for (int i = 0; err == DF_OK && i < 2000; i++)
		err = df_yaml_visit(&y, item, &list);
	assert_int_equal(err, DF_ERR_USAGE);
	assert_non_null(strstr(fail.msg, "more than 1000 values"));
}

static void test_yaml_tree__what_is_no_text_is_refused_with_its_place(void **state)
{
	(void)state;
	struct df_str s = {NULL, 0};
	assert_int_equal(df_yaml_text(&y, value_of("b: 1\na: [x]", "a"), "it", &s), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "f.yaml:2:5: it must be plain text, not a list or a mapping");
	assert_int_equal(df_yaml_text(&y, value_of("a: \"x\\0y\"", "a"), "it", &s), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "f.yaml:1:5: it is not valid text");
	assert_null(s.p);
}

static void test_yaml_tree__lists_are_walked_to_their_end(void **state)
{
	(void)state;
	struct df_yaml_node *list = root_of("[a, [b], {c: d}]"), *item;
	void *at = NULL;
	size_t n = 0;
	assert_int_equal(df_yaml_n_item(list), 3);
	while ((item = df_yaml_next(list, &at)) != NULL)
		n++;
	assert_int_equal(n, 3);
	assert_int_equal(df_yaml_n_item(root_of("{a: b}")), 0);
	assert_int_equal(df_yaml_n_item(root_of("a")), 0);
	assert_int_equal(df_yaml_n_item(NULL), 0);
}

static void test_yaml_tree__blanks_and_comments_say_nothing(void **state)
{
	(void)state;
	static const char *const empty[] = {"", "\n", "# all of it\n  # is commented out\n", "\t \r\n"};
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++) {
		assert_int_equal(open_text(empty[i]), DF_OK);
		assert_null(y.root);
	}
}

static void test_yaml_tree__is_bounded(void **state)
{
	(void)state;
	struct df_yaml_node *node;
	assert_int_equal(open_bounded("a: bc", 5, 10), DF_OK);
	assert_int_equal(open_bounded("a: bcd", 5, 10), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "f.yaml has 6 bytes; at most 5 are read");
	assert_int_equal(open_bounded("a: b", 100, 2), DF_OK);
	assert_int_equal(df_yaml_visit(&y, y.root, &node), DF_OK);
	assert_int_equal(df_yaml_visit(&y, y.root, &node), DF_OK);
	assert_int_equal(df_yaml_visit(&y, y.root, &node), DF_ERR_USAGE);
	static char deep[2001];
	memset(deep, '[', 1000);
	memset(deep + 1000, ']', 1000);
	assert_int_equal(open_text(deep), DF_ERR_USAGE);
}

static void test_yaml_tree__a_broken_file_has_a_place(void **state)
{
	(void)state;
	assert_int_equal(open_text("a: 1\nb: [2\n"), DF_ERR_USAGE);
	assert_true(df_str_starts(df_str_from(fail.msg), "f.yaml:"));
	assert_int_equal(open_text("a: \xff"), DF_ERR_USAGE);
	assert_string_equal(fail.msg, "f.yaml: not valid UTF-8 at byte 3");
	assert_null(y.root);
}

static void test_yaml_tree__memory_that_runs_out_is_said(void **state)
{
	(void)state;
	struct df_arena small;
	struct df_str s = {NULL, 0};
	static char text[70000] = "a: ";
	memset(text + 3, 'x', sizeof(text) - 4);
	df_arena_init(&small, 4096, 0);
	struct df_yaml_node *node = value_of(text, "a");
	y.arena = &small;
	assert_int_equal(df_yaml_text(&y, node, "it", &s), DF_ERR_NOMEM);
	assert_string_equal(fail.msg, "f.yaml: no memory");
	df_arena_release(&small);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_yaml_tree__tells_the_kinds_apart),
		T(test_yaml_tree__a_text_outlives_its_document),
		T(test_yaml_tree__an_alias_is_what_it_names),
		T(test_yaml_tree__what_is_no_text_is_refused_with_its_place),
		T(test_yaml_tree__lists_are_walked_to_their_end),
		T(test_yaml_tree__blanks_and_comments_say_nothing),
		T(test_yaml_tree__is_bounded),
		T(test_yaml_tree__a_broken_file_has_a_place),
		T(test_yaml_tree__memory_that_runs_out_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
