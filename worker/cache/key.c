// SPDX-License-Identifier: Apache-2.0
/*
 * key: what decides an answer, as a key.
 *
 * DESIGN. Fields are fed one after the other, each as (tag, length, hash of its bytes), chained into what came before: as unambiguous as a
 * length-prefixed text of all of them, without memory for that text, so that making a key cannot fail. Two chains run side by side, XXH3-128 and a seeded
 * XXH3-64: that one's secret differs, so bytes that collide in the one do not in the other. Whether an answer is streamed does not change it.
 */
#include "worker/cache/cache.h"

#include <math.h>

#include "base/hash.h"

#define CHECK_SEED UINT64_C(0x646f63666c756d65)

enum tag {
	TAG_VERSION = 1,
	TAG_KIND,
	TAG_PROVIDER,
	TAG_BASE_URL,
	TAG_MODEL,
	TAG_DIMENSIONS,
	TAG_INPUT,
	TAG_TEMPERATURE,
	TAG_TOP_P,
	TAG_MAX_TOKENS,
	TAG_SEED,
	TAG_SCHEMA,
	TAG_SCHEMA_NAME,
	TAG_TURNS,
	TAG_ROLE,
	TAG_TEXT,
	TAG_QUERY,
};

#define KEY_VERSION 1

static void add(struct df_cache_key *k, enum tag tag, const void *p, size_t n)
{
	struct df_hash128 h = df_hash128(p, n);
	uint64_t link[6] = {k->low, k->high, (uint64_t)tag, n, h.low, h.high};
	uint64_t check[4] = {k->check, (uint64_t)tag, n, df_hash64_seed(p, n, CHECK_SEED)};
	h = df_hash128(link, sizeof(link));
	*k = (struct df_cache_key){h.low, h.high, df_hash64_seed(check, sizeof(check), CHECK_SEED)};
}

static void add_str(struct df_cache_key *k, enum tag tag, struct df_str s)
{
	add(k, tag, s.n ? s.p : "", s.n);
}

static void add_u64(struct df_cache_key *k, enum tag tag, uint64_t v)
{
	add(k, tag, &v, sizeof(v));
}

/* All not-a-numbers mean the default, and -0 is 0. */
static void add_double(struct df_cache_key *k, enum tag tag, double v)
{
	uint64_t bits = UINT64_MAX;
	v = v == 0 ? 0 : v;
	if (!isnan(v))
		memcpy(&bits, &v, sizeof(bits));
	add_u64(k, tag, bits);
}

static struct df_cache_key begin(const struct df_ask *ask, enum df_ask_kind kind, struct df_str provider,
				 struct df_str base_url)
{
	struct df_cache_key k = {0, 0, 0};
	while (base_url.n && base_url.p[base_url.n - 1] == '/')
		base_url.n--;
	add_u64(&k, TAG_VERSION, KEY_VERSION);
	add_u64(&k, TAG_KIND, kind == DF_ASK_CHAT ? 1 : 2);
	add_str(&k, TAG_PROVIDER, provider);
	add_str(&k, TAG_BASE_URL, base_url);
	add_str(&k, TAG_MODEL, ask->model);
	return k;
}

struct df_cache_key df_cache_key_embed(const struct df_ask *ask, struct df_str provider, struct df_str base_url,
				       size_t i)
{
	struct df_cache_key k = begin(ask, DF_ASK_EMBED, provider, base_url);
	DF_ASSERT(i < ask->n_input);
	add_u64(&k, TAG_DIMENSIONS, (uint64_t)ask->dimensions);
	if (ask->query)
		add_u64(&k, TAG_QUERY, 1);
	add_str(&k, TAG_INPUT, ask->input[i]);
	return k;
}

struct df_cache_key df_cache_key_chat(const struct df_ask *ask, struct df_str provider, struct df_str base_url)
{
	struct df_cache_key k = begin(ask, DF_ASK_CHAT, provider, base_url);
	add_double(&k, TAG_TEMPERATURE, ask->temperature);
	add_double(&k, TAG_TOP_P, ask->top_p);
	add_u64(&k, TAG_MAX_TOKENS, (uint64_t)ask->max_tokens);
	add_u64(&k, TAG_SEED, (uint64_t)ask->seed);
	add_str(&k, TAG_SCHEMA, ask->schema);
	add_str(&k, TAG_SCHEMA_NAME, ask->schema_name);
	add_u64(&k, TAG_TURNS, ask->n_turn);
	for (size_t i = 0; i < ask->n_turn; i++) {
		add_u64(&k, TAG_ROLE, (uint64_t)ask->turn[i].role);
		add_str(&k, TAG_TEXT, ask->turn[i].text);
	}
	return k;
}
