// SPDX-License-Identifier: Apache-2.0
/*
 * call_cache: what was paid for before, and what is being asked for already.
 *
 * DESIGN. Looking up may read a disk, so it is done by the thread that hands the call in. Between that and the call's arrival on the network thread an
 * identical one may have ended; `recent` remembers what was put lately, and only then is looked up once more.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "worker/call/call_own.h"

#define LOOK_SCRATCH_BYTES (256U << 20)

static struct df_ask ask_of(const struct df_own *o, const struct df_route *r)
{
	struct df_ask ask = o->call->ask;
	ask.model = r->model;
	ask.stream = false;
	return ask;
}

static struct df_str provider_of(const struct df_route *r)
{
	return df_str_from(r->provider->name);
}

static bool kept(const struct df_own *o)
{
	return o->caller->cache && !o->call->no_cache;
}

/* ------------------------------------------------------------------ looking up */

static bool look_up_chat(struct df_own *o, struct df_cache_key key)
{
	struct df_arena *arena = o->call->arena;
	struct df_str value;
	struct df_answer a = {.retry_after_ms = -1};
	if (df_cache_get(o->caller->cache, key, arena, &value) != DF_OK || df_cache_unpack(value, arena, &a) != DF_OK ||
	    a.n_vector || a.finish == DF_FINISH_FILTER || a.finish == DF_FINISH_OTHER)
		return false;
	a.class = DF_CALL_OK;
	a.retry_after_ms = -1;
	o->call->answer = a;
	return true;
}

bool df_own_look_up_route(struct df_own *o, const struct df_route *r)
{
	if (!kept(o) || o->call->fresh || o->call->ask.kind != DF_ASK_CHAT)
		return false;
	struct df_ask ask = ask_of(o, r);
	return look_up_chat(o, df_cache_key_chat(&ask, provider_of(r), r->to.base_url));
}

/* Row i from the cache to its place. DF_ERR_NOT_FOUND. */
static enum df_err look_up_row(struct df_own *o, size_t i, struct df_arena *scratch)
{
	struct df_str value;
	struct df_answer a = {.retry_after_ms = -1};
	df_arena_reset(scratch);
	if (df_cache_get(o->caller->cache, o->row_key[i], scratch, &value) != DF_OK ||
	    df_cache_unpack(value, scratch, &a) != DF_OK || a.n_vector != 1 || !a.dim)
		return DF_ERR_NOT_FOUND;
	enum df_err err = df_own_row(o, i, a.vector, a.dim);
	return err == DF_ERR_TYPE ? DF_ERR_NOT_FOUND : err;
}

/* Input i has the text of an earlier one: it is asked for once. Open addressing over the inputs' hashes. */
static enum df_err find_twins(struct df_own *o)
{
	const struct df_ask *ask = &o->call->ask;
	size_t n_slot = 2;
	if (ask->n_input < 2)
		return DF_OK;
	while (n_slot < 2 * ask->n_input)
		n_slot *= 2;
	uint32_t *slot = calloc(n_slot, sizeof(*slot)); /* input + 1 */
	if (!slot)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < ask->n_input; i++) {
		size_t at = df_hash64(ask->input[i].p, ask->input[i].n) & (n_slot - 1);
		while (slot[at] && !df_str_eq(ask->input[slot[at] - 1], ask->input[i]))
			at = (at + 1) & (n_slot - 1);
		if (!slot[at]) {
			slot[at] = (uint32_t)i + 1;
			continue;
		}
		if (!o->twin && !(o->twin = calloc(ask->n_input, sizeof(*o->twin)))) {
			free(slot);
			return DF_ERR_NOMEM;
		}
		o->twin[i] = slot[at] - 1;
		o->row_state[i] = DF_ROW_TWIN;
	}
	free(slot);
	return DF_OK;
}

static enum df_err look_up_rows(struct df_own *o)
{
	const struct df_ask *given = &o->call->ask;
	const struct df_route *r = o->call->route[0];
	size_t n_here = 0;
	enum df_err err = DF_OK;
	if (given->n_input > UINT32_MAX - 1)
		return DF_ERR_NOMEM;
	o->row_state = calloc(given->n_input + 1, 1);
	if (!o->row_state)
		return DF_ERR_NOMEM;
	DF_TRY(find_twins(o));
	if (!kept(o)) {
		o->hit = !given->n_input;
		return DF_OK;
	}
	o->row_key = calloc(given->n_input + 1, sizeof(*o->row_key));
	if (!o->row_key)
		return DF_ERR_NOMEM;
	struct df_ask ask = ask_of(o, r);
	struct df_arena scratch;
	df_arena_init(&scratch, LOOK_SCRATCH_BYTES, DF_CALL_SCRATCH_KEEP);
	for (size_t i = 0; i < given->n_input && err == DF_OK; i++) {
		o->row_key[i] = df_cache_key_embed(&ask, provider_of(r), r->to.base_url, i);
		if (o->row_state[i] == DF_ROW_TWIN) {
			n_here++;
			continue;
		}
		err = look_up_row(o, i, &scratch);
		if (err == DF_OK)
			n_here++;
		else if (err == DF_ERR_NOT_FOUND)
			err = DF_OK;
	}
	df_arena_release(&scratch);
	DF_TRY(err);
	o->hit = n_here == given->n_input;
	struct df_hash128 all = df_hash128(o->row_key, given->n_input * sizeof(*o->row_key));
	o->key = (struct df_cache_key){.low = all.low, .high = all.high};
	return DF_OK;
}

enum df_err df_own_look_up(struct df_own *o)
{
	if (o->call->ask.kind == DF_ASK_EMBED)
		return look_up_rows(o);
	if (!kept(o))
		return DF_OK;
	const struct df_route *r = o->call->route[0];
	struct df_ask ask = ask_of(o, r);
	o->key = df_cache_key_chat(&ask, provider_of(r), r->to.base_url);
	o->hit = !o->call->fresh && look_up_chat(o, o->key);
	return DF_OK;
}

/* ------------------------------------------------------------------ what was put lately */

static size_t bucket_of(struct df_cache_key key)
{
	return key.low % DF_SHARE_BUCKETS;
}

static bool is_recent(const struct df_caller *c, struct df_cache_key key)
{
	return c->recent[bucket_of(key)] == key.low;
}

static void look_again(struct df_own *o)
{
	struct df_caller *c = o->caller;
	if (o->call->ask.kind == DF_ASK_CHAT) {
		o->hit = !o->call->fresh && is_recent(c, o->key) && look_up_chat(o, o->key);
		return;
	}
	bool all = true;
	for (size_t i = 0; i < o->call->ask.n_input; i++) {
		if (o->row_state[i] == DF_ROW_MISSING && is_recent(c, o->row_key[i]))
			(void)look_up_row(o, i, &c->scratch); /* it stays missing */
		all &= o->row_state[i] != DF_ROW_MISSING;
	}
	o->hit = all;
}

static void put(struct df_own *o, struct df_cache_key key, struct df_buf *packed, enum df_err err)
{
	struct df_caller *c = o->caller;
	if (err == DF_OK) {
		df_cache_put(c->cache, key, df_buf_str(packed));
		c->recent[bucket_of(key)] = key.low;
	}
	df_buf_release(packed);
}

void df_own_keep_chat(struct df_own *o, const struct df_route *r)
{
	enum df_finish finish = o->call->answer.finish;
	if (!kept(o) || finish == DF_FINISH_FILTER ||
	    finish == DF_FINISH_OTHER) /* no answer: the next run may get one */
		return;
	struct df_cache_key key = o->key;
	if (r != o->call->route[0]) {
		struct df_ask ask = ask_of(o, r);
		key = df_cache_key_chat(&ask, provider_of(r), r->to.base_url);
	}
	struct df_buf packed;
	df_buf_init(&packed, DF_CACHE_VALUE_BYTES);
	put(o, key, &packed, df_cache_pack(&o->call->answer, 0, &packed));
}

void df_own_keep_row(struct df_own *o, const struct df_answer *a, size_t row, size_t input)
{
	if (!kept(o))
		return;
	struct df_buf packed;
	df_buf_init(&packed, DF_CACHE_VALUE_BYTES);
	put(o, o->row_key[input], &packed, df_cache_pack(a, row, &packed));
}

/* ------------------------------------------------------------------ identical asks in flight */

/* Those with other fall-backs may get other answers. */
static bool same_routes(const struct df_call *a, const struct df_call *b)
{
	bool same = a->n_route == b->n_route;
	for (size_t i = 0; same && i < a->n_route; i++)
		same = a->route[i] == b->route[i];
	return same;
}

static bool same_key(const struct df_own *a, const struct df_own *b)
{
	return a->key.low == b->key.low && a->key.high == b->key.high && a->key.check == b->key.check &&
	       a->call->ask.kind == b->call->ask.kind && a->call->ask.n_input == b->call->ask.n_input &&
	       same_routes(a->call, b->call);
}

bool df_own_share(struct df_own *o)
{
	struct df_caller *c = o->caller;
	if (!kept(o))
		return false;
	struct df_own **bucket = &c->share[bucket_of(o->key)];
	for (struct df_own *other = *bucket; other; other = other->bucket_next) {
		if (!same_key(o, other))
			continue;
		o->follower = other->follower;
		other->follower = o;
		return true;
	}
	look_again(o);
	if (o->hit)
		return true;
	o->bucket_next = *bucket;
	*bucket = o;
	o->shared = true;
	return false;
}

/* What `from` got, into the follower's own memory. */
static enum df_err copy_answer(struct df_call *to, const struct df_call *from)
{
	const struct df_answer *a = &from->answer;
	size_t n_input = from->ask.n_input;
	to->answer = *a;
	to->answer.text = df_arena_copy(to->arena, a->text);
	to->answer.model = df_arena_copy(to->arena, a->model);
	if (!to->answer.text.p || !to->answer.model.p)
		return DF_ERR_NOMEM;
	if (a->vector) {
		size_t bytes = a->n_vector * a->dim * sizeof(float);
		to->answer.vector = df_arena_alloc(to->arena, bytes);
		if (!to->answer.vector)
			return DF_ERR_NOMEM;
		memcpy(to->answer.vector, a->vector, bytes);
	}
	if (from->input_err) {
		to->input_err = df_arena_array(to->arena, n_input, sizeof(*to->input_err));
		if (!to->input_err)
			return DF_ERR_NOMEM;
		memcpy(to->input_err, from->input_err, n_input * sizeof(*to->input_err));
	}
	return DF_OK;
}

static void answer_follower(struct df_own *f, const struct df_own *leader)
{
	const struct df_call *from = leader->call;
	struct df_call *to = f->call;
	f->row_done = true;
	f->class = leader->class;
	f->run_err = leader->run_err;
	to->err = from->err;
	memcpy(to->message, from->message, sizeof(to->message));
	if (from->err == DF_OK || from->input_err)
		to->err = copy_answer(to, from) == DF_OK ? from->err : DF_ERR_NOMEM;
	df_own_finish(f);
}

void df_own_unshare(struct df_own *o)
{
	struct df_caller *c = o->caller;
	if (!o->shared)
		return;
	struct df_own **at = &c->share[bucket_of(o->key)];
	while (*at != o)
		at = &(*at)->bucket_next;
	*at = o->bucket_next;
	o->shared = false;
	/* The last one stands first. If one of them is to lead the others, it is the oldest: whoever walks from new to old (end_pieces) counts on it. */
	struct df_own *oldest = NULL;
	for (struct df_own *f = o->follower, *next; f; f = next) {
		next = f->follower;
		f->follower = oldest;
		oldest = f;
	}
	for (struct df_own *f = oldest, *next; f; f = next) {
		next = f->follower;
		f->follower = NULL;
		if (o->call->err == DF_ERR_NOMEM) /* perhaps its arena alone was full */
			df_own_begin(f);
		else
			answer_follower(f, o);
	}
	o->follower = NULL;
}
