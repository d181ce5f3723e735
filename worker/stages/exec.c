// SPDX-License-Identifier: Apache-2.0
/*
 * exec: a user's own command as a stage: JSONL of the rows in on stdin, one line for each row back on stdout.
 *
 * DESIGN: one process per batch, alone in its process group, started and ended by the worker's spawner (worker/spawner.h). One poll
 * loop feeds stdin, reads stdout and stderr and hears of the process's end, so that no full pipe can stop both sides; the loop has one
 * deadline and one ceiling for the output. Whatever ends it, the whole group is killed. SIGPIPE is blocked in the calling thread meanwhile, and taken
 * from it when a write met a closed pipe, so that the stage works whatever the process does with that signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "worker/spawner.h"
#include "worker/stage.h"
#include "worker/stages/registry.h"
#include "worker/stages/rows.h"
#include "worker/text/utf8.h"

#define STDERR_KEPT 4096U
#define READ_BYTES 65536U
#define TICK_MS 50U    /* the longest time between two looks at the clock */
#define ORPHAN_MS 200U /* silence after the command's own end before a descendant that holds stdout is given up */
#define INPUT_BYTES_MAX ((size_t)4 << 30)

struct exec_options {
	struct df_str cmd;
	int64_t timeout_ms;
	uint64_t max_output;
};

#define AT(member) offsetof(struct exec_options, member)
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

enum ending { ENDED, TIMED_OUT, TOO_MUCH, BROKEN };

/* The rows of a batch that went in, in order: line i of the output belongs to row i. */
struct rows {
	struct df_row **row;
	size_t n;
};

/* One run of the command. */
struct run {
	const struct exec_options *options;
	struct df_spawner *spawner;
	int in, out, err;   /* our ends; -1 when closed */
	struct df_str left; /* input not yet written */
	struct df_buf output;
	char last[STDERR_KEPT]; /* the newest bytes of stderr */
	size_t n_last;
	uint64_t deadline_ns;
	bool exited;      /* the command itself; its children may run on */
	int status;       /* as waitpid gives it, once reaped */
	bool new_sigpipe; /* none was pending before: one that is pending now is ours */
};

/* ------------------------------------------------------------------ starting */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* A pipe whose ends are close-on-exec and not 0, 1 or 2, so that dup2 in the child cannot hit them. */
static bool open_pipe(int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) < 0)
		return false;
	for (int i = 0; i < 2; i++) {
		if (ends[i] > 2)
			continue;
		int high = fcntl(ends[i], F_DUPFD_CLOEXEC, 3);
		(void)close(ends[i]);
		ends[i] = high;
	}
	if (ends[0] >= 0 && ends[1] >= 0)
		return true;
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return false;
}

static bool not_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static enum df_err start(struct run *r, size_t number, struct df_fail *fail)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, err[2] = {-1, -1};
	enum df_err started = DF_OK;
	int failed = open_pipe(in) && open_pipe(out) && open_pipe(err) ? 0 : errno;
	r->in = in[1];
	r->out = out[0];
	r->err = err[0];
	if (!failed && !(not_blocking(r->in) && not_blocking(r->out) && not_blocking(r->err)))
		failed = errno;
	if (!failed) {
		int child[3] = {in[0], out[1], err[1]};
		started = df_spawner_run(r->spawner, number, child, fail);
	}
	close_fd(&in[0]);
	close_fd(&out[1]);
	close_fd(&err[1]);
	if (!failed && started == DF_OK)
		return DF_OK;
	close_fd(&r->in);
	close_fd(&r->out);
	close_fd(&r->err);
	if (started != DF_OK)
		return started;
	errno = failed;
	return df_fail_errno(fail, "cannot make pipes for the command '%.200s'", r->options->cmd.p);
}

/* ------------------------------------------------------------------ feeding and reading */

static void feed(struct run *r)
{
	while (r->left.n) {
		ssize_t n = write(r->in, r->left.p, r->left.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break; /* the command does not read on: its own affair */
		r->left.p += n;
		r->left.n -= (size_t)n;
	}
	close_fd(&r->in);
}

/* False when the output passes its ceiling. */
static bool take_output(struct run *r)
{
	for (;;) {
		if (df_buf_reserve(&r->output, READ_BYTES) != DF_OK)
			return false;
		ssize_t n = read(r->out, r->output.p + r->output.n, READ_BYTES);
		if (n > 0) {
			r->output.n += (size_t)n;
			if (r->output.n > r->options->max_output)
				return false;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno != EAGAIN)
			close_fd(&r->out);
		return true;
	}
}

static void keep_last(struct run *r, const char *p, size_t n)
{
	if (n > STDERR_KEPT) {
		p += n - STDERR_KEPT;
		n = STDERR_KEPT;
	}
	if (r->n_last + n > STDERR_KEPT) {
		size_t stay = STDERR_KEPT - n;
		memmove(r->last, r->last + r->n_last - stay, stay);
		r->n_last = stay;
	}
	memcpy(r->last + r->n_last, p, n);
	r->n_last += n;
}

static void take_stderr(struct run *r)
{
	char piece[4096];
	for (int i = 0; i < 16; i++) { /* a flood here must not keep the loop from its deadline */
		ssize_t n = read(r->err, piece, sizeof(piece));
		if (n > 0) {
			keep_last(r, piece, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno != EAGAIN)
			close_fd(&r->err);
		return;
	}
}

/* What the command takes and gives are signs of progress: silence counts against the document's deadline. */
static void note_progress(const struct df_stage_env *env)
{
	if (env->progress)
		env->progress(env->progress_self);
}

static enum ending converse(struct run *r, const struct df_stage_env *env)
{
	uint64_t heard_ns = df_clock_mono(&df_clock_real);
	while (r->out >= 0 || !r->exited) {
		struct pollfd fds[4] = {{r->in, POLLOUT, 0},
					{r->out, POLLIN, 0},
					{r->err, POLLIN, 0},
					{r->exited ? -1 : df_spawner_fd(r->spawner), POLLIN, 0}};
		uint64_t now_ns = df_clock_mono(&df_clock_real);
		if (now_ns >= r->deadline_ns)
			return TIMED_OUT;
		uint64_t left_ms = (r->deadline_ns - now_ns) / DF_MS + 1;
		int n = poll(fds, 4, left_ms < TICK_MS ? (int)left_ms : (int)TICK_MS);
		if (n < 0 && errno != EINTR)
			return BROKEN;
		if (r->in >= 0 && fds[0].revents) {
			feed(r);
			note_progress(env);
		}
		if (r->out >= 0 && fds[1].revents) {
			if (!take_output(r))
				return TOO_MUCH;
			heard_ns = df_clock_mono(&df_clock_real);
			note_progress(env);
		}
		if (r->err >= 0 && fds[2].revents)
			take_stderr(r);
		if (!r->exited && df_spawner_has_ended(r->spawner)) {
			r->exited = true;
			heard_ns = df_clock_mono(&df_clock_real);
		} else if (r->exited && df_clock_mono(&df_clock_real) - heard_ns > ORPHAN_MS * DF_MS) {
			break;
		}
	}
	return ENDED;
}

/* Without a spawner this process is half of one: it ends as its other half did. */
static void finish(struct run *r)
{
	struct df_fail fail;
	if (r->err >= 0)
		take_stderr(r);
	if (df_spawner_finish(r->spawner, &r->status, &fail) != DF_OK)
		df_spawner_lost(r->spawner);
	close_fd(&r->in);
	close_fd(&r->out);
	close_fd(&r->err);
}

/* ------------------------------------------------------------------ SIGPIPE */

static void hold_sigpipe(struct run *r, sigset_t *ret_before)
{
	sigset_t pipe_only, pending;
	(void)sigemptyset(&pipe_only);
	(void)sigaddset(&pipe_only, SIGPIPE);
	(void)sigpending(&pending);
	r->new_sigpipe = sigismember(&pending, SIGPIPE) == 0;
	(void)pthread_sigmask(SIG_BLOCK, &pipe_only, ret_before);
}

static void give_back_sigpipe(const struct run *r, const sigset_t *before)
{
	static const struct timespec at_once = {0, 0};
	sigset_t pipe_only;
	(void)sigemptyset(&pipe_only);
	(void)sigaddset(&pipe_only, SIGPIPE);
	while (r->new_sigpipe && sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
		;
	(void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* ------------------------------------------------------------------ rows to lines */

static void add_member(struct df_buf *b, struct df_str key, struct df_str raw)
{
	(void)df_buf_addc(b, ',');
	(void)df_json_add_string(b, key);
	(void)df_buf_addc(b, ':');
	for (size_t i = 0; i < raw.n; i++) /* a value may be spread over lines; strings hold no line break */
		(void)df_buf_addc(b, raw.p[i] == '\n' || raw.p[i] == '\r' ? ' ' : raw.p[i]);
}

static bool was_added(const struct df_row *row, struct df_str key)
{
	for (size_t i = 0; i < row->n_added; i++)
		if (df_str_eq(row->added[i].key, key))
			return true;
	return false;
}

static void add_line(struct df_buf *b, const struct df_row *row)
{
	const struct df_doc *doc = row->doc;
	(void)df_buf_addz(b, "{\"id\":");
	if (doc->id_raw.n)
		(void)df_buf_add_str(b, doc->id_raw);
	else
		(void)df_json_add_string(b, doc->id);
	(void)df_buf_addz(b, ",\"text\":");
	(void)df_json_add_string(b, row->text);
	for (size_t i = 0; i < doc->n_field; i++)
		if (i != doc->text_field && i != doc->id_field && !was_added(row, doc->field[i].key) &&
		    !df_str_is(doc->field[i].key, "id") && !df_str_is(doc->field[i].key, "text"))
			add_member(b, doc->field[i].key, doc->field[i].raw);
	for (size_t i = 0; i < row->n_added; i++)
		add_member(b, row->added[i].key, row->added[i].raw);
	if (row->is_chunk && !was_added(row, DF_STR("chunk")))
		(void)df_buf_addf(b, ",\"chunk\":%u", row->chunk_no);
	(void)df_buf_addz(b, "}\n");
}

/* ------------------------------------------------------------------ lines to rows */

static bool same_id(const struct df_doc *doc, const struct df_json *id)
{
	return id->type == DF_JSON_STRING ? df_str_eq(id->string, doc->id)
					  : df_str_eq(id->raw, doc->id_raw) || df_str_eq(id->raw, doc->id);
}

/* What the command did to the text is not known: all between the common beginning and the common end counts as one
 * edit, so that offsets outside it still lead to the very place in the source. */
static enum df_err replace_text(struct df_batch *b, struct df_row *row, struct df_str text)
{
	struct df_str old = row->text;
	size_t least = old.n < text.n ? old.n : text.n, from = 0, tail = 0;
	while (from < least && old.p[from] == text.p[from])
		from++;
	while (from > 0 &&
	       ((from < old.n && df_utf8_is_tail(old.p[from])) || (from < text.n && df_utf8_is_tail(text.p[from]))))
		from--;
	while (tail < least - from && old.p[old.n - tail - 1] == text.p[text.n - tail - 1])
		tail++;
	while (tail > 0 && df_utf8_is_tail(text.p[text.n - tail]))
		tail--;
	struct df_offsets_builder builder;
	struct df_offsets *map = NULL;
	df_offsets_begin(&builder, b->arena);
	df_offsets_add(&builder, from, old.n - tail, from, text.n - tail);
	DF_TRY(df_offsets_finish(&builder, &map));
	return df_row_retext(b, row, text, map);
}

static enum df_err take_line(struct df_stage *s, struct df_batch *b, struct df_row *row, struct df_str line)
{
	struct df_json *object = NULL;
	struct df_fail fail = {.msg = ""};
	enum df_err err = df_json_parse(line, b->arena, &object, &fail);
	if (err == DF_ERR_NOMEM)
		return err;
	const struct df_json *id = err == DF_OK ? df_json_get(object, "id") : NULL;
	const struct df_json *text = err == DF_OK ? df_json_get(object, "text") : NULL;
	if (err != DF_OK)
		df_doc_reject(b, row->doc, s->call_name, err, "the command's line for this document: %s", fail.msg);
	else if (object->type != DF_JSON_OBJECT)
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_TYPE, "the command's line is not a JSON object");
	else if (text && text->type != DF_JSON_STRING)
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_TYPE, "the command's \"text\" is not a string");
	else if (id && !same_id(row->doc, id))
		df_doc_reject(b, row->doc, s->call_name, DF_ERR_CHILD,
			      "the command's line has another id: lines must come back in order");
	if (row->doc->fate != DF_FATE_OUT)
		return DF_OK;
	if (text && !df_str_eq(text->string, row->text))
		DF_TRY(replace_text(b, row, text->string));
	for (const struct df_json *m = object->child; m; m = m->next) {
		struct df_str old = df_row_get(row, m->key);
		bool ours = df_str_is(m->key, "id") || df_str_is(m->key, "text") ||
			    (row->is_chunk && df_str_is(m->key, "chunk"));
		if (!ours && !(old.p && df_str_eq(old, m->raw)))
			DF_TRY(df_row_add(b, row, m->key, m->raw));
	}
	return DF_OK;
}

static size_t count_lines(struct df_str s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += s.p[i] == '\n';
	return n + (s.n && s.p[s.n - 1] != '\n');
}

static void reject_all(struct df_stage *s, struct df_batch *b, struct rows live, enum df_err err, const char *message)
{
	for (size_t i = 0; i < live.n; i++)
		if (df_row_live(live.row[i]))
			df_doc_reject(b, live.row[i]->doc, s->call_name, err, "%s", message);
}

static enum df_err take_lines(struct df_stage *s, struct df_batch *b, struct rows live, struct df_str output)
{
	char message[160];
	size_t n_line = count_lines(output), at = 0;
	if (n_line != live.n) {
		(void)snprintf(message, sizeof(message),
			       "the command wrote %zu lines for %zu rows; it must write one for each", n_line, live.n);
		reject_all(s, b, live, DF_ERR_CHILD, message);
		return DF_OK;
	}
	struct df_str text = df_arena_copy(b->arena, output);
	if (!text.p)
		return DF_ERR_NOMEM;
	for (size_t i = 0; i < live.n; i++) {
		const char *end = memchr(text.p + at, '\n', text.n - at);
		struct df_str line = {text.p + at, end ? (size_t)(end - text.p) - at : text.n - at};
		at += line.n + 1;
		if (df_row_live(live.row[i])) /* not when an earlier row rejected the same document */
			DF_TRY(take_line(s, b, live.row[i], line));
	}
	return DF_OK;
}

/* ------------------------------------------------------------------ the stage */

/* The last line of stderr that is not blank, with what a terminal could mistake replaced. */
static void last_words(const struct run *r, char *z, size_t size)
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
static enum df_err judge(const struct run *r, enum ending ending, char *z, size_t size)
{
	char words[320];
	last_words(r, words, sizeof(words));
	const char *between = words[0] ? ": " : "";
	if (ending == TIMED_OUT) {
		(void)snprintf(z, size, "the command did not end within %lld ms%s%s", (long long)r->options->timeout_ms,
			       between, words);
		return DF_ERR_TIMEOUT;
	}
	if (ending == TOO_MUCH) {
		(void)snprintf(z, size, "the command wrote more than max_output=%llu bytes",
			       (unsigned long long)r->options->max_output);
		return DF_ERR_LIMIT;
	}
	if (ending == BROKEN || WIFSIGNALED(r->status))
		(void)snprintf(z, size, "the command was killed by signal %d%s%s", WTERMSIG(r->status), between, words);
	else if (WEXITSTATUS(r->status) != 0)
		(void)snprintf(z, size, "the command ended with status %d%s%s", WEXITSTATUS(r->status), between, words);
	else
		return DF_OK;
	return DF_ERR_CHILD;
}

static enum df_err run_command(struct df_stage *s, struct df_batch *b, struct rows live, struct df_str input,
			       struct df_fail *fail)
{
	const struct exec_options *o = s->options;
	char message[512];
	sigset_t before;
	const struct df_stage_env *env = s->state;
	struct run r = {.options = o, .spawner = env->spawner, .left = input};
	r.deadline_ns = df_clock_mono(&df_clock_real) + (uint64_t)o->timeout_ms * DF_MS;
	enum df_err started = start(&r, env->stage_no, fail);
	if (started == DF_ERR_CHILD)
		df_spawner_lost(r.spawner);
	DF_TRY(started);
	df_buf_init(&r.output, (size_t)o->max_output + 2 * READ_BYTES);
	hold_sigpipe(&r, &before);
	enum ending ending = converse(&r, env);
	finish(&r);
	give_back_sigpipe(&r, &before);
	enum df_err bad = judge(&r, ending, message, sizeof(message)), err = DF_OK;
	if (df_buf_err(&r.output) == DF_ERR_NOMEM)
		err = df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the command's output", s->call_name);
	else if (bad != DF_OK)
		reject_all(s, b, live, bad, message);
	else if ((err = take_lines(s, b, live, df_buf_str(&r.output))) != DF_OK)
		err = df_fail(fail, err, "stage '%s': no memory for the command's output", s->call_name);
	df_buf_release(&r.output);
	return err;
}

static enum df_err process(struct df_stage *s, struct df_batch *b, struct df_fail *fail)
{
	struct df_buf input;
	struct rows live = {df_arena_array(b->arena, b->n_row, sizeof(struct df_row *)), 0};
	if (!live.row)
		return df_fail(fail, DF_ERR_NOMEM, "stage '%s': no memory for the batch", s->call_name);
	df_buf_init(&input, INPUT_BYTES_MAX);
	for (size_t i = 0; i < b->n_row; i++)
		if (df_row_live(b->row[i])) {
			add_line(&input, b->row[i]);
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
	const struct exec_options *o = options;
	if (df_str_trim(o->cmd).n == 0)
		return df_fail(fail, DF_ERR_USAGE, "option 'cmd' is empty");
	return DF_OK;
}

const char *df_exec_command(const void *options)
{
	return ((const struct exec_options *)options)->cmd.p;
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
	.options_size = sizeof(struct exec_options),
	.flags = DF_STAGE_SIDE_EFFECTS | DF_STAGE_COMMANDS,
	.check = check,
	.open = open_,
	.process = process,
};
