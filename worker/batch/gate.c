// SPDX-License-Identifier: Apache-2.0
/*
 * gate: what stands in for the engine of calls. A call is answered from the batches that came back or from the cache, or it is written down to be asked, and
 * its outcome is DF_ERR_AGAIN, which the pass does not take for a document's fate.
 *
 * DESIGN. A chat is one request; of an embedding each input is one, so that equal texts are asked once, a text that is refused stands alone, and what came back
 * does not depend on which texts stood beside it. A provider counts inputs and not requests (50,000 of a batch either way), so that costs nothing.
 */
#include <math.h>

#include "base/limits.h"
#include "worker/batch/own.h"
#include "worker/cache/cache.h"

/* ------------------------------------------------------------------ asking */

enum df_err df_batch_ask(struct df_batch_run *b, struct df_str custom_id, struct df_str model, struct df_str endpoint,
			 struct df_str line, double worst_usd, struct df_fail *fail)
{
	enum df_err err = df_answers_ask(b->answers, custom_id);
	if (err == DF_ERR_EXISTS)
		return err;
	if (err != DF_OK)
		return df_fail(fail, err, "more than %u requests in one run", DF_BATCH_REQUESTS_MAX);
	DF_TRY(df_request_files_add(b->requests, model, endpoint, line, isnan(worst_usd) ? 0 : worst_usd, fail));
	b->pending++;
	b->unbounded += isnan(worst_usd);
	b->out.broken = true;
	return DF_OK;
}

/* One request: a call, or one input of it. */
struct one {
	struct df_batch_run *b;
	struct df_call *call;
	struct df_route *route;
	struct df_ask ask;
	struct df_cache_key key;
	char custom_id[DF_CUSTOM_ID_BYTES];
	/* --- the outcome --- */
	struct df_arena *arena; /* of the answer */
	struct df_answer answer;
	enum df_err err; /* AGAIN: it is asked, or will be */
	bool cached;
	uint32_t attempts;
	char message[512];
};

static void set_outcome(struct one *q, enum df_err err, const char *message)
{
	struct df_fail line;
	q->err = err;
	(void)df_fail(&line, err, "%s", message);
	(void)snprintf(q->message, sizeof(q->message), "%.500s", line.msg);
}

/* What ends the pass is told by the run, not by a document. */
static void set_fault(struct one *q, const struct df_fail *fail)
{
	if (q->b->fault.code == DF_OK)
		q->b->fault = *fail;
	set_outcome(q, DF_ERR_INTERRUPTED, fail->msg);
}

static enum df_err make_line(const struct one *q, struct df_buf *line, struct df_str *ret_endpoint,
			     struct df_fail *fail)
{
	struct df_http_parts parts = {.method = NULL};
	const struct df_endpoint *to = df_route_endpoint(q->route);
	struct df_str base, id = df_str_from(q->custom_id);
	DF_TRY(df_route_provider(q->route)->build(&q->ask, to, &q->b->scratch, &parts, fail));
	DF_TRY(df_batch_split_url(df_str_from(parts.url), to->base_url, &q->b->scratch, &base, ret_endpoint, fail));
	bool inl = df_str_ends(*ret_endpoint, DF_BATCH_INLINE_END);
	if ((inl ? df_batch_add_params(line, id, parts.body)
		 : df_batch_add_request(line, id, *ret_endpoint, parts.body)) != DF_OK)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a request");
	return DF_OK;
}

static void ask_for_it(struct one *q)
{
	struct df_batch_run *b = q->b;
	struct df_fail fail = {.msg = ""};
	struct df_str endpoint;
	struct df_buf line;
	double worst = df_price_worst(df_route_model(q->route), &q->ask) * DF_BATCH_PRICE;
	df_buf_init(&line, (size_t)4 * DF_PROMPT_BYTES);
	enum df_err err = make_line(q, &line, &endpoint, &fail);
	if (err == DF_OK && isnan(worst) && b->o->budget > 0)
		err = df_fail(&fail, DF_ERR_USAGE,
			      "the price of this call is not known, so that a budget cannot be kept");
	if (err == DF_OK)
		err = df_batch_ask(b, df_str_from(q->custom_id), df_route_id(q->route), endpoint, df_buf_str(&line),
				   worst, &fail);
	df_buf_release(&line);
	if (err == DF_OK || err == DF_ERR_EXISTS)
		set_outcome(q, DF_ERR_AGAIN, "it waits for its batch");
	else if (err == DF_ERR_RANGE || err == DF_ERR_UNSUPPORTED)
		set_outcome(q, err, fail.msg); /* this document's */
	else
		set_fault(q, &fail);
}

/* ------------------------------------------------------------------ answers */

/* Of a document: what would stop a whole run is one line's failure here. */
static enum df_err err_of(enum df_call_class class)
{
	static const enum df_err err[DF_N_CALL_CLASS] = {[DF_CALL_OK] = DF_OK,
							 [DF_CALL_RETRY] = DF_ERR_CLOSED,
							 [DF_CALL_RATE] = DF_ERR_LIMIT,
							 [DF_CALL_QUOTA] = DF_ERR_LIMIT,
							 [DF_CALL_AUTH] = DF_ERR_IO,
							 [DF_CALL_BAD_INPUT] = DF_ERR_RANGE,
							 [DF_CALL_NOT_FOUND] = DF_ERR_NOT_FOUND,
							 [DF_CALL_BAD_ANSWER] = DF_ERR_PARSE};
	return class < DF_N_CALL_CLASS ? err[class] : DF_ERR_PARSE;
}

/* What the line at `at` says of it. */
static enum df_err judge(struct one *q, const struct df_answer_at *at, struct df_fail *fail)
{
	struct df_batch_answer said;
	struct df_str line;
	DF_TRY(df_answers_read(q->b->answers, at, q->arena, &line, fail));
	DF_TRY(df_batch_read_answer(line, q->arena, &said, fail));
	df_batch_judge(df_route_provider(q->route), &q->ask, &said, q->arena, &q->answer);
	df_answer_mask(&q->answer, df_route_endpoint(q->route));
	if (q->answer.class == DF_CALL_OK && q->ask.kind == DF_ASK_EMBED && (q->answer.n_vector != 1 || !q->answer.dim))
		q->answer.class = DF_CALL_BAD_ANSWER;
	return DF_OK;
}

static void keep(const struct one *q)
{
	struct df_buf packed;
	if (!q->b->cache || q->call->no_cache)
		return;
	df_buf_init(&packed, DF_CACHE_VALUE_BYTES);
	if (df_cache_pack(&q->answer, 0, &packed) == DF_OK)
		df_cache_put(q->b->cache, q->key, df_buf_str(&packed));
	df_buf_release(&packed);
}

/* True: it has its outcome. */
static bool from_batches(struct one *q)
{
	struct df_batch_run *b = q->b;
	struct df_answer_at at = df_answers_find(b->answers, df_str_from(q->custom_id));
	struct df_fail fail = {.msg = ""};
	bool spent = at.attempts >= b->o->attempts;
	if (at.state == DF_ANSWER_NONE) {
		if (spent)
			set_outcome(q, DF_ERR_CLOSED, "the provider's batches left this request out");
		return spent;
	}
	enum df_err err = judge(q, &at, &fail);
	if (err != DF_OK) {
		set_fault(q, &fail);
		return true;
	}
	q->attempts = at.attempts;
	if (q->answer.class == DF_CALL_OK) {
		q->err = DF_OK;
		keep(q);
		return true;
	}
	if (at.state != DF_ANSWER_FAILED && q->answer.class != DF_CALL_BAD_INPUT && !spent)
		return false;
	set_outcome(q, err_of(q->answer.class), q->answer.message);
	return true;
}

static bool from_cache(struct one *q)
{
	struct df_str value;
	struct df_answer a = {.retry_after_ms = -1};
	size_t vectors = q->ask.kind == DF_ASK_EMBED ? 1 : 0;
	if (!q->b->cache || q->call->no_cache || q->call->fresh ||
	    df_cache_get(q->b->cache, q->key, q->arena, &value) != DF_OK ||
	    df_cache_unpack(value, q->arena, &a) != DF_OK || a.n_vector != vectors)
		return false;
	a.class = DF_CALL_OK;
	q->answer = a;
	q->err = DF_OK;
	q->cached = true;
	return true;
}

static void answer(struct one *q)
{
	const struct df_batch_run *b = q->b;
	struct df_str provider = df_str_from(df_route_provider(q->route)->name);
	struct df_str base = df_route_endpoint(q->route)->base_url;
	const struct df_batch_site *site = df_batch_site_of(b, df_route_id(q->route).p);
	q->key = q->ask.kind == DF_ASK_EMBED ? df_cache_key_embed(&q->ask, provider, base, 0)
					     : df_cache_key_chat(&q->ask, provider, base);
	if (site && site->place.form == DF_REMOTE_INLINE)
		df_batch_custom_id_of_run(q->key, b->state.run, q->custom_id);
	else
		df_batch_custom_id(q->key, q->custom_id);
	if (!from_batches(q) && !from_cache(q))
		ask_for_it(q);
}

/* ------------------------------------------------------------------ embeddings */

static void add_usage(struct df_call *call, const struct one *q)
{
	struct df_usage *to = &call->answer.usage;
	const struct df_usage *from = &q->answer.usage;
	double usd = df_price_of(df_route_model(q->route), from) * DF_BATCH_PRICE;
	call->attempts = q->attempts > call->attempts ? q->attempts : call->attempts;
	if (q->cached)
		return;
	to->in += from->in;
	to->out += from->out;
	to->cached_in += from->cached_in;
	to->known = true;
	call->usd += isnan(usd) ? 0 : usd;
}

/* Row i of the call's vectors. DF_ERR_TYPE: of another length than those before. */
static enum df_err take_vector(struct df_call *call, size_t i, const struct df_answer *a)
{
	struct df_answer *to = &call->answer;
	if (!to->vector) {
		to->vector = df_arena_array(call->arena, call->ask.n_input * (size_t)a->dim, sizeof(*to->vector));
		if (!to->vector)
			return DF_ERR_NOMEM;
		memset(to->vector, 0, call->ask.n_input * (size_t)a->dim * sizeof(*to->vector));
		to->dim = a->dim;
		to->n_vector = call->ask.n_input;
		to->model = df_arena_copy(call->arena, a->model);
	}
	if (a->dim != to->dim)
		return DF_ERR_TYPE;
	memcpy(to->vector + i * (size_t)a->dim, a->vector, a->dim * sizeof(*to->vector));
	return DF_OK;
}

static void copy_message(struct df_call *call, const struct one *q)
{
	(void)snprintf(call->message, sizeof(call->message), "%s", q->message);
}

/* One input failed: the others go on. */
static enum df_err fail_input(struct df_call *call, size_t i, const struct one *q)
{
	if (!call->input_err) {
		call->input_err = df_arena_zalloc(call->arena, call->ask.n_input * sizeof(*call->input_err));
		copy_message(call, q);
	}
	if (!call->input_err)
		return DF_ERR_NOMEM;
	call->input_err[i] = q->err;
	return DF_OK;
}

static void embed(struct df_batch_run *b, struct df_call *call)
{
	bool waits = false, cached = true;
	call->answer = (struct df_answer){.class = DF_CALL_OK, .retry_after_ms = -1};
	for (size_t i = 0; i < call->ask.n_input; i++) {
		struct one q = {.b = b, .call = call, .route = call->route[0], .ask = call->ask, .arena = &b->scratch};
		enum df_err err = DF_OK;
		df_arena_reset(&b->scratch);
		q.ask.model = df_route_name(q.route);
		q.ask.input = &call->ask.input[i];
		q.ask.n_input = 1;
		q.ask.tokens_in = call->ask.input[i].n / 2 + 1;
		answer(&q);
		cached &= q.cached;
		add_usage(call, &q);
		if (q.err == DF_OK)
			err = take_vector(call, i, &q.answer);
		if (err == DF_ERR_TYPE)
			set_outcome(&q, err, "its vector has another length than those before");
		if (q.err == DF_ERR_AGAIN)
			waits = true;
		else if (q.err != DF_OK && err != DF_ERR_NOMEM)
			err = fail_input(call, i, &q);
		if (err == DF_ERR_NOMEM) {
			call->err = err;
			(void)snprintf(call->message, sizeof(call->message), "no memory for vectors");
			return;
		}
	}
	call->cached = cached;
	call->err = DF_OK;
	if (waits)
		call->err = DF_ERR_AGAIN;
	else if (!call->answer.vector)
		call->err = call->input_err ? call->input_err[0] : DF_ERR_BUG;
}

/* ------------------------------------------------------------------ */

static void chat(struct df_batch_run *b, struct df_call *call)
{
	struct one q = {.b = b, .call = call, .route = call->route[0], .ask = call->ask, .arena = call->arena};
	df_arena_reset(&b->scratch);
	q.ask.model = df_route_name(q.route);
	q.ask.stream = false;
	answer(&q);
	call->answer = q.answer;
	call->err = q.err;
	call->cached = q.cached;
	call->attempts = q.attempts;
	if (q.err != DF_OK) {
		copy_message(call, &q);
	} else if (!q.cached) {
		double usd = df_price_of(df_route_model(q.route), &q.answer.usage) * DF_BATCH_PRICE;
		call->usd = isnan(usd) ? 0 : usd;
	}
}

void df_batch_gate(void *self, struct df_call *call)
{
	(call->ask.kind == DF_ASK_EMBED ? embed : chat)(self, call);
}
