// SPDX-License-Identifier: Apache-2.0
/*
 * fake: answers without a network, at no cost: text and vectors are made of a hash of the ask, so equal asks have equal answers on every machine.
 *
 * Its model says how it behaves: fake/any?delay=20ms&429=0.1&seed=7; fake/echo answers with the last message. What may stand there is in `usage` below.
 * Faults are thrown by the hash of (seed, ask, how often this process has seen it), so an ask that failed may succeed when it is tried again, and does
 * the same in the next run.
 */
#include "worker/provider/fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "worker/provider/cassette.h"
#include "worker/provider/wire/wire.h"

#define SEEN 65536 /* counters of asks; two that share one by chance only move each other's faults */
#define STATUSES_MAX 8

static const char usage[] =
	"delay=20ms, jitter=10ms (a part of it on top), retry_after=1s, seed=7, tokens=16 (words), dim=384, pieces=8, "
	"refuse=WORD (inputs with it are BAD_INPUT), and as probabilities: 429, 500 or any status, quota, reset, "
	"bad_json, "
	"empty";

struct state {
	bool echo;
	uint64_t delay_ns, jitter_ns, seed, tokens, dim, pieces;
	int64_t retry_after_ms;
	char refuse[64];
	double quota, reset, bad_json, empty;
	struct {
		long status;
		double p;
	} status[STATUSES_MAX];
	size_t n_status;
	uint8_t seen[SEEN];
};

/* ------------------------------------------------------------------ the model's id */

static bool read_probability(struct df_str value, double *ret)
{
	return df_str_to_double(value, ret) == DF_OK && *ret >= 0 && *ret <= 1;
}

static bool read_fault(struct state *s, struct df_str key, struct df_str value)
{
	uint64_t status = 0;
	if (df_str_is(key, "quota"))
		return read_probability(value, &s->quota);
	if (df_str_is(key, "reset"))
		return read_probability(value, &s->reset);
	if (df_str_is(key, "bad_json"))
		return read_probability(value, &s->bad_json);
	if (df_str_is(key, "empty"))
		return read_probability(value, &s->empty);
	if (df_str_to_u64(key, &status) != DF_OK || status < 400 || status > 599 || s->n_status == STATUSES_MAX)
		return false;
	s->status[s->n_status].status = (long)status;
	return read_probability(value, &s->status[s->n_status++].p);
}

static bool read_option(struct state *s, struct df_str key, struct df_str value)
{
	uint64_t ns = 0;
	if (df_str_is(key, "delay"))
		return df_str_to_time(value, &s->delay_ns) == DF_OK;
	if (df_str_is(key, "jitter"))
		return df_str_to_time(value, &s->jitter_ns) == DF_OK;
	if (df_str_is(key, "seed"))
		return df_str_to_u64(value, &s->seed) == DF_OK;
	if (df_str_is(key, "tokens"))
		return df_str_to_u64(value, &s->tokens) == DF_OK && s->tokens <= 100000;
	if (df_str_is(key, "dim"))
		return df_str_to_u64(value, &s->dim) == DF_OK && s->dim >= 1 && s->dim <= 65536;
	if (df_str_is(key, "pieces"))
		return df_str_to_u64(value, &s->pieces) == DF_OK && s->pieces >= 1 && s->pieces <= 100000;
	if (df_str_is(key, "retry_after")) {
		bool ok = df_str_to_time(value, &ns) == DF_OK;
		s->retry_after_ms = (int64_t)(ns / 1000000);
		return ok;
	}
	if (df_str_is(key, "refuse")) {
		(void)snprintf(s->refuse, sizeof(s->refuse), "%.*s", (int)value.n, value.p);
		return value.n > 0 && value.n < sizeof(s->refuse);
	}
	return read_fault(s, key, value);
}

static enum df_err read_model(struct state *s, struct df_str model, struct df_fail *fail)
{
	const char *mark = model.n ? memchr(model.p, '?', model.n) : NULL;
	struct df_str name = {model.p, mark ? (size_t)(mark - model.p) : model.n};
	s->echo = df_str_is(name, "echo");
	for (const char *p = mark ? mark + 1 : NULL, *end = model.p + model.n; p && p < end;) {
		const char *and = memchr(p, '&', (size_t)(end - p)), *stop = and? and : end;
		const char *equals = memchr(p, '=', (size_t)(stop - p));
		struct df_str key = {p, (size_t)((equals ? equals : stop) - p)};
		struct df_str value = {equals ? equals + 1 : stop, equals ? (size_t)(stop - equals - 1) : 0};
		if (!read_option(s, key, value))
			return df_fail(fail, DF_ERR_USAGE, "model 'fake/%.*s': '%.*s' is not understood; it takes %s",
				       (int)(model.n < 100 ? model.n : 100), model.p,
				       (int)(stop - p < 60 ? stop - p : 60), p, usage);
		p = stop + 1;
	}
	return DF_OK;
}

static enum df_err open_state(struct df_str model, void **ret_state, struct df_fail *fail)
{
	struct state *s = calloc(1, sizeof(*s));
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for a fake model");
	s->tokens = 16;
	s->dim = 384;
	s->pieces = 8;
	s->retry_after_ms = -1;
	enum df_err err = read_model(s, model, fail);
	if (err == DF_OK)
		*ret_state = s;
	else
		free(s);
	return err;
}

/* ------------------------------------------------------------------ faults */

static bool thrown(double p, uint64_t *random)
{
	return (double)(df_fake_next(random) >> 11) * 0x1p-53 < p;
}

static bool contains(struct df_str s, const char *word)
{
	return s.n && word[0] && memmem(s.p, s.n, word, strlen(word)) != NULL;
}

static bool refused(const struct state *s, const struct df_ask *ask)
{
	for (size_t i = 0; i < (ask->kind == DF_ASK_CHAT ? ask->n_turn : ask->n_input); i++)
		if (contains(ask->kind == DF_ASK_CHAT ? ask->turn[i].text : ask->input[i], s->refuse))
			return true;
	return false;
}

/* True: the ask fails, and ret says how. */
static bool fault(const struct state *s, const struct df_ask *ask, uint64_t *random, struct df_answer *ret)
{
	struct df_str words = DF_STR("made up by the fake provider");
	bool failed = true;
	if (refused(s, ask))
		df_wire_fail(ret, DF_CALL_BAD_INPUT, "status 400: the input contains '%s'", s->refuse);
	else if (thrown(s->reset, random))
		df_wire_fail(ret, DF_CALL_RETRY, "closed: connection reset, made up by the fake provider");
	else if (thrown(s->quota, random)) {
		df_wire_fail(ret, DF_CALL_QUOTA, "status 429 (insufficient_quota): made up by the fake provider");
		(void)snprintf(ret->code, sizeof(ret->code), "insufficient_quota");
	} else
		failed = false;
	for (size_t i = 0; i < s->n_status && !failed; i++)
		if (thrown(s->status[i].p, random)) {
			df_wire_error(ret, s->status[i].status, NULL, words);
			failed = true;
		}
	if (failed && (ret->class == DF_CALL_RATE || ret->class == DF_CALL_RETRY))
		ret->retry_after_ms = s->retry_after_ms;
	return failed;
}

/* ------------------------------------------------------------------ answers */

static uint64_t tokens_of(const struct df_ask *ask)
{
	uint64_t n = 0;
	if (ask->tokens_in)
		return ask->tokens_in;
	for (size_t i = 0; ask->kind == DF_ASK_CHAT && i < ask->n_turn; i++)
		n += ask->turn[i].text.n;
	for (size_t i = 0; ask->kind == DF_ASK_EMBED && i < ask->n_input; i++)
		n += ask->input[i].n;
	return n / 4 + 1;
}

static void make_text(const struct state *s, const struct df_ask *ask, struct df_arena *arena, uint64_t *random,
		      struct df_buf *b, struct df_answer *ret)
{
	struct df_json *schema = NULL;
	uint64_t n = s->tokens;
	if (ask->schema.n && df_json_parse(ask->schema, arena, &schema, NULL) == DF_OK) {
		df_fake_instance(b, schema, schema, random, 0);
		return;
	}
	if (s->echo && ask->n_turn) {
		(void)df_buf_add_str(b, ask->turn[ask->n_turn - 1].text);
		return;
	}
	if (ask->max_tokens > 0 && n > (uint64_t)ask->max_tokens) {
		n = (uint64_t)ask->max_tokens;
		ret->finish = DF_FINISH_LENGTH;
	}
	df_fake_words(b, random, n);
}

static void chat(const struct state *s, const struct df_ask *ask, struct df_arena *arena, uint64_t *random, bool broken,
		 bool nothing, struct df_answer *ret)
{
	struct df_buf b;
	df_buf_init(&b, DF_ANSWER_TEXT_MAX);
	if (!nothing)
		make_text(s, ask, arena, random, &b, ret);
	if (df_buf_err(&b) == DF_OK)
		ret->text = df_arena_copy(arena, b.n ? df_buf_str(&b) : DF_STR(""));
	if (broken) /* of a schema: half of it */
		ret->text.n /= 2;
	if (ret->class == DF_CALL_OK && !ret->text.p)
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for an answer");
	ret->usage.out = s->echo || ask->schema.n ? ret->text.n / 4 + 1 : s->tokens;
	if (ask->max_tokens > 0 && ret->usage.out > (uint64_t)ask->max_tokens)
		ret->usage.out = (uint64_t)ask->max_tokens;
	df_buf_release(&b);
}

/* A unit vector of a hash of the text alone, so that the same text lies at the same place in every batch. */
static void make_vector(uint64_t seed, struct df_str text, float *v, size_t dim)
{
	uint64_t random = df_hash64_seed(text.n ? text.p : "", text.n, seed);
	double square = 0;
	for (size_t i = 0; i < dim; i++) {
		uint64_t r = df_fake_next(&random); /* a sum of four is round enough */
		double x = (double)(r & 0xffff) + (double)(r >> 16 & 0xffff) + (double)(r >> 32 & 0xffff) +
			   (double)(r >> 48) - 131070.0;
		v[i] = (float)x;
		square += x * x;
	}
	for (size_t i = 0; i < dim; i++)
		v[i] = square > 0 ? (float)((double)v[i] / sqrt(square)) : 0.0F;
}

static void embed(const struct state *s, const struct df_ask *ask, struct df_arena *arena, struct df_answer *ret)
{
	size_t dim = ask->dimensions > 0 && ask->dimensions <= 65536 ? (size_t)ask->dimensions : s->dim;
	ret->vector = df_arena_array(arena, ask->n_input, dim * sizeof(float));
	if (!ret->vector) {
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for %zu vectors", ask->n_input);
		return;
	}
	for (size_t i = 0; i < ask->n_input; i++)
		make_vector(s->seed, ask->input[i], ret->vector + i * dim, dim);
	ret->n_vector = ask->n_input;
	ret->dim = (uint32_t)dim;
}

static void answer(void *state, const struct df_ask *ask, struct df_arena *arena, struct df_answer *ret,
		   uint64_t *ret_delay_ns, uint32_t *ret_pieces)
{
	struct state *s = state;
	char digest[33];
	df_wire_clear(ret);
	*ret_pieces = (uint32_t)s->pieces;
	*ret_delay_ns = s->delay_ns;
	if (df_ask_digest(ask, false, digest) != DF_OK) {
		df_wire_fail(ret, DF_CALL_RETRY, "no memory for a digest");
		return;
	}
	uint64_t text = df_hash64_seed(digest, 32, s->seed), *random = &text;
	uint8_t *seen = &s->seen[text % SEEN];
	uint64_t chance = text + *seen;
	if (*seen < UINT8_MAX)
		(*seen)++;
	*ret_delay_ns += s->jitter_ns ? df_fake_next(&chance) % s->jitter_ns : 0;
	if (fault(s, ask, &chance, ret))
		return;
	ret->usage = (struct df_usage){.in = tokens_of(ask), .known = true};
	ret->model = DF_STR("fake");
	bool broken = thrown(s->bad_json, &chance), nothing = thrown(s->empty, &chance);
	if (broken && (ask->kind == DF_ASK_EMBED || !ask->schema.n))
		df_wire_fail(ret, DF_CALL_BAD_ANSWER, "the answer is not whole JSON, as the fake provider was told");
	else if (ask->kind == DF_ASK_CHAT)
		chat(s, ask, arena, random, broken, nothing, ret);
	else
		embed(s, ask, arena, ret);
}

static const char *const patterns[] = {NULL};

const struct df_provider df_provider_fake = {
	.name = "fake",
	.summary = "makes answers up, with faults on demand: fake/any?429=0.1&delay=20ms",
	.pattern = patterns,
	.base_url = "",
	.free = true,
	.schema_mode = true,
	.embed_inputs_max = 2048,
	.answer = answer,
	.open = open_state,
	.close = free};
