// SPDX-License-Identifier: Apache-2.0
/* cmd_stages: `docflume stages`: the list, one stage, or a Markdown page for each, all made from the stages' rows. */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/io.h"
#include "cli/stages_rows.h"
#include "worker/stages/registry.h"

#define PAGE_BYTES ((size_t)1 << 20)
#define COLUMNS 80

struct stages_options {
	struct df_str markdown;
	bool help;
};

const struct df_opt df_stages_rows[] = {
	{.name = "markdown",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct stages_options, markdown),
	 .value_name = "DIR",
	 .max = 4000,
	 .help = "Write a page for each stage, and README.md, into this folder"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct stages_options, help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_stages_args[] = {{"help", 'h', NULL}, {NULL, 0, NULL}};

/* ------------------------------------------------------------------ for people */

static void add_list(struct df_buf *out)
{
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++)
		(void)df_buf_addf(out, "%-12s%s\n", (*c)->name, (*c)->summary);
	(void)df_buf_addz(out, "\n'docflume stages NAME' tells more about one.\n");
}

static void add_stage(const struct df_stage_class *c, struct df_buf *out)
{
	(void)df_buf_addf(out, "%s: %s\n\n", c->name, c->summary);
	(void)df_conf_wrap(c->help ? c->help : "", 0, COLUMNS, out);
	if (c->options && c->options[0].name) {
		(void)df_buf_addz(out, "\nOptions:\n");
		(void)df_conf_help(c->options, "", COLUMNS, out);
	}
}

/* ------------------------------------------------------------------ pages */

static void add_page(const struct df_stage_class *c, struct df_buf *out)
{
	(void)df_buf_addf(out, "# %s\n\n%c%s.\n\n", c->name, c->summary[0] >= 'a' ? c->summary[0] - 32 : c->summary[0],
			  c->summary + 1);
	for (const char *p = c->help ? c->help : ""; *p;) {
		size_t n = strcspn(p, "\n");
		if (n) {
			(void)df_buf_add(out, p, n);
			(void)df_buf_addz(out, "\n\n");
		}
		p += n + (p[n] == '\n');
	}
	if (c->options && c->options[0].name) {
		(void)df_buf_addz(out, "## Options\n\n");
		(void)df_conf_markdown(c->options, out);
	} else {
		(void)df_buf_addz(out, "It has no options.\n");
	}
}

static void add_index(struct df_buf *out)
{
	(void)df_buf_addz(
		out, "# Stages\n\nThese pages are made by `docflume stages --markdown docs/stages` from the tables "
		     "that the program itself\nreads its options with; edit those, not these.\n\n"
		     "| Stage | What it does |\n| --- | --- |\n");
	for (const struct df_stage_class *const *c = df_stage_registry; *c; c++)
		(void)df_buf_addf(out, "| [%s](%s.md) | %s |\n", (*c)->name, (*c)->name, (*c)->summary);
}

static enum df_err write_page(const char *dir, const char *name, const struct df_buf *page, struct df_fail *fail)
{
	char path[PATH_MAX];
	if (df_buf_err(page) != DF_OK)
		return df_fail(fail, df_buf_err(page), "the page of '%s' is too large", name);
	if (snprintf(path, sizeof(path), "%s/%s.md", dir, name) >= (int)sizeof(path))
		return df_fail(fail, DF_ERR_USAGE, "the path '%s' is too long", dir);
	return df_io_replace_file(&df_io_real, AT_FDCWD, path, page->p, page->n, fail);
}

static enum df_err write_pages(const char *dir, struct df_fail *fail)
{
	struct df_buf page;
	if (mkdir(dir, 0777) < 0 && errno != EEXIST)
		return df_fail_errno(fail, "cannot create the folder '%s'", dir);
	df_buf_init(&page, PAGE_BYTES);
	add_index(&page);
	enum df_err err = write_page(dir, "README", &page, fail);
	for (const struct df_stage_class *const *c = df_stage_registry; *c && err == DF_OK; c++) {
		df_buf_reset(&page);
		add_page(*c, &page);
		err = write_page(dir, (*c)->name, &page, fail);
	}
	df_buf_release(&page);
	return err;
}

/* ------------------------------------------------------------------ the command */

static enum df_err add_named(struct df_str name, struct df_buf *out, struct df_fail *fail)
{
	const struct df_stage_class *c = df_stage_find(name);
	if (c) {
		add_stage(c, out);
		return df_buf_err(out);
	}
	df_stage_suggest(out, name);
	return df_fail(fail, DF_ERR_USAGE, "unknown stage '" DF_STR_FMT "'" DF_STR_FMT, DF_STR_ARG(name),
		       DF_STR_ARG(df_buf_str(out)));
}

static enum df_err stages(int argc, char **argv, struct df_arena *arena, struct df_buf *out, struct df_fail *fail)
{
	struct stages_options o;
	struct df_args args;
	df_conf_defaults(df_stages_rows, arena, &o, sizeof(o));
	DF_TRY(df_args_parse(df_stages_rows, df_stages_args, false, argc, argv, arena, &o, &args, fail));
	if (o.help) {
		for (const struct df_command *c = df_commands; c->name; c++)
			if (c->main == df_cmd_stages)
				return df_cli_help_command(c, out);
	}
	if (args.n_operand > 1)
		return df_fail(fail, DF_ERR_USAGE, "one stage at a time; '" DF_STR_FMT "' is too many",
			       DF_STR_ARG(args.operand[1]));
	if (o.markdown.n)
		return write_pages(o.markdown.p, fail);
	if (args.n_operand)
		return add_named(args.operand[0], out, fail);
	add_list(out);
	return df_buf_err(out);
}

int df_cmd_stages(int argc, char **argv)
{
	struct df_arena arena;
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	df_arena_init(&arena, (size_t)16 << 20, 0);
	df_buf_init(&out, PAGE_BYTES);
	enum df_err err = stages(argc, argv, &arena, &out, &fail);
	int code = err == DF_OK ? df_cli_print(&out) : df_cli_fail("stages", err, &fail);
	df_buf_release(&out);
	df_arena_release(&arena);
	return code;
}
