// SPDX-License-Identifier: Apache-2.0
/*
 * lru: a hash table whose entries are also a list in order of use, in shards.
 *
 * DESIGN. An entry is one piece of memory: links, key, bytes. Chains are short (the table doubles with its entries), and keys are hashes already. A value is
 * copied out under the shard's mutex: 6 KB are 0.1 us, less than counting references would cost in trouble.
 */
#include "worker/cache/lru.h"

#include <pthread.h>
#include <stdlib.h>

#define BUCKETS_MIN 64

struct entry {
	struct entry *older, *younger; /* order of use */
	struct entry *next;            /* same bucket */
	struct df_cache_key key;
	size_t n;
	char p[];
};

struct shard {
	pthread_mutex_t lock;
	struct entry **bucket;
	size_t n_bucket; /* power of two */
	size_t n;
	struct entry *oldest, *youngest;
	uint64_t bytes, max, evictions;
} __attribute__((aligned(64)));

struct df_lru {
	unsigned n_shard;
	struct shard shard[];
};

static uint64_t cost(size_t n)
{
	return sizeof(struct entry) + n + 2 * sizeof(void *); /* malloc's word, the bucket */
}

static struct shard *shard_of(struct df_lru *l, struct df_cache_key key)
{
	return &l->shard[key.high % l->n_shard];
}

static struct entry **bucket_of(const struct shard *s, struct df_cache_key key)
{
	return &s->bucket[key.low & (s->n_bucket - 1)];
}

struct df_lru *df_lru_create(uint64_t max_bytes, unsigned n_shard)
{
	struct df_lru *l = NULL;
	if (posix_memalign((void **)&l, 64, sizeof(*l) + n_shard * sizeof(l->shard[0])) != 0)
		return NULL;
	memset(l, 0, sizeof(*l) + n_shard * sizeof(l->shard[0]));
	for (; l->n_shard < n_shard; l->n_shard++) {
		struct shard *s = &l->shard[l->n_shard];
		(void)pthread_mutex_init(&s->lock, NULL);
		s->max = max_bytes / n_shard;
		s->n_bucket = BUCKETS_MIN;
		s->bucket = calloc(s->n_bucket, sizeof(*s->bucket));
		if (!s->bucket) {
			l->n_shard++;
			df_lru_destroy(&l);
			return NULL;
		}
	}
	return l;
}

void df_lru_destroy(struct df_lru **lru)
{
	struct df_lru *l = *lru;
	for (unsigned i = 0; l && i < l->n_shard; i++) {
		struct shard *s = &l->shard[i];
		for (struct entry *e = s->oldest, *next; e; e = next) {
			next = e->younger;
			free(e);
		}
		free(s->bucket);
		(void)pthread_mutex_destroy(&s->lock);
	}
	free(l);
	*lru = NULL;
}

/* ------------------------------------------------------------------ one shard, locked */

static void unlink_use(struct shard *s, struct entry *e)
{
	*(e->older ? &e->older->younger : &s->oldest) = e->younger;
	*(e->younger ? &e->younger->older : &s->youngest) = e->older;
}

static void link_youngest(struct shard *s, struct entry *e)
{
	e->older = s->youngest;
	e->younger = NULL;
	*(s->youngest ? &s->youngest->younger : &s->oldest) = e;
	s->youngest = e;
}

static struct entry *find(const struct shard *s, struct df_cache_key key)
{
	struct entry *e = *bucket_of(s, key);
	while (e && (e->key.low != key.low || e->key.high != key.high))
		e = e->next;
	return e;
}

static void drop(struct shard *s, struct entry *e)
{
	struct entry **at = bucket_of(s, e->key);
	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	unlink_use(s, e);
	s->bytes -= cost(e->n);
	s->n--;
	free(e);
}

/* Chains get longer when there is no memory for more buckets. */
static void grow(struct shard *s)
{
	size_t n = s->n_bucket * 2;
	struct entry **bucket = calloc(n, sizeof(*bucket));
	if (!bucket)
		return;
	free(s->bucket);
	s->bucket = bucket;
	s->n_bucket = n;
	for (struct entry *e = s->oldest; e; e = e->younger) {
		struct entry **at = bucket_of(s, e->key);
		e->next = *at;
		*at = e;
	}
}

static void insert(struct shard *s, struct entry *e)
{
	struct entry *old = find(s, e->key);
	if (old)
		drop(s, old);
	while (s->oldest && s->bytes + cost(e->n) > s->max) {
		drop(s, s->oldest);
		s->evictions++;
	}
	if (s->n >= s->n_bucket)
		grow(s);
	struct entry **at = bucket_of(s, e->key);
	e->next = *at;
	*at = e;
	link_youngest(s, e);
	s->bytes += cost(e->n);
	s->n++;
}

/* ------------------------------------------------------------------ the whole */

enum df_err df_lru_get(struct df_lru *l, struct df_cache_key key, struct df_arena *arena, struct df_str *ret_value)
{
	struct shard *s = shard_of(l, key);
	struct df_str value = {NULL, 0};
	(void)pthread_mutex_lock(&s->lock);
	struct entry *e = find(s, key);
	bool found = e && e->key.check == key.check;
	if (found) {
		unlink_use(s, e);
		link_youngest(s, e);
		value = df_arena_copy(arena, (struct df_str){e->p, e->n});
	}
	(void)pthread_mutex_unlock(&s->lock);
	if (!found)
		return DF_ERR_NOT_FOUND;
	if (!value.p)
		return DF_ERR_NOMEM;
	*ret_value = value;
	return DF_OK;
}

void df_lru_put(struct df_lru *l, struct df_cache_key key, struct df_str value)
{
	struct shard *s = shard_of(l, key);
	if (cost(value.n) > s->max)
		return;
	struct entry *e = malloc(sizeof(*e) + value.n);
	if (!e)
		return;
	e->key = key;
	e->n = value.n;
	if (value.n)
		memcpy(e->p, value.p, value.n);
	(void)pthread_mutex_lock(&s->lock);
	insert(s, e);
	(void)pthread_mutex_unlock(&s->lock);
}

struct df_lru_stats df_lru_stats(struct df_lru *l)
{
	struct df_lru_stats t = {0, 0, 0};
	for (unsigned i = 0; i < l->n_shard; i++) {
		struct shard *s = &l->shard[i];
		(void)pthread_mutex_lock(&s->lock);
		t.bytes += s->bytes;
		t.entries += s->n;
		t.evictions += s->evictions;
		(void)pthread_mutex_unlock(&s->lock);
	}
	return t;
}
