// SPDX-License-Identifier: Apache-2.0
/* gemm: the only file that includes cblas.h. */
#include "worker/math/gemm.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <strings.h>

#include <cblas.h>

#include "base/err.h"

/* Weak: the reference CBLAS has none of these, and Debian's alternatives may put it in OpenBLAS's place. */
#pragma weak openblas_set_num_threads
#pragma weak openblas_get_corename
void gotoblas_dynamic_init(void) __attribute__((weak)); /* of a DYNAMIC_ARCH build: chooses the kernels */
void gotoblas_dynamic_quit(void) __attribute__((weak));

const char *df_gemm_core(void)
{
	return openblas_get_corename ? openblas_get_corename() : "unknown";
}

/* The newest core of OpenBLAS 0.3.21 that this CPU can certainly run; NULL: leave the choice to the library. */
static const char *known_core(void)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
	    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
		return "SkylakeX";
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
		return "Haswell";
#endif
	return NULL;
}

/*
 * OpenBLAS knows CPUs by family and model, and gives one it has never heard of the oldest kernels it has. It decides in
 * its constructor, before any of our code runs, so the decision is made again, with the answer in the environment.
 */
static void choose_core(void)
{
	const char *core = known_core();
	if (!core || !gotoblas_dynamic_init || !gotoblas_dynamic_quit || getenv("OPENBLAS_CORETYPE") ||
	    strcasecmp(df_gemm_core(), "prescott") != 0)
		return;
	if (setenv("OPENBLAS_CORETYPE", core, 1) != 0)
		return;
	gotoblas_dynamic_quit();
	gotoblas_dynamic_init();
	(void)unsetenv("OPENBLAS_CORETYPE");
}

void df_gemm_init(void)
{
	static bool done;
	if (done)
		return;
	done = true;
	choose_core();
	if (openblas_set_num_threads)
		openblas_set_num_threads(1);
}

static blasint narrow(size_t n)
{
	DF_ASSERT(n <= INT_MAX);
	return (blasint)n;
}

void df_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb, float *c,
		size_t ldc)
{
	if (m == 0 || n == 0)
		return;
	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, narrow(m), narrow(n), narrow(k), 1.0F, a, narrow(lda), b,
		    narrow(ldb), 0.0F, c, narrow(ldc));
}

void df_gemv(size_t m, size_t k, const float *a, size_t lda, const float *x, float *y)
{
	if (m == 0)
		return;
	cblas_sgemv(CblasRowMajor, CblasNoTrans, narrow(m), narrow(k), 1.0F, a, narrow(lda), x, 1, 0.0F, y, 1);
}
