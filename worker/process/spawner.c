// SPDX-License-Identifier: Apache-2.0
/*
 * spawner: one socket, one command at a time, and a loop that ends with the socket.
 *
 * DESIGN. Messages are single bytes and integers on a SOCK_SEQPACKET pair: RUN (with three descriptors) and FINISH from the worker, STARTED
 * (or an errno), ENDED and FINISHED (with the status) back. ENDED is sent while the command is a zombie: until FINISH its number, which is
 * the group's, cannot belong to somebody else, so the kill of the group cannot meet a stranger. The spawner ignores what a terminal or a
 * job's end sends to whole groups; only its worker's going ends it.
 */
#include "worker/process/spawner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"

#define TICK_MS 20        /* how often a command's end is looked for where pidfd_open() is missing */
#define ANSWER_MS 30000   /* to a request; it is a fork on one side, and a kill that cannot be refused on the other */
#define LEAVE_MS 2000     /* the spawner has nothing to do at its end but a kill */
#define COMMAND_FD_FROM 3 /* nothing from here on is passed to a command */

enum word { RUN, FINISH, STARTED, ENDED, FINISHED };

struct message {
	int word;  /* enum word */
	int value; /* RUN: number of the command; STARTED: 0 or an errno; FINISHED: status */
};

struct df_spawner {
	pid_t pid;
	int fd;
	bool ended; /* ENDED has come */
	bool gone;  /* the other side has closed */
	size_t n;
	char *command[DF_STAGES_MAX];
};

/* ------------------------------------------------------------------ both sides */

static bool put(int fd, struct message m, const int *pass)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(3 * sizeof(int))];
	} control = {0};
	struct iovec iov = {&m, sizeof(m)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (pass) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){CMSG_LEN(3 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(c), pass, 3 * sizeof(int));
	}
	ssize_t n;
	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(m);
}

/* 1: a message; 0: the other side has closed; -1: nothing there (flags MSG_DONTWAIT). ret_pass: three descriptors or -1. */
static int take(int fd, int flags, struct message *ret_m, int ret_pass[3])
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(3 * sizeof(int))];
	} control;
	struct iovec iov = {ret_m, sizeof(*ret_m)};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	ssize_t n;
	do
		n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	for (int i = 0; ret_pass && i < 3; i++)
		ret_pass[i] = -1;
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
	if (ret_pass && c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(3 * sizeof(int)))
		memcpy(ret_pass, CMSG_DATA(c), 3 * sizeof(int));
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -1;
	return n == (ssize_t)sizeof(*ret_m) ? 1 : 0;
}

/* ------------------------------------------------------------------ the spawner's side */

static _Noreturn void become(const char *command, const int fd[3])
{
	static const char cannot[] = "cannot start /bin/sh\n";
	sigset_t none;
	char shell[] = "sh", option[] = "-c";
	char *argv[] = {shell, option, (char *)(uintptr_t)command, NULL};
	int high[3];
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL);
	for (int i = 0; i < 3; i++)
		high[i] = fcntl(fd[i], F_DUPFD, COMMAND_FD_FROM); /* dup2 must not hit what it has yet to copy */
	for (int i = 0; i < 3; i++)
		(void)dup2(high[i], i);
	closefrom(COMMAND_FD_FROM);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve("/bin/sh", argv, environ);
	ssize_t ignored = write(STDERR_FILENO, cannot, sizeof(cannot) - 1);
	(void)ignored;
	_exit(127);
}

struct running {
	pid_t pid; /* 0: none */
	int pidfd;
	bool told; /* that it has ended */
};

static int start(struct running *r, const char *command, const int fd[3])
{
	if (r->pid || !command || fd[0] < 0)
		return EINVAL;
	pid_t pid = fork();
	if (pid < 0)
		return errno;
	if (pid == 0)
		become(command, fd);
	(void)setpgid(pid, pid); /* whoever comes first */
	*r = (struct running){pid, pidfd_open(pid, 0), false};
	if (r->pidfd >= 0)
		(void)fcntl(r->pidfd, F_SETFD, FD_CLOEXEC);
	return 0;
}

static int finish(struct running *r)
{
	int status = 0;
	if (!r->pid)
		return 0;
	(void)kill(-r->pid, SIGKILL);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		; /* killed: only the kernel can hold it, and nothing can hurry that */
	if (r->pidfd >= 0)
		(void)close(r->pidfd);
	*r = (struct running){0, -1, false};
	return status;
}

static bool has_exited(const struct running *r)
{
	siginfo_t info = {0};
	return waitid(P_PID, (id_t)r->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == r->pid;
}

/* False: the worker has gone. */
static bool serve(const struct df_spawner *s, struct running *r)
{
	struct message m = {0};
	int fd[3];
	int got = take(s->fd, MSG_DONTWAIT, &m, fd);
	if (got <= 0)
		return got < 0;
	if (m.word == RUN) {
		const char *command = m.value >= 0 && (size_t)m.value < s->n ? s->command[m.value] : NULL;
		m = (struct message){STARTED, start(r, command, fd)};
	} else {
		m = (struct message){FINISHED, finish(r)};
	}
	for (int i = 0; i < 3; i++)
		if (fd[i] >= 0)
			(void)close(fd[i]);
	return put(s->fd, m, NULL);
}

static _Noreturn void live(const struct df_spawner *s)
{
	static const int deaf[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE};
	struct running r = {0, -1, false};
	for (size_t i = 0; i < sizeof(deaf) / sizeof(deaf[0]); i++)
		(void)signal(deaf[i], SIG_IGN);
	(void)prctl(PR_SET_NAME, "docflume-exec");
	(void)prctl(PR_SET_PDEATHSIG, SIGCONT); /* one that was stopped must see the end, too */
	for (;;) {
		struct pollfd w[2] = {{s->fd, POLLIN, 0}, {r.pid && !r.told ? r.pidfd : -1, POLLIN, 0}};
		/* without a deadline: the worker's end, however it comes, is an event on the socket */
		(void)poll(w, 2, r.pid && !r.told && r.pidfd < 0 ? TICK_MS : -1);
		if (w[0].revents && !serve(s, &r))
			break;
		if (r.pid && !r.told && has_exited(&r)) {
			r.told = true;
			if (!put(s->fd, (struct message){ENDED, 0}, NULL))
				break;
		}
	}
	(void)finish(&r);
	_exit(0);
}

/* ------------------------------------------------------------------ the worker's side */

static void release(struct df_spawner *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	for (size_t i = 0; i < s->n; i++)
		free(s->command[i]);
	free(s);
}

enum df_err df_spawner_start(const char *const *command, size_t n, struct df_spawner **ret_spawner,
			     struct df_fail *fail)
{
	int pair[2];
	struct df_spawner *s = n <= DF_STAGES_MAX ? calloc(1, sizeof(*s)) : NULL;
	if (!s)
		return df_fail(fail, DF_ERR_NOMEM, "no memory to start commands");
	s->fd = -1;
	for (; s->n < n; s->n++)
		if (command[s->n] && !(s->command[s->n] = strdup(command[s->n]))) {
			release(s);
			return df_fail(fail, DF_ERR_NOMEM, "no memory to start commands");
		}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || (s->pid = fork()) < 0) {
		enum df_err err = df_fail_errno(fail, "cannot start the process that starts commands");
		release(s);
		return err;
	}
	s->fd = pair[s->pid == 0];
	(void)close(pair[s->pid != 0]);
	if (s->pid == 0) {
		/* of what the worker inherited it needs the socket and stderr */
		int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, COMMAND_FD_FROM + 1);
		if (fd < 0 || dup2(fd, COMMAND_FD_FROM) < 0)
			_exit(1);
		(void)fcntl(COMMAND_FD_FROM, F_SETFD, FD_CLOEXEC);
		closefrom(COMMAND_FD_FROM + 1);
		s->fd = COMMAND_FD_FROM;
		live(s);
	}
	*ret_spawner = s;
	return DF_OK;
}

void df_spawner_stop(struct df_spawner **spawner)
{
	struct df_spawner *s = *spawner;
	if (!s)
		return;
	(void)close(s->fd);
	s->fd = -1;
	for (int ms = 0; !s->gone && ms < LEAVE_MS && waitpid(s->pid, NULL, WNOHANG) == 0; ms++)
		(void)poll(NULL, 0, 1);
	release(s);
	*spawner = NULL;
}

int df_spawner_fd(const struct df_spawner *s)
{
	return s->fd;
}

static enum df_err is_gone(struct df_spawner *s, struct df_fail *fail)
{
	s->gone = true;
	return df_fail(fail, DF_ERR_CHILD, "the process that starts commands is gone");
}

/* Wait for the answer to a request; the news that the command has ended may come before it. */
static enum df_err answer(struct df_spawner *s, enum word word, int *ret_value, struct df_fail *fail)
{
	for (;;) {
		struct message m = {0};
		struct pollfd w = {s->fd, POLLIN, 0};
		int n = poll(&w, 1, ANSWER_MS);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return df_fail(fail, DF_ERR_CHILD, "the process that starts commands has not answered for %d s",
				       ANSWER_MS / 1000);
		if (take(s->fd, 0, &m, NULL) != 1)
			return is_gone(s, fail);
		if (m.word == (int)word) {
			*ret_value = m.value;
			return DF_OK;
		}
		s->ended |= m.word == ENDED;
	}
}

enum df_err df_spawner_run(struct df_spawner *s, size_t number, const int fd[3], struct df_fail *fail)
{
	int failed = 0;
	s->ended = false;
	if (!put(s->fd, (struct message){RUN, (int)number}, fd))
		return is_gone(s, fail);
	DF_TRY(answer(s, STARTED, &failed, fail));
	errno = failed;
	return failed ? df_fail_errno(fail, "cannot start a process") : DF_OK;
}

bool df_spawner_has_ended(struct df_spawner *s)
{
	struct message m = {0};
	int got = s->ended ? -1 : take(s->fd, MSG_DONTWAIT, &m, NULL);
	if (got == 0)
		s->gone = true;
	s->ended |= got == 0 || (got == 1 && m.word == ENDED);
	return s->ended;
}

enum df_err df_spawner_finish(struct df_spawner *s, int *ret_status, struct df_fail *fail)
{
	if (s->gone || !put(s->fd, (struct message){FINISH, 0}, NULL))
		return is_gone(s, fail);
	return answer(s, FINISHED, ret_status, fail);
}

void df_spawner_lost(struct df_spawner *s)
{
	int status = 0, sig = SIGKILL;
	for (int ms = 0; ms < LEAVE_MS && waitpid(s->pid, &status, WNOHANG) == 0; ms++)
		(void)poll(NULL, 0, 1);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		_exit(WEXITSTATUS(status)); /* a sanitizer turns a signal into one */
	if (WIFSIGNALED(status))
		sig = WTERMSIG(status);
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
	(void)raise(SIGKILL);
	_exit(1);
}
