// SPDX-License-Identifier: Apache-2.0
/* map: linear probing at a load of at most 1/2. */
#include "base/map.h"

#include <stdlib.h>

#include "base/hash.h"

void df_map_init(struct df_map *m, size_t max_key_bytes)
{
	*m = (struct df_map){0};
	df_arena_init(&m->keys, max_key_bytes, 0);
}

void df_map_release(struct df_map *m)
{
	free(m->slots);
	df_arena_release(&m->keys);
	m->slots = NULL;
	m->n_slot = m->n = 0;
}

static struct df_map_slot *find(const struct df_map *m, struct df_str key, uint64_t hash)
{
	size_t mask = m->n_slot - 1;
	for (size_t i = hash & mask;; i = (i + 1) & mask) {
		struct df_map_slot *s = &m->slots[i];
		if (!s->key.p || (s->hash == hash && df_str_eq(s->key, key)))
			return s;
	}
}

uint64_t *df_map_get(const struct df_map *m, struct df_str key)
{
	if (m->n == 0)
		return NULL;
	struct df_map_slot *s = find(m, key, df_hash64(key.p, key.n));
	return s->key.p ? &s->value : NULL;
}

static enum df_err grow(struct df_map *m)
{
	size_t n_slot = m->n_slot ? m->n_slot * 2 : 16;
	struct df_map_slot *slots = calloc(n_slot, sizeof(*slots));
	if (!slots)
		return DF_ERR_NOMEM;
	struct df_map old = *m;
	m->slots = slots;
	m->n_slot = n_slot;
	for (size_t i = 0; i < old.n_slot; i++)
		if (old.slots[i].key.p)
			*find(m, old.slots[i].key, old.slots[i].hash) = old.slots[i];
	free(old.slots);
	return DF_OK;
}

enum df_err df_map_put(struct df_map *m, struct df_str key, uint64_t initial, uint64_t **ret_value)
{
	if (m->n * 2 >= m->n_slot)
		DF_TRY(grow(m));
	uint64_t hash = df_hash64(key.p, key.n);
	struct df_map_slot *s = find(m, key, hash);
	if (!s->key.p) {
		struct df_str copy = df_arena_copy(&m->keys, key);
		if (!copy.p)
			return DF_ERR_NOMEM;
		*s = (struct df_map_slot){copy, hash, initial};
		m->n++;
	}
	*ret_value = &s->value;
	return DF_OK;
}
