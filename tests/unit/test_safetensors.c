// SPDX-License-Identifier: Apache-2.0
/* test_safetensors: headers that lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "worker/model/safetensors.h"

/* A file of this header and n_data bytes of data, in memory of the exact size; the caller frees p. */
static struct df_str file_of(const char *header, size_t n_data)
{
	uint64_t n = strlen(header);
	char *p = malloc(8 + n + n_data);
	assert_non_null(p);
	memcpy(p, &n, 8);
	memcpy(p + 8, header, n);
	memset(p + 8 + n, 1, n_data);
	return (struct df_str){p, 8 + n + n_data};
}

static void assert_refused(const char *header, size_t n_data, enum df_err err, const char *words)
{
	struct df_safetensors s;
	struct df_fail fail = {.msg = ""};
	struct df_str file = file_of(header, n_data);
	enum df_err got = df_safetensors_parse(&s, file, &fail);
	if (got != err || !strstr(fail.msg, words))
		fail_msg("%s: %s: '%s'", header, df_err_name(got), fail.msg);
	df_safetensors_close(&s);
	free((char *)(uintptr_t)file.p);
}

#define ONE(dtype, shape, range) "{\"a\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}}"

static void test_safetensors__refuses_tensors_outside_the_file(void **state)
{
	(void)state;
	assert_refused(ONE("F32", "[2,3]", "[0,24]"), 23, DF_ERR_CORRUPT, "outside");
	assert_refused(ONE("F32", "[2,3]", "[24,0]"), 24, DF_ERR_CORRUPT, "outside");
	assert_refused(ONE("F32", "[2,3]", "[18446744073709551608,18446744073709551615]"), 24, DF_ERR_CORRUPT,
		       "outside");
	assert_refused(ONE("F32", "[2,3]", "[0,20]"), 24, DF_ERR_CORRUPT, "does not fit its shape");
	assert_refused(ONE("F32", "[4294967296,4294967296]", "[0,24]"), 24, DF_ERR_CORRUPT, "too many");
	assert_refused(ONE("F32", "[4611686018427387905]", "[0,4]"), 24, DF_ERR_CORRUPT, "does not fit");
	assert_refused(ONE("F32", "[-2,3]", "[0,24]"), 24, DF_ERR_CORRUPT, "whole number");
	assert_refused(ONE("F32", "[1.5]", "[0,6]"), 24, DF_ERR_CORRUPT, "whole number");
	assert_refused(ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 24, DF_ERR_CORRUPT, "8 dimensions");
	assert_refused(ONE("Q4", "[6]", "[0,24]"), 24, DF_ERR_CORRUPT, "dtype");
	assert_refused(ONE("F32", "[6]", "[0]"), 24, DF_ERR_CORRUPT, "data_offsets");
	assert_refused("{\"a\":7}", 24, DF_ERR_CORRUPT, "dtype");
	assert_refused("[]", 0, DF_ERR_CORRUPT, "object");
	assert_refused("{\"a\":", 0, DF_ERR_PARSE, "line 1");
}

static void test_safetensors__refuses_a_header_that_is_longer_than_the_file(void **state)
{
	static const char cut[] = "\x40\0\0\0\0\0\0\0{}", huge[] = "\xff\xff\xff\xff\xff\xff\xff\xff{}";
	struct df_safetensors s;
	(void)state;
	assert_int_equal(df_safetensors_parse(&s, (struct df_str){cut, 10}, NULL), DF_ERR_CORRUPT);
	df_safetensors_close(&s);
	assert_int_equal(df_safetensors_parse(&s, (struct df_str){huge, 10}, NULL), DF_ERR_CORRUPT);
	df_safetensors_close(&s);
	assert_int_equal(df_safetensors_parse(&s, (struct df_str){cut, 7}, NULL), DF_ERR_CORRUPT);
	df_safetensors_close(&s);
	assert_int_equal(df_safetensors_open(&s, "/nowhere/at.all", NULL), DF_ERR_NOT_FOUND);
	df_safetensors_close(&s);
	assert_int_equal(df_safetensors_open(&s, "/dev/null", NULL), DF_ERR_CORRUPT);
	df_safetensors_close(&s);
}

static void test_safetensors__finds_tensors_by_name(void **state)
{
	struct df_safetensors s;
	struct df_str file = file_of(
		"{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F16\",\"shape\":[2,3],"
		"\"data_offsets\":[4,16]},\"scalar\":{\"dtype\":\"F32\",\"shape\":[],"
		"\"data_offsets\":[0,4]},\"none\":{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[16,16]}}  ",
		16);
	(void)state;
	assert_int_equal(df_safetensors_parse(&s, file, NULL), DF_OK);
	assert_int_equal(s.n_tensor, 3);
	const struct df_tensor *w = df_safetensors_find(&s, DF_STR("w"));
	assert_non_null(w);
	assert_true(w->dtype == DF_TENSOR_F16 && w->n_dim == 2 && w->shape[0] == 2 && w->shape[1] == 3 &&
		    w->n_item == 6);
	assert_ptr_equal(w->data, file.p + file.n - 12);
	assert_int_equal(df_safetensors_find(&s, DF_STR("scalar"))->n_item, 1);
	assert_int_equal(df_safetensors_find(&s, DF_STR("none"))->size_bytes, 0);
	assert_null(df_safetensors_find(&s, DF_STR("__metadata__")));
	df_safetensors_close(&s);
	df_safetensors_close(&s);
	free((char *)(uintptr_t)file.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_safetensors__refuses_tensors_outside_the_file),
		cmocka_unit_test(test_safetensors__refuses_a_header_that_is_longer_than_the_file),
		cmocka_unit_test(test_safetensors__finds_tensors_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
