// SPDX-License-Identifier: Apache-2.0
/* test_schema: JSON Schema without a network: what is told of an answer, bounds, hostile schemas. (The official suite: tests/schema.) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/limits.h"
#include "worker/check/decimal.h"
#include "worker/check/schema.h"
#include "worker/check/schema_pattern.h"
#include "worker/check/uri.h"

static struct df_arena arena;
static struct df_buf why;
static struct df_fail fail;

static int setup(void **state)
{
	(void)state;
	df_arena_init(&arena, (size_t)512 << 20, 0);
	df_buf_init(&why, 1 << 20);
	fail.msg[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	df_buf_release(&why);
	df_arena_release(&arena);
	return 0;
}

static enum df_err check(const char *schema, struct df_str json)
{
	struct df_schema *s = NULL;
	enum df_err err = df_schema_compile(df_str_from(schema), &s, &fail);
	if (err != DF_OK)
		fail_msg("%s: %s", schema, fail.msg);
	df_buf_reset(&why);
	err = df_schema_check(s, json, &arena, &why);
	df_schema_free(&s);
	return err;
}

static void assert_says(const char *schema, const char *json, const char *words)
{
	assert_int_equal(check(schema, df_str_from(json)), DF_ERR_TYPE);
	assert_string_equal(df_buf_z(&why), words);
}

static void assert_ok(const char *schema, const char *json)
{
	if (check(schema, df_str_from(json)) != DF_OK)
		fail_msg("%s on %s: %s", schema, json, df_buf_z(&why));
}

static void assert_refused(const char *schema, const char *words)
{
	struct df_schema *s = NULL;
	assert_int_not_equal(df_schema_compile(df_str_from(schema), &s, &fail), DF_OK);
	assert_null(s);
	if (!strstr(fail.msg, words))
		fail_msg("%s: said '%s' and not '%s'", schema, fail.msg, words);
}

static void test_schema__errors_name_the_place_and_what_is_wanted(void **state)
{
	(void)state;
	assert_says("{\"properties\":{\"items\":{\"items\":{\"properties\":{\"price\":{\"type\":\"number\"}}}}}}",
		    "{\"items\":[{\"price\":\"abc\"}]}", "/items/0/price: 'abc' is not of type number\n");
	assert_says("{\"type\":\"object\"}", "[]", "/: [] is not of type object\n");
	assert_says("{\"required\":[\"a\",\"b\"]}", "{\"b\":1}", "/: the required property 'a' is missing\n");
	assert_says("{\"properties\":{\"a/b\":{\"enum\":[\"x\",1,null]}}}", "{\"a/b\":\"y\"}",
		    "/a~1b: 'y' is not one of 'x', 1, null\n");
	assert_says("{\"additionalProperties\":false}", "{\"extra\":1}",
		    "/: the property 'extra' is not allowed; leave it out\n");
	assert_says("{\"items\":{\"minimum\":1,\"maximum\":5}}", "[0,3,9]",
		    "/0: 0 is less than the minimum of 1\n/2: 9 is more than the maximum of 5\n");
	assert_says("{\"minItems\":2}", "[1]", "/: 1 items; at least 2 are required\n");
	assert_says("{\"pattern\":\"^a\"}", "\"b\"", "/: 'b' does not match the pattern '^a'\n");
	assert_says("{\"uniqueItems\":true}", "[1,{\"a\":1,\"b\":2},{\"b\":2.0,\"a\":1e0}]",
		    "/: items 1 and 2 are the same; each must be different\n");
}

static void test_schema__of_alternatives_the_nearest_speaks(void **state)
{
	(void)state;
	assert_says("{\"anyOf\":[{\"type\":\"string\"},{\"properties\":{\"a\":{\"type\":\"integer\"}},\"type\":"
		    "\"object\"}]}",
		    "{\"a\":\"x\"}",
		    "/: none of the 2 alternatives of 'anyOf' fits; the nearest is number 2:\n"
		    "/a: 'x' is not of type integer\n");
	assert_says("{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "3",
		    "/: more than one of the 2 alternatives of 'oneOf' fits; exactly one must\n");
}

static void test_schema__tells_at_most_eight_errors(void **state)
{
	(void)state;
	size_t lines = 0;
	assert_int_equal(check("{\"items\":{\"type\":\"string\"}}", DF_STR("[1,2,3,4,5,6,7,8,9,10,11,12]")),
			 DF_ERR_TYPE);
	for (const char *p = df_buf_z(&why); *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, DF_SCHEMA_ERRORS);
}

static void test_schema__what_is_no_json_is_told_with_its_place(void **state)
{
	(void)state;
	assert_int_equal(check("true", DF_STR("{\"a\": }")), DF_ERR_PARSE);
	assert_string_equal(df_buf_z(&why), "/: it is not JSON: not a JSON value at line 1, column 7\n");
	assert_int_equal(check("true", DF_STR("Sure! {\"a\": 1}")), DF_ERR_PARSE);
	assert_int_equal(check("true", DF_STR("{\"a\": 1} done")), DF_ERR_PARSE);
	assert_int_equal(check("true", DF_STR("")), DF_ERR_PARSE);
}

static void test_schema__wrong_schemas_are_refused_with_their_place(void **state)
{
	(void)state;
	assert_refused("{\"properties\":{\"a\":{\"type\":\"strin\"}}}", "at '/properties/a/type': a type is one of");
	assert_refused("{\"required\":\"a\"}", "at '/required': it must be a list of strings");
	assert_refused("{\"items\":[{}]}", "'prefixItems'");
	assert_refused("{\"$ref\":\"#/$defs/x\"}", "at '/$ref': it refers to '#/$defs/x', where nothing is");
	assert_refused("{\"$ref\":\"https://example.org/x.json\"}", "nothing is fetched");
	assert_refused("{\"minLength\":-1}", "whole number that is not negative");
	assert_refused("{\"minLength\":1.5}", "whole number that is not negative");
	assert_refused("{\"multipleOf\":0}", "above 0");
	assert_refused("{\"pattern\":\"(\"}", "no regular expression");
	assert_refused("{\"allOf\":[]}", "at least one");
	assert_refused("{\"not\":1}", "a schema is an object, true or false");
	assert_refused("{\"a\":", "line 1");
	assert_refused("[]", "a schema is an object, true or false");
}

static void test_schema__of_keywords_that_are_there_twice_the_last_counts(void **state)
{
	(void)state;
	const char *schema = "{\"type\":\"string\",\"properties\":{\"a\":{\"type\":\"null\"},\"b\":false},"
			     "\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}";
	assert_ok(schema, "{\"a\":1,\"b\":2}");
	assert_says(schema, "{\"a\":null}", "/a: null is not of type integer\n");
	assert_says(schema, "\"x\"", "/: 'x' is not of type object\n");
}

static void test_schema__references_may_run_in_circles(void **state)
{
	(void)state;
	const char *tree = "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"required\":[\"v\"],"
			   "\"properties\":{\"kids\":{\"items\":{\"$ref\":\"#/$defs/node\"}}}}}}";
	assert_ok(tree, "{\"v\":1,\"kids\":[{\"v\":2},{\"v\":3,\"kids\":[]}]}");
	assert_says(tree, "{\"v\":1,\"kids\":[{\"v\":2},{\"kids\":[]}]}",
		    "/kids/1: the required property 'v' is missing\n");
}

static void assert_loops(const char *schema, const char *words)
{
	struct df_schema *s = NULL;
	struct df_fail told = {.msg = ""};
	assert_int_equal(df_schema_compile(df_str_from(schema), &s, &told), DF_ERR_USAGE);
	assert_null(s);
	assert_non_null(strstr(told.msg, "leads back to itself"));
	if (!strstr(told.msg, words))
		fail_msg("'%s' does not have '%s'", told.msg, words);
}

static void test_schema__a_circle_that_steps_into_nothing_is_refused(void **state)
{
	(void)state;
	assert_loops("{\"$ref\":\"#\"}", "at '/$ref'");
	assert_loops(
		"{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}}}",
		"(/$defs/a/$ref, /$defs/b/$ref)");
	assert_loops("{\"allOf\":[{\"anyOf\":[{\"type\":\"null\"},{\"oneOf\":[{\"$ref\":\"#\"}]}]}]}",
		     "/allOf/0/anyOf/1/oneOf/0/$ref");
	assert_loops("{\"not\":{\"if\":true,\"then\":{\"$ref\":\"#\"}}}", "/not/then/$ref");
	assert_loops("{\"if\":{\"else\":{\"$ref\":\"#\"}}}", "/if/else/$ref");
	assert_loops("{\"dependentSchemas\":{\"a\":{\"$ref\":\"#\"}}}", "/dependentSchemas/a/$ref");
	assert_loops("{\"$dynamicRef\":\"#\"}", "/$dynamicRef");
	assert_loops("{\"properties\":{\"a\":{\"$id\":\"x:/y\",\"$ref\":\"y\"}}}", "/properties/a/$ref");
	assert_loops("{\"$defs\":{\"unused\":{\"$ref\":\"#/$defs/unused\"}}}", "/$defs/unused/$ref");
}

/* One schema named twice on the same value, or a circle through a value's parts, is none. */
static void test_schema__circles_that_end_are_taken(void **state)
{
	(void)state;
	assert_ok("{\"allOf\":[{\"$ref\":\"#/$defs/i\"},{\"anyOf\":[{\"$ref\":\"#/$defs/"
		  "i\"}]}],\"$defs\":{\"i\":{\"type\":"
		  "\"integer\"}}}",
		  "1");
	assert_ok("{\"anyOf\":[{\"type\":\"integer\"},{\"items\":{\"$ref\":\"#\"}}]}", "[1,[2,[]]]");
	assert_ok("{\"additionalProperties\":{\"not\":{\"not\":{\"$ref\":\"#\"}}}}", "{\"a\":{\"b\":{}}}");
	assert_ok("{\"propertyNames\":{\"$ref\":\"#\"},\"contains\":{\"$ref\":\"#\"}}", "{\"a\":1}");
}

/* As long a chain as a schema of 1 MB holds needs no stack, and no more time than its length. */
static void test_schema__a_long_chain_of_references_is_searched_quickly(void **state)
{
	(void)state;
	struct df_buf b;
	struct df_schema *s = NULL;
	df_buf_init(&b, 1 << 20);
	(void)df_buf_addz(&b, "{\"$ref\":\"#/$defs/0\",\"$defs\":{");
	for (int i = 0; i < 3000; i++)
		(void)df_buf_addf(&b, "\"%d\":{\"$ref\":\"#/$defs/%d\"},", i, i + 1);
	size_t open = b.n;
	(void)df_buf_addz(&b, "\"3000\":{\"type\":\"null\"}}}");
	assert_int_equal(df_schema_compile(df_buf_str(&b), &s, NULL), DF_OK);
	df_schema_free(&s);
	b.n = open;
	(void)df_buf_addz(&b, "\"3000\":{\"$ref\":\"#/$defs/0\"}}}");
	assert_loops(df_buf_z(&b), "/$defs/0/$ref, /$defs/1/$ref, /$defs/2/$ref, /$defs/3/$ref, ...");
	df_buf_release(&b);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_TIMES 8 /* frames are larger */
#else
#define STACK_TIMES 1
#endif

static void *walk_deep(void *arg)
{
	static const char in_place[] = "{\"$dynamicAnchor\":\"x\",\"allOf\":[{\"anyOf\":[{\"oneOf\":[{\"if\":true,"
				       "\"then\":{\"$dynamicRef\":\"#x\"}}]}]}],"
				       "\"unevaluatedProperties\":false}";
	static const char members[] =
		"{\"$dynamicAnchor\":\"x\",\"propertyNames\":true,\"additionalProperties\":{\"$ref\":\"#\"},"
		"\"not\":{\"not\":{\"$dynamicRef\":\"#x\"}}}";
	static const char *const schema[] = {"{\"$dynamicAnchor\":\"x\",\"$dynamicRef\":\"#x\"}", in_place, members};
	struct df_arena own;
	for (size_t i = 0; i < sizeof(schema) / sizeof(schema[0]); i++) {
		struct df_schema *s = NULL;
		df_arena_init(&own, 64 << 20, 0);
		if (df_schema_compile(df_str_from(schema[i]), &s, NULL) != DF_OK ||
		    df_schema_check(s, DF_STR("{\"a\":{\"b\":{\"c\":1}}}"), &own, NULL) != DF_ERR_LIMIT)
			*(bool *)arg = false;
		df_schema_free(&s);
		df_arena_release(&own);
	}
	return NULL;
}

/* Half of what a worker's threads have: the deepest walk ends by its count. */
static void test_schema__the_deepest_walk_fits_a_small_stack(void **state)
{
	(void)state;
	pthread_attr_t attr;
	pthread_t thread;
	bool ok = true;
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, (size_t)STACK_TIMES * DF_NETWORK_STACK_BYTES / 2), 0);
	assert_int_equal(pthread_create(&thread, &attr, walk_deep, &ok), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	(void)pthread_attr_destroy(&attr);
	assert_true(ok);
}

/* Each level asks for the next twice: 2^40 checks if nothing counted them. */
static void test_schema__work_is_bounded(void **state)
{
	(void)state;
	struct df_buf b;
	struct timespec from, to;
	df_buf_init(&b, 1 << 20);
	(void)df_buf_addz(&b, "{\"$ref\":\"#/$defs/0\",\"$defs\":{\"40\":{\"type\":\"string\"}");
	for (int i = 0; i < 40; i++)
		(void)df_buf_addf(&b, ",\"%d\":{\"allOf\":[{\"$ref\":\"#/$defs/%d\"},{\"$ref\":\"#/$defs/%d\"}]}", i,
				  i + 1, i + 1);
	(void)df_buf_addz(&b, "}}");
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	assert_int_equal(check(df_buf_z(&b), DF_STR("\"x\"")), DF_ERR_LIMIT);
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	assert_true(to.tv_sec - from.tv_sec <= 20);
	df_buf_release(&b);
}

static void test_schema__patterns_that_explode_end_as_a_limit(void **state)
{
	(void)state;
	struct timespec from, to;
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	assert_int_equal(
		check("{\"pattern\":\"^(a+)+$\"}", DF_STR("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"")),
		DF_ERR_LIMIT);
	assert_int_equal(check("{\"items\":{\"not\":{\"pattern\":\"(x+x+)+[yz]\"}}}",
			       DF_STR("[\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"]")),
			 DF_ERR_LIMIT);
	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	assert_true(to.tv_sec - from.tv_sec <= 5);
}

static void test_schema__a_hundred_thousand_items_are_compared_by_hash(void **state)
{
	(void)state;
	struct df_buf b;
	df_buf_init(&b, 4 << 20);
	(void)df_buf_addc(&b, '[');
	for (int i = 0; i < 100000; i++)
		(void)df_buf_addf(&b, "%s%d", i ? "," : "", i);
	(void)df_buf_addz(&b, "]");
	assert_int_equal(check("{\"uniqueItems\":true}", df_buf_str(&b)), DF_OK);
	b.n--;
	(void)df_buf_addz(&b, ",77777.0]");
	assert_int_equal(check("{\"uniqueItems\":true}", df_buf_str(&b)), DF_ERR_TYPE);
	assert_string_equal(df_buf_z(&why), "/: items 77777 and 100000 are the same; each must be different\n");
	df_buf_release(&b);
}

static void test_schema__depth_of_schemas_and_values_is_bounded(void **state)
{
	(void)state;
	char deep[400];
	memset(deep, '[', 200);
	memset(deep + 200, ']', 200);
	assert_int_equal(check("true", (struct df_str){deep, 400}), DF_ERR_LIMIT);
	struct df_schema *s = NULL;
	assert_int_equal(df_schema_compile((struct df_str){deep, 400}, &s, &fail), DF_ERR_LIMIT);
}

static int compare(const char *a, const char *b)
{
	struct df_decimal x = df_decimal_of(df_str_from(a)), y = df_decimal_of(df_str_from(b));
	assert_int_equal(df_decimal_compare(&y, &x), -df_decimal_compare(&x, &y));
	return df_decimal_compare(&x, &y);
}

static bool multiple(const char *a, const char *b)
{
	struct df_decimal x = df_decimal_of(df_str_from(a)), y = df_decimal_of(df_str_from(b));
	return df_decimal_is_multiple(&x, &y);
}

static void test_decimal__numbers_are_what_they_say(void **state)
{
	(void)state;
	assert_int_equal(compare("1", "1.0"), 0);
	assert_int_equal(compare("100", "1e2"), 0);
	assert_int_equal(compare("-0", "0.000"), 0);
	assert_int_equal(compare("9007199254740993", "9007199254740992"), 1);
	assert_int_equal(compare("0.1", "0.10000000000000000001"), -1);
	assert_int_equal(compare("-2", "1"), -1);
	assert_int_equal(compare("-2", "-1"), -1);
	assert_int_equal(compare("1e400", "1e399"), 1);
	assert_int_equal(compare("1e99999999999999999999", "1"), 1);
	assert_int_equal(compare("12.34e-2", "0.1234"), 0);
	assert_true(multiple("0.0075", "0.0001"));
	assert_false(multiple("0.00751", "0.0001"));
	assert_true(multiple("1e308", "0.5"));
	assert_true(multiple("4.5", "1.5"));
	assert_false(multiple("35", "1.5"));
	assert_false(multiple("1e308", "0.123456789"));
	assert_true(multiple("0", "3"));
	assert_true(multiple("12391239123", "1e-8"));
	assert_ok("{\"type\":\"integer\"}", "1.0");
	assert_ok("{\"type\":\"integer\"}", "12345678910111213141516171819202122232425262728293031");
}

/* Against the arithmetic of machine words. */
static void test_decimal__agrees_with_integers(void **state)
{
	(void)state;
	uint64_t seed = 7;
	for (int i = 0; i < 200000; i++) {
		char x[64], y[64];
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
		int64_t a = (int64_t)(seed >> 33) % 100000, b = (int64_t)(seed >> 13) % 1000 + 1;
		(void)snprintf(x, sizeof(x), "%lld.%02lld", (long long)(a / 100), (long long)(a % 100));
		(void)snprintf(y, sizeof(y), "%llde-2", (long long)b);
		assert_int_equal(multiple(x, y), a % b == 0);
		assert_int_equal(compare(x, y), (a > b) - (a < b));
	}
}

static bool finds(const char *pattern, const char *text)
{
	struct df_pattern *p = NULL;
	uint64_t work = 1000000;
	bool found = false;
	if (df_pattern_compile(df_str_from(pattern), &p, &fail) != DF_OK)
		fail_msg("%s", fail.msg);
	assert_int_equal(df_pattern_match(p, df_str_from(text), &work, &found), DF_OK);
	df_pattern_free(&p);
	return found;
}

static void test_pattern__means_what_ecma_says(void **state)
{
	(void)state;
	assert_true(finds("es", "expression says yes"));
	assert_false(finds("^abc$", "abc\n"));
	assert_false(finds("^\\d$", "\xe0\xa7\xaa")); /* a Bengali digit */
	assert_false(finds("^\\w$", "\xc3\xa9"));     /* e acute */
	assert_true(finds("^\\W$", "\xc3\xa9"));
	assert_true(finds("^\\s$", "\xef\xbb\xbf")); /* U+FEFF */
	assert_true(finds("^\\s$", "\xe2\x80\xa9")); /* a paragraph's end */
	assert_false(finds("^\\S$", "\xc2\xa0"));
	assert_true(finds("^[\\s]$", "\xc2\xa0"));
	assert_false(finds("^.$", "\xe2\x80\xa8"));
	assert_true(finds("^.$", "\xf0\x9f\x90\xb2")); /* one character beyond the BMP */
	assert_true(finds("^\\uD83D\\uDC32$", "\xf0\x9f\x90\xb2"));
	assert_true(finds("^\\u{1F432}*$", "\xf0\x9f\x90\xb2\xf0\x9f\x90\xb2"));
	assert_true(finds("^\\p{Letter}+$", "l\xc3\xa9o"));
	assert_true(finds("^\\p{Script=Greek}$", "\xce\xb1"));
	assert_true(finds("^\\cC$", "\x03"));
	assert_true(finds("^[[:alpha:]$", ":"));
	assert_true(finds("^a{,2}$", "a{,2}"));
	assert_true(finds("^(?<year>\\d{4})-\\k<year>$", "2024-2024"));
	assert_true(finds("[^]", "\n"));
	assert_false(finds("[]", "a"));
	assert_true(finds("^\\/\\-$", "/-"));
}

static void test_pattern__refuses_what_ecma_does_not_have(void **state)
{
	(void)state;
	static const char *const wrong[] = {
		"\\Z",  "\\A",     "\\Q.\\E",  "(?i)a",     "(?>a)", "a++",  "(*UTF)a", "(*LIMIT_MATCH=1)a",
		"\\a",  "\\e",     "(?#c)",    "(?|a)",     "*a",    "[a",   "\\",      "\\u12",
		"\\x{", "\\uD800", "(?P<n>a)", "\\p{Nope}", "a**",   "(?1)", "\\C",     "\\h"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct df_pattern *p = NULL;
		if (df_pattern_compile(df_str_from(wrong[i]), &p, &fail) == DF_OK)
			fail_msg("'%s' was taken", wrong[i]);
	}
}

static void assert_resolves(const char *base, const char *reference, const char *to)
{
	struct df_str s = df_uri_resolve(df_str_from(base), df_str_from(reference), &arena);
	assert_string_equal(df_arena_copy(&arena, s).p, to);
}

static void test_uri__resolves_as_rfc_3986_says(void **state)
{
	(void)state;
	assert_resolves("http://a/b/c/d;p?q", "g", "http://a/b/c/g");
	assert_resolves("http://a/b/c/d;p?q", "./g", "http://a/b/c/g");
	assert_resolves("http://a/b/c/d;p?q", "/g", "http://a/g");
	assert_resolves("http://a/b/c/d;p?q", "//g", "http://g");
	assert_resolves("http://a/b/c/d;p", "#s", "http://a/b/c/d;p#s");
	assert_resolves("http://a/b/c/d;p", "", "http://a/b/c/d;p");
	assert_resolves("http://a/b/c/d;p?q", "../g", "http://a/b/g");
	assert_resolves("http://a/b/c/d;p?q", "../../../g", "http://a/g");
	assert_resolves("http://a/b/c/d;p?q", "g/", "http://a/b/c/g/");
	assert_resolves("http://a/b/c/d;p?q", "..", "http://a/b/");
	assert_resolves("http://a", "g", "http://a/g");
	assert_resolves("http://a/b", "urn:x:y", "urn:x:y");
	assert_resolves("urn:x:y", "#z", "urn:x:y#z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_schema__errors_name_the_place_and_what_is_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__of_alternatives_the_nearest_speaks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__tells_at_most_eight_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__what_is_no_json_is_told_with_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__wrong_schemas_are_refused_with_their_place, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__of_keywords_that_are_there_twice_the_last_counts, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__references_may_run_in_circles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__a_circle_that_steps_into_nothing_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__circles_that_end_are_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__a_long_chain_of_references_is_searched_quickly, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__the_deepest_walk_fits_a_small_stack, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__work_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__patterns_that_explode_end_as_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_schema__a_hundred_thousand_items_are_compared_by_hash, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_schema__depth_of_schemas_and_values_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decimal__numbers_are_what_they_say, setup, teardown),
		cmocka_unit_test_setup_teardown(test_decimal__agrees_with_integers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pattern__means_what_ecma_says, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pattern__refuses_what_ecma_does_not_have, setup, teardown),
		cmocka_unit_test_setup_teardown(test_uri__resolves_as_rfc_3986_says, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
