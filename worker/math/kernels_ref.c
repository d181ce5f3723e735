// SPDX-License-Identifier: Apache-2.0
/* kernels_ref: the kernels as their definitions read, in double precision; the measure for the fast ones. */
#include <math.h>
#include <stdlib.h>

#include "worker/math/kernels.h"

static void bias(float *x, const float *b, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows * n; i++)
		x[i] += b[i % n];
}

static void bias_gelu(float *x, const float *b, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows * n; i++) {
		double v = (double)(x[i] + b[i % n]);
		x[i] = (float)(0.5 * v * erfc(-v / sqrt(2.0)));
	}
}

static void bias_gelu_tanh(float *x, const float *b, size_t rows, size_t n)
{
	for (size_t i = 0; i < rows * n; i++) {
		double v = (double)(x[i] + b[i % n]);
		x[i] = (float)(0.5 * v * (1.0 + tanh(sqrt(2.0 / 3.14159265358979323846) * (v + 0.044715 * v * v * v))));
	}
}

static void residual_norm(float *x, const float *y, const float *b, const float *gamma, const float *beta, float eps,
			  size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++, x += n) {
		double mean = 0, var = 0;
		for (size_t i = 0; i < n; i++) {
			x[i] += (y ? y[r * n + i] : 0) + (b ? b[i] : 0);
			mean += (double)x[i] / (double)n;
		}
		for (size_t i = 0; i < n; i++)
			var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
		for (size_t i = 0; i < n; i++)
			x[i] = (float)(((double)x[i] - mean) / sqrt(var + (double)eps) * (double)gamma[i] +
				       (double)beta[i]);
	}
}

static void softmax(float *x, size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++, x += n) {
		double top = (double)x[0], sum = 0;
		for (size_t i = 1; i < n; i++)
			top = fmax(top, (double)x[i]);
		for (size_t i = 0; i < n; i++)
			sum += exp((double)x[i] - top);
		for (size_t i = 0; i < n; i++)
			x[i] = (float)(exp((double)x[i] - top) / sum);
	}
}

/* Scaled score of query i and key j. */
static double score(const struct df_attention *a, size_t i, size_t j)
{
	double s = 0;
	for (size_t d = 0; d < a->dim; d++)
		s += ((double)a->q[i * a->stride + d] + (double)a->bias_q[d]) *
		     ((double)a->k[j * a->stride + d] + (double)a->bias_k[d]);
	return s * (double)a->scale;
}

static void attention(const struct df_attention *a)
{
	for (size_t i = 0; i < a->len; i++) {
		double top = -INFINITY, sum = 0;
		for (size_t j = 0; j < a->len; j++)
			top = fmax(top, score(a, i, j));
		for (size_t j = 0; j < a->len; j++)
			sum += exp(score(a, i, j) - top);
		for (size_t d = 0; d < a->dim; d++) {
			double o = 0;
			for (size_t j = 0; j < a->len; j++)
				o += exp(score(a, i, j) - top) / sum *
				     ((double)a->v[j * a->stride + d] + (double)a->bias_v[d]);
			a->out[i * a->out_stride + d] = (float)o;
		}
	}
}

static void mean(float *out, const float *x, size_t rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		double s = 0;
		for (size_t r = 0; r < rows; r++)
			s += (double)x[r * n + i];
		out[i] = (float)(s / (double)rows);
	}
}

static void normalize(float *x, size_t rows, size_t n)
{
	for (size_t r = 0; r < rows; r++, x += n) {
		double s = 0;
		for (size_t i = 0; i < n; i++)
			s += (double)x[i] * (double)x[i];
		for (size_t i = 0; i < n; i++)
			x[i] = (float)((double)x[i] / fmax(sqrt(s), 1e-12));
	}
}

static void to_f16(uint16_t *out, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = df_f16_from_f32(x[i]);
}

static void from_f16(float *out, const uint16_t *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		out[i] = df_f16_to_f32(x[i]);
}

const struct df_kernels df_kernels_reference = {
	"reference", bias, bias_gelu, bias_gelu_tanh, residual_norm, softmax,
	attention,   mean, normalize, to_f16,         from_f16,
};
