// SPDX-License-Identifier: Apache-2.0
/* test_map: many keys, odd keys, and a ceiling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/map.h"

static void test_map__finds_each_of_a_hundred_thousand_keys(void **state)
{
	(void)state;
	struct df_map m;
	char key[32];
	df_map_init(&m, 64 << 20);
	assert_null(df_map_get(&m, DF_STR("none")));
	for (int round = 0; round < 2; round++)
		for (uint64_t i = 0; i < 100000; i++) {
			uint64_t *v = NULL;
			int n = snprintf(key, sizeof(key), "key-%llu", (unsigned long long)i);
			assert_int_equal(df_map_put(&m, (struct df_str){key, (size_t)n}, i, &v), DF_OK);
			assert_true(*v == i + (uint64_t)round);
			++*v;
		}
	assert_int_equal(m.n, 100000);
	assert_int_equal(*df_map_get(&m, DF_STR("key-99999")), 100001);
	assert_null(df_map_get(&m, DF_STR("key-100000")));
	df_map_release(&m);
}

static void test_map__keys_are_bytes(void **state)
{
	(void)state;
	struct df_map m;
	uint64_t *v = NULL;
	df_map_init(&m, 1 << 20);
	assert_int_equal(df_map_put(&m, (struct df_str){NULL, 0}, 1, &v), DF_OK);
	assert_int_equal(df_map_put(&m, (struct df_str){"\0", 1}, 2, &v), DF_OK);
	assert_int_equal(df_map_put(&m, (struct df_str){"\0\0", 2}, 3, &v), DF_OK);
	assert_int_equal(m.n, 3);
	assert_int_equal(*df_map_get(&m, DF_STR("")), 1);
	assert_int_equal(*df_map_get(&m, (struct df_str){"\0\0", 2}), 3);
	df_map_release(&m);
}

static void test_map__a_full_map_says_so_and_keeps_what_it_has(void **state)
{
	(void)state;
	struct df_map m;
	char key[1000];
	enum df_err err = DF_OK;
	size_t n = 0;
	df_map_init(&m, 200000);
	while (err == DF_OK && n < 1000) {
		uint64_t *v = NULL;
		memset(key, 'k', sizeof(key));
		(void)snprintf(key, sizeof(key), "%zu", n);
		err = df_map_put(&m, (struct df_str){key, sizeof(key)}, n, &v);
		n += err == DF_OK;
	}
	assert_int_equal(err, DF_ERR_NOMEM);
	assert_in_range(n, 50, 200);
	assert_int_equal(m.n, n);
	memset(key, 'k', sizeof(key));
	(void)snprintf(key, sizeof(key), "%u", 7U);
	assert_int_equal(*df_map_get(&m, (struct df_str){key, sizeof(key)}), 7);
	df_map_release(&m);
	df_map_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map__finds_each_of_a_hundred_thousand_keys),
		cmocka_unit_test(test_map__keys_are_bytes),
		cmocka_unit_test(test_map__a_full_map_says_so_and_keeps_what_it_has),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
