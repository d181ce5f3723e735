// SPDX-License-Identifier: Apache-2.0
/*
 * exec: a user's own command as a stage: JSONL of the rows in on stdin, one line for each row back on stdout.
 *
 * DESIGN: one process per batch, alone in its process group, started and ended by the worker's spawner (worker/process/spawner.h). exec_run.c talks to it,
 * exec_lines.c knows the lines; what came of it is judged here.
 */
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "worker/stages/exec_own.h"
#include "worker/stages/registry.h"

#define INPUT_BYTES_MAX ((size_t)4 << 30)

#define AT(member) offsetof(struct df_exec_options, member)
static const struct df_opt option_rows[] = {
	{.name = "cmd",
	 .type = DF_OPT_STRING,
	 .offset = AT(cmd),
	 .required = true,
	 .value_name = "COMMAND",
	 .help = "The command, run by /bin/sh -c"},
	{.name = "timeout_ms",
	 .type = DF_OPT_INT,
	 .offset = AT(timeout_ms),
	 .initial = "60000",
	 .min = 1,
	 .max = 86400000,
	 .help = "Time for one batch in milliseconds; then the command and all its children are killed"},
	{.name = "max_output",
	 .type = DF_OPT_SIZE,
	 .offset = AT(max_output),
	 .initial = "64m",
	 .min = 1024,
	 .max = 1073741824,
	 .help = "Bytes that the command may write for one batch"},
	{.name = NULL},
};

/* The last line of stderr that is not blank, with what a terminal could mistake replaced. */
static void last_words(const struct df_exec_run *r, char *z, size_t size)
{
	struct df_str s = df_str_trim((struct df_str){r->last, r->n_last});
	size_t from = s.n, n = 0;
	while (from > 0 && s.p[from - 1] != '\n')
		from--;
	for (size_t i = from; i < s.n && n + 1 < size && n < 300; i++)
		z[n++] = (unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e ? '?' : s.p[i];
	z[n] = '\0';
}

/* Why the output cannot be used, or DF_OK. */
static enum df_err judge(const struct df_exec_run *r, enum df_exec_ending ending, char *z, size_t size)
{
	char words[320];
	last_words(r, words, sizeof(words));
	const char *between = words[0] ? ": " : "";
	if (ending == DF_EXEC_TIMED_OUT) {
		(void)snprintf(z, size, "the command did not end within %lld ms%s%s", (long long)r->options->timeout_ms,
			       between, words);
		return DF_ERR_TIMEOUT;
	}
	if (ending == DF_EXEC_TOO_MUCH) {
		(void)snprintf(z, size, "the command wrote more than max_output=%llu bytes",
			       (unsigned long long)r->options->max_output);
		return DF_ERR_LIMIT;
	}
	if (ending == DF_EXEC_BROKEN || WIFSIGNALED(r->status))
		(void)snprintf(z, size, "the command was killed by signal %d%s%s", WTERMSIG(r->status), between, words);
	else if (WEXITSTATUS(r->status) != 0)
		(void)snprintf(z, size, "the command ended with status %d%s%s", WEXITSTATUS(r->status), between, words);
	else
		return DF_OK;
	return DF_ERR_CHILD;
}

static enum df_err run_command(struct df_stage *s, struct df_batch *b, struct df_exec_rows live, struct df_str input,
			       struct df_fail *fail)
{
	const struct df_exec_options *o = s->options;
	char message[512];
	const struct df_stage_env *env = s->state;
	struct df_exec_run r = {.options = o, .spawner = env->spawner, .left = input};
	r.deadline_ns = df_clock_mono(&df_clock_real) + (uint64_t)o->timeout_ms * DF_MS;
	enum df_err started = df_exec_start(&r, env->stage_no, fail);
	if (started == DF_ERR_CHILD)
		df_spawner_lost(r.spawner);
	DF_TRY(started);
	df_buf_init(&r.output, (size_t)o->max_output + 2 * DF_EXEC_READ_BYTES);
	enum df_exec_ending ending = df_exec_converse(&r, env);
	enum df_err bad = judge(&r, ending, message, sizeof(message)), err = DF_OK;
	if (df_buf_err(&r.output) == DF_ERR_NOMEM)
		err = df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the command's output", s->call_name);
	else if (bad != DF_OK)
		df_exec_reject_all(s, b, live, bad, message);
	else if ((err = df_exec_take_lines(s, b, live, df_buf_str(&r.output))) != DF_OK)
		err = df_fail(fail, err, "stage '%s': no memory for the command's output", s->call_name);
	df_buf_release(&r.output);
	return err;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	struct df_buf input;
	struct df_exec_rows live = {df_arena_array(b->arena, b->n_row, sizeof(struct df_row *)), 0};
	if (!live.row)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the batch", s->call_name);
	df_buf_init(&input, INPUT_BYTES_MAX);
	for (size_t i = 0; i < b->n_row; i++)
		if (df_row_live(b->row[i])) {
			df_exec_add_line(&input, b->row[i]);
			live.row[live.n++] = b->row[i];
		}
	enum df_err err = DF_OK;
	if (df_buf_err(&input) != DF_OK)
		err = df_fail(fail, df_buf_err(&input), "stage '%s': no memory for the command's input", s->call_name);
	else if (live.n)
		err = run_command(s, b, live, df_buf_str(&input), fail);
	df_buf_release(&input);
	return err;
}

static enum df_err check(const void *options, struct df_fail *fail)
{
	const struct df_exec_options *o = options;
	if (df_str_trim(o->cmd).n == 0)
		return df_fail(fail, DF_ERR_USAGE, "option 'cmd' is empty");
	return DF_OK;
}

const char *df_exec_command(const void *options)
{
	return ((const struct df_exec_options *)options)->cmd.p;
}

/* The state is the worker's environment: long work reports progress to it. */
static enum df_err open_(struct df_stage *s, const struct df_stage_env *env, struct df_fail *fail)
{
	if (!env->spawner)
		return df_fail(fail, DF_ERR_BUG, "this process has no spawner for commands");
	s->state = (void *)(uintptr_t)env;
	return DF_OK;
}

const struct df_stage_class df_stage_exec = {
	.name = "exec",
	.summary = "pass rows through a command of your own",
	.help = "Starts the command once for every batch of rows and writes the rows to its standard input, one JSON "
		"object a line: id, text, and all other members. The command must write exactly one line for each line "
		"it reads, in the same order: a JSON object whose \"text\" replaces the text (without one the text "
		"stays) and whose other new or changed members are kept. Then it must end with status 0.\n"
		"A line that is not a JSON object, or carries another id, rejects its document. Too few or too many "
		"lines, a status other than 0 or too much time reject all documents of that batch; the last line of "
		"standard error is part of the reason.\n"
		"The command runs with your rights and environment. It and all processes of its group are killed when "
		"the "
		"batch is done, when its worker dies, and when it neither reads nor writes for --doc-timeout.\n"
		"A batch may run more than once, when a worker dies after the command has run: its side effects happen "
		"at least once, not exactly once. The size of a batch is not fixed, so a command must not depend on "
		"which rows come together.\n"
		"Example: docflume run \"exec cmd='jq -c --unbuffered .text|=ascii_downcase'\" docs.jsonl\n",
	.options = option_rows,
	.options_size = sizeof(struct df_exec_options),
	.flags = DF_STAGE_SIDE_EFFECTS | DF_STAGE_COMMANDS,
	.check = check,
	.open = open_,
	.process = process,
};
