// SPDX-License-Identifier: Apache-2.0
/* hash: the home of xxHash. */
#include "base/hash.h"

#include <stdlib.h>
#include <xxhash.h>

struct df_hasher {
	XXH3_state_t *state;
};

uint64_t df_hash64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

uint64_t df_hash64_seed(const void *p, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(p, n, seed);
}

struct df_hash128 df_hash128(const void *p, size_t n)
{
	XXH128_hash_t h = XXH3_128bits(p, n);
	return (struct df_hash128){h.low64, h.high64};
}

struct df_hasher *df_hasher_create(void)
{
	struct df_hasher *h = malloc(sizeof(*h));
	if (!h)
		return NULL;
	h->state = XXH3_createState();
	if (!h->state) {
		free(h);
		return NULL;
	}
	df_hasher_reset(h);
	return h;
}

void df_hasher_destroy(struct df_hasher **h)
{
	if (!*h)
		return;
	(void)XXH3_freeState((*h)->state);
	free(*h);
	*h = NULL;
}

void df_hasher_reset(struct df_hasher *h)
{
	(void)XXH3_64bits_reset(h->state);
}

void df_hasher_add(struct df_hasher *h, const void *p, size_t n)
{
	if (n)
		(void)XXH3_64bits_update(h->state, p, n);
}

uint64_t df_hasher_value(const struct df_hasher *h)
{
	return XXH3_64bits_digest(h->state);
}
