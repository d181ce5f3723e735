// SPDX-License-Identifier: Apache-2.0
/*
 * vector: embeddings from a hash of their text: unit vectors whose numbers are millionths, so that the decimal form and the float32 of
 * base64 are the same number. A vector of 1536 costs some 15 us as text and 3 us as base64.
 */
#include "tests/api/form.h"

#include <math.h>
#include <stdlib.h>

#define DIM_MAX 8192

/* Millionths of a unit vector. */
static void vector_of(struct span text, uint64_t dim, int32_t *to)
{
	uint64_t state = hash_of(text, 3);
	double sum = 0;
	for (uint64_t i = 0; i < dim; i += 3) {
		uint64_t bits = random_next(&state);
		for (uint64_t k = 0; k < 3 && i + k < dim; k++, bits >>= 21) {
			to[i + k] = (int32_t)(bits & 0x1fffff) - 0x100000;
			sum += (double)to[i + k] * to[i + k];
		}
	}
	double scale = sum > 0 ? 1e6 / sqrt(sum) : 0;
	for (uint64_t i = 0; i < dim; i++)
		to[i] = (int32_t)lrint(to[i] * scale);
}

static void decimals(const int32_t *v, uint64_t dim, struct bytes *to)
{
	bytes_grow(to, dim * 10 + 2);
	char *p = to->p + to->n;
	*p++ = '[';
	for (uint64_t i = 0; i < dim; i++) {
		uint32_t left = (uint32_t)abs(v[i]);
		if (v[i] < 0)
			*p++ = '-';
		p[0] = (char)('0' + left / 1000000);
		p[1] = '.';
		left %= 1000000;
		for (int digit = 7; digit > 1; digit--, left /= 10)
			p[digit] = (char)('0' + left % 10);
		p[8] = ',';
		p += 9;
	}
	p[-1] = ']';
	*p = 0;
	to->n = (size_t)(p - to->p);
}

static void numbers(struct span text, uint64_t dim, bool base64, struct bytes *to)
{
	static int32_t v[DIM_MAX];
	static float f[DIM_MAX];
	vector_of(text, dim, v);
	if (!base64) {
		decimals(v, dim, to);
		return;
	}
	for (uint64_t i = 0; i < dim; i++)
		f[i] = (float)(v[i] / 1e6);
	bytes_str(to, "\"");
	bytes_base64(to, f, dim * sizeof *f);
	bytes_str(to, "\"");
}

static uint64_t dim_of(const struct ask *a, const struct options *o)
{
	uint64_t small = a->api == API_TEI || a->api == API_OLLAMA_EMBED ? 384 : 1536;
	uint64_t dim = a->dimensions ? a->dimensions : o->dim ? o->dim : small;
	return dim > DIM_MAX ? DIM_MAX : dim;
}

/* Whose vector is the i-th of the answer: a fixed permutation (i * odd + c modulo a power of two, the too large ones passed over). */
static size_t next_index(size_t i, size_t n, size_t *state)
{
	size_t power = 1;
	while (power < n)
		power *= 2;
	if (i == 0)
		*state = power / 2;
	do
		*state = (*state * 5 + 3) & (power - 1);
	while (*state >= n);
	return *state;
}

static void openai(struct bytes *to, const struct ask *a, const struct options *o, size_t n)
{
	size_t state = 0;
	bytes_str(to, "{\"object\":\"list\",\"data\":[");
	for (size_t i = 0; i < n; i++) {
		size_t k = o->shuffle ? next_index(i, a->n_input, &state) : i;
		bytes_fmt(to, "%s{\"object\":\"embedding\",\"index\":%zu,\"embedding\":", i ? "," : "", k);
		numbers(a->input[k].text, dim_of(a, o), a->base64, to);
		bytes_str(to, "}");
	}
	bytes_str(to, "],\"model\":");
	bytes_json(to, a->model);
	if (o->usage)
		bytes_fmt(to, ",\"usage\":{\"prompt_tokens\":%lu,\"total_tokens\":%lu}", a->tokens_in, a->tokens_in);
	bytes_str(to, "}");
}

static void list(struct bytes *to, const struct ask *a, const struct options *o, size_t n, const char *before,
		 const char *behind)
{
	bytes_str(to, "[");
	for (size_t i = 0; i < n; i++) {
		bytes_fmt(to, "%s%s", i ? "," : "", before);
		numbers(a->input[i].text, dim_of(a, o), a->base64, to);
		bytes_str(to, behind);
	}
	bytes_str(to, "]");
}

void form_vectors(struct bytes *to, const struct ask *a, const struct options *o, bool fewer)
{
	size_t n = a->n_input - (fewer ? 1 : 0);
	switch (a->api) {
	case API_COHERE_EMBED:
		bytes_fmt(to, "{\"id\":\"%016lx\",\"embeddings\":{\"%s\":", hash_of(a->input[0].text, 9),
			  a->base64 ? "base64" : "float");
		list(to, a, o, n, "", "");
		bytes_fmt(to,
			  "},\"meta\":{\"api_version\":{\"version\":\"2\"},\"billed_units\":{\"input_tokens\":%lu}}}",
			  a->tokens_in);
		return;
	case API_GEMINI_EMBED:
		bytes_str(to, "{\"embedding\":{\"values\":");
		numbers(n > 0 ? a->input[0].text : (struct span){0}, dim_of(a, o), false, to);
		bytes_str(to, "}}");
		return;
	case API_GEMINI_EMBEDS:
		bytes_str(to, "{\"embeddings\":");
		list(to, a, o, n, "{\"values\":", "}");
		bytes_str(to, "}");
		return;
	case API_OLLAMA_EMBED:
		bytes_str(to, "{\"model\":");
		bytes_json(to, a->model);
		bytes_str(to, ",\"embeddings\":");
		list(to, a, o, n, "", "");
		bytes_fmt(to, ",\"total_duration\":1000,\"load_duration\":1,\"prompt_eval_count\":%lu}", a->tokens_in);
		return;
	case API_TEI:
		list(to, a, o, n, "", "");
		return;
	default:
		openai(to, a, o, n);
	}
}
