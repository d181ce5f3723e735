// SPDX-License-Identifier: Apache-2.0
/*
 * trie: byte strings -> numbers, for the longest match; a double array (Aoe 1989, "An Efficient Digital Search
 * Algorithm by Using a Double-Array Structure"). Immutable once built.
 */
#ifndef DF_WORKER_TOKEN_TRIE_H
#define DF_WORKER_TOKEN_TRIE_H

#include "base/err.h"
#include "base/str.h"

struct df_trie_node {
	uint32_t base;  /* children: base + byte */
	uint32_t check; /* the parent, or UINT32_MAX when the place is free */
	uint32_t value; /* of the string that ends here, or UINT32_MAX */
};

struct df_trie {
	struct df_trie_node *node; /* n + 256 of them, so that base + byte is always inside */
	size_t n;
};

struct df_trie_entry {
	struct df_str key; /* not empty */
	uint32_t value;
};

/* entry[n] is sorted in place; of equal keys the largest value counts. DF_ERR_NOMEM. */
enum df_err df_trie_build(struct df_trie_entry *entry, size_t n, struct df_trie *ret_trie) DF_MUST_CHECK;
void df_trie_release(struct df_trie *t);

/* Length of the longest key that `p[n]` begins with, and its value; 0 when there is none. */
static inline size_t df_trie_longest(const struct df_trie *t, const char *p, size_t n, uint32_t *ret_value)
{
	const struct df_trie_node *node = t->node;
	uint32_t at = 0;
	size_t longest = 0;
	for (size_t i = 0; i < n; i++) {
		uint32_t next = node[at].base + (unsigned char)p[i];
		if (node[next].check != at)
			break;
		at = next;
		if (node[at].value != UINT32_MAX) {
			*ret_value = node[at].value;
			longest = i + 1;
		}
	}
	return longest;
}

#endif
