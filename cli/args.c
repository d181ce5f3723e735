// SPDX-License-Identifier: Apache-2.0
/* args: options, overrides and operands out of argv, and the help of the same rows. */
#include "cli/args.h"

#include <stdio.h>

struct parser {
	const struct df_opt *rows;
	const struct df_arg *args;
	bool overrides;
	int argc;
	char **argv;
	int at; /* next argument */
	struct df_arena *arena;
	void *options;
	struct df_args *out;
	struct df_fail *fail;
};

static const struct df_arg *by_letter(const struct df_arg *args, char letter)
{
	for (; args && args->name; args++)
		if (args->letter == letter)
			return args;
	return NULL;
}

static const struct df_arg *by_name(const struct df_arg *args, const char *name)
{
	for (; args && args->name; args++)
		if (strcmp(args->name, name) == 0)
			return args;
	return NULL;
}

/* The value an option has when none is written; NULL: it needs one. */
static const char *bare_value(const struct parser *p, const struct df_opt *row)
{
	const struct df_arg *arg = by_name(p->args, row->name);
	if (arg && arg->bare)
		return arg->bare;
	return row->type == DF_OPT_BOOL ? "true" : NULL;
}

static enum df_err set(struct parser *p, const struct df_opt *row, struct df_str value)
{
	struct df_fail why = {.msg = ""};
	enum df_err err = df_conf_set(p->rows, p->arena, p->options, df_str_from(row->name), value, &why);
	p->out->given[row - p->rows] = true;
	if (err == DF_OK)
		return DF_OK;
	/* "option 'jobs': ..." reads better with the dashes that the user typed */
	const char *rest = df_str_starts(df_str_from(why.msg), "option '") ? why.msg + strlen("option '") : NULL;
	return rest ? df_fail(p->fail, err, "option '--%s", rest) : df_fail(p->fail, err, "%s", why.msg);
}

/* The next argument as the value of an option; NULL when there is none. */
static const char *next_value(struct parser *p)
{
	return p->at < p->argc ? p->argv[p->at++] : NULL;
}

static enum df_err unknown(struct parser *p, struct df_str name)
{
	const char *names[128];
	size_t n = 0;
	for (const struct df_opt *row = p->rows; row->name && n + 1 < sizeof(names) / sizeof(names[0]); row++)
		names[n++] = row->name;
	names[n] = NULL;
	struct df_buf near, hint;
	df_buf_init(&near, 512);
	df_buf_init(&hint, 640);
	df_conf_suggest(&near, name, names);
	for (size_t i = 0; i < near.n; i++) { /* dashes before each suggested name */
		bool opens = near.p[i] == '\'' && i > 0 && near.p[i - 1] == ' ';
		(void)df_buf_addc(&hint, near.p[i]);
		(void)df_buf_addz(&hint, opens ? "--" : "");
	}
	enum df_err err = df_fail(p->fail, DF_ERR_USAGE, "unknown option '--" DF_STR_FMT "'" DF_STR_FMT,
				  DF_STR_ARG(name), DF_STR_ARG(df_buf_str(&hint)));
	df_buf_release(&near);
	df_buf_release(&hint);
	return err;
}

static enum df_err override(struct parser *p, struct df_str name, const char *dot, const char *equals)
{
	struct df_arg_override *o = &p->out->override[p->out->n_override];
	const char *value = equals ? equals + 1 : next_value(p);
	o->stage = (struct df_str){name.p, (size_t)(dot - name.p)};
	o->key = (struct df_str){dot + 1, name.n - o->stage.n - 1};
	if (o->stage.n == 0 || o->key.n == 0)
		return df_fail(p->fail, DF_ERR_USAGE, "'--" DF_STR_FMT "' is not of the form --stage.key",
			       DF_STR_ARG(name));
	if (!value)
		return df_fail(p->fail, DF_ERR_USAGE, "option '--" DF_STR_FMT "' needs a value", DF_STR_ARG(name));
	o->value = df_str_from(value);
	p->out->n_override++;
	return DF_OK;
}

static enum df_err negated(struct parser *p, struct df_str name, bool *ret_done)
{
	if (!df_str_starts(name, "no-"))
		return DF_OK;
	const struct df_opt *row = df_conf_find(p->rows, (struct df_str){name.p + 3, name.n - 3});
	if (!row || row->type != DF_OPT_BOOL)
		return DF_OK;
	*ret_done = true;
	return set(p, row, DF_STR("false"));
}

static enum df_err long_option(struct parser *p, const char *z)
{
	const char *equals = strchr(z, '=');
	struct df_str name = {z, equals ? (size_t)(equals - z) : strlen(z)};
	const char *dot = memchr(name.p, '.', name.n);
	if (dot && p->overrides)
		return override(p, name, dot, equals);
	const struct df_opt *row = df_conf_find(p->rows, name);
	if (!row) {
		bool done = false;
		if (!equals)
			DF_TRY(negated(p, name, &done));
		return done ? DF_OK : unknown(p, name);
	}
	const char *value = equals ? equals + 1 : bare_value(p, row);
	if (!value)
		value = next_value(p);
	if (!value)
		return df_fail(p->fail, DF_ERR_USAGE, "option '--%s' needs a value", row->name);
	return set(p, row, df_str_from(value));
}

/* "-kj4": k takes nothing, j takes the rest. */
static enum df_err short_options(struct parser *p, const char *z)
{
	for (; *z; z++) {
		const struct df_arg *arg = by_letter(p->args, *z);
		if (!arg)
			return df_fail(p->fail, DF_ERR_USAGE, "unknown option '-%c'",
				       (unsigned char)*z < 0x7f ? *z : '?');
		const struct df_opt *row = df_conf_find(p->rows, df_str_from(arg->name));
		DF_ASSERT(row);
		const char *value = bare_value(p, row);
		if (value) {
			DF_TRY(set(p, row, df_str_from(value)));
			continue;
		}
		value = z[1] ? z + 1 : next_value(p);
		if (!value)
			return df_fail(p->fail, DF_ERR_USAGE, "option '-%c' (--%s) needs a value", *z, row->name);
		return set(p, row, df_str_from(value));
	}
	return DF_OK;
}

static enum df_err parse_all(struct parser *p)
{
	bool only_operands = false;
	while (p->at < p->argc) {
		const char *z = p->argv[p->at++];
		if (only_operands || z[0] != '-' || z[1] == '\0')
			p->out->operand[p->out->n_operand++] = df_str_from(z);
		else if (strcmp(z, "--") == 0)
			only_operands = true;
		else
			DF_TRY(z[1] == '-' ? long_option(p, z + 2) : short_options(p, z + 1));
	}
	return DF_OK;
}

enum df_err df_args_parse(const struct df_opt *rows, const struct df_arg *args, bool overrides, int argc, char **argv,
			  struct df_arena *arena, void *options, struct df_args *ret_args, struct df_fail *fail)
{
	size_t n_row = 0, n_arg = argc > 0 ? (size_t)argc : 1;
	while (rows[n_row].name)
		n_row++;
	struct df_args out = {
		.operand = df_arena_array(arena, n_arg, sizeof(struct df_str)),
		.override = df_arena_array(arena, n_arg, sizeof(struct df_arg_override)),
		.given = df_arena_zalloc(arena, n_row * sizeof(bool)),
	};
	if (!out.operand || !out.override || !out.given)
		return df_fail(fail, DF_ERR_NOMEM, "no memory for %d arguments", argc);
	struct parser p = {rows, args, overrides, argc, argv, 1, arena, options, &out, fail};
	DF_TRY(parse_all(&p));
	*ret_args = out;
	return DF_OK;
}

bool df_args_given(const struct df_opt *rows, const struct df_args *args, const char *name)
{
	const struct df_opt *row = df_conf_find(rows, df_str_from(name));
	return row && args->given[row - rows];
}

/* ------------------------------------------------------------------ help */

static void left_column(const struct df_opt *row, const struct df_arg *arg, char *z, size_t size)
{
	char letter[8] = "    ";
	const char *value = df_conf_value_name(row);
	bool optional = arg && arg->bare && row->type != DF_OPT_BOOL;
	if (arg && arg->letter)
		(void)snprintf(letter, sizeof(letter), "-%c, ", arg->letter);
	(void)snprintf(z, size, "%s--%s%s%s%s%s", letter, row->name, optional ? "[" : "", *value ? "=" : "", value,
		       optional ? "]" : "");
}

enum df_err df_args_help(const struct df_opt *rows, const struct df_arg *args, size_t width, struct df_buf *out)
{
	char column[128], left[132];
	for (const struct df_opt *row = rows; row->name; row++) {
		left_column(row, by_name(args, row->name), column, sizeof(column));
		(void)snprintf(left, sizeof(left), "  %s", column);
		DF_TRY(df_conf_help_row(row, left, width, out));
	}
	return df_buf_err(out);
}

static void add_roff(struct df_buf *out, const char *z)
{
	for (; *z; z++)
		if (*z == '-' || *z == '\\')
			(void)df_buf_addf(out, *z == '-' ? "\\-" : "\\e");
		else
			(void)df_buf_addc(out, *z);
}

enum df_err df_args_man(const struct df_opt *rows, const struct df_arg *args, struct df_buf *out)
{
	char left[128];
	for (const struct df_opt *row = rows; row->name; row++) {
		left_column(row, by_name(args, row->name), left, sizeof(left));
		(void)df_buf_addz(out, ".TP\n.B ");
		add_roff(out, left + strspn(left, " "));
		(void)df_buf_addc(out, '\n');
		add_roff(out, row->help);
		(void)df_buf_addz(out, ".");
		if (row->initial && row->initial[0] && row->type != DF_OPT_BOOL) {
			(void)df_buf_addz(out, " Default: ");
			add_roff(out, row->initial);
			(void)df_buf_addc(out, '.');
		}
		(void)df_buf_addc(out, '\n');
	}
	return df_buf_err(out);
}
