// SPDX-License-Identifier: Apache-2.0
/*
 * gemm: matrix products in float32, row-major, on one thread. The home of CBLAS.
 *
 * docflume's parallelism is its processes: the library is told to use one thread (df_gemm_init), and no
 * function here may be called from a child between fork and exec.
 *
 * Every leading dimension counts floats and is at least the number of columns. Sizes are below 2^31.
 */
#ifndef DF_WORKER_MATH_GEMM_H
#define DF_WORKER_MATH_GEMM_H

#include <stddef.h>

/*
 * Hold the library to one thread, and see to it that it uses this CPU: an OpenBLAS older than the CPU takes it for a
 * Pentium 4 (0.3.21 on a Xeon of 2023: a fifth of the speed). OPENBLAS_CORETYPE in the environment is respected.
 * Call before the first product, while no other thread reads the environment or multiplies; later calls do nothing.
 */
void df_gemm_init(void);

/* The kernels in use ("SkylakeX", "Haswell", ...); "unknown" when the library does not say. */
const char *df_gemm_core(void);

/* C[m,n] = A[m,k] * transpose(B[n,k]): a dense layer, with B its weights as they lie in a model file. */
void df_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c,
		size_t ldc);

/* y[m] = A[m,k] * x[k]: the scores of m stored vectors against one query. */
void df_gemv(size_t m, size_t k, const float *a, size_t lda, const float *x, float *y);

#endif
