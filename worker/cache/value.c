// SPDX-License-Identifier: Apache-2.0
/*
 * value: an answer as bytes, and back.
 *
 *   u32 magic (with the version), u8 kind, u8 finish, u8 usage known, u8 0, u64 in, u64 cached in, u64 out, u32 dim, u32 bytes of the model's name,
 *   u64 bytes of the text; then the vector (dim float32) or the text, then the model's name; then u64 XXH3 of all that. Little-endian, as the
 *   machines docflume runs on; on another the magic differs.
 */
#include "worker/cache/cache.h"

#include <math.h>

#include "base/hash.h"
#include "base/limits.h"

#define MAGIC UINT32_C(0x31614644) /* "DFa1" */
#define DIM_MAX (DF_CACHE_VALUE_BYTES / sizeof(float))

struct head {
	uint32_t magic;
	uint8_t kind, finish, known, zero;
	uint64_t in, cached_in, out;
	uint32_t dim, model_bytes;
	uint64_t text_bytes;
};
_Static_assert(sizeof(struct head) == 48, "no padding");

static bool is_finite(const float *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isfinite(v[i]))
			return false;
	return true;
}

enum df_err df_cache_pack(const struct df_answer *a, size_t row, struct df_buf *out)
{
	size_t start = out->n;
	struct head h = {.magic = MAGIC, .model_bytes = (uint32_t)a->model.n};
	struct df_str body = a->text;
	if (a->class != DF_CALL_OK || a->model.n > UINT16_MAX)
		return DF_ERR_RANGE;
	if (a->n_vector) {
		const float *v = a->vector + row * a->dim;
		if (row >= a->n_vector || a->dim == 0 || a->dim > DIM_MAX || !is_finite(v, a->dim))
			return DF_ERR_RANGE;
		h.kind = DF_ASK_EMBED;
		h.dim = a->dim;
		body = (struct df_str){(const char *)v, a->dim * sizeof(float)};
	} else {
		h.kind = DF_ASK_CHAT;
		h.finish = (uint8_t)a->finish;
		h.known = a->usage.known;
		h.in = a->usage.in;
		h.cached_in = a->usage.cached_in;
		h.out = a->usage.out;
		h.text_bytes = a->text.n;
	}
	(void)df_buf_add(out, &h, sizeof(h));
	(void)df_buf_add_str(out, body);
	(void)df_buf_add_str(out, a->model);
	DF_TRY(df_buf_err(out));
	uint64_t sum = df_hash64(out->p + start, out->n - start);
	return df_buf_add(out, &sum, sizeof(sum));
}

/* False: not of this version, or not whole. */
static bool read_head(struct df_str value, struct head *h)
{
	uint64_t sum;
	if (value.n < sizeof(*h) + sizeof(sum))
		return false;
	memcpy(h, value.p, sizeof(*h));
	memcpy(&sum, value.p + value.n - sizeof(sum), sizeof(sum));
	if (h->magic != MAGIC || sum != df_hash64(value.p, value.n - sizeof(sum)))
		return false;
	size_t rest = value.n - sizeof(*h) - sizeof(sum);
	uint64_t body = h->kind == DF_ASK_EMBED ? h->dim * sizeof(float) : h->text_bytes;
	bool shape = h->kind == DF_ASK_EMBED  ? h->dim > 0 && h->text_bytes == 0
		     : h->kind == DF_ASK_CHAT ? h->dim == 0 && h->finish <= DF_FINISH_OTHER
					      : false;
	return shape && h->model_bytes <= rest && body == rest - h->model_bytes;
}

enum df_err df_cache_unpack(struct df_str value, struct df_arena *arena, struct df_answer *ret)
{
	struct head h;
	if (!read_head(value, &h))
		return DF_ERR_CORRUPT;
	const char *body = value.p + sizeof(h);
	size_t body_bytes = value.n - sizeof(h) - sizeof(uint64_t) - h.model_bytes;
	struct df_answer a = {.class = DF_CALL_OK, .retry_after_ms = -1};
	a.model = df_arena_copy(arena, (struct df_str){body + body_bytes, h.model_bytes});
	if (h.kind == DF_ASK_EMBED) {
		a.vector = df_arena_array(arena, h.dim, sizeof(float)); /* aligned, which `value` need not be */
		a.n_vector = 1;
		a.dim = h.dim;
		if (a.vector)
			memcpy(a.vector, body, body_bytes);
	} else {
		a.text = df_arena_copy(arena, (struct df_str){body, body_bytes});
		a.finish = (enum df_finish)h.finish;
		a.usage = (struct df_usage){h.in, h.cached_in, h.out, h.known != 0};
	}
	if (!a.model.p || (h.kind == DF_ASK_EMBED ? !a.vector : !a.text.p))
		return DF_ERR_NOMEM;
	*ret = a;
	return DF_OK;
}
