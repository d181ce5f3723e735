// SPDX-License-Identifier: Apache-2.0
/* kernels: which table this CPU runs, and half precision by integer arithmetic. */
#include "worker/math/kernels.h"

#include <string.h>

#include "worker/math/kernels_level.h"

#define WIDEST 16U /* floats of the widest vector */
#define ROWS 4U    /* query rows that the attention kernel holds at once */

#if defined(__x86_64__)
static int has_avx512(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
}

static int has_avx2(void)
{
	/* F16C has been in every CPU with AVX2; compilers of this age cannot ask for it by name */
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

const struct df_kernels *df_kernels_at(size_t i)
{
	const struct df_kernels *have[3];
	size_t n = 0;
#if defined(__x86_64__)
	if (has_avx512())
		have[n++] = &df_kernels_avx512;
	if (has_avx2())
		have[n++] = &df_kernels_avx2;
#endif
	have[n++] = &df_kernels_base;
	return i < n ? have[i] : NULL;
}

const struct df_kernels *df_kernels(void)
{
	return df_kernels_at(0);
}

static size_t up(size_t n)
{
	return (n + WIDEST - 1) / WIDEST * WIDEST;
}

size_t df_attention_work(size_t len, size_t dim)
{
	/* keys transposed, values, a block of queries, its scores; +WIDEST to align */
	return dim * up(len) + len * up(dim) + ROWS * dim + ROWS * up(len) + WIDEST;
}

static uint32_t bits_of(float v)
{
	uint32_t u;
	memcpy(&u, &v, sizeof(u));
	return u;
}

static float float_of(uint32_t u)
{
	float v;
	memcpy(&v, &u, sizeof(v));
	return v;
}

/* m / 2^shift, rounded to nearest, ties to even. */
static uint32_t round_shift(uint32_t m, unsigned shift)
{
	uint32_t half = UINT32_C(1) << (shift - 1);
	uint32_t rest = m & ((half << 1) - 1);
	uint32_t q = m >> shift;
	return q + (rest > half || (rest == half && (q & 1)));
}

uint16_t df_f16_from_f32(float v)
{
	uint32_t u = bits_of(v), sign = (u >> 16) & 0x8000U, a = u & 0x7fffffffU;
	if (a > 0x7f800000U) /* NaN: quiet, top of its payload */
		return (uint16_t)(sign | 0x7e00U | ((a >> 13) & 0x1ffU));
	if (a >= 0x47800000U) /* 65536 and more; what lies between 65520 and it rounds up below by itself */
		return (uint16_t)(sign | 0x7c00U);
	if (a >= 0x38800000U) /* normal: the carry of rounding runs into the exponent, as it should */
		return (uint16_t)(sign | round_shift(a - 0x38000000U, 13));
	if (a < 0x33000000U) /* below half of the smallest subnormal */
		return (uint16_t)sign;
	unsigned exponent = a >> 23;
	return (uint16_t)(sign | round_shift((a & 0x7fffffU) | 0x800000U, 126 - exponent));
}

float df_f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000U) << 16, e = (h >> 10) & 31U, m = h & 0x3ffU;
	if (e == 31)
		return float_of(sign | 0x7f800000U | (m ? 0x400000U : 0) | (m << 13));
	if (e)
		return float_of(sign | ((e + 112) << 23) | (m << 13));
	float v = (float)m * 0x1p-24F; /* subnormal: exact */
	return sign ? -v : v;
}

float df_bf16_to_f32(uint16_t h)
{
	return float_of((uint32_t)h << 16);
}
