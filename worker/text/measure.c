// SPDX-License-Identifier: Apache-2.0
/*
 * measure: white space and line breaks as bit masks of 64 bytes at a time.
 *
 * DESIGN: a word begins at each byte that is no white space behind one that is. White space outside ASCII has two or
 * three bytes; each occurrence is found by its lead byte (C2, E1, E2, E3) and sets the bits of all its bytes, those in
 * the next block included, so that the same rule holds for all text.
 */
#include "worker/text/measure.h"

#include "worker/text/block.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

struct counter {
	const char *p;
	size_t n;
	struct df_measure m;
	uint64_t space_spill; /* white space begun in the last block */
	uint64_t was_space;   /* 1: the byte before this block is white space, or there is none */
	uint64_t was_cr;
};

struct masks {
	uint64_t space, line; /* line: first bytes of line breaks */
};

/* By the first two bytes; most letters of these leads end here. */
static bool may_be_space(unsigned char lead, unsigned char second)
{
	switch (lead) {
	case 0xC2:
		return second == 0x85 || second == 0xA0;
	case 0xE1:
		return second == 0x9A;
	case 0xE2:
		return second == 0x80 || second == 0x81;
	default:
		return second == 0x80;
	}
}

static void add_wide_spaces(struct counter *c, const struct df_block *b, size_t at, struct masks *m)
{
	uint64_t lead = df_block_eq(b, 0xC2) | df_block_in(b, 0xE1, 0xE3);
	for (; lead; lead &= lead - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(lead);
		size_t begin = at + bit, next = begin;
		if (c->n - begin < 2)
			break;
		if (!may_be_space((unsigned char)c->p[begin], (unsigned char)c->p[begin + 1]))
			continue;
		uint32_t cp = df_utf8_decode(c->p, c->n, &next);
		if (!df_uc_is_space(cp))
			continue;
		uint64_t bits = (UINT64_C(1) << (next - begin)) - 1;
		m->space |= bits << bit;
		if (bit + (next - begin) > DF_BLOCK)
			c->space_spill |= bits >> (DF_BLOCK - bit);
		if (df_uc_is_line_break(cp))
			m->line |= UINT64_C(1) << bit;
	}
}

/* `used`: bytes of the block that are text (64 but for the last). */
static void count_block(struct counter *c, const struct df_block *b, size_t at, unsigned used)
{
	uint64_t low = df_block_in(b, 0, 0x20), high = df_block_high(b);
	struct masks m = {.space = df_block_eq(b, ' ')};
	uint64_t crlf = 0, cr = 0;
	if (low != m.space) {
		m.space |= df_block_in(b, 0x09, 0x0D) | df_block_in(b, 0x1C, 0x1F);
		m.line = df_block_in(b, 0x0A, 0x0D) | df_block_in(b, 0x1C, 0x1E);
		cr = df_block_eq(b, '\r');
	}
	if (cr | c->was_cr)
		crlf = df_block_eq(b, '\n') & (cr << 1 | c->was_cr);
	m.space |= c->space_spill;
	c->space_spill = 0;
	c->m.chars += used;
	if (high) {
		c->m.chars -= df_block_bits(df_block_in(b, 0x80, 0xBF));
		add_wide_spaces(c, b, at, &m);
	}
	c->m.words += df_block_bits(~m.space & (m.space << 1 | c->was_space));
	if (m.line)
		c->m.lines += df_block_bits(m.line & ~crlf);
	c->was_space = m.space >> 63;
	c->was_cr = cr >> 63;
}

static bool ends_with_break(struct df_str text)
{
	size_t at = 0;
	return text.n > 0 && df_uc_is_line_break(df_utf8_before(text, text.n, &at));
}

struct df_measure df_text_measure(struct df_str text)
{
	struct counter c = {.p = text.p, .n = text.n, .m.bytes = text.n, .was_space = 1};
	size_t at = 0;
	for (; text.n - at >= DF_BLOCK; at += DF_BLOCK) {
		struct df_block b = df_block_load(text.p + at);
		count_block(&c, &b, at, DF_BLOCK);
	}
	if (at < text.n) { /* filled up with spaces, which begin no word and no line */
		struct df_block b = df_block_load_tail(text.p + at, text.n - at, ' ');
		count_block(&c, &b, at, (unsigned)(text.n - at));
	}
	if (text.n > 0 && !ends_with_break(text))
		c.m.lines++;
	return c.m;
}
