// SPDX-License-Identifier: Apache-2.0
/* fuzz_wordpiece: any vocabulary (before the first NUL) on any text (behind it); tokens are in order and inside the text,
 * cutting at a word's start keeps the tokens, and so do the chunks that are cut. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "worker/stages/cut.h"
#include "worker/text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tokens(struct df_wordpiece_scratch *s, struct df_str text, struct df_tokens *t,
			 struct df_tokens *half)
{
	size_t next, middle = 0;
	t->n = 0;
	DF_ASSERT(df_wordpiece_encode(s, text, 0, SIZE_MAX, t, &next) == DF_OK && next == text.n);
	for (size_t i = 0; i < t->n; i++) {
		const struct df_token *k = &t->token[i];
		DF_ASSERT(k->start < k->end && k->end <= text.n);
		DF_ASSERT(df_utf8_floor(text, k->start) == k->start && df_utf8_floor(text, k->end) == k->end);
		DF_ASSERT(i == 0 || (k[-1].start <= k->start && k[-1].end <= k->end));
		if (i <= t->n / 2 && k->starts_word)
			middle = i;
	}
	if (t->n == 0)
		return;
	struct df_str left = {text.p, t->token[middle].start}, right = {text.p + left.n, text.n - left.n};
	half->n = 0;
	DF_ASSERT(df_wordpiece_encode(s, left, 0, SIZE_MAX, half, &next) == DF_OK && half->n == middle);
	DF_ASSERT(df_wordpiece_encode(s, right, 0, SIZE_MAX, half, &next) == DF_OK && half->n == t->n);
	for (size_t i = 0; i < t->n; i++)
		DF_ASSERT(half->token[i].id == t->token[i].id);
}

static void check_chunks(struct df_wordpiece_scratch *s, struct df_str text, struct df_tokens *t,
			 struct df_tokens *part)
{
	struct df_tokens again = {0};
	struct df_cutter c = {.text = text, .size = 6, .overlap = 2, .scratch = s, .tokens = t, .part = part};
	struct df_piece p;
	while (df_cut_next(&c, &p) == DF_OK) {
		size_t next;
		again.n = 0;
		DF_ASSERT(p.from < p.to && p.to <= text.n);
		DF_ASSERT(df_wordpiece_encode(s, (struct df_str){text.p + p.from, p.to - p.from}, 0, SIZE_MAX, &again,
					      &next) == DF_OK);
		DF_ASSERT(again.n == p.n_token && p.n_token <= 6);
	}
	df_tokens_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
	struct df_str vocab = {(const char *)data, nul ? (size_t)(nul - data) : 0};
	struct df_str text = {(const char *)data + (nul ? vocab.n + 1 : 0), size - (nul ? vocab.n + 1 : 0)};
	static const char common[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##a\nab\n##b\n,\n\xE4\xB8\xAD\n";
	struct df_wordpiece *tok = NULL;
	struct df_wordpiece_scratch *s = NULL;
	struct df_tokens t = {0}, other = {0};
	if (!nul || df_wordpiece_from_bytes(vocab, "fuzz", NULL, &tok, NULL) != DF_OK)
		DF_ASSERT(df_wordpiece_from_bytes(DF_STR(common), "common", NULL, &tok, NULL) == DF_OK);
	DF_ASSERT(df_wordpiece_scratch_create(tok, &s) == DF_OK);
	text.n = df_utf8_valid_prefix(text);
	check_tokens(s, text, &t, &other);
	check_chunks(s, text, &t, &other);
	df_tokens_release(&t);
	df_tokens_release(&other);
	df_wordpiece_scratch_destroy(&s);
	df_wordpiece_close(&tok);
	return 0;
}
