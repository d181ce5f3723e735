// SPDX-License-Identifier: Apache-2.0
/*
 * normalize: white space and control characters first, then NFC.
 *
 * DESIGN: the order makes the result stable (running it again changes nothing): what is removed can bring a letter and
 * its accent together, so NFC comes last, and NFC makes no white space out of other characters. Both passes copy nothing
 * until the first change; plain ASCII goes by as bit masks of 64 bytes. NFC looks at each other code point in a table and
 * hands ICU only the stretch between two boundaries (UAX #15) in which something may change.
 */
#include "worker/text/edit.h"

#include "worker/text/block.h"
#include "worker/text/unicode.h"
#include "worker/text/utf8.h"

enum fact { NFC_YES = 1, BOUNDARY = 2, REMOVE = 4, SPACE = 8, LINE = 16, CLASS_SHIFT = 8 };

/* A stretch without any boundary (thousands of marks on one letter) is no text: it stays as it is, since reordering it
 * takes quadratic time. */
#define STRETCH_BYTES_MAX 4096U

/* Invisible and without meaning in plain text. U+200C and U+200D stay: Persian, Indic scripts and emoji need them. */
static bool is_invisible(uint32_t cp)
{
	return cp == 0xFEFF || cp == 0x200B || (cp >= 0x2060 && cp <= 0x2064) || cp == 0x180E;
}

static enum df_err fill_facts(void *self, uint32_t first, uint32_t *value)
{
	(void)self;
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t cp = first + i;
		struct df_uc_nfc_facts f = df_uc_nfc_facts(cp);
		bool control = cp < 0x20 || (cp >= 0x7F && cp < 0xA0);
		bool space = df_uc_is_space(cp);
		value[i] = (f.yes ? NFC_YES : 0U) | (f.boundary_before ? BOUNDARY : 0U) | (space ? SPACE : 0U) |
			   ((control && !space) || is_invisible(cp) ? REMOVE : 0U) |
			   (df_uc_is_line_break(cp) ? LINE : 0U) | (f.combining_class << CLASS_SHIFT);
	}
	return DF_OK;
}

void df_normalizer_init(struct df_normalizer *n, struct df_normalize_options options)
{
	n->options = options;
	df_cptable_init(&n->facts, fill_facts, NULL);
}

void df_normalizer_release(struct df_normalizer *n)
{
	df_cptable_release(&n->facts);
}

/* --- copying on the first change --- */

struct edit {
	struct df_arena *arena;
	struct df_cptable *facts;
	struct df_str in;
	size_t at;     /* looked at */
	size_t copied; /* of `in`: carried over or replaced */
	char *out;     /* NULL until the first change */
	size_t n_out, cap;
	struct df_offsets_builder map;
	enum df_err err;
};

static bool reserve(struct edit *e, size_t more)
{
	if (e->out && e->cap - e->n_out >= more)
		return true;
	size_t rest = e->in.n - e->copied, cap = e->n_out + more + rest + (e->out ? e->n_out / 2 : 0) + DF_BLOCK;
	char *out = df_arena_alloc(e->arena, cap);
	if (!out) {
		e->err = DF_ERR_NOMEM;
		return false;
	}
	if (e->n_out)
		memcpy(out, e->out, e->n_out);
	e->out = out;
	e->cap = cap;
	return true;
}

/* in[from, to) becomes p[n]. */
static void replace(struct edit *e, size_t from, size_t to, const char *p, size_t n)
{
	size_t keep = from - e->copied;
	if (e->err != DF_OK || !reserve(e, keep + n))
		return;
	if (keep)
		memcpy(e->out + e->n_out, e->in.p + e->copied, keep);
	e->n_out += keep;
	if (n)
		memcpy(e->out + e->n_out, p, n);
	if (n != to - from || n > 1) /* one byte for one byte moves nothing */
		df_offsets_add(&e->map, from, to, e->n_out, e->n_out + n);
	e->n_out += n;
	e->copied = to;
}

static enum df_err finish(struct edit *e, struct df_str *ret_text, struct df_offsets **ret_map)
{
	struct df_str text = e->in;
	if (e->err == DF_OK && e->out) {
		replace(e, e->in.n, e->in.n, NULL, 0);
		text = (struct df_str){e->out, e->n_out};
	}
	enum df_err of_facts = e->facts->err;
	e->facts->err = DF_OK; /* the next text tries again */
	if (e->err != DF_OK || of_facts != DF_OK)
		return e->err != DF_OK ? e->err : of_facts;
	DF_TRY(df_offsets_finish(&e->map, ret_map));
	*ret_text = text;
	return DF_OK;
}

/* --- white space and control characters --- */

static bool is_plain_space(char c)
{
	return c == ' ' || c == '\n';
}

/* Moves over whole blocks of ASCII, up to the first byte that is not plainly to be kept: a control character, another
 * script, the first of two spaces. The caller has looked at what lies before e->at. */
static void skip_plain(struct edit *e, bool whitespace)
{
	size_t start = e->at;
	uint64_t odd = 0, before = 0; /* before: the last byte of the block before is white space */
	for (; e->in.n - e->at >= DF_BLOCK; e->at += DF_BLOCK) {
		struct df_block b = df_block_load(e->in.p + e->at);
		uint64_t lf = df_block_eq(&b, '\n');
		odd = df_block_in(&b, 0x7F, 0xFF) | (df_block_in(&b, 0, 0x1F) & ~lf);
		if (whitespace) {
			uint64_t space = df_block_eq(&b, ' ') | lf;
			odd |= space & (space << 1 | before);
			before = space >> 63;
		}
		if (odd) {
			e->at += (unsigned)__builtin_ctzll(odd);
			break;
		}
	}
	if (e->at > start && is_plain_space(e->in.p[e->at - 1])) /* may belong to what follows */
		e->at--;
}

/* The run of members (facts & mask) that begins at e->at: what it becomes. `at` moves behind it. */
static void replace_run(struct edit *e, uint32_t mask)
{
	size_t from = e->at, spaces = 0, lines = 0;
	uint32_t last = 0;
	while (e->at < e->in.n) {
		size_t next = e->at;
		uint32_t cp = df_utf8_decode(e->in.p, e->in.n, &next), f = df_cptable_get(e->facts, cp);
		if (!(f & mask))
			break;
		if (f & mask & SPACE) {
			spaces++;
			lines += (f & LINE) != 0 && !(cp == '\n' && last == '\r');
			last = cp;
		}
		e->at = next;
	}
	bool at_end = (mask & SPACE) && (from == 0 || e->at == e->in.n);
	struct df_str as = {"\n\n", lines > 2 ? 2 : lines};
	if (lines == 0)
		as = (struct df_str){" ", spaces > 0};
	if (at_end)
		as.n = 0;
	if (!df_str_eq(as, (struct df_str){e->in.p + from, e->at - from}))
		replace(e, from, e->at, as.p, as.n);
}

/* Does a run of members begin here, that may have to change? A single space or line feed inside the text is none. */
static bool run_begins(const struct edit *e, uint32_t mask)
{
	size_t next = e->at;
	uint32_t cp = df_utf8_decode(e->in.p, e->in.n, &next);
	if (!(df_cptable_get(e->facts, cp) & mask))
		return false;
	if ((cp != ' ' && cp != '\n') || e->at == 0 || next == e->in.n)
		return true;
	cp = df_utf8_decode(e->in.p, e->in.n, &next);
	return (df_cptable_get(e->facts, cp) & mask) != 0;
}

static void clean_runs(struct edit *e, struct df_normalize_options options)
{
	uint32_t mask = (options.whitespace ? SPACE : 0U) | (options.control ? REMOVE : 0U);
	size_t plain = DF_BLOCK; /* ASCII bytes since the last other one: mixed text is not worth a block */
	while (e->at < e->in.n && e->err == DF_OK) {
		if (plain >= DF_BLOCK / 2 && e->at > 0) {
			skip_plain(e, options.whitespace);
			plain = DF_BLOCK / 2 - 8;
			if (e->at == e->in.n)
				break;
		}
		if (run_begins(e, mask)) {
			replace_run(e, mask);
			continue;
		}
		plain = (unsigned char)e->in.p[e->at] < 0x7F ? plain + 1 : 0;
		(void)df_utf8_decode(e->in.p, e->in.n, &e->at);
	}
}

/* --- NFC --- */

static void compose_stretch(struct edit *e, size_t from, struct df_buf *tmp)
{
	while (e->at < e->in.n) {
		size_t next = e->at;
		if (df_cptable_get(e->facts, df_utf8_decode(e->in.p, e->in.n, &next)) & BOUNDARY)
			break;
		e->at = next;
	}
	struct df_str stretch = {e->in.p + from, e->at - from};
	if (stretch.n > STRETCH_BYTES_MAX)
		return;
	df_buf_reset(tmp);
	enum df_err err = df_uc_nfc(stretch, tmp);
	if (err != DF_OK)
		e->err = err;
	else if (!df_str_eq(stretch, df_buf_str(tmp)))
		replace(e, from, e->at, tmp->p, tmp->n);
}

static void skip_ascii(struct edit *e)
{
	for (; e->in.n - e->at >= DF_BLOCK; e->at += DF_BLOCK) {
		struct df_block b = df_block_load(e->in.p + e->at);
		uint64_t high = df_block_high(&b);
		if (high) {
			e->at += (unsigned)__builtin_ctzll(high);
			return;
		}
	}
	while (e->at < e->in.n && (unsigned char)e->in.p[e->at] < 0x80)
		e->at++;
}

static void compose_all(struct edit *e, struct df_buf *tmp)
{
	size_t boundary = 0;
	unsigned class_before = 0;
	while (e->at < e->in.n && e->err == DF_OK) {
		size_t from = e->at;
		if ((unsigned char)e->in.p[from] < 0x80) {
			if (e->in.n - from < 2 || (unsigned char)e->in.p[from + 1] >= 0x80)
				e->at++;
			else
				skip_ascii(e);
			boundary = e->at - 1;
			class_before = 0;
			continue;
		}
		uint32_t f = df_cptable_get(e->facts, df_utf8_decode(e->in.p, e->in.n, &e->at));
		unsigned class = f >> CLASS_SHIFT;
		if (f & BOUNDARY)
			boundary = from;
		if (!(f & NFC_YES) || (class != 0 && class < class_before)) {
			compose_stretch(e, boundary, tmp);
			boundary = e->at;
			class = 0;
		}
		class_before = class;
	}
}

enum df_err df_normalizer_run(struct df_normalizer *n, struct df_arena *arena, struct df_str text,
			      struct df_str *ret_text, struct df_offsets **ret_map)
{
	struct df_offsets *cleaned = NULL, *composed = NULL, *map = NULL;
	if (n->options.whitespace || n->options.control) {
		struct edit e = {.arena = arena, .facts = &n->facts, .in = text, .map.arena = arena};
		clean_runs(&e, n->options);
		DF_TRY(finish(&e, &text, &cleaned));
	}
	if (n->options.nfc) {
		struct edit e = {.arena = arena, .facts = &n->facts, .in = text, .map.arena = arena};
		struct df_buf tmp;
		df_buf_init(&tmp, 16 * STRETCH_BYTES_MAX);
		compose_all(&e, &tmp);
		df_buf_release(&tmp);
		DF_TRY(finish(&e, &text, &composed));
	}
	DF_TRY(df_offsets_compose(arena, composed, cleaned, &map));
	*ret_text = text;
	*ret_map = map;
	return DF_OK;
}
