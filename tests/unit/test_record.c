// SPDX-License-Identifier: Apache-2.0
/* JSON records: what is refused, what is found, and agreement with an independent parser. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/json.h"
#include "worker/read/record.h"

struct bench {
	struct df_record_parser *parser;
	struct df_arena arena;
	struct df_doc doc;
	struct df_fail fail;
	char *raw; /* exact size: record and padding */
};

static struct bench b;

static int set_up(void **state)
{
	(void)state;
	memset(&b, 0, sizeof(b));
	df_arena_init(&b.arena, 256U << 20, 1U << 20);
	struct df_record_keys keys = {DF_STR("id"), DF_STR("text"), false};
	return df_record_parser_create(keys, DF_RECORD_BYTES, &b.parser) != DF_OK;
}

static int tear_down(void **state)
{
	(void)state;
	free(b.raw);
	df_record_parser_destroy(&b.parser);
	df_arena_release(&b.arena);
	return 0;
}

static enum df_err parse(const char *p, size_t n)
{
	free(b.raw);
	b.raw = malloc(n + DF_RECORD_PADDING);
	assert_non_null(b.raw);
	memcpy(b.raw, p, n);
	memset(b.raw + n, '"', DF_RECORD_PADDING); /* what lies behind must not matter */
	memset(&b.doc, 0, sizeof(b.doc));
	memset(&b.fail, 0, sizeof(b.fail));
	return df_record_parse(b.parser, (struct df_str){b.raw, n}, &b.arena, &b.doc, &b.fail);
}

static enum df_err parsez(const char *z)
{
	return parse(z, strlen(z));
}

static void assert_str(struct df_str s, const char *expected)
{
	assert_non_null(s.p);
	assert_int_equal(s.n, strlen(expected));
	assert_memory_equal(s.p, expected, s.n);
}

static void test_record__refuses_broken_json_anywhere(void **state)
{
	(void)state;
	static const char *const broken[] = {
		"{",
		"}",
		"{\"text\":\"a\"",
		"{\"text\":\"a\",}",
		"{,\"text\":\"a\"}",
		"{\"text\" \"a\"}",
		"{\"text\":}",
		"{\"text\":\"a\" \"b\":1}",
		"{\"text\":\"a\"}}",
		"{\"text\":\"a\"} x",
		"{\"text\":\"a\"}{\"text\":\"b\"}",
		"{text:\"a\"}",
		"{'text':'a'}",
		"{\"text\":\"a\",\"b\":01}",
		"{\"text\":\"a\",\"b\":1.}",
		"{\"text\":\"a\",\"b\":.5}",
		"{\"text\":\"a\",\"b\":+1}",
		"{\"text\":\"a\",\"b\":-}",
		"{\"text\":\"a\",\"b\":1e}",
		"{\"text\":\"a\",\"b\":1e+}",
		"{\"text\":\"a\",\"b\":1x}",
		"{\"text\":\"a\",\"b\":1\"c\"}",
		"{\"text\":\"a\",\"b\":NaN}",
		"{\"text\":\"a\",\"b\":tru}",
		"{\"text\":\"a\",\"b\":truex}",
		"{\"text\":\"a\",\"b\":nulll}",
		"{\"text\":\"a\",\"b\":[1,]}",
		"{\"text\":\"a\",\"b\":[,1]}",
		"{\"text\":\"a\",\"b\":[1 2]}",
		"{\"text\":\"a\",\"b\":[1}",
		"{\"text\":\"a\",\"b\":{\"c\":1]}",
		"{\"text\":\"a\",\"b\":{\"c\"}}",
		"{\"text\":\"a\",\"b\":{\"c\":1,}}",
		"{\"text\":\"a\",\"b\":{1:2}}",
		"{\"text\":\"a\",\"b\":\"\\x\"}",
		"{\"text\":\"\\q\"}",
		"{\"text\":\"\\u12\"}",
		"{\"text\":\"\\u12G4\"}",
		"{\"text\":\"a\",\"b\":\"\\u00\"}",
		"{\"te\\zxt\":\"a\"}",
		"{\"text\":\"a\nb\"}",
		"{\"text\":\"a\tb\"}",
		"{\"text\":\"abc}",
		"{\"text\":\"a\\\"}",
		"{\"text\":\"a\"\"b\"}",
		"{\"text\":\"a\"b}",
		"",
		" ",
		"nul",
		"[1",
		"\"abc",
		"{\"a\":1}[",
		"[[[[",
		"{\"text\":\"a\",\"b\":[]]}",
		"{:1}",
		"{\"a\"}",
		"{\"a\":1:2}",
		"{\"text\":\"a\"/*c*/}",
		"// {\"text\":\"a\"}",
	};
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		enum df_err err = parsez(broken[i]);
		if (err != DF_ERR_PARSE)
			print_error("%s gave %s: %s\n", broken[i], df_err_name(err), b.fail.msg);
		assert_int_equal(err, DF_ERR_PARSE);
		assert_true(b.fail.msg[0] != '\0' && !strchr(b.fail.msg, '\n'));
	}
}

static void test_record__accepts_all_of_the_grammar(void **state)
{
	(void)state;
	static const char *const good[] = {
		"{\"text\":\"\"}",
		" \t{ \"text\" : \"a\" } \r",
		"{\"text\":\"a\",\"n\":-0.5e+10,\"m\":1E400,\"k\":123456789012345678901234567890}",
		"{\"a\":[],\"b\":{},\"c\":[[],{}],\"d\":[{\"e\":[null,true,false]}],\"text\":\"\"}",
		"{\"\":0,\"text\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uD83D\\uDE00\"}",
		"{\"a\" : [ 1 , 2 ] , \"text\" : \"x\"}",
	};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		enum df_err err = parsez(good[i]);
		if (err != DF_OK)
			print_error("%s: %s\n", good[i], b.fail.msg);
		assert_int_equal(err, DF_OK);
	}
}

static void test_record__refuses_what_is_not_utf8(void **state)
{
	(void)state;
	static const char *const bad[] = {"\xff", "\xc0\x80",         "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					  "\x80", "\xf0\x80\x80\x80", "\xc3"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char z[64];
		(void)snprintf(z, sizeof(z), "{\"text\":\"a\",\"b\":\"%s\"}", bad[i]);
		assert_int_equal(parsez(z), DF_ERR_UTF8);
		assert_string_equal(b.fail.msg, "invalid UTF-8 at byte 17");
	}
}

static void test_record__refuses_lone_surrogate_escapes_in_any_string(void **state)
{
	(void)state;
	static const char *const lone[] = {"\\ud800",    "\\udc00",        "\\ud800x",
					   "\\ud800\\n", "\\ud800\\ud800", "\\uDBFF\\u0041"};
	for (size_t i = 0; i < sizeof(lone) / sizeof(lone[0]); i++) {
		char z[96];
		(void)snprintf(z, sizeof(z), "{\"text\":\"%s\"}", lone[i]);
		assert_int_equal(parsez(z), DF_ERR_UTF8);
		(void)snprintf(z, sizeof(z), "{\"text\":\"a\",\"b\":[\"%s\"]}", lone[i]);
		assert_int_equal(parsez(z), DF_ERR_UTF8);
		(void)snprintf(z, sizeof(z), "{\"text\":\"a\",\"%s\":1}", lone[i]);
		assert_int_equal(parsez(z), DF_ERR_UTF8);
	}
	assert_int_equal(parsez("{\"text\":\"a\\ud83d\"}"), DF_ERR_UTF8);
	assert_string_equal(b.fail.msg, "a lone surrogate escape at byte 10");
}

static void test_record__says_what_is_of_a_wrong_type(void **state)
{
	(void)state;
	static const struct {
		const char *json, *message;
	} wrong[] = {
		{"[1]", "not a JSON object but an array"},
		{"12", "not a JSON object but a number"},
		{"\"a\"", "not a JSON object but a string"},
		{"null", "not a JSON object but null"},
		{"{}", "no key 'text'"},
		{"{\"Text\":\"a\"}", "no key 'text'"},
		{"{\"text\":5}", "text is not a string but a number"},
		{"{\"text\":null}", "text is not a string but null"},
		{"{\"text\":[\"a\"]}", "text is not a string but an array"},
		{"{\"text\":\"a\",\"text\":true}", "text is not a string but a boolean"},
		{"{\"id\":{},\"text\":\"a\"}", "id is not a string or a number but an object"},
		{"{\"id\":true,\"text\":\"a\"}", "id is not a string or a number but a boolean"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(parsez(wrong[i].json), DF_ERR_TYPE);
		assert_string_equal(b.fail.msg, wrong[i].message);
	}
	assert_int_equal(parsez("{\"id\":\"d7\",\"text\":5}"), DF_ERR_TYPE);
	assert_str(b.doc.id, "d7"); /* the reject can name its document */
}

static void test_record__finds_members_and_their_raw_values(void **state)
{
	(void)state;
	assert_int_equal(parsez("{ \"id\" : \"x\\u00e9\" , \"n\":[ 1, {\"a\":2} ] ,\"k\\u0065y\":-1.5e3 "
				",\"text\":\"hi\",\"o\":{ } }"),
			 DF_OK);
	assert_int_equal(b.doc.n_field, 5);
	assert_int_equal(b.doc.id_field, 0);
	assert_int_equal(b.doc.text_field, 3);
	assert_str(b.doc.id, "x\xc3\xa9");
	assert_str(b.doc.id_raw, "\"x\\u00e9\"");
	assert_str(b.doc.field[1].raw, "[ 1, {\"a\":2} ]");
	assert_str(b.doc.field[2].key, "key");
	assert_str(b.doc.field[2].raw, "-1.5e3");
	assert_str(b.doc.field[3].raw, "\"hi\"");
	assert_str(b.doc.field[4].raw, "{ }");
	assert_str(b.doc.text, "hi");
	assert_ptr_equal(b.doc.text.p, b.doc.field[3].raw.p + 1); /* no copy without escapes */
}

static void test_record__takes_the_last_of_equal_keys(void **state)
{
	(void)state;
	assert_int_equal(parsez("{\"text\":1,\"id\":1,\"text\":\"b\",\"id\":\"2\"}"), DF_OK);
	assert_str(b.doc.text, "b");
	assert_str(b.doc.id, "2");
	assert_int_equal(b.doc.text_field, 2);
	assert_int_equal(b.doc.id_field, 3);
}

static void test_record__takes_a_number_as_an_id_and_null_as_none(void **state)
{
	(void)state;
	assert_int_equal(parsez("{\"id\":12345678901234567890,\"text\":\"\"}"), DF_OK);
	assert_str(b.doc.id, "12345678901234567890");
	assert_str(b.doc.id_raw, "12345678901234567890");
	assert_int_equal(parsez("{\"id\":null,\"text\":\"\"}"), DF_OK);
	assert_null(b.doc.id.p);
	assert_int_equal(b.doc.id_field, 0);
	assert_int_equal(parsez("{\"text\":\"\"}"), DF_OK);
	assert_null(b.doc.id.p);
	assert_true(b.doc.id_field == SIZE_MAX);
}

static void test_record__unescapes_at_every_place_of_a_block(void **state)
{
	(void)state;
	static const struct {
		const char *json, *bytes;
	} escapes[] = {{"\\n", "\n"},
		       {"\\\\", "\\"},
		       {"\\\"", "\""},
		       {"\\u20ac", "\xe2\x82\xac"},
		       {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
		       {"\\/\\b\\f\\r\\t", "/\b\f\r\t"},
		       {"\\\\\\\\\\n", "\\\\\n"}};
	char json[512], expected[512];
	for (size_t e = 0; e < sizeof(escapes) / sizeof(escapes[0]); e++) {
		for (size_t before = 0; before < 140; before++) {
			for (size_t behind = 0; behind < 70; behind += 23) {
				(void)snprintf(json, sizeof(json), "{\"text\":\"%0*d%s%0*d%s\"}", (int)before + 1, 0,
					       escapes[e].json, (int)behind + 1, 0, escapes[e].json);
				(void)snprintf(expected, sizeof(expected), "%0*d%s%0*d%s", (int)before + 1, 0,
					       escapes[e].bytes, (int)behind + 1, 0, escapes[e].bytes);
				assert_int_equal(parsez(json), DF_OK);
				assert_str(b.doc.text, expected);
				df_arena_reset(&b.arena);
			}
		}
	}
}

static void test_record__keeps_nul_of_an_escape(void **state)
{
	(void)state;
	assert_int_equal(parsez("{\"text\":\"a\\u0000b\"}"), DF_OK);
	assert_int_equal(b.doc.text.n, 3);
	assert_memory_equal(b.doc.text.p, "a\0b", 3);
	assert_int_equal(parse("{\"text\":\"a\0b\"}", 14), DF_ERR_PARSE);
}

static void test_record__bounds_depth_members_and_length(void **state)
{
	(void)state;
	struct df_buf json;
	df_buf_init(&json, 16U << 20);
	for (int depth = DF_JSON_DEPTH - 1; depth <= DF_JSON_DEPTH; depth++) {
		df_buf_reset(&json);
		assert_int_equal(df_buf_addz(&json, "{\"text\":\"a\",\"b\":"), DF_OK);
		for (int i = 0; i < depth; i++)
			assert_int_equal(df_buf_addz(&json, i % 2 ? "[" : "{\"k\":"), DF_OK);
		assert_int_equal(df_buf_addz(&json, "1"), DF_OK);
		for (int i = depth; i-- > 0;)
			assert_int_equal(df_buf_addz(&json, i % 2 ? "]" : "}"), DF_OK);
		assert_int_equal(df_buf_addz(&json, "}"), DF_OK);
		assert_int_equal(parse(json.p, json.n), depth < DF_JSON_DEPTH ? DF_OK : DF_ERR_LIMIT);
	}
	for (size_t n = DF_JSON_FIELDS - 1; n <= DF_JSON_FIELDS; n++) {
		df_buf_reset(&json);
		assert_int_equal(df_buf_addz(&json, "{\"text\":\"a\""), DF_OK);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(df_buf_addf(&json, ",\"k%zu\":%zu", i, i), DF_OK);
		assert_int_equal(df_buf_addz(&json, "}"), DF_OK);
		assert_int_equal(parse(json.p, json.n), n < DF_JSON_FIELDS ? DF_OK : DF_ERR_LIMIT);
	}
	df_buf_reset(&json);
	assert_int_equal(df_buf_reserve(&json, DF_RECORD_BYTES + 1), DF_OK);
	memset(json.p, '[', DF_RECORD_BYTES + 1);
	assert_int_equal(parse(json.p, DF_RECORD_BYTES + 1), DF_ERR_LIMIT);
	assert_int_equal(parse(json.p, DF_RECORD_BYTES), DF_ERR_LIMIT); /* eight million brackets: too deep, at once */
	df_buf_release(&json);
}

static void test_record__fails_cleanly_when_the_arena_is_full(void **state)
{
	(void)state;
	for (size_t max = 0; max < 40000; max += 1111) {
		struct df_arena small;
		df_arena_init(&small, max, 0);
		char json[4096];
		(void)snprintf(json, sizeof(json), "{\"id\":\"\\n\",\"text\":\"\\n%03000d\"}", 0);
		assert_int_equal(parsez(json), DF_OK);
		enum df_err err =
			df_record_parse(b.parser, (struct df_str){b.raw, strlen(json)}, &small, &b.doc, &b.fail);
		assert_true(err == DF_OK || err == DF_ERR_NOMEM);
		df_arena_release(&small);
	}
}

/* Random edits of good records: the small parser of base/ was written on its own and must agree. */
static void test_record__agrees_with_another_parser_on_mutations(void **state)
{
	(void)state;
	static const char seed[] = "{\"id\": 7, \"text\":\"a\\n\\u00e9\xc3\xa9\\ud83d\\ude00b\", "
				   "\"m\":[1,-2.5e3,{\"k\":null}], \"t\":true}";
	static const char pool[] = "{}[]:,\"\\ \n\t01-+.eEtrufalsn\x80\xc3\xa9\xff/u";
	uint32_t r = 12345;
	size_t n_good = 0;
	for (int round = 0; round < 60000; round++) {
		char json[sizeof(seed)];
		size_t n = sizeof(seed) - 1;
		memcpy(json, seed, sizeof(seed));
		for (uint32_t k = 0; k < 1 + (uint32_t)round % 3; k++) {
			r = r * 1664525 + 1013904223;
			size_t at = (r >> 8) % n;
			if (r >> 31) {
				memmove(json + at, json + at + 1, n - at - 1);
				n--;
			} else {
				json[at] = pool[(r >> 3) % (sizeof(pool) - 1)];
			}
		}
		struct df_json *root;
		df_arena_reset(&b.arena);
		bool other = df_json_parse((struct df_str){json, n}, &b.arena, &root, NULL) == DF_OK;
		enum df_err err = parse(json, n);
		bool mine = err == DF_OK || err == DF_ERR_TYPE;
		if (mine != other)
			print_error("%.*s: %s %s\n", (int)n, json, df_err_name(err), b.fail.msg);
		assert_int_equal(mine, other);
		n_good += mine;
		if (err == DF_OK) {
			assert_true(df_record_utf8(b.doc.text));
			const struct df_json *m = root->child;
			for (size_t i = 0; i < b.doc.n_field; i++, m = m->next)
				assert_true(m && df_str_eq(m->key, b.doc.field[i].key));
		}
	}
	assert_true(n_good > 1000); /* both sides of the border were seen */
}

static void test_record__text_files_have_no_members(void **state)
{
	(void)state;
	assert_int_equal(df_record_from_text(DF_STR("a\0b"), &b.doc, &b.fail), DF_OK);
	assert_int_equal(b.doc.text.n, 3);
	assert_int_equal(b.doc.n_field, 0);
	assert_true(b.doc.text_field == SIZE_MAX);
	assert_int_equal(df_record_from_text(DF_STR("ab\xff"), &b.doc, &b.fail), DF_ERR_UTF8);
	assert_string_equal(b.fail.msg, "invalid UTF-8 at byte 2");
	assert_int_equal(df_record_from_text((struct df_str){NULL, 0}, &b.doc, &b.fail), DF_OK);
}

/* Two parsers share one scratch memory, in turn and both at once, with records of which only the other's was large; documents outlive a rest. */
static void test_record__a_parser_that_rests_lends_its_memory(void **state)
{
	(void)state;
	const struct df_record_keys keys = {DF_STR("id"), DF_STR("text"), false};
	struct df_record_parser *other = NULL, *first = b.parser;
	char large[5000];
	int n = snprintf(large, sizeof(large), "{\"id\":\"big\",\"text\":\"%04000d\"}", 7);
	assert_int_equal(df_record_parser_create(keys, DF_RECORD_BYTES, &other), DF_OK);
	for (int round = 0; round < 4; round++) {
		struct df_doc kept;
		char *raw;
		assert_int_equal(parse(large, (size_t)n), DF_OK);
		kept = b.doc;
		raw = b.raw;
		b.raw = NULL;
		if (round & 1)
			df_record_parser_rest(first);
		df_record_parser_rest(first);
		b.parser = other;
		assert_int_equal(parsez("{\"id\":\"small\",\"text\":\"a\\nb\"}"), DF_OK);
		assert_str(b.doc.text, "a\nb");
		assert_int_equal(parsez("{\"id\":"), DF_ERR_PARSE);
		if (round & 2)
			df_record_parser_rest(other);
		b.parser = first;
		assert_str(kept.id, "big");
		assert_int_equal(kept.text.n, 4000);
		assert_int_equal(parse(large, (size_t)n), DF_OK);
		assert_int_equal(b.doc.text.n, 4000);
		free(raw);
	}
	df_record_parser_destroy(&other);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_record__refuses_broken_json_anywhere),
		T(test_record__accepts_all_of_the_grammar),
		T(test_record__refuses_what_is_not_utf8),
		T(test_record__refuses_lone_surrogate_escapes_in_any_string),
		T(test_record__says_what_is_of_a_wrong_type),
		T(test_record__finds_members_and_their_raw_values),
		T(test_record__takes_the_last_of_equal_keys),
		T(test_record__takes_a_number_as_an_id_and_null_as_none),
		T(test_record__unescapes_at_every_place_of_a_block),
		T(test_record__keeps_nul_of_an_escape),
		T(test_record__bounds_depth_members_and_length),
		T(test_record__fails_cleanly_when_the_arena_is_full),
		T(test_record__agrees_with_another_parser_on_mutations),
		T(test_record__text_files_have_no_members),
		T(test_record__a_parser_that_rests_lends_its_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
