// SPDX-License-Identifier: Apache-2.0
/*
 * exec_run: one run of a user's command, from its pipes to its end.
 *
 * One poll loop feeds stdin, reads stdout and stderr and hears of the process's end, so that no full pipe can stop both sides; the loop has one
 * deadline and one ceiling for the output. Whatever ends it, the whole group is killed. SIGPIPE is blocked in the calling thread meanwhile, and taken
 * from it when a write met a closed pipe, so that the stage works whatever the process does with that signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/stages/exec_own.h"

#define TICK_MS 50U    /* the longest time between two looks at the clock */
#define ORPHAN_MS 200U /* silence after the command's own end before a descendant that holds stdout is given up */

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

enum df_err df_exec_start(struct df_exec_run *r, size_t number, struct df_fail *fail)
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

static void feed(struct df_exec_run *r)
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
static bool take_output(struct df_exec_run *r)
{
	for (;;) {
		if (df_buf_reserve(&r->output, DF_EXEC_READ_BYTES) != DF_OK)
			return false;
		ssize_t n = read(r->out, r->output.p + r->output.n, DF_EXEC_READ_BYTES);
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

static void keep_last(struct df_exec_run *r, const char *p, size_t n)
{
	if (n > DF_EXEC_STDERR_KEPT) {
		p += n - DF_EXEC_STDERR_KEPT;
		n = DF_EXEC_STDERR_KEPT;
	}
	if (r->n_last + n > DF_EXEC_STDERR_KEPT) {
		size_t stay = DF_EXEC_STDERR_KEPT - n;
		memmove(r->last, r->last + r->n_last - stay, stay);
		r->n_last = stay;
	}
	memcpy(r->last + r->n_last, p, n);
	r->n_last += n;
}

static void take_stderr(struct df_exec_run *r)
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

static enum df_exec_ending converse(struct df_exec_run *r, const struct df_stage_env *env)
{
	uint64_t heard_ns = df_clock_mono(&df_clock_real);
	while (r->out >= 0 || !r->exited) {
		struct pollfd fds[4] = {{r->in, POLLOUT, 0},
					{r->out, POLLIN, 0},
					{r->err, POLLIN, 0},
					{r->exited ? -1 : df_spawner_fd(r->spawner), POLLIN, 0}};
		uint64_t now_ns = df_clock_mono(&df_clock_real);
		if (now_ns >= r->deadline_ns)
			return DF_EXEC_TIMED_OUT;
		uint64_t left_ms = (r->deadline_ns - now_ns) / DF_MS + 1;
		int n = poll(fds, 4, left_ms < TICK_MS ? (int)left_ms : (int)TICK_MS);
		if (n < 0 && errno != EINTR)
			return DF_EXEC_BROKEN;
		if (r->in >= 0 && fds[0].revents) {
			feed(r);
			note_progress(env);
		}
		if (r->out >= 0 && fds[1].revents) {
			if (!take_output(r))
				return DF_EXEC_TOO_MUCH;
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
	return DF_EXEC_ENDED;
}

/* Without a spawner this process is half of one: it ends as its other half did. */
static void finish(struct df_exec_run *r)
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

static void hold_sigpipe(struct df_exec_run *r, sigset_t *ret_before)
{
	sigset_t pipe_only, pending;
	(void)sigemptyset(&pipe_only);
	(void)sigaddset(&pipe_only, SIGPIPE);
	(void)sigpending(&pending);
	r->new_sigpipe = sigismember(&pending, SIGPIPE) == 0;
	(void)pthread_sigmask(SIG_BLOCK, &pipe_only, ret_before);
}

static void give_back_sigpipe(const struct df_exec_run *r, const sigset_t *before)
{
	static const struct timespec at_once = {0, 0};
	sigset_t pipe_only;
	(void)sigemptyset(&pipe_only);
	(void)sigaddset(&pipe_only, SIGPIPE);
	while (r->new_sigpipe && sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR)
		;
	(void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

enum df_exec_ending df_exec_converse(struct df_exec_run *r, const struct df_stage_env *env)
{
	sigset_t before;
	hold_sigpipe(r, &before);
	enum df_exec_ending ending = converse(r, env);
	finish(r);
	give_back_sigpipe(r, &before);
	return ending;
}
