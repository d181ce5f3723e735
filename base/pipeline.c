// SPDX-License-Identifier: Apache-2.0
/* pipeline: text to stages, one character of look-ahead, every error with its place. (Other ways to a pipeline, and back to text: pipeline_build.c.) */
#include "base/pipeline.h"

#include "base/pipeline_own.h"

struct lexer {
	struct df_pipeline *pipeline; /* being built; its text is what is read */
	struct df_arena *arena;
	struct df_fail *fail;
	size_t at;
};

static bool at_end(const struct lexer *l)
{
	return l->at >= l->pipeline->text.n;
}

/* The character here, or '|' at the end: what may follow a word may also be the end. */
static char here(const struct lexer *l)
{
	return at_end(l) ? '|' : l->pipeline->text.p[l->at];
}

static void skip(struct lexer *l)
{
	while (!at_end(l) && (df_pipeline_blank(here(l)) || here(l) == '#'))
		if (here(l) != '#')
			l->at++;
		else
			while (!at_end(l) && here(l) != '\n')
				l->at++;
}

/* Errors "at the end" point behind the last word, not behind line breaks and comments. */
static size_t end_of_words(const struct lexer *l, size_t at)
{
	while (at > 0 && df_pipeline_blank(l->pipeline->text.p[at - 1]))
		at--;
	return at;
}

#define bad(l, where, ...) df_pipeline_fail_at((l)->pipeline, where, (l)->fail, __VA_ARGS__)

/* ------------------------------------------------------------------ values */

static enum df_err hex4(struct lexer *l, uint32_t *ret)
{
	struct df_str text = l->pipeline->text;
	uint32_t v = 0;
	for (int i = 0; i < 4; i++) {
		char c = l->at < text.n ? text.p[l->at] : '\0';
		uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
			     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
			     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
						    : 16;
		if (d == 16)
			return bad(l, l->at, "\\u needs four hex digits");
		v = v << 4 | d;
		l->at++;
	}
	*ret = v;
	return DF_OK;
}

static char *put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 63));
		}
		*out++ = (char)(0x80 | (c >> 6 & 63));
	}
	*out++ = (char)(0x80 | (c & 63));
	return out;
}

/* Behind "\u". At most 4 bytes come out of 6 characters, at most 4 of 12. */
static enum df_err unicode_escape(struct lexer *l, size_t from, char **out)
{
	struct df_str text = l->pipeline->text;
	uint32_t c = 0, low = 0;
	DF_TRY(hex4(l, &c));
	if (c == 0)
		return bad(l, from, "a value cannot hold \\u0000");
	if (c >= 0xd800 && c <= 0xdbff && text.n - l->at >= 2 && text.p[l->at] == '\\' && text.p[l->at + 1] == 'u') {
		l->at += 2;
		DF_TRY(hex4(l, &low));
		if (low >= 0xdc00 && low <= 0xdfff)
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	if (c >= 0xd800 && c <= 0xdfff)
		return bad(l, from, "half a surrogate pair is no character");
	*out = put_utf8(*out, c);
	return DF_OK;
}

static enum df_err escape(struct lexer *l, char **out)
{
	struct df_str text = l->pipeline->text;
	size_t from = l->at - 1;
	char c = l->at < text.n ? text.p[l->at++] : '\0';
	switch (c) {
	case '"':
	case '\\':
		*(*out)++ = c;
		return DF_OK;
	case 'n':
		*(*out)++ = '\n';
		return DF_OK;
	case 't':
		*(*out)++ = '\t';
		return DF_OK;
	case 'u':
		return unicode_escape(l, from, out);
	default:
		return bad(
			l, from,
			"unknown escape; \\\" \\\\ \\n \\t \\uXXXX are known, and 'single quotes' take all as it is");
	}
}

static enum df_err double_quoted(struct lexer *l, struct df_str *ret)
{
	struct df_str text = l->pipeline->text;
	size_t from = l->at++, close = l->at;
	while (close < text.n && text.p[close] != '"')
		close += text.p[close] == '\\' ? 2 : 1;
	if (close >= text.n)
		return bad(l, from, "this quote is not closed");
	char *start = df_arena_alloc(l->arena, close - from), *out = start;
	if (!start)
		return df_fail(l->fail, DF_ERR_NOMEM, "no memory for the pipeline");
	while (l->at < close) {
		char c = text.p[l->at++];
		if (c == '\\')
			DF_TRY(escape(l, &out));
		else
			*out++ = c;
	}
	l->at = close + 1;
	*ret = (struct df_str){start, (size_t)(out - start)};
	return DF_OK;
}

static enum df_err single_quoted(struct lexer *l, struct df_str *ret)
{
	struct df_str text = l->pipeline->text;
	size_t from = l->at++;
	const char *close = memchr(text.p + l->at, '\'', text.n - l->at);
	if (!close)
		return bad(l, from, "this quote is not closed");
	*ret = (struct df_str){text.p + l->at, (size_t)(close - text.p) - l->at};
	l->at = (size_t)(close - text.p) + 1;
	return DF_OK;
}

static enum df_err bare(struct lexer *l, struct df_str *ret)
{
	struct df_str text = l->pipeline->text;
	size_t from = l->at;
	if (here(l) == '#')
		return bad(l, l->at, "a value that begins with '#' needs quotes");
	while (l->at < text.n && df_pipeline_bare_char(text.p[l->at]))
		l->at++;
	if (l->at == from)
		return bad(l, from, "a value is missing here; an empty one is written ''");
	*ret = (struct df_str){text.p + from, l->at - from};
	return DF_OK;
}

static enum df_err value(struct lexer *l, struct df_str *ret)
{
	char c = here(l);
	struct df_str v = {NULL, 0};
	DF_TRY(c == '"' ? double_quoted(l, &v) : c == '\'' ? single_quoted(l, &v) : bare(l, &v));
	if (here(l) == '"' || here(l) == '\'')
		return bad(l, l->at, "a quote inside a value; put the whole value into quotes");
	if (!df_pipeline_blank(here(l)) && here(l) != '|')
		return bad(l, l->at, "a blank or '|' is missing here");
	*ret = v;
	return DF_OK;
}

/* ------------------------------------------------------------------ stages */

static enum df_err name(struct lexer *l, const char *what, struct df_str *ret)
{
	struct df_str text = l->pipeline->text;
	size_t from = l->at;
	if (at_end(l) || here(l) == '|')
		return bad(l, end_of_words(l, l->at), "%s is missing here", what);
	if (!df_pipeline_letter(here(l)))
		return bad(l, from, "%s begins with a letter", what);
	while (!at_end(l) && df_pipeline_name_char(here(l)))
		l->at++;
	*ret = (struct df_str){text.p + from, l->at - from};
	if (ret->n > DF_PIPELINE_NAME_MAX)
		return bad(l, from, "%s has more than %u characters", what, DF_PIPELINE_NAME_MAX);
	return DF_OK;
}

static enum df_err no_memory(struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline");
}

static enum df_err option(struct lexer *l, struct df_pipeline_stage *stage)
{
	struct df_pipeline_opt opt = {.key_at = l->at};
	DF_TRY(name(l, "an option's name", &opt.key));
	if (at_end(l) || here(l) != '=')
		return bad(l, l->at,
			   "'=' is missing behind '" DF_STR_FMT "'; options are written key=value, stages are "
			   "divided by '|'",
			   DF_STR_ARG(opt.key));
	if (df_pipeline_find_opt(stage, opt.key))
		return bad(l, opt.key_at, "option '" DF_STR_FMT "' is given twice", DF_STR_ARG(opt.key));
	opt.value_at = ++l->at;
	DF_TRY(value(l, &opt.value));
	return df_pipeline_add_opt(stage, l->arena, opt, l->fail);
}

static enum df_err stage(struct lexer *l)
{
	struct df_pipeline *p = l->pipeline;
	struct df_pipeline_stage s = {.at = l->at};
	if (p->n_stage >= DF_STAGES_MAX)
		return bad(l, l->at, "more than %d stages", DF_STAGES_MAX);
	DF_TRY(name(l, "a stage's name", &s.name));
	if (!at_end(l) && here(l) == '=') {
		s.label = s.name;
		s.at = ++l->at;
		DF_TRY(name(l, "a stage's name", &s.name));
	}
	for (;;) {
		if (!df_pipeline_blank(here(l)) && here(l) != '|')
			return bad(l, l->at, "a blank or '|' is missing here");
		skip(l);
		if (here(l) == '|')
			break;
		DF_TRY(option(l, &s));
	}
	p->stage[p->n_stage++] = s;
	return DF_OK;
}

static enum df_err check_text(const struct df_pipeline *p, struct df_fail *fail)
{
	size_t valid = df_str_utf8_prefix(p->text);
	if (p->text.n > DF_PIPELINE_BYTES_MAX)
		return df_fail(fail, DF_ERR_USAGE, "the pipeline has %zu bytes; at most %u are allowed", p->text.n,
			       DF_PIPELINE_BYTES_MAX);
	if (valid < p->text.n)
		return df_pipeline_fail_at(p, valid, fail, "the pipeline is not valid UTF-8 here");
	for (size_t i = 0; i < p->text.n; i++)
		if (p->text.p[i] == '\0')
			return df_pipeline_fail_at(p, i, fail, "a NUL byte in the pipeline");
	return DF_OK;
}

enum df_err df_pipeline_parse(struct df_str text, struct df_arena *arena, struct df_pipeline *ret_pipeline,
			      struct df_fail *fail)
{
	struct df_pipeline p = {.n_stage = 0};
	struct lexer l = {&p, arena, fail, 0};
	p.text = text;
	DF_TRY(check_text(&p, fail));
	p.text = df_arena_copy(arena, text);
	if (!p.text.p)
		return no_memory(fail);
	skip(&l);
	if (at_end(&l))
		return df_fail(fail, DF_ERR_USAGE,
			       "the pipeline is empty; name at least one stage, e.g. 'strip | count'");
	for (;;) {
		DF_TRY(stage(&l));
		if (at_end(&l))
			break;
		l.at++; /* the '|' */
		skip(&l);
	}
	*ret_pipeline = p;
	return DF_OK;
}
