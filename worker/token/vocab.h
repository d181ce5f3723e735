// SPDX-License-Identifier: Apache-2.0
/*
 * vocab: the insides of a df_wordpiece, shared by the files of this folder only.
 */
#ifndef DF_WORKER_TOKEN_VOCAB_H
#define DF_WORKER_TOKEN_VOCAB_H

#include "worker/token/trie.h"
#include "worker/token/wordpiece.h"

#define DF_VOCAB_SPECIALS 5U

struct df_vocab_special {
	struct df_str text; /* "[CLS]" */
	uint32_t id;        /* UINT32_MAX: not in the vocabulary */
};

struct df_wordpiece {
	char *bytes;                /* the file, while the tries are built */
	size_t n_id;                /* lines */
	struct df_trie first, rest; /* pieces that begin a word; "##" pieces, without the "##" */
	struct df_wordpiece_options options;
	struct df_vocab_special special[DF_VOCAB_SPECIALS]; /* PAD UNK CLS SEP MASK */
	uint32_t ascii_id[128]; /* single ASCII characters as words of their own; unk when unknown */
};

/*
 * The pieces of one word from the left, greedily: id[], and end[] in bytes of the word. 0 when the word is [UNK].
 * `word` has at most DF_WORDPIECE_CHARS_MAX characters; id and end have as many places.
 */
static inline size_t df_vocab_split(const struct df_wordpiece *v, struct df_str word, uint32_t *id, uint16_t *end)
{
	const struct df_trie *t = &v->first;
	size_t n = 0, at = 0;
	while (at < word.n) {
		size_t len = df_trie_longest(t, word.p + at, word.n - at, &id[n]);
		if (len == 0)
			return 0;
		at += len;
		end[n++] = (uint16_t)at;
		t = &v->rest;
	}
	return n;
}

#endif
