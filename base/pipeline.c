// SPDX-License-Identifier: Apache-2.0
/* pipeline: text to stages and back, one character of look-ahead, every error with its place. */
#include "base/pipeline.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/conf.h"

#define NAME_BYTES_MAX 64U
#define OPTIONS_MAX 256U
#define CARET_BEFORE 60U /* columns shown before the caret of a long line */
#define CARET_AFTER 30U

struct lexer {
	struct df_pipeline *pipeline; /* being built; its text is what is read */
	struct df_arena *arena;
	struct df_fail *fail;
	size_t at;
};

/* ------------------------------------------------------------------ errors */

static bool continues(char c) /* the second or a later byte of a UTF-8 sequence */
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* One column of the line: what a terminal would not show in one column becomes a blank. */
static void add_column(struct df_buf *out, struct df_str sequence)
{
	unsigned char c = (unsigned char)sequence.p[0];
	if (c < 0x20 || c == 0x7f || df_str_utf8_prefix(sequence) != sequence.n)
		(void)df_buf_addc(out, ' ');
	else
		(void)df_buf_add_str(out, sequence);
}

static size_t sequence_bytes(struct df_str text, size_t at, size_t end)
{
	size_t n = 1;
	while (n < 4 && at + n < end && continues(text.p[at + n]))
		n++;
	return n;
}

static void add_caret(struct df_str text, size_t at, struct df_buf *out)
{
	size_t start = at, end = at, columns = 0, shown = 0;
	while (start > 0 && text.p[start - 1] != '\n' && shown < CARET_BEFORE)
		if (!continues(text.p[--start]))
			shown++;
	while (start < at && continues(text.p[start]))
		start++;
	while (end < text.n && text.p[end] != '\n')
		end++;
	bool cut = start > 0 && text.p[start - 1] != '\n';
	(void)df_buf_addf(out, "\n  %s", cut ? "..." : "");
	size_t i = start;
	for (shown = 0; i < end && (i < at || shown < CARET_AFTER); shown += i >= at) {
		size_t n = sequence_bytes(text, i, end);
		add_column(out, (struct df_str){text.p + i, n});
		columns += i < at;
		i += n;
	}
	while (out->n && out->p[out->n - 1] == ' ')
		out->n--;
	(void)df_buf_addf(out, "%s\n  %s%*s^", i < end ? "..." : "", cut ? "   " : "", (int)columns, "");
}

enum df_err df_pipeline_fail_at(const struct df_pipeline *p, size_t at, struct df_fail *fail, const char *fmt, ...)
{
	char msg[320];
	struct df_buf place;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n >= (int)sizeof(msg))
		memcpy(msg + sizeof(msg) - 4, "...", 4);
	df_buf_init(&place, 1024);
	if (at != SIZE_MAX && at <= p->text.n)
		add_caret(p->text, at, &place);
	enum df_err err = df_fail(fail, DF_ERR_USAGE, "%s" DF_STR_FMT, msg, DF_STR_ARG(df_buf_str(&place)));
	df_buf_release(&place);
	return err;
}

/* ------------------------------------------------------------------ characters */

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool control(char c)
{
	return ((unsigned char)c < 0x20 && !blank(c)) || c == 0x7f;
}

static bool letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool name_char(char c)
{
	return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static bool is_name(struct df_str s)
{
	if (s.n == 0 || s.n > NAME_BYTES_MAX || !letter(s.p[0]))
		return false;
	for (size_t i = 1; i < s.n; i++)
		if (!name_char(s.p[i]))
			return false;
	return true;
}

static bool bare_char(char c)
{
	return !blank(c) && !control(c) && c != '|' && c != '\'' && c != '"';
}

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
	while (!at_end(l) && (blank(here(l)) || here(l) == '#'))
		if (here(l) != '#')
			l->at++;
		else
			while (!at_end(l) && here(l) != '\n')
				l->at++;
}

/* Errors "at the end" point behind the last word, not behind line breaks and comments. */
static size_t end_of_words(const struct lexer *l, size_t at)
{
	while (at > 0 && blank(l->pipeline->text.p[at - 1]))
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
	while (l->at < text.n && bare_char(text.p[l->at]))
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
	if (!blank(here(l)) && here(l) != '|')
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
	if (!letter(here(l)))
		return bad(l, from, "%s begins with a letter", what);
	while (!at_end(l) && name_char(here(l)))
		l->at++;
	*ret = (struct df_str){text.p + from, l->at - from};
	if (ret->n > NAME_BYTES_MAX)
		return bad(l, from, "%s has more than %u characters", what, NAME_BYTES_MAX);
	return DF_OK;
}

static enum df_err no_memory(struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline");
}

/* Room for one more option; arrays grow by doubling in the arena. */
static enum df_err add_opt(struct df_pipeline_stage *stage, struct df_arena *arena, struct df_pipeline_opt opt,
			   struct df_fail *fail)
{
	size_t n = stage->n_opt;
	if (n >= OPTIONS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "stage '" DF_STR_FMT "' has more than %u options",
			       DF_STR_ARG(df_pipeline_call_name(stage)), OPTIONS_MAX);
	if ((n & (n - 1)) == 0) {
		struct df_pipeline_opt *more = df_arena_array(arena, n ? n * 2 : 1, sizeof(*more));
		if (!more)
			return no_memory(fail);
		if (n)
			memcpy(more, stage->opt, n * sizeof(*more));
		stage->opt = more;
	}
	stage->opt[stage->n_opt++] = opt;
	return DF_OK;
}

static struct df_pipeline_opt *find_opt(const struct df_pipeline_stage *stage, struct df_str key)
{
	for (size_t i = 0; i < stage->n_opt; i++)
		if (df_str_eq(stage->opt[i].key, key))
			return &stage->opt[i];
	return NULL;
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
	if (find_opt(stage, opt.key))
		return bad(l, opt.key_at, "option '" DF_STR_FMT "' is given twice", DF_STR_ARG(opt.key));
	opt.value_at = ++l->at;
	DF_TRY(value(l, &opt.value));
	return add_opt(stage, l->arena, opt, l->fail);
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
		if (!blank(here(l)) && here(l) != '|')
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

/* ------------------------------------------------------------------ building */

enum df_err df_pipeline_add(struct df_pipeline *p, struct df_str label, struct df_str name_,
			    struct df_pipeline_stage **ret_stage, struct df_fail *fail)
{
	if (!is_name(name_))
		return df_fail(fail, DF_ERR_USAGE, "'%.*s' is not a stage's name", (int)(name_.n < 80 ? name_.n : 80),
			       name_.n ? name_.p : "");
	if (label.n && !is_name(label))
		return df_fail(fail, DF_ERR_USAGE,
			       "'%.*s' cannot name a stage: a letter, then letters, digits, '_', '-'",
			       (int)(label.n < 80 ? label.n : 80), label.p);
	if (p->n_stage >= DF_STAGES_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "more than %d stages", DF_STAGES_MAX);
	struct df_pipeline_stage *s = &p->stage[p->n_stage++];
	*s = (struct df_pipeline_stage){.label = label, .name = name_, .at = SIZE_MAX};
	*ret_stage = s;
	return DF_OK;
}

enum df_err df_pipeline_set(struct df_pipeline_stage *s, struct df_arena *arena, struct df_str key,
			    struct df_str value_, struct df_fail *fail)
{
	struct df_pipeline_opt opt = {key, value_, SIZE_MAX, SIZE_MAX};
	struct df_str who = df_pipeline_call_name(s);
	if (!is_name(key))
		return df_fail(fail, DF_ERR_USAGE, "'%.*s' is not an option's name", (int)(key.n < 80 ? key.n : 80),
			       key.n ? key.p : "");
	if (df_str_utf8_prefix(value_) != value_.n || (value_.n && memchr(value_.p, '\0', value_.n)))
		return df_fail(fail, DF_ERR_USAGE, "the value of '" DF_STR_FMT "." DF_STR_FMT "' is not valid text",
			       DF_STR_ARG(who), DF_STR_ARG(key));
	struct df_pipeline_opt *old = find_opt(s, key);
	if (!old)
		return add_opt(s, arena, opt, fail);
	*old = opt;
	return DF_OK;
}

static enum df_err no_such_stage(const struct df_pipeline *p, struct df_str wanted, struct df_fail *fail)
{
	struct df_buf hint, name_z;
	df_buf_init(&hint, 512);
	df_buf_init(&name_z, (size_t)DF_STAGES_MAX * (NAME_BYTES_MAX + 1));
	const char *names[DF_STAGES_MAX + 1] = {NULL};
	if (df_buf_reserve(&name_z, name_z.max) == DF_OK) {
		for (size_t i = 0; i < p->n_stage; i++) {
			names[i] = name_z.p + name_z.n;
			(void)df_buf_add_str(&name_z, df_pipeline_call_name(&p->stage[i]));
			(void)df_buf_addc(&name_z, '\0');
		}
		df_conf_suggest(&hint, wanted, names);
	}
	enum df_err err = df_fail(fail, DF_ERR_USAGE, "no stage '" DF_STR_FMT "' in the pipeline" DF_STR_FMT,
				  DF_STR_ARG(wanted), DF_STR_ARG(df_buf_str(&hint)));
	df_buf_release(&hint);
	df_buf_release(&name_z);
	return err;
}

enum df_err df_pipeline_override(struct df_pipeline *p, struct df_arena *arena, struct df_str stage_, struct df_str key,
				 struct df_str value_, struct df_fail *fail)
{
	struct df_pipeline_stage *found = NULL;
	for (size_t i = 0; i < p->n_stage; i++) {
		if (!df_str_eq(df_pipeline_call_name(&p->stage[i]), stage_))
			continue;
		if (found)
			return df_pipeline_fail_at(
				p, p->stage[i].at, fail,
				"'--%.*s.%.*s' could mean more than one stage; name one of them, e.g. "
				"'second=%.*s', and use its name",
				DF_STR_ARG(stage_), DF_STR_ARG(key), DF_STR_ARG(p->stage[i].name));
		found = &p->stage[i];
	}
	return found ? df_pipeline_set(found, arena, key, value_, fail) : no_such_stage(p, stage_, fail);
}

/* ------------------------------------------------------------------ formatting */

static void format_value(struct df_str v, struct df_buf *out)
{
	bool plain = v.n > 0 && v.p[0] != '#', single = true;
	for (size_t i = 0; i < v.n; i++) {
		plain = plain && bare_char(v.p[i]);
		single = single && v.p[i] != '\'' && v.p[i] != '\n' && v.p[i] != '\t' && v.p[i] != '\r' &&
			 !control(v.p[i]);
	}
	if (plain || single) {
		(void)df_buf_addf(out, "%s", plain ? "" : "'");
		(void)df_buf_add_str(out, v);
		(void)df_buf_addf(out, "%s", plain ? "" : "'");
		return;
	}
	(void)df_buf_addc(out, '"');
	for (size_t i = 0; i < v.n; i++) {
		unsigned char c = (unsigned char)v.p[i];
		if (c == '"' || c == '\\')
			(void)df_buf_addf(out, "\\%c", c);
		else if (c == '\n' || c == '\t')
			(void)df_buf_addz(out, c == '\n' ? "\\n" : "\\t");
		else if (c < 0x20 || c == 0x7f)
			(void)df_buf_addf(out, "\\u%04x", c);
		else
			(void)df_buf_addc(out, (char)c);
	}
	(void)df_buf_addc(out, '"');
}

enum df_err df_pipeline_format(const struct df_pipeline *p, struct df_buf *out)
{
	for (size_t i = 0; i < p->n_stage; i++) {
		const struct df_pipeline_stage *s = &p->stage[i];
		if (i)
			(void)df_buf_addz(out, " | ");
		(void)df_buf_add_str(out, s->label);
		(void)df_buf_addz(out, s->label.n ? "=" : "");
		(void)df_buf_add_str(out, s->name);
		for (size_t k = 0; k < s->n_opt; k++) {
			(void)df_buf_addc(out, ' ');
			(void)df_buf_add_str(out, s->opt[k].key);
			(void)df_buf_addc(out, '=');
			format_value(s->opt[k].value, out);
		}
	}
	return df_buf_err(out);
}
