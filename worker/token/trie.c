// SPDX-License-Identifier: Apache-2.0
/*
 * trie: built level by level from the sorted keys.
 *
 * DESIGN: the keys of one node are a range of the sorted list that agrees in its first `depth` bytes; a queue holds the
 * ranges, so that nothing recurses. Each node's children go to the first base where all their places are free; the
 * search begins at the first free place, and moves on once a region proved to be nearly full.
 */
#include "worker/token/trie.h"

#include <stdlib.h>

#define FREE UINT32_MAX

struct range {
	size_t from, to;
	uint32_t node;
	uint32_t depth;
};

struct builder {
	const struct df_trie_entry *entry;
	struct df_trie trie;
	size_t cap;
	size_t first_free;
	struct range *queue;
	size_t head, n_queue, cap_queue;
};

static int compare(const void *a, const void *b)
{
	const struct df_trie_entry *x = a, *y = b;
	size_t n = x->key.n < y->key.n ? x->key.n : y->key.n;
	int c = memcmp(x->key.p, y->key.p, n);
	if (c != 0)
		return c;
	if (x->key.n != y->key.n)
		return x->key.n < y->key.n ? -1 : 1;
	return x->value < y->value ? -1 : x->value > y->value;
}

/* Places up to `n` + 256 exist. */
static bool reach(struct builder *b, size_t n)
{
	if (n + 256 > b->cap) {
		size_t cap = (n + 256) * 2;
		struct df_trie_node *node = realloc(b->trie.node, cap * sizeof(*node));
		if (!node)
			return false;
		for (size_t i = b->cap; i < cap; i++)
			node[i] = (struct df_trie_node){0, FREE, UINT32_MAX};
		b->trie.node = node;
		b->cap = cap;
	}
	if (n > b->trie.n)
		b->trie.n = n;
	return true;
}

static bool push(struct builder *b, struct range r)
{
	if (b->n_queue == b->cap_queue) {
		size_t cap = b->cap_queue ? b->cap_queue * 2 : 1024;
		struct range *queue = realloc(b->queue, cap * sizeof(*queue));
		if (!queue)
			return false;
		b->queue = queue;
		b->cap_queue = cap;
	}
	b->queue[b->n_queue++] = r;
	return true;
}

/* A base where the bytes label[n] (ascending) are all free; 0 when memory is out. */
static size_t find_base(struct builder *b, const unsigned char *label, size_t n)
{
	size_t tried = 0;
	while (b->first_free < b->cap && b->trie.node[b->first_free].check != FREE)
		b->first_free++;
	size_t place = b->first_free > label[0] + 1U ? b->first_free : label[0] + 1U;
	for (;; place++, tried++) {
		size_t base = place - label[0], k = 0;
		if (!reach(b, base + 256))
			return 0;
		while (k < n && b->trie.node[base + label[k]].check == FREE)
			k++;
		if (k == n) {
			if (tried > 64) /* nearly full up to here */
				b->first_free += tried / 2;
			return base;
		}
	}
}

static bool add_children(struct builder *b, struct range r)
{
	unsigned char label[256] = {0};
	size_t n = 0, i = r.from;
	while (i < r.to && b->entry[i].key.n == r.depth) /* equal keys: the last has the largest value */
		b->trie.node[r.node].value = b->entry[i++].value;
	if (i == r.to)
		return true;
	size_t first = i;
	for (; i < r.to; i++) {
		unsigned char c = (unsigned char)b->entry[i].key.p[r.depth];
		if (n == 0 || label[n - 1] != c)
			label[n++] = c;
	}
	size_t base = find_base(b, label, n);
	if (base == 0 || base + 256 >= UINT32_MAX)
		return false;
	b->trie.node[r.node].base = (uint32_t)base;
	for (size_t k = 0, from = first; k < n; k++) {
		size_t to = from;
		while (to < r.to && (unsigned char)b->entry[to].key.p[r.depth] == label[k])
			to++;
		b->trie.node[base + label[k]].check = r.node;
		if (!push(b, (struct range){from, to, (uint32_t)(base + label[k]), r.depth + 1}))
			return false;
		from = to;
	}
	return true;
}

enum df_err df_trie_build(struct df_trie_entry *entry, size_t n, struct df_trie *ret_trie)
{
	struct builder b = {.entry = entry, .first_free = 1};
	if (n)
		qsort(entry, n, sizeof(*entry), compare);
	bool ok = reach(&b, 1) && push(&b, (struct range){0, n, 0, 0});
	if (ok)
		b.trie.node[0].check = 0; /* taken; byte 0 never leads here, since bases are at least 1 */
	while (ok && b.head < b.n_queue)
		ok = add_children(&b, b.queue[b.head++]);
	free(b.queue);
	if (!ok) {
		df_trie_release(&b.trie);
		return DF_ERR_NOMEM;
	}
	*ret_trie = b.trie;
	return DF_OK;
}

void df_trie_release(struct df_trie *t)
{
	free(t->node);
	*t = (struct df_trie){0};
}
