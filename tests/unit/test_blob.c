// SPDX-License-Identifier: Apache-2.0
/* Blobs: freed once, by the last owner, whoever that is. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/blob.h"

static atomic_int n_freed;

static void count_free(struct df_blob *blob)
{
	atomic_fetch_add(&n_freed, 1);
	free(blob->p);
	free(blob);
}

static struct df_blob *counted_blob(size_t n)
{
	char *p = malloc(n);
	memset(p, 'x', n);
	struct df_blob *blob = df_blob_adopt(p, n);
	assert_non_null(blob);
	blob->free_bytes = count_free;
	atomic_store(&n_freed, 0);
	return blob;
}

static void test_blob__unref_takes_null_and_nulls(void **state)
{
	struct df_blob *blob = NULL;
	(void)state;
	df_blob_unref(&blob);
	blob = df_blob_create(0);
	assert_non_null(blob);
	assert_int_equal(blob->n, 0);
	df_blob_unref(&blob);
	assert_null(blob);
}

static void test_blob__an_impossible_size_is_null_and_not_a_small_one(void **state)
{
	(void)state;
	assert_null(df_blob_create(SIZE_MAX));
	assert_null(df_blob_create(SIZE_MAX - 63));
	assert_null(df_blob_create(SIZE_MAX / 2 + 1));
}

static void test_blob__every_byte_can_be_written(void **state)
{
	(void)state;
	for (size_t n = 0; n < 300; n++) {
		struct df_blob *blob = df_blob_create(n);
		assert_non_null(blob);
		assert_int_equal((uintptr_t)blob->p % 64, 0);
		memset(blob->p, 0xff, n);
		df_blob_unref(&blob);
	}
}

static void test_blob__a_copy_is_its_own(void **state)
{
	char text[] = "chunk";
	(void)state;
	struct df_blob *blob = df_blob_copy(text, 5);
	assert_non_null(blob);
	text[0] = 'X';
	assert_int_equal(blob->n, 5);
	assert_memory_equal(blob->p, "chunk", 5);
	df_blob_unref(&blob);
	blob = df_blob_copy(NULL, 0);
	assert_non_null(blob);
	df_blob_unref(&blob);
}

static void test_blob__the_last_owner_frees(void **state)
{
	struct df_blob *a = counted_blob(10), *b = df_blob_ref(a);
	(void)state;
	assert_ptr_equal(a, b);
	df_blob_unref(&a);
	assert_int_equal(n_freed, 0);
	assert_int_equal(b->p[9], 'x');
	df_blob_unref(&b);
	assert_int_equal(n_freed, 1);
}

#define ROUNDS 20000

static void *ref_and_unref(void *arg)
{
	struct df_blob *mine = arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct df_blob *more = df_blob_ref(mine);
		df_blob_unref(&more);
	}
	df_blob_unref(&mine);
	return NULL;
}

static void test_blob__four_threads_free_it_once(void **state)
{
	pthread_t thread[4];
	struct df_blob *blob = counted_blob(100);
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, ref_and_unref, df_blob_ref(blob)), 0);
	df_blob_unref(&blob);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(n_freed, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blob__unref_takes_null_and_nulls),
		cmocka_unit_test(test_blob__an_impossible_size_is_null_and_not_a_small_one),
		cmocka_unit_test(test_blob__every_byte_can_be_written),
		cmocka_unit_test(test_blob__a_copy_is_its_own),
		cmocka_unit_test(test_blob__the_last_owner_frees),
		cmocka_unit_test(test_blob__four_threads_free_it_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
