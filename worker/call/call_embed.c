// SPDX-License-Identifier: Apache-2.0
/*
 * call_embed: an embedding of many inputs as requests of some, and rows back to their places.
 *
 * DESIGN. Only inputs that the cache does not have, and of equal ones only the first, are asked for. They stand in one array with an array of their places
 * beside it; a piece is a slice of both, so that cutting one in two copies nothing. An answer's row i belongs to the piece's input i (providers match by
 * index), which belongs to place index[i] of the call: order of arrival plays no part.
 */
#include <stdlib.h>

#include "base/limits.h"
#include "worker/call/call_own.h"

static struct df_piece *piece_make(struct df_own *o)
{
	struct df_caller *c = o->caller;
	if (df_engine_alarms(c, 1) != DF_OK)
		return NULL;
	struct df_piece *p = o->pieces || o->first_used ? calloc(1, sizeof(*p)) : &o->first;
	if (!p) {
		df_engine_alarms_gone(c, 1);
		return NULL;
	}
	o->first_used = true;
	p->own = o;
	p->alarm.ring = df_piece_woke;
	struct df_piece **at = &o->pieces;
	while (*at)
		at = &(*at)->sibling;
	*at = p;
	return p;
}

void df_piece_free(struct df_piece *p)
{
	struct df_own *o = p->own;
	df_engine_alarms_gone(o->caller, 1);
	if (p != &o->first)
		free(p);
}

/* Upper estimate for whoever was not told: a token has two bytes or more in any text but the oddest. */
static uint64_t tokens_of_bytes(uint64_t bytes)
{
	return bytes / 2 + 1;
}

static uint64_t chat_tokens(const struct df_ask *ask)
{
	uint64_t bytes = ask->schema.n;
	if (ask->tokens_in)
		return ask->tokens_in;
	for (size_t i = 0; i < ask->n_turn; i++)
		bytes += ask->turn[i].text.n + 16;
	return tokens_of_bytes(bytes);
}

struct shares {
	uint64_t tokens, bytes; /* of all inputs of the ask */
};

/* Of one input; they add up to no less than the whole. */
static uint64_t input_tokens(const struct shares *s, struct df_str input)
{
	if (!s->tokens)
		return tokens_of_bytes(input.n);
	return (uint64_t)((double)s->tokens * (double)input.n / (double)(s->bytes ? s->bytes : 1)) + 1;
}

static struct shares shares_of(const struct df_ask *ask)
{
	struct shares s = {.tokens = ask->tokens_in};
	for (size_t i = 0; i < ask->n_input; i++)
		s.bytes += ask->input[i].n;
	return s;
}

static void piece_tokens(struct df_piece *p)
{
	struct shares s = shares_of(&p->own->call->ask);
	p->tokens = 0;
	for (size_t i = 0; i < p->n_input; i++)
		p->tokens += input_tokens(&s, p->input[i]);
}

/* The inputs that are to be asked for. */
static enum df_err gather(struct df_own *o, size_t *ret_n)
{
	const struct df_ask *ask = &o->call->ask;
	size_t n = 0;
	for (size_t i = 0; i < ask->n_input; i++)
		n += o->row_state[i] == DF_ROW_MISSING;
	*ret_n = n;
	if (n == ask->n_input)
		return DF_OK;
	o->input = calloc(n + 1, sizeof(*o->input));
	o->index = calloc(n + 1, sizeof(*o->index));
	if (!o->input || !o->index)
		return DF_ERR_NOMEM;
	n = 0;
	for (size_t i = 0; i < ask->n_input; i++) {
		if (o->row_state[i] != DF_ROW_MISSING)
			continue;
		o->input[n] = ask->input[i];
		o->index[n++] = (uint32_t)i;
	}
	return DF_OK;
}

static enum df_err cut_embed(struct df_own *o)
{
	const struct df_ask *ask = &o->call->ask;
	const struct df_route *r = o->call->route[0];
	struct shares s = shares_of(ask);
	size_t n = 0, most = r->provider->embed_inputs_max ? r->provider->embed_inputs_max : SIZE_MAX;
	uint64_t tokens_max = r->provider->embed_tokens_max ? r->provider->embed_tokens_max : UINT64_MAX;
	DF_TRY(gather(o, &n));
	if (r->tpm && r->tpm < tokens_max)
		tokens_max = r->tpm;
	for (size_t i = 0; i < n;) {
		struct df_piece *p = piece_make(o);
		if (!p)
			return DF_ERR_NOMEM;
		p->input = (o->input ? o->input : ask->input) + i;
		p->index = o->index ? o->index + i : NULL;
		p->base = i;
		for (; i < n && p->n_input < most; i++) {
			uint64_t tokens = input_tokens(&s, p->input[p->n_input]);
			if (p->n_input && p->tokens + tokens > tokens_max)
				break;
			p->tokens += tokens;
			p->n_input++;
		}
	}
	return DF_OK;
}

enum df_err df_own_cut(struct df_own *o)
{
	if (o->call->ask.kind == DF_ASK_EMBED)
		return cut_embed(o);
	struct df_piece *p = piece_make(o);
	if (!p)
		return DF_ERR_NOMEM;
	p->n_input = 1;
	p->tokens = chat_tokens(&o->call->ask);
	return DF_OK;
}

enum df_err df_piece_halve(struct df_piece *p, struct df_piece **ret_other)
{
	size_t half = p->n_input / 2;
	struct df_piece *q = piece_make(p->own);
	if (!q)
		return DF_ERR_NOMEM;
	q->route = p->route;
	q->tried = p->tried;
	q->input = p->input + half;
	q->index = p->index ? p->index + half : NULL;
	q->base = p->base + half;
	q->n_input = p->n_input - half;
	p->n_input = half;
	p->attempts = p->rates = p->cost = 0;
	p->once_used = false;
	piece_tokens(p);
	piece_tokens(q);
	*ret_other = q;
	return DF_OK;
}

static size_t place_of(const struct df_piece *p, size_t i)
{
	return p->index ? p->index[i] : p->base + i;
}

enum df_err df_own_row(struct df_own *o, size_t i, const float *vector, uint32_t dim)
{
	struct df_call *call = o->call;
	if (!call->answer.vector) {
		size_t n = call->ask.n_input;
		if (n > SIZE_MAX / sizeof(float) / dim)
			return DF_ERR_NOMEM;
		call->answer.vector = df_arena_zalloc(call->arena, n * dim * sizeof(float));
		if (!call->answer.vector)
			return DF_ERR_NOMEM;
		call->answer.n_vector = n;
		call->answer.dim = dim;
	}
	if (dim != call->answer.dim)
		return DF_ERR_TYPE;
	memcpy(call->answer.vector + i * dim, vector, dim * sizeof(float));
	o->row_state[i] = DF_ROW_HERE;
	return DF_OK;
}

enum df_err df_piece_merge(struct df_piece *p, const struct df_answer *a)
{
	struct df_own *o = p->own;
	struct df_call *call = o->call;
	if (a->n_vector != p->n_input || !a->dim || !a->vector || (call->answer.vector && call->answer.dim != a->dim))
		return DF_ERR_TYPE;
	if (!call->answer.model.p && a->model.n) {
		call->answer.model = df_arena_copy(call->arena, a->model);
		if (!call->answer.model.p)
			return DF_ERR_NOMEM;
	}
	for (size_t i = 0; i < a->n_vector; i++) {
		DF_TRY(df_own_row(o, place_of(p, i), a->vector + i * a->dim, a->dim));
		df_own_keep_row(o, a, i, place_of(p, i));
	}
	return DF_OK;
}

static enum df_err *input_errs(struct df_call *call)
{
	if (!call->input_err)
		call->input_err = df_arena_zalloc(call->arena, call->ask.n_input * sizeof(*call->input_err));
	return call->input_err;
}

void df_piece_rows_failed(struct df_piece *p, enum df_err err)
{
	struct df_own *o = p->own;
	enum df_err *errs = input_errs(o->call);
	for (size_t i = 0; i < p->n_input; i++) {
		o->row_state[place_of(p, i)] = DF_ROW_FAILED;
		if (errs)
			errs[place_of(p, i)] = err;
	}
	if (!errs)
		o->call->err = DF_ERR_NOMEM;
}

void df_own_embed_end(struct df_own *o)
{
	struct df_call *call = o->call;
	size_t n_here = 0;
	enum df_err first = DF_OK;
	if (o->row_done)
		return;
	for (size_t i = 0; i < call->ask.n_input; i++) {
		size_t from = o->row_state[i] == DF_ROW_TWIN ? o->twin[i] : i; /* a twin's first is no twin */
		if (o->row_state[from] == DF_ROW_HERE) {
			n_here++;
			if (from != i)
				memcpy(call->answer.vector + i * call->answer.dim,
				       call->answer.vector + from * call->answer.dim, call->answer.dim * sizeof(float));
			continue;
		}
		if (call->input_err && from != i)
			call->input_err[i] = call->input_err[from];
		if (!first)
			first = call->input_err ? call->input_err[i] : DF_ERR_BUG;
	}
	call->err = n_here || !call->ask.n_input ? DF_OK : first;
	call->answer.class = call->err == DF_OK ? DF_CALL_OK : o->class;
}
