// SPDX-License-Identifier: Apache-2.0
/* A reject becomes the record that it was: byte for byte, wherever its member stands, however often it was wrapped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "worker/lease/unwrap.h"

#define REASON                                                                                                         \
	"\"docflume\":{\"source\":\"dir/"                                                                              \
	"a.jsonl\",\"offset\":77,\"stage\":\"input\",\"class\":\"type\",\"error\":\"why\",\"attempts\":2}"
#define AS_TEXT                                                                                                        \
	"\"docflume\":{\"source\":\"a.txt\",\"offset\":0,\"stage\":\"exec\",\"class\":\"child\",\"error\":\"why\","    \
	"\"attempts\":1}"

struct fixture {
	struct df_record_parser *parser;
	struct df_arena arena;
	struct df_doc doc;
	struct df_fail fail;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct df_record_keys keys = {DF_STR("id"), DF_STR("text"), false};
	df_arena_init(&f->arena, 64U << 20, 0);
	assert_int_equal(df_record_parser_create(keys, 1 << 20, &f->parser), DF_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	df_record_parser_destroy(&f->parser);
	df_arena_release(&f->arena);
	free(f);
	return 0;
}

static enum df_err unwrap(struct fixture *f, const char *line)
{
	size_t n = strlen(line);
	char *p = df_arena_zalloc(&f->arena, n + DF_RECORD_PADDING);
	memcpy(p, line, n);
	f->doc = (struct df_doc){
		.source = 3, .offset = 5, .source_name = DF_STR("r"), .text_field = SIZE_MAX, .id_field = SIZE_MAX};
	enum df_err err = df_record_parse(f->parser, (struct df_str){p, n}, &f->arena, &f->doc, &f->fail);
	return df_unwrap(f->parser, &f->arena, err, &f->doc, &f->fail);
}

static void expect_raw(struct fixture *f, const char *line, enum df_err err, const char *raw)
{
	assert_int_equal(unwrap(f, line), err);
	if (!df_str_is(f->doc.raw, raw))
		fail_msg("'%.*s' instead of '%s'", DF_STR_ARG(f->doc.raw), raw);
	assert_true(df_str_is(f->doc.source_name, "dir/a.jsonl") && f->doc.offset == 77 && f->doc.attempts == 3);
	assert_int_equal(f->doc.source, 3);
}

static void test_unwrap__what_is_no_reject_stays_as_it_is(void **state)
{
	struct fixture *f = *state;
	const char *const line[] = {"{\"text\":\"t\"}", "{\"text\":\"t\",\"docflume\":1}",
				    "{\"docflume\":{},\"text\":\"t\"}",
				    "{\"text\":\"t\",\"docflume\":{\"source\":1,\"offset\":1}}"};
	for (size_t i = 0; i < sizeof(line) / sizeof(*line); i++) {
		assert_int_equal(unwrap(f, line[i]), DF_OK);
		assert_true(df_str_is(f->doc.raw, line[i]) && f->doc.offset == 5);
	}
	assert_int_equal(unwrap(f, "{\"text"), DF_ERR_PARSE);
}

static void test_unwrap__the_member_is_cut_out_wherever_it_stands(void **state)
{
	struct fixture *f = *state;
	expect_raw(f, "{\"id\":\"a\",\"text\":\"t\"," REASON "}", DF_OK, "{\"id\":\"a\",\"text\":\"t\"}");
	expect_raw(f, "{" REASON ",\"id\":\"a\",\"text\":\"t\"}", DF_OK, "{\"id\":\"a\",\"text\":\"t\"}");
	expect_raw(f, "{\"id\":\"a\" , " REASON " , \"text\" : \"t\" }", DF_OK, "{\"id\":\"a\"  , \"text\" : \"t\" }");
	expect_raw(f, " { " REASON " , \"text\":\"t\" } ", DF_OK, " { \"text\":\"t\" } ");
	expect_raw(f, "{\"\\\"\":\"\\\\\"," REASON ",\"text\":5}", DF_ERR_TYPE, "{\"\\\"\":\"\\\\\",\"text\":5}");
}

static void test_unwrap__base64_is_decoded_as_rfc_4648_has_it(void **state)
{
	struct fixture *f = *state;
	static const char *const vector[][2] = {{"Zg==", "f"},        {"Zm8=", "fo"},        {"Zm9v", "foo"},
						{"Zm9vYg==", "foob"}, {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"},
						{"Pz8/", "???"},      {"Pz8\\/", "???"}};
	static const char *const wrong[] = {"Z", "Zg=", "Zg", "Zg==Zg==", "Zm9v=", "Zm 9v", "Zm9-", "Zg===="};
	char line[512];
	for (size_t i = 0; i < sizeof(vector) / sizeof(*vector); i++) {
		(void)snprintf(line, sizeof(line), "{\"raw_base64\":\"%s\"," REASON "}", vector[i][0]);
		expect_raw(f, line, DF_ERR_PARSE, vector[i][1]);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		(void)snprintf(line, sizeof(line), "{\"raw_base64\":\"%s\"," REASON "}", wrong[i]);
		assert_int_equal(unwrap(f, line), DF_ERR_PARSE);
		assert_non_null(strstr(f->fail.msg, "not base64"));
	}
	/* {"text":"hi"} */
	expect_raw(f, "{\"raw_base64\":\"eyJ0ZXh0IjoiaGkifQ==\"," REASON "}", DF_OK, "{\"text\":\"hi\"}");
	assert_true(df_str_is(f->doc.text, "hi"));
}

static void test_unwrap__a_text_file_is_its_bytes_and_the_place_alone_is_no_document(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(unwrap(f, "{\"raw_base64\":\"Zm9v\"," AS_TEXT "}"), DF_OK);
	assert_true(df_str_is(f->doc.text, "foo") && f->doc.n_field == 0 && df_str_is(f->doc.source_name, "a.txt"));
	assert_int_equal(unwrap(f, "{" REASON "}"), DF_ERR_TYPE);
	assert_true(f->doc.raw.n == 0 && f->doc.n_field == 0 && f->doc.offset == 77 && f->doc.attempts == 2);
	assert_non_null(strstr(f->fail.msg, "only its place was kept"));
	assert_non_null(strstr(f->fail.msg, "why"));
}

static void to_base64(const char *in, char *out)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0, n = strlen(in); i < n; i += 3) {
		uint32_t v = (uint32_t)(unsigned char)in[i] << 16;
		v |= i + 1 < n ? (uint32_t)(unsigned char)in[i + 1] << 8 : 0;
		v |= i + 2 < n ? (unsigned char)in[i + 2] : 0;
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < n ? digits[v & 63] : '=';
	}
	*out = '\0';
}

static void test_unwrap__what_was_wrapped_again_comes_out_whole(void **state)
{
	struct fixture *f = *state;
	char inner[20200] = "{\"text\":\"t\"," REASON "}", outer[20200], coded[20000];
	for (int level = 1; level < 7; level++) {
		to_base64(inner, coded);
		(void)snprintf(
			outer, sizeof(outer),
			"{\"raw_base64\":\"%s\",\"docflume\":{\"source\":\"out/rejects-00000.jsonl\",\"offset\":%d}}",
			coded, level);
		memcpy(inner, outer, strlen(outer) + 1);
		expect_raw(f, outer, DF_OK, "{\"text\":\"t\"}");
	}
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unwrap__what_is_no_reject_stays_as_it_is),
		TEST(test_unwrap__the_member_is_cut_out_wherever_it_stands),
		TEST(test_unwrap__base64_is_decoded_as_rfc_4648_has_it),
		TEST(test_unwrap__a_text_file_is_its_bytes_and_the_place_alone_is_no_document),
		TEST(test_unwrap__what_was_wrapped_again_comes_out_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
