// SPDX-License-Identifier: Apache-2.0
/* cli: the table of sub-commands, the way into one, and how results and errors reach people. */
#include "cli/commands.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/batch_rows.h"
#include "cli/run_rows.h"
#include "cli/stages_rows.h"
#include "cli/status_rows.h"
#include "cli/trace_rows.h"
#include "cli/verify_rows.h"
#include "worker/role.h"

const struct df_command df_commands[] = {
	{"run", "PIPELINE [INPUT...]", "send documents through a pipeline",
	 "PIPELINE is one argument: stages divided by '|', each with options of the form key=value, e.g. "
	 "'strip | clean min_chars=20 | chunk tokens=200 | embed'. 'docflume stages' lists the stages.\n"
	 "INPUT is a file, a glob, a folder (all documents in it), or '-' for stdin; without one, stdin is read. "
	 "JSONL, text, Markdown, CSV and TSV are read, also compressed (gz, zst, xz, bz2) and in tar and zip.\n"
	 "With -o DIR the run can be stopped or killed at any moment: the same command goes on where it was. "
	 "Without it rows go to stdout as JSONL.\n"
	 "--stage.key VALUE overrides an option of a stage, e.g. --chunk.tokens 300; a stage with a label "
	 "('c=chunk') is called by it.\n"
	 "Ctrl-C, SIGTERM, SIGUSR1, SIGHUP and --time-limit stop the run: what is in work is finished within --grace; "
	 "a second "
	 "signal ends it at once.\n"
	 "Exit status: 0 all done, or the reader of stdout has gone (docflume run ... | head); 1 fatal, more errors "
	 "than "
	 "--max-errors, or killed where it cannot go on; 2 usage; 3 done with rejects; 4 --budget or a limit of the "
	 "day is "
	 "used up, the same command goes on later or with more; 75 stopped early, the same command goes on.\n",
	 df_cmd_run, df_run_rows, df_run_args, false},
	{"batch", "PIPELINE -o DIR INPUT...", "run a pipeline whose calls are a provider's batches, at half the price",
	 "Like 'run', but what stages ask a model goes through the provider's batch service: half the price, answers "
	 "within a day. Files of at most 50,000 requests and 200 MB are uploaded, batches created of them, polled, and "
	 "fetched; what expired or failed, and what a schema refused, is sent again in further rounds. Rows and "
	 "rejects "
	 "are those of 'run', in the order of the input, in DIR/part-00000.jsonl and DIR/rejects-00000.jsonl; "
	 "DIR/batch.json tells how it stands. Answers are kept in the cache of 'run', and what is there is not sent.\n"
	 "It may be stopped or killed at any moment: the same command goes on, and no batch is created twice.\n"
	 "When PIPELINE is the name of a file, the files are request lines of your own "
	 "({\"custom_id\",\"method\",\"url\",\"body\"}): they are sent as they are, and the provider's answer lines "
	 "are "
	 "the rows, in the order of the requests.\n"
	 "Providers: openai, also at another base_url, with chats and embeddings; anthropic. 'docflume status DIR' "
	 "tells "
	 "how it stands, 'docflume verify DIR' proves it.\n"
	 "Exit status: 0 all done; 1 fatal; 2 usage; 3 done with rejects; 4 it could pass --budget; 75 stopped, or the "
	 "provider works (--no-wait): the same command goes on.\n",
	 df_cmd_batch, df_batch_rows, df_batch_args, false},
	{"verify", "DIR", "prove a run from what is in its directory",
	 "Reads the run directory DIR, of a finished run or of one that was stopped, and changes nothing. Every file "
	 "must be what the "
	 "journal says, byte by byte; each line a JSON object, as many as rows, as many vectors as rows; every cell of "
	 "the input done "
	 "exactly once; the counts must add up, run.json must agree with the journal, and nothing else may look like "
	 "output. What is "
	 "wrong is told with file and place. Generations of --resume-failed in DIR/retry-N are verified too.\n"
	 "A run that is going on is not verified ('docflume status' tells about it).\n"
	 "Exit status: 0 proved: complete and unchanged; 1 something is wrong; 75 nothing is wrong, but the run is not "
	 "finished, or it "
	 "is going on.\n",
	 df_cmd_verify, df_verify_rows, df_verify_args, false},
	{"search", "--store DIR WORDS", "find the chunks of a run that are nearest to words", NULL, df_cmd_search, NULL,
	 NULL, false},
	{"models", "list|fetch [NAME]", "list and fetch models", NULL, df_cmd_models, NULL, NULL, false},
	{"status", "DIR", "tell how a run stands, live or dead",
	 "What is durable (counts, reasons), and while the run lives: what each process has in work and since when, "
	 "the "
	 "slowest places, deaths. Strikes are deaths that a document is to blame for. Nothing is written.\n"
	 "With calls of models also what they have cost.\n"
	 "Exit status: 0 running or finished; 1 failed; 3 finished with rejects; 75 the same command goes on.\n",
	 df_cmd_status, df_status_rows, df_status_args, false},
	{"trace", "DIR", "tell what the calls of a run did and when",
	 "Reads trace.jsonl of the run directory DIR (or that file itself), of a run that is over or one that is going "
	 "on. "
	 "Without an "
	 "option, and with --summary, it prints a table of calls by model and outcome. Traces hold counts, times, ids "
	 "and classes, never keys, prompts or answers.\n"
	 "Exit status: 0; 1 it cannot be read, written or sent; 2 usage.\n",
	 df_cmd_trace, df_trace_rows, df_trace_args, false},
	{"cache", "stats|clear", "look at the cache of answers, or empty it",
	 "Answers of models that were paid for are kept on disk and used again, by all runs of this user. 'stats' "
	 "tells "
	 "what is there and "
	 "how often it was of use, over all runs; 'clear' empties it, also while runs use it, and says what was in "
	 "it.\n"
	 "Exit status: 0; 1 there is none, or it cannot be used.\n",
	 df_cmd_cache, df_cache_rows, df_cache_args, false},
	{"stages", "[NAME]", "list the stages, or tell all about one", NULL, df_cmd_stages, df_stages_rows,
	 df_stages_args, false},
	{"help", "[COMMAND]", "tell about a command; --man prints the manual page", NULL, df_cmd_help, NULL, NULL,
	 false},
	{"version", "", "print the version", NULL, df_cmd_version, NULL, NULL, false},
	{"worker", "", "a process that 'run' starts", NULL, df_role_main, NULL, NULL, true},
	{"reader", "", "a process that 'run' starts", NULL, df_role_main, NULL, NULL, true},
	{.name = NULL},
};

/* A usage error shows the pipeline's line and a caret below: its line breaks are its own. What others say may hold a file's name, which must
 * not look like another line. */
static void add_message(struct df_buf *b, enum df_err err, const char *msg)
{
	char line[sizeof(((struct df_fail *)NULL)->msg)];
	while (err == DF_ERR_USAGE && strchr(msg, '\n')) {
		size_t n = strcspn(msg, "\n");
		(void)snprintf(line, sizeof(line), "%.*s", (int)n, msg);
		df_log_escape(b, line);
		(void)df_buf_addc(b, '\n');
		msg += n + 1;
	}
	df_log_escape(b, msg);
}

int df_cli_fail(const char *command, enum df_err err, const struct df_fail *fail)
{
	char more[96] = "";
	struct df_buf msg;
	df_buf_init(&msg, 8192);
	add_message(&msg, err, fail->msg[0] ? fail->msg : df_err_name(err));
	if (err == DF_ERR_USAGE)
		(void)snprintf(more, sizeof(more), "try 'docflume help%s%s'\n", command ? " " : "",
			       command ? command : "");
	(void)fprintf(stderr, "docflume: error: " DF_STR_FMT "\n%s", DF_STR_ARG(df_buf_str(&msg)), more);
	df_buf_release(&msg);
	return err == DF_ERR_USAGE ? DF_EXIT_USAGE : DF_EXIT_FATAL;
}

int df_cli_print(const struct df_buf *text)
{
	const char *p = text->p;
	for (size_t left = text->n; left;) {
		ssize_t n = write(STDOUT_FILENO, p, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			(void)fprintf(stderr, "docflume: error: cannot write to stdout: %s\n", strerror(errno));
			return DF_EXIT_FATAL;
		}
		p += n;
		left -= (size_t)n;
	}
	return DF_EXIT_OK;
}

static int unknown_command(const char *name)
{
	const char *names[32];
	size_t n = 0;
	struct df_fail fail = {.msg = ""};
	struct df_buf hint;
	for (const struct df_command *c = df_commands; c->name && n + 1 < sizeof(names) / sizeof(names[0]); c++)
		if (!c->hidden)
			names[n++] = c->name;
	names[n] = NULL;
	df_buf_init(&hint, 512);
	df_conf_suggest(&hint, df_str_from(name), names);
	enum df_err err = df_fail(&fail, DF_ERR_USAGE, "unknown command '%.100s'" DF_STR_FMT, name,
				  DF_STR_ARG(df_buf_str(&hint)));
	df_buf_release(&hint);
	return df_cli_fail(NULL, err, &fail);
}

int df_cli_main(int argc, char **argv)
{
	char help[] = "help";
	char *help_argv[] = {help, NULL};
	if (argc < 2) {
		struct df_fail fail;
		return df_cli_fail(NULL, df_fail(&fail, DF_ERR_USAGE, "no command"), &fail);
	}
	const char *word = argv[1];
	if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
		return df_cmd_help(1, help_argv);
	if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
		return df_cmd_version(1, argv + 1);
	for (const struct df_command *c = df_commands; c->name; c++)
		if (strcmp(word, c->name) == 0)
			return c->main(argc - 1, argv + 1);
	return unknown_command(word);
}
