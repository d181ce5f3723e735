// SPDX-License-Identifier: Apache-2.0
/* cmd_trace: `docflume trace DIR`: what the calls of a run did and when, as a table, for Perfetto, or to an OpenTelemetry receiver. */
#include "cli/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/limits.h"
#include "cli/trace_rows.h"
#include "worker/trace/trace_export.h"

#define TEXT_BYTES ((size_t)16 << 20)

struct trace_options {
	struct df_str chrome, otlp;
	bool summary, help;
};

const struct df_opt df_trace_rows[] = {
	{.name = "summary",
	 .type = DF_OPT_BOOL,
	 .offset = offsetof(struct trace_options, summary),
	 .help = "A table of calls by model and outcome: latency, time in the queue, tokens, cost (the default)"},
	{.name = "chrome",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct trace_options, chrome),
	 .max = 4095,
	 .value_name = "FILE",
	 .help = "Write the trace for chrome://tracing and ui.perfetto.dev; '-' is stdout"},
	{.name = "otlp",
	 .type = DF_OPT_STRING,
	 .offset = offsetof(struct trace_options, otlp),
	 .max = 2000,
	 .value_name = "URL",
	 .help = "Send the spans to an OpenTelemetry receiver, e.g. http://localhost:4318; headers are taken from "
		 "OTEL_EXPORTER_OTLP_HEADERS"},
	{.name = "help", .type = DF_OPT_BOOL, .offset = offsetof(struct trace_options, help), .help = "Print this"},
	{.name = NULL},
};

const struct df_arg df_trace_args[] = {{"help", 'h', NULL}, {NULL, 0, NULL}};

static enum df_err write_chrome(const char *trace, const char *path, struct df_fail *fail)
{
	struct df_trace_tree tree;
	bool to_stdout = strcmp(path, "-") == 0;
	DF_TRY(df_trace_load(trace, &tree, fail));
	int fd = to_stdout ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	enum df_err err = fd < 0 ? df_fail_errno(fail, "cannot write '%s'", path) : df_trace_chrome(&tree, fd, fail);
	if (fd >= 0 && !to_stdout && close(fd) != 0 && err == DF_OK)
		err = df_fail_errno(fail, "cannot write '%s'", path);
	df_trace_release(&tree);
	return err;
}

static enum df_err print_summary(const char *path, struct df_fail *fail)
{
	struct df_buf out;
	df_buf_init(&out, TEXT_BYTES);
	enum df_err err = df_trace_summary(path, &out, fail);
	if (err == DF_OK && df_cli_print(&out) != DF_EXIT_OK)
		err = df_fail(fail, DF_ERR_IO, "cannot write the table");
	df_buf_release(&out);
	return err;
}

static enum df_err send_spans(const char *path, const char *url, struct df_fail *fail)
{
	struct df_trace_sent sent;
	static const struct df_trace_patience patience = {DF_TRACE_QUIET_MS, 0};
	DF_TRY(df_trace_export(path, url, &patience, &sent, fail));
	(void)fprintf(stderr, "docflume: %llu spans sent to '%s' in %llu requests\n", (unsigned long long)sent.spans,
		      sent.to, (unsigned long long)sent.requests);
	if (sent.rejected)
		(void)fprintf(stderr, "docflume: the receiver rejected %llu of them: %s\n",
			      (unsigned long long)sent.rejected, sent.message);
	else if (sent.message[0])
		(void)fprintf(stderr, "docflume: the receiver says: %s\n", sent.message);
	return DF_OK;
}

static enum df_err trace(const char *path, const struct trace_options *o, struct df_fail *fail)
{
	bool chrome = o->chrome.n > 0, otlp = o->otlp.n > 0;
	if (otlp)
		DF_TRY(df_trace_export_check(o->otlp.p, fail));
	if (chrome)
		DF_TRY(write_chrome(path, o->chrome.p, fail));
	if (o->summary || (!chrome && !otlp))
		DF_TRY(print_summary(path, fail));
	return otlp ? send_spans(path, o->otlp.p, fail) : DF_OK;
}

int df_cmd_trace(int argc, char **argv)
{
	struct df_arena arena;
	struct df_fail fail = {.msg = ""};
	struct trace_options o = {.summary = false};
	struct df_args args;
	int code = DF_EXIT_OK;
	df_arena_init(&arena, (size_t)1 << 20, 0);
	df_conf_defaults(df_trace_rows, &arena, &o, sizeof(o));
	enum df_err err = df_args_parse(df_trace_rows, df_trace_args, false, argc, argv, &arena, &o, &args, &fail);
	if (err == DF_OK && o.help) {
		char word[] = "help", name[] = "trace";
		char *help[] = {word, name, NULL};
		code = df_cmd_help(2, help);
	} else {
		if (err == DF_OK && args.n_operand != 1)
			err = df_fail(&fail, DF_ERR_USAGE, "'trace' takes one run directory");
		if (err == DF_OK)
			err = trace(args.operand[0].p, &o, &fail);
		if (err != DF_OK)
			code = df_cli_fail("trace", err, &fail);
	}
	df_arena_release(&arena);
	return code;
}
