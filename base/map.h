// SPDX-License-Identifier: Apache-2.0
/*
 * map: byte string -> uint64_t, open addressing; keys are copied into the map. No removal.
 */
#ifndef DF_BASE_MAP_H
#define DF_BASE_MAP_H

#include "base/arena.h"

struct df_map_slot {
	struct df_str key; /* p is NULL when the slot is free */
	uint64_t hash;
	uint64_t value;
};

struct df_map {
	struct df_map_slot *slots;
	size_t n_slot; /* power of two, or 0 */
	size_t n;      /* keys */
	struct df_arena keys;
};

void df_map_init(struct df_map *m, size_t max_key_bytes);
void df_map_release(struct df_map *m);

/* The value's place, or NULL. Valid until the next put. */
uint64_t *df_map_get(const struct df_map *m, struct df_str key);
/* The value's place, made with `initial` when the key is new. DF_ERR_NOMEM. */
enum df_err df_map_put(struct df_map *m, struct df_str key, uint64_t initial, uint64_t **ret_value) DF_MUST_CHECK;

#endif
