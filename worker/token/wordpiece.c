// SPDX-License-Identifier: Apache-2.0
/*
 * wordpiece: one pass over the text, word by word.
 *
 * DESIGN: most words are ASCII letters, at most 15 of them. Such a word is found, lower-cased and made a key of 16 bytes by a few
 * vector instructions, and its pieces come from a cache of recent words that is indexed by the key's hash; only a new
 * word walks the trie. All other words are spelt into `struct word` one code point at a time (chars.h says what each
 * becomes), with the place in the text of each character, and then go the same way.
 */
#include "worker/token/wordpiece.h"

#include <stdlib.h>

#include "worker/text/block.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"
#include "worker/token/chars.h"
#include "worker/token/vocab.h"

#define CACHE_SLOTS 8192U
#define CACHE_BITS 13
#define CACHE_KEY 16U
#define CACHE_PIECES 8U
#define WORD_CHARS DF_WORDPIECE_CHARS_MAX

struct cached {
	uint64_t key[2];
	uint32_t id[CACHE_PIECES];
	uint8_t end[CACHE_PIECES]; /* in bytes of the word */
	uint8_t n_key;             /* bytes of the word; 0: a free slot */
	uint8_t n;                 /* pieces */
	uint8_t pad[6];
};

/* A word on its way, normalised. Beyond WORD_CHARS only n_char and end go on. */
struct word {
	unsigned n_char, n_byte;
	uint32_t start, end; /* in the text */
	char byte[4 * WORD_CHARS];
	uint8_t char_of[4 * WORD_CHARS];
	uint32_t from[WORD_CHARS], to[WORD_CHARS]; /* in the text, per character */
};

struct df_wordpiece_scratch {
	const struct df_wordpiece *vocab;
	struct df_chars chars;
	uint32_t ascii[128]; /* the first 128 of chars */
	struct word word;
	struct cached *cache;
};

struct encoder {
	struct df_wordpiece_scratch *s;
	struct df_str text;
	struct df_tokens *out;
	enum df_err err;
};

enum df_err df_wordpiece_scratch_create(const struct df_wordpiece *tok, struct df_wordpiece_scratch **ret_scratch)
{
	struct df_wordpiece_scratch *s = calloc(1, sizeof(*s));
	struct cached *cache = calloc(CACHE_SLOTS, sizeof(*cache));
	if (s)
		df_chars_init(&s->chars, tok->options);
	for (uint32_t i = 0; s && i < 128; i++)
		s->ascii[i] = df_chars_get(&s->chars, i);
	if (!s || !cache || s->chars.table.err != DF_OK) {
		free(cache);
		df_wordpiece_scratch_destroy(&s);
		return DF_ERR_NOMEM;
	}
	s->vocab = tok;
	s->cache = cache;
	*ret_scratch = s;
	return DF_OK;
}

void df_wordpiece_scratch_destroy(struct df_wordpiece_scratch **scratch)
{
	if (!*scratch)
		return;
	df_chars_release(&(*scratch)->chars);
	free((*scratch)->cache);
	free(*scratch);
	*scratch = NULL;
}

void df_tokens_release(struct df_tokens *tokens)
{
	free(tokens->token);
	*tokens = (struct df_tokens){0};
}

/* Room for the tokens of one more word. */
static bool grow(struct df_tokens *t)
{
	size_t cap = t->cap * 2 + 512;
	struct df_token *token = realloc(t->token, cap * sizeof(*token));
	if (!token)
		return false;
	t->token = token;
	t->cap = cap;
	return true;
}

static inline bool has_room(struct encoder *e)
{
	if (e->out->cap - e->out->n > WORD_CHARS)
		return true;
	if (!grow(e->out))
		e->err = DF_ERR_NOMEM;
	return e->err == DF_OK;
}

/* --- one word --- */

static uint64_t hash_key(const uint64_t key[2])
{
	uint64_t h = (key[0] ^ (key[1] << 29 | key[1] >> 35)) * UINT64_C(0x9E3779B97F4A7C15) + key[1];
	return (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93) >> (64 - CACHE_BITS);
}

/* The word's pieces; NULL when they are more than a slot holds. `key` holds the word, 1 to 16 bytes. */
static inline const struct cached *look_up(struct df_wordpiece_scratch *s, const uint64_t key[2], unsigned n)
{
	struct cached *c = &s->cache[hash_key(key)];
	if (c->key[0] == key[0] && c->key[1] == key[1] && c->n_key == n)
		return c;
	uint32_t id[CACHE_KEY];
	uint16_t end[CACHE_KEY];
	size_t n_piece = df_vocab_split(s->vocab, (struct df_str){(const char *)key, n}, id, end);
	if (n_piece > CACHE_PIECES)
		return NULL;
	*c = (struct cached){.key = {key[0], key[1]}, .n_key = (uint8_t)n, .n = (uint8_t)n_piece};
	for (size_t i = 0; i < n_piece; i++) {
		c->id[i] = id[i];
		c->end[i] = (uint8_t)end[i];
	}
	if (n_piece == 0) {
		c->n = 1;
		c->id[0] = df_wordpiece_special(s->vocab).unk;
		c->end[0] = (uint8_t)n;
	}
	return c;
}

/* A word may share its first code point with the token before it; then the text cannot be cut there. */
static void put(struct encoder *e, uint32_t id, uint32_t start, uint32_t end, bool first)
{
	struct df_tokens *t = e->out;
	bool cut = first && !(t->n > 0 && t->token[t->n - 1].end > start);
	t->token[t->n++] = (struct df_token){id, start, end, cut};
}

static void flush_word(struct encoder *e)
{
	struct df_wordpiece_scratch *s = e->s;
	struct word *w = &s->word;
	uint32_t id[WORD_CHARS];
	uint16_t end[WORD_CHARS];
	size_t n = 0;
	if (w->n_char == 0 || !has_room(e))
		return;
	if (w->n_char <= WORD_CHARS)
		n = df_vocab_split(s->vocab, (struct df_str){w->byte, w->n_byte}, id, end);
	if (n == 0)
		put(e, df_wordpiece_special(s->vocab).unk, w->start, w->end, true);
	for (size_t i = 0, from = 0; i < n; from = end[i++])
		put(e, id[i], i == 0 ? w->start : w->from[w->char_of[from]], w->to[w->char_of[end[i] - 1]], i == 0);
	w->n_char = w->n_byte = 0;
}

/* One normalised character that came from text [from, to). */
static void spell(struct encoder *e, uint32_t cp, size_t from, size_t to)
{
	struct word *w = &e->s->word;
	if (w->n_char == 0)
		w->start = (uint32_t)from;
	w->end = (uint32_t)to;
	if (w->n_char < WORD_CHARS) {
		size_t n = df_utf8_put(w->byte + w->n_byte, cp);
		memset(w->char_of + w->n_byte, (int)w->n_char, n);
		w->from[w->n_char] = (uint32_t)from;
		w->to[w->n_char] = (uint32_t)to;
		w->n_byte += (unsigned)n;
	}
	w->n_char += w->n_char <= WORD_CHARS;
}

static void take(struct encoder *e, uint32_t v, size_t from, size_t to)
{
	if (df_char_class(v) == DF_CHAR_LETTER) {
		spell(e, df_char_value(v), from, to);
		return;
	}
	flush_word(e);
	if (df_char_class(v) == DF_CHAR_ISOLATED) {
		spell(e, df_char_value(v), from, to);
		flush_word(e);
	}
}

/* --- text outside the fast path --- */

/* What was dropped belongs to the character before it; at a word's beginning, to the word. */
static void drop(struct encoder *e, size_t from, size_t to, size_t *begin)
{
	struct word *w = &e->s->word;
	struct df_tokens *t = e->out;
	if (w->n_char > 0) {
		w->end = (uint32_t)to;
		if (w->n_char <= WORD_CHARS)
			w->to[w->n_char - 1] = (uint32_t)to;
	} else if (t->n > 0 && t->token[t->n - 1].end == from) {
		t->token[t->n - 1].end = (uint32_t)to;
	} else if (*begin == SIZE_MAX) {
		*begin = from;
	}
}

/* Spells from `at` on to the end of a word; answers where to go on. */
static size_t spell_word(struct encoder *e, size_t at)
{
	size_t begin = SIZE_MAX; /* of characters dropped before the word */
	struct word *w = &e->s->word;
	while (at < e->text.n && e->err == DF_OK) {
		size_t from = at;
		uint32_t v = df_chars_get(&e->s->chars, df_utf8_decode(e->text.p, e->text.n, &at));
		enum df_char_class class = df_char_class(v);
		if (class == DF_CHAR_SPACE)
			break;
		if (class == DF_CHAR_ISOLATED && (w->n_char > 0 || (unsigned char)e->text.p[from] < 0x80)) {
			at = from; /* its turn comes next; a "[" may begin a special token */
			break;
		}
		if (class == DF_CHAR_DROP) {
			drop(e, from, at, &begin);
			continue;
		}
		size_t start = begin != SIZE_MAX ? begin : from;
		begin = SIZE_MAX;
		if (class == DF_CHAR_MULTI) {
			size_t n;
			const uint32_t *part = df_chars_sequence(&e->s->chars, v, &n);
			for (size_t i = 0; i < n; i++)
				take(e, part[i], start, at);
		} else {
			take(e, v, start, at);
			if (class == DF_CHAR_ISOLATED)
				break;
		}
	}
	flush_word(e);
	return at;
}

/* --- the main loop --- */

/* A special token's text at `at`: its length, else 0. */
static size_t special_at(const struct df_wordpiece *v, struct df_str text, size_t at, uint32_t *ret_id)
{
	for (size_t i = 0; i < DF_VOCAB_SPECIALS; i++) {
		const struct df_vocab_special *s = &v->special[i];
		if (s->id != UINT32_MAX && text.n - at >= s->text.n && memcmp(text.p + at, s->text.p, s->text.n) == 0) {
			*ret_id = s->id;
			return s->text.n;
		}
	}
	return 0;
}

static size_t encode_isolated(struct encoder *e, size_t at)
{
	unsigned char c = (unsigned char)e->text.p[at];
	uint32_t id = e->s->vocab->ascii_id[c];
	size_t n = c == '[' ? special_at(e->s->vocab, e->text, at, &id) : 0;
	size_t end = at + (n ? n : 1);
	if (has_room(e))
		put(e, id, (uint32_t)at, (uint32_t)end, true);
	return end;
}

/* A word that begins with an ASCII letter or digit. */
static inline size_t encode_word(struct encoder *e, size_t at)
{
	uint64_t key[2];
	unsigned n = df_word16(e->text.p + at, e->text.n - at, e->s->vocab->options.lower_case, key);
	size_t end = at + n;
	if (n == CACHE_KEY)
		return spell_word(e, at);
	if (end < e->text.n) {
		unsigned char c = (unsigned char)e->text.p[end];
		if (c >= 0x80 || df_char_class(e->s->ascii[c]) == DF_CHAR_DROP)
			return spell_word(e, at);
	}
	const struct cached *c = look_up(e->s, key, n);
	if (!c || !has_room(e))
		return c ? at : spell_word(e, at);
	struct df_token *t = e->out->token + e->out->n;
	uint32_t start = (uint32_t)at;
	t[0] = (struct df_token){c->id[0], start, start + c->end[0], 1};
	for (unsigned i = 1; i < c->n; i++)
		t[i] = (struct df_token){c->id[i], start + c->end[i - 1], start + c->end[i], 0};
	e->out->n += c->n;
	return end;
}

enum df_err df_wordpiece_encode(struct df_wordpiece_scratch *scratch, struct df_str text, size_t from, size_t stop,
				struct df_tokens *tokens, size_t *ret_next)
{
	struct encoder e = {.s = scratch, .text = text, .out = tokens};
	size_t at = from;
	if (text.n >= UINT32_MAX)
		return DF_ERR_LIMIT;
	scratch->word.n_char = scratch->word.n_byte = 0;
	while (at < text.n && tokens->n < stop && e.err == DF_OK) {
		unsigned char c = (unsigned char)text.p[at];
		if (c == ' ') {
			at++;
			continue;
		}
		enum df_char_class class = c < 0x80 ? df_char_class(scratch->ascii[c]) : DF_CHAR_MULTI;
		if (class == DF_CHAR_LETTER)
			at = encode_word(&e, at);
		else if (class == DF_CHAR_ISOLATED)
			at = encode_isolated(&e, at);
		else if (class == DF_CHAR_SPACE)
			at++;
		else
			at = spell_word(&e, at);
	}
	if (scratch->chars.table.err != DF_OK) { /* words were read by zeros, and may be in the cache so */
		scratch->chars.table.err = DF_OK;
		memset(scratch->cache, 0, CACHE_SLOTS * sizeof(*scratch->cache));
		return DF_ERR_NOMEM;
	}
	if (e.err != DF_OK)
		return DF_ERR_NOMEM;
	*ret_next = at;
	return DF_OK;
}

enum df_err df_wordpiece_ids(struct df_wordpiece_scratch *scratch, struct df_str text, size_t max_ids,
			     struct df_tokens *tokens, uint32_t *ids, size_t *ret_n, bool *ret_truncated)
{
	struct df_wordpiece_ids special = df_wordpiece_special(scratch->vocab);
	size_t room = max_ids - DF_WORDPIECE_SPECIALS, next, n = 0;
	tokens->n = 0;
	DF_TRY(df_wordpiece_encode(scratch, text, 0, room + 1, tokens, &next));
	size_t keep = tokens->n < room ? tokens->n : room;
	ids[n++] = special.cls;
	for (size_t i = 0; i < keep; i++)
		ids[n++] = tokens->token[i].id;
	ids[n++] = special.sep;
	*ret_n = n;
	*ret_truncated = tokens->n > room;
	return DF_OK;
}
