// SPDX-License-Identifier: Apache-2.0
/* pipeline_build: a pipeline by other ways than its text: stages added, options set and overridden, the canonical text that parses back to the same; and the
 * place of an error, shown with its line and a caret. */
#include <stdarg.h>
#include <stdio.h>

#include "base/conf.h"
#include "base/pipeline_own.h"

#define CARET_BEFORE 60U /* columns shown before the caret of a long line */
#define CARET_AFTER 30U

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

/* ------------------------------------------------------------------ building */

/* Room for one more option; arrays grow by doubling in the arena. */
enum df_err df_pipeline_add_opt(struct df_pipeline_stage *stage, struct df_arena *arena, struct df_pipeline_opt opt,
				struct df_fail *fail)
{
	size_t n = stage->n_opt;
	if (n >= DF_PIPELINE_OPTIONS_MAX)
		return df_fail(fail, DF_ERR_LIMIT, "stage '" DF_STR_FMT "' has more than %u options",
			       DF_STR_ARG(df_pipeline_call_name(stage)), DF_PIPELINE_OPTIONS_MAX);
	if ((n & (n - 1)) == 0) {
		struct df_pipeline_opt *more = df_arena_array(arena, n ? n * 2 : 1, sizeof(*more));
		if (!more)
			return df_fail(fail, DF_ERR_NOMEM, "no memory for the pipeline");
		if (n)
			memcpy(more, stage->opt, n * sizeof(*more));
		stage->opt = more;
	}
	stage->opt[stage->n_opt++] = opt;
	return DF_OK;
}

struct df_pipeline_opt *df_pipeline_find_opt(const struct df_pipeline_stage *stage, struct df_str key)
{
	for (size_t i = 0; i < stage->n_opt; i++)
		if (df_str_eq(stage->opt[i].key, key))
			return &stage->opt[i];
	return NULL;
}

enum df_err df_pipeline_add(struct df_pipeline *p, struct df_str label, struct df_str name_,
			    struct df_pipeline_stage **ret_stage, struct df_fail *fail)
{
	if (!df_pipeline_is_name(name_))
		return df_fail(fail, DF_ERR_USAGE, "'%.*s' is not a stage's name", (int)(name_.n < 80 ? name_.n : 80),
			       name_.n ? name_.p : "");
	if (label.n && !df_pipeline_is_name(label))
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
	if (!df_pipeline_is_name(key))
		return df_fail(fail, DF_ERR_USAGE, "'%.*s' is not an option's name", (int)(key.n < 80 ? key.n : 80),
			       key.n ? key.p : "");
	if (df_str_utf8_prefix(value_) != value_.n || (value_.n && memchr(value_.p, '\0', value_.n)))
		return df_fail(fail, DF_ERR_USAGE, "the value of '" DF_STR_FMT "." DF_STR_FMT "' is not valid text",
			       DF_STR_ARG(who), DF_STR_ARG(key));
	struct df_pipeline_opt *old = df_pipeline_find_opt(s, key);
	if (!old)
		return df_pipeline_add_opt(s, arena, opt, fail);
	*old = opt;
	return DF_OK;
}

static enum df_err no_such_stage(const struct df_pipeline *p, struct df_str wanted, struct df_fail *fail)
{
	struct df_buf hint, name_z;
	df_buf_init(&hint, 512);
	df_buf_init(&name_z, (size_t)DF_STAGES_MAX * (DF_PIPELINE_NAME_MAX + 1));
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
		plain = plain && df_pipeline_bare_char(v.p[i]);
		single = single && v.p[i] != '\'' && v.p[i] != '\n' && v.p[i] != '\t' && v.p[i] != '\r' &&
			 !df_pipeline_control(v.p[i]);
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
