// SPDX-License-Identifier: Apache-2.0
/*
 * bert: weights by name, then embeddings, layers, pooling.
 *
 * DESIGN: biases never cost a pass of their own: those of q, k, v are added where attention packs its operands, the others
 * together with the residual sum and layer norm, or with GELU. T is the tokens of a batch, H hidden, I intermediate.
 */
#include "worker/model/bert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/math/gemm.h"
#include "worker/math/kernels.h"
#include "worker/model/safetensors.h"

#define PATH_BYTES 4096
#define NAME_BYTES 128
#define ALIGN 64U
#define PER_LAYER 16U /* tensors of a layer */

struct dense {
	const float *w; /* [out, in] */
	const float *b; /* [out] */
};

struct norm {
	const float *gamma, *beta; /* [H] */
};

struct layer {
	struct dense q, k, v, o; /* [H, H] */
	struct norm attention_norm;
	struct dense up;   /* [I, H] */
	struct dense down; /* [H, I] */
	struct norm out_norm;
};

struct df_bert {
	struct df_bert_config config;
	struct df_safetensors file;
	const struct df_kernels *kernels;
	const float *word, *position, *segment; /* [vocab, H], [max_positions, H], [type_vocab, H] */
	struct norm embedding_norm;
	struct layer *layer;
	float **converted; /* copies of tensors that could not be used in place */
	size_t n_converted;
	size_t max_tokens;
	float *memory;  /* one block; the rest point into it */
	float *x;       /* [T, H] the residual stream */
	float *y;       /* [T, H] what a block adds to it */
	float *context; /* [T, H] attention's output */
	float *wide;    /* [T, max(3H, I)] q, k, v side by side; then the intermediate layer */
	float *head;    /* scratch of attention */
};

/* ------------------------------------------------------------------ weights */

static const struct df_tensor *find(const struct df_bert *m, const char *name)
{
	char prefixed[NAME_BYTES + 8];
	const struct df_tensor *t = df_safetensors_find(&m->file, df_str_from(name));
	if (t)
		return t;
	(void)snprintf(prefixed, sizeof(prefixed), "bert.%s", name);
	return df_safetensors_find(&m->file, df_str_from(prefixed));
}

static void convert(const struct df_tensor *t, float *out)
{
	uint16_t half;
	const char *p = t->data;
	if (t->dtype == DF_TENSOR_F32) {
		memcpy(out, p, t->size_bytes);
		return;
	}
	for (uint64_t i = 0; i < t->n_item; i++) {
		memcpy(&half, p + 2 * i, sizeof(half));
		out[i] = t->dtype == DF_TENSOR_F16 ? df_f16_to_f32(half) : df_bf16_to_f32(half);
	}
}

/* The floats of a tensor: in the file, or a converted copy that the model owns. */
static enum df_err floats_of(struct df_bert *m, const struct df_tensor *t, const float **ret, struct df_fail *fail)
{
	if (t->dtype == DF_TENSOR_F32 && (uintptr_t)t->data % sizeof(float) == 0) {
		*ret = (const float *)t->data;
		return DF_OK;
	}
	float *copy = malloc((size_t)t->n_item * sizeof(float));
	if (!copy)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to convert tensor '" DF_STR_FMT "'", DF_STR_ARG(t->name));
	convert(t, copy);
	m->converted[m->n_converted++] = copy;
	*ret = copy;
	return DF_OK;
}

/* The tensor `name` of shape [rows, columns], or [columns] when rows is 0. */
static enum df_err tensor(struct df_bert *m, const char *name, uint64_t rows, uint64_t columns, const float **ret,
			  struct df_fail *fail)
{
	const struct df_tensor *t = find(m, name);
	if (!t)
		return df_fail(fail, DF_ERR_CORRUPT, "the weights have no tensor '%s'", name);
	bool fits = rows ? t->n_dim == 2 && t->shape[0] == rows && t->shape[1] == columns
			 : t->n_dim == 1 && t->shape[0] == columns;
	if (!fits)
		return df_fail(fail, DF_ERR_CORRUPT, "tensor '%s' is not of the shape that config.json asks for", name);
	if (t->dtype == DF_TENSOR_OTHER)
		return df_fail(fail, DF_ERR_UNSUPPORTED, "tensor '%s' is neither F32, F16 nor BF16", name);
	return floats_of(m, t, ret, fail);
}

static enum df_err dense(struct df_bert *m, size_t layer, const char *part, uint32_t out, uint32_t in,
			 struct dense *ret, struct df_fail *fail)
{
	char name[NAME_BYTES];
	(void)snprintf(name, sizeof(name), "encoder.layer.%zu.%s.weight", layer, part);
	DF_TRY(tensor(m, name, out, in, &ret->w, fail));
	(void)snprintf(name, sizeof(name), "encoder.layer.%zu.%s.bias", layer, part);
	return tensor(m, name, 0, out, &ret->b, fail);
}

static enum df_err norm(struct df_bert *m, const char *part, struct norm *ret, struct df_fail *fail)
{
	char name[NAME_BYTES];
	(void)snprintf(name, sizeof(name), "%s.LayerNorm.weight", part);
	DF_TRY(tensor(m, name, 0, m->config.hidden, &ret->gamma, fail));
	(void)snprintf(name, sizeof(name), "%s.LayerNorm.bias", part);
	return tensor(m, name, 0, m->config.hidden, &ret->beta, fail);
}

static enum df_err load_layer(struct df_bert *m, size_t i, struct df_fail *fail)
{
	const uint32_t h = m->config.hidden, wide = m->config.intermediate;
	struct layer *l = &m->layer[i];
	char part[NAME_BYTES / 2];
	DF_TRY(dense(m, i, "attention.self.query", h, h, &l->q, fail));
	DF_TRY(dense(m, i, "attention.self.key", h, h, &l->k, fail));
	DF_TRY(dense(m, i, "attention.self.value", h, h, &l->v, fail));
	DF_TRY(dense(m, i, "attention.output.dense", h, h, &l->o, fail));
	(void)snprintf(part, sizeof(part), "encoder.layer.%zu.attention.output", i);
	DF_TRY(norm(m, part, &l->attention_norm, fail));
	DF_TRY(dense(m, i, "intermediate.dense", wide, h, &l->up, fail));
	DF_TRY(dense(m, i, "output.dense", h, wide, &l->down, fail));
	(void)snprintf(part, sizeof(part), "encoder.layer.%zu.output", i);
	return norm(m, part, &l->out_norm, fail);
}

static enum df_err load(struct df_bert *m, struct df_fail *fail)
{
	const struct df_bert_config *c = &m->config;
	m->layer = calloc(c->layers, sizeof(*m->layer));
	m->converted = calloc(c->layers * PER_LAYER + 5, sizeof(*m->converted));
	if (!m->layer || !m->converted)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a model of %u layers", c->layers);
	DF_TRY(tensor(m, "embeddings.word_embeddings.weight", c->vocab, c->hidden, &m->word, fail));
	DF_TRY(tensor(m, "embeddings.position_embeddings.weight", c->max_positions, c->hidden, &m->position, fail));
	DF_TRY(tensor(m, "embeddings.token_type_embeddings.weight", c->type_vocab, c->hidden, &m->segment, fail));
	DF_TRY(norm(m, "embeddings", &m->embedding_norm, fail));
	for (size_t i = 0; i < c->layers; i++)
		DF_TRY(load_layer(m, i, fail));
	return DF_OK;
}

static size_t wide_of(const struct df_bert_config *c)
{
	return c->intermediate > 3 * c->hidden ? c->intermediate : 3 * c->hidden;
}

static enum df_err allocate(struct df_bert *m, size_t max_tokens, struct df_fail *fail)
{
	const struct df_bert_config *c = &m->config;
	if (max_tokens < 1 || max_tokens > DF_BERT_TOKENS_MAX)
		return df_fail(fail, DF_ERR_RANGE, "a batch has 1 to %u tokens", DF_BERT_TOKENS_MAX);
	size_t longest = c->max_positions < max_tokens ? c->max_positions : max_tokens;
	size_t state = (max_tokens * c->hidden + 15) / 16 * 16, wide = (max_tokens * wide_of(c) + 15) / 16 * 16;
	size_t n = 3 * state + wide + df_attention_work(longest, c->hidden / c->heads);
	m->memory = aligned_alloc(ALIGN, (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN);
	if (!m->memory)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for batches of %zu tokens", max_tokens);
	m->max_tokens = max_tokens;
	m->x = m->memory;
	m->y = m->x + state;
	m->context = m->y + state;
	m->wide = m->context + state;
	m->head = m->wide + wide;
	return DF_OK;
}

enum df_err df_bert_open(const char *dir, size_t max_tokens, struct df_bert **ret_bert, struct df_fail *fail)
{
	char path[PATH_BYTES];
	if (snprintf(path, sizeof(path), "%s/model.safetensors", dir) >= PATH_BYTES)
		return df_fail(fail, DF_ERR_LIMIT, "the path of the model is too long");
	struct df_bert *m = calloc(1, sizeof(*m));
	if (!m)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a model");
	df_gemm_init();
	m->kernels = df_kernels();
	struct df_fail inner = {0};
	enum df_err err = df_bert_config_read(dir, &m->config, &inner);
	if (err == DF_OK)
		err = df_safetensors_open(&m->file, path, &inner);
	if (err == DF_OK)
		err = load(m, &inner);
	if (err == DF_OK)
		err = allocate(m, max_tokens, &inner);
	if (err != DF_OK) {
		df_bert_close(&m);
		return df_fail(fail, err, "cannot load the model in '%s': %s", dir, inner.msg);
	}
	*ret_bert = m;
	return DF_OK;
}

void df_bert_close(struct df_bert **bert)
{
	struct df_bert *m = *bert;
	if (!m)
		return;
	for (size_t i = 0; i < m->n_converted; i++)
		free(m->converted[i]);
	free(m->converted);
	free(m->layer);
	free(m->memory);
	df_safetensors_close(&m->file);
	free(m);
	*bert = NULL;
}

const struct df_bert_config *df_bert_config(const struct df_bert *bert)
{
	return &bert->config;
}

/* ------------------------------------------------------------------ forward */

/* x[T,H] = norm(word[id] + position[i] + segment[0]) */
static void embed_tokens(struct df_bert *m, const uint32_t *ids, const uint32_t *len, size_t n_seq)
{
	const size_t h = m->config.hidden;
	float *x = m->x;
	for (size_t s = 0; s < n_seq; s++)
		for (size_t i = 0; i < len[s]; i++, x += h) {
			memcpy(x, m->word + (size_t)*ids++ * h, h * sizeof(float));
			m->kernels->residual_norm(x, m->position + i * h, m->segment, m->embedding_norm.gamma,
						  m->embedding_norm.beta, m->config.layer_norm_eps, 1, h);
		}
}

/* context[T,H] = attention over wide[T,3H] */
static void attend(struct df_bert *m, const struct layer *l, const uint32_t *len, size_t n_seq)
{
	const size_t h = m->config.hidden, dim = h / m->config.heads;
	const float *qkv = m->wide;
	float *out = m->context;
	for (size_t s = 0; s < n_seq; s++) {
		for (size_t c = 0; c < h; c += dim)
			m->kernels->attention(&(struct df_attention){.q = qkv + c,
								     .k = qkv + h + c,
								     .v = qkv + 2 * h + c,
								     .bias_q = l->q.b + c,
								     .bias_k = l->k.b + c,
								     .bias_v = l->v.b + c,
								     .out = out + c,
								     .work = m->head,
								     .stride = 3 * h,
								     .out_stride = h,
								     .len = len[s],
								     .dim = dim,
								     .scale = 1.0F / sqrtf((float)dim)});
		qkv += len[s] * 3 * h;
		out += len[s] * h;
	}
}

/* x = norm(x + attention(x)); x = norm(x + down(gelu(up(x)))) */
static void run_layer(struct df_bert *m, const struct layer *l, const uint32_t *len, size_t n_seq, size_t t)
{
	const struct df_kernels *k = m->kernels;
	const size_t h = m->config.hidden, wide = m->config.intermediate;
	const float eps = m->config.layer_norm_eps;
	df_gemm_nt(t, h, h, m->x, h, l->q.w, h, m->wide, 3 * h);
	df_gemm_nt(t, h, h, m->x, h, l->k.w, h, m->wide + h, 3 * h);
	df_gemm_nt(t, h, h, m->x, h, l->v.w, h, m->wide + 2 * h, 3 * h);
	attend(m, l, len, n_seq);
	df_gemm_nt(t, h, h, m->context, h, l->o.w, h, m->y, h);
	k->residual_norm(m->x, m->y, l->o.b, l->attention_norm.gamma, l->attention_norm.beta, eps, t, h);
	df_gemm_nt(t, wide, h, m->x, h, l->up.w, h, m->wide, wide);
	if (m->config.act == DF_BERT_GELU)
		k->bias_gelu(m->wide, l->up.b, t, wide);
	else
		k->bias_gelu_tanh(m->wide, l->up.b, t, wide);
	df_gemm_nt(t, h, wide, m->wide, wide, l->down.w, wide, m->y, h);
	k->residual_norm(m->x, m->y, l->down.b, l->out_norm.gamma, l->out_norm.beta, eps, t, h);
}

static void pool(const struct df_bert *m, const uint32_t *len, size_t n_seq, float *out)
{
	const size_t h = m->config.hidden;
	const float *x = m->x;
	for (size_t s = 0; s < n_seq; s++, out += h) {
		if (m->config.pooling == DF_BERT_POOL_CLS)
			memcpy(out, x, h * sizeof(float));
		else
			m->kernels->mean(out, x, len[s], h);
		x += len[s] * h;
	}
}

static enum df_err check_batch(const struct df_bert *m, const uint32_t *ids, const uint32_t *len, size_t n_seq,
			       size_t *ret_tokens, struct df_fail *fail)
{
	size_t t = 0;
	for (size_t s = 0; s < n_seq; s++) {
		if (len[s] < 1 || len[s] > m->config.max_positions)
			return df_fail(fail, DF_ERR_RANGE, "a sequence of %u tokens; the model takes 1 to %u", len[s],
				       m->config.max_positions);
		if (len[s] > m->max_tokens - t)
			return df_fail(fail, DF_ERR_LIMIT, "a batch of more than %zu tokens", m->max_tokens);
		t += len[s];
	}
	for (size_t i = 0; i < t; i++)
		if (ids[i] >= m->config.vocab)
			return df_fail(fail, DF_ERR_RANGE,
				       "token id %u; the model knows %u (is vocab.txt of the same model?)", ids[i],
				       m->config.vocab);
	*ret_tokens = t;
	return DF_OK;
}

enum df_err df_bert_embed(struct df_bert *bert, const uint32_t *ids, const uint32_t *len, size_t n_seq, float *ret_out,
			  struct df_fail *fail)
{
	size_t t = 0;
	DF_TRY(check_batch(bert, ids, len, n_seq, &t, fail));
	embed_tokens(bert, ids, len, n_seq);
	for (size_t i = 0; i < bert->config.layers; i++)
		run_layer(bert, &bert->layer[i], len, n_seq, t);
	pool(bert, len, n_seq, ret_out);
	return DF_OK;
}
