// SPDX-License-Identifier: Apache-2.0
/* help_bert: see help_bert.h. Nothing here uses worker/math but its conversions of single numbers. */
#include "tests/unit/help_bert.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "worker/math/kernels.h"

#define NAME_BYTES 128
#define HEADER_BYTES(m) ((m)->n * 256 + 64)

static uint16_t to_half(const struct help_bert *m, float v)
{
	uint32_t bits;
	if (strcmp(m->dtype, "F16") == 0)
		return df_f16_from_f32(v);
	memcpy(&bits, &v, sizeof(bits));
	return (uint16_t)(bits >> 16);
}

static float rounded(const struct help_bert *m, float v)
{
	if (strcmp(m->dtype, "F32") == 0)
		return v;
	return strcmp(m->dtype, "F16") == 0 ? df_f16_to_f32(to_half(m, v)) : df_bf16_to_f32(to_half(m, v));
}

static void add(struct help_bert *m, struct df_rand *r, size_t rows, size_t columns, float around, const char *name)
{
	size_t n = (rows ? rows : 1) * columns;
	m->name = realloc(m->name, (m->n + 1) * sizeof(*m->name));
	m->shape = realloc(m->shape, (m->n + 1) * sizeof(*m->shape));
	m->data = realloc(m->data, (m->n + 1) * sizeof(*m->data));
	assert_true(m->name && m->shape && m->data);
	m->name[m->n] = strdup(name);
	m->shape[m->n][0] = rows;
	m->shape[m->n][1] = columns;
	m->data[m->n] = malloc(n * sizeof(float));
	assert_true(m->name[m->n] && m->data[m->n]);
	for (size_t i = 0; i < n; i++)
		m->data[m->n][i] = rounded(m, around + ((float)(r->next(r->self) >> 40) * 0x1p-24F - 0.5F) * 0.4F);
	m->n++;
}

static void add_layer(struct help_bert *m, struct df_rand *r, size_t layer)
{
	const size_t h = m->config.hidden, wide = m->config.intermediate;
	const struct {
		const char *part;
		size_t out, in; /* in 0: a layer norm */
	} parts[] = {{"attention.self.query", h, h},
		     {"attention.self.key", h, h},
		     {"attention.self.value", h, h},
		     {"attention.output.dense", h, h},
		     {"attention.output.LayerNorm", h, 0},
		     {"intermediate.dense", wide, h},
		     {"output.dense", h, wide},
		     {"output.LayerNorm", h, 0}};
	char name[NAME_BYTES];
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		bool norm = parts[i].in == 0;
		(void)snprintf(name, sizeof(name), "encoder.layer.%zu.%s.weight", layer, parts[i].part);
		add(m, r, norm ? 0 : parts[i].out, norm ? parts[i].out : parts[i].in, norm ? 1 : 0, name);
		(void)snprintf(name, sizeof(name), "encoder.layer.%zu.%s.bias", layer, parts[i].part);
		add(m, r, 0, parts[i].out, 0, name);
	}
}

void help_bert_make(struct help_bert *m, uint64_t seed)
{
	struct df_rand r = df_rand_seeded(&seed);
	const struct df_bert_config *c = &m->config;
	add(m, &r, c->vocab, c->hidden, 0, "embeddings.word_embeddings.weight");
	add(m, &r, c->max_positions, c->hidden, 0, "embeddings.position_embeddings.weight");
	add(m, &r, c->type_vocab, c->hidden, 0, "embeddings.token_type_embeddings.weight");
	add(m, &r, 0, c->hidden, 1, "embeddings.LayerNorm.weight");
	add(m, &r, 0, c->hidden, 0, "embeddings.LayerNorm.bias");
	for (size_t i = 0; i < c->layers; i++)
		add_layer(m, &r, i);
}

void help_bert_release(struct help_bert *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->name[i]);
		free(m->data[i]);
	}
	free(m->name);
	free(m->shape);
	free(m->data);
	*m = (struct help_bert){0};
}

/* ------------------------------------------------------------------ files */

static FILE *create(const char *dir, const char *name)
{
	char path[4096];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	return f;
}

static size_t items(const struct help_bert *m, size_t i)
{
	return (m->shape[i][0] ? m->shape[i][0] : 1) * m->shape[i][1];
}

static void write_weights(const struct help_bert *m, const char *dir)
{
	size_t item_bytes = strcmp(m->dtype, "F32") == 0 ? 4 : 2, at = 0, n = 0;
	char *header = malloc(HEADER_BYTES(m));
	assert_non_null(header);
	header[n++] = '{';
	for (size_t i = 0; i < m->n; i++, at += items(m, i - 1) * item_bytes) {
		n += (size_t)snprintf(header + n, HEADER_BYTES(m) - n, "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[",
				      i ? "," : "", m->prefix, m->name[i], m->dtype);
		if (m->shape[i][0])
			n += (size_t)snprintf(header + n, HEADER_BYTES(m) - n, "%zu,", m->shape[i][0]);
		n += (size_t)snprintf(header + n, HEADER_BYTES(m) - n, "%zu],\"data_offsets\":[%zu,%zu]}",
				      m->shape[i][1], at, at + items(m, i) * item_bytes);
	}
	header[n++] = '}';
	while (n % 8 != m->misalign)
		header[n++] = ' ';
	uint64_t n64 = n;
	FILE *f = create(dir, "model.safetensors");
	assert_int_equal(fwrite(&n64, 8, 1, f), 1);
	assert_int_equal(fwrite(header, 1, n, f), n);
	for (size_t i = 0; i < m->n; i++)
		for (size_t j = 0; j < items(m, i); j++) {
			uint16_t half = item_bytes == 2 ? to_half(m, m->data[i][j]) : 0;
			const void *p = item_bytes == 2 ? (const void *)&half : &m->data[i][j];
			assert_int_equal(fwrite(p, item_bytes, 1, f), 1);
		}
	assert_int_equal(fclose(f), 0);
	free(header);
}

void help_bert_write(const struct help_bert *m, const char *dir)
{
	const struct df_bert_config *c = &m->config;
	char path[4096];
	write_weights(m, dir);
	FILE *f = create(dir, "config.json");
	(void)fprintf(
		f,
		"{\"model_type\":\"bert\",\"hidden_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,"
		"\"intermediate_size\":%u,\"vocab_size\":%u,\"max_position_embeddings\":%u,\"type_vocab_size\":%u,"
		"\"layer_norm_eps\":%.9g,\"hidden_act\":\"%s\"}\n",
		c->hidden, c->layers, c->heads, c->intermediate, c->vocab, c->max_positions, c->type_vocab,
		(double)c->layer_norm_eps, c->act == DF_BERT_GELU ? "gelu" : "gelu_new");
	assert_int_equal(fclose(f), 0);
	if (c->pooling == DF_BERT_POOL_MEAN)
		return;
	(void)snprintf(path, sizeof(path), "%s/1_Pooling", dir);
	assert_int_equal(mkdir(path, 0777), 0);
	f = create(dir, "1_Pooling/config.json");
	(void)fprintf(f, "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}\n");
	assert_int_equal(fclose(f), 0);
}

/* ------------------------------------------------------------------ the definition */

static const float *weight(const struct help_bert *m, size_t layer, const char *part)
{
	char name[NAME_BYTES];
	if (layer == SIZE_MAX)
		(void)snprintf(name, sizeof(name), "embeddings.%s", part);
	else
		(void)snprintf(name, sizeof(name), "encoder.layer.%zu.%s", layer, part);
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->name[i], name) == 0)
			return m->data[i];
	fail_msg("no tensor %s", name);
	return NULL;
}

static void dense(const struct help_bert *m, size_t layer, const char *part, const double *x, size_t in, double *y,
		  size_t out)
{
	char name[NAME_BYTES];
	(void)snprintf(name, sizeof(name), "%s.weight", part);
	const float *w = weight(m, layer, name);
	(void)snprintf(name, sizeof(name), "%s.bias", part);
	const float *b = weight(m, layer, name);
	for (size_t o = 0; o < out; o++) {
		y[o] = (double)b[o];
		for (size_t i = 0; i < in; i++)
			y[o] += (double)w[o * in + i] * x[i];
	}
}

static void norm(const struct help_bert *m, size_t layer, const char *part, double *x)
{
	const size_t n = m->config.hidden;
	char name[NAME_BYTES];
	double mean = 0, var = 0;
	(void)snprintf(name, sizeof(name), "%s.weight", part);
	const float *gamma = weight(m, layer, name);
	(void)snprintf(name, sizeof(name), "%s.bias", part);
	const float *beta = weight(m, layer, name);
	for (size_t i = 0; i < n; i++)
		mean += x[i] / (double)n;
	for (size_t i = 0; i < n; i++)
		var += (x[i] - mean) * (x[i] - mean) / (double)n;
	for (size_t i = 0; i < n; i++)
		x[i] = (x[i] - mean) / sqrt(var + (double)m->config.layer_norm_eps) * (double)gamma[i] +
		       (double)beta[i];
}

static double act(const struct help_bert *m, double v)
{
	if (m->config.act == DF_BERT_GELU)
		return 0.5 * v * (1 + erf(v / sqrt(2)));
	return 0.5 * v * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
}

/* c[len,H] = attention of q, k, v [len,H] */
static void attend(const struct help_bert *m, const double *q, const double *k, const double *v, size_t len, double *c)
{
	const size_t h = m->config.hidden, dim = h / m->config.heads;
	double *p = calloc(len, sizeof(*p));
	assert_non_null(p);
	for (size_t head = 0; head < h; head += dim)
		for (size_t i = 0; i < len; i++) {
			double sum = 0;
			for (size_t j = 0; j < len; j++) {
				double s = 0;
				for (size_t d = head; d < head + dim; d++)
					s += q[i * h + d] * k[j * h + d];
				p[j] = exp(s / sqrt((double)dim));
				sum += p[j];
			}
			for (size_t d = head; d < head + dim; d++) {
				c[i * h + d] = 0;
				for (size_t j = 0; j < len; j++)
					c[i * h + d] += p[j] / sum * v[j * h + d];
			}
		}
	free(p);
}

static void layer_of(const struct help_bert *m, size_t l, double *x, size_t len)
{
	const size_t h = m->config.hidden, wide = m->config.intermediate;
	double *buf = calloc(len * h * 4 + wide + h, sizeof(*buf));
	assert_non_null(buf);
	double *q = buf, *k = q + len * h, *v = k + len * h, *c = v + len * h, *up = c + len * h, *y = up + wide;
	for (size_t i = 0; i < len; i++) {
		dense(m, l, "attention.self.query", x + i * h, h, q + i * h, h);
		dense(m, l, "attention.self.key", x + i * h, h, k + i * h, h);
		dense(m, l, "attention.self.value", x + i * h, h, v + i * h, h);
	}
	attend(m, q, k, v, len, c);
	for (size_t i = 0; i < len; i++) {
		dense(m, l, "attention.output.dense", c + i * h, h, y, h);
		for (size_t d = 0; d < h; d++)
			x[i * h + d] += y[d];
		norm(m, l, "attention.output.LayerNorm", x + i * h);
		dense(m, l, "intermediate.dense", x + i * h, h, up, wide);
		for (size_t d = 0; d < wide; d++)
			up[d] = act(m, up[d]);
		dense(m, l, "output.dense", up, wide, y, h);
		for (size_t d = 0; d < h; d++)
			x[i * h + d] += y[d];
		norm(m, l, "output.LayerNorm", x + i * h);
	}
	free(buf);
}

void help_bert_embed(const struct help_bert *m, const uint32_t *ids, size_t len, double *out)
{
	const size_t h = m->config.hidden;
	double *x = calloc(len * h, sizeof(*x));
	assert_non_null(x);
	for (size_t i = 0; i < len; i++) {
		for (size_t d = 0; d < h; d++)
			x[i * h + d] = (double)weight(m, SIZE_MAX, "word_embeddings.weight")[ids[i] * h + d] +
				       (double)weight(m, SIZE_MAX, "position_embeddings.weight")[i * h + d] +
				       (double)weight(m, SIZE_MAX, "token_type_embeddings.weight")[d];
		norm(m, SIZE_MAX, "LayerNorm", x + i * h);
	}
	for (size_t l = 0; l < m->config.layers; l++)
		layer_of(m, l, x, len);
	for (size_t d = 0; d < h; d++) {
		out[d] = 0;
		for (size_t i = 0; i < (m->config.pooling == DF_BERT_POOL_CLS ? 1 : len); i++)
			out[d] += x[i * h + d];
		if (m->config.pooling == DF_BERT_POOL_MEAN)
			out[d] /= (double)len;
	}
	free(x);
}
