// SPDX-License-Identifier: Apache-2.0
/* cmd_verify: `docflume verify DIR`: proves a run and its generations, and says what is wrong and where. */
#include "cli/commands.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/json.h"
#include "base/limits.h"
#include "cli/batch_show.h"
#include "cli/cores.h"
#include "cli/verify_lines.h"
#include "cli/verify_rows.h"
#include "coordinator/rundir/retry.h"
#include "coordinator/verify/verify.h"

#define TEXT_BYTES ((size_t)64 << 20)
#define PATH_BYTES 4096

struct verify_options {
	bool json, quick, help;
	int64_t jobs;
};

const struct df_opt df_verify_rows[] = {
	{.name = "json",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct verify_options, json),
	 .help = "One JSON object, for scripts"},
	{.name = "quick",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct verify_options, quick),
	 .help = "Compare checksums and counts, but do not look into lines (nor decompress them)"},
	{.name = "jobs",
	 .type = DF_OPT_INT,
	 .offset = offsetof(struct verify_options, jobs),
	 .initial = "0",
	 .min = 0,
	 .max = DF_WORKERS_MAX,
	 .value_name = "N",
	 .help = "Read N files at a time (0: as many as cores may be used)"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct verify_options, help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_verify_args[] = {
	{"help", 'h', NULL}, {"jobs", 'j', NULL}, {"quick", 'q', NULL}, {NULL, 0, NULL}};

static int code_of(const struct df_verify *v)
{
	return v->n_wrong ? DF_EXIT_FATAL : v->finished ? DF_EXIT_OK : DF_EXIT_STOPPED;
}

static const char *word_of(const struct df_verify *v)
{
	return v->n_wrong ? "wrong" : v->finished ? "proved" : "unfinished";
}

/* Something wrong comes before something unfinished. */
static int worse(int a, int b)
{
	if (a == DF_EXIT_FATAL || b == DF_EXIT_FATAL)
		return DF_EXIT_FATAL;
	return a == DF_EXIT_OK ? b : a;
}

/* ------------------------------------------------------------------ for people */

static void add_text(const char *path, const struct df_verify *v, double seconds, struct df_buf *out)
{
	char z[32];
	for (int g = 0; g < DF_N_VERIFY_GROUP; g++) {
		if (!v->summary[g] && !v->wrong[g])
			continue; /* not looked at: the journal cannot be read */
		(void)df_buf_addf(out, "%-9s %-6s %s\n", df_verify_group_name[g], v->wrong[g] ? "WRONG" : "ok",
				  v->summary[g] ? v->summary[g] : "");
		for (size_t i = 0; i < v->n_finding; i++)
			if ((int)v->finding[i].group == g)
				(void)df_buf_addf(out, "    %s\n", v->finding[i].text);
		if (v->wrong[g] > DF_VERIFY_FINDINGS)
			(void)df_buf_addf(out, "    and %llu more\n",
					  (unsigned long long)(v->wrong[g] - DF_VERIFY_FINDINGS));
	}
	if (v->n_wrong)
		(void)df_buf_addf(out, "'%s' is damaged: %llu %s\n", path, (unsigned long long)v->n_wrong,
				  v->n_wrong == 1 ? "fault" : "faults");
	else if (v->finished)
		(void)df_buf_addf(out, "'%s' is proved: complete and unchanged (%s read in %.1f s)\n", path,
				  df_human_bytes((double)v->bytes, z), seconds);
	else
		(void)df_buf_addf(out, "'%s' is consistent, but not finished: the same command goes on\n", path);
}

/* ------------------------------------------------------------------ for scripts */

static void add_member(struct df_buf *out, const char *key, struct df_str value)
{
	(void)df_buf_addf(out, "\"%s\":", key);
	(void)df_json_add_string(out, value);
}

static void add_json(const char *path, const struct df_verify *v, double seconds, struct df_buf *out)
{
	(void)df_buf_addz(out, "{\"format_version\":1,");
	add_member(out, "directory", df_str_from(path));
	(void)df_buf_addc(out, ',');
	add_member(out, "state", df_str_from(word_of(v)));
	(void)df_buf_addf(
		out, ",\"finished\":%s,\"faults\":%llu,\"files\":%llu,\"bytes\":%llu,\"lines\":%llu,\"seconds\":%.3f",
		v->finished ? "true" : "false", (unsigned long long)v->n_wrong, (unsigned long long)v->n_file,
		(unsigned long long)v->bytes, (unsigned long long)v->lines, seconds);
	(void)df_buf_addz(out, ",\"groups\":[");
	for (int g = 0; g < DF_N_VERIFY_GROUP; g++) {
		(void)df_buf_addf(out, "%s{", g ? "," : "");
		add_member(out, "name", df_str_from(df_verify_group_name[g]));
		(void)df_buf_addf(out, ",\"checked\":%s,\"faults\":%llu,",
				  v->summary[g] || v->wrong[g] ? "true" : "false", (unsigned long long)v->wrong[g]);
		add_member(out, "summary", df_str_from(v->summary[g] ? v->summary[g] : ""));
		(void)df_buf_addz(out, ",\"wrong\":[");
		bool first = true;
		for (size_t i = 0; i < v->n_finding; i++) {
			if ((int)v->finding[i].group != g)
				continue;
			(void)df_buf_addz(out, first ? "" : ",");
			(void)df_json_add_string(out, df_str_from(v->finding[i].text));
			first = false;
		}
		(void)df_buf_addz(out, "]}");
	}
	(void)df_buf_addc(out, ']');
}

/* ------------------------------------------------------------------ the command */

/* One run directory. The JSON object is left open, for its generations. */
static int verify_one(const char *path, const struct verify_options *o, struct df_buf *out)
{
	struct df_verify v = {.n_wrong = 0};
	struct df_fail fail = {.msg = ""};
	struct df_verify_config config = {.path = path,
					  .lines = o->quick ? NULL : &df_verify_lines_real,
					  .threads = o->jobs ? (unsigned)o->jobs : df_cores()};
	uint64_t start = df_clock_mono(&df_clock_real);
	enum df_err err = df_verify_run(&config, &v, &fail);
	if (err != DF_OK) {
		int code = df_cli_fail("verify", err, &fail);
		return err == DF_ERR_BUSY ? DF_EXIT_STOPPED : code;
	}
	double seconds = (double)(df_clock_mono(&df_clock_real) - start) / 1e9;
	o->json ? add_json(path, &v, seconds, out) : add_text(path, &v, seconds, out);
	int code = code_of(&v);
	df_verify_release(&v);
	return code;
}

/* DIR/retry-1 .. retry-N, made by --resume-failed, are runs of their own. */
static int verify_generations(const char *path, const struct verify_options *o, struct df_buf *out)
{
	char inner[PATH_BYTES];
	int code = DF_EXIT_OK;
	uint32_t n = df_retry_generations(path);
	for (uint32_t i = 1; i <= n; i++) {
		(void)snprintf(inner, sizeof(inner), "%s/retry-%u", path, i);
		if (o->json && i > 1)
			(void)df_buf_addc(out, ',');
		size_t before = out->n;
		code = worse(code, verify_one(inner, o, out));
		if (o->json)
			(void)df_buf_addz(out, out->n > before ? "}" : "null");
	}
	return code;
}

static int verify(const char *path, const struct verify_options *o)
{
	struct df_buf out;
	struct df_fail fail = {.msg = ""};
	if (df_batch_show_is(path))
		return df_batch_show_verify(path, o->json, o->quick);
	df_buf_init(&out, TEXT_BYTES);
	int code = verify_one(path, o, &out);
	if (out.n) {
		(void)df_buf_addz(&out, o->json ? ",\"generations\":[" : "");
		code = worse(code, verify_generations(path, o, &out));
		(void)df_buf_addz(&out, o->json ? "]}\n" : "");
		int printed =
			df_buf_err(&out) == DF_OK ? df_cli_print(&out) : df_cli_fail("verify", df_buf_err(&out), &fail);
		code = printed == DF_EXIT_OK ? code : printed;
	}
	df_buf_release(&out);
	return code;
}

int df_cmd_verify(int argc, char **argv)
{
	struct df_arena arena;
	struct df_fail fail = {.msg = ""};
	struct verify_options o = {.json = false};
	struct df_args args;
	int code;
	df_arena_init(&arena, (size_t)1 << 20, 0);
	df_conf_defaults(df_verify_rows, &arena, &o, sizeof(o));
	enum df_err err = df_args_parse(df_verify_rows, df_verify_args, false, argc, argv, &arena, &o, &args, &fail);
	if (err == DF_OK && !o.help && args.n_operand != 1)
		err = df_fail(&fail, DF_ERR_USAGE, "'verify' takes one run directory");
	if (err != DF_OK) {
		code = df_cli_fail("verify", err, &fail);
	} else if (o.help) {
		char word[] = "help", name[] = "verify";
		char *help[] = {word, name, NULL};
		code = df_cmd_help(2, help);
	} else {
		code = verify(args.operand[0].p, &o);
	}
	df_arena_release(&arena);
	return code;
}
