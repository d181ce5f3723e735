// SPDX-License-Identifier: Apache-2.0
/* kernels_level: the tables of the instruction sets, for kernels.c alone; others call df_kernels(). */
#ifndef DF_WORKER_MATH_KERNELS_LEVEL_H
#define DF_WORKER_MATH_KERNELS_LEVEL_H

#include "worker/math/kernels.h"

#if defined(__x86_64__)
extern const struct df_kernels df_kernels_avx512;
extern const struct df_kernels df_kernels_avx2;
#endif
extern const struct df_kernels df_kernels_base; /* 16-byte vectors: SSE2, NEON, or what the compiler makes of them */

#endif
