// SPDX-License-Identifier: Apache-2.0
/* test_npy: headers as NumPy writes them, as docflume writes them, and as an enemy would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/npy.h"

static char file[1024];

/* A file with this description, version 1.0, and n_data bytes. */
static struct df_str file_of(const char *text, size_t n_data)
{
	size_t n = strlen(text);
	memset(file, 0, sizeof(file));
	memcpy(file, "\x93NUMPY\1\0", 8);
	file[8] = (char)(n & 255);
	file[9] = (char)(n >> 8);
	memcpy(file + 10, text, n);
	return (struct df_str){file, 10 + n + n_data};
}

static void assert_err(const char *text, size_t n_data, enum df_err err)
{
	struct df_npy npy = {.dim = 77};
	enum df_err got = df_npy_parse(file_of(text, n_data), false, &npy, NULL);
	if (got != err)
		fail_msg("%s: %s", text, df_err_name(got));
	assert_int_equal(npy.dim, 77);
}

static void test_npy__refuses_what_it_cannot_index(void **state)
{
	(void)state;
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 23, DF_ERR_CORRUPT);
	assert_err("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 48, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", 48, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 1), }", 24, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 24, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), }", 24, DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 3), }", 24, DF_ERR_CORRUPT);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 9223372036854775808), }", 24,
		   DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 3), }", 24,
		   DF_ERR_UNSUPPORTED);
	assert_err("{'descr': '<f4', 'shape': (2, 3), }", 24, DF_ERR_CORRUPT);
	assert_err("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), ", 24, DF_ERR_CORRUPT);
	assert_err("{'descr': '<f4", 24, DF_ERR_UNSUPPORTED);
	assert_err("", 24, DF_ERR_CORRUPT);
}

static void test_npy__refuses_headers_longer_than_the_file(void **state)
{
	struct df_npy npy;
	struct df_str s = file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24);
	(void)state;
	for (size_t n = 0; n < 69; n++)
		assert_int_equal(df_npy_parse((struct df_str){s.p, n}, true, &npy, NULL), DF_ERR_CORRUPT);
	file[6] = 4;
	assert_int_equal(df_npy_parse(s, false, &npy, NULL), DF_ERR_VERSION);
	file[6] = 2;
	file[11] = 0x7f;
	assert_int_equal(df_npy_parse(s, false, &npy, NULL), DF_ERR_LIMIT);
	file[0] = 0;
	assert_int_equal(df_npy_parse(s, false, &npy, NULL), DF_ERR_CORRUPT);
}

static void test_npy__reads_back_what_it_writes_for_every_size(void **state)
{
	static const uint64_t rows[] = {0, 1, 9, 12345678901, UINT64_MAX};
	char head[DF_NPY_HEADER_BYTES], more[200];
	struct df_npy npy;
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		df_npy_header(head, DF_NPY_F16, rows[i], UINT64_MAX);
		assert_int_equal(head[DF_NPY_HEADER_BYTES - 1], '\n');
		assert_int_equal(head[8], 118);
	}
	df_npy_header(more, DF_NPY_F16, 3, 5);
	assert_int_equal(df_npy_parse((struct df_str){more, 128 + 30}, false, &npy, NULL), DF_OK);
	assert_true(npy.rows == 3 && npy.dim == 5 && npy.dtype == DF_NPY_F16 && npy.data == more + 128);
	assert_int_equal(df_npy_parse((struct df_str){more, 128 + 29}, false, &npy, NULL), DF_ERR_CORRUPT);
	df_npy_header(more, DF_NPY_F32, 0, 5);
	assert_int_equal(df_npy_parse((struct df_str){more, 128 + 59}, true, &npy, NULL), DF_OK);
	assert_true(npy.rows == 2 && npy.dim == 5); /* a part that is still written to: whole rows */
}

static void test_npy__reads_what_numpy_writes(void **state)
{
	struct df_npy npy;
	(void)state;
	assert_int_equal(df_npy_parse(file_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24),
				      false, &npy, NULL),
			 DF_OK);
	assert_true(npy.rows == 2 && npy.dim == 3 && npy.data_bytes == 24);
	assert_int_equal(df_npy_parse(file_of("{\"shape\": (6,), \"descr\": \"<f4\", \"fortran_order\": False}", 24),
				      false, &npy, NULL),
			 DF_OK);
	assert_true(npy.rows == 1 && npy.dim == 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_npy__refuses_what_it_cannot_index),
		cmocka_unit_test(test_npy__refuses_headers_longer_than_the_file),
		cmocka_unit_test(test_npy__reads_back_what_it_writes_for_every_size),
		cmocka_unit_test(test_npy__reads_what_numpy_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
