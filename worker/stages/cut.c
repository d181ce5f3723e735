// SPDX-License-Identifier: Apache-2.0
/*
 * cut: a window of tokens slides over the text.
 *
 * DESIGN: tokens never depend on what lies across a word's start, so a chunk of whole words has exactly the tokens that
 * its words have in the text. A word of more tokens than a chunk holds is cut at one of its tokens' borders: the tokens
 * before it stay what they are (the longest match looks ahead only for a longer piece), but what follows becomes a word's
 * beginning and is tokenised again. Such a cut is checked by tokenising the chunk, and moved if it must be.
 */
#include "worker/stages/cut.h"

#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

/* Have `want` tokens in the window, or all there are. */
static enum df_err refill(struct df_cutter *c, size_t want)
{
	struct df_tokens *t = c->tokens;
	if (t->n - c->head >= want || c->next >= c->text.n)
		return DF_OK;
	size_t keep = t->n - c->head;
	if (c->head > 0 && keep > 0)
		memmove(t->token, t->token + c->head, keep * sizeof(*t->token));
	t->n = keep;
	c->head = 0;
	return df_wordpiece_encode(c->scratch, c->text, c->next, 2 * want, t, &c->next);
}

/* Behind the word that begins with token `at` of the window. */
static size_t word_end(const struct df_tokens *t, size_t at)
{
	for (at++; at < t->n && !t->token[at].starts_word;)
		at++;
	return at;
}

static enum df_err count(struct df_cutter *c, size_t from, size_t to, size_t *ret_n)
{
	size_t next;
	c->part->n = 0;
	DF_TRY(df_wordpiece_encode(c->scratch, (struct df_str){c->text.p + from, to - from}, 0, SIZE_MAX, c->part,
				   &next));
	*ret_n = c->part->n;
	return DF_OK;
}

/* As many code points of text[from, to) as make at most c->size tokens; at least one. */
static enum df_err cut_by_code_points(struct df_cutter *c, size_t from, size_t to, struct df_piece *ret_piece)
{
	struct df_piece piece = {from, from, 0};
	for (size_t at = from; at < to;) {
		size_t n;
		at = df_utf8_advance(c->text, at, 1);
		DF_TRY(count(c, from, at, &n));
		if (n > c->size && piece.to > from)
			break;
		piece = (struct df_piece){from, at, n};
	}
	*ret_piece = piece;
	return DF_OK;
}

/* The first part of the long word text[from, to), whose tokens are in c->part. */
static enum df_err cut_word(struct df_cutter *c, size_t from, size_t to, struct df_piece *ret_piece)
{
	const struct df_token *t = c->part->token;
	size_t m = c->size, n = 0;
	while (m > 0 && t[m].start < t[m - 1].end) /* not inside a code point */
		m--;
	if (m == 0)
		return cut_by_code_points(c, from, to, ret_piece);
	size_t end = from + t[m - 1].end;
	DF_TRY(count(c, from, end, &n));
	if (n == 0 || n > c->size)
		return cut_by_code_points(c, from, to, ret_piece);
	*ret_piece = (struct df_piece){from, end, n};
	return DF_OK;
}

/*
 * The long word at the head of the window, of which text[from, to) is left: the next part of it as a chunk. Its last part
 * takes the place of the word's tokens, as the beginning of the next chunk (then ret_piece->to is ret_piece->from).
 */
static enum df_err long_word(struct df_cutter *c, size_t from, size_t to, struct df_piece *ret_piece)
{
	struct df_tokens *t = c->tokens;
	size_t n, last = word_end(t, c->head);
	DF_TRY(count(c, from, to, &n));
	if (n > c->size) {
		DF_TRY(cut_word(c, from, to, ret_piece));
		c->forced_to = ret_piece->to < to ? to : 0;
		if (c->forced_to == 0)
			c->head = last;
		return DF_OK;
	}
	for (size_t i = 0; i < n; i++) { /* n <= size < the word's tokens: there is room */
		struct df_token part = c->part->token[i];
		part.start += (uint32_t)from;
		part.end += (uint32_t)from;
		t->token[last - n + i] = part;
	}
	c->head = last - n;
	c->forced_to = 0;
	*ret_piece = (struct df_piece){from, from, 0};
	return DF_OK;
}

/* Where in the window the chunk behind [head, head + n) begins: at a word's start, up to `overlap` tokens back, if the
 * word after the chunk still fits. */
static size_t next_head(const struct df_cutter *c, size_t n)
{
	const struct df_tokens *t = c->tokens;
	size_t end = c->head + n, best = end, word = word_end(t, end) - end;
	for (size_t k = end - 1; k > c->head && end - k <= c->overlap && end - k + word <= c->size; k--)
		if (t->token[k].starts_word)
			best = k;
	return best;
}

/* Whole words from the head of the window, or nothing when the first one is too long (n = 0). */
static size_t whole_words(const struct df_cutter *c)
{
	const struct df_tokens *t = c->tokens;
	size_t have = t->n - c->head, n = c->size;
	if (have <= c->size)
		return have;
	while (n > 0 && !t->token[c->head + n].starts_word)
		n--;
	return n;
}

static enum df_err next_by_tokens(struct df_cutter *c, struct df_piece *ret_piece)
{
	struct df_tokens *t = c->tokens;
	for (;;) {
		if (c->forced_to > 0) {
			DF_TRY(long_word(c, c->last_to, c->forced_to, ret_piece));
			if (ret_piece->to > ret_piece->from)
				return DF_OK;
		}
		DF_TRY(refill(c, c->size + DF_WORDPIECE_CHARS_MAX + 1));
		if (c->head == t->n)
			return DF_ERR_END;
		size_t n = whole_words(c);
		if (n == 0) {
			c->last_to = t->token[c->head].start;
			c->forced_to = t->token[word_end(t, c->head) - 1].end;
			continue;
		}
		*ret_piece = (struct df_piece){t->token[c->head].start, t->token[c->head + n - 1].end, n};
		c->head = c->head + n == t->n ? t->n : next_head(c, n);
		return DF_OK;
	}
}

/* --- by code points --- */

static bool space_at(const struct df_cutter *c, size_t at)
{
	return df_uc_is_space(df_utf8_decode(c->text.p, c->text.n, &at));
}

static bool space_before(const struct df_cutter *c, size_t at)
{
	return df_uc_is_space(df_utf8_before(c->text, at, &at));
}

static size_t skip_spaces(const struct df_cutter *c, size_t at)
{
	while (at < c->text.n && space_at(c, at))
		at = df_utf8_advance(c->text, at, 1);
	return at;
}

static size_t trim_spaces(const struct df_cutter *c, size_t from, size_t to)
{
	while (to > from && space_before(c, to))
		(void)df_utf8_before(c->text, to, &to);
	return to;
}

/* Behind the chunk that begins at `from`, which is no white space. */
static size_t chunk_end(const struct df_cutter *c, size_t from)
{
	size_t to = df_utf8_advance(c->text, from, c->size), at = to;
	if (to < c->text.n && !space_at(c, to))
		while (at > from && !space_before(c, at))
			(void)df_utf8_before(c->text, at, &at);
	return trim_spaces(c, from, at > from ? at : to); /* a word longer than a chunk is cut anywhere */
}

/* A word's start up to `overlap` code points before `to`; inside a word that was cut, any code point; else `to`. */
static size_t overlap_from(const struct df_cutter *c, size_t from, size_t to)
{
	size_t at = to, best = to;
	bool cut = to < c->text.n && !space_at(c, to);
	for (size_t n = 0; n < c->overlap && at > from; n++) {
		(void)df_utf8_before(c->text, at, &at);
		cut = cut && !space_at(c, at);
		if (at > from && (cut || (!space_at(c, at) && space_before(c, at))))
			best = at;
	}
	return best;
}

static enum df_err next_by_code_points(struct df_cutter *c, struct df_piece *ret_piece)
{
	size_t from = skip_spaces(c, c->next);
	if (from >= c->text.n)
		return DF_ERR_END;
	size_t to = chunk_end(c, from);
	if (to <= c->last_to) { /* only what overlaps would fit: go on without it */
		from = skip_spaces(c, c->last_to);
		if (from >= c->text.n)
			return DF_ERR_END;
		to = chunk_end(c, from);
	}
	*ret_piece = (struct df_piece){from, to, 0};
	c->last_to = to;
	c->next = skip_spaces(c, to) >= c->text.n ? c->text.n : overlap_from(c, from, to);
	return DF_OK;
}

enum df_err df_cut_next(struct df_cutter *c, struct df_piece *ret_piece)
{
	if (c->scratch && !c->started)
		c->tokens->n = 0;
	c->started = true;
	if (!c->scratch)
		return next_by_code_points(c, ret_piece);
	DF_TRY(next_by_tokens(c, ret_piece));
	c->last_to = ret_piece->to;
	return DF_OK;
}
