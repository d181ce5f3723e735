// SPDX-License-Identifier: Apache-2.0
/*
 * embedder: tokenise a window of texts, sort it by length, run it in batches, put the vectors where they belong.
 *
 * DESIGN: the encoder needs no padding, so sorting is not for its arithmetic; it makes neighbours alike, which keeps the last
 * batch of a window the only small one. The window bounds memory for any number of texts.
 */
#include "worker/model/embedder.h"

#include <stdlib.h>
#include <string.h>

#include "worker/math/kernels.h"
#include "worker/model/bert.h"
#include "worker/token/wordpiece.h"

struct item {
	size_t text; /* index */
	size_t at;   /* first id in e->ids */
	uint32_t len;
};

struct df_embedder {
	struct df_embedder_options options;
	struct df_bert *bert;
	struct df_wordpiece *tok;
	struct df_wordpiece_scratch *scratch;
	struct df_tokens tokens;
	uint32_t dim;
	size_t capacity; /* tokens of one forward pass */
	uint32_t *ids;   /* of the window */
	struct item *item;
	size_t n_id, n_item, cap_item;
	uint32_t *batch_ids; /* [capacity] */
	uint32_t *batch_len; /* [capacity / 2]: no sequence is shorter than 2 */
	float *batch_out;    /* [capacity / 2, dim] */
};

static enum df_err check_lengths(const struct df_embedder *e, struct df_fail *fail)
{
	uint32_t most = df_bert_config(e->bert)->max_positions;
	if (e->options.max_tokens < DF_WORDPIECE_SPECIALS || e->options.max_tokens > most)
		return df_fail(fail, DF_ERR_USAGE, "max_tokens=%u; this model takes %u to %u", e->options.max_tokens,
			       DF_WORDPIECE_SPECIALS, most);
	return DF_OK;
}

static enum df_err allocate(struct df_embedder *e, struct df_fail *fail)
{
	size_t most = e->capacity / DF_WORDPIECE_SPECIALS;
	e->ids = malloc(DF_EMBED_IDS_WINDOW * sizeof(*e->ids));
	e->batch_ids = malloc(e->capacity * sizeof(*e->batch_ids));
	e->batch_len = malloc(most * sizeof(*e->batch_len));
	e->batch_out = malloc(most * e->dim * sizeof(*e->batch_out));
	if (!e->ids || !e->batch_ids || !e->batch_len || !e->batch_out)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for batches of %zu tokens", e->capacity);
	return DF_OK;
}

static enum df_err open_parts(struct df_embedder *e, const char *dir, struct df_fail *fail)
{
	const struct df_embedder_options *o = &e->options;
	e->capacity = o->batch_tokens > o->max_tokens ? o->batch_tokens : o->max_tokens;
	DF_TRY(df_bert_open(dir, e->capacity, &e->bert, fail));
	DF_TRY(check_lengths(e, fail));
	DF_TRY(df_wordpiece_open_dir(dir, &e->tok, fail));
	e->dim = df_bert_config(e->bert)->hidden;
	if (df_wordpiece_size(e->tok) > df_bert_config(e->bert)->vocab)
		return df_fail(fail, DF_ERR_CORRUPT, "'%s': vocab.txt has %zu pieces, the weights only %u", dir,
			       df_wordpiece_size(e->tok), df_bert_config(e->bert)->vocab);
	if (df_wordpiece_scratch_create(e->tok, &e->scratch) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the tokenizer");
	return allocate(e, fail);
}

enum df_err df_embedder_open(const char *dir, const struct df_embedder_options *options,
			     struct df_embedder **ret_embedder, struct df_fail *fail)
{
	struct df_embedder *e = calloc(1, sizeof(*e));
	if (!e)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for an embedder");
	e->options = *options;
	enum df_err err = open_parts(e, dir, fail);
	if (err != DF_OK)
		df_embedder_close(&e);
	else
		*ret_embedder = e;
	return err;
}

void df_embedder_close(struct df_embedder **embedder)
{
	struct df_embedder *e = *embedder;
	if (!e)
		return;
	df_tokens_release(&e->tokens);
	df_wordpiece_scratch_destroy(&e->scratch);
	df_wordpiece_close(&e->tok);
	df_bert_close(&e->bert);
	free(e->ids);
	free(e->item);
	free(e->batch_ids);
	free(e->batch_len);
	free(e->batch_out);
	free(e);
	*embedder = NULL;
}

uint32_t df_embedder_dim(const struct df_embedder *e)
{
	return e->dim;
}

static enum df_err grow_items(struct df_embedder *e)
{
	if (e->n_item < e->cap_item)
		return DF_OK;
	size_t cap = e->cap_item ? 2 * e->cap_item : 256;
	struct item *item = realloc(e->item, cap * sizeof(*item));
	if (!item)
		return DF_ERR_NOMEM;
	e->item = item;
	e->cap_item = cap;
	return DF_OK;
}

/* Tokenise from text `from` until the window is full; returns the next text by *ret_next. */
static enum df_err fill_window(struct df_embedder *e, const struct df_str *text, size_t from, size_t n,
			       struct df_embedder_counts *counts, size_t *ret_next)
{
	size_t i = from;
	e->n_id = e->n_item = 0;
	for (; i < n && e->n_id + e->options.max_tokens <= DF_EMBED_IDS_WINDOW; i++) {
		size_t len = 0;
		bool truncated = false;
		DF_TRY(grow_items(e));
		DF_TRY(df_wordpiece_ids(e->scratch, text[i], e->options.max_tokens, &e->tokens, e->ids + e->n_id, &len,
					&truncated));
		e->item[e->n_item++] = (struct item){i, e->n_id, (uint32_t)len};
		e->n_id += len;
		counts->tokens += len;
		counts->truncated += truncated;
	}
	*ret_next = i;
	return DF_OK;
}

/* Longest first; equal lengths keep their order, so that a batch is the same each time. */
static int longer_first(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	if (x->len != y->len)
		return x->len < y->len ? 1 : -1;
	return x->text < y->text ? -1 : x->text > y->text;
}

/* One forward pass from item `from`; *ret_next is the first item that found no room. */
static enum df_err run_batch(struct df_embedder *e, size_t from, float *out, size_t *ret_next, struct df_fail *fail)
{
	size_t k = 0, tokens = 0;
	while (from + k < e->n_item && (k == 0 || tokens + e->item[from + k].len <= e->options.batch_tokens)) {
		const struct item *item = &e->item[from + k];
		memcpy(e->batch_ids + tokens, e->ids + item->at, item->len * sizeof(*e->ids));
		e->batch_len[k++] = item->len;
		tokens += item->len;
	}
	DF_TRY(df_bert_embed(e->bert, e->batch_ids, e->batch_len, k, e->batch_out, fail));
	if (e->options.normalize)
		df_kernels()->normalize(e->batch_out, k, e->dim);
	for (size_t i = 0; i < k; i++)
		memcpy(out + e->item[from + i].text * e->dim, e->batch_out + i * e->dim, e->dim * sizeof(float));
	*ret_next = from + k;
	return DF_OK;
}

enum df_err df_embedder_run(struct df_embedder *e, const struct df_str *text, size_t n, float *ret_out,
			    struct df_embedder_counts *counts, struct df_fail *fail)
{
	struct df_embedder_counts sum = {0};
	if (n > DF_EMBED_TEXTS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "%zu texts at once; at most %u", n, DF_EMBED_TEXTS_MAX);
	for (size_t i = 0; i < n;) {
		enum df_err err = fill_window(e, text, i, n, &sum, &i);
		if (err != DF_OK)
			return df_fail(fail, err, "no memory to tokenise %zu texts", n);
		qsort(e->item, e->n_item, sizeof(*e->item), longer_first);
		for (size_t at = 0; at < e->n_item;) {
			DF_TRY(run_batch(e, at, ret_out, &at, fail));
			if (e->options.progress)
				e->options.progress(e->options.progress_self);
		}
	}
	if (counts) {
		counts->tokens += sum.tokens;
		counts->truncated += sum.truncated;
	}
	return DF_OK;
}
