// SPDX-License-Identifier: Apache-2.0
/*
 * embed_api: a vector for each row, asked of a model over the network. The variant of embed for such models.
 *
 * DESIGN: the rows of a batch are one call; the engine takes what the cache has, cuts the rest into requests within the provider's limits (inputs and tokens
 * of a request), and puts each vector at its input's index. One input that is refused rejects its document alone. The tokens of a text are
 * estimated from above (bytes / 2) and set right by the answer's usage. The length of a run's vectors is that of the first answer: a fall-back model with
 * another one stops the run, since half a run's vectors would be of no use.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "worker/stages/embed.h"
#include "worker/stages/rows.h"

struct embed_api {
	const struct df_embed_options *options;
	struct df_api api;
	_Atomic uint32_t dim; /* of the first answer; 0: none yet */
};

struct inputs {
	struct df_row **row;
	struct df_str *text;
	size_t n;
};

static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	const struct df_embed_options *o = s->options;
	struct embed_api *e = df_arena_zalloc(env->arena, sizeof(*e));
	if (!e)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a stage");
	s->state = e;
	e->options = o;
	atomic_init(&e->dim, (uint32_t)o->dimensions);
	return df_api_open(&e->api, &o->api, o->model, env, s->call_name, fail);
}

static void close_(struct df_stage *s)
{
	struct embed_api *e = s->state;
	if (e)
		df_api_close(&e->api);
	s->state = NULL;
}

static enum df_err collect(const struct embed_api *e, struct df_batch *b, struct inputs *ret, uint64_t *ret_tokens)
{
	ret->row = df_arena_array(b->arena, b->n_row + 1, sizeof(*ret->row));
	ret->text = df_arena_array(b->arena, b->n_row + 1, sizeof(*ret->text));
	if (!ret->row || !ret->text)
		return DF_ERR_NOMEM;
	DF_EACH_LIVE_ROW(row, b)
	{
		if (!row->text.n) {
			df_doc_reject(b, row->doc, e->api.call_name, DF_ERR_RANGE,
				      "its text is empty, and the API takes no empty one; 'clean min_chars=1' leaves "
				      "such out");
			continue;
		}
		ret->row[ret->n] = row;
		ret->text[ret->n++] = row->text;
		*ret_tokens += df_api_tokens(row->text.n);
	}
	return DF_OK;
}

static enum df_err check_dim(struct embed_api *e, uint32_t dim, struct df_fail *fail)
{
	uint32_t known = 0;
	if (atomic_compare_exchange_strong(&e->dim, &known, dim) || known == dim)
		return DF_OK;
	return df_fail(
		fail, DF_ERR_USAGE,
		"the model answered with vectors of %u numbers, where %u are expected (dimensions=, or those of an "
		"earlier answer); vectors of two lengths cannot be compared",
		dim, known);
}

static void normalize(float *v, uint32_t dim)
{
	double square = 0;
	for (uint32_t i = 0; i < dim; i++)
		square += (double)v[i] * v[i];
	double length = sqrt(square);
	for (uint32_t i = 0; i < dim && length > 1e-12; i++)
		v[i] = (float)(v[i] / length);
}

static bool is_finite(const float *v, uint32_t dim)
{
	for (uint32_t i = 0; i < dim; i++)
		if (!isfinite(v[i]))
			return false;
	return true;
}

static enum df_err give_out(struct embed_api *e, struct df_batch *b, const struct inputs *in,
			    const struct df_call *call, struct df_fail *fail)
{
	const struct df_answer *a = &call->answer;
	char name[24];
	uint64_t n = 0;
	if (call->err != DF_OK) {
		for (size_t i = 0; i < in->n; i++)
			df_doc_reject(b, in->row[i]->doc, e->api.call_name,
				      call->input_err ? call->input_err[i] : call->err, "%s",
				      call->message[0] ? call->message : "the call failed");
		return DF_OK;
	}
	if (a->n_vector != in->n || !a->dim)
		return df_fail(fail, DF_ERR_BUG, "%zu vectors for %zu texts", a->n_vector, in->n);
	DF_TRY(check_dim(e, a->dim, fail));
	float *out = df_arena_array(b->arena, in->n * a->dim, sizeof(*out)); /* the answer's arena goes first */
	if (!out)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %zu vectors", in->n);
	memcpy(out, a->vector, in->n * a->dim * sizeof(*out));
	for (size_t i = 0; i < in->n; i++) {
		float *v = out + i * a->dim;
		if (call->input_err && call->input_err[i] != DF_OK) {
			df_doc_reject(b, in->row[i]->doc, e->api.call_name, call->input_err[i], "%s",
				      call->message[0] ? call->message : "its text was refused");
			continue;
		}
		if (!is_finite(v, a->dim)) {
			df_doc_reject(b, in->row[i]->doc, e->api.call_name, DF_ERR_TYPE,
				      "the model answered with a vector that holds what is no number");
			continue;
		}
		if (e->options->normalize)
			normalize(v, a->dim);
		in->row[i]->vector = v;
		in->row[i]->dim = a->dim;
		n++;
	}
	(void)snprintf(name, sizeof(name), "dim:%u",
		       a->dim); /* of all of a run's lives: its report says when there are two */
	df_counters_add(b->counters, name, n);
	return DF_OK;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	struct embed_api *e = s->state;
	struct inputs in = {NULL, NULL, 0};
	struct df_call call;
	struct df_arena arena;
	uint64_t tokens = 0;
	if (collect(e, b, &in, &tokens) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for the texts of %zu rows", b->n_row);
	if (in.n == 0)
		return DF_OK;
	DF_TRY(df_api_prepare(&e->api, &call, &arena, in.row[0]->doc));
	arena.max = (size_t)1 << 30; /* vectors of all rows */
	call.ask.kind = DF_ASK_EMBED;
	call.ask.input = in.text;
	call.ask.n_input = in.n;
	call.ask.dimensions = e->options->dimensions;
	call.ask.tokens_in = tokens;
	enum df_err err = df_api_run(&e->api, &call, 1, b, fail);
	if (err == DF_OK)
		err = give_out(e, b, &in, &call, fail);
	df_arena_release(&arena);
	return err;
}

const struct df_stage_class df_stage_embed_api = {
	.name = "embed",
	.summary = "make a vector of each text with a model of an API",
	.help = "",
	.options_size = sizeof(struct df_embed_options),
	.flags = DF_STAGE_VECTORS | DF_STAGE_NETWORK | DF_STAGE_SIDE_EFFECTS,
	.open = open_,
	.process = process,
	.close = close_,
};
