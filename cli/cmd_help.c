// SPDX-License-Identifier: Apache-2.0
/* cmd_help: help and the manual page, from the table of commands and the rows of their options. */
#include "cli/commands.h"

#include <stdio.h>

#include "worker/stages/registry.h"

#define TEXT_BYTES ((size_t)1 << 20)
#define COLUMNS 80

/* ------------------------------------------------------------------ for people */

enum df_err df_cli_help_all(struct df_buf *out)
{
	(void)df_buf_addz(out,
			  "docflume: documents through a pipeline, on every core\n\n"
			  "  docflume run 'strip | clean min_chars=20 | chunk tokens=200 | embed' -o out docs/*.jsonl\n"
			  "  cat docs.jsonl | docflume run 'clean | count' > counted.jsonl\n"
			  "  docflume search --store out \"words to look for\"\n\nCommands:\n");
	for (const struct df_command *c = df_commands; c->name; c++)
		if (!c->hidden)
			(void)df_buf_addf(out, "  %-10s%s\n", c->name, c->summary);
	return df_buf_addz(out,
			   "\n'docflume help COMMAND' tells more about one; 'docflume stages' lists the stages.\n");
}

enum df_err df_cli_help_command(const struct df_command *c, struct df_buf *out)
{
	(void)df_buf_addf(out, "docflume %s %s%s: %s\n", c->name, c->rows ? "[OPTION...] " : "", c->operands,
			  c->summary);
	if (c->help) {
		(void)df_buf_addc(out, '\n');
		(void)df_conf_wrap(c->help, 0, COLUMNS, out);
	}
	if (c->rows) {
		(void)df_buf_addz(out, "\nOptions:\n");
		(void)df_args_help(c->rows, c->args, COLUMNS, out);
	}
	return df_buf_err(out);
}

/* ------------------------------------------------------------------ the manual page */

/* '-' and '\' have meanings in roff, and so has a dot or quote at a line's start. */
static void add_roff(struct df_buf *out, const char *z)
{
	bool line_start = true;
	for (; *z; z++) {
		if (line_start && (*z == '.' || *z == '\''))
			(void)df_buf_addz(out, "\\&");
		line_start = *z == '\n';
		if (*z == '-')
			(void)df_buf_addz(out, "\\-");
		else if (*z == '\\')
			(void)df_buf_addz(out, "\\e");
		else
			(void)df_buf_addc(out, *z);
	}
}

static void add_paragraphs(struct df_buf *out, const char *z)
{
	while (*z) {
		char line[2048];
		size_t n = strcspn(z, "\n");
		(void)snprintf(line, sizeof(line), "%.*s", (int)n, z);
		(void)df_buf_addz(out, ".PP\n");
		add_roff(out, line);
		(void)df_buf_addc(out, '\n');
		z += n + (z[n] == '\n');
	}
}

static void man_command(const struct df_command *c, struct df_buf *out)
{
	(void)df_buf_addf(out, ".SS docflume %s ", c->name);
	if (c->rows)
		(void)df_buf_addz(out, "[OPTION...] ");
	add_roff(out, c->operands);
	(void)df_buf_addc(out, '\n');
	add_roff(out, c->summary);
	(void)df_buf_addz(out, ".\n");
	if (c->help)
		add_paragraphs(out, c->help);
	if (c->rows)
		(void)df_args_man(c->rows, c->args, out);
}

static void man_stages(struct df_buf *out)
{
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++) {
		(void)df_buf_addf(out, ".TP\n.B %s\n", (*c)->name);
		add_roff(out, (*c)->summary);
		(void)df_buf_addz(out, ".\n");
	}
}

enum df_err df_cli_man(struct df_buf *out)
{
	(void)df_buf_addz(out, ".\\\" SPDX-License-Identifier: Apache-2.0\n"
			       ".\\\" Made by 'docflume help --man' from the program's own tables.\n"
			       ".TH DOCFLUME 1 \"\" \"docflume " DF_VERSION "\"\n.SH NAME\n"
			       "docflume \\- documents through a pipeline, on every core\n.SH SYNOPSIS\n");
	for (const struct df_command *c = df_commands; c->name; c++) {
		if (c->hidden)
			continue;
		(void)df_buf_addf(out, ".B docflume %s\n", c->name);
		if (c->rows || c->operands[0]) {
			(void)df_buf_addz(out, c->rows ? "[OPTION...] " : "");
			add_roff(out, c->operands);
			(void)df_buf_addc(out, '\n');
		}
		(void)df_buf_addz(out, ".br\n");
	}
	(void)df_buf_addz(out, ".SH COMMANDS\n");
	for (const struct df_command *c = df_commands; c->name; c++)
		if (!c->hidden)
			man_command(c, out);
	(void)df_buf_addz(out, ".SH STAGES\n");
	man_stages(out);
	(void)df_buf_addz(out, ".PP\n.B docflume stages NAME\ntells all about one.\n.SH EXIT STATUS\n"
			       ".TP\n.B 0\nAll done.\n.TP\n.B 1\nA fatal error.\n.TP\n.B 2\nWrong usage.\n.TP\n.B 3\n"
			       "Done, and some documents were rejected.\n.TP\n.B 4\n"
			       "A budget or a limit of the day is used up; the same command goes on.\n.TP\n.B "
			       "75\nStopped early; the same command goes on.\n");
	return df_buf_err(out);
}

/* ------------------------------------------------------------------ the commands */

static const struct df_command *find(const char *name)
{
	for (const struct df_command *c = df_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

/* A command without rows here writes its own help. */
static int own_help(const struct df_command *c)
{
	char name[32], option[] = "--help";
	char *argv[] = {name, option, NULL};
	(void)snprintf(name, sizeof(name), "%s", c->name);
	return c->main(2, argv);
}

int df_cmd_help(int argc, char **argv)
{
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	const char *word = argc > 1 ? argv[1] : NULL;
	bool all = !word || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
	bool man = word && strcmp(word, "--man") == 0;
	const struct df_command *c = all || man ? NULL : find(word);
	if (!all && !man && !c)
		return df_cli_fail(NULL, df_fail(&fail, DF_ERR_USAGE, "unknown command '%.100s'", word), &fail);
	bool simple = c && (c->main == df_cmd_help || c->main == df_cmd_version || c->hidden);
	if (c && !c->rows && !simple)
		return own_help(c);
	df_buf_init(&out, TEXT_BYTES);
	enum df_err err = man ? df_cli_man(&out) : c ? df_cli_help_command(c, &out) : df_cli_help_all(&out);
	int code = err == DF_OK ? df_cli_print(&out) : df_cli_fail("help", err, &fail);
	df_buf_release(&out);
	return code;
}

int df_cmd_version(int argc, char **argv)
{
	struct df_buf out;
	(void)argc;
	(void)argv;
	df_buf_init(&out, 256);
	(void)df_buf_addz(&out, "docflume " DF_VERSION "\n");
	int code = df_cli_print(&out);
	df_buf_release(&out);
	return code;
}
