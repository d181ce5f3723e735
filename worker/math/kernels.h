// SPDX-License-Identifier: Apache-2.0
/*
 * kernels: what a transformer does between its matrix products, in float32.
 *
 * One table of functions per instruction set, all made from kernels_simd.inc; df_kernels() is the best this CPU runs,
 * df_kernels_reference the same functions written plainly in double precision, against which tests hold the others.
 * Shapes are [rows, n], row-major and dense unless a stride is given; pointers need no alignment beyond a float's.
 * Outputs may not overlap inputs except where a function says "in place". Nothing allocates or fails.
 */
#ifndef DF_WORKER_MATH_KERNELS_H
#define DF_WORKER_MATH_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/*
 * One head of self-attention over one sequence of `len` tokens:
 *   out = softmax(scale * (q + bias_q) transpose(k + bias_k)) (v + bias_v)
 * q, k, v point at the head's first column; rows are `stride` floats apart, those of out `out_stride`.
 * work: df_attention_work(len, dim) floats, contents undefined before and after.
 */
struct df_attention {
	const float *q, *k, *v;                /* [len, dim] each */
	const float *bias_q, *bias_k, *bias_v; /* [dim] each */
	float *out;                            /* [len, dim] */
	float *work;
	size_t stride, out_stride;
	size_t len, dim;
	float scale; /* 1 / sqrt(dim) in BERT */
};

struct df_kernels {
	const char *name; /* "avx512", "avx2", "base", "reference" */

	/* x[rows,n] += bias[n], in place. */
	void (*bias)(float *x, const float *bias, size_t rows, size_t n);

	/* x = gelu(x + bias), in place; gelu(x) = x * Phi(x), the exact (erf) form. Absolute error below 1e-6, or
	 * relative where |x| > 1. Abramowitz and Stegun 7.1.26. */
	void (*bias_gelu)(float *x, const float *bias, size_t rows, size_t n);

	/* The tanh approximation ("gelu_new"): 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). */
	void (*bias_gelu_tanh)(float *x, const float *bias, size_t rows, size_t n);

	/* x = gamma * norm(x + y + bias) + beta, in place on x: a block's bias, residual sum and layer norm in one pass.
	 * norm is per row: (v - mean) / sqrt(variance + eps), population variance. y and bias may be NULL. */
	void (*residual_norm)(float *x, const float *y, const float *bias, const float *gamma, const float *beta,
			      float eps, size_t rows, size_t n);

	/* Per row: exp(x - max) / sum, in place. n >= 1. */
	void (*softmax)(float *x, size_t rows, size_t n);

	void (*attention)(const struct df_attention *a);

	/* out[n] = mean over rows; rows >= 1. */
	void (*mean)(float *out, const float *x, size_t rows, size_t n);

	/* Each row divided by its Euclidean norm (at least 1e-12), in place: a zero row stays zero. */
	void (*normalize)(float *x, size_t rows, size_t n);

	/* IEEE 754 binary16, round to nearest even; beyond its range infinity; NaN stays NaN. */
	void (*to_f16)(uint16_t *out, const float *x, size_t n);
	void (*from_f16)(float *out, const uint16_t *x, size_t n);
};

/* The best table for this CPU; always the same one. Thread-safe. */
const struct df_kernels *df_kernels(void);

/* The i-th table that this CPU runs (best first), NULL beyond the last. */
const struct df_kernels *df_kernels_at(size_t i);

extern const struct df_kernels df_kernels_reference;

/* Floats of scratch for one head; monotonic in both. */
size_t df_attention_work(size_t len, size_t dim);

/* One value, by integer arithmetic; any CPU. */
uint16_t df_f16_from_f32(float v);
float df_f16_to_f32(uint16_t h);
float df_bf16_to_f32(uint16_t h);

#endif
