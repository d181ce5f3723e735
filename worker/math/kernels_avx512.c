// SPDX-License-Identifier: Apache-2.0
/* kernels_avx512: kernels_simd.inc in vectors of 16 floats. */
#include "worker/math/kernels_level.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL avx512
#define LEVEL_NAME "avx512"
#define TARGET __attribute__((target("avx512f,avx2,fma,f16c")))
#define VW 16
#define TILE 4 /* vectors of scores per row: 4 rows of 4 fill half the registers */
#define VMAX(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define VMIN(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define TO_F16(out, v) _mm256_storeu_si256((__m256i_u *)(out), _mm512_cvtps_ph((__m512)(v), _MM_FROUND_TO_NEAREST_INT))
#define FROM_F16(p) ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i_u *)(p))))
#include "worker/math/kernels_simd.inc"
#endif
