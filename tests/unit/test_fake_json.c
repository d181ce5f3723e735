// SPDX-License-Identifier: Apache-2.0
/* test_fake_json: what the fake provider makes up for a schema is valid by docflume's own checker, and comes to an end whatever the schema. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "worker/check/schema.h"
#include "worker/provider/fake.h"

static const struct {
	const char *name, *schema;
} fits[] = {
	{"nest10",
	 "{\"type\":\"object\",\"properties\":{\"k9\":{\"type\":\"object\",\"properties\":{\"k8\":{\"type\":\"object\","
	 "\""
	 "properties\":{\"k7\":{\"type\":\"object\",\"properties\":{\"k6\":{\"type\":\"object\",\"properties\":{\"k5\":"
	 "{\"type\":\"object\",\"properties\":{\"k4\":{\"type\":\"object\",\"properties\":{\"k3\":{\"type\":\"object\","
	 "\""
	 "properties\":{\"k2\":{\"type\":\"object\",\"properties\":{\"k1\":{\"type\":\"object\",\"properties\":{\"k0\":"
	 "{\"type\":\"string\"}},\"required\":[\"k0\"],\"additionalProperties\":false}},\"required\":[\"k1\"],\"add"
	 "itionalProperties\":false}},\"required\":[\"k2\"],\"additionalProperties\":false}},\"required\":[\"k"
	 "3\"],\"additionalProperties\":false}},\"required\":[\"k4\"],\"additionalProperties\":false}},\"requi"
	 "red\":[\"k5\"],\"additionalProperties\":false}},\"required\":[\"k6\"],\"additionalProperties\":false}"
	 "},\"required\":[\"k7\"],\"additionalProperties\":false}},\"required\":[\"k8\"],\"additionalProperties"
	 "\":false}},\"required\":[\"k9\"],\"additionalProperties\":false}"},
	{"nest30",
	 "{\"type\":\"object\",\"properties\":{\"k29\":{\"type\":\"object\",\"properties\":{\"k28\":{\"type\":"
	 "\"object\""
	 ",\"properties\":{\"k27\":{\"type\":\"object\",\"properties\":{\"k26\":{\"type\":\"object\",\"properties\":{\""
	 "k25\":{\"type\":\"object\",\"properties\":{\"k24\":{\"type\":\"object\",\"properties\":{\"k23\":{\"type\":"
	 "\"ob"
	 "ject\",\"properties\":{\"k22\":{\"type\":\"object\",\"properties\":{\"k21\":{\"type\":\"object\",\"propertie"
	 "s\":{\"k20\":{\"type\":\"object\",\"properties\":{\"k19\":{\"type\":\"object\",\"properties\":{\"k18\":{"
	 "\"type"
	 "\":\"object\",\"properties\":{\"k17\":{\"type\":\"object\",\"properties\":{\"k16\":{\"type\":\"object\","
	 "\"prop"
	 "erties\":{\"k15\":{\"type\":\"object\",\"properties\":{\"k14\":{\"type\":\"object\",\"properties\":{\"k13\":{"
	 "\"type\":\"object\",\"properties\":{\"k12\":{\"type\":\"object\",\"properties\":{\"k11\":{\"type\":"
	 "\"object\","
	 "\"properties\":{\"k10\":{\"type\":\"object\",\"properties\":{\"k9\":{\"type\":\"object\",\"properties\":{\"k8"
	 "\":{\"type\":\"object\",\"properties\":{\"k7\":{\"type\":\"object\",\"properties\":{\"k6\":{\"type\":"
	 "\"object\""
	 ",\"properties\":{\"k5\":{\"type\":\"object\",\"properties\":{\"k4\":{\"type\":\"object\",\"properties\":{\"k3"
	 "\":{\"type\":\"object\",\"properties\":{\"k2\":{\"type\":\"object\",\"properties\":{\"k1\":{\"type\":"
	 "\"object\""
	 ",\"properties\":{\"k0\":{\"type\":\"string\"}},\"required\":[\"k0\"],\"additionalProperties\":false}},\"r"
	 "equired\":[\"k1\"],\"additionalProperties\":false}},\"required\":[\"k2\"],\"additionalProperties\":fa"
	 "lse}},\"required\":[\"k3\"],\"additionalProperties\":false}},\"required\":[\"k4\"],\"additionalProper"
	 "ties\":false}},\"required\":[\"k5\"],\"additionalProperties\":false}},\"required\":[\"k6\"],\"addition"
	 "alProperties\":false}},\"required\":[\"k7\"],\"additionalProperties\":false}},\"required\":[\"k8\"],\""
	 "additionalProperties\":false}},\"required\":[\"k9\"],\"additionalProperties\":false}},\"required\":"
	 "[\"k10\"],\"additionalProperties\":false}},\"required\":[\"k11\"],\"additionalProperties\":false}},\""
	 "required\":[\"k12\"],\"additionalProperties\":false}},\"required\":[\"k13\"],\"additionalProperties\""
	 ":false}},\"required\":[\"k14\"],\"additionalProperties\":false}},\"required\":[\"k15\"],\"additionalP"
	 "roperties\":false}},\"required\":[\"k16\"],\"additionalProperties\":false}},\"required\":[\"k17\"],\"a"
	 "dditionalProperties\":false}},\"required\":[\"k18\"],\"additionalProperties\":false}},\"required\":"
	 "[\"k19\"],\"additionalProperties\":false}},\"required\":[\"k20\"],\"additionalProperties\":false}},\""
	 "required\":[\"k21\"],\"additionalProperties\":false}},\"required\":[\"k22\"],\"additionalProperties\""
	 ":false}},\"required\":[\"k23\"],\"additionalProperties\":false}},\"required\":[\"k24\"],\"additionalP"
	 "roperties\":false}},\"required\":[\"k25\"],\"additionalProperties\":false}},\"required\":[\"k26\"],\"a"
	 "dditionalProperties\":false}},\"required\":[\"k27\"],\"additionalProperties\":false}},\"required\":"
	 "[\"k28\"],\"additionalProperties\":false}},\"required\":[\"k29\"],\"additionalProperties\":false}"},
	{"arr20",
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"arr"
	 "ay\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{"
	 "\"type"
	 "\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\","
	 "\"items\":"
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1},\"minItems\":1},\"minItems\":1}"
	 ",\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minI"
	 "tems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":"
	 "1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1}"},
	{"arr63",
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"arr"
	 "ay\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{"
	 "\"type"
	 "\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\","
	 "\"items\":"
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"arr"
	 "ay\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{"
	 "\"type"
	 "\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\","
	 "\"items\":"
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"arr"
	 "ay\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{"
	 "\"type"
	 "\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\","
	 "\"items\":"
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"arr"
	 "ay\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{"
	 "\"type"
	 "\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\","
	 "\"items\":"
	 "{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":{\"type\":"
	 "\"integer\"}"
	 ",\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minI"
	 "tems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":"
	 "1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"mi"
	 "nItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems"
	 "\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\""
	 "minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minIte"
	 "ms\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1}"
	 ",\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minI"
	 "tems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":"
	 "1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1},\"minItems\":1}"},
	{"rec_opt", "{\"type\":\"object\",\"properties\":{\"next\":{\"$ref\":\"#\"},\"v\":{\"type\":\"integer\"}},"
		    "\"required\":[\"v\""
		    "]}"},
	{"rec_arr_min1",
	 "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},\"k\":{\"type\":"
	 "\"array\",\"i"
	 "tems\":{\"$ref\":\"#/$defs/n\"},\"maxItems\":2}},\"required\":[\"v\",\"k\"]}},\"$ref\":\"#/$defs/n\"}"},
	{"rec_oneOf", "{\"$defs\":{\"e\":{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"object\",\"properties\":{\"op\":"
		      "{\"enum\":[\"+\""
		      ",\"-\"]},\"a\":{\"$ref\":\"#/$defs/e\"},\"b\":{\"$ref\":\"#/$defs/"
		      "e\"}},\"required\":[\"op\",\"a\",\"b\"],\"addit"
		      "ionalProperties\":false}]}},\"$ref\":\"#/$defs/e\"}"},
	{"rec_anyOf_obj_first",
	 "{\"$defs\":{\"e\":{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/e\"}},\"required"
	 "\":[\"a\"]},{\"type\":\"null\"}]}},\"type\":\"object\",\"properties\":{\"r\":{\"$ref\":\"#/$defs/"
	 "e\"}},\"requi"
	 "red\":[\"r\"]}"},
	{"mutual", "{\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"b\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
		   "b\"},{\"type\":\"n"
		   "ull\"}]}},\"required\":[\"b\"]},\"b\":{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"$"
		   "ref\":\"#/$de"
		   "fs/a\"},{\"type\":\"null\"}]}},\"required\":[\"a\"]}},\"$ref\":\"#/$defs/a\"}"},
	{"allOf",
	 "{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]},{\"proper"
	 "ties\":{\"b\":{\"type\":\"integer\",\"minimum\":5,\"maximum\":7}},\"required\":[\"b\"]}]}"},
	{"const", "{\"type\":\"object\",\"properties\":{\"a\":{\"const\":{\"x\":[1,2]}}},\"required\":[\"a\"]}"},
	{"pattern", "{\"type\":\"string\",\"pattern\":\"^[A-Z]{3}-[0-9]{4}$\"}"},
	{"patterns", "{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"string\",\"pattern\":\"^\\\\d{4}-\\\\d{2}-"
		     "\\\\d{2}$\"},\"e"
		     "\":{\"type\":\"string\",\"pattern\":\"^.+@.+\\\\..+$\"},\"c\":{\"type\":\"string\",\"pattern\":"
		     "\"^(low|mid|hig"
		     "h)$\"}},\"required\":[\"d\",\"e\",\"c\"]}"},
	{"minlen", "{\"type\":\"string\",\"minLength\":200,\"maxLength\":201}"},
	{"unique",
	 "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":5},\"minItems\":5,\"uniqueIte"
	 "ms\":true}"},
	{"uniqenum",
	 "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"b\",\"c\"]},\"minItems\":3,\"uniqueItems\":true}"},
	{"multiple", "{\"type\":\"number\",\"multipleOf\":0.05,\"minimum\":0.9,\"maximum\":1.1}"},
	{"excl", "{\"type\":\"integer\",\"exclusiveMinimum\":3,\"exclusiveMaximum\":5}"},
	{"ifthen", "{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[\"a\",\"b\"]},\"x\":{\"type\":\"integer\"},"
		   "\"y\":{\"type\":\""
		   "integer\"}},\"required\":[\"k\"],\"if\":{\"properties\":{\"k\":{\"const\":\"a\"}}},\"then\":{"
		   "\"required\":[\"x"
		   "\"]},\"else\":{\"required\":[\"y\"]}}"},
	{"contains",
	 "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"contains\":{\"const\":7},\"minContains\":2}"},
	{"prefix",
	 "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"integer\"}],\"items\":false,\"minIte"
	 "ms\":2}"},
	{"depreq", "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"string\"}},"
		   "\"required\":[\"a"
		   "\"],\"dependentRequired\":{\"a\":[\"b\"]}}"},
	{"minprops", "{\"type\":\"object\",\"minProperties\":3,\"additionalProperties\":{\"type\":\"integer\"}}"},
	{"patprops",
	 "{\"type\":\"object\",\"patternProperties\":{\"^x_\":{\"type\":\"integer\"}},\"additionalProperties\":fal"
	 "se,\"minProperties\":2}"},
	{"propnames", "{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^[a-z]+$\"},\"minProperties\":2}"},
	{"types", "{\"type\":[\"string\",\"null\",\"integer\"]}"},
	{"empty", "{}"},
	{"dyn",
	 "{\"$dynamicAnchor\":\"n\",\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"array\",\"items\":{\"$dynamic"
	 "Ref\":\"#n\"}}},\"required\":[\"c\"]}"},
	{"anchor", "{\"$defs\":{\"x\":{\"$anchor\":\"foo\",\"type\":\"integer\"}},\"type\":\"object\",\"properties\":{"
		   "\"a\":{\"$ref"
		   "\":\"#foo\"}},\"required\":[\"a\"]}"},
	{"enumdeep", "{\"enum\":[{\"a\":1},[1,2],null,\"x\"]}"},
	{"refsib", "{\"$defs\":{\"s\":{\"type\":\"string\"}},\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/"
		   "$defs/s\",\"mi"
		   "nLength\":40}},\"required\":[\"a\"]}"},
	{"oneOfdisc",
	 "{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"a\"},\"v\":{\"type\":\"string\"}},"
	 "\"require"
	 "d\":[\"t\",\"v\"],\"additionalProperties\":false},{\"type\":\"object\",\"properties\":{\"t\":{\"const\":\"b\""
	 "},\"w\":{\"type\":\"integer\"}},\"required\":[\"t\",\"w\"],\"additionalProperties\":false}]}"},
	{"minitems_big", "{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"minItems\":300}"},
	{"bigint", "{\"type\":\"integer\",\"minimum\":9007199254740993}"},
	{"required_undeclared", "{\"type\":\"object\",\"required\":[\"zz\"]}"},
	{"req_forbidden",
	 "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\",\"b\"]}"},
	{"uneval",
	 "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"],\"unevaluatedProper"
	 "ties\":false}"},
	{"format",
	 "{\"type\":\"object\",\"properties\":{\"d\":{\"type\":\"string\",\"format\":\"date\"}},\"required\":[\"d\"]}"},
	{"names", "{\"type\":\"object\",\"properties\":{\"~/x\":{\"$ref\":\"#/$defs/a~1b~0\"}},\"$defs\":{\"a/"
		  "b~\":{\"type\":\"integer\"}},\"required\":[\"~/x\"]}"},
};

/* Nothing finite fits, or nothing that is made. */
static const char *const endless[] = {
	"{\"required\":[\"a\",\"b\"],\"additionalProperties\":{\"$ref\":\"#\"}}",
	"{\"type\":\"array\",\"minItems\":9999,\"items\":{\"$ref\":\"#\"}}",
	"{\"type\":\"string\",\"pattern\":\"((((a{500}){500}){500}){500})+\"}",
	"{\"type\":\"string\",\"pattern\":\"([a-\\\\]{9}(?<x>(?=b)\\\\p{L)|[\"}",
	"{\"type\":\"array\",\"uniqueItems\":true,\"minItems\":3000,\"items\":{\"type\":\"boolean\"}}",
	"{\"type\":\"object\",\"minProperties\":1000000000,\"patternProperties\":{\"\":true}}",
	"{\"$ref\":\"#\"}",
	"{\"allOf\":[{\"$ref\":\"#\"},{\"anyOf\":[{\"$ref\":\"#/allOf/1\"}]}]}",
};

static struct df_str made(const char *schema, struct df_arena *arena, struct df_buf *b, uint64_t seed)
{
	struct df_json *root = NULL;
	df_arena_reset(arena);
	df_buf_reset(b);
	assert_int_equal(df_json_parse(df_str_from(schema), arena, &root, NULL), DF_OK);
	df_fake_instance(b, root, root, &seed, 0);
	return df_buf_str(b);
}

static void test_fake_json__fits_its_schema(void **state)
{
	struct df_arena arena, scratch;
	struct df_buf b, why;
	(void)state;
	df_arena_init(&arena, (size_t)64 << 20, 0);
	df_arena_init(&scratch, (size_t)64 << 20, 0);
	df_buf_init(&b, 16U << 20);
	df_buf_init(&why, 16384);
	for (size_t i = 0; i < sizeof(fits) / sizeof(fits[0]); i++) {
		struct df_schema *schema = NULL;
		assert_int_equal(df_schema_compile(df_str_from(fits[i].schema), &schema, NULL), DF_OK);
		for (uint64_t seed = 0; seed < 50; seed++) {
			struct df_str json = made(fits[i].schema, &arena, &b, seed);
			df_buf_reset(&why);
			df_arena_reset(&scratch);
			if (df_schema_check(schema, json, &scratch, &why) != DF_OK)
				fail_msg("%s, seed %d: %.*s\n%.*s", fits[i].name, (int)seed, (int)json.n, json.p,
					 (int)why.n, why.p);
		}
		df_schema_free(&schema);
	}
	df_buf_release(&why);
	df_buf_release(&b);
	df_arena_release(&scratch);
	df_arena_release(&arena);
}

static void test_fake_json__comes_to_an_end(void **state)
{
	struct df_arena arena;
	struct df_buf b;
	(void)state;
	df_arena_init(&arena, (size_t)64 << 20, 0);
	df_buf_init(&b, 64U << 20);
	for (size_t i = 0; i < sizeof(endless) / sizeof(endless[0]); i++)
		for (uint64_t seed = 0; seed < 3; seed++) {
			uint64_t before = df_clock_mono(&df_clock_real);
			struct df_json *root = NULL;
			struct df_str json = made(endless[i], &arena, &b, seed);
			assert_int_equal(df_buf_err(&b), DF_OK);
			assert_true(df_clock_mono(&df_clock_real) - before < 2 * 1000000000ULL);
			assert_int_equal(df_json_parse(json, &arena, &root, NULL) == DF_ERR_PARSE, 0);
		}
	df_buf_release(&b);
	df_arena_release(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_fake_json__fits_its_schema),
					   cmocka_unit_test(test_fake_json__comes_to_an_end)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
