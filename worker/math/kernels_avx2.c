// SPDX-License-Identifier: Apache-2.0
/* kernels_avx2: kernels_simd.inc in vectors of 8 floats. */
#include "worker/math/kernels_level.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define LEVEL avx2
#define LEVEL_NAME "avx2"
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define VW 8
#define TILE 2
#define VMAX(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define VMIN(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define TO_F16(out, v) _mm_storeu_si128((__m128i_u *)(out), _mm256_cvtps_ph((__m256)(v), _MM_FROUND_TO_NEAREST_INT))
#define FROM_F16(p) ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(p))))
#include "worker/math/kernels_simd.inc"
#endif
