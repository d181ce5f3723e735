// SPDX-License-Identifier: Apache-2.0
/* conf: one option row in, its parsing, its errors and its help out. */
#include "base/conf.h"

#include <ctype.h>
#include <stdio.h>

#define STRING_BYTES_MAX 65536U
#define LIST_ITEMS_MAX 4096U
#define NAMES_MAX 256U
#define SUGGESTIONS_MAX 3U
#define LEFT_COLUMNS 26U

/* ------------------------------------------------------------------ names */

static char fold(char c)
{
	return c == '_' ? '-' : c;
}

static bool same_name(struct df_str a, struct df_str b)
{
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (fold(a.p[i]) != fold(b.p[i]))
			return false;
	return true;
}

const struct df_opt *df_conf_find(const struct df_opt *table, struct df_str name)
{
	for (const struct df_opt *row = table; row && row->name; row++)
		if (same_name(df_str_from(row->name), name))
			return row;
	return NULL;
}

/* The nearest name that is not in `taken` yet and at most `limit` away; NULL when there is none. */
static const char *nearest(struct df_str word, const char *const *names, size_t limit, const char *const *taken,
			   size_t n_taken)
{
	const char *best = NULL;
	size_t best_distance = limit + 1;
	for (; *names; names++) {
		size_t distance = df_str_distance(word, df_str_from(*names));
		bool used = false;
		for (size_t i = 0; i < n_taken; i++)
			used |= strcmp(taken[i], *names) == 0;
		if (!used && distance < best_distance) {
			best = *names;
			best_distance = distance;
		}
	}
	return best;
}

void df_conf_suggest(struct df_buf *out, struct df_str word, const char *const *names)
{
	const char *found[SUGGESTIONS_MAX];
	size_t n = 0, limit = word.n / 3 + 1;
	while (n < SUGGESTIONS_MAX) {
		const char *name = nearest(word, names, limit, found, n);
		if (!name)
			break;
		if (n == 0 && df_str_distance(word, df_str_from(name)) + 1 < limit)
			limit = df_str_distance(word, df_str_from(name)) +
				1; /* beside a good one, poor ones only distract */
		found[n++] = name;
	}
	for (size_t i = 0; i < n; i++)
		(void)df_buf_addf(out, "%s'%s'", i == 0 ? "; did you mean " : i + 1 == n ? " or " : ", ", found[i]);
	if (n)
		(void)df_buf_addc(out, '?');
}

static enum df_err unknown(const struct df_opt *table, struct df_str name, struct df_fail *fail)
{
	const char *names[NAMES_MAX + 1];
	size_t n = 0;
	for (const struct df_opt *row = table; row && row->name && n < NAMES_MAX; row++)
		names[n++] = row->name;
	names[n] = NULL;
	struct df_buf hint;
	df_buf_init(&hint, 512);
	df_conf_suggest(&hint, name, names);
	enum df_err err = df_fail(fail, DF_ERR_NOT_FOUND, "unknown option '" DF_STR_FMT "'" DF_STR_FMT,
				  DF_STR_ARG(name), DF_STR_ARG(df_buf_str(&hint)));
	df_buf_release(&hint);
	return err;
}

/* ------------------------------------------------------------------ values */

static bool has_range(const struct df_opt *row)
{
	return row->min != 0 || row->max != 0;
}

static bool in_range(const struct df_opt *row, double v)
{
	return !has_range(row) || (v >= row->min && v <= row->max);
}

/* 16777216 as "16m", 0.5 as "0.5", 1e9 as "1000000000". */
static void number_text(enum df_opt_type type, double v, char *z, size_t size)
{
	static const char units[] = " kmgt";
	size_t unit = 0;
	while (type == DF_OPT_SIZE && v >= 1024 && unit < 4 && v / 1024 == (double)(uint64_t)(v / 1024)) {
		v /= 1024;
		unit++;
	}
	if (type == DF_OPT_FLOAT)
		(void)snprintf(z, size, "%g", v);
	else if (type == DF_OPT_TIME)
		(void)snprintf(z, size, v < 120 ? "%g s" : "%g h", v < 120 ? v : v / 3600);
	else
		(void)snprintf(z, size, "%.0f%.*s", v, unit ? 1 : 0, units + unit);
}

/* What a value must be, as it stands behind "is not": "a whole number from 1 to 100". */
static void wanted(const struct df_opt *row, char *z, size_t size)
{
	static const char *const words[] = {
		[DF_OPT_BOOL] = "true or false",
		[DF_OPT_INT] = "a whole number",
		[DF_OPT_SIZE] = "a size such as 64k or 8m",
		[DF_OPT_TIME] = "a time such as 30s, 10m or 2h",
		[DF_OPT_FLOAT] = "a number",
		[DF_OPT_STRING] = "text",
		[DF_OPT_ENUM] = "one of ",
		[DF_OPT_LIST] = "words with commas between them",
	};
	char low[32], high[32];
	if (row->type == DF_OPT_ENUM) {
		(void)snprintf(z, size, "one of %s", row->choices);
	} else if (has_range(row) && row->type != DF_OPT_STRING) {
		number_text(row->type, row->min, low, sizeof(low));
		number_text(row->type, row->max, high, sizeof(high));
		(void)snprintf(z, size, "%s from %s to %s", words[row->type], low, high);
	} else {
		(void)snprintf(z, size, "%s", words[row->type]);
	}
}

static enum df_err wrong(const struct df_opt *row, struct df_str value, struct df_fail *fail)
{
	char want[256];
	int shown = value.n > 80 ? 80 : (int)value.n;
	wanted(row, want, sizeof(want));
	return df_fail(fail, DF_ERR_USAGE, "option '%s': '%.*s%s' is not %s", row->name, shown, value.p ? value.p : "",
		       value.n > 80 ? "..." : "", want);
}

static bool parse_bool(struct df_str s, bool *ret)
{
	static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (df_str_is(s, words[i])) {
			*ret = i % 2 == 1;
			return true;
		}
	return false;
}

static bool parse_choice(const char *choices, struct df_str s, int *ret)
{
	const char *at = choices;
	for (int i = 0;; i++) {
		size_t n = strcspn(at, "|");
		if (df_str_eq((struct df_str){at, n}, s)) {
			*ret = i;
			return true;
		}
		if (!at[n])
			return false;
		at += n + 1;
	}
}

static enum df_err no_memory(const struct df_opt *row, struct df_fail *fail)
{
	return df_fail(fail, DF_ERR_NOMEM, "no memory for option '%s'", row->name);
}

static enum df_err set_string(const struct df_opt *row, struct df_arena *arena, struct df_str value, struct df_str *to,
			      struct df_fail *fail)
{
	size_t max = row->max > 0 ? (size_t)row->max : STRING_BYTES_MAX;
	if (value.n > max)
		return df_fail(fail, DF_ERR_USAGE, "option '%s': the value has %zu bytes; at most %zu are allowed",
			       row->name, value.n, max);
	if (value.n && memchr(value.p, '\0', value.n))
		return df_fail(fail, DF_ERR_USAGE, "option '%s': the value has a NUL byte", row->name);
	struct df_str copy = df_arena_copy(arena, value);
	if (!copy.p)
		return no_memory(row, fail);
	*to = copy;
	return DF_OK;
}

/* Words are trimmed; empty ones are left out, so that "" is the empty list. */
static enum df_err set_list(const struct df_opt *row, struct df_arena *arena, struct df_str value,
			    struct df_str_list *to, struct df_fail *fail)
{
	struct df_str whole = {NULL, 0};
	DF_TRY(set_string(row, arena, value, &whole, fail));
	size_t most = 1;
	for (size_t i = 0; i < whole.n; i++)
		most += whole.p[i] == ',';
	if (most > LIST_ITEMS_MAX)
		return df_fail(fail, DF_ERR_USAGE, "option '%s': more than %u words", row->name, LIST_ITEMS_MAX);
	struct df_str_list list = {df_arena_array(arena, most, sizeof(struct df_str)), 0};
	if (!list.item)
		return no_memory(row, fail);
	for (size_t i = 0; i <= whole.n;) {
		const char *comma = memchr(whole.p + i, ',', whole.n - i);
		size_t n = comma ? (size_t)(comma - whole.p) - i : whole.n - i;
		struct df_str word = df_str_trim((struct df_str){whole.p + i, n});
		if (word.n && !(word = df_arena_copy(arena, word)).p)
			return no_memory(row, fail);
		if (word.n)
			list.item[list.n++] = word;
		i += n + 1;
	}
	*to = list;
	return DF_OK;
}

static enum df_err set_number(const struct df_opt *row, struct df_str value, void *to, struct df_fail *fail)
{
	int64_t i = 0;
	uint64_t u = 0;
	double d = 0;
	switch (row->type) {
	case DF_OPT_INT:
		if (df_str_to_i64(value, &i) != DF_OK || !in_range(row, (double)i))
			return wrong(row, value, fail);
		memcpy(to, &i, sizeof(i));
		return DF_OK;
	case DF_OPT_SIZE:
		if (df_str_to_size(value, &u) != DF_OK || !in_range(row, (double)u))
			return wrong(row, value, fail);
		memcpy(to, &u, sizeof(u));
		return DF_OK;
	case DF_OPT_TIME:
		if (df_str_to_time(value, &u) != DF_OK || !in_range(row, (double)u / 1e9))
			return wrong(row, value, fail);
		memcpy(to, &u, sizeof(u));
		return DF_OK;
	default:
		if (df_str_to_double(value, &d) != DF_OK || !in_range(row, d))
			return wrong(row, value, fail);
		memcpy(to, &d, sizeof(d));
		return DF_OK;
	}
}

static enum df_err set_row(const struct df_opt *row, struct df_arena *arena, void *options, struct df_str value,
			   struct df_fail *fail)
{
	void *to = (char *)options + row->offset;
	bool b = false;
	int choice = 0;
	switch (row->type) {
	case DF_OPT_BOOL:
		if (!parse_bool(value, &b))
			return wrong(row, value, fail);
		memcpy(to, &b, sizeof(b));
		return DF_OK;
	case DF_OPT_ENUM:
		if (!parse_choice(row->choices, value, &choice))
			return wrong(row, value, fail);
		memcpy(to, &choice, sizeof(choice));
		return DF_OK;
	case DF_OPT_STRING:
		return set_string(row, arena, value, to, fail);
	case DF_OPT_LIST:
		return set_list(row, arena, value, to, fail);
	case DF_OPT_INT:
	case DF_OPT_SIZE:
	case DF_OPT_TIME:
	case DF_OPT_FLOAT:
		return set_number(row, value, to, fail);
	}
	return df_fail(fail, DF_ERR_BUG, "option '%s' has no type", row->name);
}

enum df_err df_conf_set(const struct df_opt *table, struct df_arena *arena, void *options, struct df_str name,
			struct df_str value, struct df_fail *fail)
{
	const struct df_opt *row = df_conf_find(table, name);
	if (!row)
		return unknown(table, name, fail);
	return set_row(row, arena, options, value, fail);
}

void df_conf_defaults(const struct df_opt *table, struct df_arena *arena, void *options, size_t size)
{
	memset(options, 0, size);
	for (const struct df_opt *row = table; row && row->name; row++) {
		DF_ASSERT(row->offset < size);
		DF_ASSERT(row->type != DF_OPT_ENUM || row->choices);
		if (row->initial && row->type == DF_OPT_STRING) /* no copy: nothing to allocate, nothing to fail */
			*(struct df_str *)((char *)options + row->offset) = df_str_from(row->initial);
		else if (row->initial)
			DF_ASSERT(set_row(row, arena, options, df_str_from(row->initial), NULL) == DF_OK);
	}
}

/* ------------------------------------------------------------------ help */

const char *df_conf_value_name(const struct df_opt *row)
{
	static const char *const words[] = {
		[DF_OPT_BOOL] = "",   [DF_OPT_INT] = "N",       [DF_OPT_SIZE] = "SIZE", [DF_OPT_TIME] = "TIME",
		[DF_OPT_FLOAT] = "X", [DF_OPT_STRING] = "TEXT", [DF_OPT_ENUM] = "",     [DF_OPT_LIST] = "A,B",
	};
	if (row->value_name)
		return row->value_name;
	return row->type == DF_OPT_ENUM ? row->choices : words[row->type];
}

/* Words of `text` behind column `column`, continuing at `indent`; ends with a line break. */
static void wrap_words(struct df_str text, size_t column, size_t indent, size_t width, struct df_buf *out)
{
	size_t at = column;
	bool first = true;
	while ((text = df_str_trim(text)).n) {
		size_t n = 0;
		while (n < text.n && !isspace((unsigned char)text.p[n]))
			n++;
		if (!first && at + 1 + n > width) {
			(void)df_buf_addf(out, "\n%*s", (int)indent, "");
			at = indent;
		} else if (!first) {
			(void)df_buf_addc(out, ' ');
			at++;
		}
		(void)df_buf_add(out, text.p, n);
		at += n;
		first = false;
		text = (struct df_str){text.p + n, text.n - n};
	}
	(void)df_buf_addc(out, '\n');
}

enum df_err df_conf_wrap(const char *text, size_t indent, size_t width, struct df_buf *out)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		if (n == 0) {
			(void)df_buf_addc(out, '\n');
		} else {
			(void)df_buf_addf(out, "%*s", (int)indent, "");
			wrap_words((struct df_str){text, n}, indent, indent, width, out);
		}
		text += n + (text[n] == '\n');
	}
	return df_buf_err(out);
}

/* " (default 100; from 1 to 1000)"; nothing when there is nothing to say. */
static void add_notes(const struct df_opt *row, struct df_buf *out)
{
	char low[32], high[32];
	const char *between = " (";
	if (row->required) {
		(void)df_buf_addf(out, "%srequired", between);
		between = "; ";
	}
	if (row->initial && row->initial[0] && row->type != DF_OPT_BOOL) {
		(void)df_buf_addf(out, "%sdefault %s", between, row->initial);
		between = "; ";
	}
	if (has_range(row) && row->type != DF_OPT_STRING) {
		number_text(row->type, row->min, low, sizeof(low));
		number_text(row->type, row->max, high, sizeof(high));
		(void)df_buf_addf(out, "%sfrom %s to %s", between, low, high);
		between = "; ";
	}
	if (row->type == DF_OPT_BOOL && row->initial && strcmp(row->initial, "true") == 0) {
		(void)df_buf_addf(out, "%sdefault true", between);
		between = "; ";
	}
	if (between[0] == ';')
		(void)df_buf_addc(out, ')');
}

enum df_err df_conf_help_row(const struct df_opt *row, const char *left, size_t width, struct df_buf *out)
{
	struct df_buf text;
	df_buf_init(&text, 8192);
	(void)df_buf_addz(&text, row->help ? row->help : "");
	add_notes(row, &text);
	size_t n = strlen(left);
	if (n + 2 <= LEFT_COLUMNS)
		(void)df_buf_addf(out, "%-*s", (int)LEFT_COLUMNS, left);
	else
		(void)df_buf_addf(out, "%s\n%*s", left, (int)LEFT_COLUMNS, "");
	wrap_words(df_buf_str(&text), LEFT_COLUMNS, LEFT_COLUMNS, width, out);
	enum df_err err = df_buf_err(&text) != DF_OK ? df_buf_err(&text) : df_buf_err(out);
	df_buf_release(&text);
	return err;
}

enum df_err df_conf_help(const struct df_opt *table, const char *prefix, size_t width, struct df_buf *out)
{
	char left[160];
	for (const struct df_opt *row = table; row && row->name; row++) {
		const char *value = df_conf_value_name(row);
		(void)snprintf(left, sizeof(left), "  %s%s%s%s", prefix, row->name, *value ? "=" : "", value);
		DF_TRY(df_conf_help_row(row, left, width, out));
	}
	return df_buf_err(out);
}

/* '|' would end a cell of a Markdown table. */
static void add_cell(const char *z, struct df_buf *out)
{
	for (; *z; z++)
		if (*z == '|')
			(void)df_buf_addz(out, "\\|");
		else
			(void)df_buf_addc(out, *z == '\n' ? ' ' : *z);
}

static void markdown_row(const struct df_opt *row, struct df_buf *out)
{
	static const char *const types[] = {
		[DF_OPT_BOOL] = "true or false", [DF_OPT_INT] = "whole number", [DF_OPT_SIZE] = "size in bytes",
		[DF_OPT_TIME] = "time",          [DF_OPT_FLOAT] = "number",     [DF_OPT_STRING] = "text",
		[DF_OPT_ENUM] = "word",          [DF_OPT_LIST] = "words",
	};
	char low[32], high[32];
	(void)df_buf_addf(out, "| `%s` | %s | ", row->name, types[row->type]);
	if (row->required)
		(void)df_buf_addz(out, "required");
	else if (row->initial && row->initial[0])
		(void)df_buf_addf(out, "`%s`", row->initial);
	else
		(void)df_buf_addz(out, row->type == DF_OPT_BOOL ? "`false`" : "none");
	(void)df_buf_addz(out, " | ");
	if (row->type == DF_OPT_ENUM) {
		add_cell(row->choices, out);
	} else if (has_range(row) && row->type != DF_OPT_STRING) {
		number_text(row->type, row->min, low, sizeof(low));
		number_text(row->type, row->max, high, sizeof(high));
		(void)df_buf_addf(out, "%s to %s", low, high);
	}
	(void)df_buf_addz(out, " | ");
	add_cell(row->help ? row->help : "", out);
	(void)df_buf_addz(out, " |\n");
}

enum df_err df_conf_markdown(const struct df_opt *table, struct df_buf *out)
{
	(void)df_buf_addz(out, "| Option | Type | Default | Range | Meaning |\n| --- | --- | --- | --- | --- |\n");
	for (const struct df_opt *row = table; row && row->name; row++)
		markdown_row(row, out);
	return df_buf_err(out);
}
