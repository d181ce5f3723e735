// SPDX-License-Identifier: Apache-2.0
/*
 * wordpiece: text -> token ids of the BERT family, with the place of each token in the text.
 *
 * The same ids as Hugging Face `tokenizers` with BertNormalizer, BertPreTokenizer and WordPiece: control characters
 * are dropped, CJK ideographs stand alone, letters are lower-cased and lose their accents (NFD without Mn), words are
 * cut at white space and around each punctuation character, and each word is cut into the longest known pieces from
 * the left, or is one [UNK] when that fails or it has more than 100 characters. "[CLS]", "[SEP]", "[PAD]", "[UNK]" and
 * "[MASK]" in a text are those tokens.
 *
 * The vocabulary is immutable and may be shared by threads; a scratch belongs to one thread and holds bounded caches.
 * Source: Devlin et al. 2018, "BERT", and Wu et al. 2016, "Google's Neural Machine Translation System" (WordPiece).
 */
#ifndef DF_WORKER_TOKEN_WORDPIECE_H
#define DF_WORKER_TOKEN_WORDPIECE_H

#include "base/err.h"
#include "base/str.h"

#define DF_WORDPIECE_CHARS_MAX 100U        /* characters of a word; a longer one is [UNK] */
#define DF_WORDPIECE_BYTES_MAX (16U << 20) /* of a vocab.txt */
#define DF_WORDPIECE_SPECIALS 2U           /* [CLS] and [SEP] around each sequence */

struct df_wordpiece;         /* a vocabulary */
struct df_wordpiece_scratch; /* caches of one thread */

struct df_wordpiece_options {
	bool lower_case;    /* the uncased models */
	bool strip_accents; /* as lower_case unless the model says otherwise */
	bool split_cjk;
};

struct df_wordpiece_ids {
	uint32_t cls, sep, unk, pad, mask; /* UINT32_MAX when the vocabulary has none; cls, sep and unk always exist */
};

/* One token, in text order. Neighbours overlap only where one code point of the text became several characters. */
struct df_token {
	uint32_t id;
	uint32_t start,
		end; /* bytes of the text as given, at code points; accents that were stripped belong to their letter */
	uint32_t
		starts_word; /* 1: the text may be cut at `start`, and both sides keep their tokens; 0: inside a word */
};

/* A growing list; zeroed: empty. Memory stays between texts. */
struct df_tokens {
	struct df_token *token; /* owned */
	size_t n, cap;
};
void df_tokens_release(struct df_tokens *tokens);

/* `path` is a vocab.txt: one piece a line, ids from 0. options NULL: uncased. DF_ERR_NOT_FOUND, DF_ERR_IO, DF_ERR_UTF8,
 * DF_ERR_CORRUPT when [CLS], [SEP] or [UNK] is missing, DF_ERR_LIMIT, DF_ERR_NOMEM. */
enum df_err df_wordpiece_open(const char *path, const struct df_wordpiece_options *options,
			      struct df_wordpiece **ret_tok, struct df_fail *fail) DF_MUST_CHECK;
/* dir/vocab.txt with the options that dir/tokenizer_config.json names, if there is one. */
enum df_err df_wordpiece_open_dir(const char *dir, struct df_wordpiece **ret_tok, struct df_fail *fail) DF_MUST_CHECK;
/* The same from memory; the bytes are copied. `name` is for messages. */
enum df_err df_wordpiece_from_bytes(struct df_str vocab, const char *name, const struct df_wordpiece_options *options,
				    struct df_wordpiece **ret_tok, struct df_fail *fail) DF_MUST_CHECK;
void df_wordpiece_close(struct df_wordpiece **tok);

struct df_wordpiece_ids df_wordpiece_special(const struct df_wordpiece *tok);
size_t df_wordpiece_size(const struct df_wordpiece *tok); /* ids are below this */

/* About 0.6 MB; grows by at most 5 MB with the variety of characters seen. Outlived by `tok`. */
enum df_err df_wordpiece_scratch_create(const struct df_wordpiece *tok,
					struct df_wordpiece_scratch **ret_scratch) DF_MUST_CHECK;
void df_wordpiece_scratch_destroy(struct df_wordpiece_scratch **scratch);

/*
 * Append the tokens of `text` (valid UTF-8, < 4 GiB), without [CLS] and [SEP], starting at byte `from`: 0, or what an
 * earlier call answered. Stops behind the word that makes tokens->n >= stop (which may thus be passed by up to 99), or at
 * the end. *ret_next: where to go on; text.n at the end. DF_ERR_NOMEM leaves whole words in `tokens`.
 */
enum df_err df_wordpiece_encode(struct df_wordpiece_scratch *scratch, struct df_str text, size_t from, size_t stop,
				struct df_tokens *tokens, size_t *ret_next) DF_MUST_CHECK;

/*
 * A model's input: [CLS], the tokens, [SEP], at most `max_ids` (>= 2) in all -> ids[max_ids]; *ret_truncated: there
 * were more. `tokens` is working memory.
 */
enum df_err df_wordpiece_ids(struct df_wordpiece_scratch *scratch, struct df_str text, size_t max_ids,
			     struct df_tokens *tokens, uint32_t *ids, size_t *ret_n, bool *ret_truncated) DF_MUST_CHECK;

#endif
