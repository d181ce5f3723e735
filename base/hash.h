// SPDX-License-Identifier: Apache-2.0
/*
 * hash: XXH3, the one checksum and hash of docflume (xxHash 0.8, https://xxhash.com; not cryptographic).
 * The only file that includes xxhash.h is hash.c.
 */
#ifndef DF_BASE_HASH_H
#define DF_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3_64bits of n bytes; equals `xxhsum -H3`. */
uint64_t df_hash64(const void *p, size_t n);
uint64_t df_hash64_seed(const void *p, size_t n, uint64_t seed);

/* XXH3_128bits of n bytes; equals `xxhsum -H2`. */
struct df_hash128 {
	uint64_t low, high;
};
struct df_hash128 df_hash128(const void *p, size_t n);

/* A running XXH3_64bits over many pieces. create may return NULL (out of memory). */
struct df_hasher;
struct df_hasher *df_hasher_create(void);
void df_hasher_destroy(struct df_hasher **h);
void df_hasher_reset(struct df_hasher *h);
void df_hasher_add(struct df_hasher *h, const void *p, size_t n);
uint64_t df_hasher_value(const struct df_hasher *h);

#endif
