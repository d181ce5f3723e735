// SPDX-License-Identifier: Apache-2.0
/* lower: strip and lower case. ASCII goes by 64 bytes at a time; ICU is asked for single code points only. */
#include "worker/text/edit.h"

#include "worker/text/block.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

struct df_str df_text_strip(struct df_str text)
{
	size_t from = 0, to = text.n;
	while (from < to) {
		size_t next = from;
		if (!df_uc_is_space(df_utf8_decode(text.p, text.n, &next)))
			break;
		from = next;
	}
	while (to > from) {
		size_t begin = to;
		if (!df_uc_is_space(df_utf8_before(text, to, &begin)))
			break;
		to = begin;
	}
	return (struct df_str){text.p ? text.p + from : NULL, to - from};
}

struct lower {
	struct df_str in;
	char *out;
	size_t at, n_out;
	struct df_offsets_builder map;
};

/* Lower-cases up to 64 bytes of ASCII; true when all of them were. */
static bool lower_block(struct lower *l)
{
	struct df_block b = df_block_load(l->in.p + l->at);
	uint64_t high = df_block_high(&b);
	if (high == 0) {
		const unsigned char *in = (const unsigned char *)l->in.p + l->at;
		unsigned char *out = (unsigned char *)l->out + l->n_out;
		for (unsigned i = 0; i < DF_BLOCK; i++)
			out[i] = (unsigned char)(in[i] + ((unsigned char)(in[i] - 'A') < 26 ? 0x20 : 0));
		l->at += DF_BLOCK;
		l->n_out += DF_BLOCK;
	}
	return high == 0;
}

/* Is there a cased letter next to `at` in one direction, behind what is case-ignorable? (Unicode, 3.13, Final_Sigma) */
static bool cased_before(struct df_str s, size_t at)
{
	while (at > 0) {
		uint32_t cp = df_utf8_before(s, at, &at);
		if (!df_uc_is_case_ignorable(cp))
			return df_uc_is_cased(cp);
	}
	return false;
}

static bool cased_after(struct df_str s, size_t at)
{
	while (at < s.n) {
		uint32_t cp = df_utf8_decode(s.p, s.n, &at);
		if (!df_uc_is_case_ignorable(cp))
			return df_uc_is_cased(cp);
	}
	return false;
}

/* Scripts without case in blocks of their own: most text outside Latin, Greek and Cyrillic. */
static bool has_no_case(uint32_t cp)
{
	return (cp >= 0x590 && cp < 0x10A0) || (cp >= 0x2E80 && cp < 0xA640) || (cp >= 0xAC00 && cp < 0xF900);
}

static void lower_one(struct lower *l)
{
	size_t from = l->at, begin = l->n_out;
	uint32_t cp = df_utf8_decode(l->in.p, l->in.n, &l->at);
	if (has_no_case(cp)) {
		memcpy(l->out + begin, l->in.p + from, l->at - from);
		l->n_out += l->at - from;
		return;
	}
	if (cp == 0x130) { /* i, and its dot as a combining mark */
		l->n_out += df_utf8_put(l->out + l->n_out, 'i');
		l->n_out += df_utf8_put(l->out + l->n_out, 0x307);
	} else if (cp == 0x3A3) {
		bool final = cased_before(l->in, from) && !cased_after(l->in, l->at);
		l->n_out += df_utf8_put(l->out + l->n_out, final ? 0x3C2 : 0x3C3);
	} else {
		l->n_out += df_utf8_put(l->out + l->n_out, df_uc_lower(cp));
	}
	if (l->n_out - begin != l->at - from)
		df_offsets_add(&l->map, from, l->at, begin, l->n_out);
}

static void lower_all(struct lower *l)
{
	while (l->at < l->in.n) {
		if (l->in.n - l->at >= DF_BLOCK && lower_block(l))
			continue;
		size_t end = l->in.n - l->at > DF_BLOCK ? l->at + DF_BLOCK : l->in.n;
		while (l->at < end) {
			unsigned char c = (unsigned char)l->in.p[l->at];
			if (c < 0x80) {
				l->out[l->n_out++] = (char)((unsigned char)(c - 'A') < 26 ? c + 0x20 : c);
				l->at++;
			} else {
				lower_one(l);
			}
		}
	}
}

enum df_err df_text_lower(struct df_arena *arena, struct df_str text, struct df_str *ret_text,
			  struct df_offsets **ret_map)
{
	/* the longest growth is from 2 bytes to 3 (U+0130, U+023A) */
	struct lower l = {.in = text, .out = df_arena_alloc(arena, text.n + text.n / 2 + 8)};
	if (!l.out)
		return DF_ERR_NOMEM;
	df_offsets_begin(&l.map, arena);
	lower_all(&l);
	struct df_offsets *map;
	DF_TRY(df_offsets_finish(&l.map, &map));
	bool same = l.n_out == text.n && (text.n == 0 || memcmp(l.out, text.p, text.n) == 0);
	*ret_text = same ? text : (struct df_str){l.out, l.n_out};
	*ret_map = map;
	return DF_OK;
}
