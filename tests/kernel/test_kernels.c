// SPDX-License-Identifier: Apache-2.0
/* test_kernels: every instruction set that this CPU has, against the same functions in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/math/gemm.h"
#include "worker/math/kernels.h"

#define MOST 4096

static uint64_t seed;

static float uniform(float low, float high)
{
	struct df_rand r = df_rand_seeded(&seed);
	return low + (high - low) * (float)(r.next(r.self) >> 40) * 0x1p-24F;
}

static void fill(float *x, size_t n, float low, float high)
{
	for (size_t i = 0; i < n; i++)
		x[i] = uniform(low, high);
}

static float *numbers(size_t n, float low, float high)
{
	float *x = malloc((n ? n : 1) * sizeof(*x)); /* exact size: a sanitizer sees a read past the end */
	assert_non_null(x);
	fill(x, n, low, high);
	return x;
}

static float *copy_of(const float *x, size_t n)
{
	float *y = malloc(n * sizeof(*y));
	assert_non_null(y);
	memcpy(y, x, n * sizeof(*y));
	return y;
}

static void assert_near(const char *what, const float *got, const float *want, size_t n, float tolerance)
{
	for (size_t i = 0; i < n; i++) {
		float scale = fabsf(want[i]) > 1.0F ? fabsf(want[i]) : 1.0F;
		if (!(fabsf(got[i] - want[i]) <= tolerance * scale))
			fail_msg("%s: item %zu is %.9g, not %.9g", what, i, (double)got[i], (double)want[i]);
	}
}

static const size_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384, 1024, 1537};
#define N_LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static void test_gelu__errs_less_than_a_millionth_everywhere(void **state)
{
	(void)state;
	for (size_t level = 0; df_kernels_at(level); level++) {
		const struct df_kernels *k = df_kernels_at(level);
		static float x[MOST], want[MOST];
		const float zero[MOST] = {0};
		double worst = 0;
		for (int block = -40; block < 40; block++) {
			for (size_t i = 0; i < MOST; i++)
				x[i] = want[i] = (float)block + (float)i / MOST;
			k->bias_gelu(x, zero, 1, MOST);
			df_kernels_reference.bias_gelu(want, zero, 1, MOST);
			for (size_t i = 0; i < MOST; i++) {
				double e = fabs((double)x[i] - (double)want[i]) / fmax(1.0, fabs((double)want[i]));
				worst = fmax(worst, e);
			}
		}
		print_message("%s: gelu errs at most %.2e\n", k->name, worst);
		assert_true(worst < 1e-6);
		float huge[2] = {-1e30F, 1e30F};
		k->bias_gelu(huge, zero, 1, 2);
		assert_true(fabsf(huge[0]) < 1e-6F && huge[1] == 1e30F);
	}
}

static void test_rows__are_right_for_every_length_of_tail(void **state)
{
	(void)state;
	for (size_t level = 0; df_kernels_at(level); level++)
		for (size_t l = 0; l < N_LENGTHS; l++) {
			const struct df_kernels *k = df_kernels_at(level), *ref = &df_kernels_reference;
			const size_t n = lengths[l], rows = 3;
			float *x = numbers(rows * n, -4, 4), *want = copy_of(x, rows * n), *b = numbers(n, -2, 2);
			float *y = numbers(rows * n, -4, 4), *gamma = numbers(n, 0.5F, 2), *beta = numbers(n, -1, 1);
			k->bias(x, b, rows, n);
			ref->bias(want, b, rows, n);
			assert_near("bias", x, want, rows * n, 1e-6F);
			k->bias_gelu_tanh(x, b, rows, n);
			ref->bias_gelu_tanh(want, b, rows, n);
			assert_near("gelu_tanh", x, want, rows * n, 2e-6F);
			k->bias_gelu(x, b, rows, n);
			ref->bias_gelu(want, b, rows, n);
			assert_near("gelu", x, want, rows * n, 2e-6F);
			/* nearly equal items make a norm ill-conditioned: eps as in a model of large eps */
			k->residual_norm(x, y, b, gamma, beta, 1e-5F, rows, n);
			ref->residual_norm(want, y, b, gamma, beta, 1e-5F, rows, n);
			assert_near("residual_norm", x, want, rows * n, 2e-5F);
			k->residual_norm(x, NULL, NULL, gamma, beta, 1e-5F, rows, n);
			ref->residual_norm(want, NULL, NULL, gamma, beta, 1e-5F, rows, n);
			assert_near("norm", x, want, rows * n, 1e-4F);
			fill(x, rows * n, -30, 30);
			memcpy(want, x, rows * n * sizeof(*x));
			k->softmax(x, rows, n);
			ref->softmax(want, rows, n);
			assert_near("softmax", x, want, rows * n, 1e-6F);
			k->mean(y, x, rows, n);
			ref->mean(b, x, rows, n);
			assert_near("mean", y, b, n, 1e-6F);
			fill(x, rows * n, -3, 3);
			memcpy(want, x, rows * n * sizeof(*x));
			k->normalize(x, rows, n);
			ref->normalize(want, rows, n);
			assert_near("normalize", x, want, rows * n, 1e-6F);
			free(x), free(want), free(b), free(y), free(gamma), free(beta);
		}
}

static void test_normalize__leaves_a_zero_row_alone(void **state)
{
	(void)state;
	for (size_t level = 0; df_kernels_at(level); level++) {
		float x[17] = {0};
		df_kernels_at(level)->normalize(x, 1, 17);
		for (size_t i = 0; i < 17; i++)
			assert_true(x[i] == 0);
	}
}

static void test_softmax__holds_at_the_ends_of_the_range(void **state)
{
	(void)state;
	for (size_t level = 0; df_kernels_at(level); level++) {
		float x[20] = {1e30F, -1e30F, 1e30F}, all_equal[19], sum = 0;
		df_kernels_at(level)->softmax(x, 1, 20);
		assert_true(fabsf(x[0] - 0.5F) < 1e-6F && x[1] < 1e-30F && fabsf(x[2] - 0.5F) < 1e-6F);
		for (size_t i = 0; i < 19; i++)
			all_equal[i] = -3e38F;
		df_kernels_at(level)->softmax(all_equal, 1, 19);
		for (size_t i = 0; i < 19; i++)
			sum += all_equal[i];
		assert_true(fabsf(sum - 1) < 1e-6F);
	}
}

/* One head among others: strides as in the model, and canaries around what it may write. */
static void check_attention(const struct df_kernels *k, size_t len, size_t dim, float spread)
{
	const size_t stride = 3 * dim + 5, out_stride = dim + 3;
	float *qkv = numbers(len * stride, -spread, spread), *bias = numbers(3 * dim, -1, 1);
	float *out = numbers(len * out_stride, 7, 7), *want = copy_of(out, len * out_stride);
	float *work = numbers(df_attention_work(len, dim), NAN, NAN);
	struct df_attention a = {.q = qkv,
				 .k = qkv + dim,
				 .v = qkv + 2 * dim,
				 .bias_q = bias,
				 .bias_k = bias + dim,
				 .bias_v = bias + 2 * dim,
				 .out = out,
				 .work = work,
				 .stride = stride,
				 .out_stride = out_stride,
				 .len = len,
				 .dim = dim,
				 .scale = 1.0F / sqrtf((float)dim)};
	k->attention(&a);
	a.out = want;
	df_kernels_reference.attention(&a);
	assert_near("attention", out, want, len * out_stride,
		    1e-5F * spread * spread); /* scores, and their errors, grow so */
	free(qkv), free(bias), free(out), free(want), free(work);
}

static void test_attention__equals_its_definition_for_all_shapes(void **state)
{
	static const size_t dims[] = {1, 3, 8, 16, 20, 32, 48, 64, 96},
			    lens[] = {1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 65, 130};
	(void)state;
	for (size_t level = 0; df_kernels_at(level); level++)
		for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++)
			for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
				check_attention(df_kernels_at(level), lens[l], dims[d], 2);
	for (size_t level = 0; df_kernels_at(level); level++)
		check_attention(df_kernels_at(level), 50, 32, 6); /* one key takes nearly all */
}

static void test_f16__every_half_goes_there_and_back(void **state)
{
	(void)state;
	static uint16_t all[65536], back[65536];
	static float wide[65536];
	for (size_t i = 0; i < 65536; i++)
		all[i] = (uint16_t)i;
	for (size_t level = 0; df_kernels_at(level); level++) {
		df_kernels_at(level)->from_f16(wide, all, 65536);
		df_kernels_at(level)->to_f16(back, wide, 65536);
		for (size_t i = 0; i < 65536; i++) {
			bool is_nan = (i & 0x7c00U) == 0x7c00U && (i & 0x3ffU);
			assert_true(is_nan ? isnan(wide[i]) != 0 : back[i] == all[i]);
			float plain = df_f16_to_f32((uint16_t)i);
			assert_true(is_nan ? isnan(plain) != 0 : plain == wide[i]);
		}
	}
}

static void test_f16__rounds_as_the_cpu_does(void **state)
{
	(void)state;
	uint64_t s = 5;
	struct df_rand r = df_rand_seeded(&s);
	for (int round = 0; round < 2000; round++) {
		float x[33];
		uint16_t h[33];
		for (size_t i = 0; i < 33; i++) {
			uint32_t bits = (uint32_t)r.next(r.self);
			if (i & 1) /* near the half-way points and the subnormals, where rounding is decided */
				bits = (bits & 0x80001fffU) | ((0x66U + bits % 42U) << 23) | (bits & 0x7ff000U);
			memcpy(&x[i], &bits, 4);
		}
		for (size_t level = 0; df_kernels_at(level); level++) {
			df_kernels_at(level)->to_f16(h, x, 33);
			for (size_t i = 0; i < 33; i++)
				if (!isnan(x[i]) && h[i] != df_f16_from_f32(x[i]))
					fail_msg("%a is %04x, not %04x", (double)x[i], h[i], df_f16_from_f32(x[i]));
		}
	}
	assert_int_equal(df_f16_from_f32(65519.0F), 0x7bff);
	assert_int_equal(df_f16_from_f32(65520.0F), 0x7c00);
	assert_int_equal(df_f16_from_f32(0x1p-25F), 0);
	assert_int_equal(df_f16_from_f32(0x1.002p-25F), 1);
	assert_true(df_bf16_to_f32(0x3f80) == 1.0F);
}

static void test_gemm__multiplies_by_the_transpose(void **state)
{
	(void)state;
	const size_t m = 37, n = 29, k = 65, ldc = 31;
	float *a = numbers(m * k, -1, 1), *b = numbers(n * k, -1, 1), *c = numbers(m * ldc, 9, 9),
	      *y = numbers(m, 0, 0);
	df_gemm_init();
	df_gemm_nt(m, n, k, a, k, b, k, c, ldc);
	df_gemv(m, k, a, k, b, y);
	for (size_t i = 0; i < m; i++) {
		for (size_t j = 0; j < n; j++) {
			double want = 0;
			for (size_t p = 0; p < k; p++)
				want += (double)a[i * k + p] * (double)b[j * k + p];
			assert_true(fabs((double)c[i * ldc + j] - want) < 1e-5);
			if (j == 0)
				assert_true(fabs((double)y[i] - want) < 1e-5);
		}
		assert_true(c[i * ldc + n] == 9 && c[i * ldc + n + 1] == 9);
	}
	free(a), free(b), free(c), free(y);
}

static void test_gemm__never_uses_the_oldest_kernels_on_a_new_cpu(void **state)
{
	(void)state;
	df_gemm_init();
	print_message("OpenBLAS core: %s, kernels: %s\n", df_gemm_core(), df_kernels()->name);
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx2") && !getenv("OPENBLAS_CORETYPE")) {
		assert_string_not_equal(df_gemm_core(), "Prescott");
		assert_string_not_equal(df_gemm_core(), "unknown"); /* linked so that nobody can ask */
	}
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gelu__errs_less_than_a_millionth_everywhere),
		cmocka_unit_test(test_rows__are_right_for_every_length_of_tail),
		cmocka_unit_test(test_normalize__leaves_a_zero_row_alone),
		cmocka_unit_test(test_softmax__holds_at_the_ends_of_the_range),
		cmocka_unit_test(test_attention__equals_its_definition_for_all_shapes),
		cmocka_unit_test(test_f16__every_half_goes_there_and_back),
		cmocka_unit_test(test_f16__rounds_as_the_cpu_does),
		cmocka_unit_test(test_gemm__multiplies_by_the_transpose),
		cmocka_unit_test(test_gemm__never_uses_the_oldest_kernels_on_a_new_cpu),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
